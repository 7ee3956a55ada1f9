//! Everything the demonstration starts: the gateway, the CRM, and two telephones on desks.

use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener, UdpSocket as StdSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::net::TcpListener;

use super::super::phone::{Line, Manner, Outgoing, Phone, Served};
use super::super::screen::{self, Progress};
use super::super::{Exit, configuration};
use super::crm::Crm;
use super::files::Files;
use super::stage::Stage;
use crate::gateway::{Gateway, Options};
use crate::model::Pii;
use crate::sip::Transport;

/// The whole stage set.
pub(super) struct House {
    pub(super) gateway: Gateway,
    /// Where the gateway is called.
    pub(super) sip: SocketAddr,
    pub(super) files: Files,
    pub(super) crm: Crm,
    pub(super) stage: Stage,
    /// A colleague who is busy.
    pub(super) desk_1: Served,
    /// A colleague who answers after a while.
    pub(super) desk_2: Served,
    pub(super) progress: Arc<Progress>,
    draws: bool,
}

/// Why there is no demonstration.
pub(super) type NoShow = (Exit, String);

impl House {
    /// Unpacks the files, starts everything and watches. With `draws`, ladders are printed as calls go on.
    ///
    /// # Errors
    /// What could not be had, and how the command ends with it.
    pub(super) async fn open(data_dir: Option<PathBuf>, draws: bool) -> Result<House, NoShow> {
        let progress = Arc::new(Progress::start("unpacking"));
        let failed = |why: String| (Exit::Failed, why);
        let secret = webhook_secret().map_err(failed)?;
        let files = Files::unpack(data_dir, &secret).map_err(failed)?;

        let mut moved = Vec::new();
        let sip = free_for_sip(loopback(SIP_PORT)).map_err(failed)?;
        note_move(&mut moved, loopback(SIP_PORT), sip);
        let crm_socket = listen(loopback(CRM_PORT)).await.map_err(failed)?;
        note_move(&mut moved, loopback(CRM_PORT), crm_socket.local_addr().map_err(|error| failed(error.to_string()))?);
        let desk_1 = phone(loopback(DESK_PORTS[0])).await.map_err(failed)?;
        note_move(&mut moved, loopback(DESK_PORTS[0]), desk_1.address());
        let desk_2 = phone(loopback(DESK_PORTS[1])).await.map_err(failed)?;
        note_move(&mut moved, loopback(DESK_PORTS[1]), desk_2.address());
        for (from, to) in &moved {
            progress.above(|| eprintln!("{from} is taken; this run uses {to} instead"));
        }

        let (mut config, _) = configuration::load(&files.config(), moved).map_err(|mistakes| {
            (Exit::BadConfiguration, format!("its own files:\n{}", mistakes.human(screen::chatter_in_color())))
        })?;
        config.gateway.store.data_dir = files.data();
        config.gateway.store.path = files.data().join("ringback.db");

        progress.say("starting".to_owned());
        let crm = Crm::start(crm_socket, &secret).map_err(failed)?;
        let colleague = files.clip("colleague.wav").map_err(failed)?;
        let answers = Manner::Answer { after: DESK_2_RINGS, say: Some(colleague), hang_up_after: None };
        let desk_1 = desk_1.serve(Manner::Refuse { status: 486 }).await.map_err(|error| failed(error.to_string()))?;
        let desk_2 = desk_2.serve(answers).await.map_err(|error| failed(error.to_string()))?;
        let gateway =
            Gateway::start(config, Options::default()).await.map_err(|error| (Exit::Failed, error.to_string()))?;
        let udp = gateway.sip_addrs().into_iter().find(|(_, transport)| *transport == Transport::Udp);
        let (sip, _) = udp.ok_or_else(|| failed("the gateway listens on no UDP port".to_owned()))?;
        let stage = Stage::open(gateway.watch(), Arc::clone(&progress), draws);
        Ok(House { gateway, sip, files, crm, stage, desk_1, desk_2, progress, draws })
    }

    /// Says what comes next.
    pub(super) fn announce(&self, scene: &str) {
        if self.draws {
            self.progress.above(|| println!("\n{scene}\n"));
        }
        self.progress.say(scene.to_owned());
    }

    /// A caller with this number calls the front desk.
    ///
    /// # Errors
    /// When there is no port for another telephone.
    pub(super) async fn call(&self, number: &str, cancel_after: Option<Duration>) -> Result<Line, NoShow> {
        let failed = |error: super::super::phone::PhoneError| (Exit::Failed, error.to_string());
        let caller = Phone::open(loopback(0)).await.map_err(failed)?;
        let outgoing = Outgoing {
            to: format!("sip:{FRONT_DESK}@{}", self.sip),
            from: Pii::new(number.to_owned()),
            cancel_after,
            // Whatever goes wrong, the demonstration ends.
            hang_up_after: Some(CALL_MAX),
            ..Outgoing::default()
        };
        caller.call(outgoing).await.map_err(failed)
    }
}

/// `whsec_` and 24 random bytes (Standard Webhooks 1.0.0, "Signature scheme").
fn webhook_secret() -> Result<String, String> {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes).map_err(|error| format!("no randomness for a secret: {error}"))?;
    Ok(format!("whsec_{}", STANDARD.encode(bytes)))
}

fn note_move(moved: &mut Vec<(SocketAddr, SocketAddr)>, from: SocketAddr, to: SocketAddr) {
    if from != to {
        moved.push((from, to));
    }
}

/// An address on which both UDP and TCP are free: this one, or one with another port.
fn free_for_sip(wanted: SocketAddr) -> Result<SocketAddr, String> {
    let is_free = |address: SocketAddr| {
        let udp = StdSocket::bind(address)?;
        let address = udp.local_addr()?;
        StdListener::bind(address).map(|_| address)
    };
    let tries = std::iter::once(wanted).chain(std::iter::repeat_n(loopback(0), PORT_TRIES));
    let mut why = String::new();
    for address in tries {
        match is_free(address) {
            Ok(free) => return Ok(free),
            Err(error) => why = error.to_string(),
        }
    }
    Err(format!("no port for SIP is free: {why}"))
}

async fn listen(wanted: SocketAddr) -> Result<TcpListener, String> {
    match TcpListener::bind(wanted).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind(loopback(0)).await.map_err(|error| format!("no port for the CRM: {error}")),
    }
}

async fn phone(wanted: SocketAddr) -> Result<Phone, String> {
    match Phone::open(wanted).await {
        Ok(phone) => Ok(phone),
        Err(_) => Phone::open(loopback(0)).await.map_err(|error| error.to_string()),
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// The number of the front desk in `routes.toml`.
pub(super) const FRONT_DESK: &str = "100";
const SIP_PORT: u16 = 5060;
const CRM_PORT: u16 = 8081;
const DESK_PORTS: [u16; 2] = [5081, 5082];
const PORT_TRIES: usize = 16;
const DESK_2_RINGS: Duration = Duration::from_secs(3);
const CALL_MAX: Duration = Duration::from_secs(45);
