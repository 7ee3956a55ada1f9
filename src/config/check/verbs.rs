//! The verbs, wherever they stand: in an action's file or in a step.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json_path::JsonPath;

use super::{At, Check, Kind, Mistake, NAMESPACES, code, head, inside};
use crate::actions::{
    Api, Failure, Fallback, HangUp, Menu, MenuOption, Method, Place, Prompt, Say, Target, Template, TransferTo, Verb,
    Waiting,
};
use crate::config::raw;
use crate::model::{Address, Digit, Vars, limits};

/// The tables of a file or step, of which exactly one must be there.
pub(super) struct Kinds<'a> {
    pub say: &'a Option<raw::Say>,
    pub menu: &'a Option<raw::Menu>,
    pub api: &'a Option<raw::Api>,
    pub transfer: &'a Option<raw::Transfer>,
    pub hang_up: &'a Option<raw::HangUp>,
    pub recording: &'a Option<raw::Recording>,
}

impl Kinds<'_> {
    /// The names of the tables that are there.
    pub(super) fn there(&self) -> Vec<&'static str> {
        let there = [
            self.say.is_some(),
            self.menu.is_some(),
            self.api.is_some(),
            self.transfer.is_some(),
            self.hang_up.is_some(),
            self.recording.is_some(),
        ];
        Verb::KINDS.into_iter().zip(there).filter(|(_, there)| *there).map(|(name, _)| name).collect()
    }
}

impl Check<'_> {
    /// The verb of a place that holds exactly one; the caller has seen to that.
    pub(super) fn verb(&mut self, at: &At, kinds: &Kinds<'_>) -> Option<Verb> {
        if let Some(say) = kinds.say {
            Some(self.say(&at.key("say"), say).into())
        } else if let Some(menu) = kinds.menu {
            Some(self.menu(&at.key("menu"), menu).into())
        } else if let Some(api) = kinds.api {
            Some(self.api(&at.key("api"), api).into())
        } else if let Some(transfer) = kinds.transfer {
            Some(self.transfer(&at.key("transfer"), transfer).into())
        } else if let Some(hang_up) = kinds.hang_up {
            Some(self.hang_up(&at.key("hang_up"), hang_up).into())
        } else {
            kinds.recording.as_ref().map(|recording| recording.set.into())
        }
    }

    /// A text with variables. One that is wrong is reported and replaced by nothing.
    pub(super) fn template(&mut self, at: &At, text: &str) -> Template {
        let (template, error) = match Template::parse(text) {
            Ok(template) => (Some(template), None),
            Err(error) => (Template::parse("").ok(), Some(error)),
        };
        if let Some(error) = error {
            self.report(Mistake::error(code::TEMPLATE, at.offset(error.offset), error.to_string()));
        }
        let template = template.expect("an empty template is right, because it holds no variable");
        let mut from = 0;
        for name in template.variables() {
            // Names stand in the text in this order, so each is looked for behind the one before.
            let found = text[from..].find(name).map_or(from, |found| from + found);
            from = found + name.len();
            self.used.push((at.offset(found), name.to_owned()));
        }
        template
    }

    pub(super) fn prompt(&mut self, at: &At, prompt: &raw::Prompt) -> Prompt {
        let at_clips = at.key("clips");
        Prompt {
            clips: prompt.clips.iter().enumerate().map(|(n, clip)| self.clip(&at_clips.item(n), clip)).collect(),
            text: prompt.text.as_ref().map(|text| self.template(&at.key("text"), text)),
        }
    }

    fn needed_prompt(&mut self, at: &At, prompt: &raw::Prompt) -> Prompt {
        if prompt.clips.is_empty() && prompt.text.is_none() {
            self.report(
                Mistake::error(code::EMPTY, at.clone(), "there is nothing to say here")
                    .hint(r#"write prompt = { clips = ["hello.wav"] } or { text = "Hello" }"#)
                    .absence(),
            );
        }
        self.prompt(at, prompt)
    }

    fn clip(&mut self, at: &At, name: &str) -> Template {
        let template = self.template(at, name);
        // A value may hold what it likes; only what the admin wrote is judged here.
        let literal = template.variables().next().is_none();
        if let Err(why) = inside(&name.replace("{{", "").replace("}}", "").replace(['|', ':'], "")) {
            let hint = "write it relative to the folder of prompts, as \"names/ada.wav\"";
            self.report(Mistake::error(code::PATH, at.clone(), format!("a clip {why}")).hint(hint));
        } else if !name.ends_with(".wav") {
            self.report(
                Mistake::error(code::NO_CLIP, at.clone(), "a clip is a WAV file")
                    .hint("let its name end in .wav; for words write text = \"…\""),
            );
        } else if literal {
            self.wanted.clips.push((at.clone(), name.to_owned()));
        }
        template
    }

    fn say(&mut self, at: &At, say: &raw::Say) -> Say {
        Say { prompt: self.needed_prompt(&at.key("prompt"), &say.prompt), interruptible: say.interruptible }
    }

    fn menu(&mut self, at: &At, menu: &raw::Menu) -> Menu {
        let mut options: Vec<MenuOption> = Vec::new();
        for (n, option) in menu.options.iter().enumerate() {
            let at = at.key("options").item(n);
            for name in option.set.keys() {
                self.sets(&at.key("set").key(name).on_key(), name);
            }
            let mut letters = option.digit.chars();
            let Some((label, None)) = letters.next().map(|label| (label, letters.next())) else { continue };
            let Some(digit) = Digit::from_char(label) else {
                let mistake = Mistake::error(code::DIGIT, at.key("digit"), "this is no telephone key");
                self.report(mistake.hint("one of 0 to 9, `*`, `#`, A to D"));
                continue;
            };
            if options.iter().any(|earlier| earlier.digit == digit) {
                self.report(Mistake::error(code::TWICE, at.key("digit"), "this key stands for another option already"));
            }
            let set = option.set.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
            options.push(MenuOption { digit, label: option.label.clone(), set });
        }
        Menu {
            prompt: self.needed_prompt(&at.key("prompt"), &menu.prompt),
            options,
            no_match: self.prompt(&at.key("no_match"), &menu.no_match),
            wait: Duration::from_millis(menu.wait_ms),
            tries: menu.tries,
        }
    }

    fn api(&mut self, at: &At, api: &raw::Api) -> Api {
        self.url(&at.key("url"), &api.url);
        let url = self.template(&at.key("url"), &api.url);
        for name in api.query.keys() {
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~[]".contains(&b)) {
                let mistake = Mistake::error(code::NAME, at.key("query").key(name).on_key(), "no name of a parameter");
                self.report(mistake.hint("write letters, digits and `-._~`; only values are encoded"));
            }
        }
        for name in api.headers.keys() {
            self.header(&at.key("headers").key(name).on_key(), name);
        }
        let body = api.body.as_ref().map(|body| self.body(&at.key("body"), body, api));
        let mut save = Vec::new();
        for (name, path) in &api.save {
            let at = at.key("save").key(name);
            self.sets(&at.on_key(), name);
            match JsonPath::parse(path) {
                Ok(path) => save.push((name.clone(), path)),
                Err(error) => self.report(
                    Mistake::error(code::JSON_PATH, at.offset(error.position()), "this is no JSONPath")
                        .hint("write it as $.contacts[0].name (RFC 9535)"),
                ),
            }
        }
        Api {
            method: api.method,
            url,
            query: self.templates(&at.key("query"), &api.query),
            headers: self.templates(&at.key("headers"), &api.headers),
            body,
            bearer: api.bearer.as_ref().map(|secret| self.secret(&at.key("bearer"), secret)),
            timeout: Duration::from_millis(api.timeout_ms),
            save,
            waiting: api.waiting.as_ref().map(|waiting| self.waiting(&at.key("waiting"), waiting)),
        }
    }

    fn templates(&mut self, at: &At, texts: &BTreeMap<String, String>) -> Vec<(String, Template)> {
        texts.iter().map(|(name, text)| (name.clone(), self.template(&at.key(name), text))).collect()
    }

    fn header(&mut self, at: &At, name: &str) {
        // RFC 9110 §5.6.2: a token.
        let is_token =
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
        let fault = match name.to_ascii_lowercase().as_str() {
            _ if !is_token => Some(("this is no name of a header", "write letters, digits and `-`")),
            "host" | "content-length" | "transfer-encoding" | "connection" | "upgrade" | "te" | "trailer" => {
                Some(("this header is written by us", "leave it out; the URL decides whom we talk to"))
            }
            "authorization" | "proxy-authorization" | "cookie" => {
                Some(("a credential does not stand in the configuration", r#"write bearer = { env = "NAME" }"#))
            }
            _ => None,
        };
        if let Some((message, hint)) = fault {
            self.report(Mistake::error(code::NAME, at.clone(), message).hint(hint));
        }
    }

    fn body(&mut self, at: &At, body: &str, api: &raw::Api) -> Template {
        if api.method == Method::Get {
            let mistake = Mistake::error(code::CONFLICT, at.on_key(), "a GET request has no body");
            self.report(mistake.hint(r#"write method = "POST", or put values into query"#));
        }
        let template = self.template(at, body);
        let is_json = !api.headers.keys().any(|name| name.eq_ignore_ascii_case("content-type"));
        let empty = template.render(&Vars::default(), Place::Json);
        // Variables become null or their fallback, which fits both "{{name}}" and {{count}}.
        if is_json && let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(empty.reveal()) {
            let what = if error.is_eof() { "the JSON document breaks off" } else { "this is no JSON document" };
            self.report(
                Mistake::error(code::BODY, at.clone(), what)
                    .hint(r#"write body = '{"name": "{{customer.name}}"}', or give a content-type header"#),
            );
        }
        template
    }

    fn waiting(&mut self, at: &At, waiting: &raw::Waiting) -> Waiting {
        Waiting {
            after: Duration::from_millis(waiting.after_ms),
            prompt: self.needed_prompt(&at.key("prompt"), &waiting.prompt),
            music: waiting.music.as_ref().map(|clip| self.clip(&at.key("music"), clip)),
        }
    }

    fn transfer(&mut self, at: &At, transfer: &raw::Transfer) -> TransferTo {
        let mut targets = Vec::new();
        for (n, target) in transfer.targets.iter().enumerate() {
            targets.push(self.target(&at.key("targets").item(n).key("to"), &target.to, target.ring_s));
        }
        let by_failure = [
            (Failure::Busy, &transfer.fallback.busy),
            (Failure::NoAnswer, &transfer.fallback.no_answer),
            (Failure::Declined, &transfer.fallback.declined),
            (Failure::InvalidNumber, &transfer.fallback.invalid_number),
            (Failure::Unreachable, &transfer.fallback.unreachable),
            (Failure::MediaError, &transfer.fallback.media_error),
        ];
        let at_fallback = at.key("fallback");
        let fallback = by_failure
            .into_iter()
            .filter_map(|(failure, raw)| {
                Some((failure, self.fallback(&at_fallback.key(failure.code()), raw.as_ref()?)))
            })
            .collect();
        TransferTo {
            targets,
            fallback,
            message: self.prompt(&at.key("message"), &transfer.message),
            music: transfer.music.as_ref().map(|clip| self.clip(&at.key("music"), clip)),
            sorry: self.prompt(&at.key("sorry"), &transfer.sorry),
            method: transfer.method,
            early_media: transfer.early_media,
        }
    }

    fn fallback(&mut self, at: &At, raw: &raw::Fallback) -> Fallback {
        match (raw.then, &raw.to) {
            (raw::Then::Ring, Some(to)) => {
                Fallback::Ring(self.target(&at.key("to"), to, raw.ring_s.unwrap_or(raw::RING_S)))
            }
            (raw::Then::Ring, None) => {
                let mistake = Mistake::error(code::EXACTLY_ONE, at.clone(), "it is not said whom to ring");
                self.report(mistake.hint(r#"write { then = "ring", to = "sip:desk@192.0.2.1" }"#).absence());
                Fallback::Next
            }
            (then, to) => {
                let idle = [("to", to.is_some()), ("ring_s", raw.ring_s.is_some())];
                for (key, _) in idle.into_iter().filter(|(_, written)| *written) {
                    let what = "this goes with then = \"ring\" only";
                    self.report(Mistake::error(code::CONFLICT, at.key(key).on_key(), what).absence());
                }
                if then == raw::Then::Back { Fallback::Back } else { Fallback::Next }
            }
        }
    }

    pub(super) fn target(&mut self, at: &At, to: &str, ring_s: u64) -> Target {
        let template = self.template(at, to);
        let is_uri = ["sip:", "sips:"].iter().any(|scheme| to.to_ascii_lowercase().starts_with(scheme));
        match (to.find("{{"), is_uri) {
            _ if to.is_empty() => {}
            (None, _) => match to.parse::<Address>() {
                Ok(Address::Number(_)) => self.dials_numbers.push(at.clone()),
                Ok(Address::Uri(_)) => {}
                Err(error) => self.report(Mistake::error(code::DIAL, at.clone(), error.to_string())),
            },
            (Some(_), true) => {
                // The host is what follows the last `@` outside of variables, else everything behind the scheme.
                let host = to.rfind('@').map_or(to.find(':').map_or(0, |at| at + 1), |at| at + 1);
                if let Some(found) = to[host..].find("{{") {
                    self.report(
                        Mistake::error(code::DIAL_HOST, at.offset(host + found), "a variable may not choose the host")
                            .hint("write it as sip:{{desk.user}}@pbx.example"),
                    );
                }
            }
            // What begins with a digit becomes a number, or nothing that can be dialled.
            (Some(1..), false) if to.starts_with(|c: char| c == '+' || c.is_ascii_digit()) => {
                self.dials_numbers.push(at.clone());
            }
            (Some(found), false) => {
                self.dials_numbers.push(at.clone());
                self.report(
                    Mistake::warning(code::DIAL_HOST, at.offset(found), "this value may be a SIP URI with any host")
                        .hint("write sip:{{desk.user}}@pbx.example to keep the host fixed"),
                );
            }
        }
        Target { to: template, ring: Duration::from_secs(ring_s) }
    }

    fn hang_up(&mut self, at: &At, hang_up: &raw::HangUp) -> HangUp {
        if let Some(workflow) = &hang_up.workflow {
            self.refer(Kind::Workflow, &at.key("workflow"), workflow);
        }
        HangUp { goodbye: self.prompt(&at.key("goodbye"), &hang_up.goodbye), workflow: hang_up.workflow.clone() }
    }

    /// Notes a variable that is set here, if it may be.
    pub(super) fn sets(&mut self, at: &At, name: &str) {
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        let parted = name.split('.').all(|part| !part.is_empty());
        if !plain || !parted || name.len() > limits::VAR_NAME_LEN_MAX {
            let mistake = Mistake::error(code::VARIABLE_NAME, at.clone(), "this is no name of a variable");
            self.report(mistake.hint("write letters, digits, `_` and dots, as customer.first_name"));
        } else if NAMESPACES.contains(&head(name)) {
            let mistake =
                Mistake::error(code::VARIABLE_NAME, at.clone(), format!("{:?} is set by the gateway only", head(name)));
            self.report(mistake.hint("choose another first word, as customer"));
        }
        self.set.insert(head(name).to_owned());
    }
}
