//! Browsers on calls: which of them belongs to which call, and what each is told.
//!
//! A browser is known by the name of its session, which only it was told: whoever has the name may change and end the
//! session, so it is as good as a password, and stands in no log.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::counter;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::clock::now;
use super::house::House;
use super::mailbox::Post;
use super::registry::Door;
use crate::call::{Cause, Event};
use crate::model::LegId;
use crate::webrtc::{Ending, Invited, News, PeerId, Settled, WebRtc, What};

/// A call's way to its browser.
#[derive(Clone, Copy, Debug)]
pub(super) struct BrowserLeg {
    pub(super) peer: PeerId,
    pub(super) settled: Settled,
    /// The call was answered.
    pub(super) is_answered: bool,
    /// The browser can be heard and hears us.
    pub(super) is_connected: bool,
}

impl BrowserLeg {
    pub(super) fn new(peer: PeerId, settled: Settled) -> BrowserLeg {
        BrowserLeg { peer, settled, is_answered: false, is_connected: false }
    }

    /// Whether words for it can start: before both, they would be lost.
    pub(super) fn is_ready(&self) -> bool {
        self.is_answered && self.is_connected
    }
}

/// How a browser's call stands, for the browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It was taken.
    Calling,
    /// Somebody is being found for it.
    Ringing,
    /// Somebody is there.
    Answered,
    /// It is over.
    Ended(Cause),
}

/// All browsers.
#[derive(Debug)]
pub(super) struct Browsers {
    pub(super) webrtc: WebRtc,
    sessions: Mutex<Sessions>,
}

#[derive(Debug, Default)]
struct Sessions {
    by_name: HashMap<String, Session>,
    by_peer: HashMap<PeerId, String>,
    /// Those that are over, oldest first. They are kept for a moment, so that a browser can ask why.
    over: VecDeque<(Instant, String)>,
}

#[derive(Debug)]
struct Session {
    peer: PeerId,
    door: Arc<Door>,
    etag: String,
    /// The browser's own name in ICE.
    ufrag: String,
    standing: watch::Sender<Standing>,
}

/// What is known of a session.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) peer: PeerId,
    pub(super) etag: String,
    pub(super) ufrag: String,
    pub(super) standing: watch::Receiver<Standing>,
}

impl Browsers {
    pub(super) fn new(webrtc: WebRtc) -> Browsers {
        Browsers { webrtc, sessions: Mutex::default() }
    }

    /// Notes a browser's call.
    pub(super) fn open(&self, name: String, invited: &Invited, ufrag: String, door: Arc<Door>) {
        let mut sessions = self.sessions();
        sessions.forget_old(now());
        let (standing, _) = watch::channel(Standing::Calling);
        sessions.by_peer.insert(invited.peer, name.clone());
        let session = Session { peer: invited.peer, door, etag: invited.etag.clone(), ufrag, standing };
        sessions.by_name.insert(name, session);
    }

    /// A session by its name, also shortly after its end.
    pub(super) fn find(&self, name: &str) -> Option<Seen> {
        let sessions = self.sessions();
        let session = sessions.by_name.get(name)?;
        let (etag, ufrag) = (session.etag.clone(), session.ufrag.clone());
        Some(Seen { peer: session.peer, etag, ufrag, standing: session.standing.subscribe() })
    }

    /// ICE started anew.
    pub(super) fn restarted(&self, name: &str, etag: String, ufrag: String) {
        if let Some(session) = self.sessions().by_name.get_mut(name) {
            (session.etag, session.ufrag) = (etag, ufrag);
        }
    }

    /// Tells a browser how its call stands.
    pub(super) fn tell(&self, peer: PeerId, standing: Standing) {
        let sessions = self.sessions();
        if let Some(session) = sessions.by_peer.get(&peer).and_then(|name| sessions.by_name.get(name)) {
            session.standing.send_replace(standing);
        }
    }

    /// Ends a browser's session: it is told why, and its audio ends.
    pub(super) fn end(&self, peer: PeerId, cause: Cause) {
        self.tell(peer, Standing::Ended(cause));
        self.webrtc.hang_up(peer);
        let mut sessions = self.sessions();
        if let Some(name) = sessions.by_peer.remove(&peer) {
            sessions.over.push_back((now(), name));
        }
    }

    /// A browser can be heard.
    fn connected(&self, peer: PeerId) {
        let sessions = self.sessions();
        if let Some(session) = sessions.by_peer.get(&peer).and_then(|name| sessions.by_name.get(name)) {
            session.door.mailbox.post(Post::Connected { leg: LegId::CALLER });
        }
    }

    /// A browser hung up, or is gone.
    pub(super) fn left(&self, peer: PeerId, cause: Cause) {
        let sessions = self.sessions();
        let Some(session) = sessions.by_peer.get(&peer).and_then(|name| sessions.by_name.get(name)) else { return };
        let cause = match (cause, *session.standing.borrow()) {
            (Cause::Normal, Standing::Calling | Standing::Ringing) => Cause::Canceled,
            (cause, _) => cause,
        };
        session.door.mailbox.post(Post::Event(Event::HungUp { leg: LegId::CALLER, cause }));
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sessions {
    fn forget_old(&mut self, now: Instant) {
        while self.over.front().is_some_and(|(ended, _)| now.duration_since(*ended) >= KEPT) {
            if let Some((_, name)) = self.over.pop_front() {
                self.by_name.remove(&name);
            }
        }
    }
}

/// Takes what the browsers' thread tells until it ends.
pub(super) async fn listen(house: Arc<House>, mut news: mpsc::Receiver<News>) {
    while let Some(News { peer, what }) = news.recv().await {
        let Some(browsers) = &house.browsers else { continue };
        let (label, cause) = match what {
            What::Connected => ("connected", None),
            What::Ended(Ending::Closed) => ("closed", Some(Cause::Normal)),
            What::Ended(Ending::Lost) => ("lost", Some(Cause::Timeout)),
            What::Ended(Ending::NeverCame) => ("never_came", Some(Cause::NoMedia)),
            What::Ended(Ending::Stranger) => ("stranger", Some(Cause::Forbidden)),
        };
        counter!("ringback_webrtc_news_total", "what" => label).increment(1);
        match cause {
            Some(cause) => browsers.left(peer, cause),
            None => browsers.connected(peer),
        }
    }
}

/// How long a browser can ask why its call ended. One that reconnects does so within seconds.
const KEPT: Duration = Duration::from_secs(30);
