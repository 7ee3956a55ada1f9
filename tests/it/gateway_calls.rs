//! Calls through the whole gateway, each octet of the other side written by hand.

#![allow(clippy::disallowed_methods, reason = "real peers are waited for by the real clock")]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::caller::Caller;
use crate::mock::Answer;
use crate::rig::{
    GOODBYE, GREETING, Gateway, MENU, MESSAGE, MUSIC, Rig, SORRY, WEBHOOK_SECRET, alone, beside_a_call, shared,
};

#[test]
fn a_caller_is_looked_up_greeted_and_led_through_the_menu() {
    let _machine = shared();
    let rig = Rig::new(&[]);
    let mut gateway = Gateway::start(&rig);
    let mut caller = Caller::new(gateway.udp, "100");

    caller.invite();
    let trying = caller.expect("100");
    let ringing = caller.expect("180");
    let answer = caller.answered();
    let heard = caller.talk(ms(2800), &[]);
    caller.press(9);
    let goodbye = caller.talk(ms(900), &[]);
    let bye = caller.expect("BYE");
    caller.answer(&bye);

    assert!(trying.after < ms(200) && ringing.after < ms(200), "{:?} {:?}", trying.after, ringing.after);
    assert!(answer.after < ms(1000), "the lookup answers at once, the call after {:?}", answer.after);
    let lookup = rig.mock.next("contacts", ms(1000)).expect("the caller is looked up");
    assert_eq!(lookup.method, "GET");
    assert_eq!(lookup.path, "/contacts?number=%2B441632960001");
    let (greeting, menu) = (heard.tone(GREETING).expect("greeting"), heard.tone(MENU).expect("menu"));
    assert!(greeting.0 < 200 && greeting.1.abs_diff(1000) < 200, "{greeting:?}");
    assert!(menu.0.abs_diff(greeting.1) < 200, "the menu follows at once: {greeting:?} {menu:?}");
    assert!(heard.first.unwrap() < answer.after + ms(200), "first audio {:?}", heard.first);
    assert!(goodbye.has_tone(GOODBYE, 300), "goodbye is heard to its end");
    let event = rig.mock.event();
    assert_eq!(event.json()["type"], "call.ended");
    assert_eq!(event.json()["data"]["status"], "COMPLETED");
    assert_eq!(event.json()["data"]["endedBy"], "agent");
    assert_signed(&event);
    gateway.assert_well();
}

#[test]
fn a_slow_answer_of_the_api_is_waited_for_with_words_then_music() {
    let _machine = shared();
    let rig = Rig::new(&[]);
    rig.mock.answer("orders", [Answer::Late(ms(2500), json!({"status": "shipped"}))]);
    let gateway = Gateway::start(&rig);
    let mut caller = Caller::new(gateway.udp, "100");

    caller.connect();
    caller.talk(ms(300), &[]);
    caller.press(1);
    let heard = caller.talk(ms(5000), &[]);

    let (message, music) = (heard.tone(MESSAGE).expect("words"), heard.tone(MUSIC).expect("music"));
    assert!((300..900).contains(&message.0), "the words begin after half a second: {message:?}");
    assert!(music.0 > message.0 + 900 && music.1 < 2800, "then music until the answer: {music:?}");
    assert!(heard.longest_gap < ms(200), "a hole of {:?}", heard.longest_gap);
}

#[test]
fn keys_out_of_order_and_twice_are_one_key() {
    let _machine = shared();
    let rig = Rig::new(&[]);
    let gateway = Gateway::start(&rig);
    let mut caller = Caller::new(gateway.udp, "100");

    caller.connect();
    caller.talk(ms(1500), &[]);
    let mut packets = caller.key_packets(1);
    // The network turns them round, doubles some, and loses the first.
    packets.swap(1, 3);
    packets.swap(4, 6);
    packets.remove(0);
    packets.push(packets[5].clone());
    for packet in &packets {
        caller.rtp.send_to(packet, caller.media.unwrap()).unwrap();
    }
    caller.talk(ms(1500), &[]);
    caller.hang_up();

    let asked = std::iter::from_fn(|| rig.mock.next("orders", ms(300))).count();
    assert_eq!(asked, 1, "the key counts once");
}

#[test]
fn a_repeated_invite_is_the_same_call() {
    let _machine = shared();
    let rig = Rig::new(&[]);
    let gateway = Gateway::start(&rig);
    let mut caller = Caller::new(gateway.udp, "100");

    caller.invite();
    caller.repeat_invite();
    let ringing = caller.expect("180");
    caller.repeat_invite();
    let answer = caller.answered();
    caller.talk(ms(200), &[]);
    caller.hang_up();

    assert_eq!(ringing.header("Call-ID"), answer.header("Call-ID"));
    let tag = |header: &str| header.split(";tag=").nth(1).map(str::to_owned);
    assert_eq!(tag(ringing.header("To")), tag(answer.header("To")), "one dialog");
    assert_eq!(rig.mock.event().json()["data"]["endedBy"], "caller");
    assert!(rig.mock.next("hooks", ms(1000)).is_none(), "one call, one record");
}

#[test]
fn an_answer_whose_ack_is_lost_is_repeated_until_it_arrives() {
    let _machine = shared();
    let rig = Rig::new(&[]);
    let mut gateway = Gateway::start(&rig);
    let mut caller = Caller::new(gateway.udp, "102");

    caller.invite();
    let answers: Vec<_> = (0..4).map(|_| caller.expect("200")).collect();
    caller.learn(&answers[3]);
    caller.ack();
    // Any 200 still under way when the ACK was sent.
    while caller.recv(ms(2500)).is_some_and(|reply| reply.status() == 200) {}
    caller.hang_up();

    // RFC 3261 §13.3.1.4: after T1, then doubled up to T2.
    let after: Vec<u128> = answers.windows(2).map(|pair| (pair[1].after - pair[0].after).as_millis()).collect();
    for (gap, wanted) in after.iter().zip([500, 1000, 2000]) {
        assert!(gap.abs_diff(wanted) < 250, "{after:?}");
    }
    gateway.assert_well();
}

#[test]
fn a_caller_who_gives_up_while_it_rings_gets_487_and_a_record() {
    let _machine = shared();
    let rig = Rig::new(&[]);
    let gateway = Gateway::start(&rig);
    let mut caller = Caller::new(gateway.udp, "103");

    caller.invite();
    caller.expect("180");
    rig.mock.next("forever", ms(2000)).expect("the lookup is on its way");
    caller.cancel();
    let canceled = caller.expect("200");
    let refused = caller.expect("487");
    caller.ack();

    assert!(canceled.header("CSeq").ends_with("CANCEL"), "{}", canceled.text);
    assert!(refused.header("CSeq").ends_with("INVITE"), "{}", refused.text);
    let event = rig.mock.event().json();
    assert_eq!(event["data"]["status"], "CANCELED");
    assert_eq!(event["data"]["duration"], 0);
}

#[test]
fn a_call_that_another_telephone_answers_is_no_missed_call() {
    let _machine = shared();
    let rig = Rig::new(&[]);
    let gateway = Gateway::start(&rig);
    let mut caller = Caller::new(gateway.udp, "103");

    caller.invite();
    caller.expect("180");
    caller.cancel_answered_elsewhere();
    caller.expect("487");
    caller.ack();

    let event = rig.mock.event().json();
    assert_eq!(
        (&event["data"]["status"], &event["data"]["endReason"]),
        (&"CANCELED".into(), &"answered_elsewhere".into())
    );
}

#[test]
fn refusals_say_what_the_route_says() {
    let _machine = shared();
    let rig = Rig::new(&[]);
    let gateway = Gateway::start(&rig);

    for (called, status, retry_after) in [("486", "486", ""), ("503", "503", "7"), ("777", "404", "")] {
        let mut caller = Caller::new(gateway.udp, called);
        caller.invite();
        let refused = caller.expect(status);
        caller.ack();
        assert_eq!(refused.header("Retry-After"), retry_after, "{}", refused.text);
    }
}

#[test]
fn an_offer_without_anything_for_us_is_refused_and_counted_as_a_call() {
    let _machine = shared();
    let rig = Rig::new(&[]);
    let gateway = Gateway::start(&rig);
    let offers = [
        "m=audio 40000 RTP/AVP 18\r\na=rtpmap:18 G729/8000\r\n",
        "m=audio 0 RTP/AVP 0\r\n",
        "m=video 40000 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n",
    ];

    for offer in offers {
        let mut caller = Caller::new(gateway.udp, "102");
        let offer = caller.offer_with(offer);
        caller.invite_with(&offer);
        caller.expect("488");
        caller.ack();
        assert_eq!(rig.mock.event().json()["data"]["endReason"], "no_media");
    }
    gateway.assert_counted("ringback_calls_total", "no_media", 3.0);
}

#[test]
fn a_late_description_that_cannot_be_met_ends_the_call_with_bye() {
    let _machine = shared();
    let rig = Rig::new(&[]);
    let mut gateway = Gateway::start(&rig);
    let mut caller = Caller::new(gateway.udp, "102");

    caller.invite_with("");
    let ours = caller.expect("200");
    caller.learn(&ours);
    caller.ack_with(&caller.offer_with("m=audio 0 RTP/AVP 0\r\n"));
    let bye = caller.expect("BYE");
    caller.answer(&bye);

    let event = rig.mock.event().json();
    assert_eq!(event["data"]["endReason"], "no_media");
    assert_eq!(event["data"]["status"], "FAILED");
    gateway.assert_well();
}

#[test]
fn a_peer_that_never_reads_holds_up_nobody() {
    let _machine = alone();
    let rig = Rig::new(&[]);
    let mut gateway = Gateway::start(&rig);
    let mut deaf = std::net::TcpStream::connect(gateway.tcp).unwrap();
    deaf.set_write_timeout(Some(ms(2000))).unwrap();

    for n in 0..60_000 {
        let options = format!(
            "OPTIONS sip:a@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:9;branch=z9hG4bKdeaf{n}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:a@127.0.0.1>;tag=1\r\nTo: <sip:a@127.0.0.1>\r\nCall-ID: deaf{n}\r\n\
             CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
        );
        // It is no longer read, which is what we want of it.
        if std::io::Write::write_all(&mut deaf, options.as_bytes()).is_err() {
            break;
        }
    }
    let mut caller = Caller::new(gateway.udp, "102");
    let answer = caller.connect();
    caller.hang_up();

    assert!(answer.after < ms(1500), "{:?}", answer.after);
    gateway.assert_well();
}

#[test]
fn a_crm_that_misbehaves_delays_nobody_beyond_the_budget() {
    let _machine = shared();
    let rig = Rig::new(&[]);
    let mut gateway = Gateway::start(&rig);
    let cases = [
        ("a page", Answer::Html, 700),
        ("ten megabytes", Answer::Large(10_000_000), 1700),
        ("nothing", Answer::Nothing, 700),
        ("an error", Answer::Json(500, json!({})), 700),
        ("silence", Answer::Hang, 1700),
    ];

    beside_a_call(gateway.udp, || {
        for (what, answer, most) in cases {
            rig.mock.answer("contacts", [answer]);
            let mut caller = Caller::new(gateway.udp, "100");
            let answered = caller.connect();
            let heard = caller.talk(ms(600), &[]);
            caller.hang_up();

            assert!(answered.after < ms(most), "{what}: answered after {:?}", answered.after);
            assert!(heard.has_tone(GREETING, 300), "{what}: no greeting");
            let event = rig.mock.event().json();
            assert_eq!(event["data"]["status"], "COMPLETED", "{what}");
            let lookup = &event["data"]["runs"][0];
            assert_ne!(lookup["result"], "success", "{what}: {lookup}");
        }
    });
    gateway.assert_counted("ringback_actions_total", "api", 5.0);
    gateway.assert_well();
}

#[test]
fn a_receiver_that_hangs_or_refuses_is_told_again_and_holds_up_nobody() {
    let _machine = shared();
    let rig = Rig::new(&[]);
    rig.mock.answer("hooks", [Answer::Hang, Answer::Json(500, json!({})), Answer::Json(200, json!({}))]);
    let gateway = Gateway::start(&rig);

    let mut first = Caller::new(gateway.udp, "102");
    first.connect();
    first.hang_up();
    let hung = rig.mock.event();
    assert_eq!(hung.method, "POST");
    // While that delivery hangs, calls go on.
    let mut second = Caller::new(gateway.udp, "102");
    let answer = second.connect();
    second.hang_up();

    assert!(answer.after < ms(1500), "{:?}", answer.after);
    let mut ids = vec![hung.header("webhook-id").to_owned()];
    while ids.iter().filter(|id| **id == ids[0]).count() < 2 {
        ids.push(rig.mock.event().header("webhook-id").to_owned());
    }
    assert!(ids.iter().any(|id| *id != ids[0]), "the second call's event waits behind the first's: {ids:?}");
}

#[test]
fn garbage_is_counted_and_no_call_notices() {
    let _machine = shared();
    let rig = Rig::new(&[]);
    let mut gateway = Gateway::start(&rig);
    let mut caller = Caller::new(gateway.udp, "102");
    caller.connect();
    caller.talk(ms(200), &[]);

    beside_a_call(gateway.udp, || {
        let rude = Caller::new(gateway.udp, "102");
        let mut noise = noise();
        for round in 0..20 {
            rude.send(&noise(1 + round * 137));
            rude.send(b"INVITE sip:102@127.0.0.1 SIP/2.0\r\n\r\n");
            rude.send(
                b"INVITE \xff\xfe SIP/2.0\r\nVia: nonsense\r\nCSeq: -1 INVITE\r\nContent-Length: 99999999999\r\n\r\n",
            );
            rude.send(b"\r\n\r\n");
            rude.send(&[0; 65_000]);
            // Into a call's audio, from a stranger.
            let _ = rude.rtp.send_to(&noise(200), caller.media.unwrap());
        }
        let long = "x".repeat(60_000);
        rude.send(format!("OPTIONS sip:a SIP/2.0\r\nSubject: {long}\r\n\r\n").as_bytes());
        caller.talk(ms(1500), &[]);
    });
    caller.hang_up();

    // The kernel may drop some of a flood before the gateway sees them.
    gateway.assert_counted("ringback_sip_garbage_total", "", 10.0);
    gateway.assert_counted("ringback_rtp_packets_refused_total", "", 10.0);
    let mut next = Caller::new(gateway.udp, "102");
    next.connect();
    next.hang_up();
    gateway.assert_well();
}

#[test]
fn a_tcp_peer_that_talks_nonsense_is_cut_off_and_no_call_notices() {
    let _machine = shared();
    let rig = Rig::new(&[]);
    let mut gateway = Gateway::start(&rig);
    let mut noise = noise();
    let huge = format!("INVITE sip:102@a SIP/2.0\r\nContent-Length: {}\r\n\r\n", u64::MAX);
    let attacks = [noise(300_000), huge.into_bytes(), b"INVITE sip:102@a SIP/2.0\r\nX: ".repeat(20_000)];

    beside_a_call(gateway.udp, || {
        for attack in &attacks {
            let mut stream = TcpStream::connect(gateway.tcp).unwrap();
            stream.set_read_timeout(Some(ms(10_000))).unwrap();
            // The gateway may hang up in the middle of it.
            let _ = stream.write_all(attack);
            let mut said = Vec::new();
            let ended = stream.read_to_end(&mut said);
            let cut = ended.is_ok() || ended.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset);
            assert!(cut, "still connected after {} octets of nonsense", attack.len());
        }
    });
    gateway.assert_well();
}

// Noise that is the same in each run.
fn noise() -> impl FnMut(usize) -> Vec<u8> {
    let mut random = ringback::sim::Random::new(7);
    move |length| (0..length).map(|_| random.number().to_be_bytes()[0]).collect()
}

#[test]
fn what_was_not_delivered_before_a_crash_is_delivered_after_it_once() {
    let _machine = shared();
    let rig = Rig::new(&[]);
    rig.mock.answer("hooks", [Answer::Hang]);
    let gateway = Gateway::start(&rig);
    let mut caller = Caller::new(gateway.udp, "102");
    caller.connect();
    caller.hang_up();
    let before = rig.mock.event();
    gateway.kill();

    rig.mock.answer("hooks", [Answer::Json(200, json!({}))]);
    let began = Instant::now();
    let mut gateway = Gateway::start(&rig);
    let after = rig.mock.event();

    assert_eq!(after.header("webhook-id"), before.header("webhook-id"), "the receiver can tell that it is the same");
    assert_eq!(after.json()["data"], before.json()["data"]);
    assert!(began.elapsed() < ms(15_000), "delivered after {:?}", began.elapsed());
    assert!(rig.mock.next("hooks", ms(2500)).is_none(), "delivered twice");
    gateway.assert_well();
}

#[test]
fn a_call_that_was_up_when_the_gateway_died_is_told_of_once() {
    let _machine = shared();
    let rig = Rig::new(&[]);
    let gateway = Gateway::start(&rig);
    let mut caller = Caller::new(gateway.udp, "102");
    caller.connect();
    caller.talk(ms(300), &[]);
    gateway.kill();

    let mut gateway = Gateway::start(&rig);
    let event = rig.mock.event();

    assert_eq!(event.json()["data"]["status"], "FAILED");
    assert!(rig.mock.next("hooks", ms(2500)).is_none(), "told twice");
    gateway.assert_well();
}

#[test]
fn a_transfer_that_nobody_takes_comes_back() {
    let _machine = shared();
    let rig = Rig::new(&[]);
    let gateway = Gateway::start(&rig);
    let mut caller = Caller::new(gateway.udp, "201");

    caller.connect();
    let heard = caller.talk(ms(7000), &[]);

    let order = [GREETING, MESSAGE, SORRY, GOODBYE].map(|hz| heard.tone(hz).unwrap_or_else(|| panic!("no {hz} Hz")).0);
    assert!(order.is_sorted(), "{order:?}");
    let bye = caller.expect("BYE");
    caller.answer(&bye);
    let event = rig.mock.event().json();
    assert_eq!(event["data"]["status"], "COMPLETED");
    assert!(event["data"]["transferredTo"].is_null());
}

/// The event is signed as Standard Webhooks wants it.
fn assert_signed(event: &crate::mock::Seen) {
    let mut headers = axum::http::HeaderMap::new();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        headers.insert(name, event.header(name).parse().unwrap());
    }
    standardwebhooks::Webhook::new(WEBHOOK_SECRET).unwrap().verify(&event.body, &headers).expect("a signature");
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
