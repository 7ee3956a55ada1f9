//! `ringback route-test`: what would become of a call, and why.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::{EXIT_CODES, Exit, configuration, screen};
use crate::config::{Config, Destination, Route};
use crate::gateway::unix_ms;
use crate::guard::dialling::{self, Attempt};
use crate::guard::{Access, Approach, Because, Contacts};
use crate::model::{Address, Attestation, Doubt, Party, Pii, Secret, Vars, Verdict, Verification, Via};
use crate::route::Asked;
use crate::trunk::{Credentials, Shown, Trunk, arrive, numbers, present};

/// Say what would become of a call, and why, without making one.
///
/// Every route is shown in order with the reason why it does or does not take the call. With --dial, it is a call that
/// goes out, and what its INVITE would say.
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(super) struct Arguments {
    /// The folder with gateway.toml
    #[arg(long, value_name = "DIR", default_value = "sip-config")]
    config_dir: PathBuf,
    /// The called number, as the trunk writes it
    #[arg(long, value_name = "NUMBER", required_unless_present = "dial")]
    called: Option<String>,
    /// The caller's number, as the trunk writes it; `anonymous` for somebody who hides
    #[arg(long, value_name = "NUMBER", default_value = "")]
    from: String,
    /// The trunk that the call comes by, or goes out by
    #[arg(long, value_name = "ID", conflicts_with_all = ["source", "tls_name", "login", "registered"])]
    trunk: Option<String>,
    /// The address that the call comes from, instead of a trunk
    #[arg(long, value_name = "ADDRESS", conflicts_with = "dial")]
    source: Option<IpAddr>,
    /// A name in the TLS certificate of who calls; may be given several times
    #[arg(long, value_name = "NAME", conflicts_with = "dial")]
    tls_name: Vec<String>,
    /// The user name whose password who calls can prove
    #[arg(long, value_name = "USER", conflicts_with = "dial")]
    login: Option<String>,
    /// The trunk with which we registered the address that is called
    #[arg(long, value_name = "ID", conflicts_with = "dial")]
    registered: Option<String>,
    /// A header of the call; may be given several times
    #[arg(long, value_name = "NAME: VALUE", value_parser = header)]
    header: Vec<(String, String)>,
    /// What the caller's signed identity came to: passed, failed, none, or how well it is attested: A, B or C
    #[arg(long, value_name = "WORD", value_parser = identity)]
    identity: Option<Verification>,
    /// When, by the clock of this machine or with an offset; now, when left out
    #[arg(long, value_name = "TIME", value_parser = moment)]
    at: Option<Timestamp>,
    /// Show a call to this number or SIP URI, out by --trunk
    #[arg(long, value_name = "NUMBER", conflicts_with = "called", requires = "trunk")]
    dial: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  Which agent takes this call on Friday evening?
    ringback route-test --called +390212345678 --trunk acme --at 2026-11-20T18:30
  Is a call from this address taken at all?
    ringback route-test --called 0212345678 --source 203.0.113.5
  And from somebody who proves the password of a user, or shows a certificate?
    ringback route-test --called 200 --source 198.51.100.9 --login office
    ringback route-test --called 200 --tls-name sbc.carrier.example
  With a header that a route asks for, for a script
    ringback route-test --called 200 --trunk office --header 'X-Queue: gold' --json | jq -r .outcome.agent
  What would the carrier see of a call to London?
    ringback route-test --dial +442079460000 --trunk acme --from +393401234567

It ends with 0 when an agent or another trunk gets the call, or it may go out; with 3 when it is refused.";

pub(super) fn run(arguments: &Arguments) -> Exit {
    let config = match configuration::load(&arguments.config_dir, Vec::new()) {
        Ok((config, _)) => config,
        Err(mistakes) => {
            eprint!("{}", mistakes.human(screen::chatter_in_color()));
            return Exit::BadConfiguration;
        }
    };
    let report = match &arguments.dial {
        Some(number) => outward(arguments, &config, number),
        None => inward(arguments, &config),
    };
    match report {
        Ok(report) => {
            if arguments.json {
                screen::json(&report.json);
            } else {
                print!("{}", report.text);
            }
            if report.is_taken { Exit::Ok } else { Exit::Refused }
        }
        Err(mistake) => {
            eprintln!("ringback route-test: {mistake}");
            Exit::Usage
        }
    }
}

/// What is shown.
struct Report {
    text: String,
    json: Value,
    is_taken: bool,
}

fn identity(word: &str) -> Result<Verification, String> {
    let attestation = Attestation::of(word);
    let verdict = match word {
        "failed" => Verdict::Failed(Doubt::Signature),
        "none" => Verdict::Missing,
        "passed" => Verdict::Passed,
        _ if attestation.is_some() => Verdict::Passed,
        _ => return Err("write passed, failed, none, A, B or C".to_owned()),
    };
    Ok(Verification { attestation, ..Verification::bare(verdict, Via::Identity) })
}

fn inward(arguments: &Arguments, config: &Config) -> Result<Report, String> {
    let (trunk, how) = match whose(arguments, config)? {
        Ok(found) => found,
        Err(why) => {
            let text = format!("outcome  refused: {why}\n");
            let json = json!({ "trunk": null, "outcome": { "kind": "refused", "why": why } });
            return Ok(Report { text, json, is_taken: false });
        }
    };
    let headers: Vec<(String, Pii<String>)> =
        arguments.header.iter().map(|(name, value)| (name.clone(), Pii::new(value.clone()))).collect();
    let called = arguments.called.as_deref().unwrap_or_default();
    let arrival = arrive(
        trunk,
        &Shown {
            called,
            from_user: &arguments.from,
            from_display: "",
            from_uri: &format!("sip:{}@caller.invalid", arguments.from),
            headers: &headers,
        },
    );
    let at = at(arguments);
    let asked = Asked {
        called: arrival.called.reveal(),
        called_raw: called,
        trunk: &trunk.id,
        caller: (!arrival.caller.anonymous).then(|| arrival.caller.user.reveal().as_str()),
        headers: &headers,
        identity: arguments.identity.as_ref(),
        at,
    };
    let caller = asked.caller.unwrap_or("anonymous");
    let mut text = format!("called   {}\n", read(called, asked.called));
    text += &format!("from     {}\n", read(&arguments.from, caller));
    text += &format!("trunk    {} ({how})\n", trunk.id);
    text += &format!("at       {}\n\n", at.to_zoned(TimeZone::system()).strftime("%a %Y-%m-%d %H:%M %Z"));

    let mut routes = Vec::new();
    let width = config.routes.iter().map(|route| route.rule.to_string().chars().count()).max().unwrap_or(0).min(64);
    let mut taken: Option<(usize, &Route)> = None;
    for (n, route) in config.routes.iter().enumerate() {
        let why_not = route.rule.why_not(&asked).map(|why| why.to_string());
        let verdict = match (&why_not, taken) {
            (Some(why), _) => why.clone(),
            (None, None) => "takes it".to_owned(),
            (None, Some((first, _))) => format!("would, but route {} takes it", first + 1),
        };
        text += &format!("{:>4}  {:<width$}  {verdict}\n", n + 1, route.rule.to_string());
        routes.push(
            json!({ "route": n + 1, "rule": route.rule.to_string(), "fits": why_not.is_none(), "why_not": why_not }),
        );
        if why_not.is_none() && taken.is_none() {
            taken = Some((n, route));
        }
    }
    let (words, outcome, is_taken) = match taken {
        Some((n, route)) => told(&route.to, n + 1, asked.called),
        // The check sees to it that the last route takes everything.
        None => ("refused: no route takes it".to_owned(), json!({ "kind": "refused" }), false),
    };
    text += &format!("\noutcome  {words}\n");
    let variables: serde_json::Map<String, Value> = arrival
        .variables
        .iter()
        .map(|(name, value)| (format!("sip.{name}"), Value::from(value.reveal().as_str())))
        .collect();
    let json = json!({
        "called": { "written": called, "number": asked.called },
        "from": { "written": arguments.from, "number": asked.caller, "anonymous": arrival.caller.anonymous },
        "trunk": trunk.id,
        "trunk_because": how,
        "at": at.to_string(),
        "variables": variables,
        "routes": routes,
        "outcome": outcome,
    });
    Ok(Report { text, json, is_taken })
}

/// The trunk and why it is it, or why it is none. The outer error is a mistake on the command line.
type Whose<'a> = Result<(&'a Trunk, String), String>;

fn whose<'a>(arguments: &Arguments, config: &'a Config) -> Result<Whose<'a>, String> {
    let shows = arguments.source.is_some() || !arguments.tls_name.is_empty();
    if shows || arguments.login.is_some() || arguments.registered.is_some() {
        return recognised(arguments, config);
    }
    match &arguments.trunk {
        Some(id) => named(config, id).map(|trunk| Ok((trunk, "as asked".to_owned()))),
        None => match config.trunks.values().collect::<Vec<_>>().as_slice() {
            [only] => Ok(Ok((*only, "the only one".to_owned()))),
            _ => Err("name --trunk or --source: there are several trunks".to_owned()),
        },
    }
}

/// Asks the guard's own table, so that nobody is told otherwise here than at the door.
fn recognised<'a>(arguments: &Arguments, config: &'a Config) -> Result<Whose<'a>, String> {
    let contacts = Contacts::default();
    if let Some(id) = &arguments.registered {
        let trunk = named(config, id)?;
        if trunk.registration.is_none() {
            return Err(format!("trunk {id} has no [registration]"));
        }
        contacts.add(OUR_CONTACT, id);
    }
    // What is proved is a user's password; which one that is does not matter here.
    let secret = |_: &Credentials| Some(Secret::new(String::new()));
    let access = Access::new(config.trunks.values(), secret, config.gateway.protection.clone(), contacts);
    let approach = Approach {
        // Nobody's: only a network of everybody holds it.
        source: arguments.source.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        is_connected: !arguments.tls_name.is_empty(),
        tls_names: &arguments.tls_name,
        method: "INVITE",
        user: if arguments.registered.is_some() { OUR_CONTACT } else { "" },
        agent: "",
        authorization: &[],
    };
    let source = arguments.source.map_or_else(|| "somewhere".to_owned(), |source| source.to_string());
    Ok(match access.explain(&approach, arguments.login.as_deref()) {
        Ok((id, because)) => {
            let how = match because {
                Because::Contact => "the call is for the address that we registered with it".to_owned(),
                Because::TlsName(name) => format!("the certificate bears {name}"),
                Because::Network(network) => format!("{source} lies in {network}"),
                Because::Password => format!("the password of {}", arguments.login.as_deref().unwrap_or_default()),
            };
            named(config, id).map(|trunk| (trunk, how))
        }
        Err(asked) if asked.is_empty() => Err(match (&arguments.source, arguments.tls_name.as_slice()) {
            (Some(source), []) => format!("no trunk has the address {source} in allowed_addresses"),
            (_, []) => "no trunk takes such a call: an address, a name or a password is missing".to_owned(),
            (_, names) => format!("no trunk has {} in tls_names", names.join(" or ")),
        }),
        Err(asked) => {
            let users = asked.iter().filter_map(|id| config.trunks.get(*id)?.inbound.digest.as_ref());
            let users: Vec<String> = users.map(|digest| format!("--login {}", digest.username)).collect();
            Err(format!("a password is asked for, of trunk {}; try {}", asked.join(" or "), users.join(" or ")))
        }
    })
}

/// Stands for the user part that a registration draws at random.
const OUR_CONTACT: &str = "registered";

fn named<'a>(config: &'a Config, id: &str) -> Result<&'a Trunk, String> {
    let known = || config.trunks.keys().cloned().collect::<Vec<_>>().join(", ");
    config.trunks.get(id).ok_or_else(|| format!("there is no trunk {id:?}; known: {}", known()))
}

fn told(to: &Destination, route: usize, called: &str) -> (String, Value, bool) {
    match to {
        Destination::Agent(agent) => (
            format!("agent {agent}, by route {route}"),
            json!({ "kind": "agent", "route": route, "agent": agent }),
            true,
        ),
        Destination::Forward(forward) => {
            let to = forward.to.as_ref().map_or(called, |to| to.source());
            (
                format!("sent on to {to} by trunk {}, by route {route}", forward.trunk),
                json!({ "kind": "forward", "route": route, "trunk": forward.trunk, "to": to }),
                true,
            )
        }
        Destination::Refuse { status, reason, retry_after_s } => {
            let words = reason.as_ref().map_or_else(String::new, |reason| format!(" {reason}"));
            let again = retry_after_s.map_or_else(String::new, |after| format!(", try again after {after} s"));
            (
                format!("refused with {status}{words}{again}, by route {route}"),
                json!({
                    "kind": "refused", "route": route,
                    "status": status, "reason": reason, "retry_after_s": retry_after_s,
                }),
                false,
            )
        }
    }
}

fn outward(arguments: &Arguments, config: &Config, number: &str) -> Result<Report, String> {
    let trunk = named(config, arguments.trunk.as_deref().unwrap_or_default())?;
    let to: Address = number.parse().map_err(|error| format!("{number:?}: {error}"))?;
    let Some(outbound) = &trunk.outbound else {
        let why = format!("trunk {} has no [outbound]", trunk.id);
        let json = json!({ "dial": number, "trunk": trunk.id, "outcome": { "kind": "refused", "why": why } });
        return Ok(Report { text: format!("outcome  refused: {why}\n"), json, is_taken: false });
    };
    let hides = arguments.from.eq_ignore_ascii_case("anonymous");
    let country = trunk.country.as_deref().and_then(numbers::Country::of);
    let user = if hides { String::new() } else { numbers::normalise(&arguments.from, country.as_deref(), "") };
    let caller = Party { user: Pii::new(user), display: Pii::default(), anonymous: hides };
    let mut vars = Vars::default();
    vars.set("call.trunk", Value::from(trunk.id.as_str()));
    let shown = present(trunk, outbound, &caller, &vars);
    let uris: Vec<String> = outbound.gateways.iter().map(|gateway| trunk.dialled_uri(outbound, gateway, &to)).collect();
    let verdict = dialling::judge(Attempt { to: &to, is_written: false, trunk: Some(trunk) });

    let host = shown.host.as_deref().unwrap_or("our address");
    let display = shown.display.reveal();
    let gap = if display.is_empty() { "" } else { " " };
    let from = format!("{display}{gap}<sip:{}@{host}>", shown.user.reveal());
    let mut text = format!("dialled  {}\n", uris.join("\n         "));
    text += &format!("from     {from}\n");
    for (name, value) in &shown.headers {
        text += &format!("header   {name}: {}\n", value.reveal());
    }
    let (words, outcome) = match &verdict {
        Ok(_) => ("may be dialled".to_owned(), json!({ "kind": "allowed" })),
        Err(rule) => (
            format!("refused: {rule}; {}", rule.remedy()),
            json!({ "kind": "refused", "why": rule.to_string(), "remedy": rule.remedy() }),
        ),
    };
    text += &format!("\noutcome  {words}\n");
    let headers: Vec<Value> =
        shown.headers.iter().map(|(name, value)| json!({ "name": name, "value": value.reveal() })).collect();
    let json = json!({
        "dial": number,
        "trunk": trunk.id,
        "uris": uris,
        "from": from,
        "headers": headers,
        "outcome": outcome,
    });
    Ok(Report { text, json, is_taken: verdict.is_ok() })
}

/// A number as it was written, and how it is read.
fn read(written: &str, number: &str) -> String {
    match (written, number) {
        ("", _) => "nobody said".to_owned(),
        (written, number) if written == number => written.to_owned(),
        (written, number) => format!("{written}, which is {number}"),
    }
}

fn at(arguments: &Arguments) -> Timestamp {
    arguments.at.unwrap_or_else(|| Timestamp::from_millisecond(unix_ms()).unwrap_or(Timestamp::UNIX_EPOCH))
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write it as 'X-Queue: gold'")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let local: DateTime = text.parse().map_err(|_| "write it as 2026-11-20T18:30, or with an offset as …+01:00")?;
    let zoned = local.to_zoned(TimeZone::system()).map_err(|error| error.to_string())?;
    Ok(zoned.timestamp())
}
