//! How a command ends, for scripts.

use std::process::ExitCode;

/// The end of a command. The numbers above 63 are those of BSD's `sysexits.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: all is well.
    Ok,
    /// 1: something was not as expected.
    Failed,
    /// 2: the command line is wrong; also what `clap` ends with.
    Usage,
    /// 3: a call would be refused.
    Refused,
    /// 69: the other side cannot be reached.
    Unreachable,
    /// 78: the configuration is wrong.
    BadConfiguration,
}

impl Exit {
    /// The number that the system is given.
    pub fn code(self) -> u8 {
        match self {
            Exit::Ok => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Refused => 3,
            Exit::Unreachable => 69,
            Exit::BadConfiguration => 78,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}
