//! Every SIP event, and what becomes of it: a new call, or news for one that is up.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use metrics::counter;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use uuid::Uuid;

use super::admission::Admission;
use super::arms::{Answer, Arms, CallerLeg, Came, LegWire, guest, local};
use super::browsers::BrowserLeg;
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
use crate::media;
use crate::model::{CallId, Codec, LegId, MediaSecurity, Verification};
use crate::route::Asked;
use crate::sdp::{self, Offer};
use crate::sip::{DialogId, Invite, Login, SipCommand, SipEvent, Terms};
use crate::store::{CallOpen, Direction};
use crate::trunk::{Trunk, arrive};
use crate::webrtc::{self, Audio, Claims, InviteError, OfferError};

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
    /// Take a browser's call, or say why not.
    Browser(Box<BrowserComer>, oneshot::Sender<Result<Taken, Turned>>),
}

/// A browser at the door.
pub(super) struct BrowserComer {
    pub(super) offer: webrtc::Offer,
    /// Whom it calls, and may call.
    pub(super) called: String,
    pub(super) claims: Claims,
    /// The trunk that stands for browsers.
    pub(super) trunk: String,
}

impl fmt::Debug for BrowserComer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrowserComer").field("trunk", &self.trunk).finish_non_exhaustive()
    }
}

/// A browser's call that was taken.
#[derive(Debug)]
pub(super) struct Taken {
    /// Of the session; as good as a password.
    pub(super) name: String,
    pub(super) answer: String,
    pub(super) etag: String,
}

/// Why a browser's call is not taken.
#[derive(Clone, Copy, Debug)]
pub(super) enum Turned {
    /// For this reason; again after so many seconds.
    Away(&'static str, u32),
    NoRoute,
    Unusable(OfferError),
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
                    Some(Ask::Browser(comer, reply)) => {
                        let taken = self.welcome_browser(*comer);
                        // One who left meanwhile is not heard of again, which ends the call in time.
                        let _ = reply.send(taken);
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
                let pass = match self.house.tolls.let_in(trunk) {
                    Ok(pass) => pass,
                    Err(rule) => return self.refuse(dialog, Cause::Overload.status(), Some(1), rule.label()).await,
                };
                let credentials = self.credentials(trunk);
                let terms = Terms { rules: trunk.session, codecs: trunk.codecs.clone(), sdp: None, credentials };
                self.adopt(dialog, terms).await;
                counter!("ringback_invites_total", "result" => "replaces").increment(1);
                return door.mailbox.post(Post::Replacing { leg, guest: guest(dialog, trunk, &invite, pass) });
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
        let local = local(&self.house, Some(trunk), port, session_id);
        let answer = match &offer {
            Ok(Some(offer)) => sdp::answer(offer, &local).map(|(agreed, sdp)| Answer { sdp, agreed: Some(agreed) }),
            // No description yet: ours is the offer, and theirs comes with the ACK.
            Ok(None) => Ok(Answer { sdp: sdp::offer(&local), agreed: None }),
            Err(error) => Err(*error),
        };
        let (answer, objection) = match answer {
            Ok(answer) => (Some(answer), None),
            Err(objection) => (None, Some(objection)),
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
        let wire = LegWire::Sip { dialog, local, answer, is_held: false };
        let caller = CallerLeg { party, wire, objection, pass, came };
        let arms = Arms::new(Arc::clone(&self.house), config, door, plan, open, media, caller);
        self.calls.spawn(LiveCall::new(arms).live(Event::Invited(invitation)));
    }

    /// Takes a browser's call in. Nothing of it waits: the answer goes back at once, and the browser connects while it
    /// rings.
    fn welcome_browser(&mut self, comer: BrowserComer) -> Result<Taken, Turned> {
        let config = self.house.config();
        let browsers = self.house.browsers.as_ref().ok_or(Turned::NoRoute)?;
        let trunk = config.trunks.get(&comer.trunk).ok_or(Turned::NoRoute)?;
        let up = self.house.registry.len() + self.checking.len();
        let admitted = self.admission.admit(now(), up, self.house.workers.lateness(), &config.gateway.limits);
        admitted.map_err(|refusal| Turned::Away(refusal.label(), refusal.retry_after_s()))?;
        let codecs = if trunk.leads_codecs { trunk.codecs.as_slice() } else { &BROWSER_CODECS };
        let settled = comer.offer.settle(codecs, trunk.leads_codecs).map_err(Turned::Unusable)?;
        let pass = self.house.tolls.let_in(trunk).map_err(|rule| Turned::Away(rule.label(), 1))?;
        let arrival = arrive(trunk, &translate::browser_shows(&comer.called, &comer.claims));
        let began_unix_ms = unix_ms();
        let asked = Asked {
            called: arrival.called.reveal(),
            called_raw: &comer.called,
            trunk: &trunk.id,
            caller: (!arrival.caller.anonymous).then(|| arrival.caller.user.reveal().as_str()),
            headers: &[],
            identity: None,
            at: Timestamp::from_millisecond(began_unix_ms).unwrap_or_default(),
        };
        let route = config.route(&asked).cloned().ok_or(Turned::NoRoute)?;
        let name = browsers.webrtc.unguessable().ok_or(Turned::Away("broken", 5))?;
        let id = CallId(Uuid::now_v7());
        let media = self.house.workers.open_call(id);
        let (pipe, end) = media::pipe();
        media.open_pipe(LegId::CALLER, pipe).map_err(|_| Turned::Away("broken", 5))?;
        let audio = Audio { inward: end.inward, outward: end.outward };
        let invited = browsers.webrtc.invite(&comer.offer, &settled, audio).map_err(|error| match error {
            InviteError::Full => Turned::Away("full", 5),
            InviteError::Broken => Turned::Away("broken", 5),
        })?;
        let invitation = translate::browser_invitation(arrival, trunk, &settled);
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
            identity: None,
        };
        let door = Arc::new(Door::default());
        self.house.registry.add(id, Arc::clone(&door));
        browsers.open(name.clone(), &invited, comer.offer.ufrag().to_owned(), Arc::clone(&door));
        let wire = LegWire::Browser(BrowserLeg::new(invited.peer, settled));
        // RFC 3261 §8.1.1.6: as many hops as a new call has.
        let came = Came { max_forwards: 70, diversions: Vec::new(), history: Vec::new() };
        let caller = CallerLeg { party: invitation.caller.clone(), wire, objection: None, pass, came };
        let arms = Arms::new(Arc::clone(&self.house), config, door, plan, open, media, caller);
        self.calls.spawn(LiveCall::new(arms).live(Event::Invited(invitation)));
        Ok(Taken { name, answer: invited.answer, etag: invited.etag })
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

/// What browsers are answered when their trunk does not say; their own order counts then.
const BROWSER_CODECS: [Codec; 4] = [Codec::Opus, Codec::G722, Codec::Pcmu, Codec::Pcma];
