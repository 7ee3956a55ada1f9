//! Health and metrics, for machines that look after us. Nothing personal is served here.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use metrics::{counter, gauge};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::house::House;
use crate::observe;

/// Serves `/health`, `/ready` and `/metrics`.
pub(super) async fn serve(house: Arc<House>, address: SocketAddr, tasks: &mut JoinSet<()>) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    let router = Router::new()
        .route("/health", get(|| async { "ok\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(exposition))
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

async fn exposition(State(house): State<Arc<House>>) -> String {
    let sip = house.sip.counters();
    gauge!("ringback_calls_active").set(precise(house.registry.len() as u64));
    gauge!("ringback_media_lateness_seconds").set(house.workers.lateness().as_secs_f64());
    counter!("ringback_sip_garbage_total").absolute(sip.garbage);
    counter!("ringback_sip_dropped_total").absolute(sip.dropped);
    counter!("ringback_sip_merged_total").absolute(sip.merged);
    counter!("ringback_sip_shed_total").absolute(sip.shed);
    counter!("ringback_sip_requests_total").absolute(sip.requests);
    for (status, count) in &sip.refused {
        counter!("ringback_sip_refused_total", "status" => status.to_string()).absolute(*count);
    }
    observe::render()
}

fn precise(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}
