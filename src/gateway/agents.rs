//! Agents with a socket: between the call's words and the agent room's.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use metrics::counter;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::house::House;
use super::mailbox::Post;
use super::registry::Door;
use crate::actions::{Agent, Connector};
use crate::agent::{self, AgentCommand, AgentEvent, AgentSpec, FirstWords, ToolSpec, Who};
use crate::call::{Cause, Event, Speaker, Told, ToolCall};
use crate::media::CallMedia;
use crate::model::{Form, LegId, Pii, limits};

/// Opens an agent's socket beside the call. Its events come by the mailbox.
pub(super) fn dial(
    house: &Arc<House>,
    door: &Arc<Door>,
    media: &CallMedia,
    leg: LegId,
    agent: &Agent,
    tasks: &mut JoinSet<()>,
) -> Result<mpsc::Sender<AgentCommand>, Cause> {
    let Connector::Vendor { name, settings, secret, .. } = &agent.connector else { return Err(Cause::Internal) };
    let tools = agent.during.iter().map(|action| ToolSpec {
        name: action.id.clone(),
        description: action.when_to_use.clone(),
        parameters: action.arguments_schema(),
    });
    let spec = AgentSpec {
        connector: name.clone(),
        settings: settings.clone(),
        secret: secret.as_ref().and_then(|reference| house.secrets.get(reference)),
        // Both come with `Told::Start`, when the lookups are done that they may speak of.
        instructions: Pii::default(),
        first_words: FirstWords::Caller,
        tools: tools.collect(),
    };
    let (heard_to, heard) = mpsc::channel(limits::AGENT_EAR);
    let (speech, speech_from) = mpsc::channel(limits::AGENT_SPEECH);
    let (mouth, mouth_from) = mpsc::channel(limits::AGENT_MOUTH);
    let (commands, orders) = mpsc::channel(limits::AGENT_COMMANDS);
    let (events, mut told) = mpsc::channel(limits::AGENT_EVENTS);
    media.open_agent(leg, Form::Ulaw, speech_from, mouth_from).map_err(|_| Cause::Overload)?;
    door.listen(leg, heard_to);
    let door = Arc::clone(door);
    tasks.spawn(async move {
        let dialled = agent::dial(spec, agent::Audio { heard, speech, mouth }, orders, events);
        let talking = AssertUnwindSafe(dialled).catch_unwind();
        let telling = async {
            while let Some(event) = told.recv().await {
                for event in translate(leg, event) {
                    door.mailbox.post(Post::Event(event));
                }
            }
        };
        if let (Err(_), ()) = tokio::join!(talking, telling) {
            // Its message is on standard error. The call must not wait for an agent that is no more.
            counter!("ringback_task_panics_total").increment(1);
            door.mailbox.post(Post::Event(Event::HungUp { leg, cause: Cause::AgentLost }));
        }
    });
    Ok(commands)
}

/// What an agent's event means to the call.
fn translate(leg: LegId, event: AgentEvent) -> Vec<Event> {
    match event {
        AgentEvent::Ready => vec![Event::LegAnswered { leg }],
        AgentEvent::Failed { kind, detail } => {
            tracing::warn!(?kind, detail, "an agent cannot be reached");
            vec![Event::LegFailed { leg, cause: Cause::AgentLost, retry_after_s: None }]
        }
        AgentEvent::Left { reason } => {
            tracing::warn!(reason, "an agent was lost");
            vec![Event::HungUp { leg, cause: Cause::AgentLost }]
        }
        AgentEvent::Speaking => vec![Event::AgentSpoke { leg }],
        AgentEvent::Quiet { says } => vec![Event::AgentQuiet { leg, says: Some(says) }],
        AgentEvent::BargedIn { heard_ms, .. } => vec![Event::BargedIn { leg, heard_ms }],
        AgentEvent::Said { who, text, interrupted } => {
            let who = match who {
                Who::Caller => Speaker::Caller,
                Who::Agent => Speaker::Agent,
            };
            vec![Event::Said { who, text, interrupted }]
        }
        AgentEvent::Asked { tool_call_id, name, arguments } => {
            vec![Event::AgentAsked(ToolCall { leg, id: tool_call_id, name: short(name), arguments })]
        }
        AgentEvent::Fault { code, .. } => vec![Event::AgentFault { leg, code: short(code) }],
        // The vendor's view of turns; the call goes by what was heard.
        AgentEvent::SpeechStarted | AgentEvent::SpeechStopped => Vec::new(),
        AgentEvent::Usage(usage) => {
            counter!("ringback_agent_tokens_total", "way" => "in").increment(usage.input_tokens);
            counter!("ringback_agent_tokens_total", "way" => "out").increment(usage.output_tokens);
            Vec::new()
        }
    }
}

/// The call's word for an agent in the agent room's.
pub(super) fn commands(told: Told) -> Vec<AgentCommand> {
    match told {
        Told::Start { instructions, first_words } => {
            let first_words = first_words.map_or(FirstWords::Caller, FirstWords::Agent);
            vec![
                AgentCommand::Update { instructions: Some(instructions), first_words: Some(first_words) },
                AgentCommand::Start,
            ]
        }
        Told::Result { id, output, respond } => vec![AgentCommand::Result { tool_call_id: id, output, respond }],
        Told::Say(text) => vec![AgentCommand::Say { text }],
        Told::Digit(digit) => {
            let text = format!("The caller pressed the key {}.", digit.reveal().as_char()).into();
            vec![AgentCommand::Interrupt, AgentCommand::Inform { text, respond: true }]
        }
    }
}

/// A vendor's word, for the journal: no longer than any tool's name may be.
fn short(mut word: String) -> String {
    word.truncate(word.floor_char_boundary(limits::VENDOR_WORD_MAX));
    word
}
