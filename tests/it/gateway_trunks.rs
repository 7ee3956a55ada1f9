//! What a trunk's file says, on the wire of the whole gateway; and files that change while calls are up.

#![allow(clippy::disallowed_methods, reason = "real peers are waited for by the real clock")]

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use crate::caller::Caller;
use crate::house::{Crm, House};

#[tokio::test(flavor = "multi_thread")]
async fn a_route_refuses_with_its_own_status_and_words() {
    let routes = "version = 1\n[[route]]\ncalled = \"+390212345678\"\nfrom = \"+39*\"\nheader = [{ name = \"X-Queue\", \
                  value = \"gold*\" }]\nstatus = 488\nreason = \"Gold is closed\"\nretry_after_s = 7\n\
                  [[route]]\ncalled = \"*\"\nreject = \"not_found\"\n";
    let trunk = "version = 1\ntitle = \"C\"\ncountry = \"IT\"\ntrusted = true\n[inbound]\nallowed_addresses = [\"127.0.0.0/8\"]\n";
    let house = house(&[("routes.toml", routes.into()), ("trunks/carrier.toml", trunk.into())]).await;
    let mut gold = caller(&house, "0212345678");
    gold.extra = "P-Asserted-Identity: <tel:+39-340-1234567>\r\nX-Queue: Gold-7\r\n".into();
    let mut silver = caller(&house, "0212345678");
    silver.extra = "X-Queue: gold\r\n".into();

    gold.invite();
    let refused = gold.expect("488");
    silver.invite();
    let not_found = silver.expect("404");

    assert!(refused.text.starts_with("SIP/2.0 488 Gold is closed\r\n"), "{}", refused.text);
    assert_eq!(refused.header("Retry-After"), "7");
    assert_eq!(not_found.status(), 404);
    house.gateway.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trunk_is_shown_the_caller_as_its_file_says() {
    let gateway = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let port = gateway.local_addr().expect("an address").port();
    let routes = "version = 1\n[[route]]\ncalled = \"*\"\nforward = { trunk = \"out\", to = \"+390298765432\" }\n\
                  [[route]]\ncalled = \"*\"\nreject = \"not_found\"\n";
    let routes = routes.replacen("called = \"*\"", "called = \"+39*\"", 1);
    let inbound = "version = 1\ntitle = \"C\"\ncountry = \"IT\"\n[inbound]\nallowed_addresses = [\"127.0.0.0/8\"]\n";
    let out = format!(
        "version = 1\ntitle = \"O\"\ncountry = \"IT\"\ncodecs = [\"pcma\", \"pcmu\"]\n[outbound]\nuri = \"sip:127.0.0.1:{port}\"\n\
         number_format = \"digits\"\nprefix = \"99\"\ncaller_id = \"+390212345600\"\ncaller_name = \"Engines\"\n\
         caller_host = \"trunk.example\"\nassert_identity = true\n\
         [[outbound.header]]\nname = \"X-From\"\nvalue = \"{{{{caller.number}}}}\"\n[outbound.allow]\ncountries = [\"IT\"]\n"
    );
    let files = [("routes.toml", routes), ("trunks/carrier.toml", inbound.to_owned()), ("trunks/out.toml", out)];
    let house = house(&files).await;
    let mut caller = caller(&house, "0212345678");

    caller.invite();
    let invite = receive(&gateway);
    caller.cancel();
    caller.expect("487");

    assert!(invite.starts_with(&format!("INVITE sip:99390298765432@127.0.0.1:{port} SIP/2.0\r\n")), "{invite}");
    assert!(invite.contains("From: \"Engines\" <sip:390212345600@trunk.example>;tag="), "{invite}");
    assert!(invite.contains("P-Asserted-Identity: <sip:+390212345600@trunk.example>\r\n"), "{invite}");
    assert!(invite.contains("X-From: +441632960001\r\n"), "{invite}");
    assert!(invite.contains("RTP/AVP 8 0 101\r\n"), "{invite}");
    house.gateway.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_follows_the_order_of_a_trunk_that_has_one() {
    let trunk =
        "version = 1\ntitle = \"C\"\ncodecs = [\"pcma\", \"pcmu\"]\n[inbound]\nallowed_addresses = [\"127.0.0.0/8\"]\n";
    let house = house(&[("trunks/carrier.toml", trunk.into())]).await;
    let mut caller = caller(&house, "100");

    let answer = caller.connect();
    caller.hang_up();

    assert!(answer.text.contains(" RTP/AVP 8 101\r\n"), "{}", answer.text);
    house.gateway.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_read_again_under_a_live_call() {
    let house = house(&[]).await;
    let mut live = caller(&house, "100");
    live.connect();
    // The trunk of the live call goes, and with it whoever calls from there; its number leads nowhere any more.
    house.remove("trunks/carrier.toml");
    house.write("trunks/other.toml", "version = 1\ntitle = \"O\"\n[inbound]\nallowed_addresses = [\"127.0.0.77\"]\n");
    house.write("routes.toml", "version = 1\n[[route]]\ncalled = \"*\"\nstatus = 410\n");

    let done = house.gateway.reload().await.expect("the files are right");
    let mut stranger = caller(&house, "100");
    stranger.invite();
    let refused = stranger.recv(Duration::from_millis(500)).filter(|reply| reply.status() > 100);
    let goes_on = house.gateway.calls();
    live.hang_up();

    assert_ne!(done.revision, done.before);
    assert!(refused.is_none_or(|reply| reply.status() == 403), "a stranger is not let in");
    assert_eq!(goes_on, 1, "the live call goes on");
    // And back: the old trunk is known at once, and the new route counts.
    house
        .write("trunks/carrier.toml", "version = 1\ntitle = \"C\"\n[inbound]\nallowed_addresses = [\"127.0.0.0/8\"]\n");
    house.gateway.reload().await.expect("the files are right");
    let mut again = caller(&house, "100");
    again.invite();
    assert_eq!(again.expect("410").status(), 410);
    house.gateway.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_with_a_mistake_change_nothing() {
    let house = house(&[]).await;
    house.write("routes.toml", "version = 1\n[[route]]\ncalled = \"*\"\nagent = \"nobody\"\n");
    house.write("trunks/more.toml", "version = 1\n");

    let refused = house.gateway.reload().await.expect_err("there are mistakes");
    let mut caller = caller(&house, "100");
    caller.connect();
    caller.hang_up();

    assert!(refused.to_string().contains("nothing is changed"), "{refused}");
    house.gateway.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_start_changes_is_named() {
    let house = house(&[]).await;
    house.change("gateway.toml", "port_last = 39999", "port_last = 39997");
    house.change("gateway.toml", "max_calls = 100", "max_calls = 99");

    let done = house.gateway.reload().await.expect("the files are right");

    assert_eq!(done.needs_a_start, ["[media] in gateway.toml"]);
    house.gateway.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receivers_prompts_and_roots_are_read_again() {
    let root = || {
        let params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
    };
    let hooks = |url: &str| {
        format!(
            "version = 1\n[[endpoint]]\nid = \"crm\"\nurl = \"{url}\"\nsecret = {{ file = \"secrets/hooks\" }}\n\
             events = [\"call.ended\"]\n"
        )
    };
    let secret = ("secrets/hooks", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD".to_owned());
    let house = house(&[("signers.pem", root()), ("webhooks.toml", hooks("http://CRM/old")), secret]).await;
    let address = house.crm.address;
    house.write("webhooks.toml", &hooks(&format!("http://{address}/new")));
    house.write("signers.pem", &root());
    house.change("gateway.toml", "audio-fixtures", "tests");

    let done = house.gateway.reload().await.expect("the files are right");
    let mut caller = caller(&house, "100");
    caller.connect();
    caller.hang_up();
    crate::outside::until("the new receiver is told", || async { (!house.crm.asked().is_empty()).then_some(()) }).await;

    assert_eq!((done.needs_a_start.len(), house.crm.asked()), (0, vec!["/new".to_owned()]));
    // What cannot be used changes nothing, and the former receiver stays.
    house.write("secrets/hooks", "none");
    let refused = house.gateway.reload().await.expect_err("a secret that is none");
    assert!(refused.to_string().contains("crm") && refused.to_string().contains("nothing is changed"), "{refused}");
    house.gateway.shutdown().await;
}

async fn house(files: &[(&str, String)]) -> House {
    let desk = "version = 1\ntitle = \"D\"\nconnector = \"echo\"\n";
    let mut all = vec![("agents/desk.toml", desk.to_owned())];
    all.extend_from_slice(files);
    House::open(Crm::open(&[]).await, &all).await
}

fn caller(house: &House, called: &str) -> Caller {
    let (address, _) = house.gateway.sip_addrs()[0];
    Caller::new(address, called)
}

fn receive(socket: &UdpSocket) -> String {
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a time limit");
    let mut buffer = [0; 65_536];
    let (length, _): (usize, SocketAddr) = socket.recv_from(&mut buffer).expect("a message");
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}
