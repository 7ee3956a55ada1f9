//! Work after a call: in order, written down, and never twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ringback::actions::{Api, Goto, Method, Prompt, RunResult, Say, Step, Template, Verb, Workflow};
use ringback::model::limits;
use ringback::services::Secrets;
use ringback::store::{JobRecord, JobState, NewJob, Store};
use ringback::webhook::Schedule;
use ringback::workflow::Workflows;
use serde_json_path::JsonPath;

use crate::outside::{Answer, Disk, PATIENCE, Receiver, http, now, record, until};

fn api(method: Method, url: &str) -> Verb {
    Verb::from(Api {
        method,
        url: Template::parse(url).unwrap(),
        query: Vec::new(),
        headers: Vec::new(),
        body: None,
        bearer: None,
        timeout: PATIENCE,
        save: Vec::new(),
        waiting: None,
    })
}

fn step(id: &str, verb: Verb) -> Step {
    Step { id: id.to_owned(), verb, on: BTreeMap::new(), on_success: None, on_error: None }
}

fn workflow(steps: Vec<Step>) -> Workflow {
    Workflow { id: "after-sales".to_owned(), title: "After sales".to_owned(), steps }
}

fn start(store: &Store) -> Workflows {
    let schedule = Schedule::exact(vec![Duration::from_millis(1); 10]);
    Workflows::start(store, &http(), Arc::new(Secrets::default()), schedule, now)
}

async fn end_call(store: &Store, workflow: &Workflow) {
    let record = record(1);
    assert!(store.finish_call(&record, &[], &[NewJob::new(&record, workflow)], now()).await.unwrap());
}

async fn ended(store: &Store) -> JobRecord {
    let look = || async {
        let job = store.jobs(record(1).id).await.unwrap().remove(0);
        (job.state != JobState::Pending).then_some(job)
    };
    until("the job is over", look).await
}

fn history(job: &JobRecord) -> Vec<(String, String, String, u32)> {
    let row = |step: &ringback::store::StepRecord| {
        let end = step.ended.as_ref().unwrap();
        (step.action.clone(), end.code.clone(), end.branch.clone(), step.tries)
    };
    job.log.iter().map(row).collect()
}

fn row(action: &str, code: &str, branch: &str, tries: u32) -> (String, String, String, u32) {
    (action.to_owned(), code.to_owned(), branch.to_owned(), tries)
}

#[tokio::test]
async fn steps_run_in_order_with_what_was_known_and_what_was_learned() {
    let disk = Disk::new();
    let store = disk.open().await;
    let mut crm = Receiver::start([Answer::Body(200, r#"{"id": 77}"#), Answer::Status(201)]).await;
    let mut find = api(Method::Get, &format!("{}/find?name={{{{customer.name}}}}", crm.url));
    if let Verb::Api(find) = &mut find {
        Arc::make_mut(find).save = vec![("contact".to_owned(), JsonPath::parse("$.id").unwrap())];
    }
    let mut note = api(Method::Post, &format!("{}/contacts/{{{{contact}}}}/notes", crm.url));
    if let Verb::Api(note) = &mut note {
        Arc::make_mut(note).body =
            Some(Template::parse(r#"{"ended": "{{call.end_reason}}", "seconds": {{call.duration}}}"#).unwrap());
    }
    end_call(&store, &workflow(vec![step("find", find), step("note", note)])).await;

    let workflows = start(&store);
    let job = ended(&store).await;

    let (first, second) = (crm.next().await, crm.next().await);
    assert_eq!((first.method.as_str(), first.path.as_str()), ("GET", "/find?name=Ada"));
    assert_eq!(first.header("idempotency-key"), "");
    assert_eq!((second.method.as_str(), second.path.as_str()), ("POST", "/contacts/77/notes"));
    assert_eq!(second.header("idempotency-key"), format!("{}-after-sales-note", record(1).id));
    assert_eq!(second.body, r#"{"ended": "normal", "seconds": 62}"#);
    assert_eq!((job.state, job.result.as_deref()), (JobState::Done, Some("success")));
    assert_eq!(history(&job), [row("find", "ok", "note", 1), row("note", "ok", "end", 1)]);
    assert!(job.began_unix_ms <= job.ended_unix_ms);
    workflows.stop(PATIENCE).await;
    assert!(crm.rest().is_empty());
}

#[tokio::test]
async fn a_create_is_tried_again_when_the_server_did_nothing_and_with_the_same_key() {
    let disk = Disk::new();
    let store = disk.open().await;
    let mut crm = Receiver::start([Answer::Status(503), Answer::Status(429), Answer::Status(201)]).await;
    end_call(&store, &workflow(vec![step("book", api(Method::Post, &crm.url))])).await;

    let _workflows = start(&store);
    let job = ended(&store).await;

    assert_eq!(history(&job), [row("book", "ok", "end", 3)]);
    let keys =
        [crm.next().await, crm.next().await, crm.next().await].map(|seen| seen.header("idempotency-key").to_owned());
    assert!(!keys[0].is_empty() && keys[0] == keys[1] && keys[1] == keys[2]);
}

#[tokio::test]
async fn a_create_that_may_have_happened_is_not_tried_again() {
    let disk = Disk::new();
    let store = disk.open().await;
    let mut crm = Receiver::start([Answer::Status(500), Answer::Status(200)]).await;
    let mut book = step("book", api(Method::Post, &crm.url));
    book.on_error = Some(Goto::Step(2));
    let steps = vec![
        book,
        step("thank", api(Method::Post, &crm.url)),
        step("tell", api(Method::Get, &format!("{}/tell", crm.url))),
    ];
    end_call(&store, &workflow(steps)).await;

    let _workflows = start(&store);
    let job = ended(&store).await;

    assert_eq!(history(&job), [row("book", "status_500", "tell", 1), row("tell", "ok", "end", 1)]);
    assert_eq!(job.result.as_deref(), Some("error"));
    assert_eq!(crm.next().await.method.as_str(), "POST");
    assert_eq!(crm.next().await.path, "/tell");
    assert!(crm.rest().is_empty());
}

#[tokio::test]
async fn a_question_is_asked_again_a_few_times() {
    let disk = Disk::new();
    let store = disk.open().await;
    let mut crm = Receiver::start([Answer::Status(502)]).await;
    end_call(&store, &workflow(vec![step("find", api(Method::Get, &crm.url))])).await;

    let workflows = start(&store);
    let job = ended(&store).await;
    workflows.stop(PATIENCE).await;

    assert_eq!(history(&job), [row("find", "status_502", "end", limits::STEP_TRIES_MAX)]);
    assert_eq!(crm.rest().len(), limits::STEP_TRIES_MAX as usize);
}

#[tokio::test]
async fn after_a_crash_a_job_goes_on_where_it_was_and_does_not_send_twice() {
    let disk = Disk::new();
    let store = disk.open().await;
    let mut crm = Receiver::start([Answer::Status(200), Answer::Hold, Answer::Status(200)]).await;
    let mut send = step("send-sms", api(Method::Post, &format!("{}/sms", crm.url)));
    send.on_error = Some(Goto::Step(2));
    let first = step("first", api(Method::Post, &format!("{}/first", crm.url)));
    let check = step("check", api(Method::Get, &format!("{}/check", crm.url)));
    end_call(&store, &workflow(vec![first, send, check])).await;
    let workflows = start(&store);
    crm.next().await;
    assert_eq!(crm.next().await.path, "/sms");
    drop(workflows);
    drop(store);

    let store = disk.open().await;
    let _workflows = start(&store);
    let job = ended(&store).await;

    assert_eq!(
        history(&job),
        [row("first", "ok", "send-sms", 1), row("send-sms", "interrupted", "check", 2), row("check", "ok", "end", 1)]
    );
    assert_eq!(job.log[1].ended.as_ref().unwrap().result, RunResult::Error);
    assert_eq!(crm.next().await.path, "/check");
    assert!(crm.rest().is_empty());
}

#[tokio::test]
async fn after_a_crash_a_question_is_asked_again() {
    let disk = Disk::new();
    let store = disk.open().await;
    let mut crm = Receiver::start([Answer::Hold, Answer::Body(200, "{}")]).await;
    end_call(&store, &workflow(vec![step("find", api(Method::Get, &crm.url))])).await;
    let workflows = start(&store);
    crm.next().await;
    drop(workflows);
    drop(store);

    let store = disk.open().await;
    let _workflows = start(&store);
    let job = ended(&store).await;

    assert_eq!(history(&job), [row("find", "ok", "end", 2)]);
}

#[tokio::test]
async fn stopping_waits_for_the_step_and_the_next_process_goes_on() {
    let disk = Disk::new();
    let store = disk.open().await;
    let mut crm = Receiver::start([Answer::Hold]).await;
    let steps = ["one", "two"].map(|id| step(id, api(Method::Post, &format!("{}/{id}", crm.url))));
    end_call(&store, &workflow(steps.to_vec())).await;
    let workflows = start(&store);
    assert_eq!(crm.next().await.path, "/one");

    let release = async { crm.let_go() };
    tokio::join!(workflows.stop(PATIENCE), release);
    let paused = store.jobs(record(1).id).await.unwrap().remove(0);
    let _workflows = start(&store);
    let job = ended(&store).await;

    assert_eq!((paused.state, history(&paused)), (JobState::Pending, vec![row("one", "ok", "two", 1)]));
    assert_eq!(history(&job), [row("one", "ok", "two", 1), row("two", "ok", "end", 1)]);
    assert_eq!(crm.next().await.path, "/two");
}

#[tokio::test]
async fn a_workflow_that_turns_in_circles_is_ended() {
    let disk = Disk::new();
    let store = disk.open().await;
    let mut crm = Receiver::start([Answer::Status(200)]).await;
    let mut round = step("round", api(Method::Post, &crm.url));
    round.on_success = Some(Goto::Step(0));
    end_call(&store, &workflow(vec![round])).await;

    let _workflows = start(&store);
    let job = ended(&store).await;

    assert_eq!((job.state, job.result.as_deref()), (JobState::Dead, Some("too_many_steps")));
    assert_eq!(job.log.len(), limits::STEPS_WITHOUT_WAITING_MAX);
    let mut keys: Vec<String> = crm.rest().iter().map(|seen| seen.header("idempotency-key").to_owned()).collect();
    assert_eq!(keys.len(), limits::STEPS_WITHOUT_WAITING_MAX);
    assert!(keys[1].ends_with("-round-2"), "{}", keys[1]);
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), limits::STEPS_WITHOUT_WAITING_MAX);
    crm.let_go();
}

#[tokio::test]
async fn what_needs_a_caller_is_skipped() {
    let disk = Disk::new();
    let store = disk.open().await;
    let mut crm = Receiver::start([Answer::Status(200)]).await;
    let say = Verb::from(Say { prompt: Prompt::default(), interruptible: false });
    end_call(&store, &workflow(vec![step("bye", say), step("note", api(Method::Post, &crm.url))])).await;

    let _workflows = start(&store);
    let job = ended(&store).await;

    assert_eq!(history(&job), [row("bye", "call_ended", "note", 1), row("note", "ok", "end", 1)]);
    assert_eq!(job.log[0].ended.as_ref().unwrap().result, RunResult::Skipped);
    assert_eq!(job.result.as_deref(), Some("success"));
    crm.next().await;
}

#[tokio::test]
async fn two_workers_on_one_store_do_a_job_once() {
    let disk = Disk::new();
    let store = disk.open().await;
    let mut crm = Receiver::start([Answer::Hold]).await;
    let one = start(&store);
    let two = start(&store);
    end_call(&store, &workflow(vec![step("note", api(Method::Post, &crm.url))])).await;

    one.wake();
    two.wake();
    crm.next().await;
    crm.let_go();
    let job = ended(&store).await;

    assert_eq!(history(&job), [row("note", "ok", "end", 1)]);
    assert!(crm.rest().is_empty());
}
