//! Calls that a route passes on to another trunk, through the whole gateway; both ends are written octet by octet.

use crate::house::{Crm, House};
use crate::sip_probe::{Line, Msg, Peer, SDP};

const ROUTES: &str = r#"version = 1
[[route]]
called = "desk"
forward = { trunk = "b", to = "+441632960007", ring_s = 2 }
[[route]]
called = "*"
reject = "not_found"
"#;

/// A gateway whose callers are passed on to the second peer.
pub(crate) struct Passage {
    pub(crate) house: House,
    pub(crate) caller: Peer,
    pub(crate) callee: Peer,
    pub(crate) line: Line,
}

impl Passage {
    pub(crate) async fn open() -> Passage {
        Passage::with("").await
    }

    /// The same, with more in the caller's trunk.
    pub(crate) async fn with(trunk_tail: &str) -> Passage {
        let crm = Crm::open(&[]).await;
        // The callee's address must be known before the house is.
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = socket.local_addr().unwrap();
        let trunk = format!(
            "version = 1\ntitle = \"B\"\n[inbound]\nallowed_addresses = [\"192.0.2.0/24\"]\n[outbound]\n\
             uri = \"sip:{at}\"\n"
        );
        let carrier = format!(
            "version = 1\ntitle = \"Carrier\"\n[inbound]\nallowed_addresses = [\"127.0.0.0/8\"]\n[outbound]\n\
             uri = \"sip:{at}\"\n{trunk_tail}"
        );
        let files = [("routes.toml", ROUTES.to_owned()), ("trunks/b.toml", trunk), ("trunks/carrier.toml", carrier)];
        let house = House::open(crm, &files).await;
        let (gateway, _) = house.gateway.sip_addrs()[0];
        let callee = Peer { socket, at, gateway };
        let caller = Peer::of(gateway).await;
        let line = Line::new(caller.at, gateway);
        Passage { house, caller, callee, line }
    }

    /// The caller calls, and the callee's telephone gets the INVITE.
    pub(crate) async fn ringing(&mut self) -> Msg {
        self.caller.send(self.line.invite()).await;
        self.caller.expect("SIP/2.0 100").await;
        let invite = self.callee.expect("INVITE").await;
        self.callee.send(invite.response("180 Ringing", "bob", &self.contact(), "")).await;
        // Nobody is told of ringing before it rings.
        let ringing = self.caller.expect("SIP/2.0 180").await;
        self.line.learn(&ringing);
        invite
    }

    /// The callee answers, and the caller hears of it.
    pub(crate) async fn answered(&mut self) -> Msg {
        let invite = self.ringing().await;
        self.callee.send(invite.response("200 OK", "bob", &self.contact(), SDP)).await;
        self.callee.expect("ACK").await;
        let ok = self.caller.expect("SIP/2.0 200").await;
        self.line.learn(&ok);
        self.caller.send(self.line.ack()).await;
        invite
    }

    pub(crate) fn contact(&self) -> String {
        format!("Contact: <sip:bob@{}>\r\n", self.callee.at)
    }
}

#[tokio::test]
async fn a_call_is_passed_on_and_both_talk() {
    let mut passage = Passage::open().await;

    let invite = passage.answered().await;
    passage.caller.send(passage.line.request("BYE", 2, "z9hG4bKbye", "", "")).await;
    passage.caller.expect("SIP/2.0 200").await;
    let bye = passage.callee.expect("BYE").await;
    passage.callee.send(bye.response("200 OK", "", "", "")).await;

    assert_eq!(invite.start, format!("INVITE sip:+441632960007@{} SIP/2.0", passage.callee.at));
    assert_eq!(invite.header("diversion"), "<sip:desk@127.0.0.1>;reason=unconditional;counter=1");
    assert_eq!(invite.header("max-forwards"), "69");
    let record = passage.house.record().await;
    assert_eq!(record.status, ringback::call::Status::Transferred);
    assert_eq!(record.transferred_to.as_deref(), Some("+441632960007"));
}

#[tokio::test]
async fn what_the_callee_refuses_is_refused_to_the_caller() {
    for (status, wanted) in [("486 Busy Here", "SIP/2.0 486"), ("503 Full", "SIP/2.0 503"), ("404 No", "SIP/2.0 404")] {
        let mut passage = Passage::open().await;

        let invite = passage.ringing().await;
        passage.callee.send(invite.response(status, "bob", "Retry-After: 17\r\n", "")).await;
        passage.callee.expect("ACK").await;
        let refused = passage.caller.expect(wanted).await;
        passage.caller.send(passage.line.ack()).await;

        assert_eq!(refused.header("retry-after"), "17");
        passage.house.record().await;
    }
}

#[tokio::test]
async fn a_caller_who_gives_up_stops_the_ringing() {
    let mut passage = Passage::open().await;

    let invite = passage.ringing().await;
    passage
        .caller
        .send(Line { to_tag: None, ..passage.line.clone() }.request("CANCEL", 1, "z9hG4bKinvite1", "", ""))
        .await;
    passage.caller.expect("SIP/2.0 200").await;
    passage.caller.expect("SIP/2.0 487").await;
    passage.caller.send(passage.line.ack()).await;
    let cancel = passage.callee.expect("CANCEL").await;
    passage.callee.send(cancel.response("200 OK", "", "", "")).await;
    passage.callee.send(invite.response("487 Terminated", "bob", "", "")).await;
    passage.callee.expect("ACK").await;

    assert_eq!(passage.house.record().await.status, ringback::call::Status::Canceled);
}

#[tokio::test]
async fn a_callee_who_does_not_come_is_not_rung_for_ever() {
    let mut passage = Passage::open().await;

    let invite = passage.ringing().await;
    let cancel = passage.callee.expect("CANCEL").await;
    passage.callee.send(cancel.response("200 OK", "", "", "")).await;
    passage.callee.send(invite.response("487 Terminated", "bob", "", "")).await;
    passage.caller.expect("SIP/2.0 480").await;
    passage.caller.send(passage.line.ack()).await;

    assert_eq!(passage.house.record().await.status, ringback::call::Status::NoAnswer);
}
