//! What ten thousand idle gateways and their registrations cost: the real binary, and a peer that answers everything.

#![allow(clippy::disallowed_methods, reason = "real peers are waited for by the real clock")]

use std::collections::BTreeSet;
use std::fs;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use crate::rig::{Gateway, Rig, alone};

#[test]
#[ignore = "takes a minute and wants the machine for itself: cargo test --test it trunk_load -- --ignored --nocapture"]
fn ten_thousand_gateways_and_registrations_cost_next_to_nothing() {
    let _machine = alone();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let at = peer.local_addr().unwrap();
    let rig = Rig::new(&[]);
    for trunk in 0..TRUNKS {
        let uris: Vec<String> = (0..16).map(|n| format!("\"sip:{at};gw={n}\"")).collect();
        let text = format!(
            "version = 1\ntitle = \"Trunk {trunk}\"\n[outbound]\ngateways = [{}]\nprobe_s = 30\n\
             [registration]\nregistrars = [\"sip:{at}\"]\naor = \"sip:us{trunk}@carrier.example\"\nexpires_s = 60\n",
            uris.join(", ")
        );
        rig.write(&format!("trunks/t{trunk}.toml"), &text);
    }
    let gateway = Gateway::start(&rig);

    // Half a minute until all have been asked once, and half a minute in which we measure.
    answer(&peer, Duration::from_secs(35));
    let (cpu, began) = (cpu_of(gateway.pid()), Instant::now());
    let (options, registers, most) = answer(&peer, Duration::from_secs(30));
    let (cpu, wall) = (cpu_of(gateway.pid()) - cpu, began.elapsed());

    let share = cpu.as_secs_f64() / wall.as_secs_f64();
    println!(
        "{} gateways, {TRUNKS} registrations: {options} OPTIONS and {registers} REGISTER in {wall:?}, at most {most} in \
         100 ms; {cpu:?} of processor time, {:.2} % of one core, {:.0} µs each",
        TRUNKS * 16,
        share * 100.0,
        cpu.as_secs_f64() * 1e6 / f64::from(options + registers)
    );
    // Each is asked every 24 to 30 s.
    assert!((10_000..14_000).contains(&options), "{options} OPTIONS in half a minute");
    // The first ones are spread over almost two minutes, so that no provider is overrun by a restart.
    assert!(registers >= TRUNKS / 2, "{registers} REGISTER in half a minute");
    assert!(most < 150, "{most} requests in 100 ms: they come in step");
    assert!(share < 0.5, "{:.1} % of a core without optimisation", share * 100.0);
    gateway.assert_counted("ringback_registration_up", "", f64::from(TRUNKS / 2));
}

/// Answers for so long. How many OPTIONS and REGISTER came, and how many at most within 100 ms.
fn answer(peer: &UdpSocket, during: Duration) -> (u32, u32, u32) {
    let (began, mut buffer) = (Instant::now(), [0; 4096]);
    let (mut options, mut registers, mut most) = (0, 0, 0);
    let (mut slice, mut in_slice, mut seen) = (Instant::now(), 0, BTreeSet::new());
    while began.elapsed() < during {
        let Ok((length, from)) = peer.recv_from(&mut buffer) else { continue };
        let request = String::from_utf8_lossy(&buffer[..length]);
        let wanted = ["Via:", "From:", "To:", "Call-ID:", "CSeq:"];
        let echoed = request.lines().filter(|line| wanted.iter().any(|name| line.starts_with(name)));
        let mut answer = "SIP/2.0 200 OK\r\n".to_owned();
        for line in echoed {
            answer.push_str(line);
            answer.push_str("\r\n");
        }
        answer.push_str("Expires: 60\r\nContent-Length: 0\r\n\r\n");
        peer.send_to(answer.as_bytes(), from).unwrap();
        let via = request.lines().find(|line| line.starts_with("Via:")).unwrap_or_default().to_owned();
        if !seen.insert(via) {
            continue;
        }
        if request.starts_with("REGISTER") {
            registers += 1
        } else {
            options += 1
        }
        if slice.elapsed() > Duration::from_millis(100) {
            (slice, in_slice) = (Instant::now(), 0);
        }
        in_slice += 1;
        most = most.max(in_slice);
    }
    (options, registers, most)
}

/// User and system time, from the 14th and 15th field of /proc/PID/stat, at 100 ticks in a second.
fn cpu_of(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let behind_name = stat.rsplit_once(')').unwrap().1;
    let ticks: u64 = behind_name.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

const TRUNKS: u32 = 625;
