//! The media streams that carriers open: JSON texts with audio in base64.
//!
//! The carrier is the client. It says `connected`, `start`, and then `media` every 20 ms, `dtmf`, `mark` for each mark of ours
//! that was heard, and `stop`. We say `media` of any length, `mark` and `clear`. Numbers are texts in it, but some carriers
//! write numbers, and both are taken. A message about another stream than this one is passed over.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;

use super::{AudioForm, Comer, Fault, Patience, Said, kept, variables};
use crate::model::{Digit, Pii, limits};

/// One stream of a carrier.
#[derive(Debug, Default)]
pub struct Carrier {
    /// Its name; `None` before `start`.
    stream: Option<String>,
    patience: Patience,
    is_over: bool,
}

#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Message {
    Connected {},
    #[serde(rename_all = "camelCase")]
    Start {
        stream_sid: String,
        start: Start,
    },
    #[serde(rename_all = "camelCase")]
    Media {
        stream_sid: String,
        media: Media,
    },
    #[serde(rename_all = "camelCase")]
    Dtmf {
        stream_sid: String,
        dtmf: Key,
    },
    #[serde(rename_all = "camelCase")]
    Mark {
        stream_sid: String,
        mark: Mark,
    },
    #[serde(rename_all = "camelCase")]
    Stop {
        stream_sid: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Start {
    call_sid: String,
    #[serde(default)]
    media_format: Option<Format>,
    #[serde(default)]
    custom_parameters: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Format {
    encoding: String,
    #[serde(default)]
    sample_rate: serde_json::Value,
}

#[derive(Deserialize)]
struct Media {
    #[serde(default)]
    track: Option<String>,
    payload: String,
}

#[derive(Deserialize)]
struct Key {
    digit: String,
}

#[derive(Deserialize)]
struct Mark {
    name: String,
}

impl Carrier {
    /// Takes a text.
    ///
    /// # Errors
    /// When the socket is to be closed.
    pub fn hear(&mut self, text: &str) -> Result<Said, Fault> {
        if text.len() > limits::STREAM_MESSAGE_MAX {
            return Err(Fault::TooLong);
        }
        let Ok(message) = serde_json::from_str::<Message>(text) else {
            return if self.stream.is_none() { Err(Fault::NoBeginning) } else { self.patience.ignore() };
        };
        match (message, &self.stream) {
            _ if self.is_over => self.patience.ignore(),
            (Message::Connected {}, None) => Ok(Said::Ignored),
            (Message::Start { stream_sid, start }, None) => self.begin(stream_sid, &start),
            (_, None) => Err(Fault::NoBeginning),
            (Message::Media { stream_sid, media }, Some(ours)) if stream_sid == *ours => {
                // On a stream of both ways there is no other track; one that mirrors us must not be heard as the caller.
                let is_caller = media.track.as_deref().is_none_or(|track| track == "inbound");
                let octets = STANDARD.decode(media.payload.as_bytes()).ok().filter(|_| is_caller);
                match octets.and_then(|octets| AudioForm::Ulaw.read(&octets)) {
                    Some(audio) => Ok(Said::Audio(audio)),
                    None => self.patience.ignore(),
                }
            }
            (Message::Dtmf { stream_sid, dtmf }, Some(ours)) if stream_sid == *ours => {
                let mut keys = dtmf.digit.chars();
                match (keys.next().and_then(Digit::from_char), keys.next()) {
                    (Some(digit), None) => Ok(Said::Key(Pii::new(digit))),
                    _ => self.patience.ignore(),
                }
            }
            (Message::Mark { stream_sid, mark }, Some(ours)) if stream_sid == *ours => {
                Ok(Said::Heard(kept(&mark.name)))
            }
            (Message::Stop { stream_sid }, Some(ours)) if stream_sid == *ours => {
                self.is_over = true;
                Ok(Said::Ends)
            }
            // Another stream's, or a second beginning.
            _ => self.patience.ignore(),
        }
    }

    fn begin(&mut self, stream: String, start: &Start) -> Result<Said, Fault> {
        let is_ulaw = start.media_format.as_ref().is_none_or(|format| {
            let rate = &format.sample_rate;
            let is_8000 = rate.is_null() || rate.as_u64() == Some(8000) || rate.as_str() == Some("8000");
            is_8000 && ["audio/x-mulaw", "PCMU"].contains(&format.encoding.as_str())
        });
        let is_name = !stream.is_empty() && stream.len() <= limits::STREAM_TEXT_MAX;
        if !is_ulaw || !is_name {
            return Err(Fault::Unsupported);
        }
        let given = &start.custom_parameters;
        // As bots read them that carriers' own examples are written for.
        let of = |names: [&str; 2]| {
            names.iter().find_map(|name| given.get(*name)).map(|text| kept(text)).unwrap_or_default()
        };
        let comer = Comer {
            call: Pii::new(kept(&start.call_sid)),
            from: Pii::new(of(["from_number", "from"])),
            to: Pii::new(of(["to_number", "to"])),
            variables: variables(given.iter()),
            form: AudioForm::Ulaw,
        };
        self.stream = Some(stream);
        Ok(Said::Begins(comer))
    }

    /// Lets the caller hear µ-law; nothing before the stream has begun.
    pub fn say(&self, ulaw: &[u8]) -> Option<String> {
        let stream = self.stream.as_ref()?;
        Some(json!({"event": "media", "streamSid": stream, "media": {"payload": STANDARD.encode(ulaw)}}).to_string())
    }

    /// Asks to be told when all that was said is heard.
    pub fn mark(&self, name: &str) -> Option<String> {
        let stream = self.stream.as_ref()?;
        Some(json!({"event": "mark", "streamSid": stream, "mark": {"name": name}}).to_string())
    }

    /// Drops what was said and is not heard yet.
    pub fn clear(&self) -> Option<String> {
        let stream = self.stream.as_ref()?;
        Some(json!({"event": "clear", "streamSid": stream}).to_string())
    }
}
