//! Calls of browsers: their descriptions, addresses, keys and audio.
//!
//! A browser's offer becomes an answer and a peer; one thread (`wire`) carries the audio of all peers over one UDP port
//! for each family, and tells the gateway when one is connected and when it is gone. ICE, STUN and the descriptions are
//! ours; DTLS and SRTP are the crate `rtc`'s. Never knows about calls, HTTP or who may call: the gateway asks, and gives a
//! pipe to the media worker. Start at [`WebRtc::invite`].

mod ice;
mod offer;
mod peer;
mod secure;
mod stun;
mod token;
mod wire;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Wake;
use std::thread::JoinHandle;
use std::{fmt, io};

use tokio::sync::mpsc;

use self::ice::Credentials;
use self::offer::Ours;
use self::secure::{Identity, Secure};
use self::wire::{Order, Seed, Wire};
use crate::model::limits::{WEBRTC_ORDERS_MAX, WEBRTC_PEERS_MAX};

pub use ice::Mode;
pub use offer::{Fragment, Offer, OfferError, Settled};
pub use token::{Claims, TokenError, read as read_token, sign as sign_token};

/// Where browsers are heard, and how we are reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebRtcConfig {
    /// At most one socket for each family. Port 0 takes any.
    pub udp: Vec<SocketAddr>,
    /// Where browsers reach us, when it is not there: behind a NAT. Port 0 stands for the socket's.
    pub advertised: Vec<SocketAddr>,
    /// Who checks paths.
    pub mode: Mode,
    /// The server that says where it sees us; of use with [`Mode::Full`] only.
    pub stun: Option<SocketAddr>,
    /// Take nothing from outside this machine.
    pub loopback_only: bool,
}

/// One browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(u32);

/// Something a browser did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct News {
    /// Which one.
    pub peer: PeerId,
    /// What.
    pub what: What,
}

/// What a browser did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It can be heard and hears us.
    Connected,
    /// It is gone; nothing follows.
    Ended(Ending),
}

/// How a browser went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It said goodbye.
    Closed,
    /// It does not ask for our packets any more: its network is gone, or its tab.
    Lost,
    /// It could not be connected in time.
    NeverCame,
    /// It showed another certificate than its offer named.
    Stranger,
}

/// Why a browser cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InviteError {
    /// There are as many as can be.
    Full,
    /// The cryptography failed, or the thread is gone.
    Broken,
}

/// The browsers' thread, and what reaches it.
#[derive(Debug)]
pub struct WebRtc {
    orders: SyncSender<Order>,
    waker: Arc<mio::Waker>,
    shared: Arc<Shared>,
    candidates: Vec<SocketAddr>,
    locals: Vec<SocketAddr>,
    next: AtomicU32,
    thread: Option<JoinHandle<()>>,
}

/// A browser that was answered.
#[derive(Debug)]
pub struct Invited {
    /// It.
    pub peer: PeerId,
    /// The answer to its offer.
    pub answer: String,
    /// Names this state of ICE; changes when ICE starts anew.
    pub etag: String,
}

impl WebRtc {
    /// Binds the sockets, makes a certificate and starts the thread.
    ///
    /// # Errors
    /// When a socket cannot be bound, or there is no randomness.
    pub fn start(config: WebRtcConfig) -> io::Result<(WebRtc, mpsc::Receiver<News>)> {
        let identity = Identity::make().map_err(io::Error::other)?;
        let mut sockets = Vec::new();
        for address in &config.udp {
            sockets.push(mio::net::UdpSocket::bind(*address)?);
        }
        let locals = sockets.iter().map(mio::net::UdpSocket::local_addr).collect::<io::Result<Vec<_>>>()?;
        let candidates = if config.advertised.is_empty() { locals.clone() } else { advertised(&config, &locals) };
        let shared = Arc::new(Shared {
            identity,
            mode: config.mode,
            stun: config.stun.filter(|_| config.mode == Mode::Full),
            loopback_only: config.loopback_only,
            reflexive: Mutex::default(),
            stopping: AtomicBool::new(false),
            counters: Tally::default(),
        });
        let poll = mio::Poll::new()?;
        let waker = Arc::new(mio::Waker::new(poll.registry(), Wire::WAKER)?);
        let (orders, ordered) = sync_channel(WEBRTC_ORDERS_MAX);
        let (news, told) = mpsc::channel(WEBRTC_ORDERS_MAX);
        let bell = Arc::new(Bell(Arc::clone(&waker))).into();
        let wire = Wire::new(poll, sockets, ordered, news, Arc::clone(&shared), bell)?;
        let thread = std::thread::Builder::new().name("browsers".to_owned()).spawn(move || wire.run())?;
        let next = AtomicU32::new(1);
        Ok((WebRtc { orders, waker, shared, candidates, locals, next, thread: Some(thread) }, told))
    }

    /// Where browsers send to.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.locals
    }

    /// Takes a browser on: whoever has the answer can connect, and is heard through `audio` then.
    ///
    /// # Errors
    /// [`InviteError`].
    pub fn invite(&self, offer: &Offer, settled: &Settled, audio: Audio) -> Result<Invited, InviteError> {
        if self.shared.counters.peers.get() >= WEBRTC_PEERS_MAX as u64 {
            return Err(InviteError::Full);
        }
        let peer = PeerId(self.next.fetch_add(1, Ordering::Relaxed));
        let local = self.credentials().ok_or(InviteError::Broken)?;
        let secure = Secure::new(&self.shared.identity, offer.fingerprints.clone(), offer.waits)
            .map_err(|_| InviteError::Broken)?;
        let answer = offer.answer(settled, &self.ours(peer, &local));
        let etag = etag(&local);
        let seed = Seed {
            peer,
            local,
            remote: offer.credentials.clone(),
            candidates: offer.candidates.clone(),
            secure,
            audio,
            listens: settled.listens,
        };
        self.order(Order::Add(Box::new(seed)))?;
        Ok(Invited { peer, answer, etag })
    }

    /// Passes on what a browser sent later. When it starts ICE anew, returns our part of that and the new tag.
    ///
    /// # Errors
    /// [`InviteError`].
    pub fn trickle(
        &self,
        peer: PeerId,
        known: &str,
        fragment: Fragment,
    ) -> Result<Option<(String, String)>, InviteError> {
        let Some(remote) = fragment.restarts(known) else {
            self.order(Order::Trickle { peer, fragment, anew: None })?;
            return Ok(None);
        };
        let local = self.credentials().ok_or(InviteError::Broken)?;
        let told = (offer::restarted(&self.ours(peer, &local)), etag(&local));
        self.order(Order::Trickle { peer, fragment, anew: Some((local, remote)) })?;
        Ok(Some(told))
    }

    /// Ends a browser's call: it gets a goodbye, and no news of it follows.
    pub fn hang_up(&self, peer: PeerId) {
        // An order that finds no room leaves a peer that nobody feeds, whose browser leaves when its call is over.
        let _ = self.order(Order::HangUp { peer });
    }

    /// What was seen so far.
    pub fn counters(&self) -> Counters {
        let tally = &self.shared.counters;
        Counters {
            peers: tally.peers.get(),
            packets_in: tally.packets_in.get(),
            packets_out: tally.packets_out.get(),
            dropped: tally.dropped.get(),
            forged: tally.forged.get(),
            strangers: tally.strangers.get(),
            garbage: tally.garbage.get(),
        }
    }

    fn ours<'a>(&'a self, peer: PeerId, credentials: &'a Credentials) -> Ours<'a> {
        let reflexive = *self.shared.reflexive.lock().unwrap_or_else(PoisonError::into_inner);
        Ours {
            session: u64::from(peer.0),
            mode: self.shared.mode,
            credentials,
            fingerprint: &self.shared.identity.fingerprint,
            candidates: &self.candidates,
            reflexive,
        }
    }

    /// A word that nobody can guess, 256 bits of it; `None` without randomness.
    pub fn unguessable(&self) -> Option<String> {
        let mut bytes = [0; 32];
        self.shared.identity.crypto.random().fill(&mut bytes).ok()?;
        Some(word(&bytes))
    }

    /// RFC 8445 §5.3: 24 bits of randomness in the name at least, and 128 in the password.
    fn credentials(&self) -> Option<Credentials> {
        let random = self.shared.identity.crypto.random();
        let mut bytes = [0; 32];
        random.fill(&mut bytes).ok()?;
        Some(Credentials { ufrag: word(&bytes[..8]), password: word(&bytes[8..]) })
    }

    fn order(&self, order: Order) -> Result<(), InviteError> {
        self.orders.try_send(order).map_err(|error| match error {
            TrySendError::Full(_) => InviteError::Full,
            TrySendError::Disconnected(_) => InviteError::Broken,
        })?;
        self.waker.wake().map_err(|_| InviteError::Broken)
    }
}

impl Drop for WebRtc {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        // A thread that cannot be woken wakes by itself within a minute.
        let _ = self.waker.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Wakes the thread when a pipe has something for it.
struct Bell(Arc<mio::Waker>);

impl Wake for Bell {
    fn wake(self: Arc<Bell>) {
        // Without it the packet goes out with the next one.
        let _ = self.0.wake();
    }
}

/// The addresses that we name instead of our sockets'.
fn advertised(config: &WebRtcConfig, locals: &[SocketAddr]) -> Vec<SocketAddr> {
    let named = config.advertised.iter().map(|address| {
        let of_family = locals.iter().find(|local| local.is_ipv4() == address.is_ipv4());
        let port = if address.port() == 0 { of_family.map_or(0, SocketAddr::port) } else { address.port() };
        SocketAddr::new(address.ip(), port)
    });
    named.filter(|address| address.port() != 0).collect()
}

fn word(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The name is random, so it names the state as well.
fn etag(local: &Credentials) -> String {
    format!("\"{}\"", local.ufrag)
}

/// What the thread and its owner both look at.
struct Shared {
    identity: Identity,
    mode: Mode,
    stun: Option<SocketAddr>,
    loopback_only: bool,
    /// Where a STUN server saw us, and from which socket.
    reflexive: Mutex<Option<(SocketAddr, SocketAddr)>>,
    stopping: AtomicBool,
    counters: Tally,
}

impl Shared {
    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("mode", &self.mode).field("stun", &self.stun).finish_non_exhaustive()
    }
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Order")
    }
}

/// What was seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Browsers now, those that still connect included.
    pub peers: u64,
    /// Packets of audio for calls.
    pub packets_in: u64,
    /// Packets of audio to browsers.
    pub packets_out: u64,
    /// Packets for which the media worker had no room.
    pub dropped: u64,
    /// Signed by somebody else, or replayed.
    pub forged: u64,
    /// For no browser that we know.
    pub strangers: u64,
    /// Nothing that WebRTC sends.
    pub garbage: u64,
}

#[derive(Default)]
struct Tally {
    peers: Count,
    packets_in: Count,
    packets_out: Count,
    dropped: Count,
    forged: Count,
    strangers: Count,
    garbage: Count,
}

#[derive(Default)]
struct Count(AtomicU64);

impl Count {
    fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A browser's audio as plain RTP, both ways: our end of a pipe to the media worker.
#[derive(Debug)]
pub struct Audio {
    /// From the browser.
    pub inward: mpsc::Sender<Vec<u8>>,
    /// To the browser. The thread wakes up for what comes here.
    pub outward: mpsc::Receiver<Vec<u8>>,
}
