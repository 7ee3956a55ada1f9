//! Calls across a network that loses, doubles and re-orders one packet in ten, both ways: two of our own ends, so that
//! both roles meet every gap. The dice have a known seed; which packet meets which throw is up to the scheduler.

#![allow(clippy::disallowed_methods, reason = "what is left over is asked for until the protocol's own time is up")]

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ringback::model::Pii;
use ringback::sip::{Dial, DialogId, Failure, SipCommand, SipEvent, Transport};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

use crate::house::{Crm, House};
use crate::sip_probe::{Gateway, SDP};

/// Percent of packets that are lost, that come twice, and that come later than those behind them.
#[derive(Clone, Copy)]
struct Trouble {
    lost: u64,
    doubled: u64,
    late: u64,
}

/// A network between two ends. Each end sees the other at an address of the network's, as behind a NAT.
struct Network {
    /// Where the first end finds the second.
    second: SocketAddr,
    /// Where the second end finds the first.
    first: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Network {
    async fn between(first: SocketAddr, second: SocketAddr, trouble: Trouble, seed: u64) -> Network {
        // Another address than the ends': what they write about themselves is not where they were met.
        let socket = || UdpSocket::bind("127.0.0.2:0");
        let (left, right) = (socket().await.unwrap(), socket().await.unwrap());
        let (seen_left, seen_right) = (left.local_addr().unwrap(), right.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        tasks.spawn(carry(left, right, first, second, trouble, seed));
        Network { second: seen_left, first: seen_right, _tasks: tasks }
    }
}

/// What is on its way: to be sent after so many more packets, or ticks when none come.
struct Held {
    after: u64,
    to_second: bool,
    octets: Vec<u8>,
}

async fn carry(left: UdpSocket, right: UdpSocket, first: SocketAddr, second: SocketAddr, trouble: Trouble, seed: u64) {
    let mut dice = seed;
    let mut roll = move |percent: u64| {
        // xorshift64.
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        dice % 100 < percent
    };
    let mut held: VecDeque<Held> = VecDeque::new();
    let mut tick = interval(Duration::from_millis(2));
    let (mut from_left, mut from_right) = (vec![0; 65536], vec![0; 65536]);
    loop {
        let arrived = tokio::select! {
            Ok(length) = left.recv(&mut from_left) => Some((true, from_left[..length].to_vec())),
            Ok(length) = right.recv(&mut from_right) => Some((false, from_right[..length].to_vec())),
            _ = tick.tick() => None,
        };
        for waiting in &mut held {
            waiting.after = waiting.after.saturating_sub(1);
        }
        if let Some((to_second, octets)) = arrived
            && !roll(trouble.lost)
        {
            let copies = if roll(trouble.doubled) { 2 } else { 1 };
            for _ in 0..copies {
                let after = if roll(trouble.late) { 1 + u64::from(roll(50)) + 2 * u64::from(roll(50)) } else { 0 };
                held.push_back(Held { after, to_second, octets: octets.clone() });
            }
        }
        let (due, rest): (Vec<Held>, Vec<Held>) = held.drain(..).partition(|waiting| waiting.after == 0);
        held.extend(rest);
        for packet in due {
            let sent = if packet.to_second {
                right.send_to(&packet.octets, second).await
            } else {
                left.send_to(&packet.octets, first).await
            };
            assert!(sent.is_ok_and(|length| length == packet.octets.len()));
        }
    }
}

/// What happens to a call; its number says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Story {
    CallerHangsUp,
    CalleeHangsUp,
    BothHangUp,
    /// The caller offers again, and hangs up when that is settled.
    Changes,
    GivenUpWhileItRings,
    GivenUpAtOnce,
    Busy,
}

const STORIES: [Story; 7] = [
    Story::CallerHangsUp,
    Story::CalleeHangsUp,
    Story::BothHangUp,
    Story::Changes,
    Story::GivenUpWhileItRings,
    Story::GivenUpAtOnce,
    Story::Busy,
];

/// A call as one end sees it.
#[derive(Debug)]
struct Side {
    story: Story,
    is_caller: bool,
    /// Everything that was told, in order.
    told: Vec<&'static str>,
    ended: Option<&'static str>,
    since: Instant,
}

impl Side {
    fn new(story: Story, is_caller: bool) -> Side {
        Side { story, is_caller, told: Vec::new(), ended: None, since: Instant::now() }
    }
}

/// One end with its calls.
struct End {
    gateway: Gateway,
    sides: BTreeMap<DialogId, Side>,
}

impl End {
    async fn dial(&mut self, number: usize, to: SocketAddr) {
        let story = STORIES[number % STORIES.len()];
        let dialog = self.gateway.sip.new_dialog();
        let dial = Dial {
            to: format!("sip:{number}@{to}"),
            from_user: Pii::new("+441632960001".to_owned()),
            sdp: SDP.to_owned(),
            target: Some((to, Transport::Udp)),
            ..Dial::default()
        };
        self.sides.insert(dialog, Side::new(story, true));
        self.gateway.sip.send(dialog, SipCommand::Dial(Box::new(dial))).await;
        if story == Story::GivenUpAtOnce {
            self.hang_up(dialog).await;
        }
    }

    async fn hang_up(&mut self, dialog: DialogId) {
        self.gateway.sip.send(dialog, SipCommand::HangUp { cause: Some(16) }).await;
    }

    async fn on_event(&mut self, event: SipEvent) {
        let dialog = event.dialog();
        if let SipEvent::Invited { invite, .. } = &event {
            let number: usize = invite.called_user.parse().expect("the number of the call");
            let story = STORIES[number % STORIES.len()];
            let known = self.sides.insert(dialog, Side::new(story, false));
            assert!(known.is_none());
            self.gateway.sip.send(dialog, SipCommand::Ring).await;
            match story {
                Story::Busy => {
                    let no = SipCommand::Reject { status: 486, reason: None, retry_after_s: None, warning: None };
                    self.gateway.sip.send(dialog, no).await;
                    // A refusal is the last word that either side of the room speaks of it.
                    self.side(dialog).ended = Some("refused");
                }
                Story::GivenUpWhileItRings | Story::GivenUpAtOnce => {}
                Story::CallerHangsUp | Story::CalleeHangsUp | Story::BothHangUp | Story::Changes => {
                    self.gateway.sip.send(dialog, SipCommand::Answer { sdp: SDP.to_owned() }).await;
                }
            }
            return;
        }
        let side = self.side(dialog);
        let (word, is_end) = match &event {
            SipEvent::Ringing { .. } => ("ringing", false),
            SipEvent::Answered { .. } => ("answered", false),
            SipEvent::Confirmed { .. } => ("confirmed", false),
            SipEvent::Canceled { .. } => ("canceled", true),
            SipEvent::AckMissing { .. } => ("no ACK", true),
            SipEvent::Ended { .. } => ("ended", true),
            SipEvent::Lost { .. } => ("lost", true),
            SipEvent::Reinvited { .. } => ("changed", false),
            SipEvent::ReofferFailed { .. } => ("unchanged", false),
            SipEvent::Failed { failure: Failure::Refused { status: 486, .. }, .. } => ("busy", true),
            SipEvent::Failed { .. } => ("failed", true),
            other => panic!("{other:?}"),
        };
        side.told.push(word);
        if is_end {
            assert_eq!(side.ended, None, "a second end: {side:?}");
            side.ended = Some(word);
        }
        let (story, is_caller) = (side.story, side.is_caller);
        let says_goodbye = matches!(
            (story, is_caller, word),
            (Story::CallerHangsUp | Story::BothHangUp, true, "answered")
                | (Story::CalleeHangsUp | Story::BothHangUp, false, "confirmed")
                | (Story::Changes, true, "changed" | "unchanged")
                | (Story::GivenUpWhileItRings, true, "ringing")
        );
        if says_goodbye {
            self.hang_up(dialog).await;
        } else if (story, is_caller, word) == (Story::Changes, true, "answered") {
            self.gateway.sip.send(dialog, SipCommand::Reoffer { sdp: SDP.to_owned() }).await;
        }
    }

    /// A 180 is said once a minute, and it may have been lost: who wants to give up does so in the end.
    async fn lose_patience(&mut self) {
        let waits = |side: &Side| {
            side.story == Story::GivenUpWhileItRings
                && side.is_caller
                && side.ended.is_none()
                && side.since.elapsed() > PATIENCE / 4
        };
        let weary: Vec<DialogId> =
            self.sides.iter().filter(|(_, side)| waits(side)).map(|(dialog, _)| *dialog).collect();
        for dialog in weary {
            self.hang_up(dialog).await;
        }
    }

    fn side(&mut self, dialog: DialogId) -> &mut Side {
        self.sides.get_mut(&dialog).expect("a dialog that was begun")
    }

    /// How many of our own INVITEs may have been refused: those that came to nothing, and a second offer that came too
    /// soon for the other side. By RFC 3261 §17.1.1.2 their transactions stay for 32 s however short T1 is (timer D),
    /// longer than a test may last.
    fn refusals(&self) -> u64 {
        let may_be_refused =
            |side: &&Side| side.is_caller && (!side.told.contains(&"answered") || side.story == Story::Changes);
        self.sides.values().filter(may_be_refused).count() as u64
    }

    fn is_done(&self) -> bool {
        self.sides.values().all(|side| side.ended.is_some())
    }

    fn living(&self) -> usize {
        self.sides.values().filter(|side| side.ended.is_none()).count()
    }
}

const T1_MS: u64 = 15;
/// 64·T1, after which a silent peer counts as gone.
const PATIENCE: Duration = Duration::from_millis(64 * T1_MS);

#[tokio::test]
async fn every_call_across_a_bad_network_ends_and_leaves_nothing() {
    const CALLS: usize = 364;
    const AT_ONCE: usize = 24;
    let seed = 0x0bad_0e70;
    println!("seed {seed:#x}");
    let began = Instant::now();
    let mut ends = Vec::new();
    for _ in 0..2 {
        ends.push(End { gateway: Gateway::hasty(T1_MS).await, sides: BTreeMap::new() });
    }
    let (mut two, mut one) = (ends.pop().unwrap(), ends.pop().unwrap());
    let trouble = Trouble { lost: 10, doubled: 10, late: 10 };
    let network = Network::between(one.gateway.udp, two.gateway.udp, trouble, seed).await;

    let mut next = 0;
    let mut tick = interval(Duration::from_millis(10));
    // Far longer than the slowest of them needs; only a call without an end gets there.
    let all_end = timeout(Duration::from_secs(60), async {
        while next < CALLS || !one.is_done() || !two.is_done() {
            while next < CALLS && one.living() + two.living() < AT_ONCE {
                // The first seven from one side, the next seven from the other.
                if (next / STORIES.len()).is_multiple_of(2) {
                    one.dial(next, network.second).await;
                } else {
                    two.dial(next, network.first).await;
                }
                next += 1;
            }
            tokio::select! {
                Some(event) = one.gateway.events.recv() => one.on_event(event).await,
                Some(event) = two.gateway.events.recv() => two.on_event(event).await,
                _ = tick.tick() => {
                    one.lose_patience().await;
                    two.lose_patience().await;
                }
            }
        }
    });
    let in_time = all_end.await;
    assert!(in_time.is_ok(), "calls without an end: {:#?}", unended(&[&one, &two]));

    // Whatever was cut off by the loss of its last words is forgotten after 64·T1, on both sides, and so are the
    // transactions of those words.
    let last = Instant::now();
    for end in [&one, &two] {
        let is_empty = || {
            let left = end.gateway.sip.counters();
            left.dialogs == 0 && left.transactions <= end.refusals()
        };
        while !is_empty() {
            // A BYE that nobody answers has 64·T1 of its own behind the 64·T1 of its call.
            assert!(last.elapsed() < 2 * PATIENCE + Duration::from_secs(2), "{:?}", end.gateway.sip.counters());
            tick.tick().await;
        }
    }

    println!("{CALLS} calls in {:?}, nothing left {:?} after the last", last - began, last.elapsed());
    report(&[&one, &two]);
    let repeated: u64 = [&one, &two].map(|end| end.gateway.sip.counters().repeated).iter().sum();
    assert!(repeated > 100, "the network was no trouble: {repeated} repetitions");
    let answered = count(&[&one, &two], |side| side.is_caller && side.told.contains(&"answered"));
    assert_eq!(answered, CALLS * 4 / STORIES.len(), "one packet in ten is no reason to lose a call");
}

/// No other test has its audio here.
const PORTS: std::ops::RangeInclusive<u16> = 4_400..=4_799;

#[tokio::test(flavor = "multi_thread")]
async fn every_port_is_free_again_after_calls_across_a_bad_network() {
    const CALLS: usize = 60;
    const AT_ONCE: usize = 20;
    let echo = "version = 1\ntitle = \"D\"\nconnector = \"echo\"\n".to_owned();
    let files = [("agents/desk.toml", echo), ("trunks/carrier.toml", TRUNK.to_owned())];
    let house = House::open_among(Crm::open(&[]).await, &files, "", PORTS).await;
    let taken = || PORTS.filter(|port| std::net::UdpSocket::bind(("127.0.0.1", *port)).is_err()).count();
    assert_eq!(taken(), 0, "nobody else uses them");
    let mut caller = Gateway::hasty(T1_MS).await;
    let trouble = Trouble { lost: 10, doubled: 10, late: 10 };
    let network = Network::between(caller.udp, house.gateway.sip_addrs()[0].0, trouble, 0xfeed_0b0e).await;
    let (mut begun, mut over, mut answered, mut most_taken) = (0, 0, 0, 0);

    let all_end = timeout(Duration::from_secs(60), async {
        while over < CALLS {
            while begun < CALLS && begun - over < AT_ONCE {
                let dial = Dial {
                    to: format!("sip:100@{}", network.second),
                    from_user: Pii::new("+441632960001".to_owned()),
                    sdp: SDP.to_owned(),
                    target: Some((network.second, Transport::Udp)),
                    ..Dial::default()
                };
                caller.sip.send(caller.sip.new_dialog(), SipCommand::Dial(Box::new(dial))).await;
                begun += 1;
            }
            match caller.event().await {
                SipEvent::Answered { dialog, .. } => {
                    answered += 1;
                    most_taken = most_taken.max(taken());
                    caller.sip.send(dialog, SipCommand::HangUp { cause: None }).await;
                }
                SipEvent::Ended { .. } | SipEvent::Failed { .. } | SipEvent::Lost { .. } => over += 1,
                _ => {}
            }
        }
    });
    assert!(all_end.await.is_ok(), "{over} of {CALLS} calls are over");

    // The gateway's own timers are the usual ones: what lost its last words is forgotten 64·T1 = 32 s later, and a BYE of
    // ours that nobody answers once more that.
    let last = Instant::now();
    while (house.gateway.calls(), taken()) != (0, 0) {
        assert!(last.elapsed() < Duration::from_secs(64), "{} calls, {} ports", house.gateway.calls(), taken());
        tokio::task::yield_now().await;
    }
    println!("{answered} of {CALLS} answered; {most_taken} ports at most, none {:?} after the last", last.elapsed());
    assert!(answered > CALLS / 2 && most_taken > 0, "{answered} answered, {most_taken} ports taken");
    house.gateway.shutdown().await;
}

const TRUNK: &str = "version = 1\ntitle = \"C\"\n[inbound]\nallowed_addresses = [\"127.0.0.0/8\"]\n";

fn unended<'a>(ends: &[&'a End]) -> Vec<&'a Side> {
    ends.iter().flat_map(|end| end.sides.values()).filter(|side| side.ended.is_none()).collect()
}

fn count(ends: &[&End], is_it: impl Fn(&Side) -> bool) -> usize {
    ends.iter().flat_map(|end| end.sides.values()).filter(|side| is_it(side)).count()
}

/// How the calls of each kind ended, on both sides.
fn report(ends: &[&End]) {
    let mut ways: BTreeMap<(Story, bool, &str), usize> = BTreeMap::new();
    for side in ends.iter().flat_map(|end| end.sides.values()) {
        *ways.entry((side.story, side.is_caller, side.ended.unwrap_or("-"))).or_default() += 1;
    }
    for ((story, is_caller, end), count) in ways {
        println!("{story:<22?} {:<7} {end:<10} {count:>4}", if is_caller { "caller" } else { "callee" });
    }
    for end in ends {
        println!("{:?}", end.gateway.sip.counters());
    }
}
