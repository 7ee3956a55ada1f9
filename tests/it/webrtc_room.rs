//! The room of the browsers by itself, against another implementation on loopback.

#![allow(clippy::disallowed_methods, reason = "real peers are waited for by the real clock")]

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use ringback::model::Codec;
use ringback::webrtc::{Audio, Counters, Ending, InviteError, Invited, Mode, News, Offer, WebRtc, WebRtcConfig, What};
use tokio::sync::mpsc;

use crate::webrtc_peer::{Browser, Heard, Offerer, ULAW, candidate};

#[test]
fn two_browsers_are_heard_on_one_port() {
    for mode in [Mode::Lite, Mode::Full] {
        let (webrtc, mut news) = open(mode);
        let (first, mut one) = call(&webrtc);
        let (second, mut two) = call(&webrtc);
        assert_eq!(candidate(&first.answer), candidate(&second.answer));
        one.browser.wait(|heard| *heard == Heard::Connected);
        two.browser.wait(|heard| *heard == Heard::Connected);
        let connected = [told(&mut news), told(&mut news)];
        assert!(connected.iter().all(|news| news.what == What::Connected), "{connected:?}");

        for (caller, tone) in [(&mut one, 0x11), (&mut two, 0x22)] {
            caller.browser.say(1, 160, vec![tone; 160]);
            let packet = caller.audio();
            assert_eq!(packet[12..], [tone; 160], "plain RTP");
            // The same back, as from a media worker.
            caller.far.outward.try_send(packet).unwrap();
            let heard = caller.browser.wait(|heard| matches!(heard, Heard::Audio { .. }));
            assert_eq!(heard, Heard::Audio { payload_type: 0, payload: vec![tone; 160] });
        }

        let counters = webrtc.counters();
        assert_eq!((counters.peers, counters.packets_in, counters.packets_out), (2, 2, 2));
        one.browser.close();
        assert_eq!(told(&mut news), News { peer: first.peer, what: What::Ended(Ending::Closed) });
        assert_eq!(webrtc.counters().peers, 1);
    }
}

#[test]
fn a_browser_hears_that_we_hung_up() {
    let (webrtc, mut news) = open(Mode::Lite);
    let (invited, caller) = call(&webrtc);
    caller.browser.wait(|heard| *heard == Heard::Connected);
    assert_eq!(told(&mut news).what, What::Connected);

    webrtc.hang_up(invited.peer);

    caller.browser.wait(|heard| *heard == Heard::Closed);
    caller.browser.vanish();
    assert!(news.try_recv().is_err(), "we know that we hung up");
}

#[test]
fn somebody_elses_certificate_is_refused() {
    let (webrtc, mut news) = open(Mode::Lite);
    let offerer = Offerer::new(ULAW);
    let at = offerer.offer.find("sha-256 ").unwrap() + "sha-256 ".len();
    let (before, behind) = offerer.offer.split_at(at);
    let forged = format!("{before}{}{}", if behind.starts_with("00") { "11" } else { "00" }, &behind[2..]);

    let (invited, _far) = invite(&webrtc, &forged);
    let browser = offerer.answered(&invited.answer);

    assert_eq!(told(&mut news), News { peer: invited.peer, what: What::Ended(Ending::Stranger) });
    assert_eq!(webrtc.counters().packets_in, 0);
    browser.vanish();
}

#[test]
fn garbage_and_strangers_are_counted_and_get_no_answer() {
    let (webrtc, mut news) = open(Mode::Lite);
    let (invited, mut caller) = call(&webrtc);
    caller.browser.wait(|heard| *heard == Heard::Connected);
    assert_eq!(told(&mut news).what, What::Connected);
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.connect(candidate(&invited.answer)).unwrap();
    let check = stranger_stun::build;

    for datagram in [
        vec![0; 20],
        vec![3; 3],
        vec![255; 1_500],
        // A handshake, and a packet, of nobody.
        vec![22; 100],
        vec![128; 172],
        check("nobody:theirs"),
        // The right name with the wrong password.
        check(&format!("{}:theirs", ufrag(&invited.answer))),
    ] {
        stranger.send(&datagram).unwrap();
    }

    let seen = counted(&webrtc, |seen| seen.garbage >= 3 && seen.strangers >= 3 && seen.forged >= 1);
    assert_eq!((seen.garbage, seen.strangers, seen.forged), (3, 3, 1));
    stranger.set_nonblocking(true).unwrap();
    assert!(stranger.recv(&mut [0; 100]).is_err(), "no answer");
    // The call goes on.
    caller.browser.say(1, 160, vec![7; 160]);
    assert_eq!(caller.audio()[12..], [7; 160]);
}

#[test]
fn behind_a_nat_the_address_that_a_stun_server_sees_is_told_too() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let config = WebRtcConfig {
        udp: vec!["127.0.0.1:0".parse().unwrap()],
        mode: Mode::Full,
        stun: Some(server.local_addr().unwrap()),
        loopback_only: true,
        ..WebRtcConfig::default()
    };
    let (webrtc, _news) = WebRtc::start(config).unwrap();
    let (length, from) = {
        let mut question = [0; 100];
        let (length, from) = server.recv_from(&mut question).expect("it asks");
        let seen = "198.51.100.7:4000".parse().unwrap();
        server.send_to(&stranger_stun::seen_at(&question[..length], seen), from).unwrap();
        (length, from)
    };
    assert!(length >= 20 && from == webrtc.local_addrs()[0]);

    let offer = Offerer::new(ULAW).offer;
    let until = Instant::now() + Duration::from_secs(10);
    while !invite(&webrtc, &offer).0.answer.contains(" 198.51.100.7 4000 typ srflx ") {
        assert!(Instant::now() < until, "it is told");
    }
}

#[test]
fn an_offer_without_our_codecs_is_not_taken() {
    let offerer = Offerer::new(("audio/opus", 48_000, 111));

    let offer = Offer::parse(offerer.offer.as_bytes()).unwrap();

    assert!(offer.settle(&[Codec::Pcmu], false).is_err());
}

/// Checks as a stranger makes them, with the other library's words.
mod stranger_stun {
    use rtc::stun::attributes::ATTR_USERNAME;
    use rtc::stun::fingerprint::FINGERPRINT;
    use rtc::stun::integrity::MessageIntegrity;
    use std::net::SocketAddr;

    use rtc::stun::message::{BINDING_REQUEST, BINDING_SUCCESS, Message, TransactionId};
    use rtc::stun::textattrs::TextAttribute;
    use rtc::stun::xoraddr::XorMappedAddress;

    /// A server's answer to a question.
    pub(super) fn seen_at(question: &[u8], seen: SocketAddr) -> Vec<u8> {
        let mut asked = Message { raw: question.to_vec(), ..Message::default() };
        asked.decode().unwrap();
        let mut message = Message::new();
        let mapped = XorMappedAddress { ip: seen.ip(), port: seen.port() };
        message.build(&[Box::new(asked), Box::new(BINDING_SUCCESS), Box::new(mapped), Box::new(FINGERPRINT)]).unwrap();
        message.raw
    }

    pub(super) fn build(name: &str) -> Vec<u8> {
        let provider = rtc::crypto::default_provider().unwrap();
        let crypto = provider.crypto();
        let mut message = Message::new();
        message
            .build(&[
                Box::new(BINDING_REQUEST),
                Box::new(TransactionId([9; 12])),
                Box::new(TextAttribute::new(ATTR_USERNAME, name.to_owned())),
                Box::new(MessageIntegrity::new_short_term_integrity_with_provider("wrong".to_owned(), crypto)),
                Box::new(FINGERPRINT),
            ])
            .unwrap();
        message.raw
    }
}

struct Caller {
    browser: Browser,
    far: Far,
}

/// The media worker's end.
struct Far {
    inward: mpsc::Receiver<Vec<u8>>,
    outward: mpsc::Sender<Vec<u8>>,
}

impl Caller {
    /// The next packet for the media worker.
    fn audio(&mut self) -> Vec<u8> {
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until {
            if let Ok(packet) = self.far.inward.try_recv() {
                return packet;
            }
            std::thread::yield_now();
        }
        panic!("no audio came");
    }
}

fn open(mode: Mode) -> (WebRtc, mpsc::Receiver<News>) {
    let udp = vec!["127.0.0.1:0".parse().unwrap()];
    WebRtc::start(WebRtcConfig { udp, mode, loopback_only: true, ..WebRtcConfig::default() }).unwrap()
}

fn invite(webrtc: &WebRtc, offer: &str) -> (Invited, Far) {
    let offer = Offer::parse(offer.as_bytes()).unwrap();
    let settled = offer.settle(&[Codec::Pcmu, Codec::Pcma], false).unwrap();
    let ((inward, from), (to, outward)) = (mpsc::channel(100), mpsc::channel(100));
    let (near, far) = (Audio { inward, outward }, Far { inward: from, outward: to });
    let invited: Result<Invited, InviteError> = webrtc.invite(&offer, &settled, near);
    (invited.unwrap(), far)
}

fn call(webrtc: &WebRtc) -> (Invited, Caller) {
    let offerer = Offerer::new(ULAW);
    let (invited, far) = invite(webrtc, &offerer.offer);
    let browser = offerer.answered(&invited.answer);
    (invited, Caller { browser, far })
}

fn told(news: &mut mpsc::Receiver<News>) -> News {
    let until = Instant::now() + Duration::from_secs(10);
    while Instant::now() < until {
        if let Ok(news) = news.try_recv() {
            return news;
        }
        std::thread::yield_now();
    }
    panic!("no news");
}

fn counted(webrtc: &WebRtc, enough: impl Fn(&Counters) -> bool) -> Counters {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let counters = webrtc.counters();
        if enough(&counters) || Instant::now() > until {
            return counters;
        }
        std::thread::yield_now();
    }
}

fn ufrag(answer: &str) -> &str {
    answer.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:")).unwrap().trim()
}
