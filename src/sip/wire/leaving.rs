//! What goes out: where a call is placed, and the ways that a request within a dialog may take.

use std::sync::atomic::Ordering;

use sipx_sip::{Method, Request, Uri};

use super::{Call, Leg, Wire, new_dice, new_token};
use crate::sip::dialog::{Ask, Letter, Out, Timer};
use crate::sip::digest::Digest;
use crate::sip::event::{Dial, DialogId, Failure, SipEvent, Transport};
use crate::sip::message;
use crate::sip::net::{self, Hop, Way};
use crate::sip::uac::{Beginning, Uac};

impl Wire {
    pub(super) async fn dial(&mut self, id: DialogId, dial: Box<Dial>) {
        let way = match dial.target {
            Some((addr, transport)) => Way::Known(Hop::new(addr, transport)),
            None => match Uri::parse(dial.route.first().unwrap_or(&dial.to).clone().into_bytes().into()) {
                Ok(uri) => net::way(&uri, Transport::Udp),
                Err(_) => Way::Nowhere,
            },
        };
        match way {
            Way::Known(hop) => self.place(id, *dial, vec![hop]).await,
            Way::Named(_) => {
                // Nobody is met before the name is found.
                let peer = Hop::new(([0, 0, 0, 0], 0).into(), Transport::Udp);
                self.calls.insert(id, Call::new(Leg::Lookup(dial), peer, 0));
                self.stack.look_up(id, way);
            }
            Way::Nowhere => self.fail(id, Failure::BadRequest).await,
        }
    }

    pub(super) async fn place(&mut self, id: DialogId, dial: Dial, hops: Vec<Hop>) {
        let reached = hops.first().cloned().and_then(|hop| Some((self.net.endpoint_for(&hop, None)?, hop)));
        let Some((endpoint, hop)) = reached else {
            return self.fail(id, Failure::Transport).await;
        };
        for hop in &hops {
            self.screen.befriend(hop.addr.ip());
        }
        let own = self.net.own(endpoint, &hop);
        let is_secure = dial.to.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("sips:"));
        let own = if is_secure { own.secured() } else { own };
        let (call_id, tag) = (format!("{}@{}", new_token(), own.host), new_token());
        let Some(invite) = message::dial(&dial, &call_id, &tag, &own) else {
            return self.fail(id, Failure::BadRequest).await;
        };
        let mut out = Vec::new();
        let (timers, rules, dice) = (self.config.timers, dial.rules, new_dice());
        let mut uac = Uac::dial(Beginning { id, own, timers, rules, dice }, invite, dial.sdp, &mut out);
        uac.log_in(Digest::new(dial.credentials, &new_token()));
        let name = (call_id.into_bytes(), tag.into_bytes());
        self.names.insert(name.clone(), id);
        let call =
            Call { name: Some(name), hops, silence: dial.silence, ..Call::new(Leg::Out(Box::new(uac)), hop, endpoint) };
        self.calls.insert(id, call);
        self.counts.dialogs.store(self.calls.len() as u64, Ordering::Relaxed);
        self.carry_out(id, out).await;
    }

    pub(super) async fn fail(&mut self, id: DialogId, failure: Failure) {
        let out = vec![Out::Tell(SipEvent::Failed { dialog: id, failure }), Out::Over];
        self.carry_out(id, out).await;
    }

    pub(super) fn invite(&mut self, id: DialogId, request: Request) {
        let now = self.now();
        let Some(call) = self.calls.get_mut(&id) else { return };
        let hops = std::mem::take(&mut call.hops);
        let hops = if hops.is_empty() { vec![call.peer.clone()] } else { hops };
        self.tracer.request(id, now, false, hops.first().unwrap_or(&call.peer), &request);
        // Each of the hops gets so long, again when it is asked with a proof.
        let patience =
            call.silence.map(|silence| silence.saturating_mul(u32::try_from(hops.len()).unwrap_or(u32::MAX)));
        self.stack.invite(id, request, hops, call.endpoint, call.silence);
        if let Some(patience) = patience {
            self.arm(id, Timer::Silence, Some(now + patience));
        }
    }

    /// An ACK to a 2xx is no transaction: it goes straight out, and again with each copy of the 2xx.
    pub(super) fn acknowledge(&mut self, id: DialogId, letter: Letter) {
        let Some((ways, endpoint)) = self.ways(id, &letter) else { return };
        self.trace_ours(id, &letter);
        self.stack.acknowledge(letter.request, ways, endpoint);
    }

    pub(super) fn ask(&mut self, id: DialogId, ask: Ask, letter: Letter) {
        let Some((ways, endpoint)) = self.ways(id, &letter) else { return };
        if letter.request.method == Method::Invite
            && let Some(call) = self.calls.get_mut(&id)
        {
            call.has_reinvited = true;
        }
        self.trace_ours(id, &letter);
        self.stack.ask_within(id, ask, letter.request, ways, endpoint);
    }

    pub(super) fn trace_ours(&self, id: DialogId, letter: &Letter) {
        if let Some(call) = self.calls.get(&id) {
            self.tracer.request(id, self.now(), false, &call.peer, &letter.request);
        }
    }

    /// The ways to try for a request within a dialog, best first.
    pub(super) fn ways(&self, id: DialogId, letter: &Letter) -> Option<(Vec<Way>, usize)> {
        let call = self.calls.get(&id)?;
        let met = Way::Known(call.peer.clone());
        let way = net::way(&letter.next, call.peer.transport);
        let is_hidden = match &way {
            // Behind a NAT a peer writes an address of its own network; then where we met it is all we know.
            Way::Known(hop) => net::is_hidden(hop.addr.ip(), call.peer.addr.ip()),
            Way::Nowhere => true,
            Way::Named(_) => false,
        };
        // A caller on TCP has a connection open; a new one to its Contact often meets a closed door.
        let has_connection = matches!(call.leg, Leg::In(_)) && call.peer.transport.is_stream();
        let stays = !letter.is_routed && (is_hidden || has_connection);
        Some((if stays { vec![met, way] } else { vec![way, met] }, call.endpoint))
    }
}
