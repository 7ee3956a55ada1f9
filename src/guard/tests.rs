//! The front door, asked by peers, guests and attackers.

use std::net::IpAddr;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::actions::SecretRef;
use crate::model::{Secret, limits};
use crate::trunk::{Credentials, IdentityRules, Inbound, ReferRules, Registration, SessionRules, Trunk, TrunkLimits};

#[test]
fn the_narrowest_network_decides() {
    let access = access(&[networks("wide", &["10.0.0.0/8"]), networks("narrow", &["10.1.0.0/16"])]);

    assert_eq!(access.by_address(ip("10.1.2.3")), Some("narrow"));
    assert_eq!(access.by_address(ip("10.2.2.3")), Some("wide"));
    assert_eq!(access.by_address(ip("::ffff:10.2.2.3")), Some("wide"));
    assert_eq!(access.by_address(ip("11.2.2.3")), None);
}

#[test]
fn a_registered_contact_beats_a_name_and_a_name_beats_an_address() {
    let registered = Trunk {
        registration: Some(Registration {
            registrars: vec!["sip:registrar.example".into()],
            aor: "sip:me@registrar.example".into(),
            keep_alive: None,
            credentials: None,
            expires: Duration::from_secs(600),
        }),
        inbound: Inbound { over_registration: true, ..Inbound::default() },
        ..networks("registered", &[])
    };
    let named = Trunk {
        inbound: Inbound { tls_names: vec!["SBC.example".into()], ..Inbound::default() },
        ..networks("named", &[])
    };
    let contacts = Contacts::default();
    contacts.add("k7f3q9", "registered");
    let trunks = [registered, named, networks("near", &["192.0.2.0/24"])];
    let access = Access::new(&trunks, |_| None, Protection::default(), contacts.clone());
    let names = ["sbc.example".to_owned()];
    let asked = |user: &'static str, tls_names| {
        let approach = Approach { user, tls_names, ..invite("192.0.2.1") };
        admitted(&Guard::new([1; 32]).judge(at(0), &access, &approach))
    };

    assert_eq!(asked("k7f3q9", &names).as_deref(), Some("registered"));
    assert_eq!(asked("100", &names).as_deref(), Some("named"));
    assert_eq!(asked("100", &[]).as_deref(), Some("near"));
    contacts.remove("k7f3q9");
    assert_eq!(asked("k7f3q9", &[]).as_deref(), Some("near"));
}

#[test]
fn strangers_get_what_the_admin_chose_and_the_same_for_every_user() {
    for (strangers, wanted) in [(Strangers::Silence, Verdict::Ignore), (Strangers::Forbidden, Verdict::Forbid)] {
        let access = with(&[networks("near", &["192.0.2.0/24"])], Protection { strangers, ..Protection::default() });
        let mut guard = Guard::new([1; 32]);

        for (user, method) in [("100", "INVITE"), ("", "OPTIONS"), ("100", "REGISTER")] {
            let approach = Approach { user, method, ..invite("198.51.100.1") };
            assert_eq!(guard.judge(at(0), &access, &approach).verdict, wanted, "{method}");
        }
    }
    let access = with(&[], Protection { strangers: Strangers::Challenge, ..Protection::default() });
    let judged = Guard::new([1; 32]).judge(at(0), &access, &invite("198.51.100.1"));
    let Verdict::Challenge(challenges) = judged.verdict else { panic!("{judged:?}") };
    assert!(challenges[0].contains("SHA-256") && challenges[1].contains("MD5"), "{challenges:?}");
}

#[test]
fn a_password_lets_in_by_either_algorithm() {
    for algorithm in [0, 1] {
        let access = access(&[password("pbx", &[])]);
        let mut guard = Guard::new([1; 32]);
        let caller = Caller { algorithm, ..Caller::default() };

        let judged = caller.calls(&mut guard, at(1), &access);

        assert_eq!((admitted(&judged).as_deref(), judged.reason), (Some("pbx"), Reason::Proved));
    }
}

#[test]
fn a_password_from_elsewhere_is_of_no_use_to_a_trunk_with_networks() {
    let access = access(&[password("pbx", &["192.0.2.0/24"]), password("roaming", &[])]);
    let mut guard = Guard::new([1; 32]);
    let from = |source| Caller { source, username: "pbx", ..Caller::default() };

    assert_eq!(admitted(&from("192.0.2.9").calls(&mut guard, at(1), &access)).as_deref(), Some("pbx"));
    assert_eq!(from("198.51.100.9").calls(&mut guard, at(1), &access).reason, Reason::WrongPassword);
    let roaming = Caller { username: "roaming", ..from("198.51.100.9") };
    assert_eq!(admitted(&roaming.calls(&mut guard, at(1), &access)).as_deref(), Some("roaming"));
}

#[test]
fn an_answer_is_used_once_and_an_old_nonce_is_called_stale() {
    let access = access(&[password("pbx", &[])]);
    let mut guard = Guard::new([1; 32]);
    let caller = Caller::default();
    let challenge = caller.challenge(&mut guard, at(1), &access);
    let first = caller.answer(&challenge, 1);
    let second = caller.answer(&challenge, 2);

    assert_eq!(caller.says(&mut guard, at(2), &access, &first).reason, Reason::Proved);
    assert_eq!(caller.says(&mut guard, at(3), &access, &second).reason, Reason::Proved);
    let replayed = caller.says(&mut guard, at(3), &access, &first);
    let stale = caller.says(&mut guard, at(2) + limits::NONCE_AGE_MAX * 2, &access, &caller.answer(&challenge, 3));
    let restarted = caller.says(&mut Guard::new([2; 32]), at(2), &access, &second);

    for (judged, reason) in [(replayed, Reason::Replayed), (stale, Reason::StaleNonce), (restarted, Reason::StaleNonce)]
    {
        let Verdict::Challenge(challenges) = judged.verdict else { panic!("{judged:?}") };
        assert!(challenges.iter().all(|challenge| challenge.ends_with("stale=true")), "{challenges:?}");
        assert_eq!(judged.reason, reason);
    }
}

#[test]
fn an_overheard_answer_is_of_no_use_elsewhere_or_for_something_else() {
    let access = access(&[password("pbx", &[])]);
    let mut guard = Guard::new([1; 32]);
    let caller = Caller::default();
    let challenge = caller.challenge(&mut guard, at(1), &access);
    let answer = caller.answer(&challenge, 1);

    let thief = Caller { source: "203.0.113.66", ..caller };
    assert_eq!(thief.says(&mut guard, at(1), &access, &answer).reason, Reason::StaleNonce);
    let other = Caller { method: "MESSAGE", ..caller };
    assert_eq!(other.says(&mut guard, at(1), &access, &answer).reason, Reason::WrongPassword);
}

#[test]
fn a_wrong_password_and_an_unknown_user_look_alike() {
    let access = access(&[password("pbx", &[])]);
    let strip = |judged: &Judgement| match &judged.verdict {
        Verdict::Challenge(challenges) => {
            challenges.iter().map(|c| c.split("nonce").next().map(str::to_owned)).collect()
        }
        other => panic!("{other:?}"),
    };

    let wrong = Caller { password: "falsch", ..Caller::default() }.calls(&mut Guard::new([1; 32]), at(1), &access);
    let unknown = Caller { username: "nobody", ..Caller::default() }.calls(&mut Guard::new([1; 32]), at(1), &access);

    let (wrong, unknown): (Vec<_>, Vec<_>) = (strip(&wrong), strip(&unknown));
    assert_eq!(wrong, unknown);
}

#[test]
fn wrong_passwords_lock_a_source_for_longer_and_longer() {
    let access = access(&[password("pbx", &[])]);
    let mut guard = Guard::new([1; 32]);
    let thief = Caller { password: "falsch", ..Caller::default() };
    let mut now = at(1);

    for lock in [60, 120, 240] {
        for _ in 0..5 {
            assert_eq!(thief.calls(&mut guard, now, &access).reason, Reason::WrongPassword);
            now += Duration::from_secs(70);
        }
        now -= Duration::from_secs(70);
        let silent = guard.judge(now, &access, &invite(thief.source));
        assert_eq!((silent.verdict, silent.reason), (Verdict::Ignore, Reason::LockedOut));
        assert!(!guard.listens_to(now, &access, ip(thief.source)));
        // The right password is of no use either.
        assert_eq!(guard.judge(now, &access, &invite(Caller::default().source)).reason, Reason::LockedOut);
        now += Duration::from_secs(lock);
        assert!(guard.listens_to(now, &access, ip(thief.source)));
    }
    assert_eq!(Caller::default().calls(&mut guard, now, &access).reason, Reason::Proved);
}

#[test]
fn nobody_is_locked_out_by_forged_datagrams() {
    let access = access(&[password("pbx", &[]), networks("carrier", &["192.0.2.0/24"])]);
    let mut guard = Guard::new([1; 32]);
    let peer = Caller::default();
    // Whoever forges an address does not see our challenge, so the nonce is made up, or was drawn for the forger.
    let forger = Caller { source: "203.0.113.66", password: "falsch", ..peer };
    let foreign = forger.answer(&forger.challenge(&mut guard, at(1), &access), 1);

    for _ in 0..20 {
        assert_eq!(peer.says(&mut guard, at(1), &access, &foreign).reason, Reason::WrongPassword);
    }

    assert_eq!(peer.calls(&mut guard, at(2), &access).reason, Reason::Proved);
    let scan = Approach { agent: "friendly-scanner", ..invite("192.0.2.7") };
    assert_eq!(admitted(&guard.judge(at(2), &access, &scan)).as_deref(), Some("carrier"));
    assert!(guard.listens_to(at(2), &access, ip("192.0.2.7")));
}

#[test]
fn a_user_is_locked_for_those_who_never_knew_the_password() {
    let access = access(&[password("pbx", &[])]);
    let mut guard = Guard::new([1; 32]);
    let known = Caller::default();
    assert_eq!(known.calls(&mut guard, at(1), &access).reason, Reason::Proved);

    for thief in 0..13u8 {
        let source = THIEVES[usize::from(thief)];
        for _ in 0..4 {
            Caller { source, password: "falsch", ..known }.calls(&mut guard, at(2), &access);
        }
    }

    let fresh = Caller { source: "203.0.113.200", ..known };
    assert_eq!(fresh.calls(&mut guard, at(3), &access).reason, Reason::WrongPassword);
    assert_eq!(known.calls(&mut guard, at(3), &access).reason, Reason::Proved);
}

#[test]
fn a_scanner_gives_itself_away_by_name_and_by_what_it_does() {
    let rules = Protection {
        strangers: Strangers::Forbidden,
        scanners: vec!["hackphone".into()],
        stranger_requests_per_second: 1_000,
        ..Protection::default()
    };
    let access = with(&[], rules.clone());
    for agent in ["friendly-scanner", "SIPVicious 0.3", "sipcli/v1.8", "HackPhone"] {
        let mut guard = Guard::new([1; 32]);
        let judged = guard.judge(at(1), &access, &Approach { agent, ..invite("198.51.100.1") });
        assert_eq!(
            (judged.verdict, judged.reason, judged.is_news),
            (Verdict::Ignore, Reason::Scanner, true),
            "{agent}"
        );
        assert!(!guard.listens_to(at(2), &access, ip("198.51.100.1")));
        assert!(guard.listens_to(at(2) + rules.silence, &access, ip("198.51.100.1")));
    }
    let mut guard = Guard::new([1; 32]);
    let calls = |guard: &mut Guard, source, user: &str| {
        guard.judge(at(1), &access, &Approach { user, ..invite(source) }).reason
    };

    let numbers: Vec<Reason> = (0..7).map(|n| calls(&mut guard, "198.51.100.2", &format!("90044{n}"))).collect();
    let vain: Vec<Reason> = (0..41).map(|_| calls(&mut guard, "198.51.100.3", "100")).collect();

    assert_eq!(numbers[4..], [Reason::Stranger, Reason::Scanner, Reason::Silenced]);
    assert_eq!(vain[38..], [Reason::Stranger, Reason::Scanner, Reason::Silenced]);
}

#[test]
fn a_guest_who_asks_too_fast_is_not_answered_and_a_trunk_is_told_to_wait() {
    let rules = Protection {
        strangers: Strangers::Forbidden,
        stranger_requests_per_second: 2,
        trunk_requests_per_second: 3,
        ..Protection::default()
    };
    let access = with(&[networks("carrier", &["192.0.2.0/24"])], rules);
    let mut guard = Guard::new([1; 32]);
    let mut ask = |source: &'static str, ms: u64| {
        let judged = guard.judge(Duration::from_millis(ms), &access, &invite(source));
        (judged.reason, judged.is_news)
    };

    let stranger: Vec<_> = (0..5).map(|_| ask("198.51.100.1", 0)).collect();
    assert_eq!(stranger[0], (Reason::Stranger, true));
    assert_eq!(stranger[4], (Reason::StrangerRate, false));
    assert_eq!(ask("198.51.100.1", 1_000), (Reason::Stranger, false));
    let trunk: Vec<_> = (0..8).map(|_| ask("192.0.2.1", 1_000)).collect();
    assert_eq!(trunk[5], (Reason::Recognised, false));
    assert_eq!(trunk[6..], [(Reason::TrunkRate, true), (Reason::TrunkRate, false)]);
    assert_eq!(ask("192.0.2.1", 2_000).0, Reason::Recognised);
}

#[test]
fn an_open_house_lets_in_everybody() {
    let judged = Guard::new([1; 32]).judge(at(0), &Access::open(), &invite("198.51.100.1"));

    assert_eq!((judged.verdict, judged.reason), (Verdict::Admit(None), Reason::Open));
}

#[test]
fn an_access_is_swapped_whole() {
    let in_force = InForce::new(access(&[networks("old", &["192.0.2.0/24"])]));
    let shared = in_force.clone();
    let before = shared.now();

    in_force.replace(access(&[networks("new", &["192.0.2.0/24"])]));

    assert_eq!(before.by_address(ip("192.0.2.1")), Some("old"));
    assert_eq!(shared.now().by_address(ip("192.0.2.1")), Some("new"));
}

/// A hundred thousand requests under fifty thousand forged addresses, within ten seconds.
#[test]
fn a_flood_under_forged_addresses_fills_nothing_beyond_its_bound() {
    let rules = Protection { strangers: Strangers::Challenge, ..Protection::default() };
    let access = with(&[networks("carrier", &["192.0.2.0/24"]), password("pbx", &[])], rules);
    let mut guard = Guard::new([1; 32]);
    let (mut answered, mut lines) = (0, 0);

    for n in 0..100_000u32 {
        let now = Duration::from_micros(u64::from(n) * 100);
        let source = IpAddr::from((0x0a00_0000 + n % 50_000).to_be_bytes());
        let user = format!("9{n}");
        let forged = format!(
            r#"Digest username="pbx", realm="sip", nonce="{n:052x}", uri="sip:x", response="{n:064x}", algorithm=SHA-256"#
        );
        let authorization = [forged];
        let approach = Approach { source, user: &user, authorization: &authorization, ..invite("192.0.2.1") };
        let judged = guard.judge(now, &access, &approach);
        answered += u32::from(judged.verdict != Verdict::Ignore);
        lines += u32::from(judged.is_news);
        assert!(admitted(&judged).is_none());
        if n % 10_000 == 0 {
            // Peers notice nothing: neither the one with an address nor one that proved its password before.
            assert_eq!(admitted(&guard.judge(now, &access, &invite("192.0.2.1"))).as_deref(), Some("carrier"));
        }
    }

    let most = limits::GUARD_SOURCES_MAX + limits::GUARD_LOCKS_MAX + limits::GUARD_FRIENDS_MAX;
    assert!(guard.known() <= most, "{}", guard.known());
    assert!(guard.known() <= limits::GUARD_SOURCES_MAX + 1, "only guests are remembered: {}", guard.known());
    // Ten seconds, and what was full at the beginning.
    assert!(answered <= 12 * limits::GUARD_ANSWERS_PER_SECOND, "{answered}");
    assert!(lines <= limits::GUARD_LINES_PER_MINUTE, "{lines}");
    assert!(guard.counts().len() <= 14);
}

#[test]
fn a_password_holder_gets_through_a_flood() {
    let access = access(&[password("pbx", &[])]);
    let mut guard = Guard::new([1; 32]);
    let peer = Caller::default();
    assert_eq!(peer.calls(&mut guard, at(1), &access).reason, Reason::Proved);

    for n in 0..20_000u32 {
        let source = IpAddr::from((0x0a00_0000 + n).to_be_bytes());
        guard.judge(at(2), &access, &Approach { source, ..invite("192.0.2.1") });
    }

    assert_eq!(peer.calls(&mut guard, at(2), &access).reason, Reason::Proved);
}

proptest! {
    #[test]
    fn nothing_that_is_said_makes_it_panic_or_lets_it_in(
        agent in "\\PC{0,40}",
        user in "\\PC{0,40}",
        words in "(Digest )?\\PC{0,200}",
        ms in 0u64..10_000_000,
    ) {
        let access = access(&[password("pbx", &[])]);
        let authorization = [words];
        let approach = Approach {
            agent: &agent,
            user: &user,
            authorization: &authorization,
            ..invite("198.51.100.1")
        };
        let mut guard = Guard::new([1; 32]);
        let judged = guard.judge(Duration::from_millis(ms), &access, &approach);
        prop_assert_eq!(admitted(&judged), None);
        // Time that stands still or goes back harms nobody.
        guard.judge(Duration::ZERO, &access, &approach);
    }
}

/// Somebody who calls with a password, and answers challenges by other people's arithmetic.
#[derive(Clone, Copy)]
struct Caller {
    source: &'static str,
    username: &'static str,
    password: &'static str,
    method: &'static str,
    /// Which of the challenges it answers.
    algorithm: usize,
}

impl Default for Caller {
    fn default() -> Caller {
        let source = "198.51.100.20";
        Caller { source, username: "pbx", password: "geheim", method: "INVITE", algorithm: 0 }
    }
}

impl Caller {
    fn calls(&self, guard: &mut Guard, now: Duration, access: &Access) -> Judgement {
        let challenge = self.challenge(guard, now, access);
        let answer = self.answer(&challenge, 1);
        self.says(guard, now, access, &answer)
    }

    fn challenge(&self, guard: &mut Guard, now: Duration, access: &Access) -> String {
        let judged = guard.judge(now, access, &Approach { method: self.method, ..invite(self.source) });
        let Verdict::Challenge(mut challenges) = judged.verdict else { panic!("{judged:?}") };
        challenges.swap_remove(self.algorithm)
    }

    fn answer(&self, challenge: &str, count: u32) -> String {
        let challenge = sipx_sip::auth::Challenge::parse(challenge.as_bytes(), false).expect("a readable challenge");
        let credentials = sipx_sip::auth::Credentials::new(self.username, self.password);
        sipx_sip::auth::respond(&challenge, &credentials, self.method, "sip:100@gw.example", count, "0a4f113b")
    }

    fn says(&self, guard: &mut Guard, now: Duration, access: &Access, answer: &str) -> Judgement {
        let authorization = [answer.to_owned()];
        let approach = Approach { authorization: &authorization, method: self.method, ..invite(self.source) };
        guard.judge(now, access, &approach)
    }
}

const THIEVES: [&str; 13] = [
    "203.0.113.1",
    "203.0.113.2",
    "203.0.113.3",
    "203.0.113.4",
    "203.0.113.5",
    "203.0.113.6",
    "203.0.113.7",
    "203.0.113.8",
    "203.0.113.9",
    "203.0.113.10",
    "203.0.113.11",
    "203.0.113.12",
    "203.0.113.13",
];

fn invite(source: &str) -> Approach<'static> {
    Approach {
        source: ip(source),
        is_connected: false,
        tls_names: &[],
        method: "INVITE",
        user: "100",
        agent: "",
        authorization: &[],
    }
}

fn admitted(judged: &Judgement) -> Option<String> {
    match &judged.verdict {
        Verdict::Admit(trunk) => trunk.as_deref().map(str::to_owned),
        Verdict::Challenge(_) | Verdict::Forbid | Verdict::TooMany { .. } | Verdict::Ignore => None,
    }
}

fn access(trunks: &[Trunk]) -> Access {
    with(trunks, Protection::default())
}

fn with(trunks: &[Trunk], rules: Protection) -> Access {
    Access::new(trunks, |_| Some(Secret::new("geheim")), rules, Contacts::default())
}

fn password(id: &str, allowed: &[&str]) -> Trunk {
    let trunk = networks(id, allowed);
    let credentials =
        Credentials { username: id.to_owned(), password: SecretRef::Env("PASSWORD".to_owned()), realm: None };
    Trunk { inbound: Inbound { digest: Some(credentials), ..trunk.inbound }, ..trunk }
}

fn networks(id: &str, allowed: &[&str]) -> Trunk {
    Trunk {
        id: id.to_owned(),
        title: id.to_owned(),
        is_trusted: false,
        country: None,
        codecs: Vec::new(),
        leads_codecs: false,
        media_security: crate::model::MediaSecurity::Off,
        inbound: Inbound {
            allowed: allowed.iter().map(|network| network.parse().unwrap()).collect(),
            ..Inbound::default()
        },
        outbound: None,
        registration: None,
        limits: TrunkLimits::default(),
        session: SessionRules::default(),
        transfer: ReferRules::default(),
        identity: IdentityRules::default(),
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(s: u64) -> Duration {
    Duration::from_secs(s)
}
