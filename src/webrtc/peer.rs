//! One browser on a call: its addresses, its keys, its audio.
//!
//! Takes datagrams and the time, and gives datagrams back; where they go in and out is the wire's affair.

use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Instant;

use super::ice::{Agent, Credentials, Taken};
use super::offer::Fragment;
use super::secure::{News, Secure};
use super::stun::Message;
use super::{Audio, Ending};

pub(super) struct Peer {
    pub(super) agent: Agent,
    secure: Secure,
    audio: Audio,
    /// The browser plays what we send.
    listens: bool,
    is_open: bool,
    /// It is over, for this reason; said once.
    ending: Option<Ending>,
    is_over: bool,
}

/// What became of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Part of setting up, or of keeping up.
    Signal,
    /// Audio for the call.
    Audio,
    /// Audio that the media worker had no room for.
    Dropped,
    /// Audio that cannot be believed.
    Forged,
    /// What we know and have no use for.
    Ignored,
}

impl Peer {
    pub(super) fn new(agent: Agent, secure: Secure, audio: Audio, listens: bool) -> Peer {
        Peer { agent, secure, audio, listens, is_open: false, ending: None, is_over: false }
    }

    /// Takes a check or the answer to one of ours.
    pub(super) fn take_stun(&mut self, now: Instant, from: SocketAddr, message: &Message<'_>) -> Taken {
        let taken = self.agent.take(now, from, message);
        if self.agent.selected().is_some() {
            self.secure.begin(now);
        }
        taken
    }

    /// Takes a datagram from an address that is known to be this browser's.
    pub(super) fn take(&mut self, now: Instant, datagram: &[u8]) -> Fate {
        match datagram {
            [20..=63, ..] => {
                let news = self.secure.take(now, datagram);
                self.on(news);
                Fate::Signal
            }
            // RFC 5761 §4: these second bytes are RTCP's.
            [128..=191, 192..=223, ..] => Fate::Ignored,
            [128..=191, ..] => match self.secure.open(datagram) {
                Some(rtp) if self.audio.inward.try_send(rtp.to_vec()).is_ok() => Fate::Audio,
                Some(_) => Fate::Dropped,
                None => Fate::Forged,
            },
            _ => Fate::Ignored,
        }
    }

    fn on(&mut self, news: Option<News>) {
        match news {
            Some(News::Open) => self.is_open = true,
            Some(News::Closed) => self.end(Ending::Closed),
            Some(News::Stranger) => self.end(Ending::Stranger),
            Some(News::Broken) => self.end(Ending::NeverCame),
            None => {}
        }
    }

    fn end(&mut self, ending: Ending) {
        if !self.is_over {
            self.is_over = true;
            self.ending = Some(ending);
        }
    }

    /// New addresses, or a new beginning of ICE with these credentials of ours.
    pub(super) fn trickle(&mut self, now: Instant, fragment: &Fragment, anew: Option<(Credentials, Credentials)>) {
        if let Some((local, remote)) = anew {
            self.agent.restart(now, local, remote);
        }
        for candidate in &fragment.candidates {
            self.agent.add(now, *candidate);
        }
    }

    /// We end it: a goodbye is sent.
    pub(super) fn hang_up(&mut self, now: Instant) {
        self.secure.close(now);
        self.is_over = true;
    }

    /// What is due.
    pub(super) fn tick(&mut self, now: Instant) {
        self.agent.tick(now);
        let news = self.secure.tick(now);
        self.on(news);
        if self.agent.is_lost(now) {
            self.end(if self.is_open { Ending::Lost } else { Ending::NeverCame });
        }
    }

    /// When [`Peer::tick`] is due.
    pub(super) fn due(&self) -> Instant {
        self.secure.due().map_or(self.agent.due(), |due| due.min(self.agent.due()))
    }

    /// The next datagram to send, and where to.
    pub(super) fn poll(&mut self, mut send: impl FnMut(SocketAddr, &[u8])) {
        while let Some((to, stun)) = self.agent.poll() {
            send(to, &stun);
        }
        let Some(to) = self.agent.selected() else { return };
        while let Some(dtls) = self.secure.poll() {
            send(to, &dtls);
        }
    }

    /// Sends the audio that waits, and has the thread woken for the next.
    pub(super) fn poll_audio(&mut self, bell: &mut Context<'_>, mut send: impl FnMut(SocketAddr, &[u8])) {
        let to = self.agent.selected().filter(|_| self.listens && self.is_open && !self.is_over);
        while let Poll::Ready(Some(rtp)) = self.audio.outward.poll_recv(bell) {
            if let Some(to) = to
                && let Some(srtp) = self.secure.seal(&rtp)
            {
                send(to, &srtp);
            }
        }
    }

    /// Whether audio can flow.
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Why it is over; said once.
    pub(super) fn take_ending(&mut self) -> Option<Ending> {
        self.ending.take()
    }
}
