//! From a name to the targets to try (RFC 3263 §4): NAPTR says how, SRV says where, A and AAAA say at which address.
//!
//! Answers are kept for as long as they say, by the resolver. Each question and each name has a time limit, so that a
//! resolver that hangs costs a call seconds and no more.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use sipx_transport::dns::{Answer, DnsResolver};
use sipx_transport::{Naptr, Srv};
use tokio::time::timeout;

use super::super::event::Transport;
use super::super::net::{Hop, Name};
use crate::model::limits;

pub(super) struct Dns {
    /// Asked in turn, while one does not answer.
    resolvers: Vec<DnsResolver>,
    /// The system may know names that no server knows: `/etc/hosts`.
    asks_system: bool,
}

impl Dns {
    /// Asks these servers, or those of the system.
    pub(super) fn new(nameservers: Option<&[SocketAddr]>) -> Dns {
        match nameservers {
            Some(servers) => {
                let servers = servers.iter().filter_map(|at| DnsResolver::for_nameserver(*at, QUESTION_MAX).ok());
                Dns { resolvers: servers.collect(), asks_system: false }
            }
            // Without a readable configuration the system's own lookup is left.
            None => Dns { resolvers: DnsResolver::from_system().into_iter().collect(), asks_system: true },
        }
    }

    /// The targets of a name, best first; empty when there are none, or nobody says in time.
    pub(super) async fn find(&self, name: &Name) -> Vec<Hop> {
        let mut hops = timeout(limits::SIP_LOOKUP_TAKES_MAX, self.targets(name)).await.unwrap_or_default();
        hops.truncate(limits::SIP_HOPS_MAX);
        hops
    }

    async fn targets(&self, name: &Name) -> Vec<Hop> {
        // RFC 7118 §5: clients that nobody can connect to have such names, and RFC 2606 keeps them from meaning anything.
        if name.host.trim_end_matches('.').ends_with(".invalid") {
            return Vec::new();
        }
        let fallback = name.transport.unwrap_or(name.default);
        if let Some(port) = name.port {
            return self.hosts(&name.host, port, fallback, name).await;
        }
        let mut hops = Vec::new();
        let services = self.services(name).await;
        // Side by side: a server that swallows them must leave time for the host itself.
        let found = join_all(services.iter().map(|(_, service)| self.srv(service))).await;
        for ((transport, _), records) in services.into_iter().zip(found) {
            for record in in_order(records, random) {
                // RFC 2782: a lone dot says that the service is decidedly not there.
                let target = record.target.trim_end_matches('.');
                if !target.is_empty() {
                    hops.extend(self.hosts(target, record.port, transport, name).await);
                }
                if hops.len() >= limits::SIP_HOPS_MAX {
                    return hops;
                }
            }
        }
        if hops.is_empty() {
            let port = if fallback == Transport::Tls { 5061 } else { 5060 };
            hops = self.hosts(&name.host, port, fallback, name).await;
        }
        hops
    }

    /// How the name is to be reached, with the name of the SRV records of each way.
    async fn services(&self, name: &Name) -> Vec<(Transport, String)> {
        if let Some(transport) = name.transport {
            return vec![(transport, format!("{}{}", prefix(transport), name.host))];
        }
        let mut naptr = self.naptr(&name.host).await;
        naptr.sort_by_key(|record| (record.order, record.preference));
        let named: Vec<_> = naptr
            .iter()
            .filter_map(|record| Some((transport_of(&record.service)?, record.replacement.trim_end_matches('.'))))
            .filter(|(transport, _)| may_use(*transport, name))
            .map(|(transport, service)| (transport, service.to_owned()))
            .collect();
        if !named.is_empty() {
            return named;
        }
        let ways = [Transport::Udp, Transport::Tcp, Transport::Tls].into_iter();
        ways.filter(|transport| may_use(*transport, name))
            .map(|transport| (transport, format!("{}{}", prefix(transport), name.host)))
            .collect()
    }

    async fn hosts(&self, host: &str, port: u16, transport: Transport, name: &Name) -> Vec<Hop> {
        // RFC 5922 §4: the certificate must bear the name that was dialled, whatever DNS made of it.
        let proof: Option<Arc<str>> = (transport == Transport::Tls).then(|| name.host.as_str().into());
        let addresses = self.addresses(host).await;
        let hop = |ip: IpAddr| Hop { addr: SocketAddr::new(ip, port), transport, host: proof.clone() };
        addresses.into_iter().map(hop).collect()
    }

    async fn naptr(&self, name: &str) -> Vec<Naptr> {
        for resolver in &self.resolvers {
            if let Ok(Answer::Records(records)) = timeout(QUESTION_MAX, resolver.naptr(name)).await {
                return records;
            }
        }
        Vec::new()
    }

    async fn srv(&self, name: &str) -> Vec<Srv> {
        for resolver in &self.resolvers {
            if let Ok(Answer::Records(mut records)) = timeout(QUESTION_MAX, resolver.srv(name)).await {
                records.truncate(RECORDS_MAX);
                return records;
            }
        }
        Vec::new()
    }

    async fn addresses(&self, host: &str) -> Vec<IpAddr> {
        if let Ok(ip) = host.parse() {
            return vec![ip];
        }
        for resolver in &self.resolvers {
            match timeout(QUESTION_MAX, resolver.addresses(host)).await {
                Ok(Answer::Records(records)) if !records.is_empty() || !self.asks_system => return records,
                _ => {}
            }
        }
        if !self.asks_system {
            return Vec::new();
        }
        match timeout(QUESTION_MAX, tokio::net::lookup_host((host, 0))).await {
            Ok(Ok(found)) => found.map(|at| at.ip()).collect(),
            _ => Vec::new(),
        }
    }
}

/// `sips:` travels within TLS alone (RFC 3261 §26.2.2).
fn may_use(transport: Transport, name: &Name) -> bool {
    !name.is_secure || transport == Transport::Tls
}

fn transport_of(service: &str) -> Option<Transport> {
    match service.to_ascii_uppercase().as_str() {
        "SIP+D2U" => Some(Transport::Udp),
        "SIP+D2T" => Some(Transport::Tcp),
        "SIPS+D2T" => Some(Transport::Tls),
        // WebSocket servers are for clients, and nobody speaks SCTP to us.
        _ => None,
    }
}

fn prefix(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "_sip._udp.",
        Transport::Tcp => "_sip._tcp.",
        Transport::Tls => "_sips._tcp.",
        Transport::Ws => "_sip._ws.",
        Transport::Wss => "_sips._wss.",
    }
}

/// RFC 2782: by priority; within one, drawn by weight. `random` gives a number up to and with its argument.
fn in_order(mut records: Vec<Srv>, mut random: impl FnMut(u32) -> u32) -> Vec<Srv> {
    // Those without weight come first, so that they have a small chance at all.
    records.sort_by_key(|record| (record.priority, record.weight));
    let mut ordered = Vec::with_capacity(records.len());
    while let Some(first) = records.first() {
        let priority = first.priority;
        let peers = records.iter().take_while(|record| record.priority == priority);
        let drawn = random(peers.clone().map(|record| u32::from(record.weight)).sum());
        let mut sum = 0;
        let at = peers.clone().position(|record| {
            sum += u32::from(record.weight);
            sum >= drawn
        });
        ordered.push(records.remove(at.unwrap_or(0)));
    }
    ordered
}

fn random(most: u32) -> u32 {
    // Without randomness the first is as good as any.
    getrandom::u32().map_or(0, |drawn| drawn % most.saturating_add(1).max(1))
}

/// How long one question may take before the next server, or the next way, is tried.
const QUESTION_MAX: Duration = Duration::from_millis(1500);
/// SRV records of one name that are looked at.
const RECORDS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn srv(priority: u16, weight: u16, target: &str) -> Srv {
        Srv { priority, weight, port: 5060, target: target.to_owned() }
    }

    fn targets(records: Vec<Srv>) -> Vec<String> {
        records.into_iter().map(|record| record.target).collect()
    }

    #[test]
    fn priority_comes_before_weight() {
        let records = vec![srv(20, 100, "backup"), srv(10, 1, "small"), srv(10, 99, "large")];

        // The sum of weights draws the last of a priority, nought its first.
        assert_eq!(targets(in_order(records.clone(), |most| most)), ["large", "small", "backup"]);
        assert_eq!(targets(in_order(records, |_| 0)), ["small", "large", "backup"]);
    }

    #[test]
    fn weights_share_the_first_place() {
        let mut seed = 1_u32;
        let mut random = |most: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) % (most + 1)
        };
        let firsts = (0..10_000)
            .filter(|_| {
                let records = vec![srv(0, 25, "a"), srv(0, 75, "b"), srv(0, 0, "c")];
                in_order(records, &mut random).first().unwrap().target == "b"
            })
            .count();

        assert!((7_200..7_700).contains(&firsts), "{firsts}");
    }
}
