//! Every metric in one table.
//!
//! Rooms count with the `metrics` macros under the names listed here, and a test holds them to it. Labels are bounded:
//! never a call's id, a number or a URL. Start at [`METRICS`].

use std::sync::OnceLock;

use metrics::{describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

/// What kind of figure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How often which size.
    Histogram,
}

use Kind::{Counter, Gauge, Histogram};

/// Name, kind, and what it tells whoever is on call.
pub const METRICS: &[(&str, Kind, &str)] = &[
    ("ringback_invites_total", Counter, "INVITEs by what became of them: taken, or why not"),
    ("ringback_referrals_total", Counter, "REFERs of the other side: considered, or forbidden by the trunk"),
    ("ringback_calls_active", Gauge, "calls that are up"),
    ("ringback_calls_total", Counter, "calls that ended, by reason"),
    ("ringback_calls_broken_total", Counter, "calls whose own logic failed; each is a fault of ours"),
    ("ringback_call_duration_seconds", Histogram, "from INVITE to the end"),
    ("ringback_actions_total", Counter, "action runs by kind and result"),
    ("ringback_after_call_jobs_total", Counter, "workflows after calls, by result"),
    ("ringback_agent_commands_dropped_total", Counter, "words for an agent whose socket has stalled"),
    ("ringback_agent_frames_dropped_total", Counter, "audio for an agent whose socket has stalled"),
    ("ringback_agent_tokens_total", Counter, "tokens that agents' vendors counted, by way"),
    ("ringback_agent_underruns_total", Counter, "times an agent's audio ran dry in the middle of an utterance"),
    ("ringback_barge_in_total", Counter, "times a caller spoke over an agent, or seemed to, by what became of it"),
    ("ringback_calls_signed_total", Counter, "outbound calls of trunks that sign, by whether it could be done"),
    ("ringback_clips_missing_total", Counter, "prompts that could not be played"),
    ("ringback_dials_cut_total", Counter, "legs that were ended because their trunk's money of the day was spent"),
    ("ringback_dials_refused_total", Counter, "legs that our own rules forbade to dial, by rule"),
    ("ringback_guard_judged_total", Counter, "requests from outside of calls, by what the guard thought of them"),
    ("ringback_guard_sources", Gauge, "addresses that the guard remembers"),
    ("ringback_http_requests_total", Counter, "requests of actions by result"),
    ("ringback_identities_total", Counter, "signed callers' identities, by what they came to"),
    ("ringback_reloads_total", Counter, "times the configuration was read again, by result"),
    ("ringback_identity_fetches_total", Counter, "certificates of signers fetched, by result"),
    ("ringback_journal_errors_total", Counter, "journal lines that could not be written"),
    (
        "ringback_legs_quiet_total",
        Counter,
        "times a leg that should send audio sent none: one-way audio, or a dead line",
    ),
    ("ringback_mailbox_dropped_total", Counter, "posts a flooded call lost, by what"),
    ("ringback_media_lateness_seconds", Gauge, "how late the media workers are, 99th percentile"),
    ("ringback_recordings_broken_total", Counter, "recordings that ended early"),
    ("ringback_registration_up", Gauge, "whether we are registered with a trunk's registrar"),
    ("ringback_recordings_deleted_total", Counter, "recordings that were destroyed because their time was over"),
    ("ringback_leg_loss_percent", Histogram, "of the packets that a party sent, lost or too late, per leg by RTP"),
    ("ringback_leg_mos", Histogram, "how a party was heard, by the E-model of ITU-T G.107: 1 to 4.5"),
    ("ringback_leg_round_trip_seconds", Histogram, "from us to a party and back, as RTCP measured it last"),
    ("ringback_legs_one_way_total", Counter, "legs that we sent to for five seconds and more, and that sent nothing"),
    ("ringback_rtp_jitter_ms", Gauge, "interarrival jitter of the last leg that closed"),
    ("ringback_rtp_rebinds_total", Counter, "parties that went on from another address in the middle of a call"),
    ("ringback_srtp_refused_total", Counter, "protected packets that were not taken, by reason"),
    ("ringback_rtp_packets_lost_total", Counter, "RTP packets that never came"),
    ("ringback_rtp_packets_refused_total", Counter, "datagrams on RTP ports that were not taken"),
    ("ringback_rtp_packets_total", Counter, "RTP packets by way"),
    ("ringback_sip_connections", Gauge, "connections open now"),
    ("ringback_sip_connections_refused_total", Counter, "connections not let in: too many, or shut out"),
    ("ringback_sip_dropped_total", Counter, "messages too broken to answer"),
    ("ringback_sip_garbage_total", Counter, "datagrams and streams that cannot be read as SIP"),
    ("ringback_sip_handshakes_failed_total", Counter, "connections on which TLS or WebSocket was not agreed on"),
    ("ringback_sip_merged_total", Counter, "requests that came twice by different ways (482)"),
    (
        "ringback_sip_misplaced_total",
        Counter,
        "requests within a call from where its other side is not: an attack, or a peer whose addresses are not listed",
    ),
    ("ringback_sip_refused_total", Counter, "requests refused before they reached a call, by status"),
    ("ringback_sip_repeated_total", Counter, "messages sent again, because no answer came"),
    ("ringback_sip_requests_total", Counter, "requests taken in"),
    ("ringback_sip_send_failures_total", Counter, "messages that could not be sent"),
    ("ringback_sip_shed_total", Counter, "calls refused because the gateway did not keep up"),
    ("ringback_sip_stray_responses_total", Counter, "answers to nothing that we asked"),
    ("ringback_sip_transactions", Gauge, "transactions alive now"),
    ("ringback_store_errors_total", Counter, "writes to the store that failed"),
    ("ringback_task_panics_total", Counter, "helpers of a call that broke; each is a fault of ours"),
    ("ringback_trunk_minutes_today", Gauge, "minutes called out over a trunk since midnight UTC"),
    ("ringback_trunk_spent_today", Gauge, "money spent on calls over a trunk since midnight UTC"),
    (
        "ringback_trunk_denied_total",
        Counter,
        "requests that a trunk asked a proof for which we cannot give, by trunk and why",
    ),
    ("ringback_trunk_calls_total", Counter, "calls by trunk, direction and what became of them"),
    ("ringback_trunk_gateway_up", Gauge, "whether a gateway is not known to be down"),
    ("ringback_trunk_round_trip_ms", Gauge, "last OPTIONS to a gateway, from question to answer"),
    (
        "ringback_trunk_up",
        Gauge,
        "whether a trunk has a gateway that is not down, and is registered where it should be",
    ),
    ("ringback_webrtc_browsers", Gauge, "browsers on calls, those that still connect included"),
    ("ringback_webrtc_calls_total", Counter, "calls of browsers by what became of them: taken, or why not"),
    (
        "ringback_webrtc_dropped_total",
        Counter,
        "datagrams on the browsers' port by why they went nowhere: garbage, from strangers, forged, no room",
    ),
    ("ringback_webrtc_news_total", Counter, "what browsers did: connected, closed, lost, never came, stranger"),
    ("ringback_webrtc_packets_total", Counter, "packets of browsers' audio by way"),
    ("ringback_webhook_attempt_seconds", Histogram, "one attempt to deliver an event"),
    ("ringback_webhook_attempts_total", Counter, "attempts to deliver an event, by result"),
    ("ringback_webhook_deliveries_total", Counter, "deliveries that ended: delivered, dead, closed"),
];

/// Makes the table the process's metrics. Safe to call again.
pub fn install() {
    handle();
}

/// The metrics in Prometheus' text form.
pub fn render() -> String {
    handle().render()
}

fn handle() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        // Somebody else's recorder, as in a test, keeps its place; then ours renders nothing.
        let _ = metrics::set_global_recorder(recorder);
        for (name, kind, help) in METRICS {
            match kind {
                Counter => describe_counter!(*name, *help),
                Gauge => describe_gauge!(*name, *help),
                Histogram => describe_histogram!(*name, *help),
            }
        }
        handle
    })
}
