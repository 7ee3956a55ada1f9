//! A party with a real socket, for the tests of the media room.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use ringback::media::{CallMedia, HEADER_LEN, Header, Notice, Noticed, RtpPeer, RtpPorts, Workers, WorkersConfig};
use ringback::model::{CallId, Codec, LegId};
use tokio::sync::mpsc;
use uuid::Uuid;

pub(crate) const EVENTS: u8 = 101;
/// Nothing on loopback takes this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Workers with one thread, one call, and what they said so far.
pub(crate) struct Stage {
    pub(crate) call: CallMedia,
    pub(crate) notices: Vec<Notice>,
    incoming: mpsc::Receiver<Vec<Notice>>,
    pub(crate) workers: Workers,
}

impl Stage {
    pub(crate) fn new(first_port: u16) -> Stage {
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let rtp = RtpPorts { ip, first: first_port, last: first_port + 98 };
        let config = WorkersConfig { threads: 1, rtp, loopback_only: true };
        let (workers, incoming) = Workers::start(config).expect("workers start");
        let call = workers.open_call(CallId(Uuid::from_u128(7)));
        Stage { call, notices: Vec::new(), incoming, workers }
    }

    /// Opens an RTP leg with a party at its other end, not answered yet.
    pub(crate) fn party(&self, leg: LegId, codec: Codec) -> Phone {
        let there = self.call.open_rtp(leg).expect("a port is free");
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Phone { leg, codec, socket, there, seq: 65_530, timestamp: u32::MAX - 1000, heard: Vec::new() }
    }

    pub(crate) fn answer(&self, phone: &Phone) {
        let payload_type = phone.payload_type();
        let remote = phone.socket.local_addr().expect("bound");
        let peer = RtpPeer::new(phone.codec, payload_type, remote).with_dtmf(EVENTS);
        self.call.set_remote(phone.leg, peer).expect("the worker takes it");
    }

    /// Waits until a notice of this kind has come.
    pub(crate) async fn wait_for(&mut self, what: &str, is_it: impl Fn(&Noticed) -> bool) -> Noticed {
        loop {
            if let Some(found) = self.notices.iter().find(|notice| is_it(&notice.what)) {
                return found.what.clone();
            }
            let batch = tokio::time::timeout(PATIENCE, self.incoming.recv()).await;
            let batch = batch.unwrap_or_else(|_| panic!("no {what} came")).expect("workers run");
            self.notices.extend(batch);
        }
    }

    /// Takes what has come, without waiting for more.
    pub(crate) fn catch_up(&mut self) {
        while let Ok(batch) = self.incoming.try_recv() {
            self.notices.extend(batch);
        }
    }
}

/// One packet that a party heard.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) header: Header,
    pub(crate) payload: Vec<u8>,
    pub(crate) at: Instant,
}

/// A party.
pub(crate) struct Phone {
    leg: LegId,
    codec: Codec,
    pub(crate) socket: UdpSocket,
    pub(crate) there: SocketAddr,
    pub(crate) seq: u16,
    timestamp: u32,
    pub(crate) heard: Vec<Packet>,
}

impl Phone {
    fn payload_type(&self) -> u8 {
        if self.codec == Codec::Pcmu { 0 } else { 8 }
    }

    /// Sends 20 ms of one code.
    pub(crate) fn say(&mut self, code: u8) {
        let payload_type = self.payload_type();
        self.send(payload_type, false, self.timestamp, &[code; 160]);
        self.timestamp = self.timestamp.wrapping_add(160);
    }

    /// Presses and lets go of a key, all packets at once.
    pub(crate) fn press(&mut self, event: u8) {
        for (at, duration) in [160u16, 320, 480, 480, 480].into_iter().enumerate() {
            let end = if at >= 2 { 0x80 } else { 0 };
            let [high, low] = duration.to_be_bytes();
            self.send(EVENTS, at == 0, self.timestamp, &[event, end | 10, high, low]);
        }
        self.timestamp = self.timestamp.wrapping_add(480);
    }

    fn send(&mut self, payload_type: u8, marker: bool, timestamp: u32, payload: &[u8]) {
        let header = Header { marker, payload_type, seq: self.seq, timestamp, ssrc: 0x1234_5678 };
        self.seq = self.seq.wrapping_add(1);
        let packet = [&header.to_bytes()[..], payload].concat();
        self.socket.send_to(&packet, self.there).expect("loopback takes it");
    }

    /// Waits for the next packet.
    #[allow(clippy::disallowed_methods, reason = "a test that measures gaps has to read the clock")]
    pub(crate) fn listen(&mut self) -> Packet {
        let mut buffer = [0; 2048];
        let (len, from) = self.socket.recv_from(&mut buffer).expect("a packet comes");
        assert_eq!(from, self.there);
        assert!(len > HEADER_LEN);
        let (header, payload) = Header::parse(&buffer[..len]).expect("is RTP");
        let packet = Packet { header, payload: payload.to_vec(), at: Instant::now() };
        self.heard.push(packet.clone());
        packet
    }

    /// Listens until a packet is as wanted.
    pub(crate) fn listen_for(&mut self, what: &str, is_it: impl Fn(&Packet) -> bool) -> Packet {
        for _ in 0..1000 {
            let packet = self.listen();
            if is_it(&packet) {
                return packet;
            }
        }
        panic!("{what} was never heard");
    }

    /// One stream, no packet missing, no audio over other audio, no gap over 40 ms of audio.
    pub(crate) fn assert_one_stream(&self) {
        for pair in self.heard.windows(2) {
            let (one, next) = (&pair[0].header, &pair[1].header);
            assert_eq!((next.ssrc, next.seq), (one.ssrc, one.seq.wrapping_add(1)));
            let is_event = one.payload_type == EVENTS || next.payload_type == EVENTS;
            let step = next.timestamp.wrapping_sub(one.timestamp) as i32;
            assert!(is_event || (160..=320).contains(&step), "the timestamp advances by {step}");
        }
    }
}
