//! The checks, one function each.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;

use super::{Finding, Patient};
use crate::config::Private;
use crate::model::limits;

type Check = fn(&Patient) -> Vec<Finding>;

/// In the order in which they are shown.
pub(super) const CHECKS: &[(&str, Check)] = &[
    ("listeners", listeners),
    ("audio address", audio_address),
    ("RTP ports", rtp_ports),
    ("open files", open_files),
    ("UDP buffer", udp_buffer),
    ("store", store),
    ("egress", egress),
    ("names", names),
    ("last calls", last_calls),
];

fn listeners(patient: &Patient) -> Vec<Finding> {
    if patient.is_running {
        return vec![Finding::ok("a gateway is running, and has them open")];
    }
    let sip = &patient.config.gateway.sip;
    let udp = sip.udp.iter().map(|at| ("udp", *at, UdpSocket::bind(at).map(drop)));
    let tcp = sip.tcp.iter().map(|at| ("tcp", *at, TcpListener::bind(at).map(drop)));
    udp.chain(tcp).map(|(transport, at, bound)| listener(transport, at, bound)).collect()
}

fn listener(transport: &str, at: SocketAddr, bound: io::Result<()>) -> Finding {
    let Err(error) = bound else { return Finding::ok(format!("{transport} {at} can be opened")) };
    let remedy = match error.kind() {
        ErrorKind::AddrInUse => {
            format!("find who has it with `ss -lnp 'sport = :{}'`, or take another port", at.port())
        }
        ErrorKind::AddrNotAvailable => "write an address of this machine; `ip address` lists them".to_owned(),
        ErrorKind::PermissionDenied => "take a port from 1024 on, or give the binary CAP_NET_BIND_SERVICE".to_owned(),
        _ => "look at the address in gateway.toml under [sip]".to_owned(),
    };
    Finding::error(format!("{transport} {at} cannot be opened: {error}"), remedy)
}

fn audio_address(patient: &Patient) -> Vec<Finding> {
    let media = &patient.config.gateway.media;
    vec![match UdpSocket::bind((media.address, 0)) {
        Err(error) => Finding::error(
            format!("{} is no address of this machine: {error}", media.address),
            "write one of its own under [media] in gateway.toml; `ip address` lists them",
        ),
        Ok(_) if media.address.is_loopback() && !media.loopback_only => Finding::warning(
            format!("callers are told to send audio to {}, which is their own machine", media.address),
            "write the address that callers reach under [media], or loopback_only = true for a laboratory",
        ),
        Ok(_) => Finding::ok(format!("audio comes to {}", media.address)),
    }]
}

fn rtp_ports(patient: &Patient) -> Vec<Finding> {
    let media = &patient.config.gateway.media;
    let overlaps = patient.machine.ephemeral.filter(|(low, high)| media.port_first <= *high && media.port_last >= *low);
    vec![match overlaps {
        Some((low, high)) => Finding::warning(
            format!(
                "RTP ports {}–{} lie among the ports {low}–{high} that the system gives to anybody",
                media.port_first, media.port_last
            ),
            format!(
                "move port_first and port_last below {low}, or `sysctl -w net.ipv4.ip_local_reserved_ports={}-{}`",
                media.port_first, media.port_last
            ),
        ),
        None => Finding::ok(format!("RTP ports {}–{} are ours alone", media.port_first, media.port_last)),
    }]
}

fn open_files(patient: &Patient) -> Vec<Finding> {
    let most = u64::from(patient.config.gateway.limits.max_calls);
    let wanted = most * FILES_PER_CALL + FILES_BESIDE;
    vec![match patient.machine.open_files {
        Some(limit) if limit < wanted => Finding::error(
            format!("{limit} open files are too few for {most} calls, which need some {wanted}"),
            format!("LimitNOFILE={wanted} in the unit, or `ulimit -n {wanted}` before the start"),
        ),
        Some(limit) => Finding::ok(format!("{limit} open files are enough for {most} calls")),
        None => Finding::ok("the system sets no limit"),
    }]
}

fn udp_buffer(patient: &Patient) -> Vec<Finding> {
    let wanted = limits::SIP_SOCKET_BUFFER as u64;
    vec![match patient.machine.receive_buffer {
        Some(granted) if granted < wanted => Finding::warning(
            format!("a UDP socket gets {granted} octets of buffer at most, and {wanted} are wanted: bursts are lost"),
            format!("`sysctl -w net.core.rmem_max={wanted}`, and the same in /etc/sysctl.d/"),
        ),
        Some(_) | None => Finding::ok("UDP sockets get the buffer they want"),
    }]
}

fn store(patient: &Patient) -> Vec<Finding> {
    let store = &patient.config.gateway.store;
    let mut findings = Vec::new();
    if let Some(fault) = &patient.store_fault {
        findings.push(Finding::error(
            fault.clone(),
            "start the version that wrote it, or move the file away and restore a backup",
        ));
    }
    let folder = store.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    for folder in [folder, &store.data_dir] {
        match writable(folder) {
            Ok(()) => {}
            Err(error) => findings.push(Finding::error(
                format!("{} cannot be written: {error}", folder.display()),
                "give it to the gateway's user with `chown`, or free the disk",
            )),
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok(format!("{} can be written", store.path.display())));
    }
    findings
}

/// Tries it where it stands, or where it would be made.
fn writable(folder: &Path) -> io::Result<()> {
    let there = folder.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("."));
    let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
    let probe = there.join(format!(".ringback-doctor-{}", std::process::id()));
    // Some octets, because a full disk still makes empty files.
    let written = std::fs::write(&probe, [0; 4096]);
    let _ = std::fs::remove_file(&probe);
    written
}

fn egress(patient: &Patient) -> Vec<Finding> {
    vec![match patient.config.gateway.egress.private {
        Private::Allow => Finding::warning(
            "actions and webhooks may reach every private address, also one that a caller talks a model into",
            "private = \"deny\" under [egress], and each origin that is needed in allow",
        ),
        Private::Deny => Finding::ok("private addresses are reached where the list says only"),
    }]
}

fn names(patient: &Patient) -> Vec<Finding> {
    let Some(lost) = &patient.unresolved else { return Vec::new() };
    if lost.is_empty() {
        return vec![Finding::ok("the names of all gateways have addresses")];
    }
    let lost = lost.iter().map(|host| {
        Finding::error(
            format!("{host} has no address"),
            "look at the name in the trunk's file, and at /etc/resolv.conf; a name with SRV records only is well",
        )
    });
    lost.collect()
}

/// Counts how the last calls failed, and says what helps for each way.
fn last_calls(patient: &Patient) -> Vec<Finding> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for call in &patient.calls {
        *counts.entry(call.end_reason.as_str()).or_default() += 1;
    }
    let total = patient.calls.len();
    let told = counts.into_iter().filter_map(|(reason, count)| {
        let (_, remedy) = REMEDIES.iter().find(|(known, _)| *known == reason)?;
        Some(Finding::warning(format!("{count} of the last {total} calls ended with {reason}"), *remedy))
    });
    let told: Vec<Finding> = told.collect();
    if told.is_empty() {
        vec![Finding::ok(format!("none of the last {total} calls failed for a known cause"))]
    } else {
        told
    }
}

/// What helps against causes that somebody can do something about, by the label of the cause.
const REMEDIES: &[(&str, &str)] = &[
    ("no_media", "no common codec: compare the trunk's codecs with the offer that `ringback trace CALL` shows"),
    ("not_acknowledged", "the ACK does not reach us: behind NAT, the address in our Contact must be reachable"),
    ("agent_lost", "the agent's vendor refused or left: look at its credential and its status page"),
    (
        "server_failure",
        "the trunk refused or could not be reached: its password, name and certificate; `--online` asks",
    ),
    ("timeout", "nobody answered at the trunk: a firewall, or a wrong address under [outbound]"),
    ("overload", "more calls than the limits of gateway.toml or of the trunk allow"),
    ("forbidden", "the other side does not know us: its address list must hold our address"),
    ("not_found", "numbers that the other side does not have: look at number format and prefix of the trunk"),
    ("bad_request", "the other side does not read our messages: `ringback trace CALL` shows what it minds"),
    ("internal", "a fault of ours, or a process that died: look at its log, and replay the journal"),
    ("bad_certificate", "our signing certificate is not accepted: is it current, and its authority approved there?"),
    ("no_certificate", "our signing certificate cannot be fetched: open certificate_url in a browser"),
    ("no_identity", "the other side wants signed calls: add [identity.sign] to the trunk"),
    ("bad_identity", "our signature is not accepted: is caller_id the number that we assert, in E.164?"),
];

/// Two legs with RTP and RTCP, the agent's socket, recording, journal and vault.
const FILES_PER_CALL: u64 = 8;
/// Listeners, store, logs, connections of trunks and web services.
const FILES_BESIDE: u64 = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::configuration;
    use crate::cli::doctor::Verdict;
    use crate::cli::doctor::machine::Machine;
    use crate::model::{CallId, Pii};
    use crate::store::{CallOpen, CallRecord, Direction};

    fn patient() -> Patient {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("sip-config/examples/minimal");
        let (config, _) = configuration::load(&dir, Vec::new()).unwrap();
        let machine = Machine::default();
        Patient { config, machine, is_running: false, calls: Vec::new(), store_fault: None, unresolved: None }
    }

    fn worst(findings: &[Finding]) -> (Verdict, String) {
        let worst = findings.iter().max_by_key(|finding| finding.verdict).unwrap();
        (worst.verdict, worst.remedy.clone().unwrap_or_default())
    }

    #[test]
    fn a_listener_that_is_taken_or_elsewhere_is_an_error_with_a_remedy() {
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut patient = patient();

        patient.config.gateway.sip.tcp.clear();
        patient.config.gateway.sip.udp = vec![taken.local_addr().unwrap()];
        let in_use = worst(&listeners(&patient));
        patient.config.gateway.sip.udp = vec!["192.0.2.77:5060".parse().unwrap()];
        let elsewhere = worst(&listeners(&patient));
        patient.is_running = true;

        assert!(in_use.0 == Verdict::Error && in_use.1.contains("ss -lnp"), "{in_use:?}");
        assert!(elsewhere.0 == Verdict::Error && elsewhere.1.contains("ip address"), "{elsewhere:?}");
        assert_eq!(worst(&listeners(&patient)).0, Verdict::Ok);
        let denied = listener("udp", "0.0.0.0:80".parse().unwrap(), Err(ErrorKind::PermissionDenied.into()));
        assert!(denied.remedy.unwrap().contains("CAP_NET_BIND_SERVICE"));
    }

    #[test]
    fn an_audio_address_that_callers_cannot_reach_is_told() {
        let mut patient = patient();
        patient.config.gateway.media.address = "192.0.2.77".parse().unwrap();
        assert_eq!(worst(&audio_address(&patient)).0, Verdict::Error);

        patient.config.gateway.media.address = "127.0.0.1".parse().unwrap();
        patient.config.gateway.media.loopback_only = false;
        assert_eq!(worst(&audio_address(&patient)).0, Verdict::Warning);
        patient.config.gateway.media.loopback_only = true;
        assert_eq!(worst(&audio_address(&patient)).0, Verdict::Ok);
    }

    #[test]
    fn limits_of_the_system_are_held_against_what_calls_need() {
        let mut patient = patient();
        patient.config.gateway.media.port_first = 30_000;
        patient.config.gateway.media.port_last = 39_999;
        patient.config.gateway.limits.max_calls = 100;
        assert_eq!(worst(&open_files(&patient)).0, Verdict::Ok);

        patient.machine =
            Machine { receive_buffer: Some(212_992), ephemeral: Some((32_768, 60_999)), open_files: Some(1_024) };

        assert!(worst(&rtp_ports(&patient)).1.contains("ip_local_reserved_ports=30000-39999"));
        assert!(worst(&udp_buffer(&patient)).1.contains("net.core.rmem_max=4194304"));
        assert_eq!(
            worst(&open_files(&patient)),
            (Verdict::Error, "LimitNOFILE=1056 in the unit, or `ulimit -n 1056` before the start".to_owned())
        );
    }

    #[test]
    fn a_store_that_cannot_be_written_or_read_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "in the way").unwrap();
        let mut patient = patient();
        patient.config.gateway.store.path = folder.path().join("deep/er/ringback.db");
        patient.config.gateway.store.data_dir = folder.path().join("data");
        assert_eq!(worst(&store(&patient)).0, Verdict::Ok);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");

        patient.store_fault = Some("the store has schema 9".to_owned());
        assert_eq!(worst(&store(&patient)).0, Verdict::Error);
        assert!(writable(Path::new("/proc/ringback")).is_err());
    }

    #[test]
    fn open_egress_and_lost_names_are_told() {
        let mut patient = patient();
        patient.config.gateway.egress.private = Private::Allow;
        patient.unresolved = Some(vec!["sbc.example".to_owned()]);

        assert_eq!(worst(&egress(&patient)).0, Verdict::Warning);
        assert_eq!(worst(&names(&patient)).0, Verdict::Error);
        patient.unresolved = Some(Vec::new());
        assert_eq!(worst(&names(&patient)).0, Verdict::Ok);
    }

    #[test]
    fn the_last_failures_are_counted_with_what_helps() {
        let open = CallOpen {
            id: CallId(uuid::Uuid::from_u128(1)),
            began_unix_ms: 0,
            direction: Direction::Inbound,
            agent: None,
            phone: None,
            called: Pii::default(),
            trunk: None,
            journal: None,
            revision: String::new(),
            identity: None,
        };
        let lost = CallRecord { end_reason: "no_media".to_owned(), ..CallRecord::crashed(&open, None, 1_000) };
        let well = CallRecord { end_reason: "normal".to_owned(), ..lost.clone() };
        let mut patient = patient();
        assert_eq!(worst(&last_calls(&patient)).0, Verdict::Ok);

        patient.calls = vec![lost.clone(), well, lost];
        let findings = last_calls(&patient);

        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].says, "2 of the last 3 calls ended with no_media");
        assert!(findings[0].remedy.as_ref().unwrap().contains("codecs"));
    }

    #[test]
    fn every_remedy_belongs_to_a_cause() {
        use crate::call::Cause;
        let labels: Vec<&str> = [
            Cause::NoMedia,
            Cause::NotAcknowledged,
            Cause::AgentLost,
            Cause::ServerFailure,
            Cause::Timeout,
            Cause::Overload,
            Cause::Forbidden,
            Cause::NotFound,
            Cause::BadRequest,
            Cause::Internal,
            Cause::BadCertificate,
            Cause::NoCertificate,
            Cause::NoIdentity,
            Cause::BadIdentity,
        ]
        .map(Cause::label)
        .to_vec();

        assert_eq!(REMEDIES.iter().map(|(reason, _)| *reason).collect::<Vec<_>>(), labels);
    }
}
