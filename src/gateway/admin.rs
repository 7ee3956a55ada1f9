//! Health and metrics, for machines that look after us. Nothing personal is served here.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use metrics::{counter, gauge};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::clock::unix_ms;
use super::house::House;
use super::reload::{ReloadError, reload};
use crate::observe;
use crate::trunk::gateways::Standing;

/// Serves `/health`, `/ready`, `/metrics` and `/trunks`, and reads the files again on `POST /reload`.
pub(super) async fn serve(house: Arc<House>, address: SocketAddr, tasks: &mut JoinSet<()>) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    let router = Router::new()
        .route("/health", get(|| async { "ok\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(exposition))
        .route("/trunks", get(trunks))
        .route("/reload", post(reread))
        .with_state(house);
    tasks.spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the admin listener broke");
        }
    });
    Ok(bound)
}

async fn ready(State(house): State<Arc<House>>) -> (StatusCode, &'static str) {
    let full = usize::try_from(house.config().gateway.limits.max_calls).is_ok_and(|most| house.registry.len() >= most);
    match (house.is_draining.load(Ordering::Relaxed), full) {
        (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        (false, true) => (StatusCode::SERVICE_UNAVAILABLE, "full\n"),
        (false, false) => (StatusCode::OK, "ready\n"),
    }
}

async fn trunks(State(house): State<Arc<House>>) -> Json<Value> {
    Json(json!({ "trunks": house.trunks.snapshot(), "now_unix_ms": unix_ms() }))
}

async fn reread(State(house): State<Arc<House>>) -> (StatusCode, Json<Value>) {
    match reload(&house).await {
        Ok(done) => {
            let told = json!({
                "ok": true,
                "revision": done.revision,
                "before": done.before,
                "needs_a_start": done.needs_a_start,
                "warnings": done.warnings.json()["diagnostics"],
            });
            (StatusCode::OK, Json(told))
        }
        Err(ReloadError::Broken(found)) => (StatusCode::UNPROCESSABLE_ENTITY, Json(found.json())),
        Err(refused @ ReloadError::Unusable(_)) => {
            (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({ "ok": false, "error": refused.to_string() })))
        }
        Err(refused @ (ReloadError::NoLoader | ReloadError::Failed)) => {
            let told = json!({ "ok": false, "error": refused.to_string() });
            (StatusCode::INTERNAL_SERVER_ERROR, Json(told))
        }
    }
}

async fn exposition(State(house): State<Arc<House>>) -> String {
    let sip = house.sip.counters();
    gauge!("ringback_calls_active").set(precise(house.registry.len() as u64));
    gauge!("ringback_media_lateness_seconds").set(house.workers.lateness().as_secs_f64());
    counter!("ringback_sip_garbage_total").absolute(sip.garbage);
    counter!("ringback_sip_dropped_total").absolute(sip.dropped);
    counter!("ringback_sip_merged_total").absolute(sip.merged);
    counter!("ringback_sip_shed_total").absolute(sip.shed);
    counter!("ringback_sip_requests_total").absolute(sip.requests);
    counter!("ringback_sip_misplaced_total").absolute(sip.misplaced);
    gauge!("ringback_guard_sources").set(precise(sip.sources_known));
    for (reason, count) in &sip.judged {
        counter!("ringback_guard_judged_total", "reason" => *reason).absolute(*count);
    }
    counter!("ringback_sip_repeated_total").absolute(sip.repeated + sip.answers_repeated);
    counter!("ringback_sip_stray_responses_total").absolute(sip.stray_responses);
    counter!("ringback_sip_send_failures_total").absolute(sip.send_failures);
    counter!("ringback_sip_handshakes_failed_total").absolute(sip.handshakes_failed);
    counter!("ringback_sip_connections_refused_total").absolute(sip.connections_refused);
    gauge!("ringback_sip_transactions").set(precise(sip.transactions));
    gauge!("ringback_sip_connections").set(precise(sip.connections));
    for (status, count) in &sip.refused {
        counter!("ringback_sip_refused_total", "status" => status.to_string()).absolute(*count);
    }
    if let Some(browsers) = &house.browsers {
        let seen = browsers.webrtc.counters();
        gauge!("ringback_webrtc_browsers").set(precise(seen.peers));
        counter!("ringback_webrtc_packets_total", "way" => "in").absolute(seen.packets_in);
        counter!("ringback_webrtc_packets_total", "way" => "out").absolute(seen.packets_out);
        let lost =
            [("garbage", seen.garbage), ("strangers", seen.strangers), ("forged", seen.forged), ("full", seen.dropped)];
        for (why, count) in lost {
            counter!("ringback_webrtc_dropped_total", "why" => why).absolute(count);
        }
    }
    for trunk in house.trunks.snapshot() {
        gauge!("ringback_trunk_up", "trunk" => trunk.id.clone()).set(flag(trunk.up));
        for gateway in trunk.gateways {
            let labels = [("trunk", trunk.id.clone()), ("gateway", gateway.uri)];
            gauge!("ringback_trunk_gateway_up", &labels).set(flag(gateway.state != Standing::Down.label()));
            if let Some(time) = gateway.last.and_then(|last| last.round_trip_ms) {
                gauge!("ringback_trunk_round_trip_ms", &labels).set(time);
            }
        }
        if let Some(registration) = trunk.registration {
            gauge!("ringback_registration_up", "trunk" => trunk.id).set(flag(registration.registered));
        }
    }
    observe::render()
}

fn flag(is_so: bool) -> f64 {
    if is_so { 1.0 } else { 0.0 }
}

fn precise(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}
