//! `routes.toml`: which call goes where.

use jiff::civil::Weekday;

use super::trunks::is_token;
use super::{At, Check, Kind, Mistake, code};
use crate::call::Cause;
use crate::config::{Destination, raw};
use crate::model::Attestation;
use crate::route::{CallerIs, Days, Glob, HeaderIs, Hours, HoursFault, IdentityIs, Pattern, Rule};

/// A route without its plan.
#[derive(Debug)]
pub(in crate::config) struct RoutePart {
    pub rule: Rule,
    pub to: Destination,
}

impl Check<'_> {
    pub(super) fn routes(&mut self) -> Vec<RoutePart> {
        let Some(file) = &self.tree.routes else { return Vec::new() };
        let at_routes = At::file("routes.toml").key("route");
        let mut parts: Vec<RoutePart> = Vec::new();
        for (n, route) in file.route.iter().enumerate() {
            let at = at_routes.item(n);
            let rule = self.rule(&at, route);
            let to = self.destination(&at, route);
            let above = parts.iter().position(|earlier| earlier.rule.covers(&rule));
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
            parts.push(RoutePart { rule, to });
        }
        if parts.last().is_some_and(|last| !last.rule.is_for_all()) {
            self.report(
                Mistake::error(
                    code::NO_DEFAULT_ROUTE,
                    at_routes.item(parts.len() - 1).key("called"),
                    "the last route must be for every number of every trunk, at any time",
                )
                .hint("add [[route]] with called = \"*\" and reject = \"not_found\""),
            );
        }
        parts
    }

    fn rule(&mut self, at: &At, route: &raw::Route) -> Rule {
        if let Some(trunk) = &route.trunk {
            self.refer(Kind::Trunk, &at.key("trunk"), trunk);
        }
        let called = self.pattern(&at.key("called"), &route.called);
        let caller = route.from.as_ref().map(|from| match from.as_str() {
            "anonymous" => CallerIs::Anonymous,
            number => CallerIs::Number(self.pattern(&at.key("from"), number)),
        });
        let at_headers = at.key("header");
        let mut headers = Vec::new();
        for (n, header) in route.header.iter().enumerate() {
            if !header.name.is_empty() && !is_token(&header.name) {
                let at = at_headers.item(n).key("name");
                let mistake = Mistake::error(code::NAME, at, "this is no name of a header");
                self.report(mistake.hint("write letters, digits and `-`"));
            }
            let Ok(value) = header.value.as_deref().map(str::parse::<Glob>).transpose();
            headers.push(HeaderIs { name: header.name.clone(), value });
        }
        let at_hours = at.key("hours");
        let hours = route.hours.iter().enumerate();
        let hours = hours.filter_map(|(n, hours)| self.hours(&at_hours.item(n), hours)).collect();
        let identity = route.identity.iter().map(|identity| match identity {
            raw::RouteIdentity::A => IdentityIs::Attested(Attestation::A),
            raw::RouteIdentity::B => IdentityIs::Attested(Attestation::B),
            raw::RouteIdentity::C => IdentityIs::Attested(Attestation::C),
            raw::RouteIdentity::Passed => IdentityIs::Passed,
            raw::RouteIdentity::Failed => IdentityIs::Failed,
            raw::RouteIdentity::Missing => IdentityIs::Missing,
        });
        Rule { called, trunk: route.trunk.clone(), caller, headers, identity: identity.collect(), hours }
    }

    /// A pattern of numbers. One that is wrong is reported, and stands for no number that there is.
    fn pattern(&mut self, at: &At, text: &str) -> Pattern {
        match text.parse::<Pattern>() {
            Ok(pattern) => pattern,
            Err(fault) => {
                self.report(
                    Mistake::error(code::PATTERN, at.offset(fault.at), fault.what)
                        .hint("write a number, as +442079460000, its beginning and `*`, or `X` for a digit"),
                );
                Pattern::default()
            }
        }
    }

    fn hours(&mut self, at: &At, raw: &raw::RouteHours) -> Option<Hours> {
        if raw.zone.is_empty() {
            // Its absence was reported already.
            return None;
        }
        let days = raw.days.iter().fold(Days::NONE, |days, day| {
            days.with(match day {
                raw::Day::Mon => Weekday::Monday,
                raw::Day::Tue => Weekday::Tuesday,
                raw::Day::Wed => Weekday::Wednesday,
                raw::Day::Thu => Weekday::Thursday,
                raw::Day::Fri => Weekday::Friday,
                raw::Day::Sat => Weekday::Saturday,
                raw::Day::Sun => Weekday::Sunday,
            })
        });
        let fault = match Hours::new(days, &raw.from, &raw.to, &raw.zone) {
            Ok(hours) => return Some(hours),
            Err(fault) => fault,
        };
        let mistake = match fault {
            HoursFault::From => {
                Mistake::error(code::MALFORMED, at.key("from"), "this is no time of day").hint("write it as 09:00")
            }
            HoursFault::To => Mistake::error(code::MALFORMED, at.key("to"), "this is no time of day")
                .hint("write it as 18:30, or 24:00 for the end of the day"),
            HoursFault::Zone => Mistake::error(code::ZONE, at.key("zone"), "there is no such time zone")
                .hint("write one of the IANA database, as Europe/Rome or America/New_York"),
        };
        self.report(mistake);
        None
    }

    fn destination(&mut self, at: &At, route: &raw::Route) -> Destination {
        let is_refused = route.reject.is_some() || route.status.is_some();
        let idle = [("retry_after_s", route.retry_after_s.is_some()), ("reason", route.reason.is_some())];
        for (key, _) in idle.into_iter().filter(|(_, written)| *written && !is_refused) {
            let mistake =
                Mistake::error(code::CONFLICT, at.key(key).on_key(), "this goes with `reject` or `status` only");
            self.report(mistake.absence());
        }
        if route.reason.as_ref().is_some_and(|reason| reason.chars().any(char::is_control)) {
            let what = "the words beside a status stand on one line";
            self.report(Mistake::error(code::MALFORMED, at.key("reason"), what));
        }
        let refused =
            |status| Destination::Refuse { status, reason: route.reason.clone(), retry_after_s: route.retry_after_s };
        if let (Some(status), Some(_)) = (route.status, route.reject) {
            let what = "a call is refused with one status";
            let mistake = Mistake::error(code::EXACTLY_ONE, at.key("status").on_key(), what);
            self.report(mistake.hint("write status or reject"));
            return refused(status);
        }
        if let (Some(status), None, None) = (route.status, &route.agent, &route.forward) {
            return refused(status);
        }
        if let (Some(forward), None, false) = (&route.forward, &route.agent, is_refused) {
            return Destination::Forward(self.forward(&at.key("forward"), forward));
        }
        match (&route.agent, route.reject) {
            (Some(agent), None) if route.forward.is_none() && route.status.is_none() => {
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
                refused(cause.status())
            }
            (agent, _) => {
                let (message, absent) = match (agent, &route.forward) {
                    (None, None) => ("this route leads nowhere", true),
                    _ => ("a route leads to an agent, to another trunk or back; it is one of the three", false),
                };
                let mistake = Mistake::error(code::EXACTLY_ONE, at.clone(), message)
                    .hint(r#"write agent = "id", forward = { trunk = "id" }, or reject = "not_found""#);
                self.report(Mistake { is_absence: absent, ..mistake });
                refused(Cause::NotFound.status())
            }
        }
    }
}
