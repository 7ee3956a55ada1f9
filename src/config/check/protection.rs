//! `[protection]` of `gateway.toml`.

use std::time::Duration;

use super::{At, Check, Mistake, code};
use crate::config::raw;
use crate::guard::{Protection, Strangers};

impl Check<'_> {
    pub(super) fn protection(&mut self, at: &At, file: &raw::Protection) -> Protection {
        if file.lockout_max_s < file.lockout_s {
            self.report(
                Mistake::error(code::CONFLICT, at.key("lockout_max_s"), "the longest lock is shorter than the first")
                    .hint(format!("write lockout_max_s = {} or more", file.lockout_s)),
            );
        }
        Protection {
            strangers: match file.unknown_sources {
                raw::Strangers::Silence => Strangers::Silence,
                raw::Strangers::Forbidden => Strangers::Forbidden,
                raw::Strangers::Challenge => Strangers::Challenge,
            },
            stranger_requests_per_second: file.requests_per_second,
            trunk_requests_per_second: file.trunk_requests_per_second,
            failures_max: file.failures_max,
            lockout: Duration::from_secs(file.lockout_s),
            lockout_max: Duration::from_secs(file.lockout_max_s),
            silence: Duration::from_secs(file.silence_s),
            scanners: file.scanners.iter().map(|word| word.to_lowercase()).collect(),
            realm: file.realm.clone(),
            outbound_max: Duration::from_secs(file.outbound_duration_max_s),
        }
    }
}
