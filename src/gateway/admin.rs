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

use super::house::House;
use super::reload::{ReloadError, reload};
use crate::observe;

/// Serves `/health`, `/ready` and `/metrics`, and reads the files again on `POST /reload`.
pub(super) async fn serve(house: Arc<House>, address: SocketAddr, tasks: &mut JoinSet<()>) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    let router = Router::new()
        .route("/health", get(|| async { "ok\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(exposition))
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
    for (status, count) in &sip.refused {
        counter!("ringback_sip_refused_total", "status" => status.to_string()).absolute(*count);
    }
    observe::render()
}

fn precise(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}
