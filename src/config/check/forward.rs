//! `forward` of a route: calls that another trunk gets.

use std::time::Duration;

use super::{At, Check, Kind, Mistake, code};
use crate::actions::Forward;
use crate::config::raw;

impl Check<'_> {
    pub(super) fn forward(&mut self, at: &At, raw: &raw::Forward) -> Forward {
        let trunk = self.tree.trunks.get(&raw.trunk);
        if !raw.trunk.is_empty()
            && self.refer(Kind::Trunk, &at.key("trunk"), &raw.trunk)
            && trunk.is_some_and(|trunk| trunk.outbound.is_none())
        {
            self.report(
                Mistake::error(code::NO_OUTBOUND, at.key("trunk"), format!("trunk {:?} takes no calls", raw.trunk))
                    .hint(format!("add [outbound] to trunks/{}.toml", raw.trunk)),
            );
        }
        let to = raw.to.as_ref().map(|to| self.target(&at.key("to"), to, raw.ring_s).to);
        Forward { trunk: raw.trunk.clone(), to, ring: Duration::from_secs(raw.ring_s) }
    }
}
