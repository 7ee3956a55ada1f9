//! The echo at the other end of the agents' sockets: it says what it hears, and every three seconds something long that
//! it drops at once, so that `clear` can be measured.

use std::io;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use super::figures::Times;
use super::mark::{From, Mark};
use super::socket::{Came, Socket};
use crate::model::FRAME_SAMPLES;

/// Which words the agents speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tongue {
    /// Our own: sound as binary messages.
    Binary,
    /// A vendor's: sound as base64 in JSON.
    Json,
}

/// One agent.
#[derive(Debug)]
pub(super) struct Agent {
    tongue: Tongue,
    pub(super) socket: Socket,
    /// The call it is on, as the caller's sound says.
    call: Option<u16>,
    /// Frames heard since then: its clock.
    frames: u32,
    /// Utterances begun.
    items: u32,
    is_speaking: bool,
}

/// What an agent noticed.
#[derive(Debug, Default)]
pub(super) struct Noted {
    /// From the caller's RTP.
    pub(super) ingress: Option<Duration>,
    /// This call's agent has dropped what it was saying.
    pub(super) cleared: Option<u16>,
}

impl Agent {
    pub(super) fn new(tongue: Tongue, socket: Socket) -> Agent {
        Agent { tongue, socket, call: None, frames: 0, items: 0, is_speaking: false }
    }

    /// Takes what came; `None` when nothing more is there.
    ///
    /// # Errors
    /// When the conversation is over, however.
    pub(super) fn next(&mut self, now: Duration) -> io::Result<Option<Noted>> {
        let Some(came) = self.socket.next()? else { return Ok(None) };
        Ok(Some(match (self.tongue, came) {
            (_, Came::Close) => {
                self.socket.close();
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            (Tongue::Binary, Came::Binary(sound)) => self.hear(&sound, now),
            (Tongue::Binary, Came::Text(text)) => {
                if kind_of(&text) == "start" {
                    self.socket.text(r#"{"type":"ready"}"#);
                }
                Noted::default()
            }
            (Tongue::Json, Came::Text(text)) => {
                match text.strip_prefix(APPEND).and_then(|rest| rest.strip_suffix(b"\"}")) {
                    Some(sound) => match BASE64.decode(sound) {
                        Ok(sound) => self.hear(&sound, now),
                        Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
                    },
                    None => {
                        if kind_of(&text) == "session.update" {
                            self.socket.text(r#"{"type":"session.updated","session":{"type":"realtime"}}"#);
                        }
                        Noted::default()
                    }
                }
            }
            (Tongue::Json, Came::Binary(_)) => Noted::default(),
        }))
    }

    fn hear(&mut self, sound: &[u8], now: Duration) -> Noted {
        // Before the first mark, and where the gateway filled a gap, there is nothing to answer.
        let Some(mark) = Mark::find(sound) else { return Noted::default() };
        self.call = Some(mark.call);
        let ingress = Some(now.saturating_sub(mark.at));
        // Not all at once.
        let at = (self.frames + u32::from(mark.call) * 7) % CYCLE;
        self.frames += 1;
        let mut noted = Noted { ingress, cleared: None };
        match at {
            BURST_AT => {
                let burst = Mark { call: mark.call, from: From::Burst, at: now }.frame().repeat(BURST_FRAMES);
                self.say(&burst);
            }
            CLEAR_AT => {
                self.clear();
                noted.cleared = Some(mark.call);
            }
            // The burst goes out, and what of it was cleared falls silent.
            at if (BURST_AT..ECHO_AGAIN_AT).contains(&at) => {}
            _ => self.say(&Mark { call: mark.call, from: From::Echo, at: now }.frame()),
        }
        noted
    }

    fn say(&mut self, sound: &[u8]) {
        match self.tongue {
            Tongue::Binary => self.socket.binary(sound),
            Tongue::Json => {
                if !self.is_speaking {
                    self.items += 1;
                    self.is_speaking = true;
                    let created = r#"{"type":"response.created","response":{"id":"resp_N","status":"in_progress"}}"#;
                    self.socket.text(&created.replace('N', &self.items.to_string()));
                }
                let mut text = String::with_capacity(sound.len() * 4 / 3 + 120);
                text.push_str(r#"{"type":"response.output_audio.delta","event_id":"event_1","response_id":"resp_"#);
                text.push_str(&self.items.to_string());
                text.push_str(r#"","item_id":"item_"#);
                text.push_str(&self.items.to_string());
                text.push_str(r#"","output_index":0,"content_index":0,"delta":""#);
                BASE64.encode_string(sound, &mut text);
                text.push_str(r#""}"#);
                self.socket.text(&text);
            }
        }
    }

    fn clear(&mut self) {
        self.is_speaking = false;
        match self.tongue {
            Tongue::Binary => self.socket.text(r#"{"type":"clear"}"#),
            Tongue::Json => {
                // What this vendor says when the caller speaks; it then ends its response.
                self.socket
                    .text(r#"{"type":"input_audio_buffer.speech_started","audio_start_ms":0,"item_id":"item_u"}"#);
                let done = r#"{"type":"response.done","response":{"id":"resp_N","status":"cancelled","output":[]}}"#;
                self.socket.text(&done.replace('N', &self.items.to_string()));
            }
        }
    }
}

/// When a call's agent fell silent after it wanted to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hush {
    wanted: Option<Duration>,
    last_sound: Duration,
}

impl Hush {
    /// The agent wants silence.
    pub(super) fn want(&mut self, now: Duration) {
        *self = Hush { wanted: Some(now), last_sound: now };
    }

    /// Something that can be heard arrived. The next echo says that the silence is over.
    pub(super) fn heard(&mut self, now: Duration, mark: Option<Mark>, times: &mut Times) {
        let Some(wanted) = self.wanted else { return };
        // An echo of before waited in front of what was dropped.
        match mark {
            Some(Mark { from: From::Echo, at, .. }) if at > wanted => {
                times.add(self.last_sound.saturating_sub(wanted));
                self.wanted = None;
            }
            _ => self.last_sound = now,
        }
    }
}

fn kind_of(text: &[u8]) -> String {
    let message: Value = serde_json::from_slice(text).unwrap_or_default();
    message["type"].as_str().unwrap_or_default().to_owned()
}

const APPEND: &[u8] = br#"{"type":"input_audio_buffer.append","audio":""#;
/// 3 s.
const CYCLE: u32 = 150;
const BURST_AT: u32 = 120;
const BURST_FRAMES: usize = 25;
/// 100 ms into half a second of sound.
const CLEAR_AT: u32 = BURST_AT + 5;
/// 200 ms of silence show its end.
const ECHO_AGAIN_AT: u32 = CLEAR_AT + 10;
const _: () = assert!(FRAME_SAMPLES == 160, "a mark is a frame of µ-law");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_measured_to_the_last_sound_before_the_next_echo() {
        let ms = Duration::from_millis;
        let (mut hush, mut times) = (Hush::default(), Times::default());
        let echo = |at| Some(Mark { call: 1, from: From::Echo, at });
        let burst = Some(Mark { call: 1, from: From::Burst, at: ms(1) });

        hush.heard(ms(5), burst, &mut times);
        hush.want(ms(100));
        hush.heard(ms(104), burst, &mut times);
        hush.heard(ms(112), None, &mut times);
        hush.heard(ms(330), echo(ms(320)), &mut times);
        hush.heard(ms(350), echo(ms(340)), &mut times);

        let spread = serde_json::to_value(times.spread()).unwrap();
        assert_eq!((&spread["p50"], &spread["p99"]), (&12.02.into(), &12.02.into()));
    }
}
