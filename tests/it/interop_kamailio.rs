//! Kamailio in front: a proxy that stays in the path, changes the transport on the way, and asks with OPTIONS whether
//! the gateway is there. Callers and colleagues behind it are SIPp's.

#![allow(clippy::disallowed_methods, reason = "real peers are waited for by the real clock")]

use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::interop_sipp::Sipp;
use crate::interop_tls::Cards;
use crate::rig::{Gateway, Program, Rig, free_port, shared};
use crate::source::root;

/// A running proxy.
pub(crate) struct Kamailio {
    program: Program,
    _folder: TempDir,
}

impl Kamailio {
    /// Takes calls at `proxy` to the gateway, and the gateway's own calls to `world`. It is ready when the gateway has
    /// answered its OPTIONS.
    fn start(proxy: SocketAddr, gateway: &str, world: SocketAddr) -> Kamailio {
        Kamailio::start_with(proxy, gateway, world, "")
    }

    /// The same, with TLS beside the others: it shows its certificate, and asks for the other's.
    pub(crate) fn start_with_tls(proxy: SocketAddr, gateway: &str, world: SocketAddr, cards: &Cards) -> Kamailio {
        let own = free_port();
        let tls = format!(
            "enable_tls=yes\nlisten=tls:{own}\nloadmodule \"tls.so\"\nmodparam(\"tls\", \"tls_method\", \"TLSv1.2+\")\n\
             modparam(\"tls\", \"certificate\", \"{}\")\nmodparam(\"tls\", \"private_key\", \"{}\")\n\
             modparam(\"tls\", \"ca_list\", \"{}\")\nmodparam(\"tls\", \"verify_certificate\", 1)\n\
             modparam(\"tls\", \"require_certificate\", 1)\n",
            cards.path("proxy.pem"),
            cards.path("proxy.key"),
            cards.path("ca.pem"),
        );
        Kamailio::start_with(proxy, gateway, world, &tls)
    }

    fn start_with(proxy: SocketAddr, gateway: &str, world: SocketAddr, tls: &str) -> Kamailio {
        let folder = tempfile::tempdir().unwrap();
        let config = fs::read_to_string(root().join("tests/interop/kamailio/proxy.cfg")).unwrap();
        let here = folder.path().display().to_string();
        let config = [
            ("@PROXY@", proxy.to_string()),
            ("@WORLD@", world.to_string()),
            ("@FOLDER@", here.clone()),
            ("#@TLS@", tls.to_owned()),
        ]
        .iter()
        .fold(config, |config, (word, value)| config.replace(word, value));
        fs::write(folder.path().join("proxy.cfg"), config).unwrap();
        // 9: to be asked, and not to be used before it has answered.
        fs::write(folder.path().join("gateways.list"), format!("1 {gateway} 9 0\n")).unwrap();
        let mut command = Command::new("sh");
        // It writes its log to standard error.
        let run = format!("exec kamailio -DD -E -m 32 -M 4 -f {here}/proxy.cfg -Y {here} -w {here} 2>&1");
        command.args(["-c", &run]).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        let mut program = Program::start_group(command);
        program.says("ringback-test: gateway up", secs(20));
        Kamailio { program, _folder: folder }
    }

    /// Waits until it has passed on a request of this kind.
    pub(crate) fn passed(&mut self, what: &str) {
        self.program.says(&format!("ringback-test: {what}"), secs(10));
    }
}

impl Drop for Kamailio {
    fn drop(&mut self) {
        // It says goodbye when it is asked to end; what is left of it then goes with its group.
        self.program.terminate(secs(10));
    }
}

/// A gateway whose trunk is the proxy.
fn gateway_behind(proxy: SocketAddr, rig: &Rig) -> Gateway {
    rig.write(
        "trunks/carrier.toml",
        &format!(
            "version = 1\ntitle = \"Kamailio\"\n[inbound]\nallowed_addresses = [\"127.0.0.0/8\"]\n\
             [outbound]\nuri = \"sip:{proxy}\"\n"
        ),
    );
    Gateway::start(rig)
}

#[test]
fn interop_kamailio_passes_calls_holds_and_goodbyes() {
    let _machine = shared();
    let proxy = free_port();
    let rig = Rig::new(&[]);
    let mut gateway = gateway_behind(proxy, &rig);
    for hop in [format!("sip:{}", gateway.udp), format!("sip:{};transport=tcp", gateway.tcp)] {
        let mut kamailio = Kamailio::start(proxy, &hop, free_port());

        let caller = Sipp::caller("uac_routed.xml", proxy, "102", &["-m", "10", "-r", "5"]);
        caller.succeeds(secs(60));

        for _ in 0..10 {
            assert_eq!(rig.mock.event().json()["data"]["endedBy"], "caller");
        }
        kamailio.passed("within BYE");
    }
    gateway.assert_well();
}

#[test]
fn interop_kamailio_passes_the_goodbye_of_the_gateway() {
    let _machine = shared();
    let proxy = free_port();
    let rig = Rig::new(&[]);
    let gateway = gateway_behind(proxy, &rig);
    for hop in [format!("sip:{}", gateway.udp), format!("sip:{};transport=tcp", gateway.tcp)] {
        let mut kamailio = Kamailio::start(proxy, &hop, free_port());

        let caller = Sipp::caller("uac_routed_waits.xml", proxy, "100", &["-m", "1"]);
        caller.succeeds(secs(60));

        assert_eq!(rig.mock.event().json()["data"]["endedBy"], "agent");
        kamailio.passed("within BYE");
    }
}

#[test]
fn interop_kamailio_passes_transfers_to_a_colleague() {
    let _machine = shared();
    let (proxy, colleague) = (free_port(), free_port());
    let rig = Rig::new(&[]);
    let workflow = rig.path().join("sip-config/workflows/switchboard.toml");
    let by_number = fs::read_to_string(&workflow).unwrap().replace("sip:desk@127.0.0.1:9", "+441632960123");
    fs::write(workflow, by_number).unwrap();
    let gateway = gateway_behind(proxy, &rig);
    let mut kamailio = Kamailio::start(proxy, &format!("sip:{};transport=tcp", gateway.tcp), colleague);
    let answers = Sipp::target("uas_answer.xml", colleague);

    // The colleague's BYE would end it; here it is the caller's, so each leg is hung up through the proxy.
    let caller = Sipp::caller("uac_routed.xml", proxy, "201", &["-m", "1", "-d", "4000"]);
    kamailio.passed("outbound INVITE");
    caller.succeeds(secs(60));
    answers.succeeds(secs(20));

    let event = rig.mock.event().json();
    assert_eq!(event["data"]["status"], "TRANSFERRED", "{event}");
}

#[test]
fn interop_a_program_that_fails_leaves_no_children_behind() {
    let mut command = Command::new("sh");
    command.args(["-c", "sleep 300 & sleep 300 & echo ready; wait"]);
    let mut program = Program::start_group(command);
    program.says("ready", secs(10));
    let group = program.id().to_string();
    let is_alive = || Command::new("pgrep").args(["-g", &group]).stdout(Stdio::null()).status().unwrap().success();
    assert!(is_alive());

    // As it is dropped when a test ends badly: nobody asked it to end.
    drop(program);

    let until = Instant::now() + secs(10);
    while is_alive() {
        assert!(Instant::now() < until, "of group {group} somebody is left");
    }
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}
