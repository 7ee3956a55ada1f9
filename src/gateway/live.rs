//! One call on the line: its task, which lets the heart handle what happened and the arms do what it says.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use metrics::counter;
use tokio::time::timeout_at;
use tracing::error;

use super::arms::Arms;
use super::clock::CallClock;
use super::finish;
use super::house::Watched;
use super::keys::{By, Keys};
use super::mailbox::Post;
use super::translate;
use crate::actions::Plan;
use crate::call::{Blame, Call, Cause, Command, Event, Outcome, Status};
use crate::journal::{Entry, Header, Recorder, SCHEMA};
use crate::model::{LegId, Pii, Time, Vars};

/// A call and everything that is its own: the heart that decides, and the arms that do.
pub(super) struct LiveCall {
    call: Call,
    recorder: Recorder,
    clock: CallClock,
    pub(super) arms: Arms,
    keys: Keys,
    outcome: Option<Box<Outcome>>,
    /// Steps not yet in the journal.
    unwritten: Vec<Arc<Entry>>,
    /// What came with the end or behind it, and belongs to the record.
    pub(super) late: Vec<Post>,
}

impl LiveCall {
    pub(super) fn new(arms: Arms) -> LiveCall {
        LiveCall {
            call: Call::new(Arc::clone(&arms.plan)),
            recorder: Recorder::default(),
            clock: CallClock::start(),
            arms,
            keys: Keys::default(),
            outcome: None,
            unwritten: Vec::new(),
            late: Vec::new(),
        }
    }

    /// Lives the call to its end, whatever happens in it.
    pub(super) async fn live(mut self, first: Event) {
        let lived = AssertUnwindSafe(self.talk(first)).catch_unwind().await;
        let outcome = match (lived, self.outcome.take()) {
            (Ok(()), Some(outcome)) => *outcome,
            // The panic's message is on standard error; what is known of the call is in its journal.
            (_, outcome) => {
                error!(call = %self.arms.id, "a call broke; it is ended, and no other");
                counter!("ringback_calls_broken_total").increment(1);
                self.arms.let_everybody_go().await;
                let after = finish::after(&self.arms.house, &self.arms.open);
                outcome.map_or_else(|| broken(self.clock.now(), after), |outcome| *outcome)
            }
        };
        finish::finish(self, outcome).await;
    }

    async fn talk(&mut self, first: Event) {
        // Carried out before it is written down: a caller's 180 does not wait for a disk.
        self.step(first).await;
        self.arms.open_record();
        let header = self.heading();
        self.arms.house.journals.write(self.arms.id, header);
        self.write_down();
        while self.outcome.is_none() {
            let batch = match self.call.deadline() {
                Some((due, timer)) => {
                    let due = self.clock.instant(due);
                    match timeout_at(due, self.arms.door.mailbox.take()).await {
                        Ok(batch) => batch,
                        Err(_) => vec![Post::Event(Event::TimerFired(timer))],
                    }
                }
                None => self.arms.door.mailbox.take().await,
            };
            let mut batch = batch.into_iter();
            while self.outcome.is_none() {
                let Some(post) = batch.next() else { break };
                self.open_post(post).await;
            }
            self.late.extend(batch);
            self.fire_what_is_due().await;
            self.write_down();
            while let Some(ended) = self.arms.tasks.try_join_next() {
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
        let plan = Plan::clone(&self.arms.plan);
        to_line(&Header {
            ringback_journal: SCHEMA,
            call: self.arms.id,
            began_unix_ms: self.arms.open.began_unix_ms,
            plan,
        })
    }

    async fn open_post(&mut self, post: Post) {
        match post {
            Post::Event(Event::LegRinging { leg }) if !self.arms.rings(leg) => {}
            Post::Event(Event::DigitPressed { leg, digit })
                if !self.keys.is_new(self.clock.now(), leg, *digit.reveal(), By::Audio) => {}
            Post::Event(event) => self.step(event).await,
            Post::Key { leg, digit } => {
                if self.keys.is_new(self.clock.now(), leg, digit, By::Message) {
                    self.step(Event::DigitPressed { leg, digit: Pii::new(digit) }).await;
                }
            }
            Post::Early { leg, sdp } => {
                let is_news = self.arms.rings(leg);
                match self.arms.agree(leg, &sdp) {
                    Ok(true) => self.step(Event::LegSounded { leg }).await,
                    // What cannot be heard early may be heard after the answer, which has a description of its own.
                    Ok(false) | Err(_) if is_news => self.step(Event::LegRinging { leg }).await,
                    Ok(false) | Err(_) => {}
                }
            }
            Post::NotPlaced { leg, failure } => {
                if let Some(cause) = self.arms.not_placed(leg, &failure).await {
                    let retry_after_s = translate::retry_after_s(&failure);
                    self.step(Event::LegFailed { leg, cause, retry_after_s }).await;
                }
            }
            Post::Answered { leg, sdp } => {
                self.arms.answered(leg);
                let event = match self.arms.agree(leg, &sdp) {
                    Ok(_) => Event::LegAnswered { leg },
                    Err(cause) => {
                        self.arms.hang_up(leg, cause).await;
                        Event::LegFailed { leg, cause, retry_after_s: None }
                    }
                };
                self.step(event).await;
            }
            Post::Described { leg, sdp, answer, offer } => {
                if let Some(event) = self.arms.redescribe(leg, &sdp, answer.as_deref(), offer.as_deref()) {
                    self.step(event).await;
                }
            }
            // An ACK without the description that it owes (RFC 3261 §13.2.1) leaves nothing to talk over.
            Post::Acknowledged { leg } if self.arms.owes_description => {
                self.step(Event::HungUp { leg, cause: Cause::NoMedia }).await;
            }
            Post::Acknowledged { .. } => {}
            Post::Referred { leg, refer } => {
                let to = refer.to.clone();
                let allowed = self.arms.consider(leg, refer);
                self.step(Event::Referred { leg, to, allowed }).await;
            }
            Post::Replacing { leg, guest } if self.arms.may_take(leg, &guest) => {
                self.arms.guest = Some(guest);
                self.step(Event::Replacing { leg }).await;
                if let Some(guest) = self.arms.guest.take() {
                    self.arms.turn_away(guest, Cause::Unavailable).await;
                }
            }
            Post::Replacing { guest, .. } => self.arms.turn_away(guest, Cause::Forbidden).await,
            Post::PluggedIn { leg, cord, remote } => {
                if self.arms.plugged_in(leg, cord, remote) {
                    self.step(Event::LegAnswered { leg }).await;
                }
            }
            // A disk that is full, say: the call goes on.
            Post::Recorded { frames, error } => self.late.push(Post::Recorded { frames, error }),
        }
    }

    /// Lets the heart handle one event, and does what it says.
    async fn step(&mut self, event: Event) {
        if self.outcome.is_some() {
            return;
        }
        let gone = match &event {
            Event::HungUp { leg, cause } | Event::LegFailed { leg, cause, .. } => Some((*leg, *cause)),
            // Nothing else takes a leg away.
            _ => None,
        };
        if let Some(what) = note(&event) {
            self.arms.note_recording(what);
        }
        let now = self.clock.now();
        let (commands, entry) = self.recorder.step(&mut self.call, now, event);
        let entry = Arc::new(entry);
        self.unwritten.push(Arc::clone(&entry));
        // Nobody looking on is the usual case.
        let _ = self.arms.house.watch.send(Watched { call: self.arms.id, entry });
        for command in commands {
            match command {
                Command::Finish(outcome) => self.outcome = Some(outcome),
                command => {
                    if matches!(command, Command::Dial { .. }) {
                        self.arms.vars = self.call.vars().clone();
                    }
                    self.arms.carry_out(command).await;
                }
            }
        }
        if let Some((leg, cause)) = gone.filter(|(leg, _)| self.arms.legs.contains_key(leg)) {
            // The heart does not speak of it any more, but its port and its name are still taken, and a dialog that
            // only lost its media still waits for our BYE. One that is over drops the command.
            self.arms.hang_up(leg, cause).await;
        }
    }

    fn write_down(&mut self) {
        for value in self.recorder.new_values() {
            self.arms.house.journals.keep(self.arms.id, value.to_string());
        }
        for entry in std::mem::take(&mut self.unwritten) {
            self.arms.house.journals.write(self.arms.id, to_line(&*entry));
        }
    }

    pub(super) fn seal(&mut self) {
        self.write_down();
        self.arms.house.journals.write(self.arms.id, to_line(&self.recorder.seal()));
        self.arms.house.journals.close(self.arms.id);
    }
}

/// What helps to find one's way in a recording.
fn note(event: &Event) -> Option<&'static str> {
    Some(match event {
        Event::Held { leg: LegId::CALLER } => "the caller holds the line",
        Event::Resumed { leg: LegId::CALLER } => "the caller is back",
        Event::LegAnswered { .. } => "somebody else answers",
        Event::HungUp { leg, .. } if *leg != LegId::CALLER => "somebody else leaves",
        Event::Referred { .. } => "somebody wants a transfer",
        _ => return None,
    })
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
        consent: None,
    }
}
