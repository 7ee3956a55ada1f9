//! What must survive: call records, events, jobs, deliveries.
