//! Something the outside world is told.

use serde::Serialize;
use serde_json::Value;

use super::CallRecord;
use super::record::written;
use crate::model::{CallId, Pii, limits};

/// An event to be written beside what it tells of.
#[derive(Clone, Debug)]
pub struct NewEvent {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) call: CallId,
    pub(super) created_unix_ms: i64,
    pub(super) body: Pii<String>,
    pub(super) endpoints: Vec<String>,
}

impl NewEvent {
    /// `call.ended`, for these endpoints, by id. Its id is made of the call's, so the same end is never told twice.
    /// A record too large for [`limits::EVENT_BODY_MAX`] leaves out its transcript, then its runs, then its context,
    /// and has `truncated`.
    pub fn call_ended(record: &CallRecord, now_unix_ms: i64, endpoints: Vec<String>) -> NewEvent {
        NewEvent {
            id: format!("evt_{}_ended", record.id.0.simple()),
            kind: CALL_ENDED.to_owned(),
            call: record.id,
            created_unix_ms: now_unix_ms,
            body: Pii::new(body(record, now_unix_ms)),
            endpoints,
        }
    }

    /// What receivers know it by.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Who is told, by id.
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// The body as sent.
    pub fn body(&self) -> &Pii<String> {
        &self.body
    }
}

const CALL_ENDED: &str = "call.ended";

// Standard Webhooks 1.0.0, "Payload structure".
#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    timestamp: String,
    data: &'a Value,
}

fn body(record: &CallRecord, now_unix_ms: i64) -> String {
    let mut data = serde_json::to_value(record).expect("a record is plain data with text keys");
    let mut leave_out = ["transcript", "runs", "context"].into_iter();
    loop {
        let body = Body { kind: CALL_ENDED, timestamp: written(now_unix_ms), data: &data };
        let body = serde_json::to_string(&body).expect("plain data with text keys");
        let (true, Some(part)) = (body.len() >= limits::EVENT_BODY_MAX, leave_out.next()) else {
            return body;
        };
        if let Some(members) = data.as_object_mut() {
            members.remove(part);
            members.insert("truncated".to_owned(), Value::Bool(true));
        }
    }
}
