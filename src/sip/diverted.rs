//! What an INVITE says of a call that was meant for somebody else: Diversion (RFC 5806) and History-Info (RFC 7044).

use sipx_sip::Headers;

use super::event::{Diversion, Diverted};
use super::message::{self, Own};
use crate::model::{Pii, limits};

/// Writes who was called before. `to` is the request URI.
pub(super) fn write(headers: &mut Headers, diverted: &Diverted, to: &str, own: &Own) {
    let called = format!("sip:{}@{}", message::escape_user(diverted.from.reveal()), own.host);
    if diverted.in_diversion {
        let reason = diverted.by.reason();
        message::put(headers, message::name("Diversion"), format!("<{called}>;reason={reason};counter=1"));
        put_all(headers, "Diversion", &diverted.diversions);
    }
    if diverted.in_history {
        let came = diverted.history.last().and_then(|last| index(last.reveal()));
        let last = match &came {
            Some(index) => {
                put_all(headers, "History-Info", &diverted.history);
                index.clone()
            }
            None => {
                message::put(headers, message::name("History-Info"), format!("<{called}>;index=1"));
                "1".to_owned()
            }
        };
        // RFC 7544 §4: the reason is a parameter of the URI that the call goes to (RFC 4458).
        let entry = format!("<{to};cause={}>;index={last}.1;mp={last}", diverted.by.cause());
        message::put(headers, message::name("History-Info"), entry);
    }
}

fn put_all(headers: &mut Headers, name: &'static str, values: &[Pii<String>]) {
    for value in values.iter().take(limits::SIP_ADDRESSES_MAX) {
        message::put(headers, message::name(name), value.reveal().clone());
    }
}

/// The index of the last entry of a History-Info; `None` when it has none that makes sense.
fn index(value: &str) -> Option<String> {
    let (_, behind) = value.rsplit_once(";index=")?;
    let index: String = behind.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    let is_whole = !index.is_empty() && index.split('.').all(|part| !part.is_empty());
    (is_whole && index.len() <= INDEX_LEN_MAX).then_some(index)
}

impl Diversion {
    /// The word of RFC 5806 §5.
    fn reason(self) -> &'static str {
        match self {
            Diversion::Unconditional => "unconditional",
            Diversion::Deflected => "deflection",
        }
    }

    /// The same as a status (RFC 7544 §4, table 2).
    fn cause(self) -> u16 {
        match self {
            Diversion::Unconditional => 302,
            Diversion::Deflected => 480,
        }
    }
}

/// A call that was sent on thirty times has lost its way.
const INDEX_LEN_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn written(diverted: &Diverted) -> Vec<String> {
        let own = Own {
            sent_by: "192.0.2.1:5060".to_owned(),
            host: "192.0.2.1".to_owned(),
            contact: String::new(),
            agent: String::new(),
        };
        let mut headers = Headers::default();
        write(&mut headers, diverted, "sip:+4420@gw.example", &own);
        headers.iter().map(|header| message::text(&header.value())).collect()
    }

    fn came(diversions: &[&str], history: &[&str]) -> Diverted {
        let pii = |values: &[&str]| values.iter().map(|value| Pii::new((*value).to_owned())).collect();
        Diverted {
            from: Pii::new("+39 02".to_owned()),
            diversions: pii(diversions),
            history: pii(history),
            ..Diverted::default()
        }
    }

    #[test]
    fn the_last_diversion_is_on_top() {
        let diverted = Diverted { in_diversion: true, ..came(&["<sip:1@x>;reason=no-answer"], &["<sip:1@x>;index=1"]) };

        let ours = "<sip:+39%2002@192.0.2.1>;reason=unconditional;counter=1";
        assert_eq!(written(&diverted), [ours, "<sip:1@x>;reason=no-answer"]);
    }

    #[test]
    fn a_history_begins_or_goes_on() {
        let first = Diverted { in_history: true, by: Diversion::Deflected, ..came(&[], &[]) };
        let more = Diverted { in_history: true, ..came(&[], &["<sip:1@x>;index=1, <sip:2@x>;index=1.1;rc=1"]) };
        let broken = Diverted { in_history: true, ..came(&[], &["<sip:1@x>;index=1..", "nonsense"]) };

        let begins = ["<sip:+39%2002@192.0.2.1>;index=1", "<sip:+4420@gw.example;cause=480>;index=1.1;mp=1"];
        assert_eq!(written(&first), begins);
        let goes_on =
            ["<sip:1@x>;index=1, <sip:2@x>;index=1.1;rc=1", "<sip:+4420@gw.example;cause=302>;index=1.1.1;mp=1.1"];
        assert_eq!(written(&more), goes_on);
        assert_eq!(written(&broken).len(), 2, "it begins anew");
    }

    #[test]
    fn a_call_that_says_nothing_says_nothing() {
        assert!(written(&came(&["<sip:1@x>"], &["<sip:1@x>;index=1"])).is_empty());
    }
}
