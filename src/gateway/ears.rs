//! From the media workers to calls and agents: one batch per millisecond and worker.

use std::sync::Arc;

use metrics::{counter, gauge, histogram};
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
    counter!("ringback_srtp_refused_total", "why" => "forged").increment(stats.forged);
    counter!("ringback_srtp_refused_total", "why" => "replayed").increment(stats.replayed);
    counter!("ringback_rtp_rebinds_total").increment(stats.rebinds);
    gauge!("ringback_rtp_jitter_ms").set(f64::from(stats.jitter_ms));
    if is_one_way(stats) {
        counter!("ringback_legs_one_way_total").increment(1);
    }
    if let Some(quality) = &stats.quality {
        histogram!("ringback_leg_loss_percent").record(f64::from(quality.loss_bp + quality.discard_bp) / 100.0);
        histogram!("ringback_leg_mos").record(f64::from(quality.mos_hundredths) / 100.0);
        if let Some(round_trip) = quality.round_trip_ms {
            histogram!("ringback_leg_round_trip_seconds").record(f64::from(round_trip) / 1000.0);
        }
    }
}

/// Whether we sent for five seconds and more, and nothing at all came back: a firewall, or an address in the description
/// that nobody reaches.
fn is_one_way(stats: &LegStats) -> bool {
    stats.packets_in == 0 && stats.packets_out >= 250
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leg_that_only_ever_sent_was_one_way() {
        let leg = |packets_in, packets_out| is_one_way(&LegStats { packets_in, packets_out, ..LegStats::default() });

        assert!(leg(0, 250));
        assert!(!leg(0, 249), "it hardly began");
        assert!(!leg(1, 4000));
    }
}
