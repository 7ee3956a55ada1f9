//! A telephone for tests that writes every octet of SIP and RTP itself, so that it can also be rude.

#![allow(clippy::disallowed_methods, reason = "real peers are waited for by the real clock")]

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A caller with one call.
pub(crate) struct Caller {
    pub(crate) socket: UdpSocket,
    pub(crate) rtp: UdpSocket,
    gateway: SocketAddr,
    called: String,
    call_id: String,
    tag: String,
    to_tag: String,
    /// Where the gateway wants our audio.
    pub(crate) media: Option<SocketAddr>,
    /// The gateway's Contact, to which requests in the dialog go.
    contact: String,
    sequence: u16,
    timestamp: u32,
    invited: Option<Instant>,
    /// Further header lines of the INVITE, each with its line end.
    pub(crate) extra: String,
}

/// A SIP message as it came.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) text: String,
    /// Since the INVITE was sent.
    pub(crate) after: Duration,
}

impl Reply {
    /// Of a response; 0 for a request.
    pub(crate) fn status(&self) -> u16 {
        self.text
            .strip_prefix("SIP/2.0 ")
            .and_then(|rest| rest.get(..3))
            .and_then(|code| code.parse().ok())
            .unwrap_or(0)
    }

    pub(crate) fn method(&self) -> &str {
        if self.status() > 0 { "" } else { self.text.split(' ').next().unwrap_or("") }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.text.lines().take_while(|line| !line.is_empty()).find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known.trim().eq_ignore_ascii_case(name).then(|| value.trim())
        });
        found.unwrap_or("")
    }

    fn to_tag(&self) -> &str {
        self.header("To").split(";tag=").nth(1).map_or("", |rest| rest.split(';').next().unwrap_or(""))
    }

    fn body(&self) -> &str {
        self.text.split_once("\r\n\r\n").map_or("", |(_, body)| body)
    }
}

/// What a telephone heard.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard {
    /// Linear samples at 8 kHz, in the order of their sequence numbers; gaps are not filled.
    pub(crate) samples: Vec<i16>,
    /// Packets.
    pub(crate) packets: usize,
    /// The longest time between two packets.
    pub(crate) longest_gap: Duration,
    /// The first packet, since the INVITE was sent.
    pub(crate) first: Option<Duration>,
}

impl Caller {
    pub(crate) fn new(gateway: SocketAddr, called: &str) -> Caller {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let rtp = UdpSocket::bind("127.0.0.1:0").unwrap();
        Caller {
            socket,
            rtp,
            gateway,
            called: called.to_owned(),
            call_id: format!("lab-{}-{number}", std::process::id()),
            tag: format!("t{number}"),
            to_tag: String::new(),
            media: None,
            contact: format!("sip:{called}@{gateway}"),
            sequence: 1,
            timestamp: 160,
            invited: None,
            extra: String::new(),
        }
    }

    /// The usual offer: PCMU, PCMA, keys, behind two codecs that nobody here has.
    pub(crate) fn offer(&self) -> String {
        let port = self.rtp.local_addr().unwrap().port();
        self.offer_with(&format!(
            "m=audio {port} RTP/AVP 9 18 0 8 101\r\na=rtpmap:9 G722/8000\r\na=rtpmap:18 G729/8000\r\n\
             a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n\
             a=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n"
        ))
    }

    /// An offer with these media lines.
    pub(crate) fn offer_with(&self, media: &str) -> String {
        format!("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n{media}")
    }

    pub(crate) fn invite(&mut self) {
        let offer = self.offer();
        self.invite_with(&offer);
    }

    pub(crate) fn invite_with(&mut self, offer: &str) {
        self.invited = Some(Instant::now());
        let text = self.request("INVITE", 1, offer);
        self.send(text.as_bytes());
    }

    /// The same INVITE again, as after a lost 100.
    pub(crate) fn repeat_invite(&self) {
        let text = self.request("INVITE", 1, &self.offer());
        self.send(text.as_bytes());
    }

    pub(crate) fn cancel(&self) {
        self.send(self.request("CANCEL", 1, "").as_bytes());
    }

    /// Takes the call back because another telephone has answered it (RFC 3326).
    pub(crate) fn cancel_answered_elsewhere(&self) {
        let reason = "Reason: SIP;cause=200;text=\"Call completed elsewhere\"\r\nContent-Length";
        self.send(self.request("CANCEL", 1, "").replacen("Content-Length", reason, 1).as_bytes());
    }

    pub(crate) fn ack(&self) {
        self.send(self.request("ACK", 1, "").as_bytes());
    }

    /// The ACK that brings our description, when the INVITE had none.
    pub(crate) fn ack_with(&self, answer: &str) {
        self.send(self.request("ACK", 1, answer).as_bytes());
    }

    pub(crate) fn bye(&self) {
        self.send(self.request("BYE", 2, "").as_bytes());
    }

    /// Answers a request of the gateway.
    pub(crate) fn answer(&self, request: &Reply) {
        let echoed: String = ["Via", "From", "To", "Call-ID", "CSeq"]
            .map(|name| format!("{name}: {}\r\n", request.header(name)))
            .concat();
        self.send(format!("SIP/2.0 200 OK\r\n{echoed}Content-Length: 0\r\n\r\n").as_bytes());
    }

    pub(crate) fn send(&self, octets: &[u8]) {
        self.socket.send_to(octets, self.gateway).unwrap();
    }

    fn request(&self, method: &str, cseq: u32, body: &str) -> String {
        let at = self.socket.local_addr().unwrap();
        let Caller { called, call_id, tag, gateway, contact, .. } = self;
        // RFC 3261 §17.1.1.3, §9.1: ACK of a refusal and CANCEL repeat the INVITE's branch; ACK of a 200 does not.
        let own_branch = method == "BYE" || (method == "ACK" && self.media.is_some());
        let branch = if own_branch { method } else { "INVITE" };
        let in_dialog = matches!(method, "ACK" | "BYE") && self.media.is_some();
        let uri = if in_dialog { contact.clone() } else { format!("sip:{called}@{gateway}") };
        let to_tag = if self.to_tag.is_empty() || matches!(method, "INVITE" | "CANCEL") {
            String::new()
        } else {
            format!(";tag={}", self.to_tag)
        };
        let extra = if method == "INVITE" { self.extra.as_str() } else { "" };
        let content = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bK{tag}{branch};rport\r\nMax-Forwards: 70\r\n\
             From: \"Ada\" <sip:+441632960001@127.0.0.1>;tag={tag}\r\nTo: <sip:{called}@{gateway}>{to_tag}\r\n\
             Call-ID: {call_id}\r\nCSeq: {cseq} {method}\r\nContact: <sip:ada@{at}>\r\n{extra}{content}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    /// The next SIP message within this time.
    pub(crate) fn recv(&mut self, within: Duration) -> Option<Reply> {
        let until = Instant::now() + within;
        let mut buffer = [0; 65536];
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.socket.set_read_timeout(Some(left)).unwrap();
        let (length, _) = self.socket.recv_from(&mut buffer).ok()?;
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let after = self.invited.map_or(Duration::ZERO, |invited| invited.elapsed());
        let reply = Reply { text, after };
        if !reply.to_tag().is_empty() && reply.status() > 100 && reply.header("CSeq").ends_with("INVITE") {
            self.to_tag = reply.to_tag().to_owned();
        }
        Some(reply)
    }

    /// The next message with this status, or the next request of this method; others are passed over.
    pub(crate) fn expect(&mut self, wanted: &str) -> Reply {
        let until = Instant::now() + PATIENCE;
        let mut passed = Vec::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Some(reply) = self.recv(left) else { panic!("no {wanted} came, but:\n{}", passed.join("\n")) };
            if reply.status().to_string() == wanted || reply.method() == wanted {
                return reply;
            }
            passed.push(reply.text);
        }
    }

    /// Sends the INVITE and goes on until it is answered and acknowledged.
    pub(crate) fn connect(&mut self) -> Reply {
        self.invite();
        self.answered()
    }

    /// Waits for the 200 and acknowledges it.
    pub(crate) fn answered(&mut self) -> Reply {
        let reply = self.expect("200");
        self.learn(&reply);
        self.ack();
        reply
    }

    /// Learns from a 200 where the gateway is.
    pub(crate) fn learn(&mut self, reply: &Reply) {
        let body = reply.body();
        let find = |start: &str| body.lines().find_map(|line| line.strip_prefix(start));
        let port = find("m=audio ").and_then(|rest| rest.split(' ').next()).expect("an answer has audio");
        let host = find("c=IN IP4 ").expect("an answer has an address").trim();
        self.media = Some(format!("{host}:{port}").parse().unwrap());
        let contact = reply.header("Contact");
        self.contact = contact.split_once('<').and_then(|(_, rest)| rest.split_once('>')).unwrap().0.to_owned();
    }

    /// Says goodbye, and sees it answered.
    pub(crate) fn hang_up(&mut self) {
        self.bye();
        let reply = self.expect("200");
        assert!(reply.header("CSeq").ends_with("BYE"), "{}", reply.text);
    }

    /// Talks and listens for a time: each 20 ms a frame goes out, silence when `say` has ended.
    pub(crate) fn talk(&mut self, during: Duration, say: &[i16]) -> Heard {
        let began = Instant::now();
        let mut frames = say.chunks(160);
        let mut packets: Vec<(u16, Vec<u8>)> = Vec::new();
        let mut heard = Heard::default();
        let mut last: Option<Instant> = None;
        let mut sent = 0_u32;
        let mut buffer = [0; 2048];
        while began.elapsed() < during {
            if began.elapsed() >= FRAME * sent {
                let frame: Vec<u8> = frames.next().unwrap_or(&[0; 160]).iter().map(|sample| encode(*sample)).collect();
                self.send_rtp(0, false, &frame);
                self.timestamp = self.timestamp.wrapping_add(160);
                sent += 1;
                continue;
            }
            let left = (FRAME * sent).saturating_sub(began.elapsed()).max(Duration::from_micros(100));
            self.rtp.set_read_timeout(Some(left)).unwrap();
            match self.rtp.recv(&mut buffer) {
                Ok(length) if length > 12 && buffer[1] & 0x7f == 0 => {
                    let now = Instant::now();
                    heard.first = heard.first.or_else(|| self.invited.map(|invited| now - invited));
                    heard.longest_gap = heard.longest_gap.max(last.map_or(Duration::ZERO, |last| now - last));
                    last = Some(now);
                    packets.push((u16::from_be_bytes([buffer[2], buffer[3]]), buffer[12..length].to_vec()));
                }
                Ok(_) => {}
                Err(error) => assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}"),
            }
        }
        if let Some(&(first, _)) = packets.first() {
            packets.sort_by_key(|(sequence, _)| sequence.wrapping_sub(first).wrapping_add(0x4000));
        }
        heard.packets = packets.len();
        heard.samples = packets.iter().flat_map(|(_, payload)| payload.iter().map(|octet| decode(*octet))).collect();
        heard
    }

    /// Presses a key for 100 ms, its packets in the usual order (RFC 4733 §2.5.1).
    pub(crate) fn press(&mut self, event: u8) {
        let packets = self.key_packets(event);
        for packet in packets {
            self.rtp.send_to(&packet, self.media.unwrap()).unwrap();
        }
    }

    /// The packets of a key press, each complete, to be sent in whatever order.
    pub(crate) fn key_packets(&mut self, event: u8) -> Vec<Vec<u8>> {
        let timestamp = self.timestamp;
        let durations = [160_u16, 320, 480, 640, 800];
        let packets = durations.iter().map(|duration| (*duration, false)).chain([(800, true); 3]);
        let packets: Vec<Vec<u8>> = packets
            .map(|(duration, end)| {
                let flags = if end { 0x80 } else { 0 } | 10;
                let [high, low] = duration.to_be_bytes();
                self.packet(101, duration == 160, timestamp, &[event, flags, high, low])
            })
            .collect();
        self.timestamp = self.timestamp.wrapping_add(800);
        packets
    }

    fn send_rtp(&mut self, payload_type: u8, marker: bool, payload: &[u8]) {
        let packet = self.packet(payload_type, marker, self.timestamp, payload);
        // Before the answer there is nowhere to send to.
        if let Some(media) = self.media {
            let _ = self.rtp.send_to(&packet, media);
        }
    }

    fn packet(&mut self, payload_type: u8, marker: bool, timestamp: u32, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x80, payload_type | if marker { 0x80 } else { 0 }];
        packet.extend(self.sequence.to_be_bytes());
        packet.extend(timestamp.to_be_bytes());
        packet.extend(0x5A17_0001_u32.to_be_bytes());
        packet.extend(payload);
        self.sequence = self.sequence.wrapping_add(1);
        packet
    }
}

/// Long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(15);
const FRAME: Duration = Duration::from_millis(20);

impl Heard {
    /// Where in the audio a tone is heard, as milliseconds from and to, taking windows of 40 ms.
    pub(crate) fn tone(&self, hz: f64) -> Option<(usize, usize)> {
        tone_in(&self.samples, hz, 8000)
    }

    /// Whether a tone is heard for at least this long.
    pub(crate) fn has_tone(&self, hz: f64, ms: usize) -> bool {
        self.tone(hz).is_some_and(|(from, to)| to - from >= ms)
    }
}

/// The first and the last moment of a tone in audio, in milliseconds.
pub(crate) fn tone_in(samples: &[i16], hz: f64, rate: usize) -> Option<(usize, usize)> {
    let window = rate / 25;
    let hits: Vec<usize> = samples
        .chunks_exact(window)
        .enumerate()
        .filter(|(_, chunk)| holds_tone(chunk, hz, rate))
        .map(|(n, _)| n)
        .collect();
    Some((hits.first()? * 40, (hits.last()? + 1) * 40))
}

// Goertzel: the share of the window's energy that lies at the frequency.
#[allow(clippy::cast_precision_loss, reason = "windows of a few hundred samples")]
fn holds_tone(chunk: &[i16], hz: f64, rate: usize) -> bool {
    let omega = std::f64::consts::TAU * hz / rate as f64;
    let (mut one, mut two, mut energy) = (0.0_f64, 0.0_f64, 0.0_f64);
    for sample in chunk {
        let sample = f64::from(*sample);
        let next = sample + 2.0 * omega.cos() * one - two;
        (two, one) = (one, next);
        energy += sample * sample;
    }
    let power = one * one + two * two - 2.0 * omega.cos() * one * two;
    // A pure tone of N samples has power N/2 times its energy.
    let loud = energy / chunk.len() as f64 > 300.0 * 300.0;
    loud && power > 0.5 * energy * chunk.len() as f64 / 2.0
}

/// µ-law of a sample (ITU-T G.711), written here once more so that the gateway's own tables are not their own judge.
pub(crate) fn encode(sample: i16) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0 };
    let level = (i32::from(sample).abs().min(32_635)) + 132;
    let exponent = (7..15).rev().find(|bit| (level >> bit) & 1 == 1).map_or(0, |bit| bit - 7);
    let mantissa = (level >> (exponent + 3)) & 0x0f;
    !u8::try_from(sign | (exponent << 4) | mantissa).expect("three fields of one octet fill no more")
}

/// The sample of a µ-law octet.
pub(crate) fn decode(octet: u8) -> i16 {
    let octet = !octet;
    let magnitude = (((i32::from(octet & 0x0f) << 3) + 132) << ((octet >> 4) & 7)) - 132;
    i16::try_from(if octet & 0x80 == 0 { magnitude } else { -magnitude }).expect("µ-law has 14 bits")
}

#[test]
fn the_ear_of_the_tests_tells_tones_apart() {
    let mut samples = vec![0; 8000];
    samples.extend(crate::rig::tone(crate::rig::MUSIC, 500, 8000).iter().map(|sample| decode(encode(*sample))));

    let (from, to) = tone_in(&samples, crate::rig::MUSIC, 8000).expect("the music is there");

    assert!((960..=1040).contains(&from) && (1460..=1540).contains(&to), "{from} to {to}");
    for other in [crate::rig::GREETING, crate::rig::MENU, crate::rig::MESSAGE, crate::rig::CALLER] {
        assert_eq!(tone_in(&samples, other, 8000), None, "{other}");
    }
}
