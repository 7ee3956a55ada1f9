use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use proptest::prelude::*;

use super::*;
use crate::model::Codec::{Pcma, Pcmu};
use crate::model::{Codec, MediaSecurity, OpusTerms, SrtpSuite, limits};

#[test]
fn a_plain_offer_is_answered_with_one_codec_and_digits() {
    let offer = read("m=audio 49170 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\n");

    let (agreed, text) = answer(&offer, &local()).unwrap();

    let expected = Agreed {
        codec: Pcmu,
        payload_type: 0,
        dtmf: Some(101),
        dtmf_in: Some(101),
        also: Vec::new(),
        dtmf_clock: 8000,
        comfort_noise: None,
        opus: OpusTerms::default(),
        ptime_max_ms: 120,
        remote: "192.0.2.10:49170".parse().unwrap(),
        ptime_ms: 20,
        direction: Direction::SendRecv,
        keys: None,
        rtcp_muxed: false,
        rtcp: None,
        rtcp_extended: false,
    };
    assert_eq!(agreed, expected);
    assert_eq!(
        text,
        "v=0\r\no=- 77 1 IN IP4 198.51.100.1\r\ns=-\r\nc=IN IP4 198.51.100.1\r\nt=0 0\r\nm=audio 30000 RTP/AVP 0 101\r\n\
         a=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n"
    );
}

#[test]
fn the_offerers_order_wins_among_ours() {
    let offer = read(
        "m=audio 5000 RTP/AVP 9 18 111 8 0 96\r\na=rtpmap:111 opus/48000/2\r\na=rtpmap:96 telephone-event/8000\r\n",
    );

    let (agreed, text) = answer(&offer, &local()).unwrap();

    assert_eq!((agreed.codec, agreed.payload_type, agreed.dtmf), (Pcma, 8, Some(96)));
    assert!(text.contains("m=audio 30000 RTP/AVP 8 96\r\n"), "{text}");
}

#[test]
fn only_codecs_that_we_may_use_are_agreed() {
    let offer = read("m=audio 5000 RTP/AVP 8 0\r\n");

    let (agreed, _) = answer(&offer, &Local { codecs: vec![Pcmu], ..local() }).unwrap();
    assert_eq!((agreed.codec, agreed.dtmf), (Pcmu, None));
    assert_eq!(answer(&offer, &Local { codecs: vec![], ..local() }), Err(SdpError::NoCommonCodec));
}

#[test]
fn g711_may_come_under_a_number_of_its_own_and_digits_only_at_its_clock() {
    let offer = read(
        "m=audio 5000 RTP/AVP 97 100 101\r\na=rtpmap:97 pcma/8000/1\r\na=rtpmap:100 telephone-event/48000\r\n\
         a=rtpmap:101 telephone-event/8000\r\n",
    );

    let (agreed, text) = answer(&offer, &local()).unwrap();

    assert_eq!((agreed.codec, agreed.payload_type, agreed.dtmf), (Pcma, 97, Some(101)));
    assert!(text.contains("a=rtpmap:97 PCMA/8000\r\n"), "{text}");
}

#[test]
fn every_codec_is_agreed_under_the_offerers_number_and_in_its_own_clock() {
    for (lines, codec, number, events, map) in [
        ("m=audio 5000 RTP/AVP 9 101\r\n", Codec::G722, 9, (101, 8000), "a=rtpmap:9 G722/8000"),
        (
            "m=audio 5000 RTP/AVP 96 101 110\r\na=rtpmap:96 opus/48000/2\r\na=rtpmap:110 telephone-event/48000\r\n",
            Codec::Opus,
            96,
            (110, 48_000),
            "a=rtpmap:96 opus/48000/2\r\na=fmtp:96 maxplaybackrate=16000;sprop-maxcapturerate=16000;stereo=0;\
             sprop-stereo=0;useinbandfec=1\r\na=rtpmap:110 telephone-event/48000",
        ),
        (
            "m=audio 5000 RTP/AVP 97 101\r\na=rtpmap:97 L16/16000\r\n",
            Codec::L16Wide,
            97,
            (101, 8000),
            "a=rtpmap:97 L16/16000",
        ),
        (
            "m=audio 5000 RTP/AVP 98 101\r\na=rtpmap:98 L16/8000/1\r\n",
            Codec::L16Narrow,
            98,
            (101, 8000),
            "a=rtpmap:98 L16/8000",
        ),
    ] {
        let all = Local { codecs: Codec::ALL.to_vec(), ..local() };
        let offer = read(&format!("{lines}a=rtpmap:101 telephone-event/8000\r\n"));

        let (agreed, text) = answer(&offer, &all).unwrap();

        assert_eq!((agreed.codec, agreed.payload_type), (codec, number));
        assert_eq!((agreed.dtmf, agreed.dtmf_clock), (Some(events.0), events.1), "{codec}");
        assert!(text.contains(map), "{text}");
        assert_eq!(reanswer(&text, &offer).unwrap().1, text, "{codec}");
    }
}

#[test]
fn what_is_asked_of_opus_and_of_packets_is_heard() {
    let all = Local { codecs: vec![Codec::Opus], ..local() };
    let offer = read(
        "m=audio 5000 RTP/AVP 111\r\na=rtpmap:111 OPUS/48000/2\r\n\
         a=fmtp:111 minptime=10; useinbandfec=1;usedtx=1;maxplaybackrate=8000;maxaveragebitrate=20000;stereo=1\r\n\
         a=ptime:60\r\na=maxptime:40\r\n",
    );

    let (agreed, _) = answer(&offer, &all).unwrap();

    assert_eq!(agreed.opus, OpusTerms { fec: true, dtx: true, max_rate: 8000, max_bitrate: 20_000 });
    assert_eq!((agreed.ptime_ms, agreed.ptime_max_ms), (40, 40));
}

#[test]
fn comfort_noise_is_agreed_only_where_both_want_it() {
    let offer = read("m=audio 5000 RTP/AVP 0 13\r\n");
    let wanting = Local { comfort_noise: true, ..local() };

    let (agreed, text) = answer(&offer, &wanting).unwrap();
    assert_eq!(agreed.comfort_noise, Some(13));
    assert!(text.contains("m=audio 30000 RTP/AVP 0 13\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:13 CN/8000\r\n"), "{text}");
    assert_eq!(reanswer(&text, &offer).unwrap().1, text);
    assert_eq!(answer(&offer, &local()).unwrap().0.comfort_noise, None);
    assert_eq!(answer(&read("m=audio 5000 RTP/AVP 0\r\n"), &wanting).unwrap().0.comfort_noise, None);
}

#[test]
fn an_answer_with_several_codecs_lets_the_other_side_change_between_them() {
    let ours = Local { codecs: vec![Codec::Opus, Codec::G722, Pcma], ..local() };
    let text = offer(&ours);
    assert!(text.contains("m=audio 30000 RTP/AVP 111 9 8 110 101\r\n"), "{text}");
    let body = self::text(
        "m=audio 5000 RTP/AVP 96 8 101\r\na=rtpmap:96 opus/48000/2\r\na=rtpmap:101 telephone-event/8000\r\n",
    );

    for agreed in [accept(&ours, body.as_bytes()).unwrap(), super::settle(&text, body.as_bytes()).unwrap()] {
        assert_eq!((agreed.codec, agreed.payload_type), (Codec::Opus, 96));
        assert_eq!(agreed.also, [(111, Codec::Opus), (8, Pcma)]);
        assert_eq!((agreed.dtmf_in, agreed.dtmf_clock), (Some(101), 8000));
    }
}

#[test]
fn every_stream_is_answered_in_its_place() {
    let offer = read(
        "m=video 6000 RTP/AVP 96 97\r\nm=audio 0 RTP/AVP 0\r\nm=audio 7000 RTP/SAVP 0\r\nm=audio 8000 RTP/AVP 8\r\n\
         m=audio 9000 RTP/AVP 0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n",
    );

    let (agreed, text) = answer(&offer, &local()).unwrap();

    assert_eq!((agreed.codec, agreed.remote.port()), (Pcma, 8000));
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("m=")).collect();
    assert_eq!(
        lines,
        [
            "m=video 0 RTP/AVP 96",
            "m=audio 0 RTP/AVP 0",
            "m=audio 0 RTP/SAVP 0",
            "m=audio 30000 RTP/AVP 8",
            "m=audio 0 RTP/AVP 0",
            "m=application 0 UDP/DTLS/SCTP webrtc-datachannel",
        ]
    );
}

#[test]
fn a_stream_without_our_codec_gives_way_to_the_next() {
    let offer = read("m=audio 5000 RTP/AVP 18\r\nm=audio 5002 RTP/AVP 0\r\n");

    let (agreed, text) = answer(&offer, &local()).unwrap();

    assert_eq!(agreed.remote.port(), 5002);
    assert!(text.contains("m=audio 0 RTP/AVP 0\r\nm=audio 30000 RTP/AVP 0\r\n"), "{text}");
}

#[test]
fn a_stream_has_its_own_address_and_direction_over_the_sessions() {
    let offer = read("a=sendonly\r\nm=audio 5000 RTP/AVP 0\r\nc=IN IP4 192.0.2.99\r\na=recvonly\r\na=ptime:30\r\n");

    let (agreed, text) = answer(&offer, &local()).unwrap();

    assert_eq!(agreed.remote, "192.0.2.99:5000".parse::<SocketAddr>().unwrap());
    assert_eq!((agreed.direction, agreed.ptime_ms), (Direction::SendOnly, 30));
    assert!(text.ends_with("a=ptime:20\r\na=sendonly\r\n"), "{text}");
}

#[test]
fn a_hold_is_answered_as_one() {
    for (lines, wanted) in [
        ("m=audio 5000 RTP/AVP 0\r\na=sendonly\r\n", Direction::RecvOnly),
        ("m=audio 5000 RTP/AVP 0\r\na=inactive\r\n", Direction::Inactive),
        ("a=inactive\r\nm=audio 5000 RTP/AVP 0\r\n", Direction::Inactive),
        ("m=audio 5000 RTP/AVP 0\r\nc=IN IP4 0.0.0.0\r\n", Direction::Inactive),
        ("m=audio 5000 RTP/AVP 0\r\nc=IN IP4 0.0.0.0\r\na=sendonly\r\n", Direction::Inactive),
    ] {
        let (agreed, text) = answer(&read(lines), &local()).unwrap();

        assert_eq!(agreed.direction, wanted, "{lines}");
        assert!(text.ends_with(&format!("a={wanted}\r\n")), "{text}");
    }
}

#[test]
fn bare_line_feeds_and_latin_1_are_read() {
    let body = b"v=0\no=- 1 1 IN IP4 192.0.2.1\ns=J\xf6rg\nc=IN IP4 192.0.2.1\nt=0 0\nx=what\nm=audio 5000 RTP/AVP 0\n";

    assert_eq!(Offer::parse(body).unwrap().codecs(), [Pcmu]);
}

#[test]
fn addresses_of_both_versions_are_read_and_not_mixed() {
    let offer = Offer::parse(
        b"v=0\r\no=- 1 1 IN IP6 2001:db8::1\r\ns=-\r\nc=IN IP6 2001:db8::1\r\nt=0 0\r\nm=audio 5000 RTP/AVP 0\r\n",
    )
    .unwrap();
    let six = Local { address: IpAddr::V6(Ipv6Addr::LOCALHOST), ..local() };

    let (agreed, text) = answer(&offer, &six).unwrap();

    assert_eq!(agreed.remote, "[2001:db8::1]:5000".parse::<SocketAddr>().unwrap());
    assert!(text.contains("c=IN IP6 ::1\r\n"), "{text}");
    assert_eq!(answer(&offer, &local()), Err(SdpError::AddressFamily));
}

#[test]
fn what_cannot_be_served_is_told_apart() {
    let head = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nt=0 0\r\n";
    let with = |lines: &str| Offer::parse(format!("{head}{lines}").as_bytes()).map(|_| ());
    let address = "c=IN IP4 192.0.2.1\r\n";

    assert_eq!(with(""), Err(SdpError::NoAudio));
    assert_eq!(with(&format!("{address}m=video 5000 RTP/AVP 96\r\n")), Err(SdpError::NoAudio));
    assert_eq!(with(&format!("{address}m=audio 0 RTP/AVP 0\r\n")), Err(SdpError::PortZero));
    assert_eq!(with(&format!("{address}m=video 1 RTP/AVP 9\r\nm=audio 0 RTP/AVP 0\r\n")), Err(SdpError::PortZero));
    assert_eq!(with(&format!("{address}m=audio 5000 RTP/AVPF 0\r\n")), Err(SdpError::Profile));
    assert_eq!(with("m=audio 5000 RTP/AVP 0\r\n"), Err(SdpError::NoAddress));
    assert_eq!(with("c=IN IP4 host.example\r\nm=audio 5000 RTP/AVP 0\r\n"), Err(SdpError::NoAddress));
    for broken in ["nonsense\r\n", "c=\r\n", "m=audio\r\n", "m=audio 70000 RTP/AVP 0\r\n"] {
        let error = with(broken).unwrap_err();
        assert!(error.is_malformed(), "{broken}: {error}");
    }
    assert!(Offer::parse(b"").unwrap_err().is_malformed());
    assert_eq!(Offer::parse(&vec![b'a'; limits::SDP_LEN_MAX + 1]), Err(SdpError::TooLarge));
    let many = "m=audio 5000 RTP/AVP 0\r\n".repeat(limits::SDP_STREAMS_MAX + 1);
    assert_eq!(with(&many), Err(SdpError::TooLarge));
    assert_eq!(answer(&read("m=audio 5000 RTP/AVP 18 9\r\n"), &local()), Err(SdpError::NoCommonCodec));
    assert!(!SdpError::NoCommonCodec.is_malformed());
}

#[test]
fn our_offer_and_our_answer_agree_with_each_other() {
    let ours = offer(&local());
    assert!(
        ours.contains("m=audio 30000 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n"),
        "{ours}"
    );
    let there = Local { address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 5)), port: 4000, codecs: vec![Pcma], ..local() };

    let (theirs, text) = answer(&Offer::parse(ours.as_bytes()).unwrap(), &there).unwrap();
    let agreed = accept(&local(), text.as_bytes()).unwrap();

    assert_eq!((agreed.codec, agreed.dtmf, agreed.dtmf_in), (Pcma, Some(101), Some(101)));
    assert_eq!(agreed.remote, "192.0.2.5:4000".parse::<SocketAddr>().unwrap());
    assert_eq!(theirs.remote, "198.51.100.1:30000".parse::<SocketAddr>().unwrap());
}

#[test]
fn an_answer_may_number_digits_in_its_own_way() {
    let body = text("m=audio 5000 RTP/AVP 8 97\r\na=rtpmap:97 telephone-event/8000\r\n");

    let agreed = accept(&local(), body.as_bytes()).unwrap();

    assert_eq!((agreed.dtmf, agreed.dtmf_in), (Some(97), Some(101)));
    assert_eq!(accept(&local(), text("m=audio 5000 RTP/AVP 18\r\n").as_bytes()), Err(SdpError::NoCommonCodec));
    assert_eq!(accept(&local(), text("m=audio 0 RTP/AVP 0\r\n").as_bytes()), Err(SdpError::PortZero));
}

#[test]
fn a_refresh_is_answered_to_the_letter_and_a_change_counts_up() {
    let (_, first) =
        answer(&read("m=audio 5000 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\n"), &local()).unwrap();

    let same = read("m=audio 6000 RTP/AVP 8 0 101\r\na=rtpmap:101 telephone-event/8000\r\n");
    let (agreed, again) = reanswer(&first, &same).unwrap();
    assert_eq!(again, first);
    assert_eq!((agreed.codec, agreed.remote.port()), (Pcmu, 6000));

    let held = read("m=audio 6000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=sendonly\r\n");
    let (_, second) = reanswer(&first, &held).unwrap();
    assert!(second.contains("o=- 77 2 IN") && second.contains("a=recvonly"), "{second}");
    let (_, third) = reanswer(&second, &same).unwrap();
    assert!(third.contains("o=- 77 3 IN") && third.contains("a=sendrecv"), "{third}");

    assert_eq!(reanswer(&first, &read("m=audio 6000 RTP/AVP 8\r\n")), Err(SdpError::NoCommonCodec));
}

proptest! {
    #[test]
    fn no_octets_can_break_the_reader(body in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = Offer::parse(&body);
    }

    #[test]
    fn whatever_is_offered_the_answer_mirrors_it(lines in proptest::collection::vec(line(), 0..14)) {
        let body = text(&lines.concat());
        if let Ok(offer) = Offer::parse(body.as_bytes())
            && let Ok((agreed, answer_text)) = answer(&offer, &local())
        {
            let count = |text: &str| text.lines().filter(|line| line.starts_with("m=")).count();
            prop_assert_eq!(count(&body), count(&answer_text));
            prop_assert_eq!(answer_text.matches("m=audio 30000 ").count(), 1);
            prop_assert!(sipx_sdp::parse(&answer_text).is_ok());
            let (_, again) = reanswer(&answer_text, &offer).unwrap();
            prop_assert_eq!(&again, &answer_text);
            let back = accept(&local(), answer_text.as_bytes()).unwrap();
            prop_assert_eq!(back.codec, agreed.codec);
        }
    }

    #[test]
    fn a_mutilated_offer_is_refused_or_read(at in 0..180usize, octet in any::<u8>(), cut in 0..180usize) {
        let mut body = text("m=audio 5000 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n").into_bytes();
        let length = body.len();
        body[at % length] = octet;
        let _ = Offer::parse(&body);
        let _ = Offer::parse(&body[..cut.min(length)]);
    }
}

fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        "m=(audio|video|AUDIO) (0|5000|65535|5000/2) (RTP/AVP|RTP/SAVP|udptl) [0-9]{1,3}( [0-9]{1,3}){0,4}\r\n",
        "a=rtpmap:[0-9]{1,3} (PCMU|pcma|telephone-event|opus|G729|G722|L16|CN)/(8000|16000|48000)(/[12])?\r\n",
        "a=(sendrecv|sendonly|recvonly|inactive|(max)?ptime:[0-9]{1,6}|fmtp:[0-9]{1,3} [a-z]{0,9}=?[0-9]{0,9})\r\n",
        "c=IN IP(4|6) (192\\.0\\.2\\.7|0\\.0\\.0\\.0|::1|host)\r\n",
        "[a-z]=[ -~]{0,30}\r?\n",
    ]
}

fn local() -> Local {
    let address = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
    Local {
        address,
        port: 30000,
        codecs: vec![Pcmu, Pcma],
        comfort_noise: false,
        session_id: 77,
        version: 1,
        keyring: Keyring::default(),
    }
}

fn text(lines: &str) -> String {
    format!("v=0\r\no=- 1 1 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\n{lines}")
}

fn read(lines: &str) -> Offer {
    Offer::parse(text(lines).as_bytes()).unwrap()
}

const THEIR_KEY: &str = "a=crypto:3 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj|2^31\r\n";

#[test]
fn a_protected_offer_is_answered_with_its_tag_and_a_key_of_ours() {
    for (profile, wanted) in [
        ("RTP/SAVP", MediaSecurity::Required),
        ("RTP/SAVP", MediaSecurity::Optional),
        ("RTP/AVP", MediaSecurity::Required),
    ] {
        let offer = read(&format!("m=audio 5000 {profile} 0\r\n{THEIR_KEY}a=rtcp-mux\r\na=rtcp-xr:voip-metrics\r\n"));

        let (agreed, text) = answer(&offer, &secure(wanted)).unwrap();

        let keys = agreed.keys.expect("is protected");
        assert_eq!((keys.theirs.key(), keys.ours.suite()), (&b"wDfvg&T+)xG7@fb5"[..], SrtpSuite::Aes128CmSha1Tag80));
        assert!(text.contains(&format!("m=audio 30000 {profile} 0\r\n")), "{text}");
        assert!(text.contains("a=crypto:3 AES_CM_128_HMAC_SHA1_80 inline:") && text.contains("a=rtcp-mux"), "{text}");
        assert!(agreed.rtcp_muxed && agreed.rtcp_extended && text.contains("a=rtcp-xr:voip-metrics\r\n"));
        assert!(!format!("{agreed:?}{:?}", secure(wanted)).contains("wDfvg"), "keys are not printed");
    }
}

#[test]
fn what_is_wanted_and_what_is_offered_must_fit() {
    let plain = "m=audio 5000 RTP/AVP 0\r\n".to_owned();
    let keyless = "m=audio 5000 RTP/SAVP 0\r\n".to_owned();
    let keyed = format!("{keyless}{THEIR_KEY}");
    for (wanted, offer, expected) in [
        (MediaSecurity::Off, &keyed, SdpError::Profile),
        (MediaSecurity::Required, &plain, SdpError::Unprotected),
        (MediaSecurity::Required, &keyless, SdpError::NoKeys),
        (MediaSecurity::Optional, &keyless, SdpError::NoKeys),
    ] {
        let refused = answer(&read(offer), &secure(wanted)).unwrap_err();
        assert_eq!(refused, expected);
        assert!(!refused.is_malformed());
    }
    // Where both are offered, the protected one; where we do not protect, the plain one.
    let both = read(&format!("{plain}{keyed}"));
    let (agreed, text) = answer(&both, &secure(MediaSecurity::Optional)).unwrap();
    assert!(agreed.keys.is_some() && text.contains("m=audio 0 RTP/AVP 0\r\nm=audio 30000 RTP/SAVP 0\r\n"), "{text}");
    let (agreed, text) = answer(&both, &local()).unwrap();
    assert!(agreed.keys.is_none() && text.contains("m=audio 30000 RTP/AVP 0\r\n"), "{text}");
    assert!(text.ends_with("m=audio 0 RTP/SAVP 0\r\n") && !text.contains("crypto"), "{text}");
}

#[test]
fn keys_are_offered_and_settled_from_both_sides() {
    for (wanted, profile) in [(MediaSecurity::Required, "RTP/SAVP"), (MediaSecurity::Optional, "RTP/AVP")] {
        let (here, there) =
            (secure(wanted), Local { keyring: Keyring::new(MediaSecurity::Optional, [9; 32]), ..local() });
        let ours = offer(&here);
        assert!(ours.contains(&format!("m=audio 30000 {profile} 0 8 101\r\n")), "{ours}");
        assert_eq!(ours.matches("a=crypto:").count(), 4);

        let (theirs, text) = answer(&Offer::parse(ours.as_bytes()).unwrap(), &there).unwrap();
        let agreed = accept(&here, text.as_bytes()).unwrap();

        let (mine, other) = (agreed.keys.unwrap(), theirs.keys.unwrap());
        assert_eq!((mine.ours, mine.theirs), (other.theirs, other.ours));
        assert_eq!(settle(&ours, text.as_bytes()).unwrap().keys, agreed.keys, "also in the middle of a call");
        let plain = text.replace("RTP/SAVP", "RTP/AVP");
        let plain = plain.lines().filter(|line| !line.starts_with("a=crypto")).map(|line| format!("{line}\r\n"));
        let refused = (wanted == MediaSecurity::Required).then_some(SdpError::Unprotected);
        assert_eq!(accept(&here, plain.collect::<String>().as_bytes()).err(), refused);
    }
}

#[test]
fn a_later_offer_keeps_our_key_and_may_change_theirs_but_not_drop_it() {
    let first = read(&format!("m=audio 5000 RTP/SAVP 0\r\n{THEIR_KEY}"));
    let (agreed, text) = answer(&first, &secure(MediaSecurity::Optional)).unwrap();
    let before = agreed.keys.unwrap();
    let again = |lines: &str| {
        let offer = read(&format!("m=audio 5000 {lines}\r\n"));
        reanswer(&text, &offer).map(|(agreed, text)| (agreed.keys, text))
    };
    let other = THEIR_KEY.replace("crypto:3", "crypto:1").replace("d0Rm", "AAAA");

    let (same, repeated) = again(&format!("RTP/SAVP 0\r\n{}", THEIR_KEY.trim_end())).unwrap();
    assert_eq!((same, &repeated), (Some(before), &text), "a refresh changes nothing");
    let (renewed, _) = again(&format!("RTP/SAVP 0\r\n{}", other.trim_end())).unwrap();
    let renewed = renewed.unwrap();
    assert_eq!(renewed.ours, before.ours);
    assert_ne!(renewed.theirs, before.theirs);
    let stronger = "RTP/SAVP 0\r\na=crypto:1 AEAD_AES_128_GCM inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJQ==";
    let (stronger, _) = again(stronger).unwrap();
    assert_ne!(&stronger.unwrap().ours.key()[..16], before.ours.key(), "no two ciphers share a key");
    assert_eq!(again("RTP/AVP 0").unwrap_err(), SdpError::Unprotected);
    assert!(reoffer(&text, &[Pcmu]).unwrap().contains("a=crypto:3 AES_CM_128_HMAC_SHA1_80"));
}

#[test]
fn reports_have_their_own_address_when_one_is_given() {
    let port = |lines: &str| answer(&read(&format!("m=audio 5000 RTP/AVP 0\r\n{lines}")), &local()).unwrap().0.rtcp;

    assert_eq!(port(""), None);
    assert_eq!(port("a=rtcp:5007\r\n"), Some("192.0.2.10:5007".parse::<SocketAddr>().unwrap()));
    assert_eq!(port("a=rtcp:5007 IN IP4 192.0.2.77\r\n"), Some("192.0.2.77:5007".parse::<SocketAddr>().unwrap()));
    assert_eq!(port("a=rtcp:x\r\n"), None);
}

fn secure(wanted: MediaSecurity) -> Local {
    Local { keyring: Keyring::new(wanted, [7; 32]), ..local() }
}
