//! The agent's end of a WebSocket (RFC 6455), as little of it as an echo needs: whole messages, no extensions. The
//! gateway's own library is not used, so that it is not measured against itself and the load stays cheap.

use std::io::{self, Read, Write};

use mio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// One connection.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) stream: TcpStream,
    incoming: Vec<u8>,
    /// Where what was not taken yet begins.
    taken: usize,
    outgoing: Vec<u8>,
    is_open: bool,
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// A message of text, its octets.
    Text(Vec<u8>),
    /// A message of octets.
    Binary(Vec<u8>),
    /// The other side says goodbye.
    Close,
}

impl Socket {
    pub(super) fn new(stream: TcpStream) -> Socket {
        Socket { stream, incoming: Vec::new(), taken: 0, outgoing: Vec::new(), is_open: false }
    }

    /// Reads what is there; `false` when the connection is gone.
    pub(super) fn fill(&mut self) -> bool {
        self.incoming.drain(..self.taken);
        self.taken = 0;
        let mut chunk = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return false,
                Ok(read) => {
                    self.incoming.extend_from_slice(&chunk[..read]);
                    if read < chunk.len() {
                        return true;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }

    /// The next whole message, once the upgrade is answered.
    ///
    /// # Errors
    /// When it is no WebSocket, or does what a gateway never does.
    pub(super) fn next(&mut self) -> io::Result<Option<Came>> {
        if !self.is_open && !self.open()? {
            return Ok(None);
        }
        loop {
            let Some((opcode, length, payload)) = take_frame(&self.incoming[self.taken..])? else { return Ok(None) };
            self.taken += length;
            match opcode {
                TEXT => return Ok(Some(Came::Text(payload))),
                BINARY => return Ok(Some(Came::Binary(payload))),
                CLOSE => return Ok(Some(Came::Close)),
                PING => self.queue(PONG, &payload),
                _ => {}
            }
        }
    }

    pub(super) fn text(&mut self, text: &str) {
        self.queue(TEXT, text.as_bytes());
    }

    pub(super) fn binary(&mut self, octets: &[u8]) {
        self.queue(BINARY, octets);
    }

    pub(super) fn close(&mut self) {
        self.queue(CLOSE, &[]);
    }

    /// Writes what is queued, as far as the system takes it.
    pub(super) fn flush(&mut self) {
        while !self.outgoing.is_empty() {
            match self.stream.write(&self.outgoing) {
                Ok(written) => drop(self.outgoing.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Later; or never, which reading finds out.
                Err(_) => return,
            }
        }
    }

    fn queue(&mut self, opcode: u8, payload: &[u8]) {
        self.outgoing.push(FIN | opcode);
        match payload.len() {
            short @ ..126 => self.outgoing.push(short as u8),
            middling @ ..65_536 => {
                self.outgoing.push(126);
                self.outgoing.extend_from_slice(&(middling as u16).to_be_bytes());
            }
            long => {
                self.outgoing.push(127);
                self.outgoing.extend_from_slice(&(long as u64).to_be_bytes());
            }
        }
        self.outgoing.extend_from_slice(payload);
    }

    /// Answers the upgrade; `false` while it is not whole.
    fn open(&mut self) -> io::Result<bool> {
        let Some(end) = self.incoming.windows(4).position(|octets| octets == b"\r\n\r\n") else { return Ok(false) };
        let head = String::from_utf8_lossy(&self.incoming[..end]).into_owned();
        let header = |wanted: &str| {
            head.lines()
                .filter_map(|line| line.split_once(':'))
                .find_map(|(name, value)| name.eq_ignore_ascii_case(wanted).then(|| value.trim().to_owned()))
        };
        let key = header("sec-websocket-key").ok_or_else(|| unusable("no WebSocket"))?;
        let mut answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n",
            derive_accept_key(key.as_bytes())
        );
        if let Some(subprotocol) = header("sec-websocket-protocol") {
            answer.push_str(&format!("Sec-WebSocket-Protocol: {subprotocol}\r\n"));
        }
        answer.push_str("\r\n");
        self.outgoing.extend_from_slice(answer.as_bytes());
        self.taken = end + 4;
        self.is_open = true;
        Ok(true)
    }
}

/// A frame from the beginning of these octets: its opcode, its length in all, and its payload without the mask.
fn take_frame(octets: &[u8]) -> io::Result<Option<(u8, usize, Vec<u8>)>> {
    let [first, second, rest @ ..] = octets else { return Ok(None) };
    if second & 0x80 == 0 {
        return Err(unusable("a client's frame without a mask"));
    }
    if first & FIN == 0 {
        return Err(unusable("a message in pieces"));
    }
    let (length, rest, head) = match second & 0x7f {
        126 => match rest.split_first_chunk::<2>() {
            Some((length, rest)) => (usize::from(u16::from_be_bytes(*length)), rest, 4),
            None => return Ok(None),
        },
        127 => match rest.split_first_chunk::<8>() {
            Some((length, rest)) => (usize::try_from(u64::from_be_bytes(*length)).unwrap_or(usize::MAX), rest, 10),
            None => return Ok(None),
        },
        short => (usize::from(short), rest, 2),
    };
    if length > MESSAGE_MAX {
        return Err(unusable("a message that is too long"));
    }
    let Some((mask, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
    let Some(payload) = rest.get(..length) else { return Ok(None) };
    let payload = payload.iter().zip(mask.iter().cycle()).map(|(octet, mask)| octet ^ mask).collect();
    Ok(Some((first & 0x0f, head + 4 + length, payload)))
}

fn unusable(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

const FIN: u8 = 0x80;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
/// More than any message of the gateway; the prompt of an agent is the longest.
const MESSAGE_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_whole_and_without_their_mask() {
        let frame = [0x82, 0x83, 1, 2, 3, 4, 0x11, 0x22, 0x33, 0x99];

        for short in 0..9 {
            assert_eq!(take_frame(&frame[..short]).unwrap(), None, "{short} octets");
        }
        assert_eq!(take_frame(&frame).unwrap(), Some((BINARY, 9, vec![0x10, 0x20, 0x30])));
    }

    #[test]
    fn a_frame_without_a_mask_or_too_long_is_refused() {
        assert!(take_frame(&[0x82, 0x03, 1, 2, 3]).is_err());
        assert!(take_frame(&[0x82, 0xff, 0, 0, 0, 1, 0, 0, 0, 0]).is_err());
        assert!(take_frame(&[0x02, 0x80, 0, 0, 0, 0]).is_err());
    }
}
