//! The subcommands: reads arguments, lets other rooms work, and says what came of it.
//!
//! Results go to standard output and everything else to standard error, so that a script can read the one and a person
//! the other. Every command ends with an [`Exit`] that scripts can branch on.
//! Start at [`main`]; each command is a file, and `phone` is the telephone that `call` and `demo` use.

mod bench;
mod call;
mod check;
mod configuration;
mod demo;
mod doctor;
mod exit;
mod expect;
pub mod phone;
mod recording;
mod replay;
mod route_test;
mod run;
mod screen;
mod signals;
mod stopwatch;
mod trace;
mod trunks;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use exit::Exit;

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    arguments.command.run().into()
}

/// A voice-agent telephony gateway: SIP trunks on one side, LLM voice agents on the other.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Arguments),
    Run(run::Arguments),
    Check(check::Arguments),
    Doctor(doctor::Arguments),
    Call(call::Arguments),
    Replay(replay::Arguments),
    Recording(recording::Arguments),
    Trunks(trunks::Arguments),
    RouteTest(route_test::Arguments),
    Trace(trace::Arguments),
    Bench(bench::Arguments),
}

impl Command {
    fn run(self) -> Exit {
        match self {
            Command::Demo(arguments) => block_on("warn", demo::run(arguments)),
            Command::Run(arguments) => block_on("info", run::run(arguments)),
            Command::Check(arguments) => check::run(&arguments),
            Command::Doctor(arguments) => block_on("warn", doctor::run(arguments)),
            Command::Call(arguments) => block_on("warn", call::run(arguments)),
            Command::Replay(arguments) => replay::run(&arguments),
            Command::Recording(arguments) => recording::run(&arguments),
            Command::Trunks(arguments) => block_on("warn", trunks::run(arguments)),
            Command::RouteTest(arguments) => route_test::run(&arguments),
            Command::Trace(arguments) => block_on("warn", trace::run(arguments)),
            Command::Bench(arguments) => block_on("error", bench::run(arguments)),
        }
    }
}

fn block_on(log: &str, work: impl Future<Output = Exit>) -> Exit {
    screen::log(log);
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => {
            eprintln!("ringback: cannot start: {error}");
            Exit::Failed
        }
    }
}

const EXIT_CODES: &str = "\
Exit codes:
  0   all is well
  1   something was not as expected
  2   the command line is wrong
  3   a call would be refused
  69  the other side cannot be reached
  78  the configuration is wrong";
