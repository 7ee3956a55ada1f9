//! Descriptions in the middle of a call: what they offer anew, what we offer anew, and how each follows the one before
//! (RFC 3264 §8).

use super::crypto::Keyring;
use super::negotiate::{self, Agreed, Direction, Local};
use super::offer::{Audio, Offer, SdpError, Stream};
use super::print::{self, Formats};
use crate::model::Codec;

/// Answers an offer in the middle of a call: our address and port stay, and any of `codecs` may be chosen.
///
/// The text is the same to the letter when nothing changed, so that a session refresh is one (RFC 3264 §8);
/// otherwise its version is one higher.
///
/// # Errors
///
/// As [`negotiate::answer`]; also [`SdpError::Unparsable`] when `previous` is not a description that we wrote.
pub fn reanswer_with(previous: &str, codecs: &[Codec], offer: &Offer) -> Result<(Agreed, String), SdpError> {
    let (ours, audio) = read_ours(previous)?;
    let known = |codec: &Codec| codecs.contains(codec) || audio.codecs.iter().any(|(ours, _)| ours == codec);
    let local = Local { codecs: Codec::ALL.into_iter().filter(known).collect(), ..ours };
    let (agreed, text) = negotiate::answer(offer, &local)?;
    if text == previous {
        return Ok((agreed, text));
    }
    negotiate::answer(offer, &Local { version: local.version.wrapping_add(1), ..local })
}

/// As [`reanswer_with`], with the codecs that `previous` named and no others.
///
/// # Errors
///
/// As [`reanswer_with`].
pub fn reanswer(previous: &str, offer: &Offer) -> Result<(Agreed, String), SdpError> {
    reanswer_with(previous, &[], offer)
}

/// Our offer in the middle of a call, as to an INVITE without one: all `codecs`, both ways, whatever was held before
/// (RFC 6337 §5.2.5), and the streams of `previous` in their places.
///
/// # Errors
///
/// [`SdpError::Unparsable`] when `previous` is not a description that we wrote.
pub fn reoffer(previous: &str, codecs: &[Codec]) -> Result<String, SdpError> {
    let (mut local, audio) = read_ours(previous)?;
    let codecs = if codecs.is_empty() { &local.codecs } else { codecs };
    let formats = renamed(&audio, codecs);
    let streams = Offer::parse(previous.as_bytes())?.streams;
    let write = |local: &Local| {
        let mut text = print::head(local);
        let mut is_written = false;
        for stream in &streams {
            match stream {
                Stream::Usable(_) if !is_written => {
                    let start = text.len();
                    print::audio(&mut text, local.port, &formats, Direction::SendRecv);
                    // Keys, and what else was agreed, stay as they are (RFC 4568 §7.1.4).
                    audio.attire.put_on(&mut text, start);
                    is_written = true;
                }
                Stream::Usable(_) => print::declined(&mut text, "audio", "RTP/AVP", "0"),
                Stream::Declined { media, protocol, format } => print::declined(&mut text, media, protocol, format),
            }
        }
        text
    };
    let text = write(&local);
    if text == previous {
        return Ok(text);
    }
    local.version = local.version.wrapping_add(1);
    Ok(write(&local))
}

/// Makes a description follow `previous`: the same session, and a version that is one higher when anything else
/// differs. What cannot be read stays as it is.
pub fn follow(previous: &str, next: &str) -> String {
    let Ok(before) = sipx_sdp::parse(previous) else { return next.to_owned() };
    let (session_id, version) = (before.origin.session_id, before.origin.session_version);
    let same = with_origin(next, session_id, version);
    if same == previous { same } else { with_origin(next, session_id, version.wrapping_add(1)) }
}

/// What is agreed when `theirs` answers `ours`.
///
/// # Errors
///
/// As [`Offer::parse`], or when the answer names no codec that we offered.
pub fn settle(ours: &str, theirs: &[u8]) -> Result<Agreed, SdpError> {
    let (local, offered) = read_ours(ours)?;
    let answer = Offer::parse(theirs)?;
    let audio = answer.usable().next().ok_or(SdpError::NoAudio)?;
    let agreed = negotiate::agree(audio, &local)?;
    let keys = negotiate::settled(local.keyring.wanted(), &offered.attire.crypto, audio)?;
    let Audio { codecs: voice, comfort_noise, events, .. } = offered;
    let ours = Formats { voice, comfort_noise, events };
    Ok(Agreed { keys, ..negotiate::under_our_numbers(agreed, audio, &ours) })
}

fn read_ours(text: &str) -> Result<(Local, Audio), SdpError> {
    let session = sipx_sdp::parse(text).map_err(|_| SdpError::Unparsable("our own description"))?;
    let audio = Offer::parse(text.as_bytes())?.usable().next().cloned().ok_or(SdpError::NoAudio)?;
    let local = Local {
        address: audio.address,
        port: audio.port,
        codecs: audio.codecs.iter().map(|(codec, _)| *codec).collect(),
        comfort_noise: audio.comfort_noise.is_some(),
        session_id: session.origin.session_id,
        version: session.origin.session_version,
        keyring: Keyring::after(audio.attire.profile, &audio.attire.crypto),
    };
    Ok((local, audio))
}

/// The formats of an offer of `codecs`. RFC 3264 §8.3.2: a payload type keeps its meaning for the life of the session,
/// so what `before` named keeps its number, and the rest gets one that is free.
fn renamed(before: &Audio, codecs: &[Codec]) -> Formats {
    let mut taken: Vec<u8> = before.codecs.iter().map(|(_, number)| *number).collect();
    taken.extend(before.events.iter().map(|(number, _)| *number).chain(before.comfort_noise));
    let mut give = |usual: u8| {
        let number = if taken.contains(&usual) { (96..128).find(|free| !taken.contains(free)) } else { Some(usual) };
        let number = number.unwrap_or(usual);
        taken.push(number);
        number
    };
    let known = |codec: &Codec| before.codecs.iter().find(|(known, _)| known == codec).map(|(_, number)| *number);
    let voice = codecs.iter().map(|codec| {
        let number = known(codec).unwrap_or_else(|| give(negotiate::usual_number(*codec)));
        (*codec, number)
    });
    let voice = voice.collect();
    let events = negotiate::events_for(codecs).into_iter().map(|(usual, clock)| {
        let known = before.events.iter().find(|(_, other)| *other == clock).map(|(number, _)| *number);
        (known.unwrap_or_else(|| give(usual)), clock)
    });
    Formats { voice, events: events.collect(), comfort_noise: before.comfort_noise }
}

fn with_origin(text: &str, session_id: u64, version: u64) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for line in text.split_inclusive('\n') {
        // o=<username> <sess-id> <sess-version> <nettype> <addrtype> <address> (RFC 8866 §5.2).
        let fields: Vec<&str> = line.strip_prefix("o=").map(|line| line.splitn(4, ' ').collect()).unwrap_or_default();
        match fields.as_slice() {
            [user, _, _, rest] => out.push_str(&format!("o={user} {session_id} {version} {rest}")),
            _ => out.push_str(line),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::{answer, offer};
    use super::*;

    #[test]
    fn a_later_offer_may_bring_another_codec() {
        let (_, ours) = answer(&read("0 8 101"), &local()).unwrap();

        let (agreed, text) = reanswer_with(&ours, &[Codec::Pcmu, Codec::Pcma], &read("8 101")).unwrap();
        let (_, again) = reanswer_with(&text, &[Codec::Pcmu, Codec::Pcma], &read("8 101")).unwrap();

        assert_eq!(agreed.codec, Codec::Pcma);
        assert!(text.contains("o=- 7 2 IN IP4") && text.contains("m=audio 30000 RTP/AVP 8 101\r\n"), "{text}");
        assert_eq!(again, text, "the version grows only with a change");
        assert_eq!(reanswer_with(&ours, &[Codec::Pcmu], &read("8 101")), Err(SdpError::NoCommonCodec));
    }

    #[test]
    fn our_later_offer_has_all_codecs_both_ways_and_every_stream_in_its_place() {
        let held = format!("{}a=sendonly\r\nm=video 5002 RTP/AVP 96\r\n", theirs("8 96"))
            .replace("96\r\na=s", "96\r\na=rtpmap:96 telephone-event/8000\r\na=s");
        let (_, ours) = answer(&Offer::parse(held.as_bytes()).unwrap(), &local()).unwrap();

        let text = reoffer(&ours, &[Codec::Pcmu, Codec::Pcma]).unwrap();

        assert!(text.contains("m=audio 30000 RTP/AVP 0 8 96\r\n") && text.contains("a=sendrecv"), "{text}");
        assert!(text.ends_with("m=video 0 RTP/AVP 96\r\n") && text.contains("o=- 7 2 IN"), "{text}");
        assert_eq!(reoffer(&text, &[Codec::Pcmu, Codec::Pcma]).unwrap(), text);
    }

    #[test]
    fn a_description_follows_the_one_before() {
        let ours = offer(&local());
        let stranger = offer(&Local { session_id: 99, version: 4, ..local() });

        assert_eq!(follow(&ours, &stranger), ours);
        assert!(follow(&ours, &stranger.replace("30000", "30002")).contains("o=- 7 2 IN IP4"));
        assert_eq!(follow("nonsense", &ours), ours);
    }

    #[test]
    fn digits_go_out_under_their_number_and_come_in_under_ours() {
        let theirs = format!("{}a=rtpmap:97 telephone-event/8000\r\n", theirs("8 97"));

        let agreed = settle(&offer(&local()), theirs.as_bytes()).unwrap();

        assert_eq!((agreed.codec, agreed.dtmf, agreed.dtmf_in), (Codec::Pcma, Some(97), Some(101)));
        assert!(settle(&offer(&local()), b"nonsense").is_err());
    }

    fn read(formats: &str) -> Offer {
        Offer::parse(format!("{}a=rtpmap:101 telephone-event/8000\r\n", theirs(formats)).as_bytes()).unwrap()
    }

    fn theirs(formats: &str) -> String {
        format!(
            "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP {formats}\r\n"
        )
    }

    fn local() -> Local {
        let codecs = vec![Codec::Pcmu, Codec::Pcma];
        Local {
            address: "192.0.2.9".parse().unwrap(),
            port: 30000,
            codecs,
            comfort_noise: false,
            session_id: 7,
            version: 1,
            keyring: Keyring::default(),
        }
    }
}
