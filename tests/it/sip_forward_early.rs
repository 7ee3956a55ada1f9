//! Calls that are passed on, and whose callee can be heard before it answers: signalling and sound of all three parties.

use std::time::Duration;

use ringback::call::Status;
use ringback::media::{HEADER_LEN, Header};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::sip_forward::Passage;
use crate::sip_probe::{Msg, Peer, SDP};

const ANNOUNCEMENT: u8 = 0x21;
const WORDS: u8 = 0x44;

/// One end of a conversation, with the port where it hears.
struct Voice {
    socket: UdpSocket,
    seq: u16,
}

impl Voice {
    async fn open() -> Voice {
        Voice { socket: UdpSocket::bind("127.0.0.1:0").await.unwrap(), seq: 7 }
    }

    fn sdp(&self) -> String {
        SDP.replace("40000", &self.socket.local_addr().unwrap().port().to_string())
    }

    /// Sends 20 ms of one code to where this description says.
    async fn say(&mut self, code: u8, sdp: &str) {
        let port: u16 = sdp.split_once("m=audio ").unwrap().1.split(' ').next().unwrap().parse().unwrap();
        self.seq = self.seq.wrapping_add(1);
        let timestamp = u32::from(self.seq) * 160;
        let header = Header { marker: false, payload_type: 0, seq: self.seq, timestamp, ssrc: 77 };
        self.socket.send_to(&[&header.to_bytes()[..], &[code; 160]].concat(), ("127.0.0.1", port)).await.unwrap();
    }

    /// The next packet's code, if it is the same throughout.
    async fn hears(&self) -> u8 {
        let mut buffer = [0; 2048];
        let heard = timeout(Duration::from_secs(10), self.socket.recv_from(&mut buffer)).await.expect("sound");
        assert!(heard.unwrap().0 > HEADER_LEN);
        buffer[HEADER_LEN + 80]
    }
}

/// One says a code until the other hears it; a third listens meanwhile and must not hear this.
async fn is_heard(code: u8, from: &mut Voice, at: &str, by: &Voice) {
    for _ in 0..400 {
        from.say(code, at).await;
        if by.hears().await == code {
            return;
        }
    }
    panic!("{code:#x} was never heard");
}

async fn calls(passage: &mut Passage, extra: &str, body: &str) -> Msg {
    passage.caller.send(passage.line.request("INVITE", 1, "z9hG4bKinvite1", extra, body)).await;
    passage.caller.expect("SIP/2.0 100").await;
    passage.callee.expect("INVITE").await
}

async fn prack(passage: &Passage, progress: &Msg, body: &str) {
    let rack = format!("RAck: {} 1 INVITE\r\n", progress.header("rseq"));
    passage.caller.send(passage.line.request("PRACK", 2, "z9hG4bKprack", &rack, body)).await;
    passage.caller.expect("SIP/2.0 200").await;
}

async fn ends(passage: Passage) {
    passage.caller.send(passage.line.request("BYE", 3, "z9hG4bKbye", "", "")).await;
    passage.caller.expect("SIP/2.0 200").await;
    let bye = passage.callee.expect("BYE").await;
    passage.callee.send(bye.response("200 OK", "", "", "")).await;
    assert_eq!(passage.house.record().await.status, Status::Transferred);
}

/// The 183 of a callee that is acknowledged where it asks for that.
async fn sounds(callee: &Peer, invite: &Msg, contact: &str, sdp: &str) {
    let extra = format!("{contact}Require: 100rel\r\nRSeq: 5\r\n");
    callee.send(invite.response("183 Session Progress", "bob", &extra, sdp)).await;
    let prack = callee.expect("PRACK").await;
    callee.send(prack.response("200 OK", "", "", "")).await;
}

#[tokio::test]
async fn a_callee_is_heard_before_it_answers_and_hears_nobody() {
    let mut passage = Passage::open().await;
    let (mut ada, mut bob) = (Voice::open().await, Voice::open().await);

    let invite = calls(&mut passage, "Supported: 100rel\r\n", &ada.sdp()).await;
    sounds(&passage.callee, &invite, &passage.contact(), &bob.sdp()).await;
    let progress = passage.caller.expect("SIP/2.0 183").await;
    passage.line.learn(&progress);
    prack(&passage, &progress, "").await;
    is_heard(ANNOUNCEMENT, &mut bob, &invite.body, &ada).await;
    for _ in 0..10 {
        ada.say(WORDS, &progress.body).await;
        assert_ne!(bob.hears().await, WORDS, "words are free before the answer");
    }
    passage.callee.send(invite.response("200 OK", "bob", &passage.contact(), "")).await;
    passage.callee.expect("ACK").await;
    let ok = passage.caller.expect("SIP/2.0 200").await;
    passage.caller.send(passage.line.ack()).await;
    is_heard(WORDS, &mut ada, &progress.body, &bob).await;

    assert_eq!(progress.header("require"), "100rel");
    assert_eq!(ok.body, "", "it was settled with the 183");
    ends(passage).await;
}

#[tokio::test]
async fn a_caller_without_prack_gets_the_same_description_twice() {
    let mut passage = Passage::open().await;
    let (ada, mut bob) = (Voice::open().await, Voice::open().await);

    let invite = calls(&mut passage, "", &ada.sdp()).await;
    passage.callee.send(invite.response("180 Ringing", "bob", &passage.contact(), "")).await;
    passage.caller.expect("SIP/2.0 180").await;
    let answer = bob.sdp();
    passage.callee.send(invite.response("183 Session Progress", "bob", &passage.contact(), &answer)).await;
    let progress = passage.caller.expect("SIP/2.0 183").await;
    passage.line.learn(&progress);
    is_heard(ANNOUNCEMENT, &mut bob, &invite.body, &ada).await;
    // Once more changes nothing.
    passage.callee.send(invite.response("183 Session Progress", "bob", &passage.contact(), &answer)).await;
    passage.callee.send(invite.response("200 OK", "bob", &passage.contact(), &answer)).await;
    passage.callee.expect("ACK").await;
    let ok = passage.caller.expect("SIP/2.0 200").await;
    passage.caller.send(passage.line.ack()).await;

    assert!(progress.all("rseq").is_empty());
    assert!(!progress.body.is_empty() && progress.body == ok.body);
    ends(passage).await;
}

#[tokio::test]
async fn an_offer_of_ours_in_the_183_is_answered_by_the_prack_and_the_call_stays() {
    let mut passage = Passage::open().await;
    let (ada, mut bob) = (Voice::open().await, Voice::open().await);

    let invite = calls(&mut passage, "Require: 100rel\r\n", "").await;
    sounds(&passage.callee, &invite, &passage.contact(), &bob.sdp()).await;
    let progress = passage.caller.expect("SIP/2.0 183").await;
    passage.line.learn(&progress);
    prack(&passage, &progress, &ada.sdp()).await;
    is_heard(ANNOUNCEMENT, &mut bob, &invite.body, &ada).await;
    passage.callee.send(invite.response("200 OK", "bob", &passage.contact(), &bob.sdp())).await;
    passage.callee.expect("ACK").await;
    let ok = passage.caller.expect("SIP/2.0 200").await;
    passage.caller.send(passage.line.ack()).await;
    is_heard(ANNOUNCEMENT, &mut bob, &invite.body, &ada).await;

    assert_eq!(ok.body, "");
    ends(passage).await;
}

#[tokio::test]
async fn an_announcement_ends_with_the_callees_refusal() {
    let mut passage = Passage::open().await;
    let (ada, mut bob) = (Voice::open().await, Voice::open().await);

    let invite = calls(&mut passage, "", &ada.sdp()).await;
    passage.callee.send(invite.response("183 Session Progress", "bob", &passage.contact(), &bob.sdp())).await;
    passage.line.learn(&passage.caller.expect("SIP/2.0 183").await);
    is_heard(ANNOUNCEMENT, &mut bob, &invite.body, &ada).await;
    passage.callee.send(invite.response("404 Not Found", "bob", "", "")).await;
    passage.callee.expect("ACK").await;
    passage.caller.expect("SIP/2.0 404").await;
    passage.caller.send(passage.line.ack()).await;

    assert_eq!(passage.house.record().await.status, Status::Failed);
}
