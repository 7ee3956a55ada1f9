//! Every SIP event, and what becomes of it: a new call, or news for one that is up.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use metrics::counter;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use uuid::Uuid;

use super::admission::Admission;
use super::arms::{Answer, Arms, CallerLeg, guest, keyring, local};
use super::clock::{now, unix_ms};
use super::dialling;
use super::finish::agent_of;
use super::house::House;
use super::identity::{self, Look};
use super::live::LiveCall;
use super::mailbox::Post;
use super::registry::Door;
use super::translate;
use crate::call::{Cause, Event};
use crate::config::Config;
use crate::model::{CallId, LegId, MediaSecurity, Verification};
use crate::route::Asked;
use crate::sdp::{self, Local, Offer};
use crate::sip::{DialogId, Invite, Login, SipCommand, SipEvent, Terms};
use crate::store::{CallOpen, Direction};
use crate::trunk::{Trunk, arrive};

/// Takes SIP events until the stack ends, and owns every call's task.
pub(super) struct Switchboard {
    house: Arc<House>,
    admission: Admission,
    calls: JoinSet<()>,
    /// Callers whose identity is being proven, until [`Switchboard::enter`].
    checks: JoinSet<(Comer, Verification)>,
    checking: HashMap<DialogId, AbortHandle>,
}

/// A caller at the door.
struct Comer {
    dialog: DialogId,
    invite: Box<Invite>,
    /// As it was when they came.
    config: Arc<Config>,
    trunk: String,
}

/// What the rest of the gateway asks of the switchboard.
#[derive(Debug)]
pub(super) enum Ask {
    /// Take no more calls, and say when the last has ended.
    Drain(oneshot::Sender<()>),
}

impl Switchboard {
    pub(super) fn new(house: Arc<House>) -> Switchboard {
        let admission = Admission::new(now());
        Switchboard { house, admission, calls: JoinSet::new(), checks: JoinSet::new(), checking: HashMap::new() }
    }

    pub(super) async fn run(mut self, mut events: mpsc::Receiver<SipEvent>, mut asked: mpsc::Receiver<Ask>) {
        let mut waiting: Vec<oneshot::Sender<()>> = Vec::new();
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.take(event).await,
                    None => break,
                },
                ask = asked.recv() => match ask {
                    Some(Ask::Drain(done)) => {
                        self.admission.draining = true;
                        waiting.push(done);
                    }
                    None => break,
                },
                Some(_) = self.calls.join_next(), if !self.calls.is_empty() => {}
                Some(checked) = self.checks.join_next(), if !self.checks.is_empty() => self.take_checked(checked).await,
            }
            if self.admission.draining && self.calls.is_empty() && self.checking.is_empty() {
                // Whoever asked may have gone meanwhile.
                for done in waiting.drain(..) {
                    let _ = done.send(());
                }
            }
        }
        self.calls.join_all().await;
    }

    async fn take(&mut self, event: SipEvent) {
        match event {
            SipEvent::Invited { dialog, mut invite } => {
                let registered = self.house.trunks.contacts().trunk_of(&invite.called_user);
                if registered.is_some() {
                    // The registrar wrote our Contact over the number that was dialled, which is left in To.
                    invite.called_user = invite.to.user.reveal().clone();
                }
                self.welcome(dialog, invite).await;
            }
            event => {
                let Some((door, leg)) = self.house.registry.by_dialog(event.dialog()) else {
                    // A caller who gives up while its identity is being proven leaves no call behind.
                    if let Some(check) = self.checking.remove(&event.dialog()) {
                        check.abort();
                        counter!("ringback_invites_total", "result" => "gave_up").increment(1);
                    }
                    return;
                };
                if let Some(post) = translate::post(leg, event) {
                    door.mailbox.post(post);
                }
            }
        }
    }

    async fn welcome(&mut self, dialog: DialogId, invite: Box<Invite>) {
        let config = self.house.config();
        // The guard knew it a moment ago; a trunk that was taken out since then takes no more calls.
        let Some(trunk) = invite.trunk.as_ref().and_then(|trunk| config.trunks.get(trunk)) else {
            return self.refuse(dialog, Cause::Forbidden.status(), None, "unknown_source").await;
        };
        let up = self.house.registry.len() + self.checking.len();
        let limits = &config.gateway.limits;
        if let Err(refusal) = self.admission.admit(now(), up, self.house.workers.lateness(), limits) {
            return self.refuse(dialog, Cause::Overload.status(), Some(refusal.retry_after_s()), refusal.label()).await;
        }
        let look = identity::look(trunk, &invite);
        let trunk = trunk.id.clone();
        let comer = Comer { dialog, invite, config, trunk };
        match look {
            Look::Known(identity) => self.enter(comer, identity).await,
            // It rings nowhere yet, and 100 has gone out; most certificates are known, and this takes no time.
            Look::Open(open) => {
                let certificates = Arc::clone(&self.house.certificates);
                let check = self.checks.spawn(async move { (comer, open.settle(&certificates).await) });
                self.checking.insert(dialog, check);
            }
        }
    }

    async fn take_checked(&mut self, checked: Result<(Comer, Verification), JoinError>) {
        match checked {
            Ok((comer, identity)) => {
                // One that was given up in the same moment is gone already.
                if self.checking.remove(&comer.dialog).is_some() {
                    self.enter(comer, Some(identity)).await;
                }
            }
            Err(error) if error.is_panic() => {
                counter!("ringback_task_panics_total").increment(1);
                let whose = self.checking.iter().find(|(_, check)| check.id() == error.id());
                if let Some(dialog) = whose.map(|(dialog, _)| *dialog) {
                    self.checking.remove(&dialog);
                    self.refuse(dialog, Cause::Internal.status(), None, "check_broke").await;
                }
            }
            // Given up, and taken off the list when it was.
            Err(_) => {}
        }
    }

    async fn enter(&mut self, comer: Comer, identity: Option<Verification>) {
        let Comer { dialog, invite, config, trunk } = comer;
        let Some(trunk) = config.trunks.get(&trunk) else {
            return self.refuse(dialog, Cause::Forbidden.status(), None, "unknown_source").await;
        };
        if let Some(cause) = identity::refusal(trunk.identity.verify, identity.as_ref()) {
            return self.refuse_identity(dialog, cause, identity.and_then(|identity| identity.reason())).await;
        }
        if let Some(status) = invite.objection(&trunk.session) {
            // What would do stands in the rules, which the refusal names.
            self.adopt(dialog, Terms { rules: trunk.session, ..Terms::default() }).await;
            return self.refuse(dialog, status, None, "short_session").await;
        }
        match invite.replaces {
            None => {}
            Some(Err(status)) => return self.refuse(dialog, status, None, "no_dialog").await,
            Some(Ok(replaced)) => {
                let Some((door, leg)) = self.house.registry.by_dialog(replaced) else {
                    return self.refuse(dialog, Cause::Unavailable.status(), None, "no_dialog").await;
                };
                let credentials = self.credentials(trunk);
                let terms = Terms { rules: trunk.session, codecs: trunk.codecs.clone(), sdp: None, credentials };
                self.adopt(dialog, terms).await;
                counter!("ringback_invites_total", "result" => "replaces").increment(1);
                return door.mailbox.post(Post::Replacing { leg, guest: guest(dialog, trunk, &invite) });
            }
        }
        let rules = trunk.session;
        let pass = match self.house.tolls.let_in(trunk) {
            Ok(pass) => pass,
            Err(rule) => return self.refuse(dialog, Cause::Overload.status(), Some(1), rule.label()).await,
        };
        let offer = match invite.sdp.as_deref().map(Offer::parse).transpose() {
            Err(error) if error.is_malformed() => {
                return self.refuse(dialog, Cause::BadRequest.status(), None, "bad_sdp").await;
            }
            Err(error) => Err(error),
            Ok(Some(mut offer)) if trunk.leads_codecs => {
                offer.prefer(&trunk.codecs);
                Ok(Some(offer))
            }
            Ok(offer) => Ok(offer),
        };
        let arrival = arrive(trunk, &translate::shows(&invite));
        let began_unix_ms = unix_ms();
        let asked = Asked {
            called: arrival.called.reveal(),
            called_raw: &invite.called_user,
            trunk: &trunk.id,
            caller: (!arrival.caller.anonymous).then(|| arrival.caller.user.reveal().as_str()),
            headers: &invite.headers,
            identity: identity.as_ref(),
            at: Timestamp::from_millisecond(began_unix_ms).unwrap_or_default(),
        };
        let Some(route) = config.route(&asked).cloned() else {
            return self.refuse(dialog, Cause::NotFound.status(), None, "no_route").await;
        };
        let id = CallId(Uuid::now_v7());
        let media = self.house.workers.open_call(id);
        let session_id = u64::try_from(began_unix_ms).unwrap_or(0);
        // Room for audio is taken while it rings: what the caller sends early is not lost, and 200 needs no waiting.
        let port = match media.open_rtp(LegId::CALLER) {
            Ok(address) => address.port(),
            Err(error) => {
                tracing::warn!(%error, "no RTP port for a caller");
                return self.refuse(dialog, Cause::Overload.status(), Some(5), "no_rtp_port").await;
            }
        };
        let local = local(&self.house, trunk.codecs.clone(), port, session_id);
        let local = Local { keyring: keyring(trunk.media_security), ..local };
        let answer = match &offer {
            Ok(Some(offer)) => sdp::answer(offer, &local).map(|(agreed, sdp)| Answer { sdp, agreed: Some(agreed) }),
            // No description yet: ours is the offer, and theirs comes with the ACK.
            Ok(None) => Ok(Answer { sdp: sdp::offer(&local), agreed: None }),
            Err(error) => Err(*error),
        };
        let (answer, misfit) = match answer {
            Ok(answer) => (Some(answer), None),
            Err(misfit) => (None, Some(misfit)),
        };
        let is_plain =
            answer.as_ref().and_then(|answer| answer.agreed.as_ref()).is_some_and(|agreed| agreed.keys.is_none());
        let may_be_keyed = trunk.media_security != MediaSecurity::Off && !is_plain;
        if may_be_keyed && media.expect_keys(LegId::CALLER).is_err() {
            return self.refuse(dialog, Cause::Overload.status(), Some(5), "no_rtp_port").await;
        }
        let codec = answer.as_ref().map(|answer| answer.agreed.as_ref().map_or(local.codecs[0], |agreed| agreed.codec));
        let sdp = answer.as_ref().map(|answer| answer.sdp.clone());
        let credentials = self.credentials(trunk);
        self.adopt(dialog, Terms { rules, codecs: local.codecs.clone(), sdp, credentials }).await;
        let invitation = translate::invitation(arrival, trunk, codec, identity.clone());
        let plan = config.plan(&route);
        let open = CallOpen {
            id,
            began_unix_ms,
            direction: Direction::Inbound,
            agent: agent_of(&route.to),
            phone: (!invitation.caller.anonymous).then(|| invitation.caller.user.clone()),
            called: invitation.called.clone(),
            trunk: Some(trunk.id.clone()),
            journal: Some(self.house.journals.path(id).display().to_string()),
            revision: plan.revision.clone(),
            identity,
        };
        let door = Arc::new(Door::default());
        self.house.registry.add(id, Arc::clone(&door));
        self.house.registry.add_dialog(dialog, id, LegId::CALLER);
        counter!("ringback_invites_total", "result" => "taken").increment(1);
        let (party, came) = (invitation.caller.clone(), translate::came(&invite));
        let caller = CallerLeg { party, dialog, local, answer, misfit, pass, came };
        let arms = Arms::new(Arc::clone(&self.house), config, door, plan, open, media, caller);
        self.calls.spawn(LiveCall::new(arms).live(Event::Invited(invitation)));
    }

    async fn adopt(&self, dialog: DialogId, terms: Terms) {
        self.house.sip.send(dialog, SipCommand::Adopt(Box::new(terms))).await;
    }

    /// Who we are to a trunk that asks within a call of its own: as when we call it, or else as we register with it.
    fn credentials(&self, trunk: &Trunk) -> Option<Login> {
        let calling = trunk.outbound.as_ref().and_then(|outbound| outbound.credentials.as_ref());
        let registering = || trunk.registration.as_ref().and_then(|registration| registration.credentials.as_ref());
        dialling::login(&self.house, trunk, calling.or_else(registering)?)
    }

    async fn refuse_identity(&self, dialog: DialogId, cause: Cause, why: Option<&'static str>) {
        counter!("ringback_invites_total", "result" => cause.label()).increment(1);
        // RFC 8224 §6.2.2 gives the 403 its own words.
        let reason = (cause == Cause::StaleIdentity).then(|| "Stale Date".to_owned());
        let warning = why.map(|why| format!("Identity: {why}"));
        let reject = SipCommand::Reject { status: cause.status(), reason, retry_after_s: None, warning };
        self.house.sip.send(dialog, reject).await;
    }

    async fn refuse(&self, dialog: DialogId, status: u16, retry_after_s: Option<u32>, why: &'static str) {
        counter!("ringback_invites_total", "result" => why).increment(1);
        let warning = remedy(why).map(str::to_owned);
        if warning.is_some() {
            tracing::warn!(%dialog, status, why, "a call is refused");
        }
        self.house.sip.send(dialog, SipCommand::Reject { status, reason: None, retry_after_s, warning }).await;
    }
}

/// What the other side's log says of a refusal, where the sender can do something about it. Only trunks get that far, so
/// it is also worth a line in ours.
fn remedy(why: &str) -> Option<&'static str> {
    match why {
        "bad_sdp" => Some("the session description cannot be read"),
        _ => None,
    }
}
