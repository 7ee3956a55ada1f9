//! A browser without a screen: WebRTC as another implementation speaks it, with ICE, DTLS and descriptions of its own.

#![allow(clippy::disallowed_methods, reason = "it is a peer outside, and has its own clock")]

use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::RTCConfigurationBuilder;
use rtc::peer_connection::configuration::media_engine::MediaEngine;
use rtc::peer_connection::configuration::setting_engine::SettingEngine;
use rtc::peer_connection::event::RTCPeerConnectionEvent;
use rtc::peer_connection::message::RTCMessage;
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::state::RTCPeerConnectionState;
use rtc::peer_connection::transport::{CandidateConfig, CandidateHostConfig, RTCIceCandidate};
use rtc::peer_connection::{RTCPeerConnection, RTCPeerConnectionBuilder};
use rtc::rtp_transceiver::RTCRtpSenderId;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind,
};
use rtc::sansio::Protocol;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};

/// One that has made its offer.
pub(crate) struct Offerer {
    socket: UdpSocket,
    connection: RTCPeerConnection,
    sender: RTCRtpSenderId,
    /// Its description.
    pub(crate) offer: String,
}

/// One that has its answer, and lives on a thread.
pub(crate) struct Browser {
    orders: SyncSender<Order>,
    /// What it hears.
    pub(crate) heard: Receiver<Heard>,
    thread: Option<JoinHandle<()>>,
}

enum Order {
    Say {
        sequence: u16,
        timestamp: u32,
        payload: Vec<u8>,
    },
    /// Closes as a page does that has the time for it.
    Close,
    /// Is gone without a word.
    Vanish,
}

/// What happens to it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Heard {
    Connected,
    /// The other side closed.
    Closed,
    Audio {
        payload_type: u8,
        payload: Vec<u8>,
    },
}

/// What it speaks: the name, its clock, and the payload type.
pub(crate) const ULAW: (&str, u32, u8) = ("audio/PCMU", 8_000, 0);

impl Offerer {
    /// Makes an offer of one codec.
    pub(crate) fn new((mime, clock, payload_type): (&str, u32, u8)) -> Offerer {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let rtp_codec = RTCRtpCodec {
            mime_type: mime.to_owned(),
            clock_rate: clock,
            channels: if clock == 48_000 { 2 } else { 1 },
            sdp_fmtp_line: String::new(),
            rtcp_feedback: Vec::new(),
        };
        let mut engine = MediaEngine::default();
        let codec = RTCRtpCodecParameters { rtp_codec: rtp_codec.clone(), payload_type };
        engine.register_codec(codec, RtpCodecKind::Audio).unwrap();
        let mut connection = RTCPeerConnectionBuilder::new()
            .with_configuration(RTCConfigurationBuilder::new().build())
            .with_setting_engine(SettingEngine::default())
            .with_media_engine(engine)
            .build(Instant::now())
            .unwrap();
        let track = MediaStreamTrack::new(
            "stream".to_owned(),
            "track".to_owned(),
            "label".to_owned(),
            RtpCodecKind::Audio,
            vec![RTCRtpEncodingParameters {
                rtp_coding_parameters: RTCRtpCodingParameters { ssrc: Some(SSRC), ..Default::default() },
                codec: rtp_codec,
                ..Default::default()
            }],
        );
        let sender = connection.add_track(track).unwrap();
        let candidate = CandidateHostConfig {
            base_config: CandidateConfig {
                network: "udp".to_owned(),
                address: address.ip().to_string(),
                port: address.port(),
                component: 1,
                ..Default::default()
            },
            ..Default::default()
        };
        let candidate = RTCIceCandidate::from(&candidate.new_candidate_host().unwrap());
        connection.add_local_candidate(candidate.to_json().unwrap()).unwrap();
        let offer = connection.create_offer(None).unwrap();
        connection.set_local_description(Instant::now(), offer.clone()).unwrap();
        let offer = connection.local_description().unwrap_or(offer).sdp;
        Offerer { socket, connection, sender, offer }
    }

    /// Takes the answer and connects.
    pub(crate) fn answered(mut self, answer: &str) -> Browser {
        let answer = RTCSessionDescription::answer(answer.to_owned()).unwrap();
        self.connection.set_remote_description(Instant::now(), answer).unwrap();
        let (orders, ordered) = sync_channel(1_000);
        let (tell, heard) = sync_channel(10_000);
        let thread = std::thread::spawn(move || self.live(&ordered, &tell));
        Browser { orders, heard, thread: Some(thread) }
    }

    fn live(mut self, orders: &Receiver<Order>, tell: &SyncSender<Heard>) {
        let local = self.socket.local_addr().unwrap();
        let mut buffer = [0; 2_000];
        let mut is_closing = false;
        loop {
            while let Some(message) = self.connection.poll_write() {
                let _ = self.socket.send_to(&message.message, message.transport.peer_addr);
            }
            while let Some(event) = self.connection.poll_event() {
                if let RTCPeerConnectionEvent::OnConnectionStateChangeEvent(state) = event {
                    let _ = match state {
                        RTCPeerConnectionState::Connected => tell.try_send(Heard::Connected),
                        RTCPeerConnectionState::Closed | RTCPeerConnectionState::Failed => tell.try_send(Heard::Closed),
                        _ => Ok(()),
                    };
                }
            }
            while let Some(message) = self.connection.poll_read() {
                if let RTCMessage::RtpPacket(_, packet) = message.message {
                    let payload_type = packet.header.payload_type;
                    let _ = tell.try_send(Heard::Audio { payload_type, payload: packet.payload.to_vec() });
                }
            }
            if is_closing {
                return;
            }
            loop {
                match orders.try_recv() {
                    Ok(Order::Say { sequence, timestamp, payload }) => self.say(sequence, timestamp, payload),
                    Ok(Order::Close) => {
                        self.connection.close().unwrap();
                        is_closing = true;
                    }
                    Ok(Order::Vanish) | Err(TryRecvError::Disconnected) => return,
                    Err(TryRecvError::Empty) => break,
                }
            }
            if is_closing {
                continue;
            }
            let due = self.connection.poll_timeout();
            let wait = due.map_or(TURN, |due| due.saturating_duration_since(Instant::now()).min(TURN));
            self.socket.set_read_timeout(Some(wait.max(Duration::from_millis(1)))).unwrap();
            if let Ok((length, from)) = self.socket.recv_from(&mut buffer) {
                let transport = TransportContext {
                    local_addr: local,
                    peer_addr: from,
                    ecn: None,
                    transport_protocol: TransportProtocol::UDP,
                };
                let message = BytesMut::from(&buffer[..length]);
                // An alert within an open association is a goodbye (RFC 5246 §7.2.1). The library takes it as it should,
                // and a closed transport changes no state that could be waited for.
                if message.first() == Some(&21) {
                    let _ = tell.try_send(Heard::Closed);
                }
                let _ = self.connection.handle_read(TaggedBytesMut { now: Instant::now(), transport, message });
            }
            let _ = self.connection.handle_timeout(Instant::now());
        }
    }

    fn say(&mut self, sequence: u16, timestamp: u32, payload: Vec<u8>) {
        let header = rtc::rtp::Header {
            version: 2,
            payload_type: ULAW.2,
            sequence_number: sequence,
            timestamp,
            ssrc: SSRC,
            ..Default::default()
        };
        let packet = rtc::rtp::Packet { header, payload: payload.into() };
        if let Some(mut sender) = self.connection.rtp_sender(self.sender) {
            let _ = sender.write_rtp(Instant::now(), packet);
        }
    }
}

impl Browser {
    /// Waits for what fits, at most ten seconds.
    pub(crate) fn wait(&self, what: impl Fn(&Heard) -> bool) -> Heard {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let heard = self.heard.recv_timeout(left).expect("it happens within ten seconds");
            if what(&heard) {
                return heard;
            }
        }
    }

    pub(crate) fn say(&self, sequence: u16, timestamp: u32, payload: Vec<u8>) {
        self.orders.send(Order::Say { sequence, timestamp, payload }).unwrap();
    }

    pub(crate) fn close(mut self) {
        self.order(Order::Close);
    }

    pub(crate) fn vanish(mut self) {
        self.order(Order::Vanish);
    }

    fn order(&mut self, order: Order) {
        let _ = self.orders.send(order);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// The address that an offer or an answer names first.
pub(crate) fn candidate(description: &str) -> SocketAddr {
    let line = description.lines().find(|line| line.starts_with("a=candidate:")).expect("a candidate");
    let words: Vec<&str> = line.split(' ').collect();
    format!("{}:{}", words[4], words[5]).parse().unwrap()
}

const SSRC: u32 = 0x1234_5678;
/// How long it waits for the network before it looks at its orders.
const TURN: Duration = Duration::from_millis(5);
