//! What `fuzz/` throws at the doors, replayed: its corpora, mutations of them by a known seed, and inputs that grow.

#![allow(clippy::disallowed_methods, reason = "growth is judged by time, each run against a run beside it")]

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::source::root;

#[path = "../../fuzz/doors.rs"]
mod doors;

type Door = fn(&[u8]);

const TARGETS: &[(&str, Door)] = &[
    ("sip_message", doors::sip_message),
    ("sdp", doors::sdp),
    ("headers", doors::headers),
    ("refer", doors::refer),
    ("stir", doors::stir),
    ("guard", doors::guard),
];

/// Mutations of each corpus.
const MUTATIONS: usize = 4000;

#[test]
fn the_corpora_of_the_fuzzers_break_nothing() {
    for (target, door) in TARGETS {
        let corpus = corpus(target);
        assert!(corpus.len() >= 8, "{target} has {} seeds", corpus.len());
        for (name, octets) in &corpus {
            println!("{target} {name}");
            door(octets);
        }
    }
}

#[test]
fn mutations_of_the_corpora_break_nothing() {
    for (target, door) in TARGETS {
        let corpus: Vec<Vec<u8>> = corpus(target).into_iter().map(|(_, octets)| octets).collect();
        let mut dice = Dice(0x51_5eed);
        println!("{target}: seed {:#x}", dice.0);
        for round in 0..MUTATIONS {
            let octets = dice.mutate(&corpus);
            let shown = String::from_utf8_lossy(&octets).into_owned();
            let held = std::panic::catch_unwind(|| door(&octets));
            assert!(held.is_ok(), "{target}, round {round}: {shown:?}");
        }
    }
}

/// Eight times the input may take eight times as long, and some more for a busy machine; not sixty-four times.
#[test]
fn no_input_costs_more_than_its_length() {
    // Eight times this is a header that is still read.
    const SMALL: usize = 900;
    const FACTOR: usize = 8;
    for (name, door, shape) in shapes() {
        let (small, large) = (shape(SMALL), shape(SMALL * FACTOR));
        // Both in turn, so that what slows the machine slows both; the best of each is least disturbed.
        let mut best = (Duration::MAX, Duration::MAX);
        for _ in 0..7 {
            best.0 = best.0.min(time(door, &small, FACTOR) / u32::try_from(FACTOR).unwrap());
            best.1 = best.1.min(time(door, &large, 1));
        }
        let growth = best.1.as_secs_f64() / best.0.as_secs_f64();
        println!("{name:<28} {:>9.1?} {:>9.1?}   x{growth:.1}", best.0, best.1);
        assert!(growth < 28.0, "{name}: {FACTOR} times the input takes {growth:.1} times as long");
    }
}

fn time(door: Door, octets: &[u8], times: usize) -> Duration {
    let began = Instant::now();
    for _ in 0..times {
        door(octets);
    }
    began.elapsed()
}

type Shape = (&'static str, Door, Box<dyn Fn(usize) -> Vec<u8>>);

/// Inputs of about a given length that a careless reader walks again and again.
fn shapes() -> Vec<Shape> {
    const START: &str = "INVITE sip:desk@example.net SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKx\r\n\
        From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n";
    let grown = |before: &'static str, unit: &'static str, after: &'static str| {
        move |length: usize| [before, &unit.repeat(length / unit.len()), after].concat().into_bytes()
    };
    let message = |before: &'static str, unit: &'static str, after: &'static str| {
        move |length: usize| [START, before, &unit.repeat(length / unit.len()), after, "\r\n\r\n"].concat().into_bytes()
    };
    const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n";
    const AUDIO: &str = "m=audio 40000 RTP/AVP 0\r\n";
    let described = move |start: &'static str, unit: &'static str| {
        move |length: usize| [SDP, start, &unit.repeat(length / unit.len())].concat().into_bytes()
    };
    let (datagram, header, sdp): (Door, Door, Door) = (doors::sip_message, doors::headers, doors::sdp);
    let (refer, stir, guard): (Door, Door, Door) = (doors::refer, doors::stir, doors::guard);
    vec![
        ("many headers", datagram, Box::new(message("", "a:b\r\n", "a:b"))),
        ("many Vias", datagram, Box::new(message("Via: SIP/2.0/UDP h", ",SIP/2.0/UDP h", ""))),
        ("folded lines", datagram, Box::new(message("X: ", "a\r\n ", "a"))),
        ("routes", datagram, Box::new(message("Record-Route: <sip:a>", ",<sip:a>", ""))),
        ("a long body", datagram, Box::new(message("Content-Type: text/plain\r\n\r\n", "x", ""))),
        ("blanks", header, Box::new(grown("", " ", ""))),
        ("backslashes in quotes", header, Box::new(grown("\"", "\\\\", "\" <sip:a@b>"))),
        ("quotes left open", header, Box::new(grown("", "\"a\" ", "\""))),
        ("brackets", header, Box::new(grown("<", "<", "sip:a@b>"))),
        ("commas", header, Box::new(grown("<sip:a@b>", ",<sip:a@b>", ""))),
        ("parameters", header, Box::new(grown("<sip:a@b>;tag=x", ";a=b", ""))),
        ("parameters of a URI", header, Box::new(grown("sip:a@b", ";a=b", ""))),
        ("headers of a URI", header, Box::new(grown("sip:a@b?x=y", "&x=y", ""))),
        ("escapes", header, Box::new(grown("sip:", "%41", "@b"))),
        ("semicolons", header, Box::new(grown("", ";", ""))),
        ("streams", sdp, Box::new(described("", AUDIO))),
        ("attributes", sdp, Box::new(described(AUDIO, "a=rtpmap:0 PCMU/8000\r\n"))),
        ("headers of a target", refer, Box::new(grown("<sip:a@b?x=y", "&Replaces=x", ">"))),
        ("parameters of Replaces", refer, Box::new(grown("a@b;to-tag=1;from-tag=2", ";x=y", ""))),
        ("parameters of Identity", stir, Box::new(grown("a.b.c", ";info=<x>", ""))),
        ("parts of a token", stir, Box::new(grown("a", ".a", ""))),
        ("parameters of a proof", guard, Box::new(grown("Digest a=b", ", a=\"b\"", ""))),
        ("digits", guard, Box::new(grown("+", "1", ""))),
        ("formats", sdp, Box::new(described("m=audio 40000 RTP/AVP 0", " 0"))),
    ]
}

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder: PathBuf = root().join("fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let named = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    paths.iter().map(|path| (named(path), fs::read(path).unwrap())).collect()
}

/// xorshift64: enough to break things with.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }

    fn mutate(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut octets = corpus[self.below(corpus.len())].clone();
        for _ in 0..=self.below(5) {
            let at = self.below(octets.len());
            let end = (at + 1 + self.below(24)).min(octets.len());
            match self.below(6) {
                0 if at < octets.len() => octets[at] = u8::try_from(self.below(256)).unwrap(),
                1 => drop(octets.drain(at..end)),
                2 => {
                    let piece = octets[at..end].to_vec();
                    octets.splice(at..at, piece);
                }
                3 => {
                    let other = &corpus[self.below(corpus.len())];
                    let from = self.below(other.len());
                    let to = (from + 1 + self.below(60)).min(other.len());
                    octets.splice(at..at, other[from..to].iter().copied());
                }
                4 => octets.insert(at, b"\r\n\t <>;:,@\"\\\0=[]?%/"[self.below(19)]),
                _ => octets.splice(at..at, ODD[self.below(ODD.len())].iter().copied()).for_each(drop),
            }
        }
        octets
    }
}

/// Words that parsers stumble over.
const ODD: &[&[u8]] = &[
    b"4294967296",
    b"-1",
    b"99999999999999999999",
    b"%00",
    b"\r\n\r\n",
    b"\r\n ",
    b"\xff\xfe",
    b";tag=",
    b"sip:",
    b"[::1]",
    b"SIP/2.0",
    b"65536",
];
