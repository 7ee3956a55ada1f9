//! Questions outside of dialogs, over real sockets: OPTIONS, and REGISTER with everything a registrar may say to it.

use std::time::Duration;

use ringback::sip::ask::{answer, sign, words};
use ringback::sip::{Asked, Conversation, Denial, Failure, Question, Reply};
use ringback::trunk::gateways::Sign;
use ringback::trunk::registrar::Answer;

use crate::sip_digest::{assert_proven, challenge, login};
use crate::sip_probe::{Gateway, Msg, Peer};

#[tokio::test]
async fn a_registration_is_challenged_granted_and_renewed_with_the_same_nonce() {
    let gateway = Gateway::new().await;
    let peer = Peer::of(gateway.udp).await;
    let mut conversation = Conversation::new(Some(login("open sesame")));

    let (first, (bare, proven)) = tokio::join!(ask(&gateway, register(&peer, 600), &mut conversation), async {
        let bare = peer.expect("REGISTER").await;
        peer.send(bare.response("401 Unauthorized", "r", &challenge("WWW-Authenticate", "n1", ""), "")).await;
        let proven = peer.expect("REGISTER").await;
        let user = user_of(&proven);
        let contacts = format!(
            "Contact: <sip:other@192.0.2.1>;expires=11, <sip:{user}@{}>;expires=300\r\nExpires: 77\r\n\
             Service-Route: <sip:edge.example;lr>, <sip:core.example;lr>\r\n",
            peer.at
        );
        peer.send(proven.response("200 OK", "r", &contacts, "")).await;
        (bare, proven)
    });
    let (second, renewed) = tokio::join!(ask(&gateway, register(&peer, 600), &mut conversation), async {
        let renewed = peer.expect("REGISTER").await;
        peer.send(renewed.response("200 OK", "r", "Expires: 77\r\n", "")).await;
        renewed
    });

    assert!(bare.start.starts_with(&format!("REGISTER sip:{} SIP/2.0", peer.at)), "{}", bare.start);
    assert_eq!((bare.header("to"), bare.header("expires")), ("<sip:us@carrier.example>", "600"));
    assert_eq!(bare.header("supported"), "path");
    assert!(bare.header("contact").starts_with("<sip:token@127.0.0.1:"), "{}", bare.header("contact"));
    assert_proven(&proven, "authorization", "REGISTER", 1);
    assert_proven(&renewed, "authorization", "REGISTER", 2);
    assert_eq!([&bare, &proven, &renewed].map(|it| it.header("cseq")), ["1 REGISTER", "2 REGISTER", "3 REGISTER"]);
    assert!(
        bare.header("call-id") == proven.header("call-id") && proven.header("call-id") == renewed.header("call-id")
    );
    let service_route = vec!["sip:edge.example;lr".to_owned(), "sip:core.example;lr".to_owned()];
    assert_eq!(answer(&first), Answer::Granted { expires: Duration::from_secs(300), service_route });
    assert_eq!(second.unwrap().expires, Duration::from_secs(77), "what stands for all contacts counts for ours");
}

#[tokio::test]
async fn a_nonce_that_changes_midway_is_followed_whatever_the_registrar_calls_it() {
    let gateway = Gateway::new().await;
    let peer = Peer::of(gateway.udp).await;
    let mut conversation = Conversation::new(Some(login("open sesame")));

    for (nonce, stale) in [("n1", ""), ("n2", ", stale=true"), ("n3", "")] {
        let (result, proven) = tokio::join!(ask(&gateway, register(&peer, 60), &mut conversation), async {
            let old = peer.expect("REGISTER").await;
            peer.send(old.response("401 Unauthorized", "r", &challenge("WWW-Authenticate", nonce, stale), "")).await;
            let proven = peer.expect("REGISTER").await;
            peer.send(proven.response("200 OK", "r", "", "")).await;
            proven
        });
        assert_eq!(result.unwrap().status, 200);
        assert_proven(&proven, "authorization", "REGISTER", 1);
        assert!(proven.header("authorization").contains(nonce));
    }
}

#[tokio::test]
async fn a_wrong_password_is_sent_once_and_never_shown() {
    let gateway = Gateway::new().await;
    let peer = Peer::of(gateway.udp).await;
    let mut conversation = Conversation::new(Some(login("open sesame")));

    let (result, ()) = tokio::join!(ask(&gateway, register(&peer, 60), &mut conversation), async {
        for nonce in ["n1", "n2"] {
            let request = peer.expect("REGISTER").await;
            peer.send(request.response("401 Unauthorized", "r", &challenge("WWW-Authenticate", nonce, ""), "")).await;
        }
    });

    assert_eq!(result, Err(Failure::Unauthorized { denial: Denial::WrongLogin, realm: "ring".to_owned() }));
    assert_eq!(answer(&result), Answer::Denied);
    let words = words(&result);
    assert!(words.contains("user name or password is wrong") && !words.contains("sesame"), "{words}");
    peer.assert_silent(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn every_answer_of_a_registrar_has_its_meaning() {
    let gateway = Gateway::new().await;
    let peer = Peer::of(gateway.udp).await;
    let cases = [
        ("423 Interval Too Brief", "Min-Expires: 900\r\n", Answer::TooBrief { least: Duration::from_secs(900) }),
        ("423 Interval Too Brief", "", Answer::Refused { retry_after: None }),
        ("503 Busy", "Retry-After: 7\r\n", Answer::Refused { retry_after: Some(Duration::from_secs(7)) }),
        ("500 Broken", "", Answer::Refused { retry_after: None }),
        ("403 Forbidden", "", Answer::Denied),
        ("404 Not Found", "", Answer::Denied),
    ];
    for (line, extra, wanted) in cases {
        let mut conversation = Conversation::new(None);
        let (result, ()) = tokio::join!(ask(&gateway, register(&peer, 60), &mut conversation), async {
            let request = peer.expect("REGISTER").await;
            peer.send(request.response(line, "r", extra, "")).await;
        });
        assert_eq!(answer(&result), wanted, "{line}");
        assert_eq!(words(&result), line);
    }
}

#[tokio::test]
async fn options_tell_the_living_from_the_busy_and_the_silent() {
    let gateway = Gateway::new().await;
    let peer = Peer::of(gateway.udp).await;
    let busy = Sign::Busy { retry_after: None };
    for (line, wanted) in
        [("200 OK", Sign::Alive), ("404 Not Found", Sign::Alive), ("401 Who", Sign::Alive), ("503 Busy", busy)]
    {
        let mut conversation = Conversation::new(None);
        let (result, request) = tokio::join!(ask(&gateway, options(&peer, 10_000), &mut conversation), async {
            let request = peer.expect("OPTIONS").await;
            peer.send(request.response(line, "r", "", "")).await;
            request
        });
        assert_eq!(sign(&result), wanted, "{line}");
        assert_eq!(request.header("accept"), "application/sdp");
    }

    let mut conversation = Conversation::new(None);
    let silent = gateway.sip.ask(&options(&peer, 50), &mut conversation).await;
    assert_eq!((sign(&silent), words(&silent).as_str()), (Sign::Silent, "no answer in time"));
}

#[tokio::test]
async fn whoever_cannot_be_reached_is_told_at_once() {
    let gateway = Gateway::new().await;
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let ask = async |uri: String| {
        let question = Question { asked: Asked::Options, uri, timeout: Duration::from_secs(10) };
        gateway.sip.ask(&question, &mut Conversation::new(None)).await
    };

    assert_eq!(ask(format!("sip:{closed};transport=tcp")).await, Err(Failure::Transport));
    assert_eq!(ask("sip:nobody.invalid".to_owned()).await, Err(Failure::Unresolved));
    assert_eq!(ask(format!("sip:{}", gateway.udp)).await.unwrap().status, 200, "that is ourselves");
    assert_eq!(ask("http://x.example".to_owned()).await, Err(Failure::BadRequest));
}

async fn ask(gateway: &Gateway, question: Question, conversation: &mut Conversation) -> Result<Reply, Failure> {
    gateway.sip.ask(&question, conversation).await
}

fn register(peer: &Peer, expires_s: u64) -> Question {
    let asked = Asked::Register {
        aor: "sip:us@carrier.example".to_owned(),
        contact_user: "token".to_owned(),
        expires: Duration::from_secs(expires_s),
    };
    Question { asked, uri: format!("sip:{}", peer.at), timeout: Duration::from_secs(10) }
}

fn options(peer: &Peer, timeout_ms: u64) -> Question {
    Question { asked: Asked::Options, uri: format!("sip:{}", peer.at), timeout: Duration::from_millis(timeout_ms) }
}

fn user_of(register: &Msg) -> String {
    register.uri("contact").trim_start_matches("sip:").split('@').next().unwrap().to_owned()
}
