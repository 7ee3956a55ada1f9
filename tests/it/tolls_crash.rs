//! What a day's calls used, over a `kill -9` of the real binary.

use std::time::Duration;

use ringback::store::Store;
use serde_json::Value;

use crate::rig::{Gateway, Rig};
use crate::sip_probe::{Line, Peer, SDP};

const ROUTES: &str = "version = 1\n[[route]]\ncalled = \"*\"\nforward = { trunk = \"out\", to = \"+442079460000\" }\n";

#[tokio::test]
async fn what_was_spent_and_used_is_not_given_back_by_a_crash() {
    let rig = Rig::new(&[]);
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let at = socket.local_addr().unwrap();
    rig.write("routes.toml", ROUTES);
    rig.write(
        "trunks/out.toml",
        &format!(
            "version = 1\ntitle = \"Out\"\ncountry = \"GB\"\n[outbound]\nuri = \"sip:{at}\"\n\
             [[outbound.price]]\nprefix = \"\"\nper_minute = 0.2\n\
             [limits]\nspend_per_day = 0.3\nminutes_per_day = 1000\n"
        ),
    );

    let before = Gateway::start(&rig);
    let callee = Peer { socket, at, gateway: before.udp };
    let caller = Peer::of(before.udp).await;
    let line = Line::new(caller.at, before.udp);
    caller.send(line.invite()).await;
    let invite = callee.expect("INVITE").await;
    callee.send(invite.response("200 OK", "bob", &format!("Contact: <sip:bob@{at}>\r\n"), SDP)).await;
    callee.expect("ACK").await;
    let ok = caller.find("SIP/2.0 200").await;
    caller.send(Line { to_tag: ok.tag("to"), ..line }.ack()).await;
    let kept = written_down(&rig).await;
    before.kill();

    let mut after = Gateway::start(&rig);
    let caller = Peer::of(after.udp).await;
    let line = Line::new(caller.at, after.udp);
    caller.send(line.invite()).await;
    let refused = caller.find("SIP/2.0 4").await;
    caller.send(Line { to_tag: refused.tag("to"), ..line }.ack()).await;

    // As much as it would have been when it had been written down next.
    assert!(kept["used_ms"].as_i64() >= Some(5_000), "{kept}");
    assert_eq!(kept["spent"], 200_000, "{kept}");
    assert_eq!(refused.status(), 403, "a second minute would cost more than is left");
    after.assert_counted("ringback_dials_refused_total", "spend_per_day", 1.0);
    after.assert_counted("ringback_trunk_spent_today", "out", 0.2);
    after.assert_counted("ringback_trunk_minutes_today", "out", 0.08);
    after.assert_well();
}

/// The trunk's day as it stands on the disk, once the call costs something.
async fn written_down(rig: &Rig) -> Value {
    let store = Store::open_for_reading(rig.path().join("data/ringback.db")).await.unwrap();
    let looking = async {
        loop {
            let kept = store.kept("tolls").await.unwrap().unwrap_or_default();
            let day = serde_json::from_str::<Value>(&kept).unwrap_or_default()["trunks"]["out"].clone();
            if day["spent"].as_i64() > Some(0) {
                return day;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), looking).await.expect("it is written down at once")
}
