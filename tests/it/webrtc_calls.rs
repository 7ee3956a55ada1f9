//! Calls of browsers through the whole house: WHIP in, an agent on the other side, and the same record as of any call.

use reqwest::header::HeaderMap;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use ringback::call::Status;
use ringback::model::Pii;
use ringback::webrtc::{Claims, sign_token};

use crate::house::{Crm, House, soon};
use crate::webrtc_peer::{Browser, Heard, Offerer, ULAW, candidate};

#[tokio::test(flavor = "multi_thread")]
async fn a_browsers_call_is_a_call_like_any_other() {
    let house = open("access = \"open\"").await;
    let offerer = Offerer::new(ULAW);
    let response = offered(&house, "100", &offerer.offer).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::CREATED);
    let (location, etag) = (header(&response, "location"), header(&response, "etag"));
    assert!(header(&response, "content-type").starts_with("application/sdp"));
    let mut events = request(&house, Method::GET, &format!("{location}/events")).send().await.unwrap();
    let browser = offerer.answered(&response.text().await.unwrap());

    told(&mut events, "answered").await;
    browser.wait(|heard| *heard == Heard::Connected);
    let browser = echoes(browser, 0x2a).await;
    let gone = request(&house, Method::DELETE, &location).send().await.unwrap();

    assert_eq!(gone.status(), StatusCode::OK);
    assert!(told(&mut events, "ended").await.contains("\"cause\":\"normal\""));
    browser.wait(|heard| *heard == Heard::Closed);
    let again = request(&house, Method::PATCH, &location).header("if-match", etag).send().await.unwrap();
    assert_eq!(again.status(), StatusCode::NOT_FOUND);
    let record = house.record().await;
    assert_eq!((record.status, record.end_reason.as_str()), (Status::Completed, "normal"));
    assert_eq!((record.trunk.as_deref(), record.called.as_str()), (Some("web"), "100"));
    assert!(record.anonymous);
    house.replayed(record.id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_says_who_calls_and_an_agent_that_hangs_up_is_heard_of() {
    let house = open("secret = { file = \"secrets/web\" }").await;
    let token = |to: &str, secret: &str| {
        let sub = Some(Pii::new("+442079460000".to_owned()));
        let exp = ringback::gateway::unix_ms() / 1_000 + 60;
        let to = serde_json::from_value(serde_json::json!(to)).unwrap();
        sign_token(&Claims { exp, to, sub, name: Some(Pii::new("Ada".to_owned())) }, secret.as_bytes())
    };
    let offerer = Offerer::new(ULAW);
    let with = |token: String| offered(&house, "100", &offerer.offer).bearer_auth(token);
    for (refused, status) in [
        (offered(&house, "100", &offerer.offer), StatusCode::UNAUTHORIZED),
        (with(token("100", "another secret")), StatusCode::UNAUTHORIZED),
        (with(token("200", SECRET)), StatusCode::FORBIDDEN),
    ] {
        assert_eq!(refused.send().await.unwrap().status(), status);
    }

    let response = with(token("100", SECRET)).send().await.unwrap();
    let location = header(&response, "location");
    let mut events = request(&house, Method::GET, &format!("{location}/events")).send().await.unwrap();
    let browser = offerer.answered(&response.text().await.unwrap());
    browser.wait(|heard| *heard == Heard::Connected);
    told(&mut events, "answered").await;
    // The gateway closes, and everybody on it is sent home.
    house.gateway.drain(std::time::Duration::ZERO).await;

    browser.wait(|heard| *heard == Heard::Closed);
    told(&mut events, "ended").await;
    let record = house.record().await;
    assert_eq!((record.phone.as_deref(), record.anonymous), (Some("+442079460000"), false));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_browsers_share_a_port_and_one_that_closes_ends_its_own_call_only() {
    let house = open("access = \"open\"").await;
    let mut browsers = Vec::new();
    let mut ports = Vec::new();
    for _ in 0..2 {
        let offerer = Offerer::new(ULAW);
        let answer = offered(&house, "100", &offerer.offer).send().await.unwrap().text().await.unwrap();
        ports.push(candidate(&answer));
        let browser = offerer.answered(&answer);
        browser.wait(|heard| *heard == Heard::Connected);
        browsers.push(browser);
    }
    assert_eq!(ports[0], ports[1]);
    let first = echoes(browsers.remove(0), 0x11).await;
    let second = echoes(browsers.remove(0), 0x22).await;

    first.close();

    let until = soon();
    while house.gateway.calls() != 1 {
        assert!(tokio::time::Instant::now() < until, "the call ends");
        tokio::task::yield_now().await;
    }
    echoes(second, 0x33).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_request_is_said() {
    let house = open("access = \"open\"\norigins = [\"https://www.example.com\"]").await;
    let offer = Offerer::new(ULAW).offer;
    let opus = Offerer::new(("audio/speex", 16_000, 111)).offer;
    let post = |called: &str| offered(&house, called, &offer);
    let patch = |etag: Option<&str>| {
        let request = request(&house, Method::PATCH, "/whip/calls/nobody");
        let request = request.header("content-type", "application/trickle-ice-sdpfrag");
        etag.map_or_else(|| request.try_clone().unwrap(), |etag| request.try_clone().unwrap().header("if-match", etag))
    };
    let own = house.gateway.whip_addr().unwrap();
    for (what, request, status) in [
        ("a number that browsers may not call", post("999"), 403),
        // Its route refuses, which is a call with an end of its own.
        ("a number that is refused", post("555"), 201),
        ("a page of somebody else", post("100").header("origin", "https://evil.example"), 403),
        (
            "a page on a name that leads here",
            post("100").header("origin", "http://evil.example").header("host", "evil.example"),
            403,
        ),
        ("not a description", offered(&house, "100", "hello"), 400),
        ("a codec that nobody knows", offered(&house, "100", &opus), 422),
        ("another kind of body", request(&house, Method::POST, "/whip/100").body("{}"), 415),
        ("too long a body", offered(&house, "100", &"v=0\r\n".repeat(10_000)), 413),
        ("a call that there is not", patch(Some("\"x\"")), 404),
        ("another method", request(&house, Method::GET, "/whip/100"), 405),
        ("a page of ours", post("100").header("origin", format!("http://{own}")), 201),
        ("a page of the list", post("100").header("origin", "https://www.example.com"), 201),
    ] {
        let response = request.send().await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{what}");
    }

    let preflight = request(&house, Method::OPTIONS, "/whip/100").header("origin", "https://www.example.com");
    let preflight = preflight.send().await.unwrap();
    assert_eq!(preflight.status(), StatusCode::NO_CONTENT);
    assert_eq!(header(&preflight, "access-control-allow-origin"), "https://www.example.com");
    let last = post("100").send().await;
    assert!(last.is_ok(), "the listener lives");
}

#[tokio::test(flavor = "multi_thread")]
async fn ice_is_trickled_and_started_anew_with_the_right_tag() {
    let house = open("access = \"open\"").await;
    let offerer = Offerer::new(ULAW);
    let response = offered(&house, "100", &offerer.offer).send().await.unwrap();
    let (location, etag) = (header(&response, "location"), header(&response, "etag"));
    let patch = |body: &str| {
        let request = request(&house, Method::PATCH, &location).body(body.to_owned());
        request.header("content-type", "application/trickle-ice-sdpfrag")
    };
    let candidate = "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\na=candidate:1 1 udp 1 127.0.0.1 5000 typ host\r\n";
    let anew = "a=ice-ufrag:anew\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n";

    let without = patch(candidate).send().await.unwrap();
    let wrong = patch(candidate).header("if-match", "\"x\"").send().await.unwrap();
    let right = patch(candidate).header("if-match", &etag).send().await.unwrap();
    let restarted = patch(anew).header("if-match", "*").send().await.unwrap();
    let new = header(&restarted, "etag");
    let status = restarted.status();
    let ours = restarted.text().await.unwrap();
    let old = patch(candidate).header("if-match", &etag).send().await.unwrap();

    let seen = [without.status(), wrong.status(), right.status(), status, old.status()].map(|status| status.as_u16());
    assert_eq!(seen, [428, 412, 204, 200, 412]);
    assert_ne!(new, etag);
    assert!(ours.contains("a=ice-pwd:") && ours.contains(new.trim_matches('"')));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_calls_too_often_waits() {
    let house = open("access = \"open\"\ncalls_per_minute = 2").await;
    let offer = Offerer::new(ULAW).offer;

    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(offered(&house, "999", &offer).send().await.unwrap());
    }

    assert_eq!(statuses[1].status(), StatusCode::FORBIDDEN);
    assert_eq!(statuses[2].status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(header(&statuses[2], "retry-after"), "30");
}

/// A house with the echo on 100, where browsers may call 100, 200 and 555.
pub(crate) async fn open(settings: &str) -> House {
    let tables = format!(
        "[webrtc]\nlisten = \"127.0.0.1:0\"\nudp = [\"127.0.0.1:0\"]\ntrunk = \"web\"\n\
         numbers = [\"100\", \"200\", \"555\"]\npage = true\n{settings}\n"
    );
    let files = [
        ("trunks/web.toml", "version = 1\ntitle = \"Browsers\"\n".to_owned()),
        ("agents/desk.toml", "version = 1\ntitle = \"Echo\"\nconnector = \"echo\"\n".to_owned()),
        ("secrets/web", SECRET.to_owned()),
    ];
    House::open_with(Crm::open(&[]).await, &files, &tables).await
}

fn request(house: &House, method: Method, path: &str) -> RequestBuilder {
    let address = house.gateway.whip_addr().expect("browsers may call");
    Client::new().request(method, format!("http://{address}{path}"))
}

fn offered(house: &House, called: &str, offer: &str) -> RequestBuilder {
    let request = request(house, Method::POST, &format!("/whip/{called}"));
    request.header("content-type", "application/sdp").body(offer.to_owned())
}

fn header(response: &Response, name: &str) -> String {
    let headers: &HeaderMap = response.headers();
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

/// Reads the events of a call until one has this state.
async fn told(events: &mut Response, state: &str) -> String {
    let wanted = format!("\"state\":\"{state}\"");
    let mut seen = String::new();
    while !seen.contains(&wanted) {
        let chunk = tokio::time::timeout_at(soon(), events.chunk()).await.expect("an event in time");
        let chunk = chunk.unwrap().unwrap_or_else(|| panic!("{wanted} comes; until now: {seen}"));
        seen += &String::from_utf8_lossy(&chunk);
    }
    seen
}

/// Speaks until it hears itself.
async fn echoes(browser: Browser, tone: u8) -> Browser {
    tokio::task::spawn_blocking(move || {
        for packet in 0..500_u16 {
            browser.say(packet, u32::from(packet) * 160, vec![tone; 160]);
            let is_own = |heard: &Heard| matches!(heard, Heard::Audio { payload, .. } if payload.contains(&tone));
            // One of ours comes in 20 ms at the latest, silence or not, which paces this.
            let heard = browser.wait(|heard| matches!(heard, Heard::Audio { .. }));
            if is_own(&heard) {
                return browser;
            }
        }
        panic!("it does not hear itself");
    })
    .await
    .unwrap()
}

const SECRET: &str = "a secret of at least thirty-two characters";
