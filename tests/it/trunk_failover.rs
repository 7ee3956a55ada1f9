//! Trunks with several gateways and with registrations, through a whole gateway: a caller, a transfer to a number, and
//! peers that write every octet.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use ringback::cli::phone::{Outgoing, Phone};
use ringback::gateway::TrunkState;
use tokio::net::UdpSocket;
use tokio::time::interval;

use crate::house::{Crm, House, soon};
use crate::rig::{Gateway, Rig, binary, shared};
use crate::sip_digest::{assert_proven, challenge};
use crate::sip_probe::{Line, Peer, SDP};

#[tokio::test]
async fn a_silent_gateway_costs_its_silence_once_and_the_next_takes_the_call() {
    let (silent, live) = (socket().await, socket().await);
    let trunk = trunk(&[&silent, &live], "silence_ms = 300\n");
    let house = House::open(Crm::open(&[]).await, &files(&trunk)).await;
    let (silent, live) = (peer(silent, &house), peer(live, &house));
    let first = phone().await.call(outgoing(&house)).await.unwrap();

    let unheard = silent.expect("INVITE").await;
    let invite = live.expect("INVITE").await;
    assert_eq!(invite.start, format!("INVITE sip:+390212345678@{} SIP/2.0", live.at));
    assert_ne!(invite.header("call-id"), unheard.header("call-id"), "another INVITE, not the same again");
    live.send(invite.response("180 Ringing", "bob", "", "")).await;
    live.send(invite.response("200 OK", "bob", &format!("Contact: <sip:bob@{}>\r\n", live.at), SDP)).await;
    live.expect("ACK").await;

    // The silent one wakes up when nobody wants it any more.
    silent.send(unheard.response("200 OK", "late", &format!("Contact: <sip:late@{}>\r\n", silent.at), SDP)).await;
    silent.find("ACK").await;
    let bye = silent.expect("BYE").await;
    silent.send(bye.response("200 OK", "", "", "")).await;

    // The next call does not wait for it.
    let second = phone().await.call(outgoing(&house)).await.unwrap();
    let invite = live.expect("INVITE").await;
    live.send(invite.response("486 Busy Here", "bob", "", "")).await;
    live.expect("ACK").await;
    silent.assert_silent(Duration::from_millis(400)).await;
    wait_for(&house, "both calls are counted", |trunk| {
        count(trunk, "outbound", "answered") == 1 && count(trunk, "outbound", "busy") == 1
    })
    .await;
    for line in [first, second] {
        line.hang_up().await;
        line.over().await;
    }
}

#[tokio::test]
async fn a_refusal_of_the_callee_is_not_asked_for_twice_and_a_servers_is() {
    for (answer, goes_on) in
        [("404 Not Found", false), ("603 Decline", false), ("503 Busy", true), ("500 Broken", true)]
    {
        let (first, second) = (socket().await, socket().await);
        let trunk = trunk(&[&first, &second], "");
        let house = House::open(Crm::open(&[]).await, &files(&trunk)).await;
        let (first, second) = (peer(first, &house), peer(second, &house));
        let line = phone().await.call(outgoing(&house)).await.unwrap();

        let invite = first.expect("INVITE").await;
        first.send(invite.response(answer, "bob", "", "")).await;
        first.expect("ACK").await;

        if goes_on {
            let invite = second.expect("INVITE").await;
            // Once it has rung, even a broken server is the end: the callee is not rung twice.
            second.send(invite.response("180 Ringing", "eve", "", "")).await;
            second.send(invite.response("503 Busy", "eve", "", "")).await;
            second.expect("ACK").await;
        }
        let cause = match answer {
            "404 Not Found" => "not_found",
            "603 Decline" => "declined",
            _ => "overload",
        };
        wait_for(&house, answer, |trunk| count(trunk, "outbound", cause) == 1).await;
        line.hang_up().await;
        line.over().await;
    }
}

#[tokio::test]
async fn gateways_that_cannot_serve_are_tried_last() {
    let (busy, live) = (socket().await, socket().await);
    let trunk = trunk(&[&busy, &live], "probe_s = 5\n");
    let house = House::open(Crm::open(&[]).await, &files(&trunk)).await;
    let (busy, live) = (peer(busy, &house), peer(live, &house));

    let asked = busy.expect("OPTIONS").await;
    busy.send(asked.response("503 Busy", "x", "", "")).await;
    let asked = live.expect("OPTIONS").await;
    live.send(asked.response("200 OK", "x", "", "")).await;
    wait_for(&house, "both are known", |trunk| trunk.gateways[0].state == "suspect" && trunk.gateways[1].state == "up")
        .await;
    let line = phone().await.call(outgoing(&house)).await.unwrap();
    live.find("INVITE").await;

    let state = house.gateway.trunks().remove(0);
    assert!(state.up);
    let last = state.gateways[1].last.clone().unwrap();
    assert_eq!(last.answer, "200 OK");
    assert!(last.round_trip_ms.is_some_and(|time| time < 10_000.0));
    line.hang_up().await;
    line.over().await;
}

#[tokio::test]
async fn the_trunks_password_is_proven_to_its_gateways() {
    let carrier = socket().await;
    let login = "[outbound.login]\nusername = \"alice\"\npassword = { file = \"secrets/carrier\" }\nrealm = \"ring\"\n";
    let trunk = trunk(&[&carrier], login);
    let house = House::open(Crm::open(&[]).await, &files(&trunk)).await;
    let carrier = peer(carrier, &house);
    let line = phone().await.call(outgoing(&house)).await.unwrap();

    let invite = carrier.expect("INVITE").await;
    carrier.send(invite.response("407 Who", "p", &challenge("Proxy-Authenticate", "n1", ""), "")).await;
    let proven = carrier.find("INVITE").await;

    assert_proven(&proven, "proxy-authorization", "INVITE", 1);
    carrier.send(proven.response("407 Who", "q", &challenge("Proxy-Authenticate", "n2", ""), "")).await;
    wait_for(&house, "the refusal has a name", |trunk| count(trunk, "outbound", "wrong_login") == 1).await;
    line.hang_up().await;
    line.over().await;
}

#[tokio::test]
async fn a_registration_is_kept_used_in_both_directions_and_taken_away() {
    let registrar = socket().await;
    let by_contact = trunk(&[&registrar], "")
        .replace("allowed_addresses = [\"127.0.0.0/8\"]\nover_registration = false", "over_registration = true");
    let trunk = format!("{by_contact}{}", registration(&[&registrar]));
    let mut files = files(ELSEWHERE);
    files.push(("trunks/registered.toml", trunk));
    // Calls that go out follow the trunk that the caller came by.
    let house = House::open(Crm::open(&[]).await, &files).await;
    let registrar = peer(registrar, &house);

    let bare = registrar.expect("REGISTER").await;
    registrar.send(bare.response("401 Who", "r", &challenge("WWW-Authenticate", "n1", ""), "")).await;
    let proven = registrar.expect("REGISTER").await;
    assert_proven(&proven, "authorization", "REGISTER", 1);
    let route = format!("Service-Route: <sip:{};lr>\r\n", registrar.at);
    registrar.send(proven.response("200 OK", "r", &format!("Expires: 300\r\n{route}"), "")).await;
    wait_for(&house, "registered", |trunk| trunk.registration.as_ref().is_none_or(|it| it.registered)).await;
    let contact = proven.uri("contact").to_owned();
    let user = contact.trim_start_matches("sip:").split('@').next().unwrap();
    assert!(user.len() == 32 && user != "0".repeat(32), "nobody can guess {user}");

    // Their call comes to our Contact, and what was dialled stands in To.
    let mut theirs = Line::new(registrar.at, registrar.gateway);
    theirs.from = "<sip:+441632960001@carrier.example>".to_owned();
    let invite = theirs.request("INVITE", 1, "z9hG4bKin", "", SDP);
    let invite = invite.replacen(&format!("sip:desk@{}", registrar.gateway), &contact, 1);
    let invite = invite.replace(&format!("To: <sip:desk@{}>", registrar.gateway), "To: <sip:100@carrier.example>");
    registrar.send(invite).await;
    registrar.find("SIP/2.0 200").await;

    // The transfer goes out by the same trunk, along the route that the registrar gave.
    let ours = registrar.find("INVITE").await;
    assert_eq!(ours.header("route"), format!("<sip:{};lr>", registrar.at));
    registrar.send(ours.response("486 Busy Here", "bob", "", "")).await;

    let House { gateway, .. } = house;
    let (left, ()) = tokio::join!(
        async {
            let left = registrar.find("REGISTER").await;
            registrar.send(left.response("200 OK", "r", "", "")).await;
            left
        },
        gateway.shutdown()
    );
    assert_eq!(left.header("expires"), "0");
    assert_eq!((left.header("call-id"), left.header("cseq")), (proven.header("call-id"), "3 REGISTER"));
    assert_proven(&left, "authorization", "REGISTER", 2);
}

#[tokio::test]
async fn the_second_registrar_is_asked_at_once_and_a_time_too_short_is_raised() {
    let (first, second) = (socket().await, socket().await);
    let trunk = format!("{}{}", trunk(&[&first], ""), registration(&[&first, &second]));
    let house = House::open(Crm::open(&[]).await, &files(&trunk)).await;
    let (first, second) = (peer(first, &house), peer(second, &house));

    let refused = first.expect("REGISTER").await;
    first.send(refused.response("503 Busy", "r", "", "")).await;
    let brief = second.expect("REGISTER").await;
    second.send(brief.response("423 Too Brief", "r", "Min-Expires: 1200\r\n", "")).await;
    let long = second.expect("REGISTER").await;
    second.send(long.response("200 OK", "r", "", "")).await;

    assert_eq!((brief.header("expires"), long.header("expires")), ("600", "1200"));
    wait_for(&house, "registered with the second", |trunk| {
        trunk.registration.as_ref().is_some_and(|it| it.registered && it.registrar == format!("sip:{}", second.at))
    })
    .await;
}

#[tokio::test]
async fn the_way_back_from_a_registrar_is_kept_open_while_it_has_us() {
    let registrar = socket().await;
    let registration = registration(&[&registrar]).replace("[registration]", "[registration]\nkeep_alive_s = 10");
    let house = House::open(Crm::open(&[]).await, &files(&format!("{}{registration}", trunk(&[&registrar], "")))).await;
    let registrar = peer(registrar, &house);

    // Nothing but REGISTER until it has us.
    let request = registrar.expect("REGISTER").await;
    registrar.send(request.response("500 Later", "r", "", "")).await;
    let request = registrar.expect("REGISTER").await;
    registrar.send(request.response("200 OK", "r", "", "")).await;

    let asked = registrar.expect("OPTIONS").await;
    registrar.send(asked.response("200 OK", "r", "", "")).await;
}

#[tokio::test]
async fn a_registrar_that_dies_is_asked_again_when_it_is_back() {
    let registrar = socket().await;
    let trunk = format!("{}{}", trunk(&[&registrar], ""), registration(&[&registrar]));
    let house = House::open(Crm::open(&[]).await, &files(&trunk)).await;
    let registrar = peer(registrar, &house);

    let request = registrar.expect("REGISTER").await;
    registrar.send(request.response("500 Dying", "r", "", "")).await;
    wait_for(&house, "it is down", |trunk| {
        let registration = trunk.registration.as_ref().unwrap();
        !trunk.up
            && registration.failures == 1
            && registration.last.as_ref().is_some_and(|last| last.answer == "500 Dying")
    })
    .await;
    let request = registrar.expect("REGISTER").await;
    registrar.send(request.response("200 OK", "r", "", "")).await;

    wait_for(&house, "it is back", |trunk| trunk.up && trunk.registration.as_ref().unwrap().failures == 0).await;
}

#[test]
fn the_night_shift_sees_what_is_down_and_why() {
    let _machine = shared();
    let carrier = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let uri = format!("\"sip:{}\"", carrier.local_addr().unwrap());
    let rig = Rig::new(&[]);
    rig.write(
        "trunks/lost.toml",
        &format!(
            "version = 1\ntitle = \"Lost\"\n[outbound]\ngateways = [{uri}]\nprobe_s = 5\n\
             [registration]\nregistrars = [{uri}]\naor = \"sip:us@carrier.example\"\n"
        ),
    );
    let gateway = Gateway::start(&rig);
    // One OPTIONS and one REGISTER, in whatever order.
    for _ in 0..2 {
        let mut buffer = [0; 4096];
        carrier.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let (length, from) = carrier.recv_from(&mut buffer).expect("a question");
        let request = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let status = if request.starts_with("REGISTER") { "403 Forbidden" } else { "200 OK" };
        let echoed =
            request.lines().filter(|line| ["Via", "From", "To", "Call-ID", "CSeq"].iter().any(|n| line.starts_with(n)));
        let echoed: String = echoed.map(|line| format!("{line}\r\n")).collect();
        carrier.send_to(format!("SIP/2.0 {status}\r\n{echoed}Content-Length: 0\r\n\r\n").as_bytes(), from).unwrap();
    }
    let admin = gateway.admin.to_string();
    let show = |more: &[&str]| {
        let output = Command::new(binary()).args(["trunks", "--admin", &admin]).args(more).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };

    // The answers are on their way.
    let (code, table) =
        (0..100).map(|_| show(&[])).find(|(_, table)| table.contains("403") && table.contains("200 OK")).unwrap();
    let (json_code, json) = show(&["--json"]);
    let nobody = Command::new(binary()).args(["trunks", "--admin", "127.0.0.1:9"]).output().unwrap();

    assert_eq!((code, json_code, nobody.status.code()), (Some(1), Some(1), Some(69)));
    assert!(table.contains("sip:us@carrier.example") && table.contains("NOT registered"), "{table}");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let lost = json["trunks"].as_array().unwrap().iter().find(|trunk| trunk["id"] == "lost").unwrap();
    assert_eq!((&lost["up"], &lost["gateways"][0]["state"]), (&false.into(), &"up".into()));
    assert_eq!(lost["registration"]["last"]["answer"], "403 Forbidden");
    gateway.assert_counted("ringback_trunk_gateway_up", "lost", 1.0);
    gateway.assert_counted("ringback_registration_up", "lost", 0.0);
    assert!(gateway.log().contains("403 Forbidden"), "{}", gateway.log());
}

fn files(trunk: &str) -> Vec<(&'static str, String)> {
    vec![
        ("agents/desk.toml", DESK.to_owned()),
        ("workflows/out.toml", OUT.to_owned()),
        ("secrets/carrier", "open sesame\n".to_owned()),
        ("trunks/carrier.toml", trunk.to_owned()),
    ]
}

fn trunk(gateways: &[&UdpSocket], more: &str) -> String {
    let uris: Vec<String> = gateways.iter().map(|it| format!("\"sip:{}\"", at(it))).collect();
    let inbound = "[inbound]\nallowed_addresses = [\"127.0.0.0/8\"]\nover_registration = false\n";
    format!("version = 1\ntitle = \"Carrier\"\n{inbound}[outbound]\ngateways = [{}]\n{more}", uris.join(", "))
}

fn registration(registrars: &[&UdpSocket]) -> String {
    let uris: Vec<String> = registrars.iter().map(|it| format!("\"sip:{}\"", at(it))).collect();
    format!(
        "[registration]\nregistrars = [{}]\naor = \"sip:us@carrier.example\"\n[registration.login]\nusername = \"alice\"\n\
         password = {{ file = \"secrets/carrier\" }}\n",
        uris.join(", ")
    )
}

async fn socket() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").await.unwrap()
}

fn at(socket: &UdpSocket) -> SocketAddr {
    socket.local_addr().unwrap()
}

fn peer(socket: UdpSocket, house: &House) -> Peer {
    Peer { at: at(&socket), socket, gateway: house.gateway.sip_addrs()[0].0 }
}

async fn phone() -> Phone {
    Phone::open("127.0.0.1:0".parse().unwrap()).await.expect("a telephone")
}

fn outgoing(house: &House) -> Outgoing {
    Outgoing { to: house.uri("100"), from: "+441632960001".to_owned().into(), ..Outgoing::default() }
}

/// Until every trunk looks like this.
async fn wait_for(house: &House, what: &str, holds: impl Fn(&TrunkState) -> bool) {
    let mut ticks = interval(Duration::from_millis(5));
    let end = soon();
    loop {
        let trunks = house.gateway.trunks();
        if trunks.iter().all(&holds) {
            return;
        }
        let now = ticks.tick().await;
        assert!(now < end, "{what}: {trunks:?}");
    }
}

fn count(trunk: &TrunkState, direction: &str, cause: &str) -> u64 {
    let found = trunk.calls.iter().find(|calls| calls.direction == direction && calls.cause == cause);
    found.map_or(0, |calls| calls.count)
}

/// A trunk that nobody calls from.
const ELSEWHERE: &str = r#"version = 1
title = "Elsewhere"
[inbound]
allowed_addresses = ["192.0.2.0/24"]
"#;

const DESK: &str = r#"version = 1
title = "Desk"
connector = "flow"
[flow]
workflow = "out"
"#;

const OUT: &str = r#"version = 1
title = "Out"
[[step]]
id = "colleague"
on_error = "end"
[step.transfer]
targets = [{ to = "+390212345678", ring_s = 20 }]
message = { clips = ["transfer.wav"] }
"#;
