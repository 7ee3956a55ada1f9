//! What becomes of a request that belongs to no dialog, before anything is made of it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::access::{Access, Approach, Known, Who};
use super::digest::{self, Algorithm, Answer, Proof};
use super::nonce::{Age, Nonces};
use super::rules::{Protection, Strangers};
use super::source::{Bucket, Recent, Source};
use crate::model::limits;

/// The guard at the front door. Times are since its beginning, and never go back.
#[derive(Clone, Debug)]
pub struct Guard {
    nonces: Nonces,
    /// Stands in for users that do not exist, so that they cost as much time as those that do.
    nobody: Proof,
    strangers: Recent<Stranger>,
    locks: Recent<Lock>,
    /// Wrong passwords by the trunk whose user was named.
    users: BTreeMap<Arc<str>, Lock>,
    /// Sources that proved a password, or that we have or had a dialog with.
    friends: Recent<()>,
    trunks: BTreeMap<Arc<str>, Traffic>,
    /// Answers to strangers, all of them together.
    answers: Bucket,
    tellings: Tellings,
    counts: BTreeMap<Reason, u64>,
}

/// What is to be done with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is let in, as this trunk's; `None` when everybody is let in.
    Admit(Option<Arc<str>>),
    /// Whoever sent it must prove a password: the values of the `WWW-Authenticate` headers, best first.
    Challenge(Vec<String>),
    /// It is refused.
    Forbid,
    /// It is refused for now; to try again after so many seconds.
    TooMany {
        #[allow(missing_docs)]
        retry_after_s: u32,
    },
    /// Nothing is said at all, and nothing is kept.
    Ignore,
}

/// A verdict, why, and whether it is worth a line in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// What is to be done.
    pub verdict: Verdict,
    /// Why; every judgement is counted under it.
    pub reason: Reason,
    /// Not told of this source within the last minute.
    pub is_news: bool,
}

/// Why a request got its verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Everybody is let in.
    Open,
    /// A trunk knows it without a password.
    Recognised,
    /// It proved its password.
    Proved,
    /// A trunk asks for more than it may.
    TrunkRate,
    /// No trunk knows it.
    Stranger,
    /// An unknown source asks for more than it may.
    StrangerRate,
    /// All strangers together were answered as often as we answer them.
    StrangersRate,
    /// It calls itself a scanner, or behaves like one.
    Scanner,
    /// A scanner that is not answered any more.
    Silenced,
    /// It has yet to prove its password.
    Unproved,
    /// Its nonce is too old, or of another process; its password is right.
    StaleNonce,
    /// Its answer was used before.
    Replayed,
    /// User or password is wrong.
    WrongPassword,
    /// Too many wrong passwords came from there, or for this user.
    LockedOut,
}

impl Reason {
    /// The name in metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Reason::Open => "open",
            Reason::Recognised => "recognised",
            Reason::Proved => "proved",
            Reason::TrunkRate => "trunk_rate",
            Reason::Stranger => "stranger",
            Reason::StrangerRate => "stranger_rate",
            Reason::StrangersRate => "strangers_rate",
            Reason::Scanner => "scanner",
            Reason::Silenced => "silenced",
            Reason::Unproved => "unproved",
            Reason::StaleNonce => "stale_nonce",
            Reason::Replayed => "replayed",
            Reason::WrongPassword => "wrong_password",
            Reason::LockedOut => "locked_out",
        }
    }
}

/// What an unknown source did lately.
#[derive(Clone, Debug, Default)]
struct Stranger {
    requests: Bucket,
    /// When the present look at its behaviour began.
    since: Duration,
    /// Hashes of the numbers that it called within the look.
    called: Vec<u32>,
    /// Requests within the look that led to nothing.
    vain: u32,
    silent_until: Option<Duration>,
    told: Option<Duration>,
}

/// Wrong passwords in a row.
#[derive(Clone, Copy, Debug, Default)]
struct Lock {
    failures: u32,
    /// Locks so far.
    times: u32,
    until: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Traffic {
    requests: Bucket,
    told: Option<Duration>,
}

/// Lines that the log was given within a minute.
#[derive(Clone, Copy, Debug, Default)]
struct Tellings {
    since: Duration,
    count: u32,
}

impl Guard {
    /// A guard. The key must be drawn at random for each process; nonces of an earlier one then count as stale.
    pub fn new(key: [u8; 32]) -> Guard {
        Guard {
            nonces: Nonces::new(key),
            nobody: Proof::new("", "", &digest::hex(&key)),
            strangers: Recent::new(limits::GUARD_SOURCES_MAX),
            locks: Recent::new(limits::GUARD_LOCKS_MAX),
            users: BTreeMap::new(),
            friends: Recent::new(limits::GUARD_FRIENDS_MAX),
            trunks: BTreeMap::new(),
            answers: Bucket::default(),
            tellings: Tellings::default(),
            counts: BTreeMap::new(),
        }
    }

    /// Whether anything from this address is looked at. Asked before a request is read, so that a flood costs little;
    /// answers to our own requests must pass all the same.
    pub fn listens_to(&mut self, now: Duration, access: &Access, address: IpAddr) -> bool {
        let source = Source::of(address);
        let is_silenced = self.strangers.get(source).is_some_and(|known| is_ahead(known.silent_until, now));
        let is_locked = self.locks.get(source).is_some_and(|lock| is_ahead(lock.until, now));
        if access.is_open() || !(is_silenced || is_locked) || access.is_listed(address) {
            return true;
        }
        if is_silenced && !is_locked && self.friends.get(source).is_some() {
            return true;
        }
        self.count(if is_locked { Reason::LockedOut } else { Reason::Silenced });
        false
    }

    /// We have a dialog with this address, so it is not taken for a scanner, whatever comes under its name.
    pub fn befriend(&mut self, address: IpAddr) {
        self.friends.touch(Source::of(address));
    }

    /// Judges a request that belongs to no dialog.
    pub fn judge(&mut self, now: Duration, access: &Access, approach: &Approach<'_>) -> Judgement {
        if access.is_open() {
            return self.judgement(Verdict::Admit(None), Reason::Open, false);
        }
        match access.who(approach) {
            Who::Known(known, _) => self.admit(now, &access.rules, known, Reason::Recognised),
            Who::Perhaps(candidates) => self.examine(now, access, approach, &candidates),
            Who::Stranger => self.examine(now, access, approach, &[]),
        }
    }

    /// How often each reason was given. Small: one row for each that ever was.
    pub fn counts(&self) -> &BTreeMap<Reason, u64> {
        &self.counts
    }

    /// How many sources are known, of all kinds: what the memory of this guard depends on.
    pub fn known(&self) -> usize {
        self.strangers.len() + self.locks.len() + self.friends.len()
    }

    fn admit(&mut self, now: Duration, rules: &Protection, known: &Known, reason: Reason) -> Judgement {
        let traffic = self.trunks.entry(Arc::clone(&known.id)).or_default();
        if traffic.requests.take(now, rules.trunk_requests_per_second) {
            return self.judgement(Verdict::Admit(Some(Arc::clone(&known.id))), reason, false);
        }
        let is_news = is_news(&mut traffic.told, now) && self.tellings.one_more(now);
        self.judgement(Verdict::TooMany { retry_after_s: 1 }, Reason::TrunkRate, is_news)
    }

    /// Somebody whom nothing but a password could make known.
    fn examine(&mut self, now: Duration, access: &Access, approach: &Approach<'_>, candidates: &[&Known]) -> Judgement {
        let source = Source::of(approach.source);
        let is_listed = access.is_listed(approach.source);
        let is_friend = is_listed || self.friends.get(source).is_some();
        if !is_listed && self.locks.get(source).is_some_and(|lock| is_ahead(lock.until, now)) {
            return self.judgement(Verdict::Ignore, Reason::LockedOut, false);
        }
        if !is_friend && let Some(reason) = self.watch(now, access, approach, source) {
            return self.tell(now, source, Verdict::Ignore, reason);
        }
        let (challenge, reason) = match self.prove(now, access, approach, candidates) {
            Examined::Proved(known) => {
                self.friends.touch(source);
                self.locks.remove(source);
                self.strangers.touch(source).vain = 0;
                return self.admit(now, &access.rules, known, Reason::Proved);
            }
            Examined::Stale(reason) => (Some(true), reason),
            Examined::Wrong => (Some(false), Reason::WrongPassword),
            Examined::Unproved => match access.rules.strangers {
                _ if !candidates.is_empty() => (Some(false), Reason::Unproved),
                Strangers::Challenge => (Some(false), Reason::Stranger),
                Strangers::Silence | Strangers::Forbidden => (None, Reason::Stranger),
            },
        };
        if reason == Reason::WrongPassword
            && !is_listed
            && self.locks.get(source).is_some_and(|lock| is_ahead(lock.until, now))
        {
            // Locked from here on: its ACK would not be heard, so an answer would only be repeated.
            return self.tell(now, source, Verdict::Ignore, reason);
        }
        let says_something = challenge.is_some() || access.rules.strangers == Strangers::Forbidden;
        if says_something && !is_friend && !self.answers.take(now, limits::GUARD_ANSWERS_PER_SECOND) {
            return self.judgement(Verdict::Ignore, Reason::StrangersRate, false);
        }
        let verdict = match challenge {
            Some(is_stale) => Verdict::Challenge(self.challenges(now, access, source, candidates, is_stale)),
            None if says_something => Verdict::Forbid,
            None => Verdict::Ignore,
        };
        // A first request without credentials, and a nonce that has become old, are how things are meant to be.
        match reason {
            Reason::Unproved | Reason::StaleNonce => self.judgement(verdict, reason, false),
            _ => self.tell(now, source, verdict, reason),
        }
    }

    /// Looks at how an unknown source behaves. `Some` when it gets no answer.
    fn watch(&mut self, now: Duration, access: &Access, approach: &Approach<'_>, source: Source) -> Option<Reason> {
        let rules = &access.rules;
        let stranger = self.strangers.touch(source);
        if is_ahead(stranger.silent_until, now) {
            return Some(Reason::Silenced);
        }
        if now.saturating_sub(stranger.since) >= limits::GUARD_LOOK || stranger.since > now {
            (stranger.since, stranger.vain) = (now, 0);
            stranger.called.clear();
        }
        stranger.vain += 1;
        let called = hash(approach.user);
        if stranger.called.len() < limits::GUARD_NUMBERS_MAX && !stranger.called.contains(&called) {
            stranger.called.push(called);
        }
        let scans = stranger.called.len() >= limits::GUARD_NUMBERS_MAX || stranger.vain >= limits::GUARD_VAIN_MAX;
        if scans || access.is_scanner(approach.agent) {
            stranger.silent_until = Some(now + rules.silence);
            return Some(Reason::Scanner);
        }
        if !stranger.requests.take(now, rules.stranger_requests_per_second) {
            return Some(Reason::StrangerRate);
        }
        None
    }

    fn prove<'a>(
        &mut self,
        now: Duration,
        access: &Access,
        approach: &Approach<'_>,
        candidates: &[&'a Known],
    ) -> Examined<'a> {
        let source = Source::of(approach.source);
        let realms = realms(access, candidates);
        let answers = approach.authorization.iter().take(limits::GUARD_ANSWERS_READ_MAX);
        let Some(answer) =
            answers.filter_map(|value| Answer::parse(value)).find(|answer| realms.contains(&answer.realm.as_str()))
        else {
            return Examined::Unproved;
        };
        let theirs = |proof: &Proof| proof.username == answer.username && proof.realm == answer.realm;
        let named = candidates.iter().copied().find(|known| known.proof().is_some_and(theirs));
        let proof = named.and_then(Known::proof).unwrap_or(&self.nobody);
        let is_right = proof.is_right(&answer, approach.method);
        let age = self.nonces.look(now, source, &answer.realm, &answer.nonce);
        let is_user_locked = named.is_some_and(|named| {
            self.users.get(&named.id).is_some_and(|lock| is_ahead(lock.until, now))
                && self.friends.get(source).is_none()
                && !access.is_listed(approach.source)
        });
        match (named.filter(|_| is_right && !is_user_locked), age) {
            (Some(known), Age::Fresh(id)) => {
                let count = answer.count.as_ref().map_or(1, |count| count.value);
                if self.nonces.spend(now, id, count) {
                    self.users.remove(&known.id);
                    Examined::Proved(known)
                } else {
                    Examined::Stale(Reason::Replayed)
                }
            }
            (Some(_), Age::Old | Age::Foreign) => Examined::Stale(Reason::StaleNonce),
            // Whoever holds a nonce of ours has read our challenge, so the address is really theirs. Without one, the
            // wrong password may have come under a false name, and nobody may be locked out by that.
            (None, Age::Fresh(_) | Age::Old) => {
                let rules = &access.rules;
                self.locks.touch(source).fail(now, rules, rules.failures_max);
                if let Some(named) = named {
                    let most = rules.failures_max.saturating_mul(10);
                    self.users.entry(Arc::clone(&named.id)).or_default().fail(now, rules, most);
                }
                Examined::Wrong
            }
            (None, Age::Foreign) => Examined::Wrong,
        }
    }

    fn challenges(
        &mut self,
        now: Duration,
        access: &Access,
        source: Source,
        candidates: &[&Known],
        is_stale: bool,
    ) -> Vec<String> {
        let mut challenges = Vec::new();
        for realm in realms(access, candidates) {
            let nonce = self.nonces.draw(now, source, realm);
            for algorithm in Algorithm::ALL {
                challenges.push(digest::challenge(realm, &nonce, algorithm, is_stale));
            }
        }
        challenges
    }

    fn tell(&mut self, now: Duration, source: Source, verdict: Verdict, reason: Reason) -> Judgement {
        let is_silence_old_hat = reason == Reason::Silenced;
        let is_news =
            !is_silence_old_hat && is_news(&mut self.strangers.touch(source).told, now) && self.tellings.one_more(now);
        self.judgement(verdict, reason, is_news)
    }

    fn judgement(&mut self, verdict: Verdict, reason: Reason, is_news: bool) -> Judgement {
        self.count(reason);
        Judgement { verdict, reason, is_news }
    }

    fn count(&mut self, reason: Reason) {
        *self.counts.entry(reason).or_default() += 1;
    }
}

/// What a look at somebody's credentials says.
enum Examined<'a> {
    Proved(&'a Known),
    /// The password is right, and the nonce will not do.
    Stale(Reason),
    Wrong,
    Unproved,
}

impl Lock {
    fn fail(&mut self, now: Duration, rules: &Protection, most: u32) {
        // What happened before the longest lock could have lasted is forgiven.
        if self.until.is_some_and(|until| now > until + rules.lockout_max) {
            *self = Lock::default();
        }
        self.failures += 1;
        if self.failures >= most.max(1) {
            let longer = rules.lockout.saturating_mul(1 << self.times.min(16));
            self.until = Some(now + longer.min(rules.lockout_max));
            self.failures = 0;
            self.times = self.times.saturating_add(1);
        }
    }
}

impl Tellings {
    /// Whether the log takes one more line. A flood from many addresses is told as well, in its first lines.
    fn one_more(&mut self, now: Duration) -> bool {
        if now.saturating_sub(self.since) >= MINUTE {
            *self = Tellings { since: now, count: 0 };
        }
        self.count += 1;
        self.count <= limits::GUARD_LINES_PER_MINUTE
    }
}

/// The protection domains to challenge for: those of the candidates, or ours when there are none.
fn realms<'a>(access: &'a Access, candidates: &[&'a Known]) -> Vec<&'a str> {
    let mut realms: Vec<&str> = candidates.iter().map(|known| known.realm()).collect();
    realms.sort_unstable();
    realms.dedup();
    realms.truncate(limits::GUARD_REALMS_MAX);
    if realms.is_empty() {
        realms.push(&access.rules.realm);
    }
    realms
}

fn is_ahead(until: Option<Duration>, now: Duration) -> bool {
    until.is_some_and(|until| now < until)
}

fn is_news(told: &mut Option<Duration>, now: Duration) -> bool {
    let is_news = told.is_none_or(|at| now.saturating_sub(at) >= MINUTE);
    if is_news {
        *told = Some(now);
    }
    is_news
}

/// FNV-1a: tells numbers apart well enough to count them.
fn hash(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, octet| (hash ^ u32::from(octet)).wrapping_mul(0x0100_0193))
}

const MINUTE: Duration = Duration::from_secs(60);
