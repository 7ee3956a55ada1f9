//! `routes.toml`: which call goes where.

use super::{At, Check, Kind, Mistake, code};
use crate::call::Cause;
use crate::config::{Called, Destination, raw};

/// A route without its plan.
#[derive(Debug)]
pub(in crate::config) struct RoutePart {
    pub called: Called,
    pub trunk: Option<String>,
    pub to: Destination,
}

impl Check<'_> {
    pub(super) fn routes(&mut self) -> Vec<RoutePart> {
        let Some(file) = &self.tree.routes else { return Vec::new() };
        let at_routes = At::file("routes.toml").key("route");
        let mut parts: Vec<RoutePart> = Vec::new();
        for (n, route) in file.route.iter().enumerate() {
            let at = at_routes.item(n);
            let called = self.called(&at.key("called"), &route.called);
            if let Some(trunk) = &route.trunk {
                self.refer(Kind::Trunk, &at.key("trunk"), trunk);
            }
            let to = self.destination(&at, route);
            let above = parts.iter().position(|earlier| {
                earlier.called.covers(&called) && (earlier.trunk.is_none() || earlier.trunk == route.trunk)
            });
            if let Some(above) = above.filter(|_| !route.called.is_empty()) {
                self.report(
                    Mistake::error(
                        code::UNREACHABLE_ROUTE,
                        at.key("called"),
                        format!("no call gets here: route {} above takes them all", above + 1),
                    )
                    .hint("the first route that fits decides; move this one up"),
                );
            }
            parts.push(RoutePart { called, trunk: route.trunk.clone(), to });
        }
        let last = parts.last().filter(|last| last.called != Called::Any || last.trunk.is_some());
        if last.is_some() {
            self.report(
                Mistake::error(
                    code::NO_DEFAULT_ROUTE,
                    at_routes.item(parts.len() - 1).key("called"),
                    "the last route must be for every number of every trunk",
                )
                .hint("add [[route]] with called = \"*\" and reject = \"not_found\""),
            );
        }
        parts
    }

    fn called(&mut self, at: &At, text: &str) -> Called {
        let (plain, is_prefix) = match text.strip_suffix('*') {
            // `*31` is a number; a lone star at the end is the pattern.
            Some(prefix) => (prefix, true),
            None => (text, false),
        };
        let odd = plain.find(|c: char| !(c.is_ascii_alphanumeric() || "+-_.!~*'()&=$,;?/%#".contains(c)));
        if let Some(found) = odd {
            self.report(
                Mistake::error(code::PATTERN, at.offset(found), "this is no called number")
                    .hint("write it as the trunk sends it, as +442079460000, or its beginning and `*`"),
            );
        }
        match (plain, is_prefix) {
            ("", true) => Called::Any,
            (prefix, true) => Called::Prefix(prefix.to_owned()),
            (number, false) => Called::Exactly(number.to_owned()),
        }
    }

    fn destination(&mut self, at: &At, route: &raw::Route) -> Destination {
        if let (Some(_), None) = (route.retry_after_s, route.reject) {
            let mistake =
                Mistake::error(code::CONFLICT, at.key("retry_after_s").on_key(), "this goes with `reject` only");
            self.report(mistake.absence());
        }
        if let (Some(forward), None, None) = (&route.forward, &route.agent, route.reject) {
            return Destination::Forward(self.forward(&at.key("forward"), forward));
        }
        match (&route.agent, route.reject) {
            (Some(agent), None) if route.forward.is_none() => {
                self.refer(Kind::Agent, &at.key("agent"), agent);
                Destination::Agent(agent.clone())
            }
            (None, Some(reject)) if route.forward.is_none() => {
                let cause = match reject {
                    raw::Reject::Busy => Cause::Busy,
                    raw::Reject::NotFound => Cause::NotFound,
                    raw::Reject::Unavailable => Cause::Unavailable,
                    raw::Reject::Declined => Cause::Declined,
                    raw::Reject::Overload => Cause::Overload,
                };
                Destination::Refuse { status: cause.status(), retry_after_s: route.retry_after_s }
            }
            (agent, _) => {
                let (message, absent) = match (agent, &route.forward) {
                    (None, None) => ("this route leads nowhere", true),
                    _ => ("a route leads to an agent, to another trunk or back; it is one of the three", false),
                };
                let mistake = Mistake::error(code::EXACTLY_ONE, at.clone(), message)
                    .hint(r#"write agent = "id", forward = { trunk = "id" }, or reject = "not_found""#);
                self.report(Mistake { is_absence: absent, ..mistake });
                Destination::Refuse { status: Cause::NotFound.status(), retry_after_s: None }
            }
        }
    }
}
