//! How much delay the gateway adds: measured on a media worker of its own, with RTP on one side and an agent's
//! channels on the other.
//!
//! *Ingress* is the time from the moment an RTP packet is handed to the system until its frame is handed to the agent.
//! *Egress* is the time from the moment the agent hands over speech until the first packet with it arrives; it holds
//! the wait for the next 20 ms tick, because a packet leaves only then. Both were sent and taken by this process, so
//! both hold its own wake-ups too: they are what an agent would feel, not what the worker would claim.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::Serialize;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval};
use uuid::Uuid;

use super::super::stopwatch;
use crate::media::{HEADER_LEN, Header, Notice, Noticed, RtpPeer, RtpPorts, Workers, WorkersConfig};
use crate::model::{CallId, Codec, FRAME_MS, FRAME_SAMPLES, Form, Heard, LegId, Speech, Voice};

/// Added delay in milliseconds, one way each.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Delay {
    pub(super) ingress_p50: f64,
    pub(super) ingress_p99: f64,
    pub(super) egress_p50: f64,
    pub(super) egress_p99: f64,
}

/// Measures for about four seconds.
///
/// # Errors
/// When there are no sockets or threads for it, or too little came through to say anything.
pub(super) async fn measure() -> io::Result<Delay> {
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let rtp = RtpPorts { ip, first: PORTS.0, last: PORTS.1 };
    let (workers, mut notices) = Workers::start(WorkersConfig { threads: 1, rtp, loopback_only: true })?;
    let call = workers.open_call(CallId(Uuid::now_v7()));
    let (caller, agent) = (LegId::CALLER, LegId(1));
    let (speech, speech_in) = mpsc::channel(8);
    let (_mouth, mouth_in) = mpsc::channel(8);
    let gateway = call.open_rtp(caller)?;
    let socket = UdpSocket::bind(SocketAddr::new(ip, 0)).await?;
    let peer = RtpPeer::new(Codec::Pcmu, 0, socket.local_addr()?);
    call.set_remote(caller, peer).map_err(io::Error::other)?;
    call.open_agent(agent, Form::Ulaw, speech_in, mouth_in).map_err(io::Error::other)?;
    call.wire(vec![(caller, vec![agent]), (agent, vec![caller])]).map_err(io::Error::other)?;

    let mut bench = Bench::default();
    // 20 ms packets, and speech every 97 ms, so that it meets the 20 ms grid at every place.
    let mut packets = interval(Duration::from_millis(u64::from(FRAME_MS)));
    let mut words = interval(Duration::from_millis(97));
    let until = stopwatch::now() + MEASURED;
    let mut buffer = [0; 2048];
    while stopwatch::now() < until {
        tokio::select! {
            _ = packets.tick() => {
                let packet = bench.next_packet();
                socket.send_to(&packet, gateway).await?;
            }
            _ = words.tick() => {
                // The channel is longer than what is ever in it; a full one would show as missing samples.
                let _ = speech.try_send(bench.next_words());
            }
            batch = notices.recv() => {
                batch.iter().flatten().for_each(|notice| bench.on_notice(notice));
            }
            received = socket.recv_from(&mut buffer) => {
                bench.on_packet(&buffer[..received?.0]);
            }
        }
    }
    bench.delay().ok_or_else(|| io::Error::other("too little audio came through the media worker"))
}

#[derive(Default)]
struct Bench {
    sent: u16,
    /// When the packet with this pattern left, by pattern.
    sent_at: [Option<Instant>; PATTERNS],
    words: u32,
    words_at: Option<Instant>,
    ingress: Vec<Duration>,
    egress: Vec<Duration>,
}

impl Bench {
    fn next_packet(&mut self) -> Vec<u8> {
        let pattern = usize::from(self.sent) % PATTERNS;
        let header = Header {
            marker: self.sent == 0,
            payload_type: 0,
            seq: self.sent,
            timestamp: u32::from(self.sent) * FRAME_SAMPLES as u32,
            ssrc: 0x5EED,
        };
        self.sent += 1;
        let mut packet = Vec::with_capacity(HEADER_LEN + FRAME_SAMPLES);
        packet.extend_from_slice(&header.to_bytes());
        packet.extend([FIRST_PATTERN + pattern as u8; FRAME_SAMPLES]);
        self.sent_at[pattern] = Some(stopwatch::now());
        packet
    }

    fn on_notice(&mut self, notice: &Notice) {
        let Noticed::Heard(Heard::Frame(frame)) = &notice.what else { return };
        let pattern = usize::from(frame[FRAME_SAMPLES / 2]).checked_sub(usize::from(FIRST_PATTERN));
        let sent_at = pattern.and_then(|pattern| self.sent_at.get_mut(pattern)).and_then(Option::take);
        self.ingress.extend(sent_at.map(stopwatch::since));
    }

    fn next_words(&mut self) -> Speech {
        self.words += 1;
        self.words_at = Some(stopwatch::now());
        Speech {
            epoch: 0,
            item: format!("w{}", self.words).into(),
            voice: Voice::Ulaw(vec![WORD; FRAME_SAMPLES]),
            last: true,
        }
    }

    fn on_packet(&mut self, datagram: &[u8]) {
        let Ok((_, payload)) = Header::parse(datagram) else { return };
        if payload.contains(&WORD)
            && let Some(words_at) = self.words_at.take()
        {
            self.egress.push(stopwatch::since(words_at));
        }
    }

    fn delay(mut self) -> Option<Delay> {
        if self.ingress.len() < 100 || self.egress.len() < 25 {
            return None;
        }
        self.ingress.sort_unstable();
        self.egress.sort_unstable();
        Some(Delay {
            ingress_p50: at_percentile(&self.ingress, 50),
            ingress_p99: at_percentile(&self.ingress, 99),
            egress_p50: at_percentile(&self.egress, 50),
            egress_p99: at_percentile(&self.egress, 99),
        })
    }
}

/// Nearest rank, in milliseconds with two decimals.
fn at_percentile(sorted: &[Duration], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    let ms = sorted.get(rank - 1).map_or(0.0, |time| time.as_secs_f64() * 1000.0);
    (ms * 100.0).round() / 100.0
}

const MEASURED: Duration = Duration::from_secs(4);
/// µ-law codes of loud samples, one for each packet in flight.
const FIRST_PATTERN: u8 = 0x10;
const PATTERNS: usize = 32;
const WORD: u8 = 0x05;
/// Apart from the ports of the demonstration's gateway.
const PORTS: (u16, u16) = (20_400, 20_499);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let times: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();

        assert_eq!((at_percentile(&times, 50), at_percentile(&times, 99)), (100.0, 198.0));
        assert_eq!(at_percentile(&times[..1], 99), 1.0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_delay_of_a_media_worker_can_be_measured() {
        let delay = measure().await.expect("loopback has ports");
        assert!(delay.ingress_p50 <= delay.ingress_p99 && delay.egress_p50 <= delay.egress_p99);
        // An agent's words wait for a tick, which comes every 20 ms: ten on the average.
        assert!(delay.egress_p50 >= 1.0, "{delay:?}");
    }
}
