//! `trunks/`: SIP peers.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{At, Check, Mistake, code};
use crate::config::raw;
use crate::model::{Address, Codec};
use crate::trunk::{
    CallerPolicy, Cidr, Dialling, IdentityRules, Inbound, NumberFormat, Outbound, ReferRules, SessionRules, Trunk,
    TrunkLimits,
};

impl Check<'_> {
    pub(super) fn trunks(&mut self) -> BTreeMap<String, Trunk> {
        let mut trunks = BTreeMap::new();
        let mut networks: BTreeMap<Cidr, String> = BTreeMap::new();
        for (id, file) in &self.tree.trunks {
            let at = At::file(format!("trunks/{id}.toml"));
            let at_allowed = at.key("inbound").key("allowed_addresses");
            let mut allowed = Vec::new();
            for (n, text) in file.inbound.allowed_addresses.iter().enumerate() {
                let at = at_allowed.item(n);
                let network = match text.parse::<Cidr>() {
                    Ok(network) => network,
                    Err(hint) => {
                        self.report(Mistake::error(code::ADDRESS, at, "this is no network").hint(hint));
                        continue;
                    }
                };
                if network.prefix == 0 {
                    self.report(
                        Mistake::warning(code::OPEN_TRUNK, at.clone(), "the whole world may call by this trunk")
                            .hint("write the networks of the carrier; open trunks are found by scanners within hours"),
                    );
                }
                if let Some(other) = networks.insert(network, id.clone()) {
                    let whose = if other == *id { "this trunk".to_owned() } else { format!("trunk {other:?}") };
                    self.report(
                        Mistake::error(code::SAME_NETWORK, at, format!("{network} belongs to {whose} already"))
                            .hint("a call must belong to one trunk; write narrower networks"),
                    );
                }
                allowed.push(network);
            }
            let outbound = file.outbound.as_ref().map(|out| self.trunk_outbound(&at.key("outbound"), out));
            let trunk = Trunk {
                id: id.clone(),
                title: file.title.clone(),
                is_trusted: false,
                country: None,
                codecs: vec![Codec::Pcmu, Codec::Pcma],
                inbound: Inbound { allowed, ..Inbound::default() },
                outbound,
                registration: None,
                limits: TrunkLimits::default(),
                session: SessionRules::default(),
                transfer: ReferRules::default(),
                identity: IdentityRules::default(),
            };
            trunks.insert(id.clone(), trunk);
        }
        if self.tree.trunks.is_empty() && !self.tree.broken.iter().any(|name| name.starts_with("trunks/")) {
            self.report(
                Mistake::error(code::MISSING_FILE, At::file("trunks"), "there is no trunk, so nobody may call")
                    .hint("write trunks/carrier.toml"),
            );
        }
        trunks
    }

    fn trunk_outbound(&mut self, at: &At, out: &raw::Outbound) -> Outbound {
        let is_uri = matches!(out.uri.parse::<Address>(), Ok(Address::Uri(_)));
        if !out.uri.is_empty() && (!is_uri || out.uri.contains('@')) {
            self.report(
                Mistake::error(code::DIAL, at.key("uri"), "this is no SIP URI without a user")
                    .hint("write it as sip:sbc.example:5060; the dialled number becomes the user"),
            );
        }
        if let Some(number) = &out.caller_id
            && !matches!(number.parse::<Address>(), Ok(Address::Number(_)))
        {
            let mistake = Mistake::error(code::DIAL, at.key("caller_id"), "this is no telephone number");
            self.report(mistake.hint("write + and up to 15 digits"));
        }
        Outbound {
            gateways: vec![out.uri.clone()],
            silence: Duration::from_secs(4),
            credentials: None,
            format: NumberFormat::AsIs,
            prefix: String::new(),
            caller: CallerPolicy { number: out.caller_id.clone(), ..CallerPolicy::default() },
            headers: Vec::new(),
            probe: None,
            dialling: Dialling::default(),
        }
    }
}
