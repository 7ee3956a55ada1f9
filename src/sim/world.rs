//! One simulated call from ring to Finish.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Random, Watch};
use crate::actions::{Connector, HttpFailure, HttpReply, Plan, Reception};
use crate::call::{Call, Cause, Command, Destination, Event, Invitation, ReferNews, Speaker, Status, Told, ToolCall};
use crate::journal::{Entry, Header, Journal, Ladder, Recorder, SCHEMA, heading, replay};
use crate::model::{Address, CallId, Codec, Digit, LegId, Party, Pii, Time, Vault};

/// A world around one call.
#[derive(Debug)]
pub struct World {
    random: Random,
    plan: Arc<Plan>,
    agenda: BTreeMap<(Time, u64), Event>,
    booked: u64,
    answered: Option<Time>,
    /// Sentences the agent was given to say.
    says: u32,
}

/// What came of a simulated call.
#[derive(Clone, Debug)]
pub struct Report {
    /// Broken promises; empty when all is well.
    pub broken: Vec<String>,
    /// The journal, as it would stand on disk.
    pub journal: String,
    /// Its personal values.
    pub vault: Vec<Value>,
    /// The record's status.
    pub status: Option<Status>,
    /// Events the call handled.
    pub events: usize,
    entries: Vec<Entry>,
}

impl Report {
    /// The call, drawn.
    pub fn ladder(&self) -> String {
        let mut ladder = Ladder::default();
        let lines = self.entries.iter().flat_map(|entry| ladder.draw(entry));
        std::iter::once(heading()).chain(lines).collect::<Vec<_>>().join("\n")
    }
}

impl World {
    /// The world of a seed.
    pub fn new(seed: u64, plan: Arc<Plan>) -> World {
        let random = Random::new(seed);
        World { random, plan, agenda: BTreeMap::new(), booked: 0, answered: None, says: 0 }
    }

    /// Lives the call to its end, and a little beyond: what the network still delivers then must change nothing.
    pub fn run(mut self) -> Report {
        let mut call = Call::new(Arc::clone(&self.plan));
        let mut recorder = Recorder::default();
        let mut watch = Watch::default();
        let mut entries = Vec::new();
        let mut vault = Vec::new();
        let mut status = None;
        let mut caller_gave_up = false;
        let mut now = Time::ZERO;
        self.caller_comes();
        while let Some((at, event)) = self.next_event(&call) {
            now = Time(at.0.max(now.0 + 1));
            let event = self.as_the_network_says(now, event);
            match &event {
                Event::HungUp { leg: LegId::CALLER, .. } if call_rings(&entries) => caller_gave_up |= !call.is_over(),
                _ => {}
            }
            if !call.is_over() {
                match &event {
                    Event::HungUp { leg, .. } | Event::LegFailed { leg, .. } => watch.left(*leg),
                    Event::ActionDone { run, .. } => watch.replied(*run),
                    _ => {}
                }
            }
            let (commands, entry) = recorder.step(&mut call, now, event);
            vault.extend(recorder.new_values());
            entries.push(entry);
            for command in &commands {
                watch.see(command);
                if let Command::Finish(outcome) = command {
                    status = Some(outcome.status);
                }
                self.react(now, command);
            }
            if let Some((_, timer)) = call.deadline().filter(|_| call.is_over()) {
                watch.left_set(timer);
            }
        }
        let mut broken = watch.verdict(caller_gave_up);
        let journal = self.write(&entries, &recorder);
        broken.extend(check_replay(&journal, &vault));
        Report { broken, journal, vault, status, events: entries.len(), entries }
    }

    fn next_event(&mut self, call: &Call) -> Option<(Time, Event)> {
        let booked = self.agenda.keys().next().copied();
        match (booked, call.deadline()) {
            (Some((at, _)), Some((due, timer))) if due <= at => Some((due, Event::TimerFired(timer))),
            (None, Some((due, timer))) => Some((due, Event::TimerFired(timer))),
            (Some(key), _) => self.agenda.remove(&key).map(|event| (key.0, event)),
            (None, None) => None,
        }
    }

    /// A caller who leaves before our answer is out has cancelled, also when the call has just said `Answer`.
    fn as_the_network_says(&self, now: Time, event: Event) -> Event {
        let on_its_way = self.answered.is_none_or(|answered| now - answered < ANSWER_TAKES);
        match event {
            Event::HungUp { leg: LegId::CALLER, .. } if on_its_way => {
                Event::HungUp { leg: LegId::CALLER, cause: Cause::Canceled }
            }
            other => other,
        }
    }

    fn book(&mut self, now: Time, in_ms: u64, event: Event) {
        let at = Time(now.0 + in_ms * 1_000_000 + self.random.below(1_000_000));
        // The network repeats itself.
        if self.random.chance(3) {
            self.booked += 1;
            self.agenda.insert((Time(at.0 + 5_000_000), self.booked), event.clone());
        }
        self.booked += 1;
        self.agenda.insert((at, self.booked), event);
    }

    fn caller_comes(&mut self) {
        let anonymous = self.random.chance(10);
        let invitation = Invitation {
            caller: Party {
                user: Pii::new(if anonymous { String::new() } else { "+441632960001".to_owned() }),
                display: Pii::new("Ada".to_owned()),
                anonymous,
            },
            called: Pii::new("100".to_owned()),
            trunk: "carrier".to_owned(),
            headers: vec![("order".to_owned(), Pii::new("42".to_owned()))],
            codec: (!self.random.chance(2)).then_some(Codec::Pcmu),
            refer_first: self.random.chance(15),
            identity: None,
        };
        self.agenda.insert((Time::ZERO, 0), Event::Invited(invitation));
        // Callers leave at any moment: while it rings, at the very answer, in the middle of anything.
        let patience_ms = match self.random.below(10) {
            0 => self.random.below(1_600),
            1 => 1_490 + self.random.below(20),
            2..6 => self.random.below(30_000),
            _ => self.random.below(120_000),
        };
        self.book(Time::ZERO, patience_ms, Event::HungUp { leg: LegId::CALLER, cause: Cause::Normal });
        for _ in 0..self.random.below(8) {
            let at = self.random.below(40_000);
            let digit = Digit::from_char(*self.random.pick(&['1', '2', '2', '9', '#'])).map(Pii::new);
            self.book_digit(at, digit);
        }
        self.moves(Time::ZERO, LegId::CALLER, patience_ms + 1);
        if self.random.chance(2) {
            let at = self.random.below(60_000);
            self.book(Time::ZERO, at, Event::EndAsked { cause: Cause::Overload });
        }
    }

    fn book_digit(&mut self, at_ms: u64, digit: Option<Pii<Digit>>) {
        if let Some(digit) = digit {
            self.book(Time::ZERO, at_ms, Event::DigitPressed { leg: LegId::CALLER, digit });
        }
    }

    fn react(&mut self, now: Time, command: &Command) {
        match command {
            Command::Answer => self.answered = Some(now),
            Command::Dial { leg, to: Destination::Agent } => self.agent_comes(now, *leg),
            Command::Dial { leg, .. } => self.target_rings(now, *leg),
            Command::TakeIn { leg } => self.guest_comes(now, *leg),
            Command::Refer { leg, .. } => self.network_is_asked(now, *leg),
            Command::Play { leg, play, what } if !what.repeat => {
                let ms = 200 + self.random.below(4_000);
                self.book(now, ms, Event::Played { leg: *leg, play: *play });
            }
            Command::Run { run, .. } => {
                let reply = self.reply();
                let ms = *self.random.pick(&[5, 80, 400, 1_499, 1_500, 2_900]);
                self.book(now, ms, Event::ActionDone { run: *run, reply });
            }
            Command::TellAgent { leg, what } => self.agent_hears(now, *leg, what),
            // Hanging up crosses with whatever the other side was about to say, which still arrives.
            _ => {}
        }
    }

    fn reply(&mut self) -> HttpReply {
        let answered = |status: u16, body: String| HttpReply::Answered { status, body: Pii::new(body) };
        match self.random.below(10) {
            0 => HttpReply::Failed(HttpFailure::Timeout),
            1 => HttpReply::Failed(HttpFailure::Unreachable),
            2 => answered(500, String::new()),
            3 => answered(200, "<html>".to_owned()),
            _ => answered(200, json!({"name": "Ada", "status": "shipped", "orders": [1, 2]}).to_string()),
        }
    }

    fn agent_comes(&mut self, now: Time, leg: LegId) {
        let flow = match &self.plan.reception {
            Reception::Agent(agent) => matches!(agent.connector, Connector::Flow(_) | Connector::Echo),
            Reception::Forward(_) | Reception::Refuse { .. } => true,
        };
        let ms = if flow { 0 } else { self.random.below(2_500) };
        let fails = !flow && self.random.chance(10);
        let event = if fails {
            Event::LegFailed { leg, cause: Cause::AgentLost, retry_after_s: None }
        } else {
            Event::LegAnswered { leg }
        };
        self.book(now, ms, event);
        if !flow && !fails && self.random.chance(15) {
            let ms = ms + self.random.below(20_000);
            self.book(now, ms, Event::HungUp { leg, cause: Cause::AgentLost });
        }
    }

    fn agent_hears(&mut self, now: Time, leg: LegId, what: &Told) {
        let speaks_ms = 300 + self.random.below(3_000);
        self.says += u32::from(matches!(what, Told::Say(_)));
        match what {
            Told::Start { first_words: None, .. } | Told::Digit(_) => {}
            Told::Start { .. } | Told::Say(_) | Told::Result { .. } => {
                self.book(now, 200, Event::AgentSpoke { leg });
                let said = Event::Said {
                    who: Speaker::Agent,
                    text: Pii::new("Certainly.".to_owned()),
                    interrupted: self.random.chance(20),
                };
                self.book(now, 200 + speaks_ms, said);
                if self.random.chance(10) {
                    self.book(now, 150 + speaks_ms, Event::BargedIn { leg, heard_ms: speaks_ms });
                }
                // Now and then a socket stalls and the end of the sentence is never reported.
                if !self.random.chance(5) {
                    self.book(now, 201 + speaks_ms, Event::AgentQuiet { leg, says: Some(self.says) });
                }
            }
        }
        if self.random.chance(60) {
            let name = *self.random.pick(&["order_status", "colleague", "choice", "goodbye", "unknown"]);
            let arguments = *self.random.pick(&["{}", "{\"reason\":\"it broke\"}", "{\"reason\":1}", "not json"]);
            let asked = ToolCall {
                leg,
                id: format!("call_{}", self.random.below(1_000_000)),
                name: name.to_owned(),
                arguments: Pii::new(arguments.to_owned()),
            };
            let ms = self.random.below(6_000);
            self.book(now, ms, Event::AgentAsked(asked));
        }
    }

    fn target_rings(&mut self, now: Time, leg: LegId) {
        let ms = self.random.below(3_000);
        match self.random.below(10) {
            0..3 => {
                let cause = *self.random.pick(&[Cause::Busy, Cause::Declined, Cause::NotFound, Cause::ServerFailure]);
                self.book(now, ms, Event::LegFailed { leg, cause, retry_after_s: None });
            }
            3 => self.book(now, ms, Event::LegRinging { leg }),
            4 => self.book(now, ms, Event::LegSounded { leg }),
            // Answers at the very moment at which it has rung too long.
            5 => self.book(now, 20_000, Event::LegAnswered { leg }),
            _ => {
                if self.random.chance(40) {
                    self.book(now, ms.saturating_sub(700), Event::LegSounded { leg });
                }
                self.book(now, ms, Event::LegAnswered { leg });
                let talk_ms = ms + self.random.below(30_000);
                self.book(now, talk_ms, Event::HungUp { leg, cause: Cause::Normal });
                self.moves(now, leg, talk_ms + 1);
            }
        }
    }

    /// Somebody who came with Replaces is answered at once, or has no codec for us; then it talks, and may refer.
    fn guest_comes(&mut self, now: Time, leg: LegId) {
        if self.random.chance(20) {
            return self.book(now, 0, Event::LegFailed { leg, cause: Cause::NoMedia, retry_after_s: None });
        }
        self.book(now, 0, Event::LegAnswered { leg });
        let talk_ms = self.random.below(30_000);
        self.book(now, talk_ms, Event::HungUp { leg, cause: Cause::Normal });
        self.moves(now, leg, 30_000);
    }

    /// A party may refer whom it talks to, some of them without leave, and others may take its place.
    fn moves(&mut self, now: Time, leg: LegId, within_ms: u64) {
        for _ in 0..self.random.below(3) {
            let ms = self.random.below(within_ms);
            let to: Address = "sip:anybody@office.test".parse().expect("a SIP URI, because it is written here");
            let allowed = !self.random.chance(20);
            self.book(now, ms, Event::Referred { leg, to: Pii::new(to), allowed });
            if self.random.chance(30) {
                // Many telephones hang up as soon as their REFER is taken.
                self.book(now, ms + 50, Event::HungUp { leg, cause: Cause::Normal });
            }
        }
        if self.random.chance(15) {
            let ms = self.random.below(within_ms);
            self.book(now, ms, Event::Replacing { leg });
        }
    }

    fn network_is_asked(&mut self, now: Time, leg: LegId) {
        let ms = self.random.below(2_000);
        let cause = *self.random.pick(&[Cause::Busy, Cause::NoAnswer, Cause::Declined, Cause::ServerFailure]);
        let which = self.random.below(6);
        let mut say = |ms, news| self.book(now, ms, Event::ReferNews { leg, news });
        match which {
            0 => say(ms, ReferNews::Refused(cause)),
            1 => {
                say(ms, ReferNews::Accepted);
                say(ms + 900, ReferNews::Failed(cause));
            }
            // It takes it, and nobody ever hears of it again.
            2 => say(ms, ReferNews::Accepted),
            3 => {
                say(ms, ReferNews::Accepted);
                self.book(now, ms + 700, Event::HungUp { leg, cause: Cause::Normal });
            }
            _ => {
                say(ms, ReferNews::Accepted);
                say(ms + 300, ReferNews::Ringing);
                say(ms + 900, ReferNews::Done);
            }
        }
    }

    fn write(&self, entries: &[Entry], recorder: &Recorder) -> String {
        let header = Header {
            ringback_journal: SCHEMA,
            call: CallId(uuid::Uuid::nil()),
            began_unix_ms: 0,
            plan: (*self.plan).clone(),
        };
        let line =
            |value: Result<String, serde_json::Error>| value.expect("our own types have string keys only") + "\n";
        let mut text = line(serde_json::to_string(&header));
        for entry in entries {
            text.push_str(&line(serde_json::to_string(entry)));
        }
        text.push_str(&line(serde_json::to_string(&recorder.seal())));
        text
    }
}

/// From the call's wish to answer until a CANCEL comes too late.
const ANSWER_TAKES: Duration = Duration::from_millis(5);

fn call_rings(entries: &[Entry]) -> bool {
    let final_response = |command: &Value| command == "answer" || command.get("reject").is_some();
    !entries.iter().any(|entry| entry.commands.iter().any(final_response))
}

fn check_replay(journal: &str, vault: &[Value]) -> Option<String> {
    let journal = match Journal::parse(journal) {
        Ok(journal) => journal,
        Err(error) => return Some(error.to_string()),
    };
    match replay(&journal, &mut Vault::from_values(vault.to_vec())) {
        Ok(replayed) => replayed.divergence.map(|found| format!("the replay parts at line {}", found.line)),
        Err(error) => Some(error.to_string()),
    }
}
