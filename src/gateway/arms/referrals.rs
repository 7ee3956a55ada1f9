//! Parties that move: referrals of theirs and of ours, and whoever comes to take a place.

use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
use metrics::counter;
use tracing::warn;

use super::{Arms, LegWire, failed, local};
use crate::call::{Cause, Event, ReferProgress};
use crate::config::Destination;
use crate::gateway::clock::unix_ms;
use crate::gateway::mailbox::Post;
use crate::gateway::registry::Door;
use crate::gateway::tolls::Pass;
use crate::media::RtpPeer;
use crate::model::{Address, Codec, LegId, Pii};
use crate::route::Asked;
use crate::sdp::{self, Offer};
use crate::sip::{Dial, DialogId, Invite, Refer, ReferOrder, SipCommand};
use crate::trunk::{Trunk, numbers};

/// Somebody at the door who wants a party's place.
#[derive(Debug)]
pub(in crate::gateway) enum Guest {
    /// A new call of this trunk, which asks for it by Replaces.
    Sip { dialog: DialogId, trunk: String, is_trusted: bool, sdp: Option<Vec<u8>>, pass: Pass },
    /// A party of another call here, which one of the two calls' parties connects to this one.
    Call { cord: Cord, remote: SocketAddr },
}

/// The other end of a leg that is a leg of another call here.
#[derive(Clone, Debug)]
pub(in crate::gateway) struct Cord {
    pub(in crate::gateway) door: Arc<Door>,
    pub(in crate::gateway) leg: LegId,
}

impl Cord {
    pub(in crate::gateway) fn tell(&self, event: Event) {
        self.door.mailbox.post(Post::Event(event));
    }
}

impl Arms {
    /// A party's REFER, to be thought about. Returns whether its trunk may refer at all.
    pub(in crate::gateway) fn consider(&mut self, leg: LegId, refer: Box<Refer>) -> bool {
        self.referral = Some(refer);
        let allowed = self.trunk_of(leg).is_some_and(|trunk| trunk.transfer.accepts);
        let result = if allowed { "considered" } else { "forbidden" };
        counter!("ringback_referrals_total", "result" => result).increment(1);
        allowed
    }

    pub(super) async fn order_refer(&self, leg: LegId, order: ReferOrder) {
        self.tell_dialog(leg, SipCommand::Refer(order)).await;
    }

    pub(super) async fn tell_progress(&self, leg: LegId, progress: ReferProgress) {
        let order = match progress {
            ReferProgress::Ringing => ReferOrder::Rings,
            ReferProgress::Done => ReferOrder::Ended { status: Cause::Normal.status() },
            ReferProgress::Failed(cause) => ReferOrder::Ended { status: cause.status() },
        };
        self.order_refer(leg, order).await;
    }

    /// Dials whom a party named: a party of another call here, somebody whom a route leads to, or anybody else by the
    /// party's trunk.
    pub(super) async fn dial_referred(&mut self, leg: LegId, by: LegId, to: &Pii<Address>) {
        let refer = self.referral.take();
        let other = refer.as_ref().and_then(|refer| refer.replaces.as_ref()?.dialog);
        if let Some((door, replaced)) = other.and_then(|dialog| self.house.registry.by_dialog(dialog)) {
            return self.plug_in(leg, door, replaced);
        }
        let trunk = self.trunk_of(by).map(|trunk| trunk.id.clone());
        let (trunk, to) = match self.resolve(trunk, to) {
            Ok(found) => found,
            Err(cause) => return self.post(failed(leg, cause)),
        };
        let max_forwards = Some(self.came.max_forwards.saturating_sub(1));
        let dial = Dial { referred: refer, max_forwards, ..Dial::default() };
        self.dial_address(leg, trunk, dial, &to).await;
    }

    /// Telephones complete a short number with the host they know, which is ours; such a number is looked up as if it
    /// had been called.
    fn resolve(&self, trunk: Option<String>, to: &Pii<Address>) -> Result<(Option<String>, Pii<Address>), Cause> {
        let Some(called) = self.own_user(to.reveal()) else { return Ok((trunk, to.clone())) };
        let by = trunk.as_ref().and_then(|trunk| self.config.trunks.get(trunk));
        let country = by.and_then(|trunk| trunk.country.as_deref()).and_then(numbers::Country::of);
        let number = numbers::normalise(&called, country.as_deref(), "");
        let at = Timestamp::from_millisecond(unix_ms()).unwrap_or_default();
        let asked = Asked { called: &number, at, ..Asked::of(&called, trunk.as_deref().unwrap_or_default()) };
        let route = self.config.route(&asked);
        match route.map(|route| &route.to) {
            Some(Destination::Forward(forward)) if forward.to.is_none() => {
                let to = called.parse().map_err(|_| Cause::NotFound)?;
                Ok((Some(forward.trunk.clone()), Pii::new(to)))
            }
            Some(Destination::Forward(forward)) => {
                // Variables belong to the call that was forwarded, and this is none.
                let to = forward.to.as_ref().map(|to| to.source().to_owned()).unwrap_or_default();
                Ok((Some(forward.trunk.clone()), Pii::new(to.parse().map_err(|_| Cause::NotFound)?)))
            }
            // Our agents answer callers, and are not rung by others; what callers may not reach, nobody is referred to.
            Some(Destination::Agent(_) | Destination::Refuse { .. }) | None => Err(Cause::NotFound),
        }
    }

    /// The user part of a URI with our own address for a host.
    fn own_user(&self, to: &Address) -> Option<String> {
        let Address::Uri(uri) = to else { return None };
        let (_, rest) = uri.split_once(':')?;
        let (user, host) = rest.split_once('@')?;
        let host = host.split([';', '?']).next()?;
        let at: SocketAddr = host.parse().or_else(|_| format!("{host}:5060").parse()).ok()?;
        self.house.sip.local_addrs().iter().any(|(own, _)| *own == at).then(|| user.to_owned())
    }

    /// Connects a leg to a party of another call here: an attended transfer of which both halves are ours.
    fn plug_in(&mut self, leg: LegId, door: Arc<Door>, replaced: LegId) {
        let opened = match self.media.open_rtp(leg) {
            Ok(opened) => opened,
            Err(error) => {
                warn!(call = %self.id, %leg, %error, "no RTP port for another leg");
                return self.post(failed(leg, Cause::Overload));
            }
        };
        let remote = SocketAddr::new(self.config.gateway.media.address, opened.port());
        let cord = Cord { door: Arc::clone(&self.door), leg };
        // Until the other call has answered, its end of the cord has no name yet.
        self.legs.insert(leg, LegWire::BuiltIn);
        door.mailbox.post(Post::Replacing { leg: replaced, guest: Guest::Call { cord, remote } });
    }

    /// The other call took the cord.
    pub(in crate::gateway) fn plugged_in(&mut self, leg: LegId, cord: Cord, remote: SocketAddr) -> bool {
        if !self.legs.contains_key(&leg) {
            // We let go meanwhile.
            cord.tell(Event::HungUp { leg: cord.leg, cause: Cause::Normal });
            return false;
        }
        self.legs.insert(leg, LegWire::Cord(cord));
        self.hear_from(leg, remote);
        true
    }

    fn hear_from(&self, leg: LegId, remote: SocketAddr) {
        let peer = RtpPeer::new(Codec::Pcmu, 0, remote).with_dtmf(CORD_DTMF);
        if let Err(error) = self.media.set_remote(leg, peer) {
            warn!(call = %self.id, %leg, %error, "another call's media cannot be reached");
            self.post(Event::HungUp { leg, cause: Cause::NoMedia });
        }
    }

    /// Whether somebody at the door may have a party's place: only who comes by the same trunk, or by a trusted one.
    pub(in crate::gateway) fn may_take(&self, leg: LegId, guest: &Guest) -> bool {
        match guest {
            Guest::Sip { trunk, is_trusted, .. } => {
                *is_trusted || self.trunk_of(leg).is_some_and(|own| own.id == *trunk)
            }
            Guest::Call { .. } => true,
        }
    }

    /// Answers whoever is at the door; it is a leg from now on.
    pub(super) async fn take_in(&mut self, leg: LegId) {
        let Some(guest) = self.guest.take() else { return self.post(failed(leg, Cause::Canceled)) };
        let opened = match self.media.open_rtp(leg) {
            Ok(opened) => opened,
            Err(error) => {
                warn!(call = %self.id, %leg, %error, "no RTP port for another leg");
                self.turn_away(guest, Cause::Overload).await;
                return self.post(failed(leg, Cause::Overload));
            }
        };
        match guest {
            Guest::Call { cord, remote } => {
                let own = SocketAddr::new(self.config.gateway.media.address, opened.port());
                let ours = Cord { door: Arc::clone(&self.door), leg };
                cord.door.mailbox.post(Post::PluggedIn { leg: cord.leg, cord: ours, remote: own });
                self.legs.insert(leg, LegWire::Cord(cord));
                self.hear_from(leg, remote);
                self.post(Event::LegAnswered { leg });
            }
            Guest::Sip { dialog, trunk, sdp, pass, .. } => {
                let session_id = u64::try_from(self.open.began_unix_ms).unwrap_or(0) + u64::from(leg.0);
                let local = local(&self.house, self.config.trunks.get(&trunk), opened.port(), session_id);
                let offer = sdp.as_deref().map(Offer::parse).transpose();
                let answer = offer.ok().flatten().and_then(|offer| sdp::answer(&offer, &local).ok());
                let Some((agreed, answer)) = answer else {
                    self.turn_away(Guest::Sip { dialog, trunk, is_trusted: false, sdp: None, pass }, Cause::NoMedia)
                        .await;
                    return self.post(failed(leg, Cause::NoMedia));
                };
                self.house.registry.add_dialog(dialog, self.id, leg);
                self.trunks.insert(leg, trunk);
                self.passes.insert(leg, pass);
                self.legs.insert(leg, LegWire::Sip { dialog, local, answer: None, is_held: false });
                self.tell_dialog(leg, SipCommand::Answer { sdp: answer }).await;
                self.open_media(leg, &agreed);
                self.post(Event::LegAnswered { leg });
            }
        }
    }

    /// Refuses whoever is at the door.
    pub(in crate::gateway) async fn turn_away(&self, guest: Guest, cause: Cause) {
        match guest {
            Guest::Sip { dialog, .. } => {
                let refusal =
                    SipCommand::Reject { status: cause.status(), reason: None, retry_after_s: None, warning: None };
                self.house.sip.send(dialog, refusal).await;
            }
            Guest::Call { cord, .. } => cord.tell(failed(cord.leg, cause)),
        }
    }

    /// Asks a party's network to move it.
    pub(super) async fn refer(&self, leg: LegId, to: &Pii<Address>, replacing: Option<LegId>) {
        let outbound = self.trunk_of(leg).and_then(|trunk| trunk.outbound.as_ref());
        let gateway = outbound.and_then(|outbound| Some((outbound, outbound.gateways.first()?)));
        let uri = match (to.reveal(), gateway) {
            (address, Some((outbound, gateway))) => outbound.uri_of(gateway, address),
            (Address::Uri(uri), None) => uri.clone(),
            // RFC 3966: a network that we cannot call knows its own numbers.
            (Address::Number(number), None) => format!("tel:{number}"),
        };
        let replacing = match replacing.and_then(|leg| self.legs.get(&leg)) {
            Some(LegWire::Sip { dialog, .. }) => Some(*dialog),
            Some(LegWire::Agent { .. } | LegWire::Browser(_) | LegWire::BuiltIn | LegWire::Cord(_)) | None => None,
        };
        self.order_refer(leg, ReferOrder::Send { to: format!("<{uri}>"), replacing }).await;
    }

    /// The trunk that a party is reached by; the caller's own where nothing else is known.
    pub(super) fn trunk_of(&self, leg: LegId) -> Option<&Trunk> {
        let trunk = self.trunks.get(&leg).or(self.open.trunk.as_ref())?;
        self.config.trunks.get(trunk)
    }
}

/// What a call with Replaces brings to the call whose party it wants to replace.
pub(in crate::gateway) fn guest(dialog: DialogId, trunk: &Trunk, invite: &Invite, pass: Pass) -> Guest {
    Guest::Sip { dialog, trunk: trunk.id.clone(), is_trusted: trunk.is_trusted, sdp: invite.sdp.clone(), pass }
}

/// The payload type of digits between two calls here.
const CORD_DTMF: u8 = 101;
