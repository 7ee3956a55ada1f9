//! The thread that carries sound: sockets, the slot wheel, and many calls.
//!
//! A slot is one millisecond, a call ticks in one of twenty phases. Slots have absolute deadlines: a late one does not
//! make the next one late. Every slot takes the network first, however late it is; a thread that is more than 60 ms
//! behind leaves the missed slots out, and the calls conceal the hole. In the steady state there is no lock, no log
//! line, and no allocation but the batch of notices and the boxed frames for agents.
//!
//! The threads are not pinned to cores: that takes a system call for which no crate in use has a safe form, and a
//! service manager can do it from outside.
#![allow(
    clippy::disallowed_methods,
    reason = "the wheel is the one place that turns real time into scheduled time, and that waits for it"
)]

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};
use std::{io, mem};

use mio::{Events, Interest, Poll, Token};
use tokio::sync::mpsc;

use super::control::{CallState, Command, Lane, What};
use super::desk::{Desk, Out};
use super::notice::{Notice, Noticed};
use super::pipe::{PIPED, Pipe};
use super::ports::BoundPort;
use super::rtp_leg::RtpPeer;
use super::writer::{Tape, WriterDesk};
use crate::model::limits::{
    DATAGRAMS_PER_SLOT_MAX, NOTICES_HELD_PER_LEG_MAX, RTP_PORT_REST, SPEECH_PER_TICK_MAX, STALE_SPEECH_PER_TICK_MAX,
};
use crate::model::{CallId, FRAME_MS, Heard, LegId, Mouth, Speech, Time};

/// One media thread.
pub(super) struct Worker {
    poll: Poll,
    lane: Arc<Lane>,
    mailbox: Receiver<Command>,
    notices: mpsc::Sender<Vec<Notice>>,
    writer: WriterDesk,
    began: Instant,
    calls: HashMap<CallId, Call>,
    /// Calls by the slot in which they tick.
    phases: [Vec<CallId>; PHASES],
    /// By half of their token in the poll.
    sockets: Vec<Option<Socket>>,
    /// Tokens whose socket was not read empty.
    unread: Vec<Token>,
    /// Calls with legs that are reached by a pipe.
    piped: Vec<CallId>,
    /// Closed ports, until they may be used again.
    resting: VecDeque<(Time, BoundPort)>,
    out: Out,
    lateness: Lateness,
}

impl Worker {
    /// The token of the waker.
    pub(super) const WAKER: Token = Token(usize::MAX);

    pub(super) fn new(
        poll: Poll,
        lane: Arc<Lane>,
        mailbox: Receiver<Command>,
        notices: mpsc::Sender<Vec<Notice>>,
        writer: WriterDesk,
    ) -> Worker {
        Worker {
            poll,
            lane,
            mailbox,
            notices,
            writer,
            began: Instant::now(),
            calls: HashMap::new(),
            phases: std::array::from_fn(|_| Vec::new()),
            sockets: Vec::new(),
            unread: Vec::new(),
            piped: Vec::new(),
            resting: VecDeque::new(),
            out: Out::default(),
            lateness: Lateness::default(),
        }
    }

    /// Turns until the lane says stop.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        let mut wheel = Wheel { slot: 0 };
        while !self.lane.stopping.load(Ordering::Acquire) {
            if self.is_idle() {
                self.wait_for_work(&mut events);
                wheel.slot = self.now().as_ms() + 1;
            }
            let now = self.now();
            if let Some(early) = wheel.early(now) {
                std::thread::sleep(early);
            }
            let (slot, late) = wheel.turn(self.now());
            self.lateness.add(late);
            self.slot(slot, &mut events);
            if slot % 1000 == 0 {
                self.lane.lateness_us.store(self.lateness.p99_us(), Ordering::Relaxed);
            }
        }
        let now = self.now();
        let calls: Vec<CallId> = self.calls.keys().copied().collect();
        calls.into_iter().for_each(|call| self.close_call(now, call));
        self.hand_over();
    }

    fn slot(&mut self, slot: u64, events: &mut Events) {
        let now = Time::from_ms(slot);
        self.take_commands(now);
        self.take_network(now, events);
        self.tick_calls(now, (slot % PHASES as u64) as usize);
        while self.resting.front().is_some_and(|(since, _)| now - *since >= RTP_PORT_REST) {
            self.resting.pop_front();
        }
        self.hand_over();
    }

    fn is_idle(&self) -> bool {
        self.calls.is_empty() && self.resting.is_empty() && self.out.notices.is_empty()
    }

    /// Without a call there is nothing to be on time for.
    fn wait_for_work(&mut self, events: &mut Events) {
        self.lane.asleep.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let now = self.now();
        let is_empty = !self.take_commands(now);
        if is_empty && !self.lane.stopping.load(Ordering::Acquire) {
            // Bounded, should a wake-up ever be lost. An error shows again in the next slot.
            let _ = self.poll.poll(events, Some(IDLE_WAIT));
        }
        self.lane.asleep.store(false, Ordering::SeqCst);
        self.lane.lateness_us.store(0, Ordering::Relaxed);
    }

    fn take_commands(&mut self, now: Time) -> bool {
        let mut took = false;
        while let Ok(command) = self.mailbox.try_recv() {
            command.state.waiting.fetch_sub(1, Ordering::AcqRel);
            self.carry_out(now, command);
            took = true;
        }
        took
    }

    fn carry_out(&mut self, now: Time, Command { call: id, state, what }: Command) {
        let phase = self.emptiest_phase();
        let call = self.calls.entry(id).or_insert_with(|| {
            self.phases[phase].push(id);
            Call::new(id, state, phase)
        });
        let out = &mut self.out;
        match what {
            What::OpenRtp { leg, port, seed, loopback_only } => {
                self.close_leg(now, id, leg);
                self.open_rtp(now, id, leg, port, seed, loopback_only);
            }
            What::OpenPipe { leg, pipe, seed } => {
                self.close_leg(now, id, leg);
                if let Some(call) = self.calls.get_mut(&id) {
                    call.desk.open_rtp(now, leg, seed, false, &mut self.out);
                    call.pipes.push((leg, pipe));
                    if !self.piped.contains(&id) {
                        self.piped.push(id);
                    }
                }
            }
            What::OpenAgent { leg, form, barge_in, speech, mouth } => {
                self.close_leg(now, id, leg);
                if let Some(call) = self.calls.get_mut(&id) {
                    call.desk.open_agent(leg, form, barge_in, &mut self.out);
                    call.agents.push(Agent { leg, speech, mouth });
                }
            }
            What::OpenEcho { leg } => {
                self.close_leg(now, id, leg);
                if let Some(call) = self.calls.get_mut(&id) {
                    call.desk.open_echo(leg, &mut self.out);
                }
            }
            What::ExpectKeys { leg } => call.desk.expect_keys(leg),
            What::SetRemote { leg, peer } => {
                let is_piped = call.pipes.iter().any(|(of, _)| *of == leg);
                let remote = if is_piped { PIPED } else { peer.remote };
                call.desk.set_remote(now, leg, RtpPeer { remote, ..*peer });
            }
            What::Wire { hears } => call.desk.wire(&hears),
            What::Play { leg, play, clips, repeat, gain_db } => {
                call.desk.play(leg, play, clips, repeat, gain_db, out);
            }
            What::Stop { leg } => call.desk.stop(leg, out),
            What::SendDigits { leg, digits } => call.desk.send_digits(leg, &digits, out),
            What::Record { order, left } => {
                call.stop_recording(now, out);
                match self.writer.open(id, left, *order) {
                    Ok(tape) => {
                        call.tape = Some(tape);
                        call.desk.record(call.tick_before(now), left);
                    }
                    Err(path) => {
                        let error = Some("too many recordings wait to be opened".into());
                        let what = Noticed::RecordingClosed { path, frames: 0, error };
                        out.notices.push(Notice { call: id, leg: left, what });
                    }
                }
            }
            What::MaskRecording { is_masked } => call.desk.mask_recording(now, is_masked),
            What::DiscardRecording => {
                // What is still open goes with the rest.
                call.desk.stop_recording(now, out);
                out.pairs.clear();
                call.tape.take().into_iter().for_each(Tape::discard);
            }
            What::StopRecording => call.stop_recording(now, out),
            What::CloseLeg { leg } => self.close_leg(now, id, leg),
        }
    }

    fn emptiest_phase(&self) -> usize {
        (0..PHASES).min_by_key(|phase| self.phases[*phase].len()).unwrap_or(0)
    }

    fn open_rtp(&mut self, now: Time, id: CallId, leg: LegId, port: BoundPort, seed: u64, loopback_only: bool) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let free = self.sockets.iter().position(Option::is_none);
        let token = Token(free.unwrap_or_else(|| {
            self.sockets.push(None);
            self.sockets.len() - 1
        }));
        let mut socket = Socket { port, call: id, leg };
        let (audio, reports) = (Token(token.0 * 2), Token(token.0 * 2 + 1));
        let registry = self.poll.registry();
        let registered = registry
            .register(&mut socket.port.socket, audio, Interest::READABLE)
            .and_then(|()| registry.register(&mut socket.port.reports, reports, Interest::READABLE));
        self.sockets[token.0] = Some(socket);
        call.sockets.push((leg, token));
        call.desk.open_rtp(now, leg, seed, loopback_only, &mut self.out);
        if registered.is_err() {
            // The kernel is out of memory for watches. A leg that hears nothing is better closed, which is reported.
            self.close_leg(now, id, leg);
        }
    }

    fn close_leg(&mut self, now: Time, id: CallId, leg: LegId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.desk.close_leg(leg, &mut self.out);
        // Its last report goes out by its own socket.
        call.send(&self.sockets, &mut self.out);
        call.agents.retain(|agent| agent.leg != leg);
        call.pipes.retain(|(of, _)| *of != leg);
        if call.pipes.is_empty() {
            self.piped.retain(|piped| *piped != id);
        }
        let mut closed = None;
        call.sockets.retain(|(of, token)| {
            if *of == leg {
                closed = Some(*token);
            }
            *of != leg
        });
        if let Some(mut socket) = closed.and_then(|token| self.sockets[token.0].take()) {
            // Fails only for a socket that was never registered.
            let _ = self.poll.registry().deregister(&mut socket.port.socket);
            let _ = self.poll.registry().deregister(&mut socket.port.reports);
            self.resting.push_back((now, socket.port));
        }
    }

    fn close_call(&mut self, now: Time, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.stop_recording(now, &mut self.out);
        while let Some((leg, _)) = self.calls.get(&id).and_then(|call| call.sockets.last().copied()) {
            self.close_leg(now, id, leg);
        }
        self.piped.retain(|piped| *piped != id);
        if let Some(mut call) = self.calls.remove(&id) {
            call.desk.close(&mut self.out);
            self.phases[call.phase].retain(|other| *other != id);
        }
    }

    fn take_network(&mut self, now: Time, events: &mut Events) {
        // An error is an interruption by a signal, or lasts: either way the next slot asks again.
        if self.poll.poll(events, Some(Duration::ZERO)).is_err() {
            return;
        }
        let mut again = mem::take(&mut self.unread);
        again.retain(|token| self.read_socket(now, *token));
        for event in events.iter().filter(|event| event.token() != Worker::WAKER) {
            if !again.contains(&event.token()) && self.read_socket(now, event.token()) {
                again.push(event.token());
            }
        }
        self.unread = again;
        self.read_pipes(now);
    }

    fn read_pipes(&mut self, now: Time) {
        for id in &self.piped {
            let Some(call) = self.calls.get_mut(id) else { continue };
            for (leg, pipe) in &mut call.pipes {
                for _ in 0..DATAGRAMS_PER_SLOT_MAX {
                    let Ok(datagram) = pipe.inward.try_recv() else { break };
                    call.desk.datagram(now, *leg, PIPED, &datagram, &mut self.out);
                }
            }
            call.send(&self.sockets, &mut self.out);
        }
    }

    /// Reads a socket empty, or up to its share of a slot; returns whether something may be left.
    fn read_socket(&mut self, now: Time, token: Token) -> bool {
        let Some(socket) = self.sockets.get(token.0 / 2).and_then(Option::as_ref) else { return false };
        let Some(call) = self.calls.get_mut(&socket.call) else { return false };
        // Two tokens for each pair of ports.
        let is_for_reports = token.0 % 2 == 1;
        let from_network = if is_for_reports { &socket.port.reports } else { &socket.port.socket };
        let mut buffer = [0; DATAGRAM];
        let mut is_left = true;
        for _ in 0..DATAGRAMS_PER_SLOT_MAX {
            match from_network.recv_from(&mut buffer) {
                Ok((len, from)) if is_for_reports => call.desk.report(now, socket.leg, from, &buffer[..len]),
                Ok((len, from)) => call.desk.datagram(now, socket.leg, from, &buffer[..len], &mut self.out),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    is_left = false;
                    break;
                }
                // What an earlier packet of ours met: nobody listens there yet, or any more.
                Err(_) => {}
            }
        }
        call.send(&self.sockets, &mut self.out);
        is_left
    }

    fn tick_calls(&mut self, now: Time, phase: usize) {
        let mut closed: Option<Vec<CallId>> = None;
        for id in &self.phases[phase] {
            let Some(call) = self.calls.get_mut(id) else { continue };
            if call.state.closed.load(Ordering::Acquire) {
                closed.get_or_insert_default().push(*id);
                continue;
            }
            call.tick(now, &mut self.out);
            call.send(&self.sockets, &mut self.out);
        }
        for id in closed.into_iter().flatten() {
            self.close_call(now, id);
        }
    }

    /// One batch per slot. A gateway that does not keep up gets it later, with the oldest frames left out.
    fn hand_over(&mut self) {
        if self.out.notices.is_empty() {
            return;
        }
        if let Ok(permit) = self.notices.try_reserve() {
            let room = Vec::with_capacity(self.out.notices.len());
            permit.send(mem::replace(&mut self.out.notices, room));
            return;
        }
        let agents: usize = self.calls.values().map(|call| call.agents.len()).sum();
        let dropped = leave_out_frames(&mut self.out.notices, NOTICES_HELD_PER_LEG_MAX * agents.max(1));
        self.lane.frames_dropped.fetch_add(dropped as u64, Ordering::Relaxed);
    }

    fn now(&self) -> Time {
        Time::ZERO + self.began.elapsed()
    }
}

struct Socket {
    port: BoundPort,
    call: CallId,
    leg: LegId,
}

/// A call and what belongs to it outside the pure part.
struct Call {
    desk: Desk,
    state: Arc<CallState>,
    phase: usize,
    agents: Vec<Agent>,
    sockets: Vec<(LegId, Token)>,
    pipes: Vec<(LegId, Pipe)>,
    tape: Option<Tape>,
}

struct Agent {
    leg: LegId,
    speech: mpsc::Receiver<Speech>,
    mouth: mpsc::Receiver<Mouth>,
}

impl Call {
    fn new(id: CallId, state: Arc<CallState>, phase: usize) -> Call {
        let (agents, sockets, pipes) = (Vec::new(), Vec::new(), Vec::new());
        Call { desk: Desk::new(id), state, phase, agents, sockets, pipes, tape: None }
    }

    fn tick(&mut self, now: Time, out: &mut Out) {
        for agent in &mut self.agents {
            while let Ok(mouth) = agent.mouth.try_recv() {
                self.desk.mouth(agent.leg, mouth, out);
            }
            // What an interruption made stale costs nothing to skip, and must not hold up what comes after it.
            let (mut wanted, mut taken) = (0, 0);
            while wanted < SPEECH_PER_TICK_MAX && taken < STALE_SPEECH_PER_TICK_MAX && self.desk.has_room(agent.leg) {
                let Ok(speech) = agent.speech.try_recv() else { break };
                wanted += usize::from(self.desk.speech(agent.leg, speech));
                taken += 1;
            }
        }
        self.desk.tick(now, out);
        self.write(out);
    }

    /// The tick at or before a moment: recordings count from there.
    fn tick_before(&self, now: Time) -> Time {
        let frame = u64::from(FRAME_MS);
        let into = (now.as_ms() + frame - self.phase as u64) % frame;
        Time::from_ms(now.as_ms().saturating_sub(into))
    }

    fn stop_recording(&mut self, now: Time, out: &mut Out) {
        self.desk.stop_recording(now, out);
        self.write(out);
        self.tape = None;
    }

    fn write(&mut self, out: &mut Out) {
        for pair in out.pairs.drain(..) {
            if self.tape.as_mut().is_some_and(|tape| !tape.write(pair)) {
                self.tape = None;
            }
        }
    }

    fn send(&self, sockets: &[Option<Socket>], out: &mut Out) {
        for (leg, to, packet) in out.packets() {
            let token = self.sockets.iter().find(|(of, _)| *of == leg).map(|(_, token)| *token);
            if let Some(socket) = token.and_then(|token| sockets.get(token.0)).and_then(Option::as_ref) {
                // A full buffer or an unreachable peer loses the packet, as the network would.
                let _ = socket.port.socket.send_to(packet, to);
            } else if let Some((_, pipe)) = self.pipes.iter().find(|(of, _)| *of == leg) {
                let _ = pipe.outward.try_send(packet.to_vec());
            }
        }
        for (leg, to, is_muxed, report) in out.reports() {
            let token = self.sockets.iter().find(|(of, _)| *of == leg).map(|(_, token)| *token);
            if let Some(socket) = token.and_then(|token| sockets.get(token.0)).and_then(Option::as_ref) {
                let by = if is_muxed { &socket.port.socket } else { &socket.port.reports };
                // As above.
                let _ = by.send_to(report, to);
            }
        }
        out.clear_packets();
    }
}

/// Drops the older half of too many notices, as far as they are frames. Returns how many.
fn leave_out_frames(notices: &mut Vec<Notice>, room: usize) -> usize {
    let held = notices.len();
    if held <= room {
        return 0;
    }
    let mut surplus = held / 2;
    notices.retain(|notice| {
        let is_surplus = surplus > 0 && matches!(notice.what, Noticed::Heard(Heard::Frame(_) | Heard::Linear(_)));
        surplus -= usize::from(is_surplus);
        !is_surplus
    });
    held - notices.len()
}

/// Which slot is next, by absolute deadlines.
struct Wheel {
    slot: u64,
}

impl Wheel {
    /// How long until the next slot is due; `None` when it is.
    fn early(&self, now: Time) -> Option<Duration> {
        let due = Time::from_ms(self.slot);
        (now < due).then(|| due - now)
    }

    /// The slot to run now, and how late it is. What is more than 60 ms late is left out.
    fn turn(&mut self, now: Time) -> (u64, Duration) {
        let late = now - Time::from_ms(self.slot);
        if late > LATE_MAX {
            self.slot = now.as_ms();
        }
        let slot = self.slot;
        self.slot += 1;
        (slot, late)
    }
}

/// How late slots were, in tenths of a millisecond; the past counts half with every second.
struct Lateness {
    slots: [u32; 1024],
}

impl Default for Lateness {
    fn default() -> Lateness {
        Lateness { slots: [0; 1024] }
    }
}

impl Lateness {
    fn add(&mut self, late: Duration) {
        let tenths = (late.as_micros() / 100).min(1023) as usize;
        self.slots[tenths] += 1;
    }

    fn p99_us(&mut self) -> u64 {
        let total: u32 = self.slots.iter().sum();
        let mut below = 0;
        let at = self.slots.iter().position(|count| {
            below += count;
            u64::from(below) * 100 >= u64::from(total) * 99
        });
        self.slots.iter_mut().for_each(|count| *count /= 2);
        at.unwrap_or(0) as u64 * 100
    }
}

const PHASES: usize = FRAME_MS as usize;
const LATE_MAX: Duration = Duration::from_millis(60);
const IDLE_WAIT: Duration = Duration::from_millis(500);
const EVENTS: usize = 1024;
/// More than any RTP packet we take; what is longer is cut, and refused for its length.
const DATAGRAM: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Digit;

    #[test]
    fn a_late_wheel_catches_up_slot_by_slot() {
        let mut wheel = Wheel { slot: 100 };
        assert_eq!(wheel.early(Time::from_ms(99)), Some(Duration::from_millis(1)));
        assert_eq!(wheel.early(Time::from_ms(100)), None);

        let turns: Vec<u64> = (0..50).map(|_| wheel.turn(Time::from_ms(150)).0).collect();

        assert_eq!(turns, (100..150).collect::<Vec<_>>());
        assert_eq!(wheel.early(Time::from_ms(150)), None);
        assert_eq!(wheel.turn(Time::from_ms(150)), (150, Duration::ZERO));
        assert!(wheel.early(Time::from_ms(150)).is_some());
    }

    #[test]
    fn a_wheel_that_is_too_late_leaves_slots_out() {
        let mut wheel = Wheel { slot: 100 };
        assert_eq!(wheel.turn(Time::from_ms(161)), (161, Duration::from_millis(61)));
        assert_eq!(wheel.early(Time::from_ms(161)), Some(Duration::from_millis(1)));
    }

    #[test]
    fn only_frames_are_left_out_and_the_oldest_first() {
        let notice = |what| Notice { call: CallId(uuid::Uuid::nil()), leg: LegId(1), what };
        let frame = |code| notice(Noticed::Heard(Heard::Frame(Box::new([code; 160]))));
        let digit = Digit::from_event(1).expect("is a key");
        let mut notices: Vec<Notice> = (0..100).map(frame).collect();
        notices.insert(0, notice(Noticed::Digit { digit, duration_ms: 100 }));
        notices.insert(50, notice(Noticed::DigitsSent));

        assert_eq!(leave_out_frames(&mut notices, 102), 0);
        assert_eq!(leave_out_frames(&mut notices, 100), 51);

        assert_eq!(notices.len(), 51);
        assert_eq!(notices[0].what, Noticed::Digit { digit, duration_ms: 100 });
        assert_eq!(notices[1].what, Noticed::DigitsSent);
        assert_eq!(notices[2], frame(51));
    }

    #[test]
    fn lateness_is_the_99th_percentile_and_the_past_fades() {
        let mut lateness = Lateness::default();
        (0..980).for_each(|_| lateness.add(Duration::from_micros(250)));
        (0..20).for_each(|_| lateness.add(Duration::from_millis(7)));
        assert_eq!(lateness.p99_us(), 7000);
        (0..5000).for_each(|_| lateness.add(Duration::from_micros(90)));
        assert_eq!(lateness.p99_us(), 200);
        lateness.add(Duration::from_secs(9));
    }
}
