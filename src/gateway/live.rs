//! One call on the line: its task, its legs, and one arm per command.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use metrics::counter;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{timeout, timeout_at};
use tracing::{error, warn};

use super::agents;
use super::clock::CallClock;
use super::finish;
use super::house::{House, Watched};
use super::mailbox::Post;
use super::registry::Door;
use crate::actions::{Connector, HttpFailure, HttpReply, HttpRequest, Plan, Playing, Reception};
use crate::agent::AgentCommand;
use crate::call::{Blame, Call, Cause, Command, Destination, Event, Outcome, Status, Told, Wiring};
use crate::journal::{Entry, Header, Recorder, SCHEMA};
use crate::media::{CallMedia, RtpPeer};
use crate::model::{Address, CallId, Codec, LegId, Pii, PlayId, RunId, Time, Vars};
use crate::sdp::{self, Agreed, Local};
use crate::sip::{Dial, DialogId, SipCommand};
use crate::store::CallOpen;

/// A call and everything that is its own.
pub(super) struct LiveCall {
    pub(super) id: CallId,
    pub(super) house: Arc<House>,
    pub(super) door: Arc<Door>,
    pub(super) open: CallOpen,
    call: Call,
    recorder: Recorder,
    plan: Arc<Plan>,
    clock: CallClock,
    media: CallMedia,
    legs: HashMap<LegId, LegWire>,
    /// Requests to the outside world, agents' sockets, the store.
    pub(super) tasks: JoinSet<()>,
    requests: HashMap<RunId, AbortHandle>,
    pub(super) recording: Option<PathBuf>,
    outcome: Option<Box<Outcome>>,
    /// Steps not yet in the journal.
    unwritten: Vec<Arc<Entry>>,
    /// What came with the end or behind it, and belongs to the record.
    pub(super) late: Vec<Post>,
    /// Closes when the store has noted the call, or cannot.
    noted: Option<oneshot::Receiver<()>>,
    /// Our answer was the offer, and the caller has yet to answer it.
    owes_description: bool,
}

/// How a leg is reached.
enum LegWire {
    Sip { dialog: DialogId, local: Local, answer: Option<Answer> },
    Agent { commands: mpsc::Sender<AgentCommand> },
    BuiltIn,
}

/// What was agreed on with the caller, until the call says that it is answered.
pub(super) struct Answer {
    pub(super) sdp: String,
    /// `None` while the other side owes its description.
    pub(super) agreed: Option<Agreed>,
}

/// The caller's leg as the switchboard prepared it.
pub(super) struct CallerLeg {
    pub(super) dialog: DialogId,
    pub(super) local: Local,
    pub(super) answer: Option<Answer>,
}

impl LiveCall {
    pub(super) fn new(
        house: Arc<House>,
        door: Arc<Door>,
        plan: Arc<Plan>,
        open: CallOpen,
        media: CallMedia,
        caller: CallerLeg,
    ) -> LiveCall {
        let wire = LegWire::Sip { dialog: caller.dialog, local: caller.local, answer: caller.answer };
        LiveCall {
            id: open.id,
            house,
            door,
            open,
            call: Call::new(Arc::clone(&plan)),
            recorder: Recorder::default(),
            plan,
            clock: CallClock::start(),
            media,
            legs: HashMap::from([(LegId::CALLER, wire)]),
            tasks: JoinSet::new(),
            requests: HashMap::new(),
            recording: None,
            outcome: None,
            unwritten: Vec::new(),
            late: Vec::new(),
            noted: None,
            owes_description: false,
        }
    }

    /// Lives the call to its end, whatever happens in it.
    pub(super) async fn live(mut self, first: Event) {
        let lived = AssertUnwindSafe(self.talk(first)).catch_unwind().await;
        let outcome = match (lived, self.outcome.take()) {
            (Ok(()), Some(outcome)) => *outcome,
            // The panic's message is on standard error; what is known of the call is in its journal.
            (_, outcome) => {
                error!(call = %self.id, "a call broke; it is ended, and no other");
                counter!("ringback_calls_broken_total").increment(1);
                self.let_everybody_go().await;
                let after = finish::after(&self.house, &self.open);
                outcome.map_or_else(|| broken(self.clock.now(), after), |outcome| *outcome)
            }
        };
        finish::finish(self, outcome).await;
    }

    async fn talk(&mut self, first: Event) {
        // Carried out before it is written down: a caller's 180 does not wait for a disk.
        self.step(first).await;
        self.open_record();
        let header = self.heading();
        self.house.journals.write(self.id, header);
        self.write_down();
        while self.outcome.is_none() {
            let batch = match self.call.deadline() {
                Some((due, timer)) => {
                    let due = self.clock.instant(due);
                    match timeout_at(due, self.door.mailbox.take()).await {
                        Ok(batch) => batch,
                        Err(_) => vec![Post::Event(Event::TimerFired(timer))],
                    }
                }
                None => self.door.mailbox.take().await,
            };
            let mut batch = batch.into_iter();
            while self.outcome.is_none() {
                let Some(post) = batch.next() else { break };
                self.open_post(post).await;
            }
            self.late.extend(batch);
            self.fire_what_is_due().await;
            self.write_down();
            while let Some(ended) = self.tasks.try_join_next() {
                if ended.is_err_and(|error| error.is_panic()) {
                    counter!("ringback_task_panics_total").increment(1);
                }
            }
        }
    }

    /// A mailbox that never runs empty must not stop the clock.
    async fn fire_what_is_due(&mut self) {
        while let Some((_, timer)) = self.call.deadline().filter(|(due, _)| *due <= self.clock.now()) {
            self.step(Event::TimerFired(timer)).await;
        }
    }

    fn heading(&self) -> String {
        let plan = Plan::clone(&self.plan);
        to_line(&Header { ringback_journal: SCHEMA, call: self.id, began_unix_ms: self.open.began_unix_ms, plan })
    }

    /// Notes in the store that the call is up, so that it gets its ending even if this process dies.
    fn open_record(&mut self) {
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

    async fn open_post(&mut self, post: Post) {
        match post {
            Post::Event(event) => self.step(event).await,
            Post::Answered { leg, sdp } => {
                let event = match self.agree(leg, &sdp) {
                    Ok(()) => Event::LegAnswered { leg },
                    Err(cause) => {
                        self.hang_up(leg, cause).await;
                        Event::LegFailed { leg, cause }
                    }
                };
                self.step(event).await;
            }
            Post::Described { leg, sdp, answer } => self.redescribe(leg, &sdp, answer.as_deref()),
            // An ACK without the description that it owes (RFC 3261 §13.2.1) leaves nothing to talk over.
            Post::Acknowledged { leg } if self.owes_description => {
                self.step(Event::HungUp { leg, cause: Cause::NoMedia }).await;
            }
            Post::Acknowledged { .. } => {}
            Post::Recorded => self.late.push(Post::Recorded),
        }
    }

    /// Lets the heart handle one event, and does what it says.
    async fn step(&mut self, event: Event) {
        if self.outcome.is_some() {
            return;
        }
        let gone = match &event {
            Event::HungUp { leg, cause } | Event::LegFailed { leg, cause } => Some((*leg, *cause)),
            // Nothing else takes a leg away.
            _ => None,
        };
        let now = self.clock.now();
        let (commands, entry) = self.recorder.step(&mut self.call, now, event);
        let entry = Arc::new(entry);
        self.unwritten.push(Arc::clone(&entry));
        // Nobody looking on is the usual case.
        let _ = self.house.watch.send(Watched { call: self.id, entry });
        for command in commands {
            self.carry_out(command).await;
        }
        if let Some((leg, cause)) = gone.filter(|(leg, _)| self.legs.contains_key(leg)) {
            // The heart does not speak of it any more, but its port and its name are still taken, and a dialog that
            // only lost its media still waits for our BYE. One that is over drops the command.
            self.hang_up(leg, cause).await;
        }
    }

    fn write_down(&mut self) {
        for value in self.recorder.new_values() {
            self.house.journals.keep(self.id, value.to_string());
        }
        for entry in std::mem::take(&mut self.unwritten) {
            self.house.journals.write(self.id, to_line(&*entry));
        }
    }

    pub(super) fn seal(&mut self) {
        self.write_down();
        self.house.journals.write(self.id, to_line(&self.recorder.seal()));
        self.house.journals.close(self.id);
    }

    async fn carry_out(&mut self, command: Command) {
        match command {
            Command::Ring => self.tell_dialog(LegId::CALLER, SipCommand::Ring).await,
            Command::Answer => self.answer().await,
            Command::Reject { status, retry_after_s, .. } => {
                self.tell_dialog(
                    LegId::CALLER,
                    SipCommand::Reject { status, reason: None, retry_after_s, warning: None },
                )
                .await;
                self.forget(LegId::CALLER);
            }
            Command::Dial { leg, to: Destination::Agent } => self.dial_agent(leg),
            Command::Dial { leg, to: Destination::Address(address) } => self.dial_address(leg, &address).await,
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
            Command::TellAgent { leg, what } => self.tell_agent(leg, what),
            Command::Run { run, request } => self.ask(run, request),
            Command::StopRun { run } => {
                if let Some(request) = self.requests.remove(&run) {
                    request.abort();
                }
            }
            Command::Finish(outcome) => self.outcome = Some(outcome),
        }
    }

    async fn tell_dialog(&self, leg: LegId, command: SipCommand) {
        if let Some(LegWire::Sip { dialog, .. }) = self.legs.get(&leg) {
            self.house.sip.send(*dialog, command).await;
        }
    }

    async fn answer(&mut self) {
        let Some(LegWire::Sip { answer, .. }) = self.legs.get_mut(&LegId::CALLER) else { return };
        let Some(answer) = answer.take() else { return };
        if let Some(noted) = self.noted.take() {
            // A call that somebody talks on must get its ending also when this process dies. A store that takes longer
            // than this is in trouble, and a caller is not made to wait for it.
            let _ = timeout(NOTED_MAX, noted).await;
        }
        self.owes_description = answer.agreed.is_none();
        self.tell_dialog(LegId::CALLER, SipCommand::Answer { sdp: answer.sdp }).await;
        if let Some(agreed) = answer.agreed {
            self.open_media(LegId::CALLER, &agreed);
        }
    }

    fn open_media(&self, leg: LegId, agreed: &Agreed) {
        let peer = RtpPeer {
            codec: agreed.codec,
            payload_type: agreed.payload_type,
            dtmf_out: agreed.dtmf,
            dtmf_in: agreed.dtmf_in,
            remote: agreed.remote,
        };
        if let Err(error) = self.media.set_remote(leg, peer) {
            warn!(call = %self.id, %leg, %error, "the other side's media address cannot be used");
            self.post(Event::HungUp { leg, cause: Cause::NoMedia });
        }
    }

    /// Takes a leg's answer to our offer.
    fn agree(&self, leg: LegId, sdp: &[u8]) -> Result<(), Cause> {
        let Some(LegWire::Sip { local, .. }) = self.legs.get(&leg) else { return Err(Cause::Normal) };
        let agreed = sdp::accept(local, sdp).map_err(|_| Cause::NoMedia)?;
        self.open_media(leg, &agreed);
        Ok(())
    }

    /// A leg moved its media, or gave its description with the ACK.
    fn redescribe(&mut self, leg: LegId, sdp: &[u8], answer: Option<&str>) {
        self.owes_description = false;
        let agreed = match (answer, self.legs.get(&leg)) {
            (None, Some(LegWire::Sip { local, .. })) => sdp::accept(local, sdp),
            (Some(answer), Some(LegWire::Sip { .. })) => {
                sdp::Offer::parse(sdp).and_then(|offer| sdp::reanswer(answer, &offer)).map(|(agreed, _)| agreed)
            }
            (_, Some(LegWire::Agent { .. } | LegWire::BuiltIn) | None) => return,
        };
        match agreed {
            Ok(agreed) => self.open_media(leg, &agreed),
            Err(_) if answer.is_none() => self.post(Event::HungUp { leg, cause: Cause::NoMedia }),
            // The old description stays in force (RFC 3264 §8).
            Err(_) => {}
        }
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
                    Err(cause) => self.post(Event::LegFailed { leg, cause }),
                }
            }
        }
    }

    async fn dial_address(&mut self, leg: LegId, address: &Pii<Address>) {
        let trunk = self.open.trunk.as_ref().and_then(|trunk| self.house.config.trunks.get(trunk));
        let outbound = trunk.and_then(|trunk| trunk.outbound.as_ref());
        let to = match (address.reveal(), outbound) {
            (address, Some(outbound)) => outbound.uri_of(address),
            (Address::Uri(uri), None) => uri.clone(),
            // A number, and no trunk that would carry it.
            (Address::Number(_), None) => return self.post(Event::LegFailed { leg, cause: Cause::Unavailable }),
        };
        let opened = match self.media.open_rtp(leg) {
            Ok(opened) => opened,
            Err(error) => {
                warn!(call = %self.id, %leg, %error, "no RTP port for another leg");
                return self.post(Event::LegFailed { leg, cause: Cause::Overload });
            }
        };
        let dialog = self.house.sip.new_dialog();
        let session_id = u64::try_from(self.open.began_unix_ms).unwrap_or(0) + u64::from(leg.0);
        let local = local(&self.house, opened.port(), session_id);
        let shown = outbound.and_then(|outbound| outbound.caller_id.clone()).map(Pii::new);
        let dial = Dial {
            to,
            from_user: shown.or_else(|| self.open.phone.clone()).unwrap_or_default(),
            from_display: Pii::default(),
            from_host: None,
            sdp: sdp::offer(&local),
            headers: Vec::new(),
            target: None,
        };
        self.house.registry.add_dialog(dialog, self.id, leg);
        self.legs.insert(leg, LegWire::Sip { dialog, local, answer: None });
        self.house.sip.send(dialog, SipCommand::Dial(Box::new(dial))).await;
    }

    async fn hang_up(&mut self, leg: LegId, cause: Cause) {
        match self.legs.get(&leg) {
            Some(LegWire::Sip { dialog, .. }) => {
                self.house.sip.send(*dialog, SipCommand::HangUp { cause: Some(cause.q850()) }).await;
            }
            Some(LegWire::Agent { commands }) => {
                // A socket that does not take this any more ends with its channel, which the next line closes.
                let _ = commands.try_send(AgentCommand::Close);
            }
            Some(LegWire::BuiltIn) | None => {}
        }
        self.forget(leg);
    }

    fn forget(&mut self, leg: LegId) {
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
                self.post(Event::Played { leg, play });
            }
            return;
        }
        if let Err(error) = self.media.play(leg, play, clips, what.repeat, 0.0) {
            warn!(call = %self.id, %leg, %error, "a prompt cannot be played");
            self.post(Event::Played { leg, play });
        }
    }

    fn record(&mut self, leg: LegId) {
        let path = self.house.config.gateway.store.data_dir.join("recordings").join(format!("{}.wav", self.id));
        match self.media.record(path.clone(), leg) {
            Ok(()) => self.recording = Some(path),
            Err(error) => warn!(call = %self.id, %error, "the call is not recorded"),
        }
    }

    fn tell_agent(&self, leg: LegId, what: Told) {
        let Some(LegWire::Agent { commands }) = self.legs.get(&leg) else { return };
        for command in agents::commands(what) {
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
    fn check_media(&self, leg: LegId, done: Result<(), crate::media::MediaError>) {
        if let Err(error) = done {
            warn!(call = %self.id, %leg, %error, "the media worker refuses a command; the call is ended");
            self.post(Event::EndAsked { cause: Cause::Internal });
        }
    }

    async fn let_everybody_go(&mut self) {
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

/// Our side of a leg's description.
pub(super) fn local(house: &House, port: u16, session_id: u64) -> Local {
    let address = house.config.gateway.media.address;
    Local { address, port, codecs: vec![Codec::Pcmu, Codec::Pcma], session_id, version: session_id }
}

fn to_line<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("journal lines have string keys only, because they are our own types")
}

/// What is known of a call whose logic panicked.
fn broken(now: Time, after: Vec<String>) -> Outcome {
    Outcome {
        status: Status::Failed,
        cause: Cause::Internal,
        ended_by: Blame::Us,
        answered: None,
        ended: now,
        transferred_to: None,
        vars: Vars::default(),
        runs: Vec::new(),
        turns: Vec::new(),
        after,
    }
}

/// The store notes an open call in under a millisecond; see `answer`.
const NOTED_MAX: Duration = Duration::from_millis(100);
/// An agent's goodbye is bounded by 2 s.
const TASKS_MAX: Duration = Duration::from_secs(4);
