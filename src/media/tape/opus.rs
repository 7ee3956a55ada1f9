//! Two channels as Opus in Ogg (RFC 7845).
//!
//! Stereo as Opus couples it would let each side of a call be heard in the other at low rates. So the channels are two
//! mono streams within one logical stream: mapping family 1, two streams, none of them coupled, left and right (§5.1.1.2).

use std::io::{self, Write};

use ogg::{PacketWriteEndInfo, PacketWriter};
use ropus::{Application, Bitrate, Channels, Encoder, Signal};

use crate::model::FRAME_MS;

/// A file that is being written.
pub(super) struct OggOpus<W: Write> {
    pages: PacketWriter<'static, W>,
    left: Encoder,
    right: Encoder,
    /// Samples of one channel in a frame.
    frame: usize,
    /// At 48 kHz: what a decoder leaves out at the beginning, because the encoder needed it to look ahead.
    pre_skip: u64,
    frames: u64,
    /// The packet that ends the next page or the stream, which only the next call knows.
    held: Option<Vec<u8>>,
}

impl<W: Write> OggOpus<W> {
    /// Writes the headers.
    pub(super) fn new(out: W, rate: u32) -> io::Result<OggOpus<W>> {
        let encoder = || {
            Encoder::builder(rate, Channels::Mono, Application::Voip)
                .bitrate(Bitrate::Bits(BITS_PER_SECOND))
                .signal(Signal::Voice)
                .complexity(COMPLEXITY)
                .vbr(true)
                .build()
                .map_err(|error| io::Error::other(format!("setting up Opus: {error}")))
        };
        let (left, right) = (encoder()?, encoder()?);
        let pre_skip = left.lookahead() * (GRANULES_PER_SECOND / rate);
        let mut ogg = OggOpus {
            pages: PacketWriter::new(out),
            left,
            right,
            frame: (rate / 1000 * FRAME_MS) as usize,
            pre_skip: pre_skip.into(),
            frames: 0,
            held: None,
        };
        ogg.pages.write_packet(head(pre_skip, rate), SERIAL, PacketWriteEndInfo::EndPage, 0)?;
        ogg.pages.write_packet(tags(), SERIAL, PacketWriteEndInfo::EndPage, 0)?;
        Ok(ogg)
    }

    /// Encodes 20 ms of both channels.
    pub(super) fn write(&mut self, left: &[i16], right: &[i16]) -> io::Result<()> {
        let packet = self.encode(left, right)?;
        let end = if self.frames.is_multiple_of(FRAMES_PER_PAGE) {
            PacketWriteEndInfo::EndPage
        } else {
            PacketWriteEndInfo::NormalPacket
        };
        self.put(end)?;
        self.held = Some(packet);
        self.frames += 1;
        Ok(())
    }

    /// Hands whole pages to the disk; at most a second stays behind.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.pages.inner_mut().flush()
    }

    /// Ends the stream where the audio ends: a decoder cuts what stands behind (§4.4).
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.put(PacketWriteEndInfo::NormalPacket)?;
        // What the encoder still holds back comes with one more frame.
        let silence = vec![0; self.frame];
        let packet = self.encode(&silence, &silence)?;
        let end = self.pre_skip + self.frames * GRANULES_PER_FRAME;
        self.pages.write_packet(packet, SERIAL, PacketWriteEndInfo::EndStream, end)?;
        Ok(self.pages.into_inner())
    }

    fn put(&mut self, end: PacketWriteEndInfo) -> io::Result<()> {
        let Some(packet) = self.held.take() else { return Ok(()) };
        // §4: the position of a page counts everything that comes out of the decoder up to its last packet.
        self.pages.write_packet(packet, SERIAL, end, self.frames * GRANULES_PER_FRAME)
    }

    fn encode(&mut self, left: &[i16], right: &[i16]) -> io::Result<Vec<u8>> {
        let failed = |error: ropus::EncodeError| io::Error::other(format!("encoding Opus: {error}"));
        let mut buffer = [0; PACKET_MAX];
        let len = self.left.encode(left, &mut buffer).map_err(failed)?;
        let mut packet = self_delimited(&buffer[..len])?;
        let len = self.right.encode(right, &mut buffer).map_err(failed)?;
        packet.extend_from_slice(&buffer[..len]);
        Ok(packet)
    }
}

/// A packet that says how long it is, as all but the last of a multistream packet must (RFC 6716 appendix B).
fn self_delimited(packet: &[u8]) -> io::Result<Vec<u8>> {
    match packet.split_first() {
        // Code 0: one frame to the end of the packet. 20 ms are always one frame.
        Some((toc, frame)) if toc & 3 == 0 => {
            let mut long = Vec::with_capacity(packet.len() + 2 + PACKET_MAX / 4);
            long.push(*toc);
            match frame.len() {
                len @ 0..252 => long.push(len as u8),
                // §3.2.1: 252 to 255 and a second octet for fours.
                len => {
                    let first = 252 + (len & 3);
                    long.extend([first as u8, ((len - first) / 4) as u8]);
                }
            }
            long.extend_from_slice(frame);
            Ok(long)
        }
        _ => Err(io::Error::other("encoding Opus: not one frame in a packet")),
    }
}

/// §5.1.
fn head(pre_skip: u32, rate: u32) -> Vec<u8> {
    let mut head = b"OpusHead".to_vec();
    head.extend([1, 2]);
    head.extend(u16::try_from(pre_skip).unwrap_or(u16::MAX).to_le_bytes());
    head.extend(rate.to_le_bytes());
    head.extend([0, 0]);
    // Family 1; two streams, none coupled; left is the first, right the second.
    head.extend([1, 2, 0, 0, 1]);
    head
}

/// §5.2.
fn tags() -> Vec<u8> {
    let mut tags = b"OpusTags".to_vec();
    for text in [concat!("ringback ", env!("CARGO_PKG_VERSION")), ""] {
        if text.is_empty() {
            // No comments: a recording says nothing of who is in it.
            tags.extend(0u32.to_le_bytes());
        } else {
            tags.extend((text.len() as u32).to_le_bytes());
            tags.extend(text.as_bytes());
        }
    }
    tags
}

/// For each channel: speech of a telephone is clear at that rate, and both make some 20 MB an hour.
const BITS_PER_SECOND: u32 = 20_000;
/// Of 10: half the work of the best, and not to be told from it in speech of 4 kHz.
const COMPLEXITY: u8 = 5;
/// What an Opus frame of 20 ms can hold at most (RFC 6716 §3.2.1).
const PACKET_MAX: usize = 1275;
const GRANULES_PER_SECOND: u32 = 48_000;
const GRANULES_PER_FRAME: u64 = (GRANULES_PER_SECOND / 1000 * FRAME_MS) as u64;
/// A second: what a crash may cost beside what was not flushed.
const FRAMES_PER_PAGE: u64 = 1000 / FRAME_MS as u64;
/// There is one stream in the file, so any number tells it from the others.
const SERIAL: u32 = 0x5249_4E47;
