//! The session timer of a dialog (RFC 4028): how long it lives without a sign of life, and who gives the sign.

use std::time::Duration;

use sipx_sip::session::{MinSe, Refresher, SessionExpires};
use sipx_sip::{HeaderName, Headers};

use super::dialog::{Out, Timer};
use super::message;
use crate::model::limits;
use crate::trunk::SessionRules;

/// What is agreed, and what we would agree to.
#[derive(Clone, Debug)]
pub(super) struct Refresh {
    rules: SessionRules,
    /// The shortest interval that somebody on the way has let us ask for (`Min-SE` of a 422).
    least: Duration,
    running: Option<Running>,
}

/// An interval, and who refreshes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Running {
    interval: Duration,
    by_us: bool,
    /// The other side has said that it knows session timers.
    known: bool,
}

impl Refresh {
    pub(super) fn new(rules: SessionRules) -> Refresh {
        Refresh { rules, least: Duration::ZERO, running: None }
    }

    /// Takes other rules; what runs goes on.
    pub(super) fn set_rules(&mut self, rules: SessionRules) {
        self.rules = rules;
    }

    /// The shortest interval that we accept.
    pub(super) fn least_accepted(&self) -> Duration {
        self.rules.expires_min
    }

    /// Asks for a timer in a request of ours. Within a dialog the one who refreshes stays the one who refreshes.
    pub(super) fn ask(&self, headers: &mut Headers) {
        let refresher = self.running.map(|running| if running.by_us { Refresher::Uac } else { Refresher::Uas });
        let wanted = self.running.map(|running| running.interval).or(self.rules.expires);
        if let Some(interval) = wanted.map(|interval| interval.max(self.least)) {
            message::put(headers, HeaderName::SessionExpires, SessionExpires { interval, refresher }.to_string());
            // RFC 4028 §7.1: 90 s need no saying, but they do not hurt, and a 422 raised it for good.
            message::put(headers, HeaderName::MinSe, seconds(self.least.max(self.rules.expires_min)));
        }
    }

    /// What a request of theirs leads to, or the `Min-SE` of the 422 that it gets (RFC 4028 §9).
    pub(super) fn judge(&self, request: &Headers) -> Result<Option<Running>, Duration> {
        let known = message::names_option(request, &HeaderName::Supported, TIMER)
            || message::names_option(request, &HeaderName::Require, TIMER);
        let least = self.rules.expires_min;
        match request.typed::<SessionExpires>() {
            Some(Ok(asked)) => {
                // Who knows no session timers understands no 422 either: then a proxy has asked, and we refresh.
                if known && asked.interval < least {
                    return Err(least);
                }
                let by_us = match asked.refresher {
                    _ if !known => true,
                    Some(refresher) => refresher == Refresher::Uas,
                    // Ours to choose: whoever refreshes learns first that nobody is there. Later it stays as it is.
                    None => self.running.is_none_or(|running| running.by_us),
                };
                Ok(Some(Running { interval: bounded(asked.interval.max(least)), by_us, known }))
            }
            // Not asked for, or not to be read: then we keep the session alive on our own account, if we want to.
            Some(Err(_)) | None => {
                let theirs = request.typed::<MinSe>().and_then(Result::ok).map_or(Duration::ZERO, |min| min.0);
                let ours = self.running.filter(|running| running.by_us).map(|running| running.interval);
                let interval = ours.or(self.rules.expires).map(|interval| bounded(interval.max(theirs)));
                Ok(interval.map(|interval| Running { interval, by_us: true, known }))
            }
        }
    }

    /// Says in our 2xx what [`Refresh::judge`] found, and starts it.
    pub(super) fn grant(&mut self, running: Option<Running>, headers: &mut Headers, out: &mut Vec<Out>) {
        if let Some(Running { interval, by_us, known }) = running {
            let refresher = Some(if by_us { Refresher::Uas } else { Refresher::Uac });
            message::put(headers, HeaderName::SessionExpires, SessionExpires { interval, refresher }.to_string());
            if known {
                // RFC 4028 §9: a must when they refresh, and a should when we do.
                message::put(headers, HeaderName::Require, TIMER);
            }
        }
        self.start(running, out);
    }

    /// Takes what their 2xx says of the timer that we asked for (RFC 4028 §7.2).
    pub(super) fn adopt(&mut self, response: &Headers, out: &mut Vec<Out>) {
        let running = match response.typed::<SessionExpires>() {
            Some(Ok(agreed)) => {
                // A shorter one than the RFC allows would make us chatter at their will (§11.2).
                let interval = bounded(agreed.interval.max(self.rules.expires_min.min(LEAST)));
                Some(Running { interval, by_us: agreed.refresher != Some(Refresher::Uas), known: true })
            }
            // They know no session timers: what we wanted, we do alone.
            Some(Err(_)) | None => self.rules.expires.map(|interval| {
                let interval = bounded(interval.max(self.least));
                Running { interval, by_us: true, known: false }
            }),
        };
        self.start(running, out);
    }

    /// Learns from a 422 what to ask for; `false` when it says nothing that another try could heed.
    pub(super) fn raise(&mut self, response: &Headers) -> bool {
        match response.typed::<MinSe>() {
            Some(Ok(min)) if min.0 > self.least && min.0 <= limits::SESSION_INTERVAL_MAX => {
                self.least = min.0;
                if let Some(running) = &mut self.running {
                    running.interval = running.interval.max(min.0);
                }
                true
            }
            Some(_) | None => false,
        }
    }

    /// When to try again after a refresh that was refused and did not end the session.
    pub(super) fn second_try(&self) -> Duration {
        self.running.map_or(Duration::ZERO, |running| running.interval / 12)
    }

    /// A sign of life has come or gone out: the time begins again.
    fn start(&mut self, running: Option<Running>, out: &mut Vec<Out>) {
        self.running = running;
        out.extend([Out::Disarm(Timer::Refresh), Out::Disarm(Timer::Expire)]);
        let Some(Running { interval, by_us, .. }) = running else { return };
        if by_us {
            out.push(Out::Arm(Timer::Refresh, interval / 2));
        }
        // RFC 4028 §10: a little before the end, so that our BYE is out before a proxy forgets the call.
        out.push(Out::Arm(Timer::Expire, interval - EARLY.min(interval / 3)));
    }
}

/// The extension's name in Supported and Require.
pub(super) const TIMER: &str = "timer";

pub(super) fn seconds(interval: Duration) -> String {
    // Rounded up: a part of a second less would be too small again.
    interval.as_millis().div_ceil(1000).to_string()
}

fn bounded(interval: Duration) -> Duration {
    interval.clamp(Duration::from_secs(1), limits::SESSION_INTERVAL_MAX)
}

/// RFC 4028 §5: no shorter interval may be used.
const LEAST: Duration = Duration::from_secs(90);
/// RFC 4028 §10.
const EARLY: Duration = Duration::from_secs(32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_interval_is_refused_unless_the_caller_could_not_understand_that() {
        let refresh = Refresh::new(rules(Some(1800)));

        assert_eq!(refresh.judge(&headers("Session-Expires: 60\r\nSupported: timer")), Err(secs(90)));
        let proxied = refresh.judge(&headers("Session-Expires: 60;refresher=uac")).unwrap().unwrap();
        assert_eq!((proxied.interval, proxied.by_us, proxied.known), (secs(90), true, false));
    }

    #[test]
    fn the_other_side_chooses_who_refreshes_and_without_a_choice_it_is_us() {
        let refresh = Refresh::new(rules(None));
        let by_us = |text: &str| refresh.judge(&headers(text)).unwrap().map(|running| running.by_us);

        assert_eq!(by_us("x: 600;refresher=uac\r\nk: timer"), Some(false));
        assert_eq!(by_us("Session-Expires: 600;refresher=uas\r\nRequire: timer"), Some(true));
        assert_eq!(by_us("Session-Expires: 600\r\nSupported: 100rel, timer"), Some(true));
        assert_eq!(by_us("Supported: timer"), None);
        assert_eq!(by_us("Session-Expires: soon\r\nSupported: timer"), None);
    }

    #[test]
    fn who_refreshes_stays_who_refreshes() {
        let mut refresh = Refresh::new(rules(Some(1800)));
        let mut out = Vec::new();
        refresh.adopt(&headers("Session-Expires: 600;refresher=uas\r\nRequire: timer"), &mut out);
        assert_eq!(armed(&out), [(Timer::Expire, secs(568))]);

        let mut ours = headers("X-A: 1");
        refresh.ask(&mut ours);
        assert_eq!(ours.value(&HeaderName::SessionExpires).as_deref(), Some(b"600;refresher=uas".as_slice()));
        let theirs = refresh.judge(&headers("Session-Expires: 600\r\nSupported: timer")).unwrap();
        assert!(!theirs.unwrap().by_us);
    }

    #[test]
    fn without_their_help_we_refresh_alone() {
        let mut refresh = Refresh::new(rules(Some(300)));
        let mut out = Vec::new();

        refresh.adopt(&headers("X-A: 1"), &mut out);

        assert_eq!(armed(&out), [(Timer::Refresh, secs(150)), (Timer::Expire, secs(268))]);
    }

    #[test]
    fn a_422_raises_what_we_ask_for_once() {
        let mut refresh = Refresh::new(rules(Some(100)));

        assert!(refresh.raise(&headers("Min-SE: 3600")));
        assert!(!refresh.raise(&headers("Min-SE: 3600")));
        assert!(!refresh.raise(&headers("Min-SE: 99999999999")));
        assert!(!refresh.raise(&headers("X-A: 1")));

        let mut ours = headers("X-A: 1");
        refresh.ask(&mut ours);
        assert_eq!(ours.value(&HeaderName::SessionExpires).as_deref(), Some(b"3600".as_slice()));
        assert_eq!(ours.value(&HeaderName::MinSe).as_deref(), Some(b"3600".as_slice()));
    }

    #[test]
    fn no_interval_is_beyond_the_clock() {
        let mut refresh = Refresh::new(rules(None));
        let mut out = Vec::new();
        for text in ["Session-Expires: 0", "Session-Expires: 18446744073709551615", "Session-Expires: 1;refresher=uac"]
        {
            refresh.adopt(&headers(text), &mut out);
            let running = refresh.judge(&headers(text)).unwrap();
            refresh.grant(running, &mut headers("X-A: 1"), &mut out);
        }
        assert!(armed(&out).iter().all(|(_, after)| (secs(45)..=limits::SESSION_INTERVAL_MAX).contains(after)));
    }

    fn armed(out: &[Out]) -> Vec<(Timer, Duration)> {
        out.iter()
            .filter_map(|out| match out {
                Out::Arm(timer, after) => Some((*timer, *after)),
                _ => None,
            })
            .collect()
    }

    fn headers(lines: &str) -> Headers {
        let text = format!(
            "INVITE sip:a@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx\r\n{lines}\r\n\
             Content-Length: 0\r\n\r\n"
        );
        match sipx_sip::parse_datagram(text.into_bytes().into(), &sipx_sip::Limits::datagram()).unwrap() {
            sipx_sip::Message::Request(request) => request.headers,
            sipx_sip::Message::Response(_) => panic!("not a request"),
        }
    }

    fn rules(expires: Option<u64>) -> SessionRules {
        SessionRules { expires: expires.map(secs), ..SessionRules::default() }
    }

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }
}
