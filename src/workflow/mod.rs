//! Work after a call: durable, leased, retried, idempotent.
