//! Where a name leads (RFC 3263), asked of a DNS server of our own.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ringback::model::Pii;
use ringback::sip::{Dial, Failure, SipCommand, SipConfig, SipEvent, SipTimers};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

use crate::sip_probe::{Gateway, Peer, SDP, Wire};

/// A DNS server that knows what it was told, and counts the questions.
pub(crate) struct Zone {
    pub(crate) at: SocketAddr,
    questions: Arc<AtomicUsize>,
    _task: JoinSet<()>,
}

impl Zone {
    /// Records as `name TYPE` with their data; SRV as `priority weight port target`, NAPTR as `order preference service
    /// replacement`. One name and type may stand there several times.
    pub(crate) async fn serve(records: &[(&str, &str)]) -> Zone {
        let mut known: HashMap<(String, u16), Vec<Vec<u8>>> = HashMap::new();
        for (owner, data) in records {
            let (name, kind) = owner.split_once(' ').unwrap();
            known.entry((name.to_owned(), number(kind))).or_default().push(rdata(kind, data));
        }
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (at, questions) = (socket.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let (mut task, count) = (JoinSet::new(), Arc::clone(&questions));
        task.spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                count.fetch_add(1, Ordering::Relaxed);
                let _ = socket.send_to(&answer(&buffer[..length], &known), from).await;
            }
        });
        Zone { at, questions, _task: task }
    }

    fn asked(&self) -> usize {
        self.questions.load(Ordering::Relaxed)
    }
}

/// RFC 1035 §4: the header, the question as it came, and what is known.
fn answer(query: &[u8], known: &HashMap<(String, u16), Vec<Vec<u8>>>) -> Vec<u8> {
    let (mut at, mut labels) = (12, Vec::new());
    while query[at] != 0 {
        let length = usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..=at + length]).to_lowercase());
        at += 1 + length;
    }
    let name = labels.join(".");
    let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
    let question = &query[12..at + 5];
    let found = known.get(&(name.clone(), kind)).cloned().unwrap_or_default();
    let exists = known.keys().any(|(owner, _)| *owner == name);
    let code = if exists { 0 } else { 3 };
    let authorities = u8::from(found.is_empty());
    let answers = u8::try_from(found.len()).unwrap();
    let mut out = vec![query[0], query[1], 0x85, 0x80 | code, 0, 1, 0, answers, 0, authorities, 0, 0];
    out.extend_from_slice(question);
    if found.is_empty() {
        // RFC 2308 §3: a SOA says for how long there is nothing, here an hour.
        out.extend_from_slice(&[0xc0, 12, 0, 6, 0, 1, 0, 0, 0x0e, 0x10, 0, 22, 0, 0]);
        out.extend_from_slice(&[0, 0, 0x0e, 0x10].repeat(5));
    }
    for data in found {
        // The name of the question, the class IN, an hour.
        out.extend_from_slice(&[0xc0, 12]);
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&[0, 1, 0, 0, 0x0e, 0x10]);
        out.extend_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
        out.extend_from_slice(&data);
    }
    out
}

fn number(kind: &str) -> u16 {
    match kind {
        "A" => 1,
        "AAAA" => 28,
        "SRV" => 33,
        "NAPTR" => 35,
        other => panic!("{other}"),
    }
}

fn rdata(kind: &str, data: &str) -> Vec<u8> {
    let words: Vec<&str> = data.split(' ').collect();
    let short = |word: &str| word.parse::<u16>().unwrap().to_be_bytes();
    match kind {
        "SRV" => {
            [short(words[0]).to_vec(), short(words[1]).to_vec(), short(words[2]).to_vec(), encoded(words[3])].concat()
        }
        "NAPTR" => {
            let text = |text: &str| [vec![u8::try_from(text.len()).unwrap()], text.as_bytes().to_vec()].concat();
            let service = [text("s"), text(words[2]), text("")].concat();
            [short(words[0]).to_vec(), short(words[1]).to_vec(), service, encoded(words[3])].concat()
        }
        _ => match data.parse().unwrap() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        },
    }
}

fn encoded(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        out.push(u8::try_from(label.len()).unwrap());
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out
}

/// A gateway that asks this server. Its T1 is short, so that a silent target is given up soon.
async fn asking(server: SocketAddr) -> Gateway {
    let t1 = Duration::from_millis(50);
    let timers = SipTimers { t1, t2: t1 * 4, t4: t1 * 5 };
    Gateway::with(SipConfig { nameservers: Some(vec![server]), timers, ..SipConfig::default() }).await
}

async fn dial(gateway: &Gateway, to: &str) {
    let dial =
        Dial { to: to.to_owned(), sdp: SDP.to_owned(), from_user: Pii::new("ada".to_owned()), ..Dial::default() };
    gateway.sip.send(gateway.sip.new_dialog(), SipCommand::Dial(Box::new(dial))).await;
}

#[tokio::test]
async fn the_next_target_is_tried_when_one_is_silent() {
    let somewhere = "127.0.0.1:9".parse().unwrap();
    let (first, second) = (Peer::of(somewhere).await, Peer::of(somewhere).await);
    let srv = |priority: u16, peer: &Peer| format!("{priority} 0 {} sbc.carrier.test", peer.at.port());
    let zone = Zone::serve(&[
        ("_sip._udp.carrier.test SRV", &srv(20, &second)),
        ("_sip._udp.carrier.test SRV", &srv(10, &first)),
        ("sbc.carrier.test A", "127.0.0.1"),
    ])
    .await;
    let mut gateway = asking(zone.at).await;
    let (first, second) = (Peer { gateway: gateway.udp, ..first }, Peer { gateway: gateway.udp, ..second });

    dial(&gateway, "sip:bob@carrier.test").await;

    let unheard = first.expect("INVITE sip:bob@carrier.test SIP/2.0").await;
    let heard = second.expect("INVITE sip:bob@carrier.test SIP/2.0").await;
    assert_eq!(heard.header("call-id"), unheard.header("call-id"));
    assert_ne!(heard.header("via"), unheard.header("via"), "a branch of its own");
    let contact = format!("Contact: <sip:bob@{}>\r\n", second.at);
    second.send(heard.response("180 Ringing", "bob", &contact, "")).await;
    assert!(matches!(gateway.event().await, SipEvent::Ringing { .. }));
    // The first was only slow. It must not ring beside the second.
    first.send(unheard.response("180 Ringing", "late", "", "")).await;
    let cancel = first.find("CANCEL").await;
    assert_eq!(cancel.header("via"), unheard.header("via"));
    first.send(cancel.response("200 OK", "", "", "")).await;
    first.send(unheard.response("487 Request Terminated", "late", "", "")).await;
    first.find("ACK").await;
    second.send(heard.response("200 OK", "bob", &contact, SDP)).await;

    assert!(matches!(gateway.event().await, SipEvent::Answered { .. }));
    second.find("ACK").await;
}

#[tokio::test]
async fn a_target_that_is_unavailable_sends_us_to_the_next() {
    let somewhere = "127.0.0.1:9".parse().unwrap();
    let (first, second) = (Peer::of(somewhere).await, Peer::of(somewhere).await);
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let zone = Zone::serve(&[
        ("carrier.test NAPTR", "10 10 SIP+D2T _sip._tcp.carrier.test"),
        ("carrier.test NAPTR", "20 10 SIP+D2U _sip._udp.carrier.test"),
        ("_sip._tcp.carrier.test SRV", &format!("10 0 {closed} sbc.carrier.test")),
        ("_sip._udp.carrier.test SRV", &format!("10 0 {} sbc.carrier.test", first.at.port())),
        ("_sip._udp.carrier.test SRV", &format!("20 0 {} sbc.carrier.test", second.at.port())),
        ("sbc.carrier.test A", "127.0.0.1"),
    ])
    .await;
    let mut gateway = asking(zone.at).await;
    let (first, second) = (Peer { gateway: gateway.udp, ..first }, Peer { gateway: gateway.udp, ..second });

    // Nobody listens on TCP, and the first on UDP has no time.
    dial(&gateway, "sip:bob@carrier.test").await;
    let invite = first.expect("INVITE").await;
    first.send(invite.response("503 Service Unavailable", "x", "", "")).await;
    // RFC 3261 §17.1.1.3: the ACK stays with the target that refused.
    assert_eq!(first.expect("ACK").await.header("via"), invite.header("via"));
    let invite = second.expect("INVITE").await;
    second.send(invite.response("503 Service Unavailable", "x", "", "")).await;

    let SipEvent::Failed { failure: Failure::Refused { status, .. }, .. } = gateway.event().await else { panic!() };
    assert_eq!(status, 503);
}

#[tokio::test]
async fn naptr_says_how_and_srv_says_where() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let zone = Zone::serve(&[
        ("carrier.test NAPTR", "50 50 SIP+D2U _sip._udp.carrier.test"),
        ("carrier.test NAPTR", "10 10 SIP+D2T _sip._tcp.carrier.test"),
        ("_sip._udp.carrier.test SRV", "0 0 9 sbc.carrier.test"),
        ("_sip._tcp.carrier.test SRV", &format!("0 0 {} sbc.carrier.test", listener.local_addr().unwrap().port())),
        ("sbc.carrier.test A", "127.0.0.1"),
    ])
    .await;
    let gateway = asking(zone.at).await;

    dial(&gateway, "sip:bob@Carrier.Test").await;

    let mut wire = Wire::accept(&listener).await;
    let invite = wire.expect("INVITE").await;
    assert!(invite.header("via").starts_with("SIP/2.0/TCP "));
    assert!(invite.uri("contact").ends_with(";transport=tcp"));
    // What DNS said is remembered for as long as it said.
    let asked = zone.asked();
    dial(&gateway, "sip:carol@carrier.test").await;
    wire.expect("INVITE sip:carol@").await;
    assert_eq!(zone.asked(), asked);
}

#[tokio::test]
async fn a_port_or_a_lack_of_records_leads_to_the_host_itself() {
    let peer = Peer::of("127.0.0.1:9".parse().unwrap()).await;
    let six = UdpSocket::bind("[::1]:0").await.unwrap();
    let zone = Zone::serve(&[
        // Were these asked for, the call would go astray.
        ("_sip._udp.host.test SRV", "0 0 9 host.test"),
        ("host.test A", "127.0.0.1"),
        ("six.test AAAA", "::1"),
        ("_sip._tcp.never.test SRV", "0 0 0 ."),
    ])
    .await;
    let config = SipConfig {
        nameservers: Some(vec![zone.at]),
        udp: vec!["127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()],
        ..SipConfig::default()
    };
    let mut gateway = Gateway::with(config).await;

    dial(&gateway, &format!("sip:bob@host.test:{}", peer.at.port())).await;
    peer.expect("INVITE").await;
    dial(&gateway, &format!("sip:bob@six.test:{}", six.local_addr().unwrap().port())).await;
    let mut buffer = [0; 4096];
    let got = tokio::time::timeout(Duration::from_secs(10), six.recv_from(&mut buffer)).await.unwrap().unwrap().0;
    let text = String::from_utf8_lossy(&buffer[..got]).into_owned();
    assert!(text.contains("Via: SIP/2.0/UDP [::1]:") && text.contains("<sip:ringback@[::1]:"), "{text}");

    for name in ["nowhere.test", "never.test;transport=tcp"] {
        dial(&gateway, &format!("sip:bob@{name}")).await;
        let SipEvent::Failed { failure, .. } = gateway.event().await else { panic!() };
        assert_eq!(failure, Failure::Unresolved, "{name}");
    }
}

#[tokio::test]
async fn a_name_server_that_says_nothing_costs_seconds_and_no_more() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut gateway = asking(silent.local_addr().unwrap()).await;

    dial(&gateway, "sip:bob@carrier.test").await;

    let event = tokio::time::timeout(Duration::from_secs(7), gateway.event()).await.expect("an end in time");
    assert!(matches!(event, SipEvent::Failed { failure: Failure::Unresolved, .. }));
}
