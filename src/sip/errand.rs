//! What has to wait for the network, one small task each. They report to the wire and know nothing of dialogs.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;

use sipx_sip::transaction::TuEvent;
use sipx_sip::{Request, Response};
use sipx_transport::{Handle, Target};
use tokio::sync::{mpsc, oneshot};

use super::event::{DialogId, Failure, Transport};
use super::message;
use super::net::{Hop, Net, Way};
use crate::model::limits;

/// What an errand came to.
#[derive(Debug)]
pub(super) enum Report {
    /// A name was looked up.
    Looked(DialogId, Option<Hop>),
    /// An answer to our INVITE.
    Response(DialogId, Box<Response>),
    /// Our INVITE got none.
    Failed(DialogId, Failure),
    /// Our INVITE can get no further answer.
    InviteOver(DialogId),
    /// Our BYE was answered, or never will be.
    ByeDone(DialogId),
}

impl Report {
    pub(super) fn dialog(&self) -> DialogId {
        match self {
            Report::Looked(id, _)
            | Report::Response(id, _)
            | Report::Failed(id, _)
            | Report::InviteOver(id)
            | Report::ByeDone(id) => *id,
        }
    }
}

/// Finds the first address of a name that one of our endpoints reaches.
pub(super) async fn look_up(
    id: DialogId,
    host: String,
    port: u16,
    transport: Transport,
    net: Arc<Net>,
    reports: mpsc::Sender<Report>,
) {
    let found = first_address(&host, port, transport, &net).await;
    // The wire outlives its errands.
    let _ = reports.send(Report::Looked(id, found)).await;
}

async fn first_address(host: &str, port: u16, transport: Transport, net: &Net) -> Option<Hop> {
    let found = tokio::net::lookup_host((host, port)).await.ok()?;
    let mut hops = found.map(|addr| Hop { addr, transport });
    hops.find(|hop| net.endpoint_for(*hop, None).is_some())
}

/// Sends an INVITE by the first hop that takes it and reports every answer, until the transaction ends.
pub(super) async fn invite(
    id: DialogId,
    request: Request,
    hops: Vec<Hop>,
    prefer: usize,
    mut cancel: oneshot::Receiver<Option<u8>>,
    net: Arc<Net>,
    reports: mpsc::Sender<Report>,
) {
    for hop in hops {
        if watch(id, &request, hop, prefer, &mut cancel, &net, &reports).await == Watched::Served {
            return;
        }
    }
    let _ = reports.send(Report::Failed(id, Failure::Transport)).await;
}

#[derive(PartialEq, Eq)]
enum Watched {
    /// The peer has spoken, or time has run out; it has been reported.
    Served,
    /// It could not even be sent.
    Unsent,
}

async fn watch(
    id: DialogId,
    request: &Request,
    hop: Hop,
    prefer: usize,
    cancel: &mut oneshot::Receiver<Option<u8>>,
    net: &Arc<Net>,
    reports: &mpsc::Sender<Report>,
) -> Watched {
    let Some((endpoint, request, target)) = net.address(request, hop, Some(prefer)) else { return Watched::Unsent };
    let Some(endpoint) = net.endpoints.get(endpoint) else { return Watched::Unsent };
    let handle = &endpoint.handle;
    let Ok(mut answers) = handle.send(request.clone(), target.clone()).await else { return Watched::Unsent };

    // The stack stops for everybody while we do not read, so answers are taken at once and wait here for the wire.
    let mut waiting: VecDeque<Report> = VecDeque::new();
    let mut has_spoken = false;
    let mut may_cancel = true;
    let mut canceling: Option<Pin<Box<dyn Future<Output = Finished> + Send>>> = None;
    loop {
        tokio::select! {
            event = answers.next() => match event {
                Some(TuEvent::Response(response)) => {
                    has_spoken = true;
                    if waiting.len() < limits::SIP_ANSWERS_MAX || response.status.is_final() {
                        waiting.push_back(Report::Response(id, response));
                    }
                    // Copies of a 2xx come once per T2 at most, so this is a flood; the oldest has been superseded.
                    if waiting.len() > 2 * limits::SIP_ANSWERS_MAX {
                        waiting.pop_front();
                    }
                }
                Some(TuEvent::Timeout) => waiting.push_back(Report::Failed(id, Failure::Timeout)),
                Some(TuEvent::TransportError) if !has_spoken => return Watched::Unsent,
                Some(TuEvent::TransportError) => waiting.push_back(Report::Failed(id, Failure::Transport)),
                // Nothing else is told to a client.
                Some(_) => {}
                None => break,
            },
            cause = &mut *cancel, if may_cancel => {
                may_cancel = false;
                if let Ok(cause) = cause {
                    let cancel = message::cancel(&request, cause);
                    canceling = Some(Box::pin(finish(handle.clone(), cancel, target.clone())));
                }
            }
            _ = async { canceling.as_mut().expect("the branch is enabled only while there is one").await },
                if canceling.is_some() => canceling = None,
            Ok(permit) = reports.reserve(), if !waiting.is_empty() => {
                if let Some(report) = waiting.pop_front() {
                    permit.send(report);
                }
            }
        }
    }
    waiting.push_back(Report::InviteOver(id));
    for report in waiting {
        if reports.send(report).await.is_err() {
            break;
        }
    }
    Watched::Served
}

/// Sends a request within a dialog by the first way that works, and reports every answer under this name.
pub(super) async fn ask(
    name: DialogId,
    request: Request,
    ways: Vec<Way>,
    prefer: usize,
    net: Arc<Net>,
    reports: mpsc::Sender<Report>,
) {
    // Nothing within a dialog is ever canceled.
    let (_never, mut cancel) = oneshot::channel();
    for way in ways {
        let Some(hop) = known(way, &net).await else { continue };
        if watch(name, &request, hop, prefer, &mut cancel, &net, &reports).await == Watched::Served {
            return;
        }
    }
    let _ = reports.send(Report::Failed(name, Failure::Transport)).await;
}

/// Sends a request other than INVITE by the first way that works, and waits for its final answer.
pub(super) async fn say(
    request: Request,
    ways: Vec<Way>,
    prefer: usize,
    report: Option<DialogId>,
    net: Arc<Net>,
    reports: mpsc::Sender<Report>,
) {
    for way in ways {
        let Some(hop) = known(way, &net).await else { continue };
        let Some((endpoint, request, target)) = net.address(&request, hop, Some(prefer)) else { continue };
        let Some(endpoint) = net.endpoints.get(endpoint) else { continue };
        if finish(endpoint.handle.clone(), request, target).await == Finished::Settled {
            break;
        }
    }
    if let Some(id) = report {
        let _ = reports.send(Report::ByeDone(id)).await;
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Finished {
    /// Answered, or given up after 64·T1.
    Settled,
    /// Not even sent.
    Unsent,
}

async fn finish(handle: Handle, request: Request, target: Target) -> Finished {
    let Ok(mut answers) = handle.send(request, target).await else { return Finished::Unsent };
    while let Some(event) = answers.next().await {
        match event {
            TuEvent::Response(response) if response.status.is_final() => return Finished::Settled,
            TuEvent::Timeout => return Finished::Settled,
            TuEvent::TransportError => return Finished::Unsent,
            // Provisional answers change nothing.
            _ => {}
        }
    }
    Finished::Settled
}

/// Sends an ACK, once; the next copy of the 2xx brings the next.
pub(super) async fn acknowledge(net: &Net, request: &Request, hop: Hop, prefer: usize) {
    let Some((endpoint, request, target)) = net.address(request, hop, Some(prefer)) else { return };
    let Some(endpoint) = net.endpoints.get(endpoint) else { return };
    if let Err(error) = endpoint.handle.send_directly(request, target).await {
        tracing::debug!(%error, "an ACK was not sent");
    }
}

/// The same for a peer that is known by name.
pub(super) async fn acknowledge_by_name(request: Request, ways: Vec<Way>, prefer: usize, net: Arc<Net>) {
    for way in ways {
        if let Some(hop) = known(way, &net).await {
            return acknowledge(&net, &request, hop, prefer).await;
        }
    }
}

async fn known(way: Way, net: &Net) -> Option<Hop> {
    match way {
        Way::Known(hop) => Some(hop),
        Way::Named { host, port, transport } => first_address(&host, port, transport, net).await,
        Way::Nowhere => None,
    }
}
