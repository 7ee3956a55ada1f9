//! The callers' SIP, and that of the callees of a relay: our own room at the other end of the wire.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::super::stopwatch;
use super::load::{Load, Order, Side};
use crate::model::{Codec, Pii};
use crate::sdp::{self, Local, Offer};
use crate::sip::{Dial, DialogId, Sip, SipCommand, SipConfig, SipError, SipEvent};

/// Everybody with a telephone.
pub(super) struct Callers {
    sip: Sip,
    events: mpsc::Receiver<SipEvent>,
    calls: HashMap<DialogId, Call>,
    rtp: SocketAddr,
    side: Side,
    /// Calls that came to us.
    taken: u16,
    /// Calls that came to nothing or ended.
    pub(super) lost: usize,
    /// Calls that are up.
    pub(super) up: usize,
}

struct Call {
    number: u16,
    local: Local,
    is_up: bool,
}

impl Callers {
    /// Opens a SIP socket for one end of the calls.
    ///
    /// # Errors
    /// When there is no port.
    pub(super) async fn open(side: Side, rtp: SocketAddr) -> Result<Callers, SipError> {
        let config = SipConfig {
            udp: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
            user_agent: concat!("ringback-bench/", env!("CARGO_PKG_VERSION")).to_owned(),
            contact_user: "bench".to_owned(),
            ..SipConfig::default()
        };
        let (sip, events) = Sip::bind(config).await?;
        Ok(Callers { sip, events, calls: HashMap::new(), rtp, side, taken: 0, lost: 0, up: 0 })
    }

    /// Where these can be called.
    pub(super) fn address(&self) -> SocketAddr {
        self.sip.local_addrs().first().expect("there is one because `open` asks for UDP").0
    }

    /// Places calls with a pause between them, and goes on until each is up or lost, or the patience ends.
    pub(super) async fn call(&mut self, calls: u16, gateway: SocketAddr, load: &Load) {
        let began = stopwatch::now();
        for number in 0..calls {
            self.live(began + BETWEEN * u32::from(number), load).await;
            let dialog = self.sip.new_dialog();
            let local = self.local(number);
            let dial = Dial {
                to: format!("sip:100@{gateway}"),
                from_user: Pii::new(format!("+4416329{number:05}")),
                sdp: sdp::offer(&local),
                ..Dial::default()
            };
            self.calls.insert(dialog, Call { number, local, is_up: false });
            self.sip.send(dialog, SipCommand::Dial(Box::new(dial))).await;
        }
        let patience = stopwatch::now() + PATIENCE;
        while self.up + self.lost < usize::from(calls) && stopwatch::now() < patience {
            self.live((stopwatch::now() + BETWEEN).min(patience), load).await;
        }
    }

    /// Takes what happens until then.
    pub(super) async fn live(&mut self, until: Instant, load: &Load) {
        while let Ok(Some(event)) = timeout_at(until, self.events.recv()).await {
            self.take(event, load).await;
        }
    }

    /// Hangs up on everybody.
    pub(super) async fn end(self) {
        self.sip.shutdown().await;
    }

    async fn take(&mut self, event: SipEvent, load: &Load) {
        let dialog = event.dialog();
        match event {
            SipEvent::Invited { invite, .. } => {
                let number = self.taken;
                self.taken += 1;
                let local = self.local(number);
                let offer = invite.sdp.as_deref().and_then(|sdp| Offer::parse(sdp).ok());
                let Some((agreed, sdp)) = offer.and_then(|offer| sdp::answer(&offer, &local).ok()) else { return };
                self.calls.insert(dialog, Call { number, local, is_up: true });
                self.up += 1;
                self.sip.send(dialog, SipCommand::Answer { sdp }).await;
                load.order(Order::Talk(self.side, number, agreed.remote));
            }
            SipEvent::Answered { sdp, .. } => {
                let Some(call) = self.calls.get_mut(&dialog) else { return };
                match sdp::accept(&call.local, &sdp) {
                    Ok(agreed) => {
                        call.is_up = true;
                        self.up += 1;
                        load.order(Order::Talk(self.side, call.number, agreed.remote));
                    }
                    Err(_) => self.lose(dialog),
                }
            }
            SipEvent::Failed { .. }
            | SipEvent::Ended { .. }
            | SipEvent::Canceled { .. }
            | SipEvent::Lost { .. }
            | SipEvent::AckMissing { .. } => self.lose(dialog),
            // It rings, or something is told that a load does not care for.
            SipEvent::Ringing { .. }
            | SipEvent::Confirmed { .. }
            | SipEvent::Reinvited { .. }
            | SipEvent::ReofferFailed { .. }
            | SipEvent::Refer { .. }
            | SipEvent::Info { .. } => {}
        }
    }

    fn lose(&mut self, dialog: DialogId) {
        if let Some(call) = self.calls.remove(&dialog) {
            self.up -= usize::from(call.is_up);
            self.lost += 1;
        }
    }

    fn local(&self, number: u16) -> Local {
        Local {
            address: self.rtp.ip(),
            port: self.rtp.port(),
            codecs: vec![Codec::Pcmu],
            session_id: u64::from(number) + 1,
            version: 1,
            comfort_noise: false,
            keyring: sdp::Keyring::default(),
        }
    }
}

/// 50 calls in a second: below what a gateway refuses, and soon enough for a thousand.
const BETWEEN: Duration = Duration::from_millis(20);
/// For the last calls to be answered.
const PATIENCE: Duration = Duration::from_secs(10);
