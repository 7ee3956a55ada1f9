//! Who may interrupt an agent, and who notices.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What happens when a caller speaks over an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BargeIn {
    /// Who decides that the caller speaks.
    pub by: DecidedBy,
    /// What may interrupt.
    pub interruptible: Interruptible,
    /// Speech as long as this silences the agent; the worker's decision only.
    #[serde(with = "millis")]
    pub speech_min: Duration,
    /// A short and soft "mm-hmm" does not interrupt; the worker's decision only.
    pub tolerates_backchannels: bool,
    /// Noise is taken out before the worker judges; the agent still hears what the caller's telephone sent.
    pub suppresses_noise: bool,
}

impl Default for BargeIn {
    fn default() -> BargeIn {
        BargeIn {
            by: DecidedBy::Agent,
            interruptible: Interruptible::Yes,
            speech_min: Duration::from_millis(250),
            tolerates_backchannels: true,
            suppresses_noise: false,
        }
    }
}

impl BargeIn {
    /// Whether the worker listens for the caller's voice.
    pub fn is_local(&self) -> bool {
        self.interruptible == Interruptible::Yes && self.by != DecidedBy::Agent
    }

    /// Whether the agent's vendor may silence its agent when it hears the caller.
    pub fn is_vendors(&self) -> bool {
        self.interruptible == Interruptible::Yes && self.by != DecidedBy::Local
    }

    /// Whether a key silences the agent.
    pub fn by_keys(&self) -> bool {
        self.interruptible != Interruptible::No
    }
}

/// Who decides that a caller speaks over the agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecidedBy {
    /// The media worker, some 300 ms after the first sound; before that the agent becomes softer.
    Local,
    /// The agent's vendor, when its word arrives.
    #[default]
    Agent,
    /// Whoever is first.
    Both,
}

/// What may interrupt an agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Interruptible {
    /// Voice and keys.
    #[default]
    Yes,
    /// Nothing: the agent is heard to its end. The caller is listened to all the same.
    No,
    /// Keys only.
    DtmfOnly,
}

mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        Ok(Duration::from_millis(u64::deserialize(from)?))
    }
}
