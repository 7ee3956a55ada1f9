//! Where a workflow goes after a step. Pure.

use crate::actions::{Goto, HttpReply, Method, RunOutcome, RunResult, Workflow};

/// Where to go after the step at `at` ended like this: by code, else by success or failure, else the next step. A place
/// that does not exist is the end.
pub(super) fn next(workflow: &Workflow, at: usize, code: &str, result: RunResult) -> Goto {
    let Some(step) = workflow.steps.get(at) else { return Goto::End };
    let by_result = match result {
        RunResult::Success => step.on_success,
        RunResult::Error | RunResult::Timeout => step.on_error,
        // What does not apply here changes nothing.
        RunResult::Skipped | RunResult::Cancelled => None,
    };
    match step.on.get(code).copied().or(by_result).unwrap_or(Goto::Step(at + 1)) {
        Goto::Step(to) if to < workflow.steps.len() => Goto::Step(to),
        Goto::Step(_) | Goto::End => Goto::End,
    }
}

/// Whether asking again may help and cannot do anything twice (rule R13 of the feature table): the server said that it
/// did nothing, or the request only reads.
pub(super) fn may_ask_again(method: Method, reply: &HttpReply) -> bool {
    use crate::actions::HttpFailure::{NoSecret, NotText, Refused, Timeout, TooLarge, Unreachable};

    match reply {
        HttpReply::Answered { status: 429 | 503, .. } => true,
        HttpReply::Answered { status, .. } => only_reads(method) && matches!(status, 500 | 502 | 504),
        HttpReply::Failed(Timeout | Unreachable) => only_reads(method),
        // The same answer would come again.
        HttpReply::Failed(TooLarge | NotText | Refused | NoSecret) => false,
    }
}

/// Whether a request changes nothing, so that it may be sent again when nobody knows what became of it.
pub(super) fn only_reads(method: Method) -> bool {
    method == Method::Get
}

/// The outcome of a step that was under way when its process died, or was too slow to stop.
pub(super) fn interrupted() -> RunOutcome {
    RunOutcome::error("interrupted")
}

/// The outcome of a step that needs a caller (rule A14 of the feature table).
pub(super) fn call_ended() -> RunOutcome {
    RunOutcome { result: RunResult::Skipped, ..RunOutcome::error("call_ended") }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::actions::{HangUp, HttpFailure, Step, Verb};

    fn workflow() -> Workflow {
        let step = |id: &str| Step {
            id: id.to_owned(),
            verb: Verb::from(HangUp::default()),
            on: BTreeMap::new(),
            on_success: None,
            on_error: None,
        };
        Workflow { id: "w".to_owned(), title: String::new(), steps: vec![step("a"), step("b"), step("c")] }
    }

    #[test]
    fn a_code_wins_over_the_result_and_the_result_over_the_order() {
        let mut workflow = workflow();
        workflow.steps[0].on.insert("status_404".to_owned(), Goto::End);
        workflow.steps[0].on_error = Some(Goto::Step(2));

        assert_eq!(next(&workflow, 0, "status_404", RunResult::Error), Goto::End);
        assert_eq!(next(&workflow, 0, "timeout", RunResult::Timeout), Goto::Step(2));
        assert_eq!(next(&workflow, 0, "ok", RunResult::Success), Goto::Step(1));
        assert_eq!(next(&workflow, 0, "call_ended", RunResult::Skipped), Goto::Step(1));
        assert_eq!(next(&workflow, 2, "ok", RunResult::Success), Goto::End);
        assert_eq!(next(&workflow, 9, "ok", RunResult::Success), Goto::End);
    }

    #[test]
    fn a_place_that_does_not_exist_is_the_end() {
        let mut workflow = workflow();
        workflow.steps[0].on_success = Some(Goto::Step(7));

        assert_eq!(next(&workflow, 0, "ok", RunResult::Success), Goto::End);
    }

    #[test]
    fn a_create_is_asked_again_only_when_the_server_said_it_did_nothing() {
        let status = |status| HttpReply::Answered { status, body: String::new().into() };

        assert!(may_ask_again(Method::Post, &status(503)));
        assert!(!may_ask_again(Method::Post, &status(500)));
        assert!(!may_ask_again(Method::Post, &HttpReply::Failed(HttpFailure::Timeout)));
        assert!(may_ask_again(Method::Get, &HttpReply::Failed(HttpFailure::Timeout)));
        assert!(may_ask_again(Method::Get, &status(502)));
        assert!(!may_ask_again(Method::Get, &status(404)));
    }
}
