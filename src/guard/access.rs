//! Who may come in, made from the trunks, and swapped whole when they change.
//!
//! A request is a trunk's by the first of these that fits; so no weaker way can take a request from a stronger one:
//!
//! 1. **The contact that we registered**, when the trunk is called over its registration. The contact's user part is drawn
//!    at random, and nobody but the registrar knows it.
//! 2. **The name in the peer's TLS certificate**, which the transport has checked.
//! 3. **The address**: the narrowest network that holds it decides, whatever trunk it is of. A trunk with a password too
//!    must prove it from there.
//! 4. **A password alone**, for trunks that name no networks. Since anybody might be such a trunk, everybody that nothing
//!    else recognises is challenged when there is one.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use super::digest::Proof;
use super::rules::{Protection, SCANNERS};
use crate::model::{Secret, limits};
use crate::trunk::{Cidr, Credentials, Trunk};

/// Who may come in.
#[derive(Clone, Debug, Default)]
pub struct Access {
    pub(super) rules: Protection,
    known: Vec<Known>,
    contacts: Contacts,
    /// Addresses of gateways and registrars: strangers as callers, and yet nobody to be silent to.
    ours: Vec<IpAddr>,
    is_open: bool,
}

/// A trunk as the door knows it.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) id: Arc<str>,
    allowed: Vec<Cidr>,
    tls_names: Vec<String>,
    over_registration: bool,
    has_password: bool,
    /// `None` with a password that could not be read: then nobody can prove it.
    proof: Option<Proof>,
    realm: String,
}

/// What can be seen of somebody who asks for something.
#[derive(Clone, Copy, Debug)]
pub struct Approach<'a> {
    /// Where the request came from, as the socket saw it.
    pub source: IpAddr,
    /// It came over a connection, so the address is really theirs.
    pub is_connected: bool,
    /// The names in their TLS client certificate, when it was checked. RFC 5922 §7.2 allows no wildcards.
    pub tls_names: &'a [String],
    /// What they want.
    pub method: &'a str,
    /// The user part of the request URI, unescaped.
    pub user: &'a str,
    /// The `User-Agent` header; empty without.
    pub agent: &'a str,
    /// The values of the `Authorization` headers.
    pub authorization: &'a [String],
}

/// Why a request is a trunk's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Because {
    /// It is for the contact that we registered with the trunk.
    Contact,
    /// The peer's certificate bears this name.
    TlsName(String),
    /// It comes from this network.
    Network(Cidr),
    /// It proved the password.
    Password,
}

/// Who somebody is.
#[derive(Clone, Debug)]
pub(super) enum Who<'a> {
    /// The peer of this trunk.
    Known(&'a Known, Because),
    /// Perhaps the peer of one of these, which must be proved by its password. Never empty.
    Perhaps(Vec<&'a Known>),
    /// Of none.
    Stranger,
}

impl Access {
    /// Makes the table. `secret` gives a credential, or `None` when it cannot be read: its trunk then lets nobody in.
    pub fn new<'a>(
        trunks: impl IntoIterator<Item = &'a Trunk>,
        secret: impl Fn(&Credentials) -> Option<Secret>,
        rules: Protection,
        contacts: Contacts,
    ) -> Access {
        let mut known = Vec::new();
        let mut ours = Vec::new();
        for trunk in trunks {
            let inbound = &trunk.inbound;
            let digest = inbound.digest.as_ref();
            let realm = digest.and_then(|digest| digest.realm.clone()).unwrap_or_else(|| rules.realm.clone());
            let password = digest.and_then(|digest| Some((digest, secret(digest)?)));
            known.push(Known {
                id: trunk.id.as_str().into(),
                allowed: inbound.allowed.clone(),
                tls_names: inbound.tls_names.clone(),
                over_registration: inbound.over_registration,
                has_password: digest.is_some(),
                proof: password.map(|(digest, secret)| Proof::new(&digest.username, &realm, secret.reveal())),
                realm,
            });
            let gateways = trunk.outbound.iter().flat_map(|outbound| &outbound.gateways);
            let registrars = trunk.registration.iter().flat_map(|registration| &registration.registrars);
            ours.extend(gateways.chain(registrars).filter_map(|uri| address_in(uri)));
        }
        Access { rules, known, contacts, ours, is_open: false }
    }

    /// Lets in everybody, as no trunk: for a telephone, which has none.
    pub fn open() -> Access {
        Access { is_open: true, ..Access::default() }
    }

    /// Whether everybody is let in.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// The trunk that an address alone recognises, passwords left aside.
    pub fn by_address(&self, source: IpAddr) -> Option<&str> {
        let (_, known) = self.nearest(source)?;
        Some(&known.id)
    }

    /// Whether this is an address that an admin wrote down: of a trunk's networks, a gateway's, or a registrar's.
    pub fn is_listed(&self, source: IpAddr) -> bool {
        let source = source.to_canonical();
        self.ours.contains(&source) || self.nearest(source).is_some()
    }

    pub(super) fn who(&self, approach: &Approach<'_>) -> Who<'_> {
        let by_contact = self.contacts.trunk_of(approach.user);
        let by_contact = by_contact.and_then(|id| self.known.iter().find(|known| *known.id == *id));
        if let Some(known) = by_contact.filter(|known| known.over_registration) {
            return Who::Known(known, Because::Contact);
        }
        let shows = |name: &&String| approach.tls_names.iter().any(|theirs| theirs.eq_ignore_ascii_case(name));
        let borne = |known: &'_ Known| known.tls_names.iter().find(shows).cloned();
        if let Some((known, name)) = self.known.iter().find_map(|known| Some((known, borne(known)?))) {
            return Who::Known(known, Because::TlsName(name));
        }
        let source = approach.source.to_canonical();
        if let Some((network, known)) = self.nearest(source).filter(|(_, known)| !known.has_password) {
            return Who::Known(known, Because::Network(network));
        }
        let may_prove = |known: &&Known| {
            known.has_password
                && (known.allowed.is_empty() || known.allowed.iter().any(|network| network.holds(source)))
        };
        let perhaps: Vec<&Known> = self.known.iter().filter(may_prove).collect();
        if perhaps.is_empty() { Who::Stranger } else { Who::Perhaps(perhaps) }
    }

    /// Whose request it would be and why, if it proved the password of this user where one is asked for.
    ///
    /// # Errors
    /// The trunks that ask for another user's password; none when it is a stranger's.
    pub fn explain(&self, approach: &Approach<'_>, username: Option<&str>) -> Result<(&str, Because), Vec<&str>> {
        match self.who(approach) {
            Who::Known(known, because) => Ok((&known.id, because)),
            Who::Perhaps(candidates) => {
                let is_theirs =
                    |known: &&&Known| known.proof().is_some_and(|proof| Some(proof.username.as_str()) == username);
                let proved = candidates.iter().find(is_theirs);
                let proved = proved.map(|known| (&*known.id, Because::Password));
                proved.ok_or_else(|| candidates.iter().map(|known| &*known.id).collect())
            }
            Who::Stranger => Err(Vec::new()),
        }
    }

    /// The trunk with the narrowest network around an address; of two that are equally narrow, one without a password.
    fn nearest(&self, source: IpAddr) -> Option<(Cidr, &Known)> {
        let source = source.to_canonical();
        let narrowest =
            |known: &Known| known.allowed.iter().filter(|c| c.holds(source)).max_by_key(|c| c.prefix).copied();
        let around = self.known.iter().filter_map(|known| Some((narrowest(known)?, known)));
        around.max_by_key(|(network, known)| (network.prefix, !known.has_password))
    }

    pub(super) fn is_scanner(&self, agent: &str) -> bool {
        let agent = agent.to_ascii_lowercase();
        let added = self.rules.scanners.iter().map(String::as_str);
        !agent.is_empty() && SCANNERS.iter().copied().chain(added).any(|word| agent.contains(word))
    }
}

impl Known {
    pub(super) fn realm(&self) -> &str {
        &self.realm
    }

    pub(super) fn proof(&self) -> Option<&Proof> {
        self.proof.as_ref()
    }
}

/// The address in a SIP URI that names one.
fn address_in(uri: &str) -> Option<IpAddr> {
    let rest = uri.split_once(':')?.1;
    let place = rest.split([';', '?']).next()?.rsplit('@').next()?;
    match place.strip_prefix('[') {
        Some(v6) => v6.split(']').next()?.parse().ok(),
        None => place.split(':').next()?.parse().ok(),
    }
}

/// The user parts of the contacts that we registered, and the trunks they stand for. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Contacts(Arc<RwLock<BTreeMap<String, Arc<str>>>>);

impl Contacts {
    /// Calls to this user part are the trunk's from now on. The user part must be drawn at random, 64 bits at least. More
    /// than [`limits::GUARD_CONTACTS_MAX`] are not kept; there is one for each registration.
    pub fn add(&self, user: &str, trunk: &str) {
        let mut contacts = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if contacts.len() < limits::GUARD_CONTACTS_MAX {
            contacts.insert(user.to_owned(), trunk.into());
        }
    }

    /// It is no longer registered.
    pub fn remove(&self, user: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(user);
    }

    /// The trunk that a user part stands for.
    pub fn trunk_of(&self, user: &str) -> Option<Arc<str>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(user).cloned()
    }
}

/// The access that is in force now. Clones share it; requests that come after [`InForce::replace`] meet the new one.
#[derive(Clone, Debug, Default)]
pub struct InForce(Arc<RwLock<Arc<Access>>>);

impl InForce {
    /// Puts an access into force.
    pub fn new(access: Access) -> InForce {
        InForce(Arc::new(RwLock::new(Arc::new(access))))
    }

    /// Puts another access into force.
    pub fn replace(&self, access: Access) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(access);
    }

    /// What is in force.
    pub fn now(&self) -> Arc<Access> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}
