//! The SIP messages of calls.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Store, StoreError, database};
use crate::model::{CallId, limits};

/// The SIP messages of one call, in order. Written in clear, because somebody has to read them; never printed by `Debug`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallTrace {
    /// At most [`limits::SIP_TRACE_HALF`] from each end of each leg.
    pub messages: Vec<TracedMessage>,
    /// Messages that were not kept.
    pub left_out: u64,
}

/// One SIP message.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracedMessage {
    /// Milliseconds since the call began.
    pub at: u64,
    /// Which leg: 0 is the caller.
    pub leg: u32,
    /// They sent it, not we.
    pub received: bool,
    /// The other side's address.
    pub peer: String,
    /// `udp`, `tcp`, `tls`, …
    pub transport: String,
    /// The message, without passwords and keys.
    pub text: String,
}

impl fmt::Debug for CallTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallTrace({} messages)", self.messages.len())
    }
}

impl fmt::Debug for TracedMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TracedMessage(at {} ms)", self.at)
    }
}

impl Store {
    /// Keeps the messages of a call that is over, and lets go of the oldest trace beyond [`limits::STORED_TRACES_MAX`].
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep_trace(&self, call: CallId, trace: &CallTrace, now_unix_ms: i64) -> Result<(), StoreError> {
        let failed = database("write a SIP trace");
        let mut connection = self.quick().await?;
        let sql = "INSERT INTO sip_traces (call, kept_ms, trace) VALUES (?, ?, ?) ON CONFLICT (call) DO NOTHING";
        sqlx::query(sql)
            .bind(call.to_string())
            .bind(now_unix_ms)
            .bind(serde_json::to_string(trace).expect("a trace is plain data with text keys"))
            .execute(&mut *connection)
            .await
            .map_err(&failed)?;
        let sql = "DELETE FROM sip_traces WHERE seq <= (SELECT max(seq) FROM sip_traces) - ?";
        sqlx::query(sql).bind(limits::STORED_TRACES_MAX).execute(&mut *connection).await.map_err(&failed)?;
        Ok(())
    }

    /// The messages of a call; `None` when none were kept.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn trace(&self, call: CallId) -> Result<Option<CallTrace>, StoreError> {
        let row: Option<String> = sqlx::query_scalar("SELECT trace FROM sip_traces WHERE call = ?")
            .bind(call.to_string())
            .fetch_optional(&self.readers)
            .await
            .map_err(database("read a SIP trace"))?;
        row.map(|row| serde_json::from_str(&row).map_err(|_| StoreError::Damaged("a SIP trace"))).transpose()
    }
}
