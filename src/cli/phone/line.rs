//! One call of a telephone, from either end: one task that reads SIP, audio and orders, and speaks every 20 ms.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, interval, timeout_at};

use super::super::stopwatch;
use super::ear::Ear;
use super::mouth::Mouth;
use super::report::{Ending, Moments, Report};
use super::{Manner, Outgoing};
use crate::media::{Clip, Header};
use crate::model::limits::{PHONE_ORDERS, PHONE_REPORTS};
use crate::model::{Codec, Digit, FRAME_MS};
use crate::sdp::{self, Agreed, Local, Offer};
use crate::sip::{By, Dial, DialogId, Failure, Invite, Sip, SipCommand, SipEvent};

/// A call that was placed. Dropping it switches the telephone off without a goodbye.
#[derive(Debug)]
pub struct Line {
    orders: mpsc::Sender<Order>,
    moments: watch::Receiver<Moments>,
    task: JoinSet<Report>,
}

#[derive(Debug)]
enum Order {
    Press(Vec<Digit>),
    Say(Clip),
    HangUp,
}

impl Line {
    pub(super) fn dial(sip: Sip, events: mpsc::Receiver<SipEvent>, rtp: UdpSocket, dial: Outgoing) -> Line {
        let (orders, orders_in) = mpsc::channel(PHONE_ORDERS);
        let (tell, moments) = watch::channel(Moments::default());
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut desk = Desk { sip: sip.clone(), events, orders: Some(orders_in), rtp };
            let report = desk.place(dial, &tell).await;
            drop(tell);
            sip.shutdown().await;
            report
        });
        Line { orders, moments, task }
    }

    /// Presses keys, after those that are still being pressed.
    pub async fn press(&self, keys: &[Digit]) {
        self.order(Order::Press(keys.to_vec())).await;
    }

    /// Says something instead of what is being said.
    pub async fn say(&self, clip: Clip) {
        self.order(Order::Say(clip)).await;
    }

    /// Hangs up, or gives up while it rings.
    pub async fn hang_up(&self) {
        self.order(Order::HangUp).await;
    }

    /// Where the call stands, as it changes; closed when the call is over.
    pub fn news(&self) -> watch::Receiver<Moments> {
        self.moments.clone()
    }

    /// Where the call stands.
    pub fn moments(&self) -> Moments {
        self.moments.borrow().clone()
    }

    /// Waits for something to be so; `false` when the time or the call was over before.
    pub async fn until(&mut self, deadline: Instant, is_so: impl Fn(&Moments) -> bool) -> bool {
        let met = timeout_at(deadline, self.moments.wait_for(|now| is_so(now) || now.ended_ms.is_some())).await;
        met.is_ok_and(|seen| seen.is_ok_and(|now| is_so(&now)))
    }

    /// Waits for the end of the call.
    ///
    /// # Panics
    /// When the call's own task did.
    pub async fn over(mut self) -> Report {
        let ended = self.task.join_next().await.expect("there is a task because `dial` starts one");
        ended.expect("it is not aborted because we hold it, and a panic of it is ours")
    }

    async fn order(&self, order: Order) {
        // A call that is over takes no orders, which its report shows.
        let _ = self.orders.send(order).await;
    }
}

/// A telephone that is being called. Dropping it switches it off.
#[derive(Debug)]
pub struct Served {
    reports: mpsc::Receiver<Report>,
    bell: watch::Receiver<Bell>,
    _task: JoinSet<()>,
}

/// What happened so far at a telephone that is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bell {
    /// Calls that came in.
    pub rang: u64,
    /// Calls that were answered.
    pub answered: u64,
    /// Calls that are over, refused ones among them.
    pub over: u64,
}

impl Served {
    pub(super) fn start(sip: Sip, events: mpsc::Receiver<SipEvent>, rtp: UdpSocket, manner: Manner) -> Served {
        let (reports, reports_out) = mpsc::channel(PHONE_REPORTS);
        let (tell, bell) = watch::channel(Bell::default());
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut desk = Desk { sip, events, orders: None, rtp };
            while let Some(report) = desk.take_one(&manner, &tell).await {
                // A test that reads no reports needs none.
                let _ = reports.try_send(report);
            }
        });
        Served { reports: reports_out, bell, _task: task }
    }

    /// The report of the next call that is over.
    pub async fn report(&mut self) -> Option<Report> {
        self.reports.recv().await
    }

    /// What happened so far.
    pub fn bell(&self) -> Bell {
        *self.bell.borrow()
    }

    /// Waits for something to have happened; `false` when the time is over before.
    pub async fn until(&mut self, deadline: Instant, is_so: impl Fn(&Bell) -> bool) -> bool {
        timeout_at(deadline, self.bell.wait_for(|bell| is_so(bell))).await.is_ok_and(|seen| seen.is_ok())
    }
}

/// What a telephone has on its desk, whatever call is on.
struct Desk {
    sip: Sip,
    events: mpsc::Receiver<SipEvent>,
    orders: Option<mpsc::Receiver<Order>>,
    rtp: UdpSocket,
}

/// What a telephone will do by itself.
#[derive(Debug, Default)]
struct Script {
    say: Option<Clip>,
    keys: VecDeque<(Duration, Vec<Digit>)>,
    answer_after: Option<Duration>,
    cancel_after: Option<Duration>,
    hang_up_after: Option<Duration>,
}

impl Desk {
    async fn place(&mut self, dial: Outgoing, tell: &watch::Sender<Moments>) -> Report {
        let mut keys = dial.keys;
        keys.sort_by_key(|(at, _)| *at);
        let script = Script {
            say: dial.say,
            keys: keys.into(),
            answer_after: None,
            cancel_after: dial.cancel_after,
            hang_up_after: dial.hang_up_after,
        };
        let local = self.local();
        let offer = sdp::offer(&local);
        let dialog = self.sip.new_dialog();
        let talk = Talk::new(dialog, Side::Caller, local, script);
        let command =
            SipCommand::Dial(Box::new(Dial { to: dial.to, from_user: dial.from, sdp: offer, ..Dial::default() }));
        self.sip.send(dialog, command).await;
        self.hold(talk, &mut |moments: &Moments| {
            tell.send_replace(moments.clone());
        })
        .await
    }

    /// Waits for a call and holds it. `None` when SIP is no more.
    async fn take_one(&mut self, manner: &Manner, bell: &watch::Sender<Bell>) -> Option<Report> {
        let (dialog, invite) = loop {
            if let SipEvent::Invited { dialog, invite } = self.events.recv().await? {
                break (dialog, invite);
            }
        };
        bell.send_modify(|bell| bell.rang += 1);
        let report = self.receive(dialog, &invite, manner, bell).await;
        bell.send_modify(|bell| bell.over += 1);
        Some(report)
    }

    async fn receive(
        &mut self,
        dialog: DialogId,
        invite: &Invite,
        manner: &Manner,
        bell: &watch::Sender<Bell>,
    ) -> Report {
        let script = match manner {
            Manner::Refuse { status } => {
                self.refuse(dialog, *status).await;
                return Report { moments: Moments::default(), ending: Ending::WeRefused, ear: Ear::default() };
            }
            Manner::RingForEver => Script::default(),
            Manner::Answer { after, say, hang_up_after } => Script {
                say: say.clone(),
                answer_after: Some(*after),
                hang_up_after: *hang_up_after,
                ..Script::default()
            },
        };
        let local = self.local();
        let described = match &invite.sdp {
            Some(offer) => Offer::parse(offer)
                .and_then(|offer| sdp::answer(&offer, &local))
                .map(|(agreed, text)| (Some(agreed), text)),
            None => Ok((None, sdp::offer(&local))),
        };
        let Ok((agreed, text)) = described else {
            self.refuse(dialog, 488).await;
            return Report { moments: Moments::default(), ending: Ending::NoMedia, ear: Ear::default() };
        };
        let mut talk = Talk::new(dialog, Side::Callee(text), local, script);
        talk.agreed = agreed;
        self.sip.send(dialog, SipCommand::Ring).await;
        talk.moments.ringing_ms = Some(talk.now_ms());
        let mut is_answered = false;
        self.hold(talk, &mut |moments: &Moments| {
            if moments.answered_ms.is_some() && !is_answered {
                is_answered = true;
                bell.send_modify(|bell| bell.answered += 1);
            }
        })
        .await
    }

    async fn refuse(&self, dialog: DialogId, status: u16) {
        let refusal = SipCommand::Reject { status, reason: None, retry_after_s: None, warning: None };
        self.sip.send(dialog, refusal).await;
    }

    fn local(&self) -> Local {
        let address = self.rtp.local_addr().expect("the socket has an address because it is bound");
        Local {
            address: address.ip(),
            port: address.port(),
            codecs: vec![Codec::Pcmu, Codec::Pcma],
            comfort_noise: false,
            // RFC 8866 §5.2: some readers keep the number in 63 bits.
            session_id: random() >> 1,
            version: 1,
            keyring: sdp::Keyring::default(),
        }
    }

    /// Holds a call to its end.
    async fn hold(&mut self, mut talk: Talk, tell: &mut impl FnMut(&Moments)) -> Report {
        let mut tick = interval(Duration::from_millis(u64::from(FRAME_MS)));
        let mut buffer = [0; 2048];
        let ending = loop {
            let ending = tokio::select! {
                event = self.events.recv() => match event {
                    Some(event) => self.on_event(&mut talk, event, &mut tick).await,
                    None => Some(Ending::SwitchedOff),
                },
                order = next_order(&mut self.orders) => {
                    self.on_order(&mut talk, order).await;
                    None
                }
                received = self.rtp.recv_from(&mut buffer) => {
                    // An error is the echo of a packet that nobody wanted; the next read goes on.
                    if let Ok((len, _)) = received {
                        talk.on_packet(&buffer[..len]);
                    }
                    None
                }
                _ = tick.tick() => {
                    self.on_tick(&mut talk, &mut tick).await;
                    None
                }
            };
            talk.note();
            if let Some(ending) = ending {
                break ending;
            }
            tell(&talk.moments);
        };
        talk.moments.ended_ms = Some(talk.now_ms());
        tell(&talk.moments);
        Report { moments: talk.moments, ending, ear: talk.ear }
    }

    async fn on_event(&mut self, talk: &mut Talk, event: SipEvent, tick: &mut Interval) -> Option<Ending> {
        match event {
            SipEvent::Invited { dialog, .. } => {
                self.refuse(dialog, 486).await;
                None
            }
            other if other.dialog() != talk.dialog => None,
            SipEvent::Ringing { sdp, .. } => {
                talk.moments.ringing_ms.get_or_insert(talk.now_ms());
                if let Some(agreed) = sdp.and_then(|sdp| sdp::accept(&talk.local, &sdp).ok()) {
                    talk.agreed = Some(agreed);
                }
                None
            }
            SipEvent::Answered { sdp, .. } => match sdp::accept(&talk.local, &sdp) {
                Ok(agreed) => {
                    talk.agreed = Some(agreed);
                    talk.speak(tick);
                    None
                }
                Err(_) => {
                    self.hang_up(talk).await;
                    Some(Ending::NoMedia)
                }
            },
            SipEvent::Confirmed { sdp, .. } => {
                if let Some(agreed) = sdp.and_then(|sdp| sdp::accept(&talk.local, &sdp).ok()) {
                    talk.agreed = Some(agreed);
                    talk.speak(tick);
                }
                None
            }
            SipEvent::Lost { .. } => Some(Ending::Failed(Failure::Timeout)),
            SipEvent::ReofferFailed { .. } => None,
            SipEvent::Reinvited { sdp, .. } => {
                let offer = sdp.and_then(|sdp| Offer::parse(&sdp).ok());
                if let Some((agreed, _)) = offer.and_then(|offer| sdp::answer(&offer, &talk.local).ok()) {
                    talk.agreed = Some(agreed);
                }
                None
            }
            SipEvent::Failed { failure, .. } => Some(Ending::Failed(failure)),
            SipEvent::Canceled { .. } => Some(Ending::Canceled),
            SipEvent::AckMissing { .. } => Some(Ending::Failed(Failure::Timeout)),
            SipEvent::Ended { by: By::Us, .. } if talk.gave_up => Some(Ending::Canceled),
            SipEvent::Ended { by: By::Us, .. } => Some(Ending::WeHungUp),
            SipEvent::Ended { by: By::Them, .. } => Some(Ending::TheyHungUp),
            // Keys in the old way; our own side presses them in the audio only.
            SipEvent::Refer { .. } | SipEvent::Info { .. } => None,
        }
    }

    async fn on_order(&mut self, talk: &mut Talk, order: Order) {
        match order {
            Order::Press(keys) => talk.press(&keys),
            Order::Say(clip) => match &mut talk.mouth {
                Some(mouth) => mouth.say(clip),
                None => talk.script.say = Some(clip),
            },
            Order::HangUp => self.hang_up(talk).await,
        }
    }

    async fn on_tick(&mut self, talk: &mut Talk, tick: &mut Interval) {
        let since_invite = stopwatch::since(talk.began);
        match talk.moments.answered_ms {
            None => {
                if talk.script.cancel_after.is_some_and(|after| since_invite >= after) {
                    talk.script.cancel_after = None;
                    self.hang_up(talk).await;
                }
                if talk.script.answer_after.is_some_and(|after| since_invite >= after) {
                    talk.script.answer_after = None;
                    self.answer(talk, tick).await;
                }
            }
            Some(answered_ms) => {
                let since_answer = since_invite.saturating_sub(Duration::from_millis(answered_ms));
                while talk.script.keys.front().is_some_and(|(at, _)| since_answer >= *at) {
                    let keys = talk.script.keys.pop_front().map_or_else(Vec::new, |(_, keys)| keys);
                    talk.press(&keys);
                }
                if talk.script.hang_up_after.is_some_and(|after| since_answer >= after) {
                    talk.script.hang_up_after = None;
                    self.hang_up(talk).await;
                }
            }
        }
        if let Some((packet, to)) = talk.packet() {
            // A port that is closed meanwhile is no reason to stop: SIP will say what became of the call.
            let _ = self.rtp.send_to(&packet, to).await;
        }
    }

    async fn answer(&mut self, talk: &mut Talk, tick: &mut Interval) {
        if let Side::Callee(sdp) = &talk.side {
            self.sip.send(talk.dialog, SipCommand::Answer { sdp: sdp.clone() }).await;
            if talk.agreed.is_some() {
                talk.speak(tick);
            } else {
                talk.answered();
            }
        }
    }

    async fn hang_up(&mut self, talk: &mut Talk) {
        talk.gave_up = talk.moments.answered_ms.is_none();
        let cause = (!talk.gave_up).then_some(NORMAL_CLEARING);
        self.sip.send(talk.dialog, SipCommand::HangUp { cause }).await;
    }
}

/// A call that is on.
struct Talk {
    dialog: DialogId,
    side: Side,
    local: Local,
    script: Script,
    began: Instant,
    moments: Moments,
    agreed: Option<Agreed>,
    mouth: Option<Mouth>,
    ear: Ear,
    gave_up: bool,
}

enum Side {
    Caller,
    /// With the description to answer with.
    Callee(String),
}

impl Talk {
    fn new(dialog: DialogId, side: Side, local: Local, script: Script) -> Talk {
        Talk {
            dialog,
            side,
            local,
            script,
            began: stopwatch::now(),
            moments: Moments::default(),
            agreed: None,
            mouth: None,
            ear: Ear::default(),
            gave_up: false,
        }
    }

    fn now_ms(&self) -> u64 {
        stopwatch::as_ms(stopwatch::since(self.began))
    }

    fn answered(&mut self) {
        if self.moments.answered_ms.is_none() {
            let now_ms = self.now_ms();
            self.moments.answered_ms = Some(now_ms);
            self.ear.record_from(now_ms);
        }
    }

    /// From now on there is something to send every 20 ms, the first at once.
    fn speak(&mut self, tick: &mut Interval) {
        self.answered();
        let Some(agreed) = &self.agreed else { return };
        if self.mouth.is_some() {
            return;
        }
        let mut mouth = Mouth::new(agreed.codec, agreed.payload_type, agreed.dtmf, random());
        if let Some(clip) = self.script.say.take() {
            mouth.say(clip);
        }
        self.mouth = Some(mouth);
        tick.reset_immediately();
    }

    fn press(&mut self, keys: &[Digit]) {
        let taken = self.mouth.as_mut().is_some_and(|mouth| mouth.press(keys));
        if !taken {
            tracing::warn!(keys = keys.len(), "the other side takes no keys, or the call is not answered");
        }
    }

    fn packet(&mut self) -> Option<(Vec<u8>, SocketAddr)> {
        let agreed = self.agreed.as_ref()?;
        let packet = self.mouth.as_mut()?.packet();
        // RFC 3264 §8.4: an address of zeros is a party on hold.
        (agreed.direction.sends() && !agreed.remote.ip().is_unspecified()).then_some((packet, agreed.remote))
    }

    fn on_packet(&mut self, datagram: &[u8]) {
        let Ok((header, payload)) = Header::parse(datagram) else { return };
        let now_ms = self.now_ms();
        let agreed = self.agreed.as_ref();
        if agreed.is_some_and(|agreed| agreed.dtmf_in == Some(header.payload_type)) {
            return self.ear.event(now_ms, header, payload);
        }
        let codec = match (header.payload_type, agreed) {
            (0, _) => Codec::Pcmu,
            (8, _) => Codec::Pcma,
            (other, Some(agreed)) if other == agreed.payload_type => agreed.codec,
            _ => return,
        };
        self.ear.audio(now_ms, header, codec, payload);
    }

    /// Brings the moments up to date.
    fn note(&mut self) {
        self.moments.now_ms = self.now_ms();
        self.moments.first_packet_ms = self.ear.first_packet_ms();
        self.moments.first_sound_ms = self.ear.first_sound_ms();
        self.moments.last_sound_ms = self.ear.last_sound_ms();
        self.moments.spurts = self.ear.spurts().len();
    }
}

async fn next_order(orders: &mut Option<mpsc::Receiver<Order>>) -> Order {
    if let Some(receiver) = orders
        && let Some(order) = receiver.recv().await
    {
        return order;
    }
    // Nobody gives orders any more; the call goes on.
    *orders = None;
    std::future::pending().await
}

/// Chooses numbers that only have to differ from call to call.
fn random() -> u64 {
    getrandom::u64().unwrap_or(0x5EED)
}

/// ITU-T Q.850: somebody hung up.
const NORMAL_CLEARING: u8 = 16;
