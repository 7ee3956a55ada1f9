//! Which address a browser is at, and whether it still wants our packets (RFC 8445, RFC 7675).
//!
//! Pure. The browser always offers, so it always decides which path is taken; we answer its checks, and in [`Mode::Full`]
//! send our own. A path here is an address of the other side: we have one socket for each family, so that names the
//! socket too. Only signed messages change anything.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rtc::crypto::RTCCryptoProvider;

use super::stun::{self, Class, Message, Transaction};
use crate::model::limits::{WEBRTC_CANDIDATES_MAX, WEBRTC_CONSENT_MAX, WEBRTC_SETUP_MAX};

/// Who checks paths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The browser only: right for a gateway that everybody reaches at the addresses it names (RFC 8445 §2.5).
    #[default]
    Lite,
    /// Both sides: opens a way through a NAT before us.
    Full,
}

/// What signs the messages of one side.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    /// Names the side in user names; not secret.
    pub(super) ufrag: String,
    pub(super) password: String,
}

/// The addresses of one browser.
pub(super) struct Agent {
    crypto: Arc<dyn RTCCryptoProvider>,
    mode: Mode,
    local: Credentials,
    remote: Credentials,
    tie_breaker: u64,
    /// The first bytes of every transaction of ours, by which the wire knows whose answer it is.
    mark: u32,
    paths: Vec<Path>,
    selected: Option<SocketAddr>,
    /// When the selected path was last confirmed; before the first, when the agent began.
    heard: Instant,
    /// Messages to send.
    out: Vec<(SocketAddr, Vec<u8>)>,
}

struct Path {
    remote: SocketAddr,
    state: State,
    /// The browser wants this one.
    is_nominated: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A check of ours is due at this time; that many went unanswered.
    Checking { due: Instant, tries: u32, last: Option<Transaction> },
    /// A check came back. The next one, which renews consent, is due then.
    Valid { due: Instant, last: Transaction },
    /// No check came back.
    Failed,
    /// We do not check.
    Trusted,
}

/// What a message came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// The browser is at this address; datagrams from there are its own.
    Believed,
    /// Unsigned, signed by somebody else, or one address too many.
    Refused,
}

impl Agent {
    pub(super) fn new(
        now: Instant,
        mode: Mode,
        local: Credentials,
        remote: Credentials,
        mark: u32,
        crypto: Arc<dyn RTCCryptoProvider>,
    ) -> Agent {
        let (paths, selected, out) = (Vec::new(), None, Vec::new());
        // Two agents that both do not decide settle it by this number (RFC 8445 §7.3.1.1); browsers always decide.
        let tie_breaker = u64::from(mark);
        Agent { crypto, mode, local, remote, tie_breaker, mark, paths, selected, heard: now, out }
    }

    /// Our name in user names.
    pub(super) fn ufrag(&self) -> &str {
        &self.local.ufrag
    }

    /// Where to send; `None` until the browser chose.
    pub(super) fn selected(&self) -> Option<SocketAddr> {
        self.selected
    }

    /// The other side starts anew, after it changed its network (RFC 8445 §9). What flows goes on where it was until a new
    /// path is chosen.
    pub(super) fn restart(&mut self, now: Instant, local: Credentials, remote: Credentials) {
        self.local = local;
        self.remote = remote;
        self.paths.clear();
        self.heard = now;
    }

    /// An address where the browser says it may be.
    pub(super) fn add(&mut self, now: Instant, remote: SocketAddr) {
        // A lite agent waits to be asked.
        if self.mode == Mode::Full {
            self.path(now, remote);
        }
    }

    /// Takes a message that is meant for us by its user name or its transaction.
    pub(super) fn take(&mut self, now: Instant, from: SocketAddr, message: &Message<'_>) -> Taken {
        match message.class {
            Class::Request => self.on_check(now, from, message),
            Class::Success => self.on_success(now, from, message),
            Class::Other => Taken::Refused,
        }
    }

    fn on_check(&mut self, now: Instant, from: SocketAddr, message: &Message<'_>) -> Taken {
        // RFC 8445 §7.1: checks have both. Others get no answer at all, which tells scanners nothing.
        if !message.has_fingerprint || !message.is_signed_with(&self.local.password, self.crypto.crypto()) {
            return Taken::Refused;
        }
        let mode = self.mode;
        let Some(path) = self.path(now, from) else { return Taken::Refused };
        path.is_nominated |= message.use_candidate;
        let is_chosen = match path.state {
            State::Trusted | State::Valid { .. } => message.use_candidate,
            // RFC 8445 §7.3.1.4: what they reach us by is checked at once.
            State::Failed if mode == Mode::Full => {
                path.state = State::Checking { due: now, tries: 0, last: None };
                false
            }
            State::Checking { .. } | State::Failed => false,
        };
        let answer = stun::success(message.transaction, from, &self.local.password, self.crypto.crypto());
        self.out.push((from, answer));
        if is_chosen {
            self.selected = Some(from);
        }
        // Full agents ask for consent themselves; a lite one has these checks only.
        if mode == Mode::Lite && self.selected == Some(from) {
            self.heard = now;
        }
        Taken::Believed
    }

    fn on_success(&mut self, now: Instant, from: SocketAddr, message: &Message<'_>) -> Taken {
        let asked = |path: &&mut Path| match path.state {
            State::Checking { last, .. } => last == Some(message.transaction),
            State::Valid { last, .. } => last == message.transaction,
            State::Failed | State::Trusted => false,
        };
        // RFC 8445 §7.2.5.2.1: an answer from elsewhere is none.
        let Some(path) = self.paths.iter_mut().filter(|path| path.remote == from).find(asked) else {
            return Taken::Refused;
        };
        if !message.is_signed_with(&self.remote.password, self.crypto.crypto()) {
            return Taken::Refused;
        }
        path.state = State::Valid { due: now + CONSENT_EVERY, last: message.transaction };
        if path.is_nominated && self.selected != Some(from) {
            path.is_nominated = false;
            self.selected = Some(from);
        }
        if self.selected == Some(from) {
            self.heard = now;
        }
        Taken::Believed
    }

    /// Sends what is due.
    pub(super) fn tick(&mut self, now: Instant) {
        let username = format!("{}:{}", self.remote.ufrag, self.local.ufrag);
        for path in &mut self.paths {
            let (tries, every) = match path.state {
                State::Checking { due, tries, .. } if due <= now => (tries, CHECK_EVERY * 2_u32.pow(tries.min(3))),
                State::Valid { due, .. } if due <= now => (0, CONSENT_EVERY),
                State::Checking { .. } | State::Valid { .. } | State::Failed | State::Trusted => continue,
            };
            if tries == CHECKS_MAX {
                path.state = State::Failed;
                continue;
            }
            let mut transaction = Transaction::default();
            transaction[..4].copy_from_slice(&self.mark.to_be_bytes());
            if self.crypto.random().fill(&mut transaction[4..]).is_err() {
                continue;
            }
            let due = now + every;
            path.state = match path.state {
                State::Valid { .. } => State::Valid { due, last: transaction },
                _ => State::Checking { due, tries: tries + 1, last: Some(transaction) },
            };
            let (password, crypto) = (&self.remote.password, self.crypto.crypto());
            let check = stun::check(transaction, &username, PRIORITY, self.tie_breaker, password, crypto);
            self.out.push((path.remote, check));
        }
    }

    /// When [`Agent::tick`] or [`Agent::is_lost`] have something to say.
    pub(super) fn due(&self) -> Instant {
        let checks = self.paths.iter().filter_map(|path| match path.state {
            State::Checking { due, .. } | State::Valid { due, .. } => Some(due),
            State::Failed | State::Trusted => None,
        });
        checks.chain([self.heard + self.patience()]).min().unwrap_or(self.heard)
    }

    /// Nobody there wants our packets any more, or ever did.
    pub(super) fn is_lost(&self, now: Instant) -> bool {
        now >= self.heard + self.patience()
    }

    fn patience(&self) -> Duration {
        if self.selected.is_some() { WEBRTC_CONSENT_MAX } else { WEBRTC_SETUP_MAX }
    }

    /// A message to send, and where to.
    pub(super) fn poll(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        (!self.out.is_empty()).then(|| self.out.remove(0))
    }

    /// The path to an address, which is made if there is room.
    fn path(&mut self, now: Instant, remote: SocketAddr) -> Option<&mut Path> {
        let known = self.paths.iter().position(|path| path.remote == remote);
        let at = match known {
            Some(at) => at,
            None if self.paths.len() < WEBRTC_CANDIDATES_MAX => {
                let state = match self.mode {
                    Mode::Lite => State::Trusted,
                    Mode::Full => State::Checking { due: now, tries: 0, last: None },
                };
                self.paths.push(Path { remote, state, is_nominated: false });
                self.paths.len() - 1
            }
            None => return None,
        };
        self.paths.get_mut(at)
    }
}

/// RFC 8445 §14.3 says 500 ms and twice as long each time; the first ones go faster, because a person waits.
const CHECK_EVERY: Duration = Duration::from_millis(250);
/// RFC 8489 §6.2.1: seven requests.
const CHECKS_MAX: u32 = 7;
/// RFC 7675 §5.1.
const CONSENT_EVERY: Duration = Duration::from_secs(5);
/// RFC 8445 §5.1.2.1, of a peer-reflexive address of a single one.
const PRIORITY: u32 = (110 << 24) | (65_535 << 8) | 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lite_agent_follows_the_browser_to_the_path_it_chooses_last() {
        let (mut agent, now) = agent(Mode::Lite);
        assert_eq!(agent.take(now, addr(1), &read(&ask(1, false, OURS))), Taken::Believed);
        assert_eq!(agent.selected(), None);

        agent.take(now, addr(1), &read(&ask(2, true, OURS)));
        assert_eq!(agent.selected(), Some(addr(1)));
        agent.take(now, addr(2), &read(&ask(3, true, OURS)));

        assert_eq!(agent.selected(), Some(addr(2)));
        let answers: Vec<SocketAddr> = std::iter::from_fn(|| agent.poll()).map(|(to, _)| to).collect();
        assert_eq!(answers, [addr(1), addr(1), addr(2)]);
    }

    #[test]
    fn whoever_does_not_know_the_password_gets_no_answer() {
        let (mut agent, now) = agent(Mode::Lite);

        let taken = agent.take(now, addr(1), &read(&ask(1, true, "wrong")));

        assert_eq!((taken, agent.selected()), (Taken::Refused, None));
        assert!(agent.poll().is_none());
    }

    #[test]
    fn a_browser_that_says_nothing_more_is_lost() {
        let (mut agent, now) = agent(Mode::Lite);
        agent.take(now, addr(1), &read(&ask(1, true, OURS)));
        let almost = now + WEBRTC_CONSENT_MAX - Duration::from_millis(1);

        assert!(!agent.is_lost(almost));
        assert!(agent.is_lost(now + WEBRTC_CONSENT_MAX));
        agent.take(almost, addr(2), &read(&ask(2, false, OURS)));
        assert!(agent.is_lost(now + WEBRTC_CONSENT_MAX), "another address does not vouch for this one");
        agent.take(almost, addr(1), &read(&ask(3, false, OURS)));
        assert!(!agent.is_lost(now + WEBRTC_CONSENT_MAX));
        assert_eq!(agent.due(), almost + WEBRTC_CONSENT_MAX);
    }

    #[test]
    fn a_full_agent_takes_a_path_when_its_own_check_came_back() {
        let (mut agent, now) = agent(Mode::Full);
        agent.take(now, addr(1), &read(&ask(1, true, OURS)));
        assert_eq!(agent.selected(), None, "chosen, and not yet checked");
        agent.tick(now);
        let sent: Vec<_> = std::iter::from_fn(|| agent.poll()).collect();
        let [_, (to, check)] = sent.as_slice() else { panic!("an answer and a check") };
        let check = Message::read(check).unwrap();
        assert_eq!((*to, check.username), (addr(1), Some("theirs:ours")));
        assert!(check.is_signed_with(THEIRS, crypto().crypto()));

        let answer = stun::success(check.transaction, addr(9), THEIRS, crypto().crypto());
        assert_eq!(agent.take(now, addr(2), &read(&answer)), Taken::Refused, "from elsewhere");
        assert_eq!(agent.take(now, addr(1), &read(&answer)), Taken::Believed);

        assert_eq!(agent.selected(), Some(addr(1)));
        assert_eq!(agent.due(), now + CONSENT_EVERY);
    }

    #[test]
    fn checks_that_never_come_back_end() {
        let (mut agent, now) = agent(Mode::Full);
        agent.add(now, addr(1));
        let mut sent = 0;
        for _ in 0..50 {
            agent.tick(agent.due());
            sent += std::iter::from_fn(|| agent.poll()).count();
        }
        assert_eq!(sent, 7);
        assert_eq!(agent.due(), now + WEBRTC_SETUP_MAX);
    }

    #[test]
    fn addresses_are_bounded() {
        let (mut agent, now) = agent(Mode::Full);
        for port in 0..1_000 {
            agent.add(now, addr(port));
        }

        agent.tick(now);

        assert_eq!(std::iter::from_fn(|| agent.poll()).count(), WEBRTC_CANDIDATES_MAX);
        assert_eq!(agent.take(now, addr(2_000), &read(&ask(1, true, OURS))), Taken::Refused);
    }

    #[test]
    fn after_a_restart_the_old_password_is_worth_nothing_and_audio_goes_on() {
        let (mut agent, now) = agent(Mode::Lite);
        agent.take(now, addr(1), &read(&ask(1, true, OURS)));

        agent.restart(now, named("new", "another password"), named("theirs", THEIRS));

        assert_eq!(agent.selected(), Some(addr(1)));
        assert_eq!(agent.take(now, addr(1), &read(&ask(2, true, OURS))), Taken::Refused);
        assert_eq!(agent.take(now, addr(3), &read(&ask(3, true, "another password"))), Taken::Believed);
        assert_eq!(agent.selected(), Some(addr(3)));
    }

    const OURS: &str = "our password";
    const THEIRS: &str = "their password";

    #[allow(clippy::disallowed_methods, reason = "an instant has no other beginning; the tests count from it")]
    fn agent(mode: Mode) -> (Agent, Instant) {
        let now = Instant::now();
        (Agent::new(now, mode, named("ours", OURS), named("theirs", THEIRS), 1, crypto()), now)
    }

    fn named(ufrag: &str, password: &str) -> Credentials {
        Credentials { ufrag: ufrag.to_owned(), password: password.to_owned() }
    }

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], 1_000 + port))
    }

    fn read(raw: &[u8]) -> Message<'_> {
        Message::read(raw).unwrap()
    }

    /// A check as the side that decides sends it.
    fn ask(number: u8, use_candidate: bool, password: &str) -> Vec<u8> {
        stun::test_check([number; 12], "ours:theirs", use_candidate, password, crypto().crypto())
    }

    fn crypto() -> Arc<dyn RTCCryptoProvider> {
        rtc::crypto::default_provider().unwrap()
    }
}
