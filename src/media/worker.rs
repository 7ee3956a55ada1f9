//! The thread that carries sound.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use tokio::sync::mpsc;

use super::control::{Command, Lane};
use super::notice::Notice;
use super::writer::WriterDesk;

pub(super) struct Worker {
    poll: mio::Poll,
    lane: Arc<Lane>,
    mailbox: Receiver<Command>,
    _notices: mpsc::Sender<Vec<Notice>>,
    _writer: WriterDesk,
}

impl Worker {
    pub(super) const WAKER: mio::Token = mio::Token(usize::MAX);

    pub(super) fn new(
        poll: mio::Poll,
        lane: Arc<Lane>,
        mailbox: Receiver<Command>,
        notices: mpsc::Sender<Vec<Notice>>,
        writer: WriterDesk,
    ) -> Worker {
        Worker { poll, lane, mailbox, _notices: notices, _writer: writer }
    }

    pub(super) fn run(mut self) {
        let mut events = mio::Events::with_capacity(16);
        while !self.lane.stopping.load(Ordering::Acquire) {
            let _ = self.poll.poll(&mut events, Some(Duration::from_millis(5)));
            while let Ok(command) = self.mailbox.try_recv() {
                command.state.waiting.fetch_sub(1, Ordering::AcqRel);
            }
        }
    }
}
