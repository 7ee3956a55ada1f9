//! What the agent asks for, and the answers it gets.

use serde_json::{Map, Value, json};

use super::super::AgentEvent;
use super::super::words::Act;
use super::messages::Item;
use super::{OpenAiRealtime, Want, cut_to, fault};
use crate::model::Pii;
use crate::model::limits::{RUNS_AT_ONCE_MAX, TOOL_ARGUMENTS_MAX, TOOL_RESULT_MAX};

pub(super) struct ToolCall {
    id: String,
    response: String,
    /// A result that was already given wants the agent to speak, once all calls of this response are answered.
    state: CallState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum CallState {
    Open,
    Answered { respond: bool },
}

impl OpenAiRealtime {
    pub(super) fn on_call(&mut self, response: &str, item: Item, out: &mut Vec<Act>) {
        if item.call_id.is_empty() || self.calls.iter().any(|call| call.id == item.call_id) {
            return out.push(fault("tool_call_id", "a tool call without an id of its own; ignored"));
        }
        let arguments = if item.arguments.trim().is_empty() { "{}".to_owned() } else { item.arguments };
        let open = self.calls.iter().filter(|call| call.state == CallState::Open).count();
        let refusal = if arguments.len() > TOOL_ARGUMENTS_MAX {
            Some("arguments_too_long")
        } else if serde_json::from_str::<Map<String, Value>>(&arguments).is_err() {
            Some("arguments_are_no_json_object")
        } else if item.name.is_empty() || item.name.len() > TOOL_NAME_MAX {
            Some("no_such_function")
        } else if open >= RUNS_AT_ONCE_MAX {
            Some("too_many_calls_at_once")
        } else {
            None
        };
        let call = ToolCall { id: item.call_id.clone(), response: response.to_owned(), state: CallState::Open };
        self.calls.push(call);
        match refusal {
            Some(code) => {
                out.push(fault(code, &format!("a call of {}", cut_to(&item.name, TOOL_NAME_MAX))));
                self.answer(item.call_id, &json!({ "error": code }).to_string(), true, out);
            }
            None => out.push(Act::Tell(AgentEvent::Asked {
                tool_call_id: item.call_id,
                name: item.name,
                arguments: Pii::new(arguments),
            })),
        }
    }

    pub(super) fn on_result(&mut self, id: String, output: Pii<String>, respond: bool, out: &mut Vec<Act>) {
        let is_open = |call: &&ToolCall| call.id == id && call.state == CallState::Open;
        let Some(response) = self.calls.iter().find(is_open).map(|call| call.response.clone()) else {
            return out.push(fault("tool_call_id", "a result for a question that is not open"));
        };
        let whole = output.reveal();
        let kept = cut_to(whole, TOOL_RESULT_MAX - CUT_MARK.len());
        let output = if kept.len() < whole.len() { format!("{kept}{CUT_MARK}") } else { kept.to_owned() };
        self.answer(id, &output, respond, out);
        self.answer_calls(&response, out);
    }

    fn answer(&mut self, id: String, output: &str, respond: bool, out: &mut Vec<Act>) {
        let item = json!({ "type": "function_call_output", "call_id": id, "output": output });
        self.send("conversation.item.create", json!({ "item": item }), out);
        if let Some(call) = self.calls.iter_mut().find(|call| call.id == id) {
            call.state = CallState::Answered { respond };
        }
        self.unacknowledged.push(id);
        if self.unacknowledged.len() > UNACKNOWLEDGED_MAX {
            self.unacknowledged.remove(0);
        }
    }

    /// Once every call of a response is answered, the agent goes on: one response for all of them.
    pub(super) fn answer_calls(&mut self, response: &str, out: &mut Vec<Act>) {
        let of_it = |call: &&ToolCall| call.response == response;
        if self.calls.iter().filter(of_it).any(|call| call.state == CallState::Open) {
            return;
        }
        let respond = self.calls.iter().filter(of_it).any(|call| call.state == CallState::Answered { respond: true });
        self.calls.retain(|call| call.response != response);
        if respond {
            self.want(Want::AnswerResult, out);
        }
    }

    pub(super) fn on_item(&mut self, item: &Item) {
        if item.kind == "function_call_output" {
            self.unacknowledged.retain(|id| *id != item.call_id);
        }
    }
}

pub(super) const CUT_MARK: &str = " … (cut off, too long)";
/// Results to remember until the vendor shows them; only decides whether to ask for one response more.
const UNACKNOWLEDGED_MAX: usize = 2 * RUNS_AT_ONCE_MAX;
/// The vendor allows 64 characters.
const TOOL_NAME_MAX: usize = 64;
