//! What comes in: whose request it is, whether its sender may make it, and which dialog it is for.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use sipx_sip::{HeaderName, Method, Request, Response, TransactionKey};

use super::{Call, Leg, Wire, new_dice, new_token, next_id};
use crate::model::limits;
use crate::sip::counters::Counts;
use crate::sip::dialog::Out;
use crate::sip::door::{self, Kind, Verdict};
use crate::sip::event::{DialogId, Invite, Replaces, SipEvent, Transport};
use crate::sip::places::Places;
use crate::sip::screen::Screened;
use crate::sip::stack::Incoming;
use crate::sip::uas::{Birth, Uas};
use crate::sip::{message, refer};

impl Wire {
    pub(super) async fn on_request(&mut self, incoming: Incoming) {
        let tag = new_token();
        let belongs = self.belongs(&incoming);
        let mut trunk = None;
        // An ACK is never answered, so there is nothing to tell a stranger.
        if !belongs && incoming.request.method != Method::Ack {
            let Incoming { request, peer, tls_names, .. } = &incoming;
            let from = (peer.addr.ip(), peer.transport);
            match self.screen.judge(self.age(), request, from, tls_names, &tag) {
                Screened::Admitted(known) => trunk = known,
                Screened::Answer(response) => {
                    self.counts.refuse(response.status.code());
                    return self.respond(&incoming.key, *response);
                }
                Screened::Ignore => return self.stack.ignore(&incoming.key),
            }
        }
        let kind = match door::judge(&incoming.request, &tag) {
            Verdict::Serve(kind) => kind,
            Verdict::Answer(response) => {
                if !response.status.is_success() {
                    self.counts.refuse(response.status.code());
                    say_refused(&incoming, trunk.as_deref(), &response);
                }
                return self.respond(&incoming.key, *response);
            }
            Verdict::Drop => return Counts::add(&self.counts.dropped),
        };
        match kind {
            Kind::Call => self.on_invite(incoming, trunk, tag).await,
            Kind::Ack if !belongs => Counts::add(&self.counts.dropped),
            Kind::Cancel | Kind::InDialog if !belongs => {
                self.counts.refuse(481);
                let tag = (kind == Kind::Cancel).then_some(tag.as_str());
                self.respond(&incoming.key, message::respond(&incoming.request, 481, tag));
            }
            Kind::Cancel => self.on_cancel(incoming.key, &incoming.request, &tag).await,
            Kind::InDialog | Kind::Ack => self.on_inner_request(incoming.key, &incoming.request).await,
        }
    }

    /// Whether a request is for something that we have, and comes from where its other side may be.
    ///
    /// Who knows the names of a dialog may speak in it. Over UDP they can be overheard and an address can be forged, so a
    /// BYE or a re-INVITE out of nowhere is an attack. It must come from where the other side was met, from an address of
    /// the same trunk, or from where the other side said that it is (Contact and Record-Route, RFC 3261 §12.1). A name
    /// there may be anywhere. Behind a certificate, whoever knows the names is believed.
    pub(super) fn belongs(&mut self, incoming: &Incoming) -> bool {
        let Incoming { request, peer, .. } = incoming;
        let id = if request.method == Method::Cancel {
            TransactionKey::for_cancelled_invite(request).and_then(|invite| self.invites.get(&invite))
        } else {
            let tag = message::tag(&request.headers, &HeaderName::To).unwrap_or_default();
            self.names.get(&(message::call_id(&request.headers), tag))
        };
        let Some(call) = id.and_then(|id| self.calls.get(id)) else { return false };
        let source = peer.addr.ip().to_canonical();
        let access = self.screen.access();
        let is_of_trunk = match (&call.trunk, access.by_address(source)) {
            (Some(trunk), Some(theirs)) => **trunk == *theirs,
            // Of a call that we placed the trunk is not known here.
            (None, _) => matches!(call.leg, Leg::Out(_)) && access.is_listed(source),
            (Some(_), None) => false,
        };
        let is_in_place = access.is_open()
            || !matches!(peer.transport, Transport::Udp | Transport::Tcp)
            || call.peer.addr.ip().to_canonical() == source
            || is_of_trunk
            || call.places.hold(source);
        if !is_in_place {
            Counts::add(&self.counts.misplaced);
        }
        is_in_place
    }

    pub(super) async fn on_invite(&mut self, incoming: Incoming, trunk: Option<Arc<str>>, tag: String) {
        let Incoming { key, request, peer, endpoint, tls_names } = incoming;
        let headers = &request.headers;
        let from_tag = message::tag(headers, &HeaderName::From).unwrap_or_default();
        let ours = self.names.get(&(message::call_id(headers), from_tag.clone())).and_then(|id| self.calls.get(id));
        if matches!(ours, Some(Call { leg: Leg::Out(uac), .. }) if uac.is_loop(&request)) {
            self.counts.refuse(482);
            return self.respond(&key, message::respond(&request, 482, Some(&tag)));
        }
        let origin = (message::call_id(headers), from_tag, message::cseq(headers).unwrap_or_default());
        if self.unmerged.get(&origin).is_some_and(|first| *first != key) {
            Counts::add(&self.counts.merged);
            return self.respond(&key, message::respond(&request, 482, Some(&tag)));
        }
        // The channel is looked at first: a call that the gateway cannot hear of must not be left to ring.
        let is_deaf = self.events.is_closed() || self.events.capacity() == 0 || !self.backlog.is_empty();
        if is_deaf || self.calls.len() >= limits::SIP_DIALOGS_MAX {
            Counts::add(&self.counts.shed);
            let mut response = message::respond(&request, 503, Some(&tag));
            message::put(&mut response.headers, HeaderName::RetryAfter, "5");
            return self.respond(&key, response);
        }

        let replaces = match refer::replaces(headers) {
            Ok(replaces) => replaces.map(|replaces| self.replaced(&replaces)),
            Err(status) => {
                self.counts.refuse(status);
                return self.respond(&key, message::respond(&request, status, Some(&tag)));
            }
        };

        let id = next_id();
        let own = self.net.own(endpoint, &peer);
        let own = if request.uri.scheme().is_secure() { own.secured() } else { own };
        let name = (message::call_id(headers), tag.clone().into_bytes());
        let invite = Invite {
            tls_names: tls_names.to_vec(),
            trunk: trunk.as_deref().map(str::to_owned),
            replaces,
            ..message::invite(&request, peer.addr, peer.transport)
        };
        let places = Places::of(&request.headers);
        self.screen.befriend(peer.addr.ip());
        self.tracer.request(id, self.now(), true, &peer, &request);
        let birth = Birth { id, key: key.clone(), tag, own, timers: self.config.timers, dice: new_dice() };
        let mut out = Vec::new();
        let uas = Uas::invited(birth, request, &mut out);
        if let Some(uas) = uas {
            self.names.insert(name.clone(), id);
            self.invites.insert(key.clone(), id);
            self.unmerged.insert(origin.clone(), key.clone());
            let keys = vec![key];
            let (name, origin) = (Some(name), Some(origin));
            let leg = Leg::In(Box::new(uas));
            let call = Call { name, origin, keys, trunk, places, ..Call::new(leg, peer, endpoint) };
            self.calls.insert(id, call);
            self.counts.dialogs.store(self.calls.len() as u64, Ordering::Relaxed);
            out.push(Out::Tell(SipEvent::Invited { dialog: id, invite: Box::new(invite) }));
        } else {
            self.tracer.over(id);
        }
        self.carry_out(id, out).await;
    }

    /// The dialog that is to be replaced (RFC 3891 §3), or the status for one that is not there or may not be.
    pub(super) fn replaced(&self, replaces: &Replaces) -> Result<DialogId, u16> {
        let name = (replaces.call_id.clone().into_bytes(), replaces.to_tag.clone().into_bytes());
        let id = self.names.get(&name).copied().ok_or(481_u16)?;
        let tag = replaces.from_tag.as_bytes();
        match self.calls.get(&id).map(|call| &call.leg) {
            Some(Leg::Out(uac)) => uac.replaceable(tag, replaces.early_only),
            // One that is not answered yet was not begun by us.
            Some(Leg::In(uas)) => uas.session().ok_or(481_u16)?.replaceable(tag, replaces.early_only),
            Some(Leg::Lookup(_)) | None => Err(481),
        }
        .map(|()| id)
    }

    pub(super) async fn on_cancel(&mut self, key: TransactionKey, cancel: &Request, tag: &str) {
        let invite = TransactionKey::for_cancelled_invite(cancel);
        let found = invite.and_then(|invite| Some((self.invites.get(&invite).copied()?, invite)));
        let mut out = Vec::new();
        if let Some((id, call)) = found.as_ref().and_then(|(id, _)| Some((*id, self.calls.get(id)?))) {
            self.tracer.request(id, self.now(), true, &call.peer, cancel);
        }
        match found.and_then(|(id, invite)| Some((id, &mut self.calls.get_mut(&id)?.leg, invite))) {
            Some((id, Leg::In(uas), invite)) => {
                uas.on_cancel(key, cancel, &invite, &mut out);
                self.carry_out(id, out).await;
            }
            Some((id, Leg::Out(uac), _)) => {
                uac.on_cancel(key, cancel, &mut out);
                self.carry_out(id, out).await;
            }
            Some((_, Leg::Lookup(_), _)) | None => {
                self.counts.refuse(481);
                self.respond(&key, message::respond(cancel, 481, Some(tag)));
            }
        }
    }

    /// A request that names a dialog, ACK included.
    pub(super) async fn on_inner_request(&mut self, key: TransactionKey, request: &Request) {
        let is_ack = request.method == Method::Ack;
        let tag = message::tag(&request.headers, &HeaderName::To).unwrap_or_default();
        let name = (message::call_id(&request.headers), tag);
        let found = self.names.get(&name).copied().filter(|id| {
            self.calls.get(id).is_some_and(|call| match &call.leg {
                Leg::In(uas) => uas.is_from_peer(request),
                Leg::Out(uac) => uac.is_from_peer(request),
                Leg::Lookup(_) => false,
            })
        });
        let now = self.now();
        let Some((id, call)) = found.and_then(|id| Some((id, self.calls.get_mut(&id)?))) else {
            if is_ack {
                return Counts::add(&self.counts.dropped);
            }
            self.counts.refuse(481);
            return self.respond(&key, message::respond(request, 481, None));
        };
        call.places.add(&request.headers);
        self.tracer.request(id, now, true, &call.peer, request);
        if request.method == Method::Invite {
            // The first stays, since its 2xx may have to be said again; of re-INVITEs only the last matters.
            for old in call.keys.drain(1.min(call.keys.len())..) {
                self.invites.remove(&old);
            }
            call.keys.push(key.clone());
            self.invites.insert(key.clone(), id);
        }
        let mut out = Vec::new();
        match (&mut call.leg, is_ack) {
            (Leg::In(uas), true) => uas.on_ack(request, &mut out),
            (Leg::Out(uac), true) => uac.on_ack(request, &mut out),
            (Leg::In(uas), false) => uas.on_request(key, request, &mut out),
            (Leg::Out(uac), false) => uac.on_request(key, request, &mut out),
            (Leg::Lookup(_), _) => {}
        }
        self.carry_out(id, out).await;
    }
}

/// A trunk's call that the door turns away is worth a line: somebody there can mend it. What a trunk may ask in a second
/// is bounded before.
fn say_refused(incoming: &Incoming, trunk: Option<&str>, response: &Response) {
    let Some(trunk) = trunk.filter(|_| incoming.request.method == Method::Invite) else { return };
    let (source, status) = (incoming.peer.addr.ip(), response.status.code());
    tracing::warn!(%source, trunk, status, reason = message::reason_phrase(status), "a trunk's call is refused at the door");
}
