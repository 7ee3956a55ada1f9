//! What is left of a call: record, event and jobs, in one transaction.

use std::time::Duration;

use metrics::{counter, histogram};
use tokio::time::timeout;
use tracing::{error, warn};

use super::clock::{pause, unix_ms};
use super::house::House;
use super::live::LiveCall;
use super::mailbox::Post;
use crate::call::{Cause, Event, Outcome, Status, Turn};
use crate::config::{Destination, KeepTrace};
use crate::store::{CallOpen, CallRecord, CallTrace, NewEvent, NewJob, StoreError, TracedMessage};

/// Writes a call down and lets it go.
pub(super) async fn finish(mut live: LiveCall, mut outcome: Outcome) {
    live.arms.stop_recording();
    live.seal();
    live.arms.stop_tasks().await;
    take_last_posts(&mut live, &mut outcome).await;
    let recording = close_recording(&mut live).await;
    let record = CallRecord::new(&live.arms.open, recording, &outcome);
    counter!("ringback_calls_total", "reason" => outcome.cause.label()).increment(1);
    if let Some(trunk) = &live.arms.open.trunk {
        live.arms.house.trunks.count(trunk, "inbound", outcome.cause.label());
    }
    histogram!("ringback_call_duration_seconds").record(Duration::from_millis(outcome.ended.as_ms()));
    for run in &outcome.runs {
        counter!("ringback_actions_total", "phase" => "call", "kind" => run.kind.clone(), "result" => run.outcome.result.as_str())
            .increment(1);
    }
    if let Err(error) = write(&live.arms.house, &record, &outcome.after).await {
        // The row of the open call stays; the next start ends it.
        error!(call = %live.arms.id, %error, "a call's record cannot be written");
        counter!("ringback_store_errors_total").increment(1);
    }
    keep_trace(&live.arms.house, &live.arms.open, &record).await;
    live.arms.house.registry.remove(live.arms.id);
}

/// Writes the page about the recording; returns where the recording lies, if it is to be kept.
async fn close_recording(live: &mut LiveCall) -> Option<String> {
    let taping = live.arms.recording.take()?;
    let (call, path) = (live.arms.id, taping.path.display().to_string());
    let is_kept = !taping.is_destroyed;
    let written = tokio::task::spawn_blocking(move || if is_kept { taping.write() } else { taping.destroy() }).await;
    match written {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!(%call, %error, "the page about a recording cannot be written"),
        Err(_) => error!(%call, "writing the page about a recording broke"),
    }
    is_kept.then_some(path)
}

/// Keeps the call's SIP messages, when it is one of those that are kept.
async fn keep_trace(house: &House, open: &CallOpen, record: &CallRecord) {
    let dialogs = house.registry.take_dialogs(open.id);
    let is_wanted = match house.config().gateway.trace {
        KeepTrace::Off => false,
        KeepTrace::Failed => matches!(record.status, Status::Failed | Status::NoAnswer),
        KeepTrace::All => true,
    };
    let now = unix_ms();
    let mut trace = CallTrace::default();
    for (dialog, leg) in dialogs {
        let taken = house.sip.take_trace(dialog);
        trace.left_out += taken.left_out;
        trace.messages.extend(taken.messages.into_iter().map(|message| {
            TracedMessage {
                at: u64::try_from(now - open.began_unix_ms)
                    .unwrap_or(0)
                    .saturating_sub(u64::try_from(message.age.as_millis()).unwrap_or(u64::MAX)),
                leg: leg.0.into(),
                received: message.is_theirs,
                peer: message.peer.to_string(),
                transport: message.transport.to_string(),
                text: message.text.into_inner(),
            }
        }));
    }
    trace.messages.sort_by_key(|message| message.at);
    if !is_wanted || trace.messages.is_empty() {
        return;
    }
    if let Err(error) = house.store.keep_trace(open.id, &trace, now).await {
        warn!(call = %open.id, %error, "the SIP messages of a call cannot be kept");
        counter!("ringback_store_errors_total").increment(1);
    }
}

/// Ends the calls of a process that died: each gets its record, its event and its jobs, once.
pub(super) async fn end_orphans(house: &House) -> Result<usize, StoreError> {
    let orphans = house.store.orphans().await?;
    for open in &orphans {
        let recording = house.shelf.left_behind(open.id).map(|path| path.display().to_string());
        let record = CallRecord::crashed(open, recording, unix_ms());
        write(house, &record, &after(house, open)).await?;
    }
    Ok(orphans.len())
}

/// What the configuration has for after a call of which nothing else is known.
pub(super) fn after(house: &House, open: &CallOpen) -> Vec<String> {
    let config = house.config();
    let agent = open.agent.as_ref().and_then(|agent| config.agents.get(agent));
    agent.map(|agent| agent.after.iter().map(|after| after.workflow.clone()).collect()).unwrap_or_default()
}

async fn write(house: &House, record: &CallRecord, after: &[String]) -> Result<(), StoreError> {
    let event = NewEvent::call_ended(record, unix_ms(), house.webhooks.subscribers("call.ended"));
    let mut jobs = Vec::new();
    let config = house.config();
    for workflow in after {
        match config.workflows.get(workflow) {
            Some(workflow) => jobs.push(NewJob::new(record, workflow)),
            None => warn!(workflow, "a workflow to run after a call is not there any more"),
        }
    }
    let mut tries = 0;
    loop {
        match house.store.finish_call(record, std::slice::from_ref(&event), &jobs, unix_ms()).await {
            Ok(_) => break,
            Err(error) if tries >= STORE_TRIES => return Err(error),
            Err(_) => {
                tries += 1;
                pause(STORE_PAUSE * tries).await;
            }
        }
    }
    house.webhooks.wake();
    house.workflows.wake();
    Ok(())
}

/// Takes what still comes when everything is over: that the recording is complete, and the words an agent's socket
/// reports as it closes. Those were heard before the caller hung up, so they belong to the record, and they come too
/// late for the call.
async fn take_last_posts(live: &mut LiveCall, outcome: &mut Outcome) {
    let mut posts = std::mem::take(&mut live.late);
    posts.extend(live.arms.door.mailbox.take_now());
    let mut is_recorded = live.arms.recording.is_none();
    loop {
        for post in posts {
            match post {
                Post::Event(Event::Said { who, text, interrupted }) => {
                    outcome.turns.push(Turn { at: outcome.ended, who, text, interrupted });
                }
                Post::Recorded { frames, error } => {
                    if !std::mem::replace(&mut is_recorded, true) {
                        live.arms.recorded(frames, error);
                    }
                }
                Post::Replacing { guest, .. } => live.arms.turn_away(guest, Cause::Unavailable).await,
                Post::PluggedIn { cord, .. } => cord.tell(Event::HungUp { leg: cord.leg, cause: Cause::Normal }),
                // Everything else crossed with the end.
                Post::Event(_)
                | Post::Answered { .. }
                | Post::NotPlaced { .. }
                | Post::Early { .. }
                | Post::Key { .. }
                | Post::Described { .. }
                | Post::Referred { .. }
                | Post::Acknowledged { .. } => {}
            }
        }
        if is_recorded {
            return;
        }
        posts = match timeout(RECORDING_MAX, live.arms.door.mailbox.take()).await {
            Ok(posts) => posts,
            Err(_) => return warn!(call = %live.arms.id, "the recording was not completed in time"),
        };
    }
}

/// Who owns the plan of a route, for the row of an open call.
pub(super) fn agent_of(to: &Destination) -> Option<String> {
    match to {
        Destination::Agent(agent) => Some(agent.clone()),
        Destination::Forward(_) | Destination::Refuse { .. } => None,
    }
}

/// A store that is busy or full is tried again this often, with growing pauses; then the next start ends the call.
const STORE_TRIES: u32 = 5;
const STORE_PAUSE: Duration = Duration::from_millis(200);
/// Two seconds of audio at most wait for the disk.
const RECORDING_MAX: Duration = Duration::from_secs(5);
