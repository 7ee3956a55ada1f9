//! What a voice agent may not dial, through the whole gateway: a flow transfers to a number that a lookup brought.

use std::time::Duration;

use ringback::cli::phone::{Ending, Manner, Outgoing, Phone, Served};
use ringback::observe;
use ringback::sip::Failure;
use ringback::store::CallRecord;

use crate::house::{Answer, Crm, House, soon};

#[tokio::test]
async fn a_premium_number_is_refused_and_the_flow_goes_on_without() {
    let (record, rang) = transferred("+449098790000", "country = \"GB\"\n", "").await;

    assert_eq!(rang, 0, "nothing was dialled");
    assert_eq!(record.runs[1].code, "declined");
    assert_eq!(record.runs.last().map(|run| run.action.as_str()), Some("bye"), "the flow's error path");
    let metrics = observe::render();
    assert!(metrics.contains(r#"ringback_dials_refused_total{rule="premium"}"#), "{metrics}");
}

#[tokio::test]
async fn a_number_abroad_is_refused_unless_its_country_is_listed() {
    let (record, rang) = transferred("+390236618300", "country = \"GB\"\n", "").await;
    assert_eq!((record.runs[1].code.as_str(), rang), ("declined", 0));

    let listed = "[outbound.allow]\ncountries = [\"GB\", \"IT\"]\n";
    let (record, rang) = transferred("+390236618300", "country = \"GB\"\n", listed).await;
    assert_eq!((record.runs[1].code.as_str(), rang), ("transferred", 1));
}

#[tokio::test]
async fn a_sip_address_from_a_lookup_must_be_at_a_listed_host() {
    let (record, rang) = transferred("sip:thief@127.0.0.1:9", "", "").await;

    assert_eq!((record.runs[1].code.as_str(), rang), ("declined", 0));
}

#[tokio::test]
async fn a_number_at_the_trunks_own_host_is_judged_as_a_number() {
    // The host is listed, as for a carrier whose referrals look like this; that opens no premium number.
    let hosts = "[outbound.allow]\nhosts = [\"127.0.0.1\"]\n";
    for premium in ["sip:+449098790000@127.0.0.1", "sip:%2B44-9098790000%3Bx=y@127.0.0.1;user=phone"] {
        let (record, rang) = transferred(premium, "country = \"GB\"\n", hosts).await;
        assert_eq!((record.runs[1].code.as_str(), rang), ("declined", 0), "{premium}");
    }
}

#[tokio::test]
async fn our_own_number_is_not_dialled_from_inside() {
    let (record, rang) = transferred("100", "", "").await;

    assert_eq!((record.runs[1].code.as_str(), rang), ("declined", 0));
}

#[tokio::test]
async fn an_agent_that_used_up_its_hour_is_stopped() {
    let crm = Crm::open(&[("/contacts", Answer::Says(200, r#"{"phone": "+442079460000"}"#))]).await;
    let mut colleague = serve().await;
    let limits = "[limits]\ncalls_per_agent_hour = 1\n";
    let house = House::open(crm, &files("country = \"GB\"\n", limits, &colleague.0)).await;

    for _ in 0..2 {
        call(&house).await;
    }
    house.gateway.drain(Duration::from_secs(20)).await;
    let records = house.gateway.store().calls(10).await.expect("the store answers");

    let mut codes: Vec<&str> = records.iter().map(|record| record.runs[1].code.as_str()).collect();
    codes.sort_unstable();
    assert_eq!(codes, ["declined", "transferred"]);
    assert!(colleague.1.until(soon(), |bell| bell.answered == 1).await);
}

#[tokio::test]
async fn a_trunk_takes_as_many_calls_as_it_may_and_no_more() {
    let crm = Crm::open(&[("/contacts", Answer::Hangs)]).await;
    let colleague = serve().await;
    let house = House::open(crm, &files("", "[limits]\ncalls = 1\n", &colleague.0)).await;
    let mut first = phone().await.call(outgoing(&house)).await.unwrap();
    assert!(first.until(soon(), |now| now.ringing_ms.is_some()).await, "the first rings");

    let second = phone().await.call(outgoing(&house)).await.unwrap().over().await;
    first.hang_up().await;
    first.over().await;

    assert!(matches!(second.ending, Ending::Failed(Failure::Refused { status: 503, .. })), "{:?}", second.ending);
    house.record().await;
}

#[tokio::test]
async fn a_leg_that_lasts_too_long_is_hung_up() {
    let crm = Crm::open(&[("/contacts", Answer::Says(200, r#"{"phone": "+442079460000"}"#))]).await;
    let colleague = phone().await;
    let files = files("country = \"GB\"\n", "", &colleague.address().to_string());
    let manner = Manner::Answer { after: Duration::from_millis(50), say: None, hang_up_after: None };
    let mut colleague = colleague.serve(manner).await.unwrap();
    let house = House::open_with(crm, &files, "[protection]\noutbound_duration_max_s = 1\n").await;

    call(&house).await;
    let report = colleague.report().await.expect("the colleague's call is over");
    let record = house.record().await;

    assert_eq!(report.ending, Ending::TheyHungUp);
    assert_eq!(record.runs[1].code, "transferred");
    assert_eq!(record.duration, 1, "{}", record.end_reason);
}

#[tokio::test]
async fn money_is_spent_up_to_the_cap_and_not_on_numbers_without_a_price() {
    let price = "[[outbound.price]]\nprefix = \"+44\"\nper_minute = 0.2\n[limits]\nspend_per_day = 0.3\n";
    let crm = Crm::open(&[("/contacts", Answer::Says(200, r#"{"phone": "+442079460000"}"#))]).await;
    let mut colleague = serve().await;
    let house = House::open(crm, &files("country = \"GB\"\n", price, &colleague.0)).await;

    for _ in 0..2 {
        call(&house).await;
    }
    house.gateway.drain(Duration::from_secs(20)).await;
    let records = house.gateway.store().calls(10).await.expect("the store answers");
    let codes: Vec<&str> = records.iter().rev().map(|record| record.runs[1].code.as_str()).collect();

    assert_eq!(codes, ["transferred", "declined"], "a minute costs more than what is left");
    assert!(colleague.1.until(soon(), |bell| bell.answered == 1).await);
    let metrics = observe::render();
    assert!(metrics.contains(r#"ringback_dials_refused_total{rule="spend_per_day"}"#), "{metrics}");

    let elsewhere = price.replace("+44\"", "+39\"");
    let (record, rang) = transferred("+442079460000", "country = \"GB\"\n", &elsewhere).await;
    assert_eq!((record.runs[1].code.as_str(), rang), ("declined", 0));
}

#[tokio::test]
async fn a_call_that_runs_into_the_cap_is_ended() {
    let price = "[[outbound.price]]\nprefix = \"\"\nper_minute = 6\nstep_s = 1\n[limits]\nspend_per_day = 0.4\n";
    let crm = Crm::open(&[("/contacts", Answer::Says(200, r#"{"phone": "+442079460000"}"#))]).await;
    let colleague = phone().await;
    let files = files("country = \"GB\"\n", price, &colleague.address().to_string());
    let manner = Manner::Answer { after: Duration::from_millis(50), say: None, hang_up_after: None };
    let mut colleague = colleague.serve(manner).await.unwrap();
    let house = House::open(crm, &files).await;

    call(&house).await;
    let report = colleague.report().await.expect("the colleague's call is over");
    let record = house.record().await;

    assert_eq!(report.ending, Ending::TheyHungUp);
    assert_eq!(record.runs[1].code, "transferred");
    assert!(observe::render().contains(r#"ringback_dials_cut_total{trunk="carrier"}"#));
}

/// One call whose caller the CRM knows by this number, to which the flow transfers. How often the colleague's telephone
/// was answered comes second.
async fn transferred(number: &str, trunk: &str, tables: &str) -> (CallRecord, u64) {
    let answer: &'static str = Box::leak(format!(r#"{{"phone": "{number}"}}"#).into_boxed_str());
    let crm = Crm::open(&[("/contacts", Answer::Says(200, answer))]).await;
    let (address, colleague) = serve().await;
    let house = House::open(crm, &files(trunk, tables, &address)).await;
    call(&house).await;
    let record = house.record().await;
    (record, colleague.bell().answered)
}

/// A call that lasts until the gateway or the colleague ends it.
async fn call(house: &House) {
    phone().await.call(outgoing(house)).await.unwrap().over().await;
}

/// A colleague who hangs up soon after answering.
async fn serve() -> (String, Served) {
    let phone = phone().await;
    let address = phone.address().to_string();
    let manner =
        Manner::Answer { after: Duration::from_millis(50), say: None, hang_up_after: Some(Duration::from_millis(300)) };
    (address, phone.serve(manner).await.unwrap())
}

fn files(trunk: &str, tables: &str, gateway: &str) -> Vec<(&'static str, String)> {
    let trunk = format!(
        "version = 1\ntitle = \"Carrier\"\n{trunk}[inbound]\nallowed_addresses = [\"127.0.0.0/8\"]\n\
         [outbound]\nuri = \"sip:{gateway}\"\n{tables}"
    );
    vec![
        ("trunks/carrier.toml", trunk),
        ("agents/desk.toml", DESK.to_owned()),
        ("actions/lookup.toml", LOOKUP.to_owned()),
        ("workflows/move.toml", MOVE.to_owned()),
    ]
}

const DESK: &str = r#"version = 1
title = "Desk"
connector = "flow"
flow = { workflow = "move" }
ring_budget_ms = 5000
[[before]]
action = "lookup"
"#;

const LOOKUP: &str = r#"version = 1
title = "Look up"
phase = "before"
[api]
url = "http://CRM/contacts?number={{caller.number}}"
save = { "customer.phone" = "$.phone" }
"#;

const MOVE: &str = r#"version = 1
title = "Move"
[[step]]
id = "move"
on_success = "end"
on_error = "bye"
transfer = { targets = [{ to = "{{customer.phone}}", ring_s = 5 }], music = "music.wav" }
[[step]]
id = "bye"
[step.hang_up]
"#;

async fn phone() -> Phone {
    Phone::open("127.0.0.1:0".parse().unwrap()).await.expect("a telephone")
}

fn outgoing(house: &House) -> Outgoing {
    Outgoing { to: house.uri("100"), from: "+441632960001".to_owned().into(), ..Outgoing::default() }
}
