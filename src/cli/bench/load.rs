//! The thread that makes the load and measures it: all callers' RTP and all agents' sockets on one poll, so that both
//! ends of every delay are read from one clock.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use mio::net::{TcpListener, UdpSocket};
use mio::{Events, Interest, Poll, Token};
use socket2::SockRef;
use tokio::time::Instant;

use super::super::stopwatch;
use super::agent::{Agent, Hush, Tongue};
use super::figures::Times;
use super::mark::{From, Mark, sounds};
use super::socket::Socket;
use crate::media::{HEADER_LEN, Header};
use crate::model::{FRAME_MS, FRAME_SAMPLES};

/// The load at work.
#[derive(Debug)]
pub(super) struct Load {
    orders: SyncSender<Order>,
    thread: JoinHandle<Measured>,
    /// Where the callers, and the callees of a relay, take their RTP.
    pub(super) rtp: [SocketAddr; 2],
    /// Where the agents are.
    pub(super) agents: SocketAddr,
}

/// What it is told.
#[derive(Debug)]
pub(super) enum Order {
    /// Somebody's sound goes there from now on.
    Talk(Side, u16, SocketAddr),
    /// From now on it counts.
    Measure,
    /// It is over.
    Stop,
}

/// Which end of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Caller = 0,
    Callee = 1,
}

/// What it measured.
#[derive(Debug, Default)]
pub(super) struct Measured {
    pub(super) ingress: Times,
    pub(super) egress: Times,
    pub(super) clear: Times,
    pub(super) grid: Times,
    /// Packets to callers.
    pub(super) received: u64,
    /// Sequence numbers of theirs that never came.
    pub(super) missing: u64,
    /// Frames of the other end that each caller got.
    pub(super) heard: Vec<u64>,
}

impl Load {
    /// Opens everything and starts the thread.
    ///
    /// # Errors
    /// When the system has no port or no thread.
    pub(super) fn start(tongue: Tongue, calls: usize) -> io::Result<Load> {
        let poll = Poll::new()?;
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut rtp = [UdpSocket::bind(any)?, UdpSocket::bind(any)?];
        for (at, socket) in rtp.iter_mut().enumerate() {
            // Best effort: a smaller one only loses more when we are late.
            let _ = SockRef::from(&*socket).set_recv_buffer_size(8 << 20);
            poll.registry().register(socket, Token(at), Interest::READABLE)?;
        }
        let mut listener = TcpListener::bind(any)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let (addresses, agents) = ([rtp[0].local_addr()?, rtp[1].local_addr()?], listener.local_addr()?);
        let (orders, waiting) = sync_channel(ORDERS_MAX);
        let ends = || vec![End::default(); calls];
        let bench = Bench {
            poll,
            rtp,
            listener,
            agents: HashMap::new(),
            next_agent: FIRST_AGENT,
            tongue,
            ends: [ends(), ends()],
            by_port: [HashMap::new(), HashMap::new()],
            orders: waiting,
            began: stopwatch::now(),
            turn: 0,
            is_measuring: false,
            measured: Measured { heard: vec![0; calls], ..Measured::default() },
        };
        let thread = std::thread::Builder::new().name("load".to_owned()).spawn(move || bench.run())?;
        Ok(Load { orders, thread, rtp: addresses, agents })
    }

    pub(super) fn order(&self, order: Order) {
        // A thread that is gone panicked, which `stop` tells.
        let _ = self.orders.send(order);
    }

    /// Ends it. `None` when it broke.
    pub(super) fn stop(self) -> Option<Measured> {
        self.order(Order::Stop);
        self.thread.join().ok()
    }
}

/// One end of a call.
#[derive(Clone, Debug, Default)]
struct End {
    to: Option<SocketAddr>,
    seq: u16,
    hush: Hush,
    /// The first packet that counts, and how late each was by its place in the sequence, in microseconds.
    first: Option<(u16, Duration)>,
    late_us: Vec<i64>,
    last_place: i64,
}

struct Bench {
    poll: Poll,
    rtp: [UdpSocket; 2],
    listener: TcpListener,
    agents: HashMap<Token, Agent>,
    next_agent: usize,
    tongue: Tongue,
    ends: [Vec<End>; 2],
    by_port: [HashMap<u16, u16>; 2],
    orders: Receiver<Order>,
    began: Instant,
    /// Packets that were due so far, sent or not.
    turn: u64,
    is_measuring: bool,
    measured: Measured,
}

impl Bench {
    fn run(mut self) -> Measured {
        let mut events = Events::with_capacity(1024);
        while self.take_orders() {
            self.say_what_is_due();
            // It wakes for whatever arrives, so that only what is sent can be late, by the millisecond of the poll.
            if self.poll.poll(&mut events, Some(POLL)).is_err() {
                continue;
            }
            for event in &events {
                match event.token() {
                    Token(0) => self.hear(Side::Caller),
                    Token(1) => self.hear(Side::Callee),
                    LISTENER => self.accept(),
                    token => self.serve(token),
                }
            }
        }
        self.result()
    }

    /// `false` when it is over.
    fn take_orders(&mut self) -> bool {
        loop {
            match self.orders.try_recv() {
                Ok(Order::Talk(side, call, to)) => {
                    if let Some(end) = self.ends[side as usize].get_mut(usize::from(call)) {
                        end.to = Some(to);
                        self.by_port[side as usize].insert(to.port(), call);
                    }
                }
                Ok(Order::Measure) => self.is_measuring = true,
                Ok(Order::Stop) | Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) => return true,
            }
        }
    }

    fn now(&self) -> Duration {
        stopwatch::since(self.began)
    }

    /// Calls are spread over the 20 ms, and each has its own place in them.
    fn say_what_is_due(&mut self) {
        let calls = self.ends[0].len() as u64;
        let due = u64::try_from(self.now().as_nanos()).unwrap_or(u64::MAX) * calls / FRAME_NS;
        // A load that cannot keep up leaves out what is more than 100 ms old.
        self.turn = self.turn.max(due.saturating_sub(calls * 5));
        while self.turn < due {
            let call = (self.turn % calls) as usize;
            self.turn += 1;
            for side in [Side::Caller, Side::Callee] {
                self.say(side, call);
            }
        }
    }

    fn say(&mut self, side: Side, call: usize) {
        let at = self.now();
        let end = &mut self.ends[side as usize][call];
        let Some(to) = end.to else { return };
        end.seq = end.seq.wrapping_add(1);
        let from = if side == Side::Caller { From::Caller } else { From::Echo };
        let number = u16::try_from(call).unwrap_or(u16::MAX);
        let mut packet = [0; HEADER_LEN + FRAME_SAMPLES];
        packet[0] = 0x80;
        packet[2..4].copy_from_slice(&end.seq.to_be_bytes());
        packet[4..8].copy_from_slice(&(u32::from(end.seq) * 160).to_be_bytes());
        packet[8..12].copy_from_slice(&(0x1000 * (side as u32 + 1) + u32::from(number)).to_be_bytes());
        packet[HEADER_LEN..].copy_from_slice(&Mark { call: number, from, at }.frame());
        // What the network does not take is lost, as always.
        let _ = self.rtp[side as usize].send_to(&packet, to);
    }

    fn hear(&mut self, side: Side) {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = self.rtp[side as usize].recv_from(&mut buffer) {
            let now = self.now();
            let Some(call) = self.by_port[side as usize].get(&from.port()).copied() else { continue };
            let Ok((header, sound)) = Header::parse(&buffer[..length]) else { continue };
            let end = &mut self.ends[side as usize][usize::from(call)];
            let mark = Mark::find(sound);
            if self.is_measuring {
                let measured = &mut self.measured;
                match (side, mark) {
                    (Side::Caller, Some(Mark { from: From::Echo, at, .. })) => {
                        measured.egress.add(now.saturating_sub(at));
                        measured.heard[usize::from(call)] += 1;
                    }
                    (Side::Callee, Some(Mark { from: From::Caller, at, .. })) => {
                        measured.ingress.add(now.saturating_sub(at));
                    }
                    _ => {}
                }
                if side == Side::Caller {
                    measured.received += 1;
                    end.place(&header, now);
                }
            }
            if side == Side::Caller && sounds(sound) {
                end.hush.heard(now, mark, &mut self.measured.clear);
            }
        }
    }

    fn accept(&mut self) {
        while let Ok((mut stream, _)) = self.listener.accept() {
            let token = Token(self.next_agent);
            self.next_agent += 1;
            let _ = stream.set_nodelay(true);
            if self.poll.registry().register(&mut stream, token, Interest::READABLE).is_ok() {
                self.agents.insert(token, Agent::new(self.tongue, Socket::new(stream)));
            }
        }
    }

    fn serve(&mut self, token: Token) {
        let now = self.now();
        let Some(agent) = self.agents.get_mut(&token) else { return };
        let mut is_up = agent.socket.fill();
        loop {
            match agent.next(now) {
                Ok(Some(noted)) => {
                    if let Some(ingress) = noted.ingress.filter(|_| self.is_measuring) {
                        self.measured.ingress.add(ingress);
                    }
                    if let Some(end) = noted.cleared.and_then(|call| self.ends[0].get_mut(usize::from(call))) {
                        end.hush.want(now);
                    }
                }
                Ok(None) => break,
                Err(_) => {
                    is_up = false;
                    break;
                }
            }
        }
        agent.socket.flush();
        if !is_up {
            self.agents.remove(&token);
        }
    }

    fn result(mut self) -> Measured {
        for end in &self.ends[0] {
            let came = end.late_us.len() as u64;
            let span = u64::try_from(end.last_place + 1).unwrap_or(0);
            self.measured.missing += if end.first.is_some() { span.saturating_sub(came) } else { 0 };
            let mut sorted = end.late_us.clone();
            sorted.sort_unstable();
            // The call's own grid is where most of its packets are.
            let Some(grid) = sorted.get(sorted.len() / 2).copied() else { continue };
            for late in sorted {
                self.measured.grid.add(Duration::from_micros(late.abs_diff(grid)));
            }
        }
        self.measured
    }
}

impl End {
    /// Where a packet is, by its number, and when it came.
    fn place(&mut self, header: &Header, now: Duration) {
        let (first, since) = *self.first.get_or_insert((header.seq, now));
        // A window is far shorter than the 21 minutes after which the number returns.
        let place = i64::from(header.seq.wrapping_sub(first) as i16);
        let late = i64::try_from(now.saturating_sub(since).as_micros()).unwrap_or(i64::MAX);
        self.late_us.push(late - place * i64::from(FRAME_MS) * 1000);
        self.last_place = self.last_place.max(place);
    }
}

const FRAME_NS: u64 = FRAME_MS as u64 * 1_000_000;
const POLL: Duration = Duration::from_millis(1);
const LISTENER: Token = Token(2);
const FIRST_AGENT: usize = 3;
/// Each call has two.
const ORDERS_MAX: usize = 4096;
