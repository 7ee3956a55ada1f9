//! What is shown while a command works, and where.

use std::io::{IsTerminal, stderr, stdout};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use tracing_subscriber::EnvFilter;

/// Sends log lines to standard error: those that `RINGBACK_LOG` asks for (as `debug` or `ringback::sip=trace`), otherwise
/// this level and above.
pub(super) fn log(level: &str) {
    let filter = EnvFilter::try_from_env("RINGBACK_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    // A second call, as in tests, finds the place taken and changes nothing.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        // Plain on a terminal too: colours would need the crate's ANSI feature, and it panics when asked without.
        .with_ansi(false)
        .try_init();
}

/// A line that tells what is going on: on a terminal only, on standard error, and gone when the work is done.
#[derive(Debug)]
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// A line that begins with these words.
    pub(super) fn start(words: &str) -> Progress {
        // indicatif draws nothing where standard error is no terminal.
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(
            ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        bar.set_message(words.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        Progress(bar)
    }

    /// Changes the words.
    pub(super) fn say(&self, words: String) {
        self.0.set_message(words);
    }

    /// Prints something of its own, above the line.
    pub(super) fn above(&self, print: impl FnOnce()) {
        self.0.suspend(print);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// One JSON value on one line of standard output.
pub(super) fn json(value: &impl Serialize) {
    match serde_json::to_string(value) {
        Ok(text) => println!("{text}"),
        Err(error) => eprintln!("ringback: the result cannot be written as JSON: {error}"),
    }
}

/// Whether results are shown in colour: on a terminal, unless `NO_COLOR` is set (no-color.org).
pub(super) fn results_in_color() -> bool {
    is_colored(stdout().is_terminal())
}

/// Whether chatter is shown in colour.
pub(super) fn chatter_in_color() -> bool {
    is_colored(stderr().is_terminal())
}

fn is_colored(is_terminal: bool) -> bool {
    is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
