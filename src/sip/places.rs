//! Where the other side of a dialog says that it is: what its requests may come from.

use std::net::IpAddr;

use sipx_sip::{Headers, Host, Uri};

use super::message;
use crate::model::limits;

/// Addresses in Contact and Record-Route.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    addresses: Vec<IpAddr>,
    /// One of them was a host name, which may stand for any address.
    has_name: bool,
}

impl Places {
    pub(super) fn of(headers: &Headers) -> Places {
        let mut places = Places::default();
        places.add(headers);
        places
    }

    /// They may have moved (RFC 3261 §12.2.2). Only to be asked of messages that are theirs.
    pub(super) fn add(&mut self, headers: &Headers) {
        let routes = message::record_route(headers).unwrap_or_default();
        for uri in message::contact(headers).iter().chain(&routes) {
            self.note(uri);
        }
    }

    pub(super) fn hold(&self, source: IpAddr) -> bool {
        self.has_name || self.addresses.contains(&source)
    }

    fn note(&mut self, uri: &Uri) {
        match uri.host() {
            Some(Host::Ip(ip)) => {
                let ip = ip.to_canonical();
                if self.addresses.len() < limits::SIP_ROUTES_MAX && !self.addresses.contains(&ip) {
                    self.addresses.push(ip);
                }
            }
            Some(_) => self.has_name = true,
            None => {}
        }
    }
}
