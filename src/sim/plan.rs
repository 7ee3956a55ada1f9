//! Plans for simulated calls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use serde_json_path::JsonPath;

use super::Random;
use crate::actions::{
    Action, AfterCall, Agent, Api, Before, Connector, Consent, Failure, Fallback, Forward, Goto, HangUp, Menu,
    MenuOption, Method, Parameter, ParameterType, Phase, Plan, Prompt, Reception, Say, SetRecording, Step, Target,
    Template, TransferMethod, TransferTo, Verb, Waiting, Workflow,
};
use crate::model::Digit;

/// The plan of a front desk: a lookup while it rings, a greeting, a menu, an order status, a transfer, a goodbye.
pub fn plan() -> Plan {
    plan_with(Connector::Flow("desk".to_owned()), Some("desk"))
}

/// A plan for a seed: mostly agents of all connectors, now and then a refusal.
pub fn plan_for(seed: u64) -> Plan {
    let mut random = Random::new(seed ^ 0x5EED);
    let vendor = Connector::Vendor {
        name: "vendor".to_owned(),
        settings: json!({}),
        instructions: template("Help {{customer.name | the caller}}."),
        first_words: random.chance(50).then(|| template("Hello {{customer.name | there}}.")),
        secret: None,
    };
    let connector = match random.below(10) {
        0..5 => Connector::Flow("desk".to_owned()),
        5..9 => vendor,
        _ => Connector::Echo,
    };
    let fallback = random.chance(50).then_some("desk");
    let mut plan = plan_with(connector, fallback);
    if let (Reception::Agent(agent), true) = (&mut plan.reception, random.chance(30)) {
        agent.during.iter_mut().for_each(|action| leave_to_the_agent(&mut action.verb));
    }
    if let (Reception::Agent(agent), true) = (&mut plan.reception, random.chance(40)) {
        agent.consent = match random.below(2) {
            0 => Consent::Announce(prompt("recorded.wav")),
            _ => Consent::Ask(Menu { prompt: prompt("may-we-record.wav"), no_match: Prompt::default(), ..menu() }),
        };
    }
    let method = match random.below(10) {
        0 => Some(TransferMethod::Refer),
        1 => Some(TransferMethod::ReferThenBridge),
        2 => Some(TransferMethod::BridgeThenRefer),
        3 => Some(TransferMethod::Bridge),
        _ => None,
    };
    each_transfer(&mut plan, |to| to.method = method);
    if random.chance(5) {
        plan.reception = Reception::Forward(Forward {
            trunk: "carrier-b".to_owned(),
            to: random.chance(50).then(|| template("+4416329600{{called.number}}")),
            ring: Duration::from_secs(20),
        });
    }
    if random.chance(3) {
        plan.reception =
            Reception::Refuse { status: *random.pick(&[404, 480, 486, 503]), reason: None, retry_after_s: Some(5) };
    }
    plan
}

fn plan_with(connector: Connector, fallback: Option<&str>) -> Plan {
    let lookup = Action {
        id: "lookup".to_owned(),
        title: "Look up the caller".to_owned(),
        when_to_use: String::new(),
        phase: Phase::Before,
        parameters: Vec::new(),
        verb: Verb::from(api("http://crm.test/contacts?number={{caller.number}}", &[("customer.name", "$.name")])),
    };
    let history = Action {
        id: "history".to_owned(),
        verb: Verb::from(api("http://crm.test/history?name={{customer.name}}", &[("customer.orders", "$.orders")])),
        ..lookup.clone()
    };
    let during = |id: &str, verb: Verb| Action {
        id: id.to_owned(),
        title: id.to_owned(),
        when_to_use: format!("When the caller wants {id}."),
        phase: Phase::During,
        parameters: vec![Parameter {
            name: "reason".to_owned(),
            kind: ParameterType::String,
            description: "Why.".to_owned(),
            required: false,
        }],
        verb,
    };
    let agent = Agent {
        id: "desk".to_owned(),
        connector,
        before: vec![
            Before { action: lookup.clone(), after: Vec::new() },
            Before { action: history, after: vec!["lookup".to_owned()] },
            Before { action: Action { id: "weather".to_owned(), ..lookup }, after: Vec::new() },
        ],
        ring_budget: Duration::from_millis(1500),
        during: vec![
            during("order_status", Verb::from(order_status())),
            during("colleague", Verb::from(transfer())),
            during("choice", Verb::from(menu())),
            during("off_the_record", Verb::from(SetRecording::Off)),
            during("on_the_record", Verb::from(SetRecording::On)),
            during("forget_it", Verb::from(SetRecording::Destroyed)),
            during("goodbye", Verb::from(HangUp { goodbye: prompt("goodbye.wav"), workflow: Some("note".to_owned()) })),
        ],
        after: vec![AfterCall { workflow: "tell-crm".to_owned() }],
        fallback: fallback.map(str::to_owned),
        went_wrong: prompt("went-wrong.wav"),
        record: true,
        consent: Consent::None,
        duration_max: Duration::from_secs(1800),
    };
    let workflows = BTreeMap::from([("desk".to_owned(), desk())]);
    Plan { revision: "simulated".to_owned(), reception: Reception::Agent(agent), workflows }
}

fn desk() -> Workflow {
    let step =
        |id: &str, verb: Verb| Step { id: id.to_owned(), verb, on: BTreeMap::new(), on_success: None, on_error: None };
    let steps = vec![
        step("hello", Verb::from(Say { prompt: prompt("names/{{customer.name | there}}.wav"), interruptible: true })),
        Step {
            on: BTreeMap::from([
                ("key_1".to_owned(), Goto::Step(2)),
                ("key_2".to_owned(), Goto::Step(4)),
                ("no_match".to_owned(), Goto::Step(5)),
            ]),
            ..step("menu", Verb::from(menu()))
        },
        Step { on_success: Some(Goto::Step(3)), ..step("order", Verb::from(order_status())) },
        Step {
            on_success: Some(Goto::Step(1)),
            ..step("tell", Verb::from(Say { prompt: prompt("order-{{order.status}}.wav"), interruptible: true }))
        },
        Step { on_error: Some(Goto::Step(1)), ..step("colleague", Verb::from(transfer())) },
        step("bye", Verb::from(HangUp { goodbye: prompt("goodbye.wav"), workflow: None })),
    ];
    Workflow { id: "desk".to_owned(), title: "Front desk".to_owned(), steps }
}

fn menu() -> Menu {
    let option = |digit: char, label: &str| MenuOption {
        digit: Digit::from_char(digit).unwrap_or(DIGIT_ZERO),
        label: label.to_owned(),
        set: Vec::new(),
    };
    Menu {
        prompt: prompt("menu.wav"),
        options: vec![option('1', "order"), option('2', "colleague")],
        no_match: prompt("no-match.wav"),
        wait: Duration::from_secs(5),
        tries: 3,
    }
}

fn order_status() -> Api {
    Api {
        waiting: Some(Waiting {
            after: Duration::from_secs(1),
            prompt: prompt("one-moment.wav"),
            music: Some(template("music.wav")),
        }),
        ..api("http://crm.test/orders/{{customer.order | 0}}", &[("order.status", "$.status")])
    }
}

fn transfer() -> TransferTo {
    let target = |to: &str| Target { to: template(to), ring: Duration::from_secs(20) };
    TransferTo {
        targets: vec![target("sip:desk1@office.test"), target("sip:desk2@office.test")],
        fallback: BTreeMap::from([
            (Failure::Declined, Fallback::Back),
            (Failure::Unreachable, Fallback::Ring(target("+441632960099"))),
        ]),
        message: prompt("transfer.wav"),
        music: Some(template("music.wav")),
        sorry: prompt("sorry.wav"),
        method: None,
        early_media: None,
    }
}

fn api(url: &str, save: &[(&str, &str)]) -> Api {
    Api {
        method: Method::Get,
        url: template(url),
        query: Vec::new(),
        headers: Vec::new(),
        body: None,
        bearer: None,
        timeout: Duration::from_secs(3),
        save: save.iter().map(|(name, path)| ((*name).to_owned(), json_path(path))).collect(),
        waiting: None,
    }
}

fn each_transfer(plan: &mut Plan, change: impl Fn(&mut TransferTo)) {
    let workflows = plan.workflows.values_mut().flat_map(|workflow| &mut workflow.steps).map(|step| &mut step.verb);
    let tools = match &mut plan.reception {
        Reception::Agent(agent) => agent.during.iter_mut().map(|action| &mut action.verb).collect(),
        Reception::Forward(_) | Reception::Refuse { .. } => Vec::new(),
    };
    for verb in workflows.chain(tools) {
        if let Verb::Transfer(to) = verb {
            change(Arc::make_mut(to));
        }
    }
}

/// The prompts in words, which a vendor's agent speaks itself and a flow cannot.
fn leave_to_the_agent(verb: &mut Verb) {
    let prompts = match verb {
        Verb::Say(say) => vec![&mut Arc::make_mut(say).prompt],
        Verb::Menu(menu) => {
            let menu = Arc::make_mut(menu);
            vec![&mut menu.prompt, &mut menu.no_match]
        }
        Verb::Api(api) => Arc::make_mut(api).waiting.iter_mut().map(|waiting| &mut waiting.prompt).collect(),
        Verb::Transfer(to) => {
            let to = Arc::make_mut(to);
            vec![&mut to.message, &mut to.sorry]
        }
        Verb::HangUp(hang_up) => vec![&mut Arc::make_mut(hang_up).goodbye],
        Verb::Recording(_) => Vec::new(),
    };
    for prompt in prompts {
        *prompt = Prompt { clips: Vec::new(), text: Some(template("Words.")) };
    }
}

fn prompt(clip: &str) -> Prompt {
    Prompt { clips: vec![template(clip)], text: None }
}

fn json_path(text: &str) -> JsonPath {
    JsonPath::parse(text).expect("the paths of this file are well-formed, because every simulated call uses them")
}

fn template(source: &str) -> Template {
    Template::parse(source).expect("the templates of this file are well-formed, because every simulated call uses them")
}

const DIGIT_ZERO: Digit = match Digit::from_event(0) {
    Some(digit) => digit,
    None => panic!("event 0 is a key"),
};
