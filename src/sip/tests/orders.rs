//! Whatever comes in whatever order: every dialog ends once, and leaves no timer behind.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::dialog::{Ask, Reply};
use super::super::digest::{Digest, Login};
use super::super::event::Terms;
use super::*;
use crate::trunk::Reliable;

/// A world for one dialog: the timers it has set, and what it waits for.
#[derive(Default)]
struct World {
    timers: BTreeSet<Timer>,
    asks: Vec<(Ask, Request)>,
    overs: usize,
    endings: usize,
    /// The final answer to the first INVITE; it may be repeated, but not changed.
    answer: Option<u16>,
    /// The RSeq of the last reliable provisional answer.
    rseq: Option<u32>,
}

impl World {
    /// A timer that is set; repetitions only when nothing else is, since they go on until something else ends them.
    fn next_timer(&mut self) -> Option<Timer> {
        let repeats = |timer: &Timer| matches!(timer, Timer::Repeat | Timer::Chase);
        let timer = self.timers.iter().copied().find(|timer| !repeats(timer)).or(self.timers.first().copied())?;
        self.timers.remove(&timer);
        Some(timer)
    }

    fn take(&mut self, out: &mut Vec<Out>) {
        for out in out.drain(..) {
            assert!(self.overs == 0 || matches!(out, Out::Disarm(_)), "{out:?} after the end");
            match out {
                Out::Arm(timer, _) => {
                    self.timers.insert(timer);
                }
                Out::Disarm(timer) => {
                    self.timers.remove(&timer);
                }
                Out::Ask(ask, letter) => self.asks.push((ask, letter.request)),
                Out::Over => self.overs += 1,
                Out::Tell(
                    SipEvent::Ended { .. }
                    | SipEvent::Canceled { .. }
                    | SipEvent::AckMissing { .. }
                    | SipEvent::Lost { .. }
                    | SipEvent::Failed { .. },
                ) => self.endings += 1,
                Out::Respond(_, response) => {
                    let is_first = message::cseq(&response.headers) == Some(1);
                    let is_invite = message::value(&response.headers, &sipx_sip::HeaderName::CSeq)
                        .is_some_and(|cseq| cseq.ends_with(b"INVITE"));
                    if let Some(Ok(rseq)) = response.headers.typed::<sipx_sip::rel::RSeq>() {
                        self.rseq = Some(rseq.0);
                    }
                    if is_first && is_invite && response.status.is_final() {
                        let status = response.status.code();
                        assert_eq!(*self.answer.get_or_insert(status), status, "a second final answer");
                    }
                }
                Out::Invite(_) | Out::Cancel(_) | Out::Ack(_) | Out::Tell(_) => {}
            }
        }
    }
}

fn inner(method: &str, cseq: u32, extra: &str, sdp: Option<&str>) -> Request {
    let body = sdp.unwrap_or("");
    request(&format!(
        "{method} sip:desk@192.0.2.9 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK{method}{cseq};rport\r\n\
         From: <sip:ada@example.com>;tag=theirs\r\nTo: <sip:desk@192.0.2.9>;tag=ours\r\nCall-ID: 1@192.0.2.1\r\n\
         CSeq: {cseq} {method}\r\nContact: <sip:ada@192.0.2.1>\r\nMax-Forwards: 70\r\nAllow: UPDATE\r\n{extra}\
         Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

fn login() -> Login {
    Login { username: "alice".to_owned(), password: crate::model::Secret::new("open sesame"), realm: None }
}

/// A request is challenged, now and then with a nonce that was only too old.
fn challenge(asked: &Request, step: usize) -> Reply {
    let mut response = message::respond(asked, [401, 407][step % 2], Some("theirs"));
    let name = [sipx_sip::HeaderName::WwwAuthenticate, sipx_sip::HeaderName::ProxyAuthenticate][step % 2].clone();
    let stale = ["", ", stale=true"][step % 3 / 2];
    message::put(&mut response.headers, name, format!("Digest realm=\"r\", nonce=\"{step}\"{stale}"));
    Reply::Response(Box::new(response))
}

fn offer(step: usize) -> String {
    let way = ["sendrecv", "sendonly", "inactive"][step % 3];
    SDP.replace("192.0.2.9", "192.0.2.1") + &format!("a={way}\r\n")
}

proptest! {
    #[test]
    fn every_inbound_call_ends_once(
        has_sdp in any::<bool>(),
        wants in 0..3usize,
        script in proptest::collection::vec(0..20usize, 0..14),
    ) {
        let extra = ["", "Supported: 100rel, timer\r\nSession-Expires: 200\r\n", "Require: 100rel\r\nSupported: timer\r\n"][wants];
        let body = if has_sdp { SDP } else { "" };
        let text = INVITE.replace("Max-Forwards: 70\r\n", &format!("Max-Forwards: 70\r\nAllow: UPDATE\r\n{extra}"));
        let text = text.replace("Content-Length: 12\r\n\r\nv=0\r\nnothing", &format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        let (mut out, mut world) = (Vec::new(), World::default());
        let mut uas = Uas::invited(birth(), request(&text), &mut out).unwrap();
        let key = |request: &Request| TransactionKey::from_request(request).unwrap();
        let rules = SessionRules { reliable: Reliable::Supported, ..SessionRules::default() };
        let terms = Terms { rules, sdp: Some(SDP.to_owned()), credentials: Some(login()), ..Terms::default() };
        uas.on_command(SipCommand::Adopt(Box::new(terms)), &mut out);
        world.take(&mut out);
        let mut cseq = 1;

        for (step, what) in script.into_iter().enumerate() {
            cseq += 1;
            let sdp = offer(step);
            match what {
                0 => uas.on_command(SipCommand::Ring, &mut out),
                1 => uas.on_command(SipCommand::Progress { status: 183, sdp: Some(SDP.to_owned()) }, &mut out),
                2 | 3 => uas.on_command(SipCommand::Answer { sdp: SDP.to_owned() }, &mut out),
                4 => uas.on_command(SipCommand::HangUp { cause: None }, &mut out),
                5 => uas.on_command(SipCommand::Reoffer { sdp: SDP.replace("4000", "4002") }, &mut out),
                6 | 7 => uas.on_ack(&inner("ACK", 1, "", (!has_sdp).then_some(&sdp)), &mut out),
                8 => uas.on_ack(&inner("ACK", cseq - 1, "", None), &mut out),
                9 | 10 => {
                    let rack = format!("RAck: {} 1 INVITE\r\n", world.rseq.unwrap_or(7));
                    let prack = inner("PRACK", cseq, &rack, (what == 10).then_some(&sdp));
                    uas.on_request(key(&prack), &prack, &mut out);
                }
                11 => { let bye = inner("BYE", cseq, "", None); uas.on_request(key(&bye), &bye, &mut out) }
                12 => { let cancel = inner("CANCEL", 1, "", None); uas.on_cancel(key(&cancel), &cancel, &key(&request(&text)), &mut out) }
                13 => { let update = inner("UPDATE", cseq, "", Some(&sdp)); uas.on_request(key(&update), &update, &mut out) }
                14 => { let update = inner("UPDATE", cseq, "", None); uas.on_request(key(&update), &update, &mut out) }
                15 => { let invite = inner("INVITE", cseq, "", Some(&sdp)); uas.on_request(key(&invite), &invite, &mut out) }
                16 => { let invite = inner("INVITE", cseq, "", None); uas.on_request(key(&invite), &invite, &mut out) }
                17 => if let Some(timer) = world.timers.iter().nth(step % 3).copied() {
                    world.timers.remove(&timer);
                    uas.on_timer(timer, &mut out);
                },
                18 => if let Some((ask, asked)) = world.asks.pop() {
                    let status = [200, 491, 488, 422, 481, 500][step % 6];
                    uas.on_reply(ask, Reply::Response(Box::new(answer(&asked, status, "theirs"))), &mut out);
                },
                _ => if let Some((ask, asked)) = world.asks.pop() { uas.on_reply(ask, challenge(&asked, step), &mut out) },
            }
            world.take(&mut out);
            if world.overs > 0 { break }
        }
        uas.on_command(SipCommand::HangUp { cause: None }, &mut out);
        world.take(&mut out);
        for _ in 0..200 {
            if world.overs > 0 { break }
            if let Some((ask, _)) = world.asks.pop() { uas.on_reply(ask, Reply::Lost, &mut out) }
            else if let Some(timer) = world.next_timer() { uas.on_timer(timer, &mut out) }
            world.take(&mut out);
        }

        prop_assert_eq!((world.overs, world.endings, world.answer.is_some()), (1, 1, true));
    }

    #[test]
    fn every_outbound_call_ends_once(script in proptest::collection::vec(0..18usize, 0..14), required in any::<bool>()) {
        let (mut uac, invite) = dialled();
        let (mut out, mut world) = (Vec::new(), World::default());
        let mut rseq = 10;
        uac.log_in(Digest::new(Some(login()), "seed"));
        for (step, what) in script.into_iter().enumerate() {
            let tag = ["bob", "eve"][step % 2];
            let reliable = |rseq: u32, tag: &str, sdp: bool| {
                let mut response = message::respond(&invite, 183, Some(tag));
                message::put(&mut response.headers, sipx_sip::HeaderName::Require, "100rel");
                message::put(&mut response.headers, sipx_sip::HeaderName::RSeq, rseq.to_string());
                message::put(&mut response.headers, sipx_sip::HeaderName::Allow, "UPDATE");
                if sdp {
                    message::put_body(&mut response.headers, message::SDP, SDP.as_bytes());
                    response.set_body(SDP.as_bytes().to_vec().into());
                }
                response
            };
            match what {
                0 => uac.on_response(&answer(&invite, 180, tag), &mut out),
                1 | 2 => { rseq += 1; uac.on_response(&reliable(rseq, tag, what == 1 || required), &mut out) }
                3 | 4 => uac.on_response(&answer(&invite, 200, tag), &mut out),
                5 => uac.on_response(&answer(&invite, 486, tag), &mut out),
                6 => uac.on_response(&answer(&invite, 422, tag), &mut out),
                7 => uac.on_command(SipCommand::HangUp { cause: None }, &mut out),
                8 => uac.on_command(SipCommand::Reoffer { sdp: SDP.replace("4000", "4002") }, &mut out),
                9 => uac.on_failure(Failure::Timeout, &mut out),
                10 => uac.on_invite_over(&mut out),
                11..=14 => {
                    let method = ["BYE", "UPDATE", "INVITE", "INFO"][what - 11];
                    let text = inner(method, u32::try_from(step).unwrap() + 1, "", (what == 12 || what == 13).then_some(&offer(step)));
                    let octets = String::from_utf8(Message::Request(text).to_bytes().to_vec()).unwrap();
                    let from = request(&octets.replace("tag=theirs", &format!("tag={tag}")));
                    uac.on_request(TransactionKey::from_request(&from).unwrap(), &from, &mut out);
                }
                15 => if let Some(timer) = world.timers.iter().nth(step % 3).copied() {
                    world.timers.remove(&timer);
                    uac.on_timer(timer, &mut out);
                },
                16 => if let Some((ask, asked)) = world.asks.pop() {
                    let status = [200, 491, 488, 422, 481, 500][step % 6];
                    uac.on_reply(ask, Reply::Response(Box::new(answer(&asked, status, tag))), &mut out);
                },
                _ => if let Some((ask, asked)) = world.asks.pop() { uac.on_reply(ask, challenge(&asked, step), &mut out) },
            }
            world.take(&mut out);
            if world.overs > 0 { break }
        }
        uac.on_command(SipCommand::HangUp { cause: None }, &mut out);
        world.take(&mut out);
        for _ in 0..200 {
            if world.overs > 0 { break }
            if let Some((ask, _)) = world.asks.pop() { uac.on_reply(ask, Reply::Lost, &mut out) }
            else if let Some(timer) = world.next_timer() { uac.on_timer(timer, &mut out) }
            else { uac.on_invite_over(&mut out) }
            world.take(&mut out);
        }

        prop_assert_eq!((world.overs, world.endings), (1, 1));
    }
}
