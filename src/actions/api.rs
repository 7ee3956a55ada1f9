//! `api`: ask a web service, keep what it says.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json_path::JsonPath;

use super::run::{Effect, Input, Playing, RunOutcome};
use super::{HttpReply, HttpRequest, Method, Place, Prompt, SecretRef, Template};
use crate::model::{Pii, Vars};

/// An HTTP request with variables, and what to keep of a JSON answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Api {
    /// The method.
    pub method: Method,
    /// The URL; values are percent-encoded.
    pub url: Template,
    /// Further query parameters; values are percent-encoded.
    pub query: Vec<(String, Template)>,
    /// Header names and values; line ends in values become spaces.
    pub headers: Vec<(String, Template)>,
    /// A JSON document; values are escaped as JSON. Sent as `application/json`.
    pub body: Option<Template>,
    /// Sent as bearer token.
    pub bearer: Option<SecretRef>,
    /// The whole exchange.
    pub timeout: Duration,
    /// Variable and JSONPath (RFC 9535) of what it is set to. The first match counts; without a match the variable
    /// stays as it is.
    pub save: Vec<(String, JsonPath)>,
    /// What the caller hears meanwhile; `None` before and after a call.
    pub waiting: Option<Waiting>,
}

/// What a caller hears while something takes long (rule R10 of the feature table): never dead air.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Silence until then.
    pub after: Duration,
    /// Said once. It is not cut off when the answer comes.
    pub prompt: Prompt,
    /// A clip repeated after it until the answer is there.
    pub music: Option<Template>,
}

/// Where a request stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ApiState {
    sound: Sound,
    answer: Option<RunOutcome>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sound {
    #[default]
    None,
    Words,
    Music,
}

impl Api {
    /// Whether the request cannot be made sensibly without this variable.
    pub fn needs(&self, variable: &str) -> bool {
        let templates = [&self.url].into_iter().chain(self.query.iter().map(|(_, value)| value)).chain(&self.body);
        templates.flat_map(Template::variables).any(|name| name == variable)
    }

    pub(super) fn handle(&self, state: &mut ApiState, input: &Input<'_>, vars: &Vars, out: &mut Vec<Effect>) {
        match input {
            Input::Started => {
                out.push(Effect::Request(self.request(vars)));
                if let Some(waiting) = &self.waiting {
                    out.push(Effect::Wait(Some(waiting.after)));
                }
            }
            Input::Waited => {
                if let (Some(waiting), None) = (&self.waiting, &state.answer) {
                    state.sound = Sound::Words;
                    out.push(Effect::Play(waiting.prompt.render(vars)));
                }
            }
            Input::Played => match (state.answer.take(), &self.waiting) {
                (Some(answer), _) => out.push(Effect::Done(answer)),
                (None, Some(Waiting { music: Some(music), .. })) => {
                    state.sound = Sound::Music;
                    out.push(Effect::Play(Playing::music(music.render(vars, Place::Text))));
                }
                (None, _) => state.sound = Sound::None,
            },
            Input::Replied(reply) => {
                let answer = self.judge(reply, out);
                out.push(Effect::Wait(None));
                match state.sound {
                    Sound::Words => state.answer = Some(answer),
                    Sound::Music => out.extend([Effect::StopPlaying, Effect::Done(answer)]),
                    Sound::None => out.push(Effect::Done(answer)),
                }
            }
            // Keys pressed while we look something up wait for whoever asks next.
            Input::Digit(_) | Input::Interrupted | Input::Transferred(_) | Input::Recorded(_) => {}
        }
    }

    fn request(&self, vars: &Vars) -> HttpRequest {
        let mut url = self.url.render(vars, Place::Url).into_inner();
        for (name, value) in &self.query {
            url.push(if url.contains('?') { '&' } else { '?' });
            url.push_str(name);
            url.push('=');
            url.push_str(value.render(vars, Place::Url).reveal());
        }
        let mut headers: Vec<(String, Pii<String>)> =
            self.headers.iter().map(|(name, value)| (name.clone(), value.render(vars, Place::Header))).collect();
        let body = self.body.as_ref().map(|body| body.render(vars, Place::Json));
        if body.is_some() && !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            headers.push(("content-type".to_owned(), Pii::new("application/json".to_owned())));
        }
        HttpRequest {
            method: self.method,
            url: Pii::new(url),
            headers,
            body,
            bearer: self.bearer.clone(),
            timeout: self.timeout,
        }
    }

    fn judge(&self, reply: &HttpReply, out: &mut Vec<Effect>) -> RunOutcome {
        let (status, body) = match reply {
            HttpReply::Answered { status, body } => (*status, body.reveal()),
            HttpReply::Failed(super::HttpFailure::Timeout) => return RunOutcome::timeout(),
            HttpReply::Failed(failure) => return RunOutcome::error(failure.code()),
        };
        if !(200..300).contains(&status) {
            return RunOutcome::error(format!("status_{status}"));
        }
        let parsed = serde_json::from_str::<Value>(body);
        if let (Err(_), false) = (&parsed, self.save.is_empty()) {
            return RunOutcome::error("not_json");
        }
        let answer = parsed.unwrap_or(Value::Null);
        for (name, path) in &self.save {
            let found = path.query(&answer).first().cloned();
            if let Some(value) = found {
                out.push(Effect::Set(name.clone(), value));
            }
        }
        RunOutcome { told: Pii::new(answer), ..RunOutcome::success("ok") }
    }
}
