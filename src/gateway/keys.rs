//! Keys that come twice: in the audio (RFC 4733) and in an INFO of old equipment (RFC 6086 §1).

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::{Digit, LegId, Time};

/// How a key came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Audio,
    Message,
}

/// Keys that came one way and may yet come the other.
#[derive(Debug, Default)]
pub(super) struct Keys {
    single: VecDeque<(Time, LegId, Digit, By)>,
}

impl Keys {
    /// Whether a key has not been told already, by the other way.
    pub(super) fn is_new(&mut self, now: Time, leg: LegId, digit: Digit, by: By) -> bool {
        self.single.retain(|(at, ..)| now - *at <= TWICE_WITHIN);
        let is_twin = |known: &(Time, LegId, Digit, By)| known.1 == leg && known.2 == digit && known.3 != by;
        if let Some(at) = self.single.iter().position(is_twin) {
            self.single.remove(at);
            return false;
        }
        if self.single.len() >= SINGLE_MAX {
            self.single.pop_front();
        }
        self.single.push_back((now, leg, digit, by));
        true
    }
}

/// The key in the body of an INFO: `Signal=5` of a relay, or the bare key.
pub(super) fn in_info(content_type: &str, body: &[u8]) -> Option<Digit> {
    let text = std::str::from_utf8(body).ok()?;
    let signal = text.lines().find_map(|line| {
        let (name, value) = line.split_once(['=', ':'])?;
        name.trim().eq_ignore_ascii_case("signal").then(|| value.trim())
    });
    let key = match content_type {
        "application/dtmf-relay" => signal?,
        "application/dtmf" => signal.unwrap_or(text.trim()),
        _ => return None,
    };
    match key {
        // The numbers of RFC 4733 §3.2, as some write them.
        "10" => Digit::from_char('*'),
        "11" => Digit::from_char('#'),
        _ => {
            let mut characters = key.chars();
            let digit = Digit::from_char(characters.next()?.to_ascii_uppercase());
            digit.filter(|_| characters.next().is_none())
        }
    }
}

/// One key press makes both within some 300 ms: the message comes with its beginning or its end.
const TWICE_WITHIN: Duration = Duration::from_secs(1);
/// More than anybody presses in that time.
const SINGLE_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_comes_both_ways_is_pressed_once() {
        let mut keys = Keys::default();
        let mut press = |ms: u64, by| keys.is_new(Time::from_ms(ms), LegId::CALLER, digit('5'), by);

        assert!(press(0, By::Audio));
        assert!(!press(200, By::Message));
        assert!(press(400, By::Message));
        assert!(!press(500, By::Audio));
        assert!(press(600, By::Audio));
        assert!(press(700, By::Audio));
        assert!(press(3000, By::Message), "too late to be the same");
    }

    #[test]
    fn keys_are_read_from_what_the_field_sends() {
        let read = |content_type: &str, body: &str| in_info(content_type, body.as_bytes()).map(|digit| digit.as_char());

        assert_eq!(read("application/dtmf-relay", "Signal=5\r\nDuration=160\r\n"), Some('5'));
        assert_eq!(read("application/dtmf-relay", "signal= *\r\n"), Some('*'));
        assert_eq!(read("application/dtmf-relay", "Duration=160\r\nSignal: 11"), Some('#'));
        assert_eq!(read("application/dtmf", "d\r\n"), Some('D'));
        assert_eq!(read("application/dtmf-relay", "5"), None);
        assert_eq!(read("application/dtmf", "55"), None);
        assert_eq!(read("text/plain", "5"), None);
    }

    fn digit(label: char) -> Digit {
        Digit::from_char(label).expect("is a key")
    }
}
