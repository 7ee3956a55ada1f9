//! An agent that is given a sentence to say: what ends the wait for it, and what does not.

use std::sync::Arc;

use ringback::actions::{Connector, Plan, Reception, Verb};
use ringback::call::{Call, Command, Event, Invitation, Timer, Told, ToolCall};
use ringback::model::{Codec, LegId, Party, Pii, Time};
use ringback::sim::plan_for;

const AGENT: LegId = LegId(1);

// An agent's report that it is quiet, already on its way when it was given the goodbye to say, cut the goodbye off.
#[test]
fn a_quiet_of_before_ends_no_wait_for_what_was_said_since() {
    let mut call = Call::new(Arc::new(plan()));
    let at = Time::from_ms;
    call.handle(at(0), Event::Invited(invitation()));
    call.handle(at(400), Event::LegAnswered { leg: AGENT });
    call.handle(at(1000), Event::AgentSpoke { leg: AGENT });
    let goodbye =
        ToolCall { leg: AGENT, id: "1".to_owned(), name: "goodbye".to_owned(), arguments: Pii::new("{}".to_owned()) };

    let commands = call.handle(at(3000), Event::AgentAsked(goodbye));
    let is_say = |command: &Command| matches!(command, Command::TellAgent { what: Told::Say(_), .. });
    assert!(commands.iter().any(is_say), "{commands:?}");
    call.handle(at(3001), Event::AgentQuiet { leg: AGENT, says: Some(0) });

    assert!(!matches!(call.deadline(), Some((_, Timer::Parting))), "{:?}", call.deadline());

    call.handle(at(3200), Event::AgentSpoke { leg: AGENT });
    call.handle(at(4500), Event::AgentQuiet { leg: AGENT, says: Some(1) });

    assert_eq!(call.deadline(), Some((at(4750), Timer::Parting)));
}

/// A vendor's agent that says all prompts itself, and no lookups.
fn plan() -> Plan {
    let speaks = |plan: &Plan| match &plan.reception {
        Reception::Agent(agent) => {
            let says = |verb: &Verb| matches!(verb, Verb::HangUp(hang_up) if hang_up.goodbye.clips.is_empty());
            matches!(agent.connector, Connector::Vendor { .. }) && agent.during.iter().any(|action| says(&action.verb))
        }
        Reception::Forward(_) | Reception::Refuse { .. } => false,
    };
    let mut plan = (0..1000).map(plan_for).find(speaks).expect("a third of the vendors' agents do");
    if let Reception::Agent(agent) = &mut plan.reception {
        agent.before.clear();
    }
    plan
}

fn invitation() -> Invitation {
    Invitation {
        caller: Party { user: Pii::new("+441632960001".to_owned()), display: Pii::default(), anonymous: false },
        called: Pii::new("100".to_owned()),
        trunk: "carrier".to_owned(),
        headers: Vec::new(),
        codec: Some(Codec::Pcmu),
        refer_first: false,
        identity: None,
    }
}
