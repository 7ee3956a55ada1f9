//! `ringback call`: place a test call and judge it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::net::lookup_host;

use super::expect::{Expectation, all_ok, ms};
use super::phone::{Ending, Line, Outgoing, Phone, Report};
use super::screen::{self, Progress};
use super::{EXIT_CODES, Exit};
use crate::media::load_clip;
use crate::model::{Address, Digit, Pii};
use crate::sip::Failure;

/// Place a test call over SIP and RTP, listen, and judge what was heard.
///
/// All times are milliseconds since the INVITE was sent, unless said otherwise. Sound is anything louder than −50 dB of
/// full scale.
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub(super) struct Arguments {
    /// Whom to call: sip:USER@HOST, with :PORT and ;transport=tcp as needed
    #[arg(value_name = "SIP_URI")]
    to: Address,
    /// A WAV file to say once the call is answered; silence is sent without it
    #[arg(long, value_name = "FILE")]
    play: Option<PathBuf>,
    /// Write what is heard, from the answer on, to this WAV file
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Keys to press: 0-9, *, # and A-D
    #[arg(long, value_name = "KEYS", value_parser = keys)]
    digits: Option<Keys>,
    /// When to press them, in milliseconds since the answer
    #[arg(long, value_name = "MS", default_value_t = 1000, requires = "digits")]
    digits_at: u64,
    /// Hang up after so many seconds since the answer
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    duration: u64,
    /// Fail unless sound is heard within so many milliseconds since the answer
    #[arg(long, value_name = "MS", conflicts_with = "cancel_after")]
    expect_sound_within: Option<u64>,
    /// Give up after so many milliseconds, and expect it to have rung without an answer until then
    #[arg(long, value_name = "MS")]
    cancel_after: Option<u64>,
    /// Who calls: the user part of From
    #[arg(long, value_name = "USER", default_value = "ringback-call")]
    from: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  Does the front desk answer and speak within two seconds?
    ringback call sip:100@127.0.0.1:5060 --expect-sound-within 2000
  Press 1 and then 2 after three seconds, and keep what was heard
    ringback call sip:100@127.0.0.1:5060 --digits 12 --digits-at 3000 --record heard.wav
  Say something over TCP, with figures for a script
    ringback call 'sip:100@gateway.example;transport=tcp' --play question.wav --json
  Give up while it rings
    ringback call sip:100@127.0.0.1:5060 --cancel-after 500";

#[derive(Clone, Debug)]
struct Keys(Vec<Digit>);

fn keys(text: &str) -> Result<Keys, String> {
    text.chars().map(Digit::try_from).collect::<Result<Vec<Digit>, String>>().map(Keys)
}

pub(super) async fn run(arguments: Arguments) -> Exit {
    match place(&arguments).await {
        Ok(report) => judge(&arguments, &report),
        Err((exit, why)) => {
            if arguments.json {
                screen::json(&json!({ "ok": false, "error": why }));
            }
            eprintln!("ringback call: {why}");
            exit
        }
    }
}

async fn place(arguments: &Arguments) -> Result<Report, (Exit, String)> {
    let Address::Uri(uri) = &arguments.to else {
        return Err((Exit::Usage, "a SIP URI is needed, as sip:100@127.0.0.1:5060".to_owned()));
    };
    let say = match &arguments.play {
        Some(path) => Some(load_clip(path).map_err(|error| (Exit::Usage, format!("{}: {error}", path.display())))?),
        None => None,
    };
    let remote = resolve(uri).await.map_err(|why| (Exit::Unreachable, why))?;
    let local = local_towards(remote).map_err(|why| (Exit::Unreachable, why))?;
    let phone = Phone::open(SocketAddr::new(local, 0)).await.map_err(|error| (Exit::Failed, error.to_string()))?;
    let keys = arguments.digits.iter();
    let outgoing = Outgoing {
        to: uri.clone(),
        from: Pii::new(arguments.from.clone()),
        say,
        keys: keys.map(|keys| (Duration::from_millis(arguments.digits_at), keys.0.clone())).collect(),
        cancel_after: arguments.cancel_after.map(Duration::from_millis),
        hang_up_after: Some(Duration::from_secs(arguments.duration)),
    };
    let line = phone.call(outgoing).await.map_err(|error| (Exit::Failed, error.to_string()))?;
    let report = watch(line).await;
    if let Some(path) = &arguments.record {
        report.write_recording(path).map_err(|error| (Exit::Failed, format!("{}: {error}", path.display())))?;
    }
    Ok(report)
}

/// Shows how the call goes, to its end; Ctrl-C hangs up.
async fn watch(line: Line) -> Report {
    let progress = Progress::start("calling");
    let mut news = line.news();
    let mut is_interrupted = false;
    loop {
        tokio::select! {
            changed = news.changed() => match changed {
                Ok(()) => {
                    let now = news.borrow_and_update().clone();
                    progress.say(match (now.ended_ms, now.answered_ms, now.ringing_ms) {
                        (Some(_), ..) => "over".to_owned(),
                        (None, Some(at), _) => format!("answered after {at} ms, {} stretches of sound", now.spurts),
                        (None, None, Some(at)) => format!("ringing since {at} ms"),
                        (None, None, None) => "calling".to_owned(),
                    });
                }
                Err(_) => break,
            },
            _ = tokio::signal::ctrl_c(), if !is_interrupted => {
                is_interrupted = true;
                line.hang_up().await;
            }
        }
    }
    line.over().await
}

fn judge(arguments: &Arguments, report: &Report) -> Exit {
    let expectations = expectations(arguments, report);
    let ok = all_ok(&expectations);
    if arguments.json {
        screen::json(&figures(arguments, report, &expectations, ok));
    } else {
        print(report, &expectations);
    }
    match &report.ending {
        Ending::Failed(Failure::Timeout | Failure::Transport | Failure::Unresolved) => Exit::Unreachable,
        Ending::Failed(Failure::BadRequest) => Exit::Usage,
        _ if ok => Exit::Ok,
        _ => Exit::Failed,
    }
}

fn expectations(arguments: &Arguments, report: &Report) -> Vec<Expectation> {
    let moments = &report.moments;
    if arguments.cancel_after.is_some() {
        let is_canceled = report.ending == Ending::Canceled;
        return vec![
            Expectation::new("ringing", "ringing", ms(moments.ringing_ms), moments.ringing_ms.is_some()),
            Expectation::new("ending", Ending::Canceled.describe(), report.ending.describe(), is_canceled),
        ];
    }
    let is_orderly = matches!(report.ending, Ending::WeHungUp | Ending::TheyHungUp);
    let mut expectations = vec![
        Expectation::new("answer", "an answer", ms(moments.answered_ms), moments.answered_ms.is_some()),
        Expectation::new("ending", "somebody hangs up", report.ending.describe(), is_orderly),
    ];
    if let Some(within) = arguments.expect_sound_within {
        let since_answer = since(moments.answered_ms, moments.first_sound_ms);
        expectations.push(Expectation::at_most_ms("sound after the answer", within, since_answer));
    }
    expectations
}

fn since(from: Option<u64>, to: Option<u64>) -> Option<u64> {
    Some(to?.saturating_sub(from?))
}

fn figures(arguments: &Arguments, report: &Report, expectations: &[Expectation], ok: bool) -> Value {
    let moments = &report.moments;
    json!({
        "ok": ok,
        "ring_ms": moments.ringing_ms,
        "answer_ms": moments.answered_ms,
        "first_packet_ms": moments.first_packet_ms,
        "first_sound_ms": moments.first_sound_ms,
        "longest_silence_ms": report.ear.longest_silence_ms(),
        "longest_gap_ms": report.ear.longest_gap_ms(),
        "packets": report.ear.packets(),
        "lost": report.ear.lost(),
        "duration_ms": since(moments.answered_ms, moments.ended_ms),
        "end": report.ending.describe(),
        "recording": arguments.record,
        "checks": expectations,
    })
}

fn print(report: &Report, expectations: &[Expectation]) {
    let moments = &report.moments;
    println!("ringing         {}", ms(moments.ringing_ms));
    println!("answered        {}", ms(moments.answered_ms));
    println!("first packet    {}", ms(moments.first_packet_ms));
    println!("first sound     {}", ms(moments.first_sound_ms));
    println!("longest silence {} ms between sounds", report.ear.longest_silence_ms());
    println!("longest gap     {} ms between packets", report.ear.longest_gap_ms());
    println!("packets         {}, {} lost", report.ear.packets(), report.ear.lost());
    println!("ended           {}: {}", ms(moments.ended_ms), report.ending.describe());
    println!();
    expectations.iter().for_each(|expectation| println!("{}", expectation.line()));
}

/// Where the URI leads, as far as we need to know which of our addresses to use.
async fn resolve(uri: &str) -> Result<SocketAddr, String> {
    let (host, port) = host_and_port(uri).ok_or_else(|| "the SIP URI names no host".to_owned())?;
    let mut found =
        lookup_host((host.as_str(), port)).await.map_err(|error| format!("the host of the SIP URI: {error}"))?;
    found.next().ok_or_else(|| "the host of the SIP URI has no address".to_owned())
}

fn host_and_port(uri: &str) -> Option<(String, u16)> {
    let rest = uri.split_once(':')?.1;
    let rest = rest.split(['?', ';']).next().unwrap_or(rest);
    let host = rest.rsplit('@').next()?;
    let (host, port) = match host.strip_prefix('[') {
        Some(v6) => {
            let (host, rest) = v6.split_once(']')?;
            (host, rest.strip_prefix(':'))
        }
        None => host.split_once(':').map_or((host, None), |(host, port)| (host, Some(port))),
    };
    let port = match port {
        Some(port) => port.parse().ok()?,
        None => SIP_PORT,
    };
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

/// Our own address on the way there: the system chooses it for a socket that is connected, and nothing is sent.
fn local_towards(remote: SocketAddr) -> Result<IpAddr, String> {
    let any: IpAddr = if remote.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).and_then(|socket| {
        socket.connect(remote)?;
        socket.local_addr()
    });
    socket.map(|local| local.ip()).map_err(|error| format!("there is no way to the other side: {error}"))
}

const SIP_PORT: u16 = 5060;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_found_in_every_form_of_uri() {
        let found = |uri| host_and_port(uri).map(|(host, port)| format!("{host} {port}"));

        assert_eq!(found("sip:100@127.0.0.1:5070").as_deref(), Some("127.0.0.1 5070"));
        assert_eq!(found("sip:gateway.example;transport=tcp").as_deref(), Some("gateway.example 5060"));
        assert_eq!(found("sip:a:b@[::1]:5062;lr").as_deref(), Some("::1 5062"));
        assert_eq!(found("sip:100@"), None);
        assert_eq!(found("sip:100@host:99999"), None);
    }
}
