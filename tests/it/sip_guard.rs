//! Who is let in, over real sockets: peers, guests and attackers, each octet written by hand. Addresses of 127.0.0.0/8 play
//! the net.

use std::net::SocketAddr;
use std::time::Duration;

use ringback::actions::SecretRef;
use ringback::guard::{Access, Contacts, InForce, Protection, Strangers};
use ringback::model::{MediaSecurity, Secret};
use ringback::sip::{By, SipCommand, SipConfig, SipEvent};
use ringback::trunk::{Credentials, IdentityRules, Inbound, ReferRules, SessionRules, Trunk, TrunkLimits};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::time::{Instant, timeout};

use crate::sip_probe::{Gateway, Line, Msg, Peer, SDP, Wire, until};

#[tokio::test]
async fn a_stranger_hears_no_octet_whatever_he_tries() {
    let mut gateway = guarded(Protection::default(), &[networks("carrier", "127.0.0.1/32")]).await;
    let stranger = at("127.0.0.9", &gateway).await;
    let line = Line::new(stranger.at, gateway.udp);
    let tagged = Line { to_tag: Some("guess".into()), ..line.clone() };

    for (n, method) in
        ["INVITE", "OPTIONS", "REGISTER", "MESSAGE", "SUBSCRIBE", "CANCEL", "BYE"].into_iter().enumerate()
    {
        let line = if method == "BYE" { &tagged } else { &line };
        stranger.send(line.request(method, 1, &format!("z9hG4bKs{n}"), "", "")).await;
    }
    stranger.send(line.request("INVITE", 2, "z9hG4bKbroken", "Content-Length: -1\r\n", "")).await;
    // What comes after it is answered, so it was looked at.
    let peer = Peer::of(gateway.udp).await;
    peer.send(Line::new(peer.at, gateway.udp).invite()).await;
    peer.expect("SIP/2.0 100").await;
    let SipEvent::Invited { invite, .. } = gateway.event().await else { panic!("no call") };

    assert_eq!(invite.trunk.as_deref(), Some("carrier"));
    // Left to itself a transaction would say 100 within 200 ms.
    stranger.assert_silent(Duration::from_millis(400)).await;
    assert_eq!(gateway.sip.counters().transactions, 1, "nothing is kept of a stranger");
    assert!(gateway.events.try_recv().is_err());
}

#[tokio::test]
async fn a_stranger_is_refused_alike_for_everything_when_that_is_wished() {
    let rules = Protection { strangers: Strangers::Forbidden, ..Protection::default() };
    let mut gateway = guarded(rules, &[]).await;
    let stranger = at("127.0.0.9", &gateway).await;
    let line = Line::new(stranger.at, gateway.udp);

    for (n, method) in ["INVITE", "OPTIONS", "REGISTER", "SUBSCRIBE"].into_iter().enumerate() {
        stranger.send(line.request(method, 1, &format!("z9hG4bKf{n}"), "", "")).await;
        stranger.expect("SIP/2.0 403").await;
    }
    let mut wire = Wire::to(gateway.tcp).await;
    wire.send(Line { transport: "TCP", ..line }.request("OPTIONS", 9, "z9hG4bKt", "", "")).await;
    wire.expect("SIP/2.0 403").await;

    assert!(gateway.events.try_recv().is_err());
    let judged = gateway.sip.counters().judged;
    assert_eq!(judged.get("stranger"), Some(&5), "{judged:?}");
}

#[tokio::test]
async fn a_password_lets_in_by_either_algorithm_and_once() {
    let mut gateway = guarded(Protection::default(), &[password("pbx")]).await;
    for wanted in ["SHA-256", "MD5"] {
        let caller = Prover::new(&gateway).await;

        let (asked, answered) = caller.proves(wanted, "geheim").await;

        caller.peer.expect("SIP/2.0 100").await;
        let (invite, dialog) = loop {
            // The end of the call before may come first.
            if let SipEvent::Invited { invite, dialog } = gateway.event().await {
                break (invite, dialog);
            }
        };
        assert_eq!(invite.trunk.as_deref(), Some("pbx"));
        assert!(!invite.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization")));
        let offered = asked.all("www-authenticate");
        assert!(offered[0].contains("SHA-256") && offered[1].contains("MD5"), "{offered:?}");
        // Overheard, and said again as another call.
        let again = caller.line.request("INVITE", 3, "z9hG4bKagain", &answered, SDP);
        caller.peer.send(again).await;
        let stale = caller.peer.find("SIP/2.0 401").await;
        assert!(stale.all("www-authenticate").iter().all(|value| value.contains("stale=true")), "{}", stale.text);
        gateway.sip.send(dialog, SipCommand::HangUp { cause: None }).await;
    }
}

#[tokio::test]
async fn wrong_passwords_end_in_silence_and_the_silence_ends() {
    let lockout = Duration::from_millis(700);
    let rules = Protection { failures_max: 3, lockout, stranger_requests_per_second: 1_000, ..Protection::default() };
    let gateway = guarded(rules, &[password("pbx")]).await;
    let thief = Prover::new(&gateway).await;

    for _ in 0..2 {
        thief.proves("SHA-256", "falsch").await;
        let refused = thief.peer.expect("SIP/2.0 401").await;
        assert!(!refused.text.contains("stale"), "{}", refused.text);
        thief.ack(&refused).await;
    }
    // The third is the last, and gets no answer.
    thief.proves("SHA-256", "falsch").await;
    let locked = Instant::now();
    let mut tries = 0;
    let first_word = loop {
        thief.peer.send(thief.line.request("OPTIONS", 50 + tries, &format!("z9hG4bKl{tries}"), "", "")).await;
        tries += 1;
        if let Ok(message) = timeout(Duration::from_millis(50), thief.peer.recv()).await {
            break message;
        }
        assert!(locked.elapsed() < Duration::from_secs(10), "locked out for good");
    };

    assert_eq!(first_word.status(), 401);
    assert!(locked.elapsed() >= Duration::from_millis(600), "{:?}", locked.elapsed());
    assert!(gateway.sip.counters().sources_refused > 3, "the socket itself was deaf");
}

#[tokio::test]
async fn a_scanner_is_not_heard_any_more_and_nobody_else_is_meant() {
    let rules = Protection { strangers: Strangers::Forbidden, ..Protection::default() };
    let gateway = guarded(rules, &[networks("carrier", "127.0.0.1/32")]).await;
    let (scanner, guest, peer) =
        (at("127.0.0.9", &gateway).await, at("127.0.0.8", &gateway).await, Peer::of(gateway.udp).await);
    let agent = "User-Agent: friendly-scanner\r\n";

    scanner.send(Line::new(scanner.at, gateway.udp).request("OPTIONS", 1, "z9hG4bKa", agent, "")).await;
    scanner.send(Line::new(scanner.at, gateway.udp).request("OPTIONS", 2, "z9hG4bKb", "", "")).await;
    guest.send(Line::new(guest.at, gateway.udp).request("OPTIONS", 1, "z9hG4bKc", "", "")).await;
    guest.expect("SIP/2.0 403").await;
    // A trunk is never taken for a scanner, whatever comes under its address.
    peer.send(Line::new(peer.at, gateway.udp).request("OPTIONS", 1, "z9hG4bKd", agent, "")).await;
    peer.expect("SIP/2.0 200").await;

    scanner.assert_silent(Duration::from_millis(100)).await;
    let counters = gateway.sip.counters();
    assert_eq!(counters.judged.get("scanner"), Some(&1), "{:?}", counters.judged);
    // The second may have been read before the first was judged.
    let silenced = counters.judged.get("silenced").copied().unwrap_or_default();
    assert_eq!(counters.sources_refused + silenced, 1, "{counters:?}");
}

#[tokio::test]
async fn a_trunk_that_asks_too_fast_is_told_to_wait() {
    let rules = Protection { trunk_requests_per_second: 5, ..Protection::default() };
    let gateway = guarded(rules, &[networks("carrier", "127.0.0.1/32")]).await;
    let peer = Peer::of(gateway.udp).await;
    let line = Line::new(peer.at, gateway.udp);

    for n in 0..40 {
        peer.send(line.request("OPTIONS", n, &format!("z9hG4bKr{n}"), "", "")).await;
    }
    let refused = peer.find("SIP/2.0 503").await;

    assert_eq!(refused.header("retry-after"), "1");
}

#[tokio::test]
async fn a_bye_from_elsewhere_ends_no_call() {
    let mut gateway = guarded(Protection::default(), &[networks("carrier", "127.0.0.0/30")]).await;
    let peer = Peer::of(gateway.udp).await;
    let mut line = Line::new(peer.at, gateway.udp);
    peer.send(line.invite()).await;
    peer.expect("SIP/2.0 100").await;
    let SipEvent::Invited { dialog, .. } = gateway.event().await else { panic!("no call") };
    gateway.sip.send(dialog, SipCommand::Answer { sdp: SDP.to_owned() }).await;
    line.learn(&peer.expect("SIP/2.0 200").await);
    peer.send(line.ack()).await;
    assert!(matches!(gateway.event().await, SipEvent::Confirmed { .. }));

    // The thief has overheard every name of the dialog.
    let thief = at("127.0.0.9", &gateway).await;
    for (n, method) in ["BYE", "INVITE", "INFO", "CANCEL"].into_iter().enumerate() {
        let sdp = if method == "INVITE" { SDP } else { "" };
        let overheard = Line { at: thief.at, ..line.clone() };
        thief.send(overheard.request(method, 20, &format!("z9hG4bKbye{n}"), "", sdp)).await;
    }
    thief.assert_silent(Duration::from_millis(300)).await;
    assert_eq!(gateway.sip.counters().misplaced, 3, "a CANCEL names no dialog");
    assert_eq!(gateway.sip.counters().dialogs, 1);
    // Another machine of the same trunk may hang up.
    let sister = at("127.0.0.2", &gateway).await;
    sister.send(Line { at: sister.at, ..line }.request("BYE", 21, "z9hG4bKbye9", "", "")).await;
    sister.expect("SIP/2.0 200").await;

    assert!(matches!(gateway.event().await, SipEvent::Ended { by: By::Them, .. }));
}

#[tokio::test]
async fn a_trunk_that_is_added_is_known_at_the_next_request() {
    let access = InForce::new(table(&[], Protection::default()));
    let gateway = Gateway::with(SipConfig { access: access.clone(), ..SipConfig::default() }).await;
    let peer = Peer::of(gateway.udp).await;
    let line = Line::new(peer.at, gateway.udp);
    peer.send(line.request("OPTIONS", 1, "z9hG4bKn1", "", "")).await;
    peer.assert_silent(Duration::from_millis(100)).await;

    access.replace(table(&[networks("new", "127.0.0.1/32")], Protection::default()));
    peer.send(line.request("OPTIONS", 2, "z9hG4bKn2", "", "")).await;

    assert_eq!(peer.expect("SIP/2.0 200").await.header("cseq"), "2 OPTIONS");
}

#[tokio::test]
async fn whoever_is_known_is_told_on_a_stream_what_cannot_be_read() {
    let gateway = guarded(Protection::default(), &[networks("pbx", "127.0.0.1/32")]).await;
    // Softphones write a parameter twice that was dialled with it (RFC 3261 §19.1.1 forbids that).
    let doubled = |at| {
        let line = Line { transport: "TCP", ..Line::new(at, gateway.tcp) };
        let invite = line.request("INVITE", 1, "z9hG4bKdoubled", "", SDP);
        invite.replacen(" SIP/2.0", ";transport=tcp;transport=tcp SIP/2.0", 1)
    };
    let elsewhere = TcpSocket::new_v4().unwrap();
    elsewhere.bind("127.0.0.2:0".parse().unwrap()).unwrap();

    let mut known = Wire::to(gateway.tcp).await;
    known.send(doubled(known.stream.local_addr().unwrap())).await;
    let mut stranger = Wire::over(elsewhere.connect(gateway.tcp).await.unwrap());
    stranger.send(doubled(stranger.stream.local_addr().unwrap())).await;

    let refusal = known.expect("SIP/2.0 400").await;
    assert!(refusal.header("warning").contains("cannot be read"), "{}", refusal.text);
    assert!(known.next().await.is_none() && stranger.next().await.is_none(), "framing is lost, so both are closed");
    until("no connection is left", || gateway.sip.counters().connections == 0).await;
    assert_eq!(gateway.sip.counters().garbage, 2);
}

#[tokio::test]
async fn a_flood_of_strangers_costs_a_call_nothing() {
    let mut gateway = guarded(Protection::default(), &[networks("carrier", "127.0.0.1/32")]).await;
    let peer = Peer::of(gateway.udp).await;
    let mut line = Line::new(peer.at, gateway.udp);
    let mut flood = Vec::new();
    for n in 0..100u8 {
        flood.push(at(&format!("127.0.{}.{}", 1 + n / 50, 10 + n % 50), &gateway).await);
    }
    peer.send(line.invite()).await;
    peer.expect("SIP/2.0 100").await;
    let SipEvent::Invited { dialog, .. } = gateway.event().await else { panic!("no call") };

    let mut longest = Duration::ZERO;
    for round in 0..100u32 {
        for (n, stranger) in flood.iter().enumerate() {
            let line = Line::new(stranger.at, gateway.udp);
            stranger.send(line.request("INVITE", 1, &format!("z9hG4bKx{round}x{n}"), "", SDP)).await;
        }
        // In the middle of it the call gets every answer that it asks for.
        let asked = Instant::now();
        peer.send(Line::new(peer.at, gateway.udp).request("OPTIONS", round, &format!("z9hG4bKo{round}"), "", "")).await;
        peer.find("SIP/2.0 200").await;
        longest = longest.max(asked.elapsed());
    }
    gateway.sip.send(dialog, SipCommand::Answer { sdp: SDP.to_owned() }).await;
    line.learn(&peer.find("SIP/2.0 200").await);
    peer.send(line.ack()).await;
    assert!(matches!(gateway.event().await, SipEvent::Confirmed { .. }));

    let counters = gateway.sip.counters();
    let refused = counters.sources_refused
        + counters.judged.iter().filter(|(why, _)| **why != "recognised").map(|(_, n)| n).sum::<u64>();
    assert!(refused > 5_000, "{counters:?}");
    assert!(counters.sources_refused > 0, "those who go on are not even read: {counters:?}");
    assert_eq!(counters.dialogs, 1);
    assert!(counters.sources_known <= 101, "{counters:?}");
    assert!(longest < Duration::from_millis(500), "an answer took {longest:?}");
    for stranger in &flood {
        let mut octet = [0];
        assert!(stranger.socket.try_recv(&mut octet).is_err(), "a stranger heard something");
    }
}

/// Somebody who calls with the user `pbx`, and whose arithmetic is not ours.
struct Prover {
    peer: Peer,
    line: Line,
}

impl Prover {
    async fn new(gateway: &Gateway) -> Prover {
        let peer = at("127.0.0.7", gateway).await;
        Prover { line: Line::new(peer.at, gateway.udp), peer }
    }

    /// Calls, and answers the challenge of one algorithm. Gives the challenge and the header that answered it.
    async fn proves(&self, algorithm: &str, password: &str) -> (Msg, String) {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
        let n = NEXT.fetch_add(2, std::sync::atomic::Ordering::Relaxed);
        self.peer.send(self.line.request("INVITE", n, &format!("z9hG4bKp{n}"), "", SDP)).await;
        let asked = self.peer.find("SIP/2.0 401").await;
        self.ack(&asked).await;
        let challenge = asked.all("www-authenticate").into_iter().find(|value| value.contains(algorithm)).unwrap();
        let challenge = sipx_sip::auth::Challenge::parse(challenge.as_bytes(), false).expect("a readable challenge");
        let credentials = sipx_sip::auth::Credentials::new("pbx", password);
        let uri = format!("sip:desk@{}", self.peer.gateway);
        let answer = sipx_sip::auth::respond(&challenge, &credentials, "INVITE", &uri, 1, "0a4f113b");
        let header = format!("Authorization: {answer}\r\n");
        self.peer.send(self.line.request("INVITE", n + 1, &format!("z9hG4bKp{}", n + 1), &header, SDP)).await;
        (asked, header)
    }

    /// RFC 3261 §17.1.1.3: a refusal is acknowledged on its own branch.
    async fn ack(&self, refusal: &Msg) {
        let branch = refusal.header("via").split("branch=").nth(1).unwrap().split(';').next().unwrap().to_owned();
        let cseq: u32 = refusal.header("cseq").split(' ').next().unwrap().parse().unwrap();
        let line = Line { to_tag: refusal.tag("to"), ..self.line.clone() };
        self.peer.send(line.request("ACK", cseq, &branch, "", "")).await;
    }
}

async fn guarded(rules: Protection, trunks: &[Trunk]) -> Gateway {
    Gateway::with(SipConfig { access: InForce::new(table(trunks, rules)), ..SipConfig::default() }).await
}

fn table(trunks: &[Trunk], rules: Protection) -> Access {
    Access::new(trunks, |_| Some(Secret::new("geheim")), rules, Contacts::default())
}

/// A peer at another address.
async fn at(address: &str, gateway: &Gateway) -> Peer {
    let socket = UdpSocket::bind((address, 0)).await.unwrap();
    let at: SocketAddr = socket.local_addr().unwrap();
    Peer { at, socket, gateway: gateway.udp }
}

fn networks(id: &str, allowed: &str) -> Trunk {
    trunk(id, Inbound { allowed: vec![allowed.parse().unwrap()], ..Inbound::default() })
}

fn password(id: &str) -> Trunk {
    let digest = Credentials { username: id.to_owned(), password: SecretRef::Env("PASSWORD".into()), realm: None };
    trunk(id, Inbound { digest: Some(digest), ..Inbound::default() })
}

/// A trunk of which nothing is known but who calls from it.
pub(crate) fn trunk(id: &str, inbound: Inbound) -> Trunk {
    Trunk {
        id: id.to_owned(),
        title: id.to_owned(),
        is_trusted: false,
        country: None,
        codecs: Vec::new(),
        leads_codecs: false,
        dtmf: ringback::trunk::Dtmf::default(),
        comfort_noise: false,
        media_security: MediaSecurity::Off,
        inbound,
        outbound: None,
        registration: None,
        limits: TrunkLimits::default(),
        session: SessionRules::default(),
        transfer: ReferRules::default(),
        identity: IdentityRules::default(),
    }
}
