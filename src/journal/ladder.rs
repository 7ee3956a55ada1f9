//! A call drawn as a ladder: who said what to whom, top to bottom.
//!
//! Drawn from the written form, so that it needs no personal values and shows none.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use super::Entry;

/// Draws entries as they come. It remembers who is who on the call.
#[derive(Clone, Debug, Default)]
pub struct Ladder {
    lanes: BTreeMap<u64, Lane>,
}

/// The line above a ladder.
pub fn heading() -> String {
    let mut line = format!("{:>9}  ", "seconds");
    for lane in LANES {
        let _ = write!(line, "{:<WIDTH$}", lane.title());
    }
    line.trim_end().to_owned()
}

impl Ladder {
    /// The lines of one entry.
    pub fn draw(&mut self, entry: &Entry) -> Vec<String> {
        let mut lines = Vec::new();
        let (name, body) = tagged(&entry.event);
        let from = self.source(name, body);
        lines.push(line(entry.at.as_ms(), from, Lane::Call, &event_label(name, body)));
        for command in &entry.commands {
            let (name, body) = tagged(command);
            let to = self.target(name, body);
            lines.push(line(entry.at.as_ms(), Lane::Call, to, &command_label(name, body)));
        }
        lines
    }

    fn source(&self, name: &str, body: &Value) -> Lane {
        match name {
            "invited" => Lane::Caller,
            "action_done" => Lane::World,
            "timer_fired" | "end_asked" => Lane::Call,
            "said" => Lane::Agent,
            _ => self.leg(body),
        }
    }

    fn target(&mut self, name: &str, body: &Value) -> Lane {
        match name {
            "ring" | "progress" | "answer" | "reject" => Lane::Caller,
            "run" | "stop_run" => Lane::World,
            "wire" | "finish" | "turn_away" => Lane::Call,
            "take_in" => {
                self.lanes.insert(body["leg"].as_u64().unwrap_or(0), Lane::Target);
                Lane::Target
            }
            "dial" => {
                let lane = if body["to"] == "agent" { Lane::Agent } else { Lane::Target };
                self.lanes.insert(body["leg"].as_u64().unwrap_or(0), lane);
                lane
            }
            _ => self.leg(body),
        }
    }

    fn leg(&self, body: &Value) -> Lane {
        match body["leg"].as_u64() {
            Some(leg) => self.lanes.get(&leg).copied().unwrap_or(Lane::Caller),
            None => Lane::Call,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    Caller,
    Call,
    Agent,
    Target,
    World,
}

const LANES: [Lane; 5] = [Lane::Caller, Lane::Call, Lane::Agent, Lane::Target, Lane::World];
const WIDTH: usize = 11;

impl Lane {
    fn title(self) -> &'static str {
        match self {
            Lane::Caller => "caller",
            Lane::Call => "ringback",
            Lane::Agent => "agent",
            Lane::Target => "target",
            Lane::World => "world",
        }
    }
}

fn line(at_ms: u64, from: Lane, to: Lane, label: &str) -> String {
    let mut drawn = format!("{:>5}.{:03}  ", at_ms / 1000, at_ms % 1000);
    let (low, high) = (from.min(to), from.max(to));
    for lane in LANES {
        let head = match lane {
            _ if lane == from && lane == to => '●',
            _ if lane == from => '●',
            _ if lane == to && from < to => '▶',
            _ if lane == to => '◀',
            _ if lane > low && lane < high => '┼',
            _ => '│',
        };
        drawn.push(head);
        if lane != Lane::World {
            let fill = if lane >= low && lane < high { '─' } else { ' ' };
            drawn.extend(std::iter::repeat_n(fill, WIDTH - 1));
        }
    }
    drawn.push_str("  ");
    drawn.push_str(label);
    drawn
}

fn tagged(value: &Value) -> (&str, &Value) {
    match value {
        Value::String(name) => (name, &Value::Null),
        Value::Object(members) => members.iter().next().map_or(("", &Value::Null), |(name, body)| (name, body)),
        _ => ("", &Value::Null),
    }
}

fn event_label(name: &str, body: &Value) -> String {
    match name {
        "invited" => format!("INVITE from trunk {}, {}", word(&body["trunk"]), codec(&body["codec"])),
        "leg_ringing" => "ringing".to_owned(),
        "leg_sounded" => "can be heard".to_owned(),
        "leg_answered" => "answered".to_owned(),
        "leg_failed" => format!("failed: {}", word(&body["cause"])),
        "hung_up" => format!("hung up: {}", word(&body["cause"])),
        "referred" if body["allowed"] == false => "refers, without leave".to_owned(),
        "referred" => "refers".to_owned(),
        "replacing" => format!("somebody comes for the place of leg {}", body["leg"]),
        "refer_news" => format!("refer: {}", news(&body["news"])),
        "held" => "holds".to_owned(),
        "resumed" => "is back".to_owned(),
        "digit_pressed" => "key pressed".to_owned(),
        "played" => format!("play {} heard", body["play"]),
        "not_played" => format!("play {} cannot be heard", body["play"]),
        "agent_spoke" => "speaks".to_owned(),
        "agent_quiet" => "quiet".to_owned(),
        "barged_in" => format!("cut off after {} ms", body["heard_ms"]),
        "said" if body["interrupted"] == true => format!("words of {}, cut off", word(&body["who"])),
        "said" => format!("words of {}", word(&body["who"])),
        "agent_asked" => format!("wants {}", word(&body["name"])),
        "agent_fault" => format!("fault: {}", word(&body["code"])),
        "action_done" => format!("run {}: {}", body["run"], reply(&body["reply"])),
        "timer_fired" => format!("timer: {}", timer(body)),
        "end_asked" => format!("end asked: {}", word(&body["cause"])),
        other => other.to_owned(),
    }
}

fn command_label(name: &str, body: &Value) -> String {
    match name {
        "ring" => "180 ringing".to_owned(),
        "progress" => "183 early sound".to_owned(),
        "answer" => "200 answer".to_owned(),
        "reject" => format!("{} {}", body["status"], word(&body["cause"])),
        "dial" if body["to"] == "agent" => "dial agent".to_owned(),
        "dial" => format!("dial leg {}", body["leg"]),
        "refer" if body["replacing"].is_null() => "refer".to_owned(),
        "refer" => format!("refer, replacing us with leg {}", body["replacing"]),
        "take_referral" => "202 referral".to_owned(),
        "refuse_referral" => format!("no referral: {}", word(&body["cause"])),
        "refer_progress" => format!("referral: {}", news(&body["progress"])),
        "take_in" => format!("take in leg {}", body["leg"]),
        "turn_away" => format!("turn away: {}", word(&body["cause"])),
        "hang_up" => format!("hang up leg {}: {}", body["leg"], word(&body["cause"])),
        "wire" => wiring(&body["hears"]),
        "play" => play(body),
        "stop_playing" => "stop playing".to_owned(),
        "record" => "record".to_owned(),
        "set_recording" => format!("recording {}", word(&body["to"])),
        "note_consent" => format!("consent: {}", word(&body["result"])),
        "tell_agent" => format!("tell: {}", tagged(&body["what"]).0),
        "run" => format!("run {}: {}", body["run"], word(&body["request"]["method"])),
        "stop_run" => format!("stop run {}", body["run"]),
        "finish" => {
            format!("FINISH {}, {} by {}", word(&body["status"]), word(&body["cause"]), word(&body["ended_by"]))
        }
        other => other.to_owned(),
    }
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

fn codec(value: &Value) -> &str {
    value.as_str().unwrap_or("no common codec")
}

fn reply(value: &Value) -> String {
    match tagged(value) {
        ("answered", body) => format!("status {}", body["status"]),
        (_, failure) => word(failure).to_owned(),
    }
}

fn news(value: &Value) -> String {
    match tagged(value) {
        (name, Value::Null) => name.to_owned(),
        (name, cause) => format!("{name}, {}", word(cause)),
    }
}

fn timer(value: &Value) -> String {
    match tagged(value) {
        (name, Value::Null) => name.to_owned(),
        (name, of) => format!("{name} {of}"),
    }
}

fn play(body: &Value) -> String {
    let clips = body["what"]["clips"].as_array().map_or(0, Vec::len);
    let what = if body["what"]["repeat"] == true { "music".to_owned() } else { format!("{clips} clips") };
    format!("play {}: {what}", body["play"])
}

fn wiring(hears: &Value) -> String {
    let pairs: Vec<String> =
        hears.as_array().into_iter().flatten().map(|pair| format!("{} hears {}", pair[0], pair[1])).collect();
    if pairs.is_empty() { "wire: nobody".to_owned() } else { format!("wire: {}", pairs.join(", ")) }
}
