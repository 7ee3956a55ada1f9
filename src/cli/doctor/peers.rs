//! Peers: what they answer when they are asked, and what a running gateway knows of them.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use futures_util::future::join_all;
use serde::Deserialize as _;

use super::{Finding, Patient};
use crate::cli::trunks::{self, Seen, printable};
use crate::config::Config;
use crate::gateway;
use crate::guard::{Access, Contacts, InForce, Protection};
use crate::model::limits;
use crate::sip::{self, Conversation, Failure, Question, Sip, SipConfig};

/// A peer that was asked with OPTIONS.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) trunk: String,
    pub(super) uri: String,
    /// Status and words, or why there are none.
    pub(super) answer: Result<(u16, String), Failure>,
}

/// Asks every gateway and registrar whether it is there, from ports of our own. Nothing is registered: that would move
/// the calls of a gateway that runs.
pub(super) async fn ask(config: &Config) -> Result<Vec<Heard>, String> {
    crate::services::tls::install();
    let listeners = &config.gateway.sip;
    let ours = [&listeners.udp, &listeners.tcp, &listeners.tls, &listeners.ws, &listeners.wss];
    let ours: BTreeSet<IpAddr> = ours.into_iter().flatten().map(SocketAddr::ip).collect();
    let any_port: Vec<SocketAddr> = ours.into_iter().map(|address| SocketAddr::new(address, 0)).collect();
    let tls = gateway::sip_tls(config).map_err(|error| error.to_string())?;
    // Whoever calls these ports meets silence.
    let nobody = Access::new([], |_| None, Protection::default(), Contacts::default());
    let opened = Sip::bind(SipConfig {
        access: InForce::new(nobody),
        udp: any_port.clone(),
        tcp: any_port,
        tls,
        nameservers: listeners.nameservers.clone(),
        user_agent: concat!("Ringback/", env!("CARGO_PKG_VERSION")).to_owned(),
        ..SipConfig::default()
    });
    let (sip, _events) = opened.await.map_err(|error| error.to_string())?;
    let peers = config.trunks.values().flat_map(|trunk| {
        let gateways = trunk.outbound.iter().flat_map(|outbound| &outbound.gateways);
        let registrars = trunk.registration.iter().flat_map(|registration| &registration.registrars);
        let uris: BTreeSet<&String> = gateways.chain(registrars).collect();
        uris.into_iter().map(|uri| (trunk.id.clone(), uri.clone())).collect::<Vec<_>>()
    });
    let peers: Vec<(String, String)> = peers.collect();
    let mut heard = Vec::new();
    for some in peers.chunks(limits::UPKEEP_AT_ONCE) {
        heard.extend(join_all(some.iter().map(|(trunk, uri)| ask_one(&sip, trunk, uri))).await);
    }
    sip.shutdown().await;
    Ok(heard)
}

async fn ask_one(sip: &Sip, trunk: &str, uri: &str) -> Heard {
    let question = Question { asked: sip::Asked::Options, uri: uri.to_owned(), timeout: limits::PROBE_ANSWER_MAX };
    let answer = sip.ask(&question, &mut Conversation::new(None)).await;
    let answer = answer.map(|reply| (reply.status, printable(&reply.reason)));
    Heard { trunk: trunk.to_owned(), uri: uri.to_owned(), answer }
}

/// What the peers answered, if they were asked.
pub(super) fn answers(patient: &Patient) -> Vec<Finding> {
    match &patient.heard {
        None => Vec::new(),
        Some(Err(why)) => vec![Finding::warning(
            format!("nobody could be asked: {why}"),
            "look at the addresses and certificates under [sip] in gateway.toml",
        )],
        Some(Ok(heard)) => heard.iter().map(answer).collect(),
    }
}

fn answer(heard: &Heard) -> Finding {
    let Heard { trunk, uri, answer } = heard;
    let whose = format!("{uri} of trunk {trunk}");
    match answer {
        Ok((status @ (408 | 503), words)) => Finding::warning(
            format!("{whose} answers {status} {words}: it does not serve now"),
            "ask the carrier, or write a second one into gateways under [outbound]",
        ),
        Ok((403, words)) => Finding::warning(
            format!("{whose} answers 403 {words}: it does not know us"),
            "its list of customers must hold the address that we send from",
        ),
        Ok((status, words)) => Finding::ok(format!("{whose} is there: {status} {words}")),
        Err(Failure::Unresolved) => Finding::error(
            format!("{} has no address, for {whose}", host_of(uri).unwrap_or(uri)),
            "look at the name in the trunk's file, and at /etc/resolv.conf or nameservers under [sip]",
        ),
        Err(Failure::Timeout | Failure::Silent) => Finding::error(
            format!("{whose} keeps silent"),
            "a firewall on the way, a wrong address or port, or a peer that does not know us: ask its administrator",
        ),
        Err(Failure::Transport) if is_tls(uri) => Finding::error(
            format!("TLS with {whose} cannot be agreed on"),
            "the log says why; `openssl s_client -connect` shows its certificate, which must be current, bear the name \
             that is dialled, and lead to an authority of trust under [sip.tls]",
        ),
        Err(Failure::Transport) => Finding::error(
            format!("{whose} cannot be reached"),
            "nobody listens there: look at address, port and transport in the trunk's file",
        ),
        Err(other) => {
            Finding::error(format!("{whose} cannot be asked: {other}"), "look at the URI in the trunk's file")
        }
    }
}

fn is_tls(uri: &str) -> bool {
    let uri = uri.to_ascii_lowercase();
    uri.starts_with("sips:") || uri.contains(";transport=tls")
}

/// The host of a SIP URI.
fn host_of(uri: &str) -> Option<&str> {
    let rest = uri.split_once(':')?.1.split([';', '?']).next()?;
    let place = rest.rsplit('@').next()?;
    match place.strip_prefix('[') {
        Some(v6) => v6.split(']').next(),
        None => place.split(':').next().filter(|host| !host.is_empty()),
    }
}

/// What a running gateway says of itself.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) trunks: Vec<trunks::Trunk>,
    /// In the text form of Prometheus.
    pub(super) metrics: String,
}

/// Asks a running gateway.
pub(super) async fn running(at: SocketAddr) -> Result<Running, String> {
    let trunks = trunks::get(at, "/trunks").await?;
    let seen: Seen = serde_json::from_slice::<serde_json::Value>(&trunks)
        .and_then(Seen::deserialize)
        .map_err(|_| "it is no gateway of this version".to_owned())?;
    let metrics = trunks::get(at, "/metrics").await?;
    Ok(Running { trunks: seen.trunks, metrics: String::from_utf8_lossy(&metrics).into_owned() })
}

/// Which gateways live, and where we are registered.
pub(super) fn trunks(patient: &Patient) -> Vec<Finding> {
    let running = match &patient.running {
        None => return Vec::new(),
        Some(Ok(running)) => running,
        Some(Err(why)) => {
            return vec![Finding::warning(
                format!("a gateway is running, and does not say how its trunks are: {why}"),
                "write listen under [admin] in gateway.toml, and name its address with --admin",
            )];
        }
    };
    let mut findings = Vec::new();
    for trunk in &running.trunks {
        let id = &trunk.id;
        for gateway in &trunk.gateways {
            let (uri, last) = (printable(&gateway.uri), said(gateway.last.as_ref()));
            match gateway.state.as_str() {
                "down" => findings.push(Finding::error(
                    format!("{uri} of trunk {id} is down; last: {last}"),
                    "a firewall, or a carrier in trouble: `--online` asks it now, and from another port",
                )),
                "suspect" => findings.push(Finding::warning(
                    format!("{uri} of trunk {id} failed lately; last: {last}"),
                    "the next answer decides; `ringback trunks` shows it",
                )),
                _ => {}
            }
        }
        if let Some(it) = trunk.registration.as_ref().filter(|it| !it.registered) {
            let last = said(it.last.as_ref());
            let (aor, registrar) = (printable(&it.aor), printable(&it.registrar));
            findings.push(Finding::error(
                format!("{aor} of trunk {id} is not registered at {registrar}; last: {last}"),
                refused_registration(&last),
            ));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok("every gateway lives, and all that is to be registered is"));
    }
    findings
}

fn said(last: Option<&trunks::Last>) -> String {
    last.map_or_else(|| "never asked".to_owned(), |last| printable(&last.answer))
}

/// What helps, by what the registrar said.
fn refused_registration(last: &str) -> &'static str {
    match last.get(..3).and_then(|status| status.parse().ok()).unwrap_or(0_u16) {
        401 | 403 | 407 => "compare username, password and realm of [registration.login] with the carrier's",
        404 | 410 => "the registrar does not know aor under [registration]",
        400..=499 => "the registrar minds something in our REGISTER: ask its administrator",
        500..=699 => "the registrar is in trouble: write a second one into registrars",
        _ if last.contains("password") || last.contains("challenge") => {
            "write [registration.login], or compare it with the carrier's"
        }
        _ => "look at registrars under [registration], at a firewall, and at the certificate of a TLS registrar",
    }
}

/// What a running gateway turned away, and what helps.
pub(super) fn refusals(patient: &Patient) -> Vec<Finding> {
    let Some(Ok(running)) = &patient.running else { return Vec::new() };
    let told = REFUSALS.iter().filter_map(|(metric, label, says, remedy)| {
        let count = count(&running.metrics, metric, label);
        (count > 0).then(|| Finding::warning(format!("{count} {says}"), *remedy))
    });
    let told: Vec<Finding> = told.collect();
    if told.is_empty() { vec![Finding::ok("nothing was turned away since the start")] } else { told }
}

/// The sum of a counter over all its rows that bear this label.
fn count(metrics: &str, name: &str, label: &str) -> u64 {
    let rows = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        (rest.starts_with(['{', ' ']) && rest.contains(label)).then(|| rest.rsplit(' ').next()?.parse::<u64>().ok())?
    });
    rows.sum()
}

/// Counters whose growth somebody can do something about: name, label, what it means, and what helps.
const REFUSALS: &[(&str, &str, &str, &str)] = &[
    (
        "ringback_guard_judged_total",
        r#"reason="stranger""#,
        "requests came from strangers",
        "if one of them is a trunk, add its address to allowed_addresses; the log names them",
    ),
    (
        "ringback_guard_judged_total",
        r#"reason="wrong_password""#,
        "requests had a wrong password",
        "compare username and password of [inbound.login] with the peer's; the log names its address",
    ),
    (
        "ringback_guard_judged_total",
        r#"reason="trunk_rate""#,
        "requests of trunks came too fast",
        "if the peer is well, raise trunk_requests_per_second under [protection]",
    ),
    (
        "ringback_invites_total",
        r#"result="bad_sdp""#,
        "calls had a session description that cannot be read",
        "its sender must mend it: the trace of the peer shows the text, the log names the calls",
    ),
    (
        "ringback_invites_total",
        r#"result="no_rtp_port""#,
        "calls found no RTP port",
        "widen port_first and port_last under [media], or lower max_calls",
    ),
    (
        "ringback_sip_refused_total",
        r#"status="416""#,
        "requests called URIs of a scheme that is none of ours",
        "the peer must dial sip:, sips: or tel: URIs: look at its dial plan",
    ),
    (
        "ringback_sip_refused_total",
        r#"status="420""#,
        "requests required an extension that we do not have",
        "the peer must not Require it of everybody: the Unsupported header of our answer names it",
    ),
    (
        "ringback_sip_refused_total",
        r#"status="483""#,
        "requests had no hops left",
        "they go in circles: does a route send calls back to where they come from?",
    ),
    (
        "ringback_sip_handshakes_failed_total",
        "",
        "times TLS or WebSocket could not be agreed on",
        "the log names peer and reason: a certificate that has expired, bears another name, or leads to no authority of \
         client_ca or trust",
    ),
    (
        "ringback_sip_garbage_total",
        "",
        "messages could not be read",
        "of a trunk, its software must be mended; of strangers, nothing is to be done",
    ),
    (
        "ringback_trunk_denied_total",
        "",
        "calls out failed for want of a password",
        "compare username, password and realm of [outbound.login] with the carrier's",
    ),
    (
        "ringback_trunk_calls_total",
        r#"cause="server_failure""#,
        "calls over trunks failed for a technical reason",
        "the log names it; `--online` asks the gateways: names, addresses, certificates",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Verdict;
    use crate::cli::doctor::checks::tests::{patient, worst};

    fn heard(uri: &str, answer: Result<(u16, &str), Failure>) -> Finding {
        let answer = answer.map(|(status, words)| (status, words.to_owned()));
        super::answer(&Heard { trunk: "acme".to_owned(), uri: uri.to_owned(), answer })
    }

    #[test]
    fn each_answer_of_a_peer_has_its_remedy() {
        let remedy = |finding: Finding| (finding.verdict, finding.remedy.unwrap_or_default());

        assert_eq!(heard("sip:a.example", Ok((200, "OK"))).verdict, Verdict::Ok);
        assert_eq!(heard("sip:a.example", Ok((405, "No"))).verdict, Verdict::Ok);
        assert!(remedy(heard("sip:a.example", Ok((503, "Busy")))).1.contains("second"));
        assert!(remedy(heard("sip:a.example", Ok((403, "No")))).1.contains("address that we send from"));
        let lost = heard("sip:a.example:5070;transport=tcp", Err(Failure::Unresolved));
        assert!(lost.says.starts_with("a.example has no address") && lost.verdict == Verdict::Error);
        assert!(remedy(heard("sip:a.example", Err(Failure::Timeout))).1.contains("firewall"));
        assert!(remedy(heard("sip:a.example", Err(Failure::Transport))).1.contains("nobody listens"));
        assert!(remedy(heard("sips:a.example", Err(Failure::Transport))).1.contains("openssl"));
        assert!(remedy(heard("sip:a.example;transport=TLS", Err(Failure::Transport))).1.contains("certificate"));
    }

    #[test]
    fn what_is_down_or_unregistered_is_told_with_what_helps() {
        let running = |state: &str, answer: &str, registered: bool| {
            let trunks = serde_json::json!([{
                "id": "acme", "calls": [],
                "gateways": [{ "uri": "sip:a.example", "state": state, "since_unix_ms": 0, "last": null }],
                "registration": { "aor": "sip:us@a.example", "registrar": "sip:a.example", "registered": registered,
                    "since_unix_ms": 0, "expires_unix_ms": null, "last": { "at_unix_ms": 0, "answer": answer } },
            }]);
            let mut patient = patient();
            let trunks = serde_json::from_value(trunks).unwrap();
            patient.running = Some(Ok(Running { trunks, metrics: String::new() }));
            worst(&trunks_of(&patient))
        };

        assert_eq!(running("up", "200 OK", true).0, Verdict::Ok);
        assert_eq!(running("suspect", "200 OK", true).0, Verdict::Warning);
        let down = running("down", "200 OK", true);
        assert!(down.0 == Verdict::Error && down.1.contains("--online"), "{down:?}");
        for (answer, words) in [
            ("403 Forbidden", "[registration.login]"),
            ("404 Not Found", "aor"),
            ("503 Busy", "second one"),
            ("no answer in time", "firewall"),
        ] {
            let missing = running("up", answer, false);
            assert!(missing.0 == Verdict::Error && missing.1.contains(words), "{answer}: {missing:?}");
        }
    }

    fn trunks_of(patient: &Patient) -> Vec<Finding> {
        super::trunks(patient)
    }

    #[test]
    fn what_was_turned_away_is_counted_with_what_helps() {
        let metrics = "# TYPE ringback_sip_refused_total counter\nringback_sip_refused_total{status=\"416\"} 3\n\
            ringback_sip_refused_total{status=\"404\"} 9\nringback_sip_garbage_total 0\n\
            ringback_invites_total{result=\"bad_sdp\"} 2\n";
        let mut patient = patient();
        assert_eq!(refusals(&patient), []);
        patient.running = Some(Ok(Running { trunks: Vec::new(), metrics: metrics.to_owned() }));

        let says: Vec<String> = refusals(&patient).into_iter().map(|finding| finding.says).collect();

        assert_eq!(
            says,
            [
                "2 calls had a session description that cannot be read",
                "3 requests called URIs of a scheme that is none of ours"
            ]
        );
    }

    #[test]
    fn every_counter_that_is_looked_at_is_one_of_ours() {
        for (metric, ..) in REFUSALS {
            assert!(crate::observe::METRICS.iter().any(|(name, ..)| name == metric), "{metric}");
        }
    }
}
