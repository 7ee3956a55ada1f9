//! A small telephone for tests: real SIP, real RTP, and an ear that measures what it hears.
//!
//! `ringback call` and `ringback demo` speak to a gateway with it as any softphone would: it shares the SIP room with
//! the gateway, and nothing of the media room but the names of the G.711 codes. It holds one call at a time.
//! Start at [`Phone::call`] for a caller and [`Phone::serve`] for somebody who is called; [`Line`] is the receiver in
//! the hand, [`Report`] what is known when it is put down.

mod ear;
mod find;
mod line;
mod mouth;
mod report;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use crate::media::Clip;
use crate::model::{Digit, Pii};
use crate::sip::{Sip, SipConfig, SipError, SipEvent};

pub use ear::{Ear, Spurt};
pub use find::find;
pub use line::{Bell, Line, Served};
pub use mouth::Mouth;
pub use report::{Ending, Moments, Report};

/// A telephone that is switched on and waits.
#[derive(Debug)]
pub struct Phone {
    sip: Sip,
    events: mpsc::Receiver<SipEvent>,
    ip: IpAddr,
}

impl Phone {
    /// Switches a telephone on. It speaks SIP over UDP on this address, where port 0 takes any, and over TCP from any
    /// port of it; its audio comes and goes on the same address.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn open(address: SocketAddr) -> Result<Phone, PhoneError> {
        let config = SipConfig {
            udp: vec![address],
            tcp: vec![SocketAddr::new(address.ip(), 0)],
            user_agent: concat!("ringback-phone/", env!("CARGO_PKG_VERSION")).to_owned(),
            contact_user: "phone".to_owned(),
            ..SipConfig::default()
        };
        let (sip, events) = Sip::bind(config).await.map_err(PhoneError::Sip)?;
        Ok(Phone { sip, events, ip: address.ip() })
    }

    /// Where it can be called over UDP.
    pub fn address(&self) -> SocketAddr {
        let addresses = self.sip.local_addrs();
        addresses.first().expect("there is one because `open` asks for UDP first").0
    }

    /// Places a call and goes on with it until somebody hangs up.
    ///
    /// # Errors
    /// When no port for audio is free. What becomes of the call stands in the report.
    pub async fn call(self, dial: Outgoing) -> Result<Line, PhoneError> {
        let rtp = self.rtp().await?;
        Ok(Line::dial(self.sip, self.events, rtp, dial))
    }

    /// Waits for calls, one after the other, and treats each in this manner. Who calls meanwhile is told that it is
    /// busy.
    ///
    /// # Errors
    /// When no port for audio is free.
    pub async fn serve(self, manner: Manner) -> Result<Served, PhoneError> {
        let rtp = self.rtp().await?;
        Ok(Served::start(self.sip, self.events, rtp, manner))
    }

    async fn rtp(&self) -> Result<UdpSocket, PhoneError> {
        UdpSocket::bind(SocketAddr::new(self.ip, 0)).await.map_err(|error| PhoneError::Audio(error.to_string()))
    }
}

/// A call to place.
#[derive(Clone, Debug, Default)]
pub struct Outgoing {
    /// Whom, as a SIP URI.
    pub to: String,
    /// Who calls: the user part of From.
    pub from: Pii<String>,
    /// What is said, once, from the answer on; silence is sent before and after.
    pub say: Option<Clip>,
    /// Keys to press, by time since the answer.
    pub keys: Vec<(Duration, Vec<Digit>)>,
    /// When to give up while it rings, since the INVITE.
    pub cancel_after: Option<Duration>,
    /// When to hang up, since the answer.
    pub hang_up_after: Option<Duration>,
}

/// How somebody who is called behaves.
#[derive(Clone, Debug)]
pub enum Manner {
    /// Refuses with this status, 486 for busy.
    Refuse {
        /// 300 to 699.
        status: u16,
    },
    /// Lets it ring until the caller gives up.
    RingForEver,
    /// Picks up.
    Answer {
        /// How long it rings before.
        after: Duration,
        /// What is said, once.
        say: Option<Clip>,
        /// When to hang up, since the answer; otherwise the other side does.
        hang_up_after: Option<Duration>,
    },
}

/// Why a telephone cannot be switched on.
#[derive(Debug)]
pub enum PhoneError {
    /// SIP has no socket.
    Sip(SipError),
    /// There is no socket for audio; what the system says.
    Audio(String),
}

impl fmt::Display for PhoneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PhoneError::Sip(error) => write!(f, "switching the test telephone on: {error}"),
            PhoneError::Audio(why) => write!(f, "opening a port for the test telephone's audio: {why}"),
        }
    }
}

impl std::error::Error for PhoneError {}
