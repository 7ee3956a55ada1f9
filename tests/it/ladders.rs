//! Calls written down as prose, script and ladder in `tests/calls/*.md`, lived through by the heart itself.
//!
//! A file holds blocks: `plan` (what differs from the simulated front desk), `call` (what happens), `ladder` (what the
//! journal must draw), and, where the words matter, `words` (what is played, told and asked, in clear). Timers fire by
//! themselves. Every call is also replayed from its journal and watched for the promises of the simulated world.
//! `RINGBACK_UPDATE=1 cargo test ladders` writes what came out into the files; read the difference before committing it.

use std::fmt::Write as _;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use ringback::actions::{
    Agent, Connector, Consent, Failure, Fallback, Forward, HttpFailure, HttpReply, Menu, MenuOption, Plan, Prompt,
    Reception, Target, Template, TransferTo, Verb,
};
use ringback::call::{
    Call, Cause, Command, Destination, Event, Invitation, Outcome, ReferNews, Speaker, Told, ToolCall,
};
use ringback::journal::{Entry, Header, Journal, Ladder, Recorder, SCHEMA, heading, replay};
use ringback::model::{CallId, Codec, Digit, LegId, Party, Pii, PlayId, RunId, Time, Vault};
use ringback::sim::{self, Watch};
use serde_json::Value;

use crate::source::{files, root};

macro_rules! ladders {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            live(stringify!($name));
        })*

        #[test]
        fn every_ladder_has_its_test() {
            let named = [$(stringify!($name)),*];
            for (path, _) in files("tests/calls", "md") {
                let stem = path.trim_start_matches("tests/calls/").trim_end_matches(".md");
                assert!(named.contains(&stem), "{path} has no line in tests/it/ladders.rs");
            }
        }
    };
}

ladders! {
    agent_asks_nonsense
    agent_is_lost
    agent_looks_up_an_order
    anonymous_caller
    api_is_slow
    call_is_refused
    call_is_too_long
    cancel_crosses_the_answer
    caller_gives_up_while_it_rings
    caller_holds_the_line
    caller_interrupts_the_greeting
    forward_to_another_trunk
    forward_with_early_media
    greeting_by_name
    hang_up_while_somebody_rings
    hang_up_while_the_agent_speaks
    lookup_hangs
    menu_without_a_match
    operator_ends_the_call
    recording_is_announced
    recording_is_asked_for
    recording_is_refused
    recording_stops_and_goes
    refer_by_the_caller
    refer_by_the_target
    replaced_by_another_telephone
    transfer_by_refer
    transfer_finds_nobody
    transfer_from_an_agent
    transfer_hears_the_target
    transfer_to_a_fallback
    transfer_while_a_menu_waits
    transfer_while_the_caller_leaves
}

fn live(name: &str) {
    let path = root().join("tests/calls").join(format!("{name}.md"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let rewritten = rewrite(&text).unwrap_or_else(|what| panic!("tests/calls/{name}.md:{what}"));
    if std::env::var_os("RINGBACK_UPDATE").is_some() {
        fs::write(&path, rewritten).expect("the ladder can be written");
        return;
    }
    if let Some((at, (written, now))) = text.lines().zip(rewritten.lines()).enumerate().find(|(_, (a, b))| a != b) {
        panic!(
            "tests/calls/{name}.md:{}:\n written  {written}\n now      {now}\n\nall of it:\n{rewritten}\n\
             → if this is right, RINGBACK_UPDATE=1 cargo test ladders",
            at + 1
        );
    }
    assert_eq!(text.lines().count(), rewritten.lines().count(), "tests/calls/{name}.md ends elsewhere:\n{rewritten}");
}

/// The file as it should be: every `ladder` and `words` block filled in from the call before it.
fn rewrite(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut plan = sim::plan();
    let mut lived: Option<Lived> = None;
    let mut drawn = 0;
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        out.push_str(line);
        out.push('\n');
        let Some(kind) = line.strip_prefix("```").filter(|kind| !kind.is_empty()) else { continue };
        let mut block = Vec::new();
        loop {
            let (at, line) = lines.next().ok_or(format!("{}: this block has no end", at + 1))?;
            if line == "```" {
                break;
            }
            block.push((at + 1, line));
        }
        let last = || lived.as_ref().ok_or(format!("{}: no call stands before this", at + 1));
        let (now_plan, now_lived, content) = match kind {
            "plan" => (Some(read_plan(&block)?), None, joined(&block)),
            "call" => (None, Some(Lived::of(&plan, &block)?), joined(&block)),
            "ladder" => (None, None, last()?.ladder.clone()),
            "words" => (None, None, last()?.words.clone()),
            other => return Err(format!("{}: there is no block {other:?}; use plan, call, ladder or words", at + 1)),
        };
        drawn += usize::from(kind == "ladder");
        plan = now_plan.unwrap_or(plan);
        lived = now_lived.or(lived);
        out.push_str(&content);
        out.push_str("```\n");
    }
    if drawn == 0 { Err("1: no ladder is drawn".to_owned()) } else { Ok(out) }
}

fn joined(block: &[(usize, &str)]) -> String {
    block.iter().fold(String::new(), |text, (_, line)| text + line + "\n")
}

/// A call that was lived through.
struct Lived {
    ladder: String,
    words: String,
}

impl Lived {
    fn of(plan: &Plan, script: &[(usize, &str)]) -> Result<Lived, String> {
        let mut stage = Stage::new(plan.clone());
        for (line, text) in script.iter().filter(|(_, text)| !text.trim().is_empty() && !text.starts_with('#')) {
            stage.live(text).map_err(|what| format!("{line}: {what}: {text}"))?;
        }
        stage.timers_until(Time(u64::MAX));
        let line = script.first().map_or(0, |(line, _)| *line);
        stage.close().map_err(|what| format!("{line}: {what}"))
    }
}

struct Stage {
    plan: Plan,
    call: Call,
    recorder: Recorder,
    watch: Watch,
    now: Time,
    entries: Vec<Entry>,
    vault: Vec<Value>,
    legs: usize,
    plays: u32,
    /// What can still be heard to its end.
    playing: Option<PlayId>,
    runs: Vec<RunId>,
    gave_up: bool,
    words: String,
}

impl Stage {
    fn new(plan: Plan) -> Stage {
        Stage {
            call: Call::new(Arc::new(plan.clone())),
            plan,
            recorder: Recorder::default(),
            watch: Watch::default(),
            now: Time::ZERO,
            entries: Vec::new(),
            vault: Vec::new(),
            legs: 0,
            plays: 0,
            playing: None,
            runs: Vec::new(),
            gave_up: false,
            words: String::new(),
        }
    }

    /// Lives through one line of a script, and the timers before it.
    fn live(&mut self, text: &str) -> Result<(), String> {
        let (time, what) = text.trim().split_once(' ').ok_or("a time and what happened")?;
        let at = read_time(time)?;
        if at.as_ms() < self.now.as_ms() {
            return Err("the times go back".to_owned());
        }
        self.timers_until(at);
        let event = read_event(what.trim(), self)?;
        self.step(at, event);
        Ok(())
    }

    /// Fires what is due at or before this time. At the same nanosecond the timer wins, as in the gateway's batch.
    fn timers_until(&mut self, at: Time) {
        while let Some((due, timer)) = self.call.deadline().filter(|(due, _)| *due <= at) {
            assert!(self.entries.len() < 10_000, "timers fire for ever: {timer:?} at {due:?}");
            self.step(due, Event::TimerFired(timer));
        }
    }

    fn step(&mut self, at: Time, event: Event) {
        self.now = Time(at.0.max(self.now.0 + u64::from(!self.entries.is_empty())));
        if !self.call.is_over() {
            match &event {
                Event::HungUp { leg, .. } | Event::LegFailed { leg, .. } => {
                    self.gave_up |= *leg == LegId::CALLER && !self.is_answered();
                    self.watch.left(*leg);
                }
                Event::ActionDone { run, .. } => self.watch.replied(*run),
                _ => {}
            }
        }
        let (commands, entry) = self.recorder.step(&mut self.call, self.now, event);
        self.vault.extend(self.recorder.new_values());
        self.entries.push(entry);
        for command in &commands {
            self.watch.see(command);
            self.note(command);
        }
    }

    fn is_answered(&self) -> bool {
        self.entries.iter().flat_map(|entry| &entry.commands).any(|command| command == "answer")
    }

    fn note(&mut self, command: &Command) {
        match command {
            Command::Dial { leg, to } => {
                self.legs = usize::from(leg.0);
                match to {
                    Destination::Agent => {}
                    Destination::Address(to) => self.say(&format!("dial {leg}: {}", to.reveal().as_str())),
                    Destination::Referred { by, to } => {
                        self.say(&format!("dial {leg} as {by} said: {}", to.reveal().as_str()));
                    }
                    Destination::Trunk { trunk, to } => {
                        self.say(&format!("dial {leg} by {trunk}: {}", to.reveal().as_str()));
                    }
                }
            }
            Command::TakeIn { leg } => self.legs = usize::from(leg.0),
            Command::Refer { leg, to, .. } => self.say(&format!("refer {leg}: {}", to.reveal().as_str())),
            Command::Play { play, what, .. } => {
                self.plays = play.0;
                self.playing = (!what.repeat).then_some(*play);
                let clips: Vec<&str> = what.clips.iter().map(|clip| clip.reveal().as_str()).collect();
                let repeat = if what.repeat { ", again and again" } else { "" };
                self.say(&format!("play {}: {}{repeat}", play.0, clips.join(" + ")));
            }
            Command::StopPlaying { .. } => self.playing = None,
            Command::Run { run, request } => {
                self.runs.push(*run);
                self.say(&format!("run {}: {} {}", run.0, request.method.as_str(), request.url.reveal()));
            }
            Command::TellAgent { what, .. } => {
                let told = match what {
                    Told::Start { instructions, first_words } => {
                        let first = first_words.as_ref().map_or("waits for the caller", |words| words.reveal());
                        format!("start: {} | {first}", instructions.reveal())
                    }
                    Told::Result { id, output, respond } => {
                        let quiet = if *respond { "" } else { ", to be taken in silence" };
                        format!("result of {id}{quiet}: {}", output.reveal())
                    }
                    Told::Say(text) => format!("say: {}", text.reveal()),
                    Told::Digit(digit) => format!("key {}", digit.reveal().as_char()),
                };
                self.say(&format!("agent, {told}"));
            }
            Command::Finish(outcome) => self.sum_up(outcome),
            // The ladder shows the rest whole.
            _ => {}
        }
    }

    fn sum_up(&mut self, outcome: &Outcome) {
        for run in &outcome.runs {
            let result = serde_json::to_value(run.outcome.result).expect("an enum without content is JSON");
            let result = result.as_str().unwrap_or("?");
            self.say(&format!("run {} was {} ({}): {result}, {}", run.run.0, run.action, run.kind, run.outcome.code));
        }
        if let Some(to) = &outcome.transferred_to {
            self.say(&format!("transferred to {}", to.reveal().as_str()));
        }
        for turn in &outcome.turns {
            let cut = if turn.interrupted { " (cut off)" } else { "" };
            self.say(&format!("{:?}: {}{cut}", turn.who, turn.text.reveal()));
        }
        if let Some(consent) = &outcome.consent {
            self.say(&format!("consent: {:?} after {} ms", consent.result, consent.at.as_ms()));
        }
        if !outcome.after.is_empty() {
            self.say(&format!("after the call: {}", outcome.after.join(", ")));
        }
    }

    fn say(&mut self, what: &str) {
        let ms = self.now.as_ms();
        let _ = writeln!(self.words, "{:>5}.{:03}  {what}", ms / 1000, ms % 1000);
    }

    fn close(self) -> Result<Lived, String> {
        let mut broken = self.watch.verdict(self.gave_up);
        broken.extend(replayed(self.plan, &self.entries, &self.recorder, self.vault));
        if !broken.is_empty() {
            return Err(broken.join("; "));
        }
        let mut ladder = Ladder::default();
        let mut drawn = heading() + "\n";
        for line in self.entries.iter().flat_map(|entry| ladder.draw(entry)) {
            drawn.push_str(line.trim_end());
            drawn.push('\n');
        }
        Ok(Lived { ladder: drawn, words: self.words })
    }
}

// Writes the journal, reads it, and lets a fresh call live it again.
fn replayed(plan: Plan, entries: &[Entry], recorder: &Recorder, vault: Vec<Value>) -> Option<String> {
    let header = Header { ringback_journal: SCHEMA, call: CallId(uuid::Uuid::nil()), began_unix_ms: 0, plan };
    let mut text = serde_json::to_string(&header).unwrap() + "\n";
    for entry in entries {
        text += &(serde_json::to_string(entry).unwrap() + "\n");
    }
    text += &(serde_json::to_string(&recorder.seal()).unwrap() + "\n");
    let journal = match Journal::parse(&text) {
        Ok(journal) => journal,
        Err(error) => return Some(error.to_string()),
    };
    match replay(&journal, &mut Vault::from_values(vault)) {
        Ok(replayed) => replayed.divergence.map(|found| format!("the replay parts at line {}", found.line)),
        Err(error) => Some(error.to_string()),
    }
}

fn read_event(text: &str, stage: &Stage) -> Result<Event, String> {
    let (who, what) = text.split_once(' ').ok_or("who, and what they did")?;
    let event = match who {
        "caller" => caller_does(what.trim()),
        "agent" => leg_does(LegId(1), what.trim()),
        "operator" => what.strip_prefix("ends the call: ").and_then(cause).map(|cause| Event::EndAsked { cause }),
        "leg" => numbered(what, stage.legs, "leg")
            .map(|(n, what)| u16::try_from(n).ok().and_then(|n| leg_does(LegId(n), what)))?,
        "play" => {
            let (n, what) = numbered(what, usize::try_from(stage.plays).unwrap(), "play")?;
            let play = PlayId(u32::try_from(n).unwrap());
            match (what, stage.playing == Some(play)) {
                ("cannot be heard", true) => Some(Event::NotPlayed { leg: LegId::CALLER, play }),
                ("heard", true) | ("heard, too late", false) => Some(Event::Played { leg: LegId::CALLER, play }),
                ("heard", false) => return Err("that was stopped or replaced, or has no end".to_owned()),
                _ => None,
            }
        }
        "run" => {
            let last = stage.runs.last().map_or(0, |run| run.0);
            let (n, what) = numbered(what, usize::try_from(last).unwrap(), "run")?;
            let run = RunId(u32::try_from(n).unwrap());
            reply(what).map(|reply| Event::ActionDone { run, reply })
        }
        _ => None,
    };
    event.ok_or("nobody here knows how to do that".to_owned())
}

fn read_time(text: &str) -> Result<Time, String> {
    let (seconds, fraction) = text.split_once('.').ok_or("a time looks like 1.250")?;
    let parse = |part: &str| part.parse::<u64>().map_err(|_| "a time looks like 1.250".to_owned());
    if fraction.len() != 3 {
        return Err("a time has three digits after the point".to_owned());
    }
    Ok(Time::from_ms(parse(seconds)? * 1000 + parse(fraction)?))
}

// `2 answers` into the number, known to exist, and the rest.
fn numbered<'a>(text: &'a str, last: usize, what: &str) -> Result<(usize, &'a str), String> {
    let (number, rest) = text.split_once(' ').ok_or(format!("which {what}, and what it did"))?;
    let number: usize = number.parse().map_err(|_| format!("{number:?} is no number of a {what}"))?;
    if number > last { Err(format!("there is no {what} {number} yet")) } else { Ok((number, rest.trim())) }
}

fn caller_does(what: &str) -> Option<Event> {
    let leg = LegId::CALLER;
    if let Some(how) = what.strip_prefix("invites") {
        return invites(how.trim());
    }
    match what.split_once(' ')? {
        ("presses", key) => {
            let digit = Digit::from_char(key.chars().next()?).map(Pii::new)?;
            Some(Event::DigitPressed { leg, digit })
        }
        ("holds", "the line") => Some(Event::Held { leg }),
        ("is", "back") => Some(Event::Resumed { leg }),
        ("hangs", "up") => Some(Event::HungUp { leg, cause: Cause::Normal }),
        ("vanishes:", why) => cause(why).map(|cause| Event::HungUp { leg, cause }),
        ("says", words) => Some(said(Speaker::Caller, words, false)),
        ("refers", _) | ("is", _) => leg_does(leg, what),
        ("cuts", rest) => {
            let ms = rest.strip_prefix("in after ")?.strip_suffix(" ms")?;
            Some(Event::BargedIn { leg: LegId(1), heard_ms: ms.parse().ok()? })
        }
        _ => None,
    }
}

fn invites(how: &str) -> Option<Event> {
    let refer_first = how == "by a trunk that refers";
    let (anonymous, codec) = match how {
        "" | "by a trunk that refers" => (false, Some(Codec::Pcmu)),
        "with A-law" => (false, Some(Codec::Pcma)),
        "anonymously" => (true, Some(Codec::Pcmu)),
        "without a common codec" => (false, None),
        _ => return None,
    };
    Some(Event::Invited(Invitation {
        caller: Party {
            user: Pii::new(if anonymous { String::new() } else { "+441632960001".to_owned() }),
            display: Pii::new(if anonymous { String::new() } else { "Ada".to_owned() }),
            anonymous,
        },
        called: Pii::new("100".to_owned()),
        trunk: "carrier".to_owned(),
        headers: Vec::new(),
        codec,
        refer_first,
        identity: None,
    }))
}

fn leg_does(leg: LegId, what: &str) -> Option<Event> {
    match what.split_once(' ').unwrap_or((what, "")) {
        ("rings", "") => Some(Event::LegRinging { leg }),
        ("can", "be heard") => Some(Event::LegSounded { leg }),
        ("answers", "") => Some(Event::LegAnswered { leg }),
        ("fails", why) => {
            let (why, retry_after_s) = match why.split_once(", again in ") {
                Some((why, seconds)) => (why, Some(seconds.strip_suffix(" s")?.parse().ok()?)),
                None => (why, None),
            };
            cause(why).map(|cause| Event::LegFailed { leg, cause, retry_after_s })
        }
        ("hangs", "up") => Some(Event::HungUp { leg, cause: Cause::Normal }),
        ("leaves", "") => Some(Event::HungUp { leg, cause: Cause::AgentLost }),
        ("refers", rest) => {
            let (to, allowed) = match rest.strip_suffix(", without leave") {
                Some(to) => (to, false),
                None => (rest, true),
            };
            let to = Pii::new(to.strip_prefix("to ")?.parse().ok()?);
            Some(Event::Referred { leg, to, allowed })
        }
        ("is", "to be replaced") => Some(Event::Replacing { leg }),
        ("is", news) if news.starts_with("moved: ") => {
            let news = match news.strip_prefix("moved: ")?.split_once(", ") {
                None => serde_json::from_value(Value::String(news.strip_prefix("moved: ")?.to_owned())).ok()?,
                Some(("failed", why)) => ReferNews::Failed(cause(why)?),
                Some(("refused", why)) => ReferNews::Refused(cause(why)?),
                Some(_) => return None,
            };
            Some(Event::ReferNews { leg, news })
        }
        ("presses", key) => {
            let digit = Digit::from_char(key.chars().next()?).map(Pii::new)?;
            Some(Event::DigitPressed { leg, digit })
        }
        ("speaks", "") => Some(Event::AgentSpoke { leg }),
        ("is", "quiet") => Some(Event::AgentQuiet { leg, says: None }),
        ("faults:", code) => Some(Event::AgentFault { leg, code: code.to_owned() }),
        ("said", words) => Some(said(Speaker::Agent, words, false)),
        ("was", rest) => rest.strip_prefix("cut off: ").map(|words| said(Speaker::Agent, words, true)),
        ("asks", rest) => {
            let (name, arguments) = rest.split_once(' ')?;
            let id = format!("ask_{name}");
            Some(Event::AgentAsked(ToolCall {
                leg,
                id,
                name: name.to_owned(),
                arguments: Pii::new(arguments.to_owned()),
            }))
        }
        _ => None,
    }
}

fn said(who: Speaker, words: &str, interrupted: bool) -> Event {
    Event::Said { who, text: Pii::new(words.to_owned()), interrupted }
}

fn reply(what: &str) -> Option<HttpReply> {
    match what.split_once(' ')? {
        ("answers", rest) => {
            let (status, body) = rest.split_once(' ').unwrap_or((rest, ""));
            Some(HttpReply::Answered { status: status.parse().ok()?, body: Pii::new(body.to_owned()) })
        }
        ("fails:", why) => {
            let why: HttpFailure = serde_json::from_value(Value::String(why.to_owned())).ok()?;
            Some(HttpReply::Failed(why))
        }
        _ => None,
    }
}

fn cause(name: &str) -> Option<Cause> {
    serde_json::from_value(Value::String(name.to_owned())).ok()
}

// The front desk of the simulated world, changed as the block says.
fn read_plan(block: &[(usize, &str)]) -> Result<Plan, String> {
    let from = block.first().map_or(0, |(line, _)| *line);
    let table: toml_edit::DocumentMut = joined(block).parse().map_err(|error| format!("{from}: {error}"))?;
    let mut plan = sim::plan();
    for (key, value) in table.iter() {
        change(&mut plan, key, value).ok_or(format!("{from}: {key} = {value}: no such wish for a plan"))?;
    }
    Ok(plan)
}

fn change(plan: &mut Plan, key: &str, value: &toml_edit::Item) -> Option<()> {
    let millis = || value.as_integer().and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis);
    let text = || value.as_str().map(str::to_owned);
    match key {
        "refuse" => {
            let status = u16::try_from(value.as_integer()?).ok()?;
            plan.reception = Reception::Refuse { status, reason: None, retry_after_s: Some(5) };
        }
        "forward" => {
            let to = value.as_str().filter(|to| !to.is_empty()).map(Template::parse).transpose().ok()?;
            let (trunk, ring) = ("carrier-b".to_owned(), Duration::from_secs(20));
            plan.reception = Reception::Forward(Forward { trunk, to, ring });
        }
        "agent" => {
            agent(plan)?.connector = match value.as_str()? {
                "flow" => Connector::Flow("desk".to_owned()),
                "echo" => Connector::Echo,
                "vendor" => vendor(None),
                _ => return None,
            };
        }
        "first_words" => agent(plan)?.connector = vendor(Some(Template::parse(value.as_str()?).ok()?)),
        "fallback" => agent(plan)?.fallback = text().filter(|id| id != "none"),
        "lookups" => agent(plan)?.before.truncate(usize::try_from(value.as_integer()?).ok()?),
        "ring_budget_ms" => agent(plan)?.ring_budget = millis()?,
        "duration_max_ms" => agent(plan)?.duration_max = millis()?,
        "record" => agent(plan)?.record = value.as_bool()?,
        "consent" => {
            let clips = || vec![Template::parse("recorded.wav").expect("is a template")];
            let prompt = Prompt { clips: clips(), text: None };
            agent(plan)?.consent = match value.as_str()? {
                "announce" => Consent::Announce(prompt),
                "ask" => {
                    let agree =
                        MenuOption { digit: Digit::from_char('1')?, label: "agree".to_owned(), set: Vec::new() };
                    let wait = Duration::from_secs(5);
                    Consent::Ask(Menu { prompt, options: vec![agree], no_match: Prompt::default(), wait, tries: 2 })
                }
                _ => return None,
            };
        }
        "targets" => {
            let targets: Vec<Target> =
                value.as_array()?.iter().map(|to| Some(target(to.as_str()?))).collect::<Option<_>>()?;
            each_transfer(plan, |to| to.targets.clone_from(&targets));
        }
        "method" => {
            let method = serde_json::from_value(Value::String(text()?)).ok()?;
            each_transfer(plan, |to| to.method = Some(method));
        }
        "early_media" => {
            let hears = value.as_bool()?;
            each_transfer(plan, |to| to.early_media = Some(hears));
        }
        "music" => {
            let music = value.as_str().filter(|clip| !clip.is_empty()).map(Template::parse).transpose().ok()?;
            each_transfer(plan, |to| to.music.clone_from(&music));
        }
        "on_busy" => {
            let night = Fallback::Ring(target(value.as_str()?));
            each_transfer(plan, |to| _ = to.fallback.insert(Failure::Busy, night.clone()));
        }
        _ => return None,
    }
    Some(())
}

fn agent(plan: &mut Plan) -> Option<&mut Agent> {
    match &mut plan.reception {
        Reception::Agent(agent) => Some(agent),
        Reception::Forward(_) | Reception::Refuse { .. } => None,
    }
}

fn vendor(first_words: Option<Template>) -> Connector {
    Connector::Vendor {
        name: "vendor".to_owned(),
        settings: Value::Null,
        instructions: Template::parse("Help {{customer.name | the caller}}.").unwrap(),
        first_words,
        secret: None,
    }
}

fn target(to: &str) -> Target {
    Target { to: Template::parse(to).unwrap(), ring: Duration::from_secs(20) }
}

fn each_transfer(plan: &mut Plan, change: impl Fn(&mut TransferTo)) {
    let workflows = plan.workflows.values_mut().flat_map(|workflow| &mut workflow.steps).map(|step| &mut step.verb);
    let tools = match &mut plan.reception {
        Reception::Agent(agent) => agent.during.iter_mut().map(|action| &mut action.verb).collect(),
        Reception::Forward(_) | Reception::Refuse { .. } => Vec::new(),
    };
    for verb in workflows.chain(tools) {
        if let Verb::Transfer(to) = verb {
            change(Arc::make_mut(to));
        }
    }
}

#[test]
fn a_script_that_makes_no_sense_is_refused_with_its_line() {
    let file = |script: &str| format!("```call\n{script}\n```\n```ladder\n```\n");
    let complaint = |script: &str| rewrite(&file(script)).unwrap_err();

    assert!(complaint("0.000 caller dances").starts_with("2: nobody here knows"));
    assert!(complaint("0.000 caller invites\n1.000 play 7 heard").starts_with("3: there is no play 7 yet"));
    assert!(complaint("0.000 caller invites\n2.000 agent answers\n1.000 caller hangs up").contains("go back"));
    assert!(rewrite("```plan\nmood = \"bad\"\n```\n").unwrap_err().contains("no such wish"));
}
