//! What waits for one call's task.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use metrics::counter;
use tokio::sync::Notify;

use super::arms::{Cord, Guest};
use crate::call::{Cause, Event};
use crate::model::{Digit, LegId, limits};
use crate::sip::{Failure, Refer};

/// Something for a call's task.
#[derive(Debug)]
pub(super) enum Post {
    /// For the heart.
    Event(Event),
    /// A leg we dialled answered with this description; the heart hears of it once its media is set.
    Answered { leg: LegId, sdp: Vec<u8> },
    /// A leg we dialled rings, and can be heard before it answers.
    Early { leg: LegId, sdp: Vec<u8> },
    /// A key was pressed in a message instead of in the audio.
    Key { leg: LegId, digit: Digit },
    /// A leg changed its description and got this answer, or answered this offer of ours, or the first one late.
    Described { leg: LegId, sdp: Vec<u8>, answer: Option<String>, offer: Option<String> },
    /// An INVITE of ours came to nothing; the heart hears of it once no other gateway is left.
    NotPlaced { leg: LegId, failure: Failure },
    /// A leg acknowledged our answer without a description of its own.
    Acknowledged { leg: LegId },
    /// A leg refers us.
    Referred { leg: LegId, refer: Box<Refer> },
    /// Somebody is at the door for a leg's place.
    Replacing { leg: LegId, guest: Guest },
    /// Another call took the other end of a leg, and sends its audio from here.
    PluggedIn { leg: LegId, cord: Cord, remote: SocketAddr },
    /// The recording's file is complete, or was given up.
    Recorded { frames: u64, error: Option<String> },
}

impl Post {
    /// What ends the call. The end of another leg keeps its place: what that leg said before comes before it.
    fn is_ending(&self) -> bool {
        matches!(self, Post::Event(Event::HungUp { leg: LegId::CALLER, .. } | Event::EndAsked { .. }))
    }

    /// What may be lost when nobody keeps up: it changes nothing but the record.
    fn is_statistic(&self) -> bool {
        matches!(
            self,
            Post::Event(
                Event::BargedIn { .. } | Event::AgentFault { .. } | Event::Said { .. } | Event::LegRinging { .. }
            )
        )
    }
}

/// A bounded mailbox that never makes its senders wait: one call's trouble is no other call's.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    posts: Mutex<VecDeque<Post>>,
    arrived: Notify,
}

impl Mailbox {
    /// Puts something in. From [`limits::CALL_MAILBOX`] posts on, statistics are dropped and counted; at twice that the
    /// call is beyond help, and is ended instead.
    pub(super) fn post(&self, post: Post) {
        let mut posts = self.posts.lock().unwrap_or_else(PoisonError::into_inner);
        if posts.len() >= limits::CALL_MAILBOX && post.is_statistic() {
            counter!("ringback_mailbox_dropped_total", "what" => "statistic").increment(1);
        } else if posts.len() >= limits::CALL_MAILBOX * 2 && !post.is_ending() {
            counter!("ringback_mailbox_dropped_total", "what" => "call").increment(1);
            posts.retain(|post| post.is_ending() || matches!(post, Post::Recorded { .. }));
            posts.push_back(Post::Event(Event::EndAsked { cause: Cause::Internal }));
        } else {
            posts.push_back(post);
        }
        drop(posts);
        self.arrived.notify_one();
    }

    /// Everything that waits, what ends the call first; waits until there is something.
    pub(super) async fn take(&self) -> Vec<Post> {
        loop {
            let arrived = self.arrived.notified();
            let batch = self.take_now();
            if !batch.is_empty() {
                return batch;
            }
            arrived.await;
        }
    }

    /// Everything that waits now, what ends the call first.
    pub(super) fn take_now(&self) -> Vec<Post> {
        let posts = std::mem::take(&mut *self.posts.lock().unwrap_or_else(PoisonError::into_inner));
        let (endings, others): (Vec<Post>, Vec<Post>) = posts.into_iter().partition(Post::is_ending);
        endings.into_iter().chain(others).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Pii;

    #[test]
    fn endings_come_first_and_the_rest_keeps_its_order() {
        let mailbox = Mailbox::default();
        mailbox.post(digit('1'));
        mailbox.post(digit('2'));
        mailbox.post(Post::Event(Event::HungUp { leg: LegId::CALLER, cause: Cause::Normal }));

        let taken = mailbox.take_now();

        assert!(taken[0].is_ending());
        assert!(matches!(&taken[1], Post::Event(Event::DigitPressed { digit, .. }) if digit.reveal().as_char() == '1'));
    }

    #[test]
    fn a_full_mailbox_drops_statistics_and_keeps_digits() {
        let mailbox = Mailbox::default();
        for _ in 0..limits::CALL_MAILBOX {
            mailbox.post(digit('1'));
        }

        mailbox.post(Post::Event(Event::AgentFault { leg: LegId(1), code: "rate_limit".to_owned() }));
        mailbox.post(digit('2'));

        assert_eq!(mailbox.take_now().len(), limits::CALL_MAILBOX + 1);
    }

    #[test]
    fn a_call_that_is_flooded_is_ended() {
        let mailbox = Mailbox::default();
        for _ in 0..=limits::CALL_MAILBOX * 2 {
            mailbox.post(digit('1'));
        }

        let taken = mailbox.take_now();

        assert!(matches!(taken.as_slice(), [Post::Event(Event::EndAsked { cause: Cause::Internal })]));
    }

    #[test]
    fn a_caller_who_hung_up_in_a_flood_has_hung_up() {
        let mailbox = Mailbox::default();
        mailbox.post(Post::Event(Event::HungUp { leg: LegId::CALLER, cause: Cause::Normal }));
        for _ in 0..limits::CALL_MAILBOX * 2 {
            mailbox.post(digit('1'));
        }

        let taken = mailbox.take_now();

        assert!(matches!(&taken[0], Post::Event(Event::HungUp { leg: LegId::CALLER, .. })));
    }

    fn digit(label: char) -> Post {
        let digit = Pii::new(Digit::from_char(label).unwrap());
        Post::Event(Event::DigitPressed { leg: LegId::CALLER, digit })
    }
}
