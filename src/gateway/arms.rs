//! What a call does: its legs, its media, its errands, and one arm per command. It decides nothing.

mod referrals;

use std::collections::HashMap;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use metrics::counter;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tracing::{error, warn};

pub(super) use self::referrals::{Cord, Guest, guest};
use super::agents;
use super::browsers::{BrowserLeg, Standing};
use super::dialling::{self, Dialling};
use super::house::House;
use super::mailbox::Post;
use super::recordings::Taping;
use super::registry::Door;
use super::tolls::{Pass, Wish};
use super::translate;
use crate::actions::{Connector, HttpFailure, HttpReply, HttpRequest, Plan, Playing, Reception, SetRecording};
use crate::agent::AgentCommand;
use crate::call::{Cause, Command, ConsentResult, Destination, Event, Told, Wiring};
use crate::config::Config;
use crate::media::{CallMedia, MediaError, Reports, RtpPeer, Takes};
use crate::model::{Address, BargeIn, CallId, Codec, LegId, MediaSecurity, Party, Pii, PlayId, RunId, Vars};
use crate::sdp::{self, Agreed, Keyring, Local, SdpError};
use crate::sip::{Dial, DialogId, Diversion, Diverted, Failure, Refer, ReferOrder, SipCommand};
use crate::store::CallOpen;
use crate::trunk::{Dtmf, Presented, Trunk, present};

/// Everything of a call but its decisions.
pub(super) struct Arms {
    pub(super) id: CallId,
    pub(super) house: Arc<House>,
    /// The configuration that the call began with; its trunks and plan stay as they were.
    pub(super) config: Arc<Config>,
    pub(super) door: Arc<Door>,
    pub(super) plan: Arc<Plan>,
    pub(super) open: CallOpen,
    /// Who calls, as whoever is dialled may learn it.
    caller: Party,
    /// What was known when somebody was dialled last.
    pub(super) vars: Vars,
    media: CallMedia,
    pub(super) legs: HashMap<LegId, LegWire>,
    /// Why the caller's description cannot be answered, when it cannot.
    objection: Option<SdpError>,
    /// Of legs that are or were dialled: the gateways left to try.
    dialling: HashMap<LegId, Dialling>,
    /// Requests to the outside world, agents' sockets, the store.
    pub(super) tasks: JoinSet<()>,
    requests: HashMap<RunId, AbortHandle>,
    pub(super) recording: Option<Taping>,
    /// What the caller said to it.
    consent: Option<ConsentResult>,
    /// Closes when the store has noted the call, or cannot.
    noted: Option<oneshot::Receiver<()>>,
    /// Our answer was the offer, and the caller has yet to answer it.
    pub(super) owes_description: bool,
    /// What legs that came in use of their trunks, as long as they are there. Those that were dialled hold theirs in
    /// `dialling`.
    passes: HashMap<LegId, Pass>,
    came: Came,
    /// Trunks of legs that did not come by the caller's.
    trunks: HashMap<LegId, String>,
    /// The REFER that the heart is thinking about.
    referral: Option<Box<Refer>>,
    /// Who is at the door while the heart thinks about it.
    pub(super) guest: Option<Guest>,
}

/// How a leg is reached.
#[allow(clippy::large_enum_variant, reason = "a call has two or three, and nearly all are the largest")]
pub(super) enum LegWire {
    Sip {
        dialog: DialogId,
        local: Local,
        answer: Option<Answer>,
        is_held: bool,
    },
    Agent {
        commands: mpsc::Sender<AgentCommand>,
    },
    /// A browser, whose audio comes through a pipe.
    Browser(BrowserLeg),
    BuiltIn,
    /// It is a leg of another call here.
    Cord(Cord),
}

/// What was agreed on with the caller, until the call says that it is answered.
pub(super) struct Answer {
    pub(super) sdp: String,
    /// `None` while the other side owes its description.
    pub(super) agreed: Option<Agreed>,
}

/// The caller's leg as the switchboard prepared it.
pub(super) struct CallerLeg {
    pub(super) party: Party,
    pub(super) wire: LegWire,
    /// Why the caller's description cannot be answered, when it cannot.
    pub(super) objection: Option<SdpError>,
    /// What it uses of its trunk.
    pub(super) pass: Pass,
    pub(super) came: Came,
}

/// How the caller's INVITE came, for a call that is passed on.
pub(super) struct Came {
    /// Hops it had left.
    pub(super) max_forwards: u8,
    /// Who had diverted it before, topmost first (RFC 5806).
    pub(super) diversions: Vec<Pii<String>>,
    /// Where it had been before, in order (RFC 7044).
    pub(super) history: Vec<Pii<String>>,
}

impl Arms {
    pub(super) fn new(
        house: Arc<House>,
        config: Arc<Config>,
        door: Arc<Door>,
        plan: Arc<Plan>,
        open: CallOpen,
        media: CallMedia,
        caller: CallerLeg,
    ) -> Arms {
        Arms {
            id: open.id,
            house,
            config,
            door,
            plan,
            open,
            caller: caller.party,
            vars: Vars::default(),
            media,
            legs: HashMap::from([(LegId::CALLER, caller.wire)]),
            objection: caller.objection,
            dialling: HashMap::new(),
            tasks: JoinSet::new(),
            requests: HashMap::new(),
            recording: None,
            consent: None,
            noted: None,
            owes_description: false,
            passes: HashMap::from([(LegId::CALLER, caller.pass)]),
            came: caller.came,
            trunks: HashMap::new(),
            referral: None,
            guest: None,
        }
    }

    /// Notes in the store that the call is up, so that it gets its ending even if this process dies.
    pub(super) fn open_record(&mut self) {
        let house = Arc::clone(&self.house);
        let open = self.open.clone();
        let (tell, noted) = oneshot::channel();
        self.noted = Some(noted);
        self.tasks.spawn(async move {
            // Dropped in any case when the store has answered, which is all that is waited for.
            let _tell = tell;
            if let Err(error) = house.store.begin_call(&open).await {
                error!(call = %open.id, %error, "an open call cannot be noted in the store");
                counter!("ringback_store_errors_total").increment(1);
            }
        });
    }

    pub(super) async fn carry_out(&mut self, command: Command) {
        match command {
            Command::Ring => {
                self.tell_browser(Standing::Ringing);
                self.tell_dialog(LegId::CALLER, SipCommand::Ring).await;
            }
            Command::Progress => self.progress().await,
            Command::Answer => self.answer().await,
            Command::Reject { status, cause, retry_after_s } => {
                let warning = (cause == Cause::NoMedia).then(|| self.spoken_here());
                if let Some(warning) = &warning {
                    warn!(call = %self.id, status, why = cause.label(), warning, "a call is refused");
                }
                let reason = self.refusal_of(status);
                let reject = SipCommand::Reject { status, reason, retry_after_s, warning };
                self.tell_dialog(LegId::CALLER, reject).await;
                self.let_browser_go(LegId::CALLER, cause);
                self.forget(LegId::CALLER);
            }
            Command::Dial { leg, to: Destination::Agent } => self.dial_agent(leg),
            Command::Dial { leg, to: Destination::Address(to) } => {
                let trunk = self.open.trunk.clone();
                let dial = Dial { diverted: Some(self.diverted(Diversion::Deflected)), ..Dial::default() };
                self.dial_address(leg, trunk, dial, &to).await;
            }
            Command::Dial { leg, to: Destination::Trunk { trunk, to } } => {
                let dial = self.passed_on();
                self.dial_address(leg, Some(trunk), dial, &to).await;
            }
            Command::Dial { leg, to: Destination::Referred { by, to } } => self.dial_referred(leg, by, &to).await,
            Command::Refer { leg, to, replacing } => self.refer(leg, &to, replacing).await,
            Command::TakeReferral { leg } => self.order_refer(leg, ReferOrder::Take).await,
            Command::RefuseReferral { leg, cause } => {
                self.referral = None;
                self.order_refer(leg, ReferOrder::Refuse { status: cause.status() }).await;
            }
            Command::ReferProgress { leg, progress } => self.tell_progress(leg, progress).await,
            Command::TakeIn { leg } => self.take_in(leg).await,
            Command::TurnAway { cause } => {
                if let Some(guest) = self.guest.take() {
                    self.turn_away(guest, cause).await;
                }
            }
            Command::HangUp { leg, cause } => self.hang_up(leg, cause).await,
            Command::Wire(Wiring { hears }) => {
                let wired =
                    self.media.wire(hears.into_iter().map(|(listener, source)| (listener, vec![source])).collect());
                self.check_media(LegId::CALLER, wired);
            }
            Command::Play { leg, play, what } => self.play(leg, play, &what).await,
            Command::StopPlaying { leg } => {
                let stopped = self.media.stop(leg);
                self.check_media(leg, stopped);
            }
            Command::Record { leg } => self.record(leg),
            Command::SetRecording { to } => self.set_recording(to),
            Command::NoteConsent { result } => self.consent = Some(result),
            Command::TellAgent { leg, what } => self.tell_agent(leg, what),
            Command::Run { run, request } => self.ask(run, request),
            Command::StopRun { run } => {
                if let Some(request) = self.requests.remove(&run) {
                    request.abort();
                }
            }
            // It is for the record, and nothing is left to do.
            Command::Finish(_) => {}
        }
    }

    /// The words that the call's route has beside a status.
    fn refusal_of(&self, with: u16) -> Option<String> {
        match &self.plan.reception {
            Reception::Refuse { status, reason, .. } if *status == with => reason.clone(),
            _ => None,
        }
    }

    async fn tell_dialog(&self, leg: LegId, command: SipCommand) {
        if let Some(LegWire::Sip { dialog, .. }) = self.legs.get(&leg) {
            self.house.sip.send(*dialog, command).await;
        }
    }

    /// Lets the caller hear something before the answer, which bears the same description then (RFC 3261 §13.2.1).
    async fn progress(&self) {
        let Some(LegWire::Sip { answer: Some(answer), .. }) = self.legs.get(&LegId::CALLER) else { return };
        let progress = SipCommand::Progress { status: 183, sdp: Some(answer.sdp.clone()) };
        self.tell_dialog(LegId::CALLER, progress).await;
        // Who has offered nothing yet is heard and hears when its PRACK has brought the answer.
        if let Some(agreed) = &answer.agreed {
            self.open_media(LegId::CALLER, agreed);
        }
    }

    /// A browser can be heard and hears us.
    pub(super) fn connected(&mut self, leg: LegId) {
        if let Some(LegWire::Browser(browser)) = self.legs.get_mut(&leg) {
            browser.is_connected = true;
            self.open_browser(leg);
        }
    }

    fn open_browser(&self, leg: LegId) {
        if let Some(LegWire::Browser(browser)) = self.legs.get(&leg)
            && browser.is_ready()
        {
            let opened = self.media.set_remote(leg, translate::browser_media(&browser.settled));
            self.check_media(leg, opened);
        }
    }

    fn tell_browser(&self, standing: Standing) {
        if let (Some(LegWire::Browser(leg)), Some(browsers)) = (self.legs.get(&LegId::CALLER), &self.house.browsers) {
            browsers.tell(leg.peer, standing);
        }
    }

    fn let_browser_go(&self, leg: LegId, cause: Cause) {
        if let (Some(LegWire::Browser(leg)), Some(browsers)) = (self.legs.get(&leg), &self.house.browsers) {
            browsers.end(leg.peer, cause);
        }
    }

    async fn answer(&mut self) {
        if let Some(noted) = self.noted.take() {
            // A call that somebody talks on must get its ending also when this process dies. A store that takes longer
            // than this is in trouble, and a caller is not made to wait for it.
            let _ = timeout(NOTED_MAX, noted).await;
        }
        let answer = match self.legs.get_mut(&LegId::CALLER) {
            Some(LegWire::Sip { answer, .. }) => answer,
            Some(LegWire::Browser(leg)) => {
                leg.is_answered = true;
                self.tell_browser(Standing::Answered);
                return self.open_browser(LegId::CALLER);
            }
            Some(LegWire::Agent { .. } | LegWire::BuiltIn | LegWire::Cord(_)) | None => return,
        };
        let Some(answer) = answer.take() else { return };
        self.owes_description = answer.agreed.is_none();
        self.tell_dialog(LegId::CALLER, SipCommand::Answer { sdp: answer.sdp }).await;
        if let Some(agreed) = answer.agreed {
            self.open_media(LegId::CALLER, &agreed);
        }
    }

    fn open_media(&self, leg: LegId, agreed: &Agreed) {
        let trunk = if leg == LegId::CALLER { self.open.trunk.as_ref() } else { self.trunks.get(&leg) };
        let dtmf = trunk.and_then(|trunk| self.config.trunks.get(trunk)).map(|trunk| trunk.dtmf).unwrap_or_default();
        let mut takes = Takes::default();
        for (place, format) in takes.iter_mut().zip(&agreed.also) {
            *place = Some(*format);
        }
        let peer = RtpPeer {
            takes,
            dtmf_out: agreed.dtmf.filter(|_| dtmf != Dtmf::Inband),
            dtmf_in: agreed.dtmf_in,
            tone_keys: dtmf == Dtmf::Inband || (dtmf == Dtmf::Auto && agreed.dtmf_in.is_none()),
            dtmf_clock: agreed.dtmf_clock,
            comfort_noise: agreed.comfort_noise,
            packet_ms: agreed.ptime_ms,
            packet_ms_max: agreed.ptime_max_ms,
            opus: agreed.opus,
            is_held: !agreed.direction.sends(),
            keys: agreed.keys,
            reports: Reports {
                every: self.config.gateway.media.rtcp_interval,
                are_muxed: agreed.rtcp_muxed,
                to: agreed.rtcp,
                are_extended: agreed.rtcp_extended,
            },
            ..RtpPeer::new(agreed.codec, agreed.payload_type, agreed.remote)
        };
        if let Err(error) = self.media.set_remote(leg, peer) {
            warn!(call = %self.id, %leg, %error, "the other side's media address cannot be used");
            self.post(Event::HungUp { leg, cause: Cause::NoMedia });
        }
    }

    /// Takes a leg's answer to our offer, and what it means: whether the leg lets itself be heard.
    pub(super) fn agree(&mut self, leg: LegId, sdp: &[u8]) -> Result<bool, Cause> {
        let Some(LegWire::Sip { local, .. }) = self.legs.get(&leg) else { return Err(Cause::Normal) };
        let agreed = sdp::accept(local, sdp).map_err(|_| Cause::NoMedia)?;
        self.open_media(leg, &agreed);
        Ok(agreed.direction.receives())
    }

    /// A leg moved its media, held or resumed the call, or gave its description late. Returns what the heart must know.
    pub(super) fn redescribe(
        &mut self,
        leg: LegId,
        sdp: &[u8],
        answer: Option<&str>,
        offer: Option<&str>,
    ) -> Option<Event> {
        self.owes_description = false;
        let Some(LegWire::Sip { local, is_held, answer: waiting, .. }) = self.legs.get_mut(&leg) else { return None };
        let agreed = match (answer, offer) {
            (Some(answer), _) => {
                sdp::Offer::parse(sdp).and_then(|offer| sdp::reanswer(answer, &offer)).map(|(agreed, _)| agreed)
            }
            (None, Some(offer)) => sdp::settle(offer, sdp),
            (None, None) => sdp::accept(local, sdp),
        };
        match agreed {
            Ok(agreed) => {
                let was_held = std::mem::replace(is_held, !agreed.direction.sends());
                if let Some(waiting) = waiting {
                    // Settled or changed before the call is answered: the answer finds it so.
                    waiting.agreed = Some(agreed.clone());
                }
                self.open_media(leg, &agreed);
                match (was_held, agreed.direction.sends()) {
                    (false, false) => Some(Event::Held { leg }),
                    (true, true) => Some(Event::Resumed { leg }),
                    (false, true) | (true, false) => None,
                }
            }
            Err(_) if answer.is_none() && offer.is_none() => Some(Event::HungUp { leg, cause: Cause::NoMedia }),
            // The old description stays in force (RFC 3264 §8).
            Err(_) => None,
        }
    }

    /// For a caller whose offer cannot be answered: why, and what would do.
    fn spoken_here(&self) -> String {
        if let Some(misfit @ (SdpError::Unprotected | SdpError::NoKeys)) = self.objection {
            return misfit.to_string();
        }
        let Some(LegWire::Sip { local, .. }) = self.legs.get(&LegId::CALLER) else { return String::new() };
        let codecs: Vec<String> = local.codecs.iter().map(Codec::to_string).collect();
        let why = self.objection.as_ref().map_or_else(|| "no audio in common".to_owned(), SdpError::to_string);
        format!("{why}; taken are {} over RTP/AVP to an {} address", codecs.join(", "), family(local.address))
    }

    fn dial_agent(&mut self, leg: LegId) {
        let plan = Arc::clone(&self.plan);
        let Reception::Agent(agent) = &plan.reception else { return };
        match &agent.connector {
            Connector::Flow(_) => {
                self.legs.insert(leg, LegWire::BuiltIn);
                self.post(Event::LegAnswered { leg });
            }
            Connector::Echo => {
                self.legs.insert(leg, LegWire::BuiltIn);
                let opened = self.media.open_echo(leg);
                self.check_media(leg, opened);
                self.post(Event::LegAnswered { leg });
            }
            Connector::Vendor { .. } => {
                match agents::dial(&self.house, &self.door, &self.media, leg, agent, &mut self.tasks) {
                    Ok(commands) => {
                        self.legs.insert(leg, LegWire::Agent { commands });
                    }
                    Err(cause) => self.post(failed(leg, cause)),
                }
            }
        }
    }

    /// What an INVITE says of a call that came in and is passed on.
    fn passed_on(&self) -> Dial {
        Dial {
            diverted: Some(self.diverted(Diversion::Unconditional)),
            max_forwards: Some(self.came.max_forwards.saturating_sub(1)),
            ..Dial::default()
        }
    }

    /// Whom the call was meant for; whether a trunk is told is for the trunk to say.
    fn diverted(&self, by: Diversion) -> Box<Diverted> {
        let Came { diversions, history, .. } = &self.came;
        let (from, diversions, history) = (self.open.called.clone(), diversions.clone(), history.clone());
        Box::new(Diverted { from, by, diversions, history, ..Diverted::default() })
    }

    /// What a trunk is shown of the caller.
    fn presented(&self, trunk: Option<&Trunk>) -> Presented {
        let by = trunk.and_then(|trunk| Some((trunk, trunk.outbound.as_ref()?)));
        match by {
            Some((trunk, outbound)) => present(trunk, outbound, &self.caller, &self.vars),
            None => Presented {
                user: self.caller.user.clone(),
                display: self.caller.display.clone(),
                ..Presented::default()
            },
        }
    }

    /// Places a call by a trunk, saying what `dial` says. Every call that leaves the house goes through here.
    async fn dial_address(&mut self, leg: LegId, trunk: Option<String>, dial: Dial, address: &Pii<Address>) {
        let trunk = trunk.and_then(|trunk| self.config.trunks.get(&trunk));
        let wish = Wish { config: &self.config, plan: &self.plan, open: &self.open, trunk, to: address.reveal() };
        let pass = match self.house.tolls.let_out(wish) {
            Ok(pass) => pass,
            Err(cause) => return self.post(failed(leg, cause)),
        };
        if let Some(trunk) = trunk {
            self.trunks.insert(leg, trunk.id.clone());
        }
        let attempts = match dialling::attempts(&self.house, trunk, address.reveal(), self.presented(trunk), dial) {
            Ok(attempts) => attempts,
            Err(cause) => return self.post(failed(leg, cause)),
        };
        let mut dialling = Dialling::new(&self.house, trunk, pass, attempts);
        let Some(dial) = dialling.next() else { return self.post(failed(leg, Cause::Unavailable)) };
        let opened = match self.media.open_rtp(leg) {
            Ok(opened) => opened,
            Err(error) => {
                warn!(call = %self.id, %leg, %error, "no RTP port for another leg");
                return self.post(failed(leg, Cause::Overload));
            }
        };
        let session_id = u64::try_from(self.open.began_unix_ms).unwrap_or(0) + u64::from(leg.0);
        let local = local(&self.house, trunk, opened.port(), session_id);
        if trunk.is_some_and(|trunk| trunk.media_security != MediaSecurity::Off) {
            let expected = self.media.expect_keys(leg);
            self.check_media(leg, expected);
        }
        self.dialling.insert(leg, dialling);
        self.place(leg, local, dial).await;
    }

    /// Sends an INVITE for a leg, which goes by its dialog from now on.
    async fn place(&mut self, leg: LegId, local: Local, dial: Dial) {
        let dialog = self.house.sip.new_dialog();
        let dial = Dial { sdp: sdp::offer(&local), ..dial };
        self.house.registry.add_dialog(dialog, self.id, leg);
        self.legs.insert(leg, LegWire::Sip { dialog, local, answer: None, is_held: false });
        self.house.sip.send(dialog, SipCommand::Dial(Box::new(dial))).await;
    }

    /// A leg's INVITE came to nothing: the next gateway is tried, or the cause is what the heart must hear.
    pub(super) async fn not_placed(&mut self, leg: LegId, failure: &Failure) -> Option<Cause> {
        let cause = translate::cause(failure);
        let Some(dialling) = self.dialling.get_mut(&leg) else { return Some(cause) };
        if !dialling.failed(self.id, leg, failure, cause) {
            return Some(cause);
        }
        let Some(dial) = dialling.next() else { return Some(cause) };
        let Some(LegWire::Sip { dialog, local, .. }) = self.legs.remove(&leg) else { return Some(cause) };
        // Another gateway may be somebody else's: it gets keys of its own.
        let local = Local { keyring: keyring(local.keyring.wanted()), ..local };
        self.house.registry.remove_dialog(dialog);
        self.place(leg, local, dial).await;
        None
    }

    /// A leg that we dialled is there.
    pub(super) fn answered(&mut self, leg: LegId) {
        if let Some(dialling) = self.dialling.get_mut(&leg) {
            let door = Arc::clone(&self.door);
            let most = self.config.gateway.protection.outbound_max;
            let spent = dialling.spent();
            dialling.answered(self.tasks.spawn(async move {
                // It ends when it has lasted too long, or when the money is spent.
                let _ = timeout(most, spent.notified()).await;
                door.mailbox.post(Post::Event(Event::HungUp { leg, cause: Cause::TooLong }));
            }));
        }
    }

    /// Whether a leg that we dialled rings for the first time.
    pub(super) fn rings(&mut self, leg: LegId) -> bool {
        self.dialling.get_mut(&leg).is_none_or(Dialling::rings)
    }

    pub(super) async fn hang_up(&mut self, leg: LegId, cause: Cause) {
        self.let_browser_go(leg, cause);
        match self.legs.get(&leg) {
            Some(LegWire::Sip { dialog, .. }) => {
                self.house.sip.send(*dialog, SipCommand::HangUp { cause: Some(cause.q850()) }).await;
            }
            Some(LegWire::Agent { commands }) => {
                // A socket that does not take this any more ends with its channel, which the next line closes.
                let _ = commands.try_send(AgentCommand::Close);
            }
            Some(LegWire::Cord(cord)) => cord.tell(Event::HungUp { leg: cord.leg, cause: Cause::Normal }),
            Some(LegWire::Browser(_) | LegWire::BuiltIn) | None => {}
        }
        self.forget(leg);
    }

    fn forget(&mut self, leg: LegId) {
        self.dialling.remove(&leg);
        self.passes.remove(&leg);
        if let Some(LegWire::Sip { dialog, .. }) = self.legs.remove(&leg) {
            self.house.registry.remove_dialog(dialog);
        }
        // A leg whose close finds no room closes with the call.
        let _ = self.media.close_leg(leg);
    }

    async fn play(&mut self, leg: LegId, play: PlayId, what: &Playing) {
        let clips = self.house.clips.find(what).await;
        if clips.is_empty() {
            let stopped = self.media.stop(leg);
            self.check_media(leg, stopped);
            if !what.repeat {
                self.post(Event::NotPlayed { leg, play });
            }
            return;
        }
        if let Err(error) = self.media.play(leg, play, clips, what.repeat, 0.0) {
            warn!(call = %self.id, %leg, %error, "a prompt cannot be played");
            self.post(Event::NotPlayed { leg, play });
        }
    }

    fn record(&mut self, leg: LegId) {
        let order = self.house.shelf.order(self.id);
        let mut taping = Taping::new(self.id, &order, self.consent);
        match self.media.record(order, leg) {
            Ok(()) => {
                taping.note("recording");
                self.write_page(&taping);
                self.recording = Some(taping);
            }
            Err(error) => warn!(call = %self.id, %error, "the call is not recorded"),
        }
    }

    fn set_recording(&mut self, to: SetRecording) {
        let Some(taping) = &mut self.recording else { return };
        let done = match to {
            SetRecording::On => {
                taping.unmask();
                self.media.mask_recording(false)
            }
            SetRecording::Off => {
                taping.mask();
                self.media.mask_recording(true)
            }
            SetRecording::Destroyed => {
                taping.is_destroyed = true;
                self.media.discard_recording()
            }
        };
        // A recording that cannot be stopped must not go on.
        self.check_media(LegId::CALLER, done);
    }

    /// The recording's file is complete, or was given up.
    pub(super) fn recorded(&mut self, frames: u64, error: Option<String>) {
        if let Some(taping) = &mut self.recording {
            taping.closed(frames, error);
        }
    }

    /// Notes what happens to the call on the page about its recording.
    pub(super) fn note_recording(&mut self, what: &'static str) {
        if let Some(taping) = &mut self.recording {
            taping.note(what);
        }
    }

    /// Written now and again at the end: a process that dies leaves what was known.
    fn write_page(&mut self, taping: &Taping) {
        let taping = taping.clone();
        let call = self.id;
        self.tasks.spawn_blocking(move || {
            if let Err(error) = taping.write() {
                warn!(%call, %error, "the page about a recording cannot be written");
            }
        });
    }

    fn tell_agent(&self, leg: LegId, what: Told) {
        let Some(LegWire::Agent { commands }) = self.legs.get(&leg) else { return };
        let barge_in = match &self.plan.reception {
            Reception::Agent(agent) => agent.barge_in,
            Reception::Forward(_) | Reception::Refuse { .. } => BargeIn::default(),
        };
        for command in agents::commands(what, barge_in) {
            if commands.try_send(command).is_err() {
                // Its socket has stalled or gone; what it misses would come too late anyway.
                counter!("ringback_agent_commands_dropped_total").increment(1);
            }
        }
    }

    fn ask(&mut self, run: RunId, request: HttpRequest) {
        let house = Arc::clone(&self.house);
        let door = Arc::clone(&self.door);
        let asked = self.tasks.spawn(async move {
            let asking = AssertUnwindSafe(house.http.ask(&request, &house.secrets)).catch_unwind();
            let reply = asking.await.unwrap_or(HttpReply::Failed(HttpFailure::Unreachable));
            door.mailbox.post(Post::Event(Event::ActionDone { run, reply }));
        });
        self.requests.insert(run, asked);
    }

    fn post(&self, event: Event) {
        self.door.mailbox.post(Post::Event(event));
    }

    /// A media worker that takes no more commands of this call has been flooded by it.
    fn check_media(&self, leg: LegId, done: Result<(), MediaError>) {
        if let Err(error) = done {
            warn!(call = %self.id, %leg, %error, "the media worker refuses a command; the call is ended");
            self.post(Event::EndAsked { cause: Cause::Internal });
        }
    }

    pub(super) async fn let_everybody_go(&mut self) {
        let legs: Vec<LegId> = self.legs.keys().copied().collect();
        for leg in legs {
            self.hang_up(leg, Cause::Internal).await;
        }
    }

    /// Ends what still runs for the call.
    pub(super) async fn stop_tasks(&mut self) {
        for (_, request) in self.requests.drain() {
            request.abort();
        }
        // Agents' sockets say good-bye in their own time, and the store has its own; the record waits for neither longer.
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(TASKS_MAX, all).await.is_err() {
            warn!(call = %self.id, "what still ran for the call is cut off");
            self.tasks.shutdown().await;
        }
    }

    pub(super) fn stop_recording(&self) {
        // Without room for it the recording is completed when the call's media is dropped.
        let _ = self.media.stop_recording();
    }
}

fn failed(leg: LegId, cause: Cause) -> Event {
    Event::LegFailed { leg, cause, retry_after_s: None }
}

/// Our side of a leg's description.
pub(super) fn local(house: &House, trunk: Option<&Trunk>, port: u16, session_id: u64) -> Local {
    let address = house.config().gateway.media.address;
    let codecs = trunk.map_or_else(|| vec![Codec::Pcmu, Codec::Pcma], |trunk| trunk.codecs.clone());
    let comfort_noise = trunk.is_some_and(|trunk| trunk.comfort_noise);
    let keyring = keyring(trunk.map_or(MediaSecurity::Off, |trunk| trunk.media_security));
    Local { address, port, codecs, comfort_noise, session_id, version: session_id, keyring }
}

/// New keys for a leg.
///
/// # Panics
/// When the system has no randomness, without which nothing may be protected.
fn keyring(wanted: MediaSecurity) -> Keyring {
    let mut secret = [0; 32];
    if wanted != MediaSecurity::Off {
        getrandom::fill(&mut secret).expect("the system has randomness, because the gateway started with it");
    }
    Keyring::new(wanted, secret)
}

/// As the other side's log should name it.
fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// The store notes an open call in under a millisecond; see `answer`.
const NOTED_MAX: Duration = Duration::from_millis(100);
/// An agent's goodbye is bounded by 2 s.
const TASKS_MAX: Duration = Duration::from_secs(4);
