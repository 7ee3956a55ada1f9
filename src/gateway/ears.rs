//! From the media workers to calls and agents: one batch per millisecond and worker.

use std::sync::Arc;

use metrics::{counter, gauge};
use tokio::sync::mpsc;

use super::house::House;
use super::mailbox::Post;
use crate::call::Event;
use crate::media::{LegStats, Notice, Noticed};
use crate::model::Pii;

/// Hands out notices until the workers end.
pub(super) async fn listen(house: Arc<House>, mut notices: mpsc::Receiver<Vec<Notice>>) {
    while let Some(batch) = notices.recv().await {
        for notice in batch {
            hand_over(&house, notice);
        }
    }
}

fn hand_over(house: &House, notice: Notice) {
    let leg = notice.leg;
    let Some(door) = house.registry.door(notice.call) else {
        // Figures of a leg come when its call has already gone.
        if let Noticed::LegStats(stats) = notice.what {
            count(&stats);
        }
        return;
    };
    let event = match notice.what {
        Noticed::Heard(heard) => {
            if !door.hear(leg, heard) {
                counter!("ringback_agent_frames_dropped_total").increment(1);
            }
            return;
        }
        Noticed::Digit { digit, .. } => Event::DigitPressed { leg, digit: Pii::new(digit) },
        Noticed::Played { play, complete: true, .. } => Event::Played { leg, play },
        Noticed::RecordingClosed { frames, error, .. } => {
            if let Some(error) = &error {
                counter!("ringback_recordings_broken_total").increment(1);
                tracing::error!(call = %notice.call, error, "a recording ended early; the call goes on");
            }
            return door.mailbox.post(Post::Recorded { frames, error });
        }
        Noticed::LegStats(stats) => return count(&stats),
        Noticed::Quiet => return counter!("ringback_legs_quiet_total").increment(1),
        // The call itself stopped or replaced it; a first packet and digits that went out change nothing.
        Noticed::Played { complete: false, .. } | Noticed::DigitsSent | Noticed::FirstPacket => return,
    };
    door.mailbox.post(Post::Event(event));
}

fn count(stats: &LegStats) {
    counter!("ringback_rtp_packets_total", "way" => "in").increment(stats.packets_in);
    counter!("ringback_rtp_packets_total", "way" => "out").increment(stats.packets_out);
    counter!("ringback_rtp_packets_refused_total").increment(stats.refused + stats.foreign);
    counter!("ringback_rtp_packets_lost_total").increment(stats.lost);
    counter!("ringback_agent_underruns_total").increment(stats.underruns);
    gauge!("ringback_rtp_jitter_ms").set(f64::from(stats.jitter_ms));
}
