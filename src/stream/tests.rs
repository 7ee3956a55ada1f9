use proptest::prelude::*;
use serde_json::json;

use super::*;

#[test]
fn a_carriers_stream_is_a_call_with_its_parameters() {
    let mut carrier = Carrier::default();

    let connected = carrier.hear(r#"{"event":"connected","protocol":"Call","version":"1.0.0"}"#);
    let started = carrier.hear(START);
    let audio = carrier.hear(&media("MZ1", &[0x80, 0xFF]));
    let key = carrier.hear(
        r##"{"event":"dtmf","sequenceNumber":"5","streamSid":"MZ1","dtmf":{"track":"inbound_track","digit":"#"}}"##,
    );
    let mark = carrier.hear(r#"{"event":"mark","sequenceNumber":"4","streamSid":"MZ1","mark":{"name":"m1"}}"#);
    let stop = carrier
        .hear(r#"{"event":"stop","sequenceNumber":"5","streamSid":"MZ1","stop":{"accountSid":"AC1","callSid":"CA1"}}"#);

    assert_eq!(connected, Ok(Said::Ignored));
    let Ok(Said::Begins(comer)) = started else { panic!("a call begins: {started:?}") };
    assert_eq!((comer.from.reveal().as_str(), comer.to.reveal().as_str()), ("+441632960001", "100"));
    let names: Vec<&str> = comer.variables.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["customer", "from_number", "to_number"]);
    assert_eq!(audio, Ok(Said::Audio(Audio::Ulaw(vec![0x80, 0xFF]))));
    assert!(matches!(key, Ok(Said::Key(digit)) if digit.reveal().as_char() == '#'));
    assert_eq!(mark, Ok(Said::Heard("m1".to_owned())));
    assert_eq!(stop, Ok(Said::Ends));
    assert_eq!(carrier.hear(&media("MZ1", &[0x80])), Ok(Said::Ignored), "nothing comes after the end");
}

#[test]
fn we_answer_in_the_carriers_words() {
    let mut carrier = Carrier::default();
    assert_eq!(carrier.say(&[0x80]), None, "nothing before it has begun");
    carrier.hear(START).expect("begins");

    let read = |text: Option<String>| serde_json::from_str::<serde_json::Value>(&text.expect("has begun")).unwrap();
    assert_eq!(
        read(carrier.say(&[0x80, 0xFF])),
        json!({"event": "media", "streamSid": "MZ1", "media": {"payload": "gP8="}})
    );
    assert_eq!(read(carrier.mark("m")), json!({"event": "mark", "streamSid": "MZ1", "mark": {"name": "m"}}));
    assert_eq!(read(carrier.clear()), json!({"event": "clear", "streamSid": "MZ1"}));
}

#[test]
fn what_is_of_another_stream_or_makes_no_sense_is_passed_over() {
    let mut carrier = Carrier::default();
    carrier.hear(START).expect("begins");
    let long = media("MZ1", &[0xFF; 8001]);
    let ours = r#"{"event":"media","streamSid":"MZ1","media":{"track":"outbound","payload":"gP8="}}"#;

    for text in [&media("MZ2", &[1]), START, "{", "[]", r#"{"event":"dance"}"#, &long, ours] {
        assert_eq!(carrier.hear(text), Ok(Said::Ignored), "{}", &text[..text.len().min(80)]);
    }
    let mut last = Ok(Said::Ignored);
    for _ in 0..limits::STREAM_IGNORED_MAX {
        last = carrier.hear("{");
    }
    assert_eq!(last, Err(Fault::Nonsense), "patience has an end");
    assert_eq!(Carrier::default().hear(&media("MZ1", &[1])), Err(Fault::NoBeginning));
    assert_eq!(Carrier::default().hear(&" ".repeat(limits::STREAM_MESSAGE_MAX + 1)), Err(Fault::TooLong));
    let other = START.replace("audio/x-mulaw", "audio/opus");
    assert_eq!(Carrier::default().hear(&other), Err(Fault::Unsupported));
}

#[test]
fn our_own_stream_carries_audio_as_it_is() {
    for (form, octets, expected) in [
        ("ulaw", vec![0x80, 0x01], Audio::Ulaw(vec![0x80, 0x01])),
        ("pcm8000", vec![0x01, 0x00, 0xFF, 0xFF], Audio::Linear(vec![1, -1])),
        ("pcm16000", vec![0x00, 0x80], Audio::Linear(vec![i16::MIN])),
    ] {
        let mut plain = Plain::default();
        assert_eq!(plain.hear_audio(&octets), Err(Fault::NoBeginning));
        let start =
            json!({"type": "start", "version": 1, "audio": form, "to": "100", "variables": {"a b": "x", "ok": "y"}});
        let Ok(Said::Begins(comer)) = plain.hear(&start.to_string()) else { panic!("begins") };

        assert_eq!(comer.variables.len(), 1, "a name with a blank is none");
        assert_eq!(plain.hear_audio(&octets), Ok(Said::Audio(expected)));
        if form != "ulaw" {
            assert_eq!(plain.hear_audio(&octets[..1]), Ok(Said::Ignored), "half a sample");
        }
        assert_eq!(plain.hear(r#"{"type":"stop"}"#), Ok(Said::Ends));
        assert_eq!(plain.hear_audio(&octets), Ok(Said::Ignored));
    }
    let mut future = Plain::default();
    assert_eq!(future.hear(r#"{"type":"start","version":2}"#), Err(Fault::Unsupported));
}

#[test]
fn the_schema_in_the_tree_is_current() {
    let current = format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/stream/stream.schema.json");
    if std::env::var_os("RINGBACK_BLESS").is_some() {
        std::fs::write(path, &current).expect("the schema can be written");
    }
    let written = std::fs::read_to_string(path).expect("the schema is in the tree");
    assert!(written == current, "RINGBACK_BLESS=1 cargo test stream:: writes src/stream/stream.schema.json anew");
}

proptest! {
    #[test]
    fn garbage_is_never_more_than_ignored(texts in proptest::collection::vec(".{0,200}", 0..60), begun: bool) {
        let (mut carrier, mut plain) = (Carrier::default(), Plain::default());
        if begun {
            carrier.hear(START).expect("begins");
            plain.hear(r#"{"type":"start","version":1}"#).expect("begins");
        }
        for text in &texts {
            for said in [carrier.hear(text), plain.hear(text), plain.hear_audio(text.as_bytes())] {
                prop_assert!(matches!(said, Ok(Said::Ignored | Said::Audio(_)) | Err(_)), "{said:?}");
            }
        }
    }
}

const START: &str = r#"{"event":"start","sequenceNumber":"1","streamSid":"MZ1","start":{"accountSid":"AC1","streamSid":"MZ1","callSid":"CA1","tracks":["inbound"],"mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000,"channels":1},"customParameters":{"from_number":"+441632960001","to_number":"100","customer":"4711"}}}"#;

fn media(stream: &str, ulaw: &[u8]) -> String {
    use base64::Engine as _;
    let payload = base64::engine::general_purpose::STANDARD.encode(ulaw);
    json!({"event": "media", "sequenceNumber": "3", "streamSid": stream,
           "media": {"track": "inbound", "chunk": "1", "timestamp": "5", "payload": payload}})
    .to_string()
}
