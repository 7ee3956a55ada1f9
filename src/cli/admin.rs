//! What a running gateway says of itself, on its admin listener.

use std::net::SocketAddr;
use std::time::Duration;

use crate::model::limits;

/// Asks for a path. The error is for people, and names no address.
pub(super) async fn get(admin: SocketAddr, path: &str) -> Result<Vec<u8>, String> {
    crate::services::tls::install();
    let plain = |error: reqwest::Error| error.without_url().to_string();
    let client = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build().map_err(plain)?;
    let mut response = client.get(format!("http://{admin}{path}")).send().await.map_err(plain)?;
    if !response.status().is_success() {
        return Err(format!("it says {}", response.status()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(plain)? {
        body.extend_from_slice(&chunk);
        if body.len() > limits::TRUNKS_ANSWER_MAX {
            return Err("its answer is too long".to_owned());
        }
    }
    Ok(body)
}

const PATIENCE: Duration = Duration::from_secs(5);
