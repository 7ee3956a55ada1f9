//! What is fuzzed, one function for each target; the test `fuzz_replay` calls the same.

use std::time::Duration;

use ringback::actions::SecretRef;
use ringback::guard::dialling::{self, Attempt};
use ringback::guard::{Access, Approach, Contacts, Guard, Protection};
use ringback::model::{Address, Codec, Secret};
use ringback::trunk::{
    CallerPolicy, Credentials, Dialling, IdentityRules, Inbound, NumberFormat, Outbound, ReferRules, SessionRules,
    Telling, Trunk, TrunkLimits,
};
use ringback::{sdp, sip, stir};

/// A datagram.
pub(crate) fn sip_message(octets: &[u8]) {
    sip::fuzz_door(octets);
}

/// The value of a header, in every header that is read; and a URI.
pub(crate) fn headers(octets: &[u8]) {
    sip::fuzz_header(octets);
}

/// A session description: as an offer, as an answer, and as an offer in the middle of a call.
pub(crate) fn sdp(octets: &[u8]) {
    let local = sdp::Local {
        address: [127, 0, 0, 1].into(),
        port: 40_000,
        codecs: vec![Codec::Pcmu, Codec::Pcma],
        comfort_noise: false,
        session_id: 1,
        version: 1,
        keyring: sdp::Keyring::default(),
    };
    let _ = sdp::accept(&local, octets);
    let Ok(offer) = sdp::Offer::parse(octets) else { return };
    if let Ok((agreed, answer)) = sdp::answer(&offer, &local) {
        // What we write can be read, and the same offer gets the same answer.
        let (again, repeated) = sdp::reanswer(&answer, &offer).expect("what was answered once is answered again");
        assert_eq!((again, repeated), (agreed, answer));
    }
}

/// What referrals are read from.
pub(crate) fn refer(octets: &[u8]) {
    sip::fuzz_refer(octets);
}

/// A signed caller identity, a date, and what a trunk found out for us.
pub(crate) fn stir(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    let names = || stir::Names::new(["+12155550112", text.as_ref()]);
    for identity in [text.as_ref(), &format!("{text};info=<https://cert.example/a.pem>;alg=ES256;ppt=shaken")] {
        let presented = stir::Presented { identities: vec![identity], caller: names(), called: names() };
        if let Ok(claim) = stir::read(&presented, 1_443_208_345) {
            let _ = claim.certificates();
        }
    }
    let uris = [text.clone().into_owned()];
    let told = stir::Told { uris: &uris, header: Some(&text), attestation: Some(&text), origination_id: Some(&text) };
    let _ = stir::told(&told);
    let _ = stir::read_date(&text);
    if let Some(numbers) = stir::TnAuthList::parse(octets) {
        let _ = numbers.covers("12155550112");
    }
}

/// What a stranger shows of itself, and a number that somebody wants dialled.
pub(crate) fn guard(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets).into_owned();
    let trunk = trunk();
    let access = Access::new([&trunk], |_| Some(Secret::new("geheim")), Protection::default(), Contacts::default());
    let mut guard = Guard::new([7; 32]);
    let authorization = [text.clone(), format!("Digest username=\"pbx\", realm=\"ringback\", {text}")];
    for _ in 0..2 {
        let approach = Approach {
            source: [192, 0, 2, 1].into(),
            is_connected: false,
            tls_names: std::slice::from_ref(&text),
            method: "INVITE",
            user: &text,
            agent: &text,
            authorization: &authorization,
        };
        let _ = guard.judge(Duration::from_secs(1), &access, &approach);
    }
    for to in [Address::Number(text.clone()), Address::Uri(text.clone())] {
        for is_written in [false, true] {
            let _ = dialling::judge(Attempt { to: &to, is_written, trunk: Some(&trunk) });
        }
    }
    let _ = dialling::see(&text, Some("GB"));
}

/// A trunk that proves a password and calls out within Britain.
fn trunk() -> Trunk {
    let password = SecretRef::Env("PASSWORD".to_owned());
    let digest = Credentials { username: "pbx".to_owned(), password, realm: None };
    let outbound = Outbound {
        gateways: vec!["sip:gw.example".to_owned()],
        silence: Duration::from_secs(4),
        credentials: None,
        format: NumberFormat::AsIs,
        prefix: String::new(),
        caller: CallerPolicy::default(),
        headers: Vec::new(),
        diversion: Telling::default(),
        history_info: Telling::default(),
        probe: None,
        dialling: Dialling { hosts: vec!["pbx.example".to_owned()], ..Dialling::default() },
        prices: Vec::new(),
    };
    Trunk {
        id: "office".to_owned(),
        title: "Office".to_owned(),
        is_trusted: false,
        country: Some("GB".to_owned()),
        codecs: Vec::new(),
        leads_codecs: false,
        media_security: ringback::model::MediaSecurity::Off,
        dtmf: ringback::trunk::Dtmf::default(),
        comfort_noise: false,
        inbound: Inbound { digest: Some(digest), ..Inbound::default() },
        outbound: Some(outbound),
        registration: None,
        limits: TrunkLimits::default(),
        session: SessionRules::default(),
        transfer: ReferRules::default(),
        identity: IdentityRules::default(),
    }
}
