//! What answers requests: one task for each listener, so that a peer on TCP that does not read holds up nobody on UDP.

use std::sync::Arc;
use std::time::Duration;

use sipx_sip::{Response, TransactionKey};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::net::Net;
use crate::model::limits;

type Said = (TransactionKey, Response);

/// Where responses are handed in. They leave in order.
pub(super) struct Mouths {
    of: Vec<mpsc::Sender<Said>>,
    tasks: JoinSet<()>,
}

impl Mouths {
    pub(super) fn new(net: &Arc<Net>) -> Mouths {
        let mut mouths = Mouths { of: Vec::new(), tasks: JoinSet::new() };
        for endpoint in 0..net.endpoints.len() {
            let (mouth, said) = mpsc::channel(limits::SIP_RESPONSES);
            mouths.of.push(mouth);
            mouths.tasks.spawn(speak(Arc::clone(net), endpoint, said));
        }
        mouths
    }

    /// `false` when the listener has too much to say already: the peer repeats itself, or does not read.
    pub(super) fn say(&self, endpoint: usize, key: TransactionKey, response: Response) -> bool {
        self.of.get(endpoint).is_some_and(|mouth| mouth.try_send((key, response)).is_ok())
    }

    /// Says what is left, within this time.
    pub(super) async fn finish(&mut self, within: Duration) {
        self.of.clear();
        let said = async { while self.tasks.join_next().await.is_some() {} };
        // What is not said by then meets a peer that does not read.
        let _ = timeout(within, said).await;
        self.tasks.shutdown().await;
    }
}

async fn speak(net: Arc<Net>, endpoint: usize, mut said: mpsc::Receiver<Said>) {
    let Some(endpoint) = net.endpoints.get(endpoint) else { return };
    while let Some((key, response)) = said.recv().await {
        if let Err(error) = endpoint.handle.respond(&key, response).await {
            // The transaction is over, or the socket is: the peer repeats itself, or is gone.
            tracing::debug!(%error, "a SIP response was not sent");
        }
    }
}
