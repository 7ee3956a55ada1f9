//! The sound of one call: its legs, and who hears whom.
//!
//! Pure: datagrams and ticks come in, packets and notices go out through [`Out`]. A tick comes every 20 ms with the
//! time it was scheduled for, which on a late worker is not the time it is.

use std::net::SocketAddr;
use std::ops::Range;

use smallvec::SmallVec;

use super::adaptive::Adaptive;
use super::agent_leg::{AgentLeg, Echo};
use super::bridge::Bridge;
use super::codec;
use super::dtmf::{Keyed, Pressed, TelephoneEvent};
use super::g711::transcode;
use super::mixer::Mixer;
use super::notice::{LegStats, Notice, Noticed};
use super::player::{Clip, PlayOver, Player};
use super::recorder::{Pair, Timeline};
use super::relay::Relay;
use super::resample::Edge;
use super::rtcp;
use super::rtp::{HEADER_LEN, Header};
use super::rtp_leg::{Content, RtpLeg, RtpPeer};
use super::sample::is_audible;
use super::shield::Wire;
use crate::model::limits::{LEGS_MAX, WIRES_MAX};
use crate::model::{
    Band, BargeIn, CallId, Codec, Digit, FRAME_SAMPLES, Form, Frame, Heard, LegId, Mouth, PlayId, Sound, Speech, Time,
    ULAW_SILENCE,
};

/// All legs of a call and what passes between them.
#[derive(Debug)]
pub struct Desk {
    call: CallId,
    legs: Vec<Leg>,
    recording: Option<Recording>,
    /// Who hears whom, also for legs that are yet to open.
    wiring: Vec<(LegId, LegId)>,
    frames: Vec<Sound>,
    heard: Vec<Heard>,
    /// For packets that were protected.
    plain: Vec<u8>,
    /// The last tick.
    now: Time,
}

impl Desk {
    /// A call without legs.
    pub fn new(call: CallId) -> Desk {
        Desk {
            call,
            legs: Vec::new(),
            recording: None,
            wiring: Vec::new(),
            frames: Vec::new(),
            heard: Vec::new(),
            plain: Vec::new(),
            now: Time::ZERO,
        }
    }

    /// Opens a leg that is reached by RTP. `seed` gives its SSRC, first sequence number and timestamp. A leg of the
    /// same name is closed first.
    pub fn open_rtp(&mut self, now: Time, leg: LegId, seed: u64, loopback_only: bool, out: &mut Out) {
        self.open(leg, Kind::Rtp(Box::new(RtpLeg::new(now, seed, loopback_only))), out);
    }

    /// Opens a leg that speaks through an agent's socket, in the form that the socket wants.
    pub fn open_agent(&mut self, leg: LegId, form: Form, barge_in: BargeIn, out: &mut Out) {
        self.open(leg, Kind::Agent(Box::new(AgentLeg::new(form, barge_in))), out);
    }

    /// Opens a leg that says what it hears.
    pub fn open_echo(&mut self, leg: LegId, out: &mut Out) {
        self.open(leg, Kind::Echo(Box::default()), out);
    }

    /// Closes a leg, with its figures and the end of what it played.
    pub fn close_leg(&mut self, leg: LegId, out: &mut Out) {
        let Some(at) = self.at(leg) else { return };
        let mut leg = self.legs.remove(at);
        leg.say_goodbye(self.now, out);
        out.played(self.call, leg.id, leg.player.stop());
        let stats = match &leg.kind {
            Kind::Rtp(rtp) => rtp.stats(),
            Kind::Agent(agent) => LegStats { underruns: agent.underruns(), ..LegStats::default() },
            Kind::Echo(_) => LegStats::default(),
        };
        out.notice(self.call, leg.id, Noticed::LegStats(stats));
    }

    /// Closes every leg.
    pub fn close(&mut self, out: &mut Out) {
        while let Some(leg) = self.legs.last().map(|leg| leg.id) {
            self.close_leg(leg, out);
        }
    }

    /// Says where a leg's audio goes.
    pub fn set_remote(&mut self, now: Time, leg: LegId, peer: RtpPeer) {
        if let Some(Kind::Rtp(rtp)) = self.leg(leg).map(|leg| &mut leg.kind) {
            rtp.set_peer(now, peer);
        }
    }

    /// Keys will be agreed for a leg: until then nothing that comes to it is taken for audio.
    pub fn expect_keys(&mut self, leg: LegId) {
        if let Some(Kind::Rtp(rtp)) = self.leg(leg).map(|leg| &mut leg.kind) {
            rtp.expect_keys();
        }
    }

    /// Replaces the wiring. Who has several sources hears their sum; a listener may be named more than once.
    pub fn wire(&mut self, hears: &[(LegId, Vec<LegId>)]) {
        self.wiring.clear();
        for (listener, source) in hears.iter().flat_map(|(to, from)| from.iter().map(|source| (*to, *source))) {
            let is_known = self.wiring.contains(&(listener, source));
            if listener != source && !is_known && self.wiring.len() < WIRES_MAX {
                self.wiring.push((listener, source));
            }
        }
        for leg in &mut self.legs {
            leg.hear(&self.wiring);
        }
        for at in 0..self.legs.len() {
            let id = self.legs[at].id;
            if !self.legs.iter().any(|leg| leg.mixes(id)) {
                self.legs[at].playout = None;
            }
        }
    }

    /// Plays clips to a leg instead of what it is wired to.
    pub fn play(&mut self, leg: LegId, play: PlayId, clips: Vec<Clip>, repeat: bool, gain_db: f32, out: &mut Out) {
        let call = self.call;
        match self.leg(leg) {
            Some(leg) => {
                let replaced = leg.player.start(play, clips, repeat, gain_db);
                out.played(call, leg.id, replaced);
            }
            // Every play is reported over, also one for a leg that has just gone.
            None => out.played(call, leg, Some(PlayOver { play, heard_ms: 0, complete: false })),
        }
    }

    /// Stops what is played to a leg.
    pub fn stop(&mut self, leg: LegId, out: &mut Out) {
        let call = self.call;
        if let Some(leg) = self.leg(leg) {
            let stopped = leg.player.stop();
            out.played(call, leg.id, stopped);
        }
    }

    /// Presses keys towards a leg. Without a leg by RTP there is nobody to press them for: they are reported sent.
    pub fn send_digits(&mut self, leg: LegId, digits: &[Digit], out: &mut Out) {
        match self.leg(leg).map(|leg| &mut leg.kind) {
            Some(Kind::Rtp(rtp)) if !digits.is_empty() => {
                rtp.keys_out.push(digits);
            }
            _ => out.notice(self.call, leg, Noticed::DigitsSent),
        }
    }

    /// Whether more speech of an agent is taken.
    pub fn has_room(&self, leg: LegId) -> bool {
        match self.at(leg).map(|at| &self.legs[at].kind) {
            Some(Kind::Agent(agent)) => agent.has_room(),
            _ => false,
        }
    }

    /// Takes a piece of what an agent says; returns whether it is still wanted.
    pub fn speech(&mut self, leg: LegId, speech: Speech) -> bool {
        match self.leg(leg).map(|leg| &mut leg.kind) {
            Some(Kind::Agent(agent)) => agent.offer(speech),
            _ => false,
        }
    }

    /// Takes an order of an agent's socket that must not wait behind its speech.
    pub fn mouth(&mut self, leg: LegId, mouth: Mouth, out: &mut Out) {
        if let Some(Kind::Agent(agent)) = self.leg(leg).map(|leg| &mut leg.kind) {
            let Mouth::Stop { epoch } = mouth;
            if let Some(stopped) = agent.stop(epoch) {
                out.notice(self.call, leg, Noticed::Heard(stopped));
            }
        }
    }

    /// Records a leg from this tick on; the pairs come in [`Out`].
    pub fn record(&mut self, now: Time, left: LegId) {
        let timeline = Timeline::new(now);
        self.recording = Some(Recording { left, timeline, said: Edge::default(), heard: Edge::default() });
    }

    /// From now on the recording is silent, or not any more.
    pub fn mask_recording(&mut self, now: Time, is_masked: bool) {
        match &mut self.recording {
            Some(recording) if is_masked => recording.timeline.mask(now),
            Some(recording) => recording.timeline.unmask(now),
            None => {}
        }
    }

    /// Ends the recording with the pairs that were still open.
    pub fn stop_recording(&mut self, now: Time, out: &mut Out) {
        if let Some(mut recording) = self.recording.take() {
            out.pairs.extend(std::iter::from_fn(|| recording.timeline.rest(now)));
        }
    }

    /// Takes a datagram that came to a leg.
    pub fn datagram(&mut self, now: Time, leg: LegId, from: SocketAddr, datagram: &[u8], out: &mut Out) {
        let (mut frames, mut room) = (std::mem::take(&mut self.frames), std::mem::take(&mut self.plain));
        frames.clear();
        if rtcp::is_rtcp(datagram) {
            (self.frames, self.plain) = (frames, room);
            return self.report(now, leg, from, datagram);
        }
        if let Some(Kind::Rtp(rtp)) = self.leg(leg).map(|leg| &mut leg.kind)
            && let Some(packet) = rtp.open(now, from, Wire::Rtp, datagram, &mut room)
            && let Some(taken) = rtp.take(now, from, packet, &mut frames)
        {
            let events_clock = rtp.events_clock();
            if taken.is_first {
                out.notice(self.call, leg, Noticed::FirstPacket);
            }
            for pressed in &taken.pressed {
                out.pressed(self.call, leg, *pressed);
                self.press_as_tone(leg, pressed.0);
            }
            self.pass_through(now, leg, &taken.header, (taken.content, events_clock), out);
        }
        self.deliver(now, leg, &frames, out);
        (self.frames, self.plain) = (frames, room);
        self.seal(out);
    }

    /// Takes a datagram that came to the port for reports of a leg, or to the one that both share.
    pub fn report(&mut self, now: Time, leg: LegId, from: SocketAddr, datagram: &[u8]) {
        let mut room = std::mem::take(&mut self.plain);
        if let Some(Kind::Rtp(rtp)) = self.leg(leg).map(|leg| &mut leg.kind)
            && let Some(packet) = rtp.open(now, from, Wire::Rtcp, datagram, &mut room)
        {
            rtp.hear_report(now, from, packet);
        }
        self.plain = room;
    }

    /// Protects what is about to go out. Every packet passes here, so that none leaves unprotected by oversight.
    fn seal(&mut self, out: &mut Out) {
        let Out { packets, bytes, sealed, .. } = out;
        packets.retain_mut(|(id, _, range)| {
            if range.start < *sealed {
                return true;
            }
            let Some(Kind::Rtp(rtp)) = self.legs.iter_mut().find(|leg| leg.id == *id).map(|leg| &mut leg.kind) else {
                return true;
            };
            if rtp.is_plain() {
                rtp.count(range.len());
                return true;
            }
            // A packet grows by its tag, for which there is room at the end.
            let start = bytes.len();
            bytes.extend_from_within(range.clone());
            let may_go = rtp.seal(bytes, start);
            *range = start..bytes.len();
            may_go
        });
        *sealed = bytes.len();
    }

    /// 20 ms of everything.
    pub fn tick(&mut self, now: Time, out: &mut Out) {
        self.now = now;
        self.tick_ingress(now, out);
        self.tick_sources(now, out);
        for at in 0..self.legs.len() {
            self.tick_listener(now, at, out);
            self.legs[at].report(now, out);
        }
        if let Some(recording) = &mut self.recording {
            out.pairs.extend(std::iter::from_fn(|| recording.timeline.due(now)));
        }
        self.seal(out);
    }

    fn tick_ingress(&mut self, now: Time, out: &mut Out) {
        let mut frames = std::mem::take(&mut self.frames);
        for at in 0..self.legs.len() {
            let id = self.legs[at].id;
            if !matches!(self.legs[at].kind, Kind::Rtp(_)) {
                continue;
            }
            let is_heard = self.relay_to_listeners(at);
            let Kind::Rtp(rtp) = &mut self.legs[at].kind else { continue };
            rtp.set_heard(is_heard);
            frames.clear();
            let pressed = rtp.tick(now, &mut frames);
            if let Some(tone) = rtp.tone_key(now) {
                out.pressed(self.call, id, tone);
            }
            if rtp.became_quiet(now) {
                out.notice(self.call, id, Noticed::Quiet);
            }
            if let Some(pressed) = pressed {
                out.pressed(self.call, id, pressed);
                self.press_as_tone(id, pressed.0);
            }
            self.deliver(now, id, &frames, out);
        }
        self.frames = frames;
    }

    /// A key that came as an event goes on as a tone to whoever hears that party and takes no events. What Opus would
    /// make of a tone nobody could read, so there it is lost.
    fn press_as_tone(&mut self, from: LegId, digit: Digit) {
        for leg in self.legs.iter_mut().filter(|leg| leg.source == Some(from)) {
            let Kind::Rtp(rtp) = &mut leg.kind else { continue };
            if rtp.reachable().is_some_and(|(peer, _)| peer.dtmf_out.is_none() && peer.codec != Codec::Opus) {
                rtp.keys_out.push(&[digit]);
            }
        }
    }

    /// Decides for each party that hears the one at `at` by RTP whether its packets pass as they are or are decoded
    /// and encoded again. Returns whether anybody needs what that party says as frames.
    fn relay_to_listeners(&mut self, at: usize) -> bool {
        let Leg { id, kind: Kind::Rtp(speaker), .. } = &self.legs[at] else { return false };
        let (id, codec) = (*id, speaker.speaks());
        let mut is_heard = false;
        for leg in self.legs.iter_mut().filter(|leg| leg.source == Some(id)) {
            is_heard |= match &mut leg.kind {
                Kind::Rtp(rtp) if rtp.takes_as_is(codec) => {
                    rtp.relay = None;
                    false
                }
                Kind::Rtp(rtp) => {
                    rtp.relay.get_or_insert_with(Relay::new);
                    true
                }
                Kind::Agent(_) | Kind::Echo(_) => true,
            };
        }
        is_heard || self.recording.is_some() || self.legs.iter().any(|leg| leg.mixes(id))
    }

    /// Lets agents speak whom somebody hears; the others wait, so that nothing they say is lost.
    fn tick_sources(&mut self, now: Time, out: &mut Out) {
        for at in 0..self.legs.len() {
            let id = self.legs[at].id;
            let mut wanted = None;
            for leg in self.legs.iter_mut().filter(|leg| leg.source == Some(id) || leg.mixes(id)) {
                if leg.listens(now) {
                    wanted = wanted.max(Some(leg.band()));
                }
            }
            let leg = &mut self.legs[at];
            if let Some(said) = leg.playout.as_mut().map(|playout| playout.pull()) {
                leg.speaks = said.is_some();
                leg.said = said.unwrap_or(Sound::silence(leg.said.band()));
            }
            leg.speaks = match (&mut leg.kind, wanted) {
                (Kind::Agent(agent), Some(band)) => agent.pull(band, &mut leg.said, &mut self.heard),
                (Kind::Echo(echo), Some(_)) => echo.pull(&mut leg.said),
                (Kind::Agent(agent), None) => {
                    agent.pause();
                    leg.silent()
                }
                (Kind::Echo(_), None) => leg.silent(),
                (Kind::Rtp(_), _) => leg.speaks && leg.playout.is_some(),
            };
            for heard in self.heard.drain(..) {
                out.notice(self.call, id, Noticed::Heard(heard));
            }
        }
    }

    fn tick_listener(&mut self, now: Time, at: usize, out: &mut Out) {
        let source = self.legs[at].source.and_then(|source| self.at(source));
        let from = match source.map(|source| &self.legs[source]) {
            None => Source::Nobody,
            Some(Leg { kind: Kind::Rtp(_), .. }) => Source::Network,
            Some(leg) => Source::Frame(leg.said, leg.speaks),
        };
        let from = self.mixed(at).unwrap_or(from);
        let (call, leg) = (self.call, &mut self.legs[at]);
        if let Kind::Rtp(_) = leg.kind {
            let sent = leg.send(now, call, from, out);
            if let (Some((offset, sound)), Some(recording)) = (sent, &mut self.recording)
                && recording.left == leg.id
            {
                recording.sent(now, offset, &sound);
            }
            return;
        }
        let mut sound = Sound::silence(Band::Narrow);
        if leg.player.is_playing() {
            let over = leg.played(&mut sound);
            out.played(call, leg.id, over);
        } else {
            match from {
                // Comes when it arrives.
                Source::Network => return,
                Source::Frame(said, _) => sound = said,
                Source::Nobody => {}
            }
        }
        leg.take_in(call, &sound, out);
    }

    /// What somebody with several sources hears in this tick.
    fn mixed(&mut self, at: usize) -> Option<Source> {
        let mut mixer = self.legs[at].mixer.take()?;
        let said = |source: LegId| {
            let leg = self.legs.iter().find(|leg| leg.id == source)?;
            leg.speaks.then_some(leg.said)
        };
        let (sound, is_voice) = mixer.mix(self.legs[at].band(), said);
        self.legs[at].mixer = Some(mixer);
        Some(Source::Frame(sound, is_voice))
    }

    /// Hands frames of an RTP leg to those who hear it as frames.
    fn deliver(&mut self, now: Time, from: LegId, frames: &[Sound], out: &mut Out) {
        let is_held = self.legs.iter().any(|leg| leg.id == from && leg.is_held());
        for frame in frames {
            for leg in self.legs.iter_mut().filter(|leg| leg.source == Some(from) && !leg.player.is_playing()) {
                // An agent must not answer the music of a caller who holds the line; a person may hear it.
                let is_person = matches!(leg.kind, Kind::Rtp(_));
                let heard = if is_held && !is_person { &SILENCE } else { frame };
                leg.take_in(self.call, heard, out);
            }
            if self.legs.iter().any(|leg| leg.mixes(from))
                && let Some(leg) = self.legs.iter_mut().find(|leg| leg.id == from)
            {
                // The music of one who holds the line is for nobody in a conference.
                let heard = if is_held { &SILENCE } else { frame };
                leg.playout.get_or_insert_with(|| Box::new(Adaptive::new(heard.band()))).hear(now, heard);
            }
            let Some(recording) = &mut self.recording else { continue };
            if recording.left == from {
                recording.received(now, frame);
            }
            // What passes through to the recorded party in a codec of its own is only known from here.
            let passes = |leg: &Leg| match &leg.kind {
                Kind::Rtp(rtp) => leg.source == Some(from) && rtp.relay.is_none() && rtp.band() == Band::Wide,
                Kind::Agent(_) | Kind::Echo(_) => false,
            };
            if self.legs.iter().any(|leg| leg.id == recording.left && passes(leg) && !leg.player.is_playing()) {
                recording.sent(now, 0, frame);
            }
        }
    }

    /// Hands a packet of an RTP leg, with the clock of its keys, to those who hear it by RTP and take it as it is.
    fn pass_through(
        &mut self,
        now: Time,
        from: LegId,
        header: &Header,
        (content, events_clock): (Content<'_>, u32),
        out: &mut Out,
    ) {
        for leg in self.legs.iter_mut().filter(|leg| leg.source == Some(from) && !leg.player.is_playing()) {
            let id = leg.id;
            let Kind::Rtp(rtp) = &mut leg.kind else { continue };
            let Some((peer, to)) = rtp.reachable() else { continue };
            if rtp.keys_out.is_sending() {
                continue;
            }
            match content {
                Content::Audio(codec, audio) => {
                    let Some(units) = codec::units(codec, audio) else { continue };
                    if rtp.relay.is_some() || !rtp.takes_as_is(codec) || units > peer.packet_ms_max as usize * 8 {
                        continue;
                    }
                    let (stream, bridge) = (&mut rtp.stream, &mut rtp.bridge);
                    let sent = bridge.audio(now, stream, header, peer.payload_type, units as u32);
                    let Some(header) = sent else { continue };
                    out.audio(id, to, header, codec, peer.codec, audio);
                    if let Some(recording) = self.recording.as_mut().filter(|recording| recording.left == id)
                        && matches!(codec, Codec::Pcmu | Codec::Pcma)
                    {
                        let mut ulaw = [ULAW_SILENCE; PASSED_MAX];
                        ulaw[..units].copy_from_slice(audio);
                        transcode(codec, Codec::Pcmu, &mut ulaw[..units]);
                        let offset = header.timestamp.wrapping_sub(stream.grid(now)) as i32;
                        recording.timeline.sent(now, offset, &ulaw[..units]);
                    }
                }
                Content::Key(event) => {
                    let Some(payload_type) = peer.dtmf_out else { continue };
                    let (stream, bridge) = (&mut rtp.stream, &mut rtp.bridge);
                    let scaled = u32::from(event.duration) * (peer.dtmf_clock / 1000) / (events_clock / 1000);
                    let duration = u16::try_from(scaled).unwrap_or(u16::MAX);
                    // The timestamps of a stream are in the clock of its codec, whatever its keys are counted in.
                    let is_same_clock = rtp.relay.is_none();
                    let sent = bridge.event(now, stream, header, payload_type, duration, is_same_clock);
                    if let Some(header) = sent {
                        out.packet(id, to, header, &TelephoneEvent { duration, ..event }.to_bytes());
                    }
                }
                Content::Silence(_) => {}
            }
        }
    }

    fn open(&mut self, id: LegId, kind: Kind, out: &mut Out) {
        self.close_leg(id, out);
        if self.legs.len() >= LEGS_MAX {
            return;
        }
        let said = Sound::silence(Band::Narrow);
        let player = Player::default();
        let mut leg = Leg { id, kind, player, source: None, mixer: None, playout: None, said, speaks: false };
        leg.hear(&self.wiring);
        self.legs.push(leg);
    }

    fn at(&self, leg: LegId) -> Option<usize> {
        self.legs.iter().position(|other| other.id == leg)
    }

    fn leg(&mut self, leg: LegId) -> Option<&mut Leg> {
        self.legs.iter_mut().find(|other| other.id == leg)
    }
}

#[derive(Debug)]
struct Recording {
    left: LegId,
    timeline: Timeline,
    said: Edge,
    heard: Edge,
}

impl Recording {
    fn received(&mut self, now: Time, sound: &Sound) {
        if let Sound::Narrow(frame) = self.said.fit(sound, Band::Narrow) {
            self.timeline.received(now, &frame);
        }
    }

    fn sent(&mut self, now: Time, offset: i32, sound: &Sound) {
        if let Sound::Narrow(frame) = self.heard.fit(sound, Band::Narrow) {
            self.timeline.sent(now, offset, &frame);
        }
    }
}

#[derive(Debug)]
struct Leg {
    id: LegId,
    kind: Kind,
    player: Player,
    /// The one whom it hears.
    source: Option<LegId>,
    /// The several whom it hears.
    mixer: Option<Box<Mixer>>,
    /// Of one who is reached by RTP and mixed with others: what waits to be heard by them.
    playout: Option<Box<Adaptive>>,
    /// What it says in this tick, and whether that is more than silence.
    said: Sound,
    speaks: bool,
}

#[derive(Debug)]
enum Kind {
    Rtp(Box<RtpLeg>),
    Agent(Box<AgentLeg>),
    Echo(Box<Echo>),
}

/// What a leg is wired to, in one tick.
#[expect(clippy::large_enum_variant, reason = "it lives for one tick, on the stack")]
enum Source {
    Nobody,
    /// Passed through when it comes.
    Network,
    Frame(Sound, bool),
}

impl Leg {
    fn hear(&mut self, wiring: &[(LegId, LegId)]) {
        let sources = wiring.iter().filter(|(listener, _)| *listener == self.id).map(|(_, source)| *source);
        let sources: SmallVec<[LegId; 8]> = sources.collect();
        let source = if sources.len() == 1 { Some(sources[0]) } else { None };
        if sources.len() < 2 {
            self.mixer = None;
        } else {
            self.mixer.get_or_insert_default().hear(&sources);
        }
        if self.source != source {
            self.source = source;
            if let Kind::Rtp(rtp) = &mut self.kind {
                (rtp.bridge, rtp.relay) = (Bridge::new(), None);
            }
        }
    }

    /// Whether it hears this leg among others.
    fn mixes(&self, source: LegId) -> bool {
        self.mixer.as_ref().is_some_and(|mixer| mixer.hears(source))
    }

    /// Whether it takes 20 ms of its source in this tick.
    fn listens(&mut self, now: Time) -> bool {
        if self.player.is_playing() {
            return false;
        }
        match &mut self.kind {
            Kind::Rtp(rtp) => rtp.reachable().is_some() && !rtp.keys_out.is_sending() && rtp.stream.slot(now).is_some(),
            Kind::Agent(_) | Kind::Echo(_) => true,
        }
    }

    fn is_held(&self) -> bool {
        matches!(&self.kind, Kind::Rtp(rtp) if rtp.is_held())
    }

    /// The form in which it wants to hear.
    fn band(&self) -> Band {
        match &self.kind {
            Kind::Rtp(rtp) => rtp.band(),
            Kind::Agent(agent) => agent.band(),
            Kind::Echo(_) => Band::Wide,
        }
    }

    fn silent(&mut self) -> bool {
        self.said = Sound::silence(self.said.band());
        false
    }

    /// The next 20 ms of what is played to it.
    fn played(&mut self, sound: &mut Sound) -> Option<PlayOver> {
        let mut frame: Frame = [ULAW_SILENCE; FRAME_SAMPLES];
        let over = self.player.fill(&mut frame);
        *sound = Sound::Narrow(frame);
        over
    }

    /// Hears a frame, for those that hear frames.
    fn take_in(&mut self, call: CallId, sound: &Sound, out: &mut Out) {
        match &mut self.kind {
            Kind::Agent(agent) => {
                // What the caller did comes before the sound it was told from: silence must not wait.
                if let Some(moved) = agent.listen(sound) {
                    out.notice(call, self.id, Noticed::Heard(moved));
                }
                out.notice(call, self.id, Noticed::Heard(agent.hear(sound)));
            }
            Kind::Echo(echo) => echo.hear(sound),
            Kind::Rtp(rtp) => {
                if let Some(relay) = &mut rtp.relay {
                    relay.hear(sound);
                }
            }
        }
    }

    /// Sends 20 ms: keys before what is played before what is wired before silence. Returns the audio and where it
    /// stands against the tick, in ⅛ ms.
    fn send(&mut self, now: Time, call: CallId, from: Source, out: &mut Out) -> Option<(i32, Sound)> {
        let Kind::Rtp(rtp) = &mut self.kind else { return None };
        let (peer, to) = rtp.reachable()?;
        let slot = rtp.stream.slot(now)?;
        let mut sound = Sound::silence(peer.codec.band());
        let mut is_voice = false;
        if rtp.keys_out.is_sending() {
            let keyed = rtp.keys_out.next(slot, peer.dtmf_clock);
            if !rtp.keys_out.is_sending() {
                out.notice(call, self.id, Noticed::DigitsSent);
            }
            match (keyed, peer.dtmf_out) {
                (Keyed::Event(key), Some(payload_type)) => {
                    rtp.egress.flush();
                    self.send_packets(now, &peer, to, out);
                    let Kind::Rtp(rtp) = &mut self.kind else { return None };
                    let header = rtp.stream.event(now, payload_type, slot, key.timestamp, key.marker);
                    out.packet(self.id, to, header, &key.event.to_bytes());
                    return None;
                }
                (Keyed::Event(key), None) => {
                    let mut frame: Frame = [ULAW_SILENCE; FRAME_SAMPLES];
                    is_voice = key.render(&mut frame);
                    sound = Sound::Narrow(frame);
                }
                (Keyed::Pause, _) => {}
            }
        } else if self.player.is_playing() {
            let over = self.played(&mut sound);
            out.played(call, self.id, over);
            is_voice = true;
        } else {
            match from {
                Source::Network => match &mut rtp.relay {
                    Some(relay) => {
                        if let Some(frame) = relay.pull() {
                            (sound, is_voice) = (frame, is_audible(&frame));
                        }
                    }
                    None if !rtp.bridge.is_dry(now, &rtp.stream) => return None,
                    None => {}
                },
                Source::Nobody => {}
                Source::Frame(said, speaks) => (sound, is_voice) = (said, speaks),
            }
        }
        let Kind::Rtp(rtp) = &mut self.kind else { return None };
        let offset = rtp.stream.offset(now, slot);
        let silent = rtp.egress.silent_for(is_voice);
        match peer.comfort_noise {
            Some(payload_type) if silent > COMFORT_AFTER_TICKS => {
                rtp.egress.flush();
                self.send_packets(now, &peer, to, out);
                let Kind::Rtp(rtp) = &mut self.kind else { return None };
                if (silent - COMFORT_AFTER_TICKS) % COMFORT_EVERY_TICKS == 1 {
                    let header = rtp.stream.own(now, payload_type, slot, false);
                    out.packet(self.id, to, header, &[COMFORT_LEVEL]);
                } else {
                    rtp.stream.rest();
                }
            }
            _ => {
                rtp.egress.push(&rtp.stream, slot, &sound, is_voice);
                self.send_packets(now, &peer, to, out);
            }
        }
        Some((offset, sound))
    }

    /// Reports by RTCP when that is due.
    fn report(&mut self, now: Time, out: &mut Out) {
        if let Kind::Rtp(rtp) = &mut self.kind
            && let Some(to) = rtp.report_due(now)
        {
            out.report(self.id, to, rtp.muxes_reports(), |bytes| rtp.write_report(now, false, bytes));
        }
    }

    /// The last report, which says that nothing follows (RFC 3550 §6.6).
    fn say_goodbye(&mut self, now: Time, out: &mut Out) {
        if let Kind::Rtp(rtp) = &mut self.kind
            && let Some(to) = rtp.reports_to()
        {
            out.report(self.id, to, rtp.muxes_reports(), |bytes| rtp.write_report(now, true, bytes));
        }
    }

    /// Sends what makes whole packets.
    fn send_packets(&mut self, now: Time, peer: &RtpPeer, to: SocketAddr, out: &mut Out) {
        let Kind::Rtp(rtp) = &mut self.kind else { return };
        while rtp.egress.is_ready() {
            out.encoded(self.id, to, |bytes| rtp.egress.packet(now, &mut rtp.stream, peer.payload_type, bytes));
        }
    }
}

/// What a call has to say to the network and to the gateway. Reused from slot to slot, so that in the steady state
/// nothing is allocated but the boxes of frames for agents.
#[derive(Debug, Default)]
pub struct Out {
    /// For the gateway.
    pub notices: Vec<Notice>,
    /// For the call's recording.
    pub pairs: Vec<Pair>,
    packets: Vec<(LegId, SocketAddr, Range<usize>)>,
    bytes: Vec<u8>,
    /// Up to here of `bytes`, packets are as they go out.
    sealed: usize,
    /// Reports, as they go out: beside the place where they go, whether it is on the socket of audio.
    reports: Vec<(LegId, SocketAddr, bool, Range<usize>)>,
}

impl Out {
    /// The packets to send: from which leg, to where, and what.
    pub fn packets(&self) -> impl Iterator<Item = (LegId, SocketAddr, &[u8])> {
        self.packets.iter().map(|(leg, to, range)| (*leg, *to, &self.bytes[range.clone()]))
    }

    /// The RTCP packets to send: from which leg, to where, whether from its socket for audio, and what.
    pub fn reports(&self) -> impl Iterator<Item = (LegId, SocketAddr, bool, &[u8])> {
        self.reports.iter().map(|(leg, to, is_muxed, range)| (*leg, *to, *is_muxed, &self.bytes[range.clone()]))
    }

    /// Forgets the packets that were sent.
    pub fn clear_packets(&mut self) {
        self.packets.clear();
        self.bytes.clear();
        self.reports.clear();
        self.sealed = 0;
    }

    fn audio(&mut self, leg: LegId, to: SocketAddr, header: Header, from: Codec, into: Codec, audio: &[u8]) {
        self.packet(leg, to, header, audio);
        let payload = self.bytes.len() - audio.len();
        transcode(from, into, &mut self.bytes[payload..]);
    }

    /// A packet whose payload is appended by `encode`, which then knows the header; `None` is no packet.
    fn encoded(&mut self, leg: LegId, to: SocketAddr, encode: impl FnOnce(&mut Vec<u8>) -> Option<Header>) {
        let start = self.bytes.len();
        self.bytes.resize(start + HEADER_LEN, 0);
        match encode(&mut self.bytes) {
            Some(header) => {
                self.bytes[start..start + HEADER_LEN].copy_from_slice(&header.to_bytes());
                self.packets.push((leg, to, start..self.bytes.len()));
            }
            None => self.bytes.truncate(start),
        }
    }

    fn packet(&mut self, leg: LegId, to: SocketAddr, header: Header, payload: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&header.to_bytes());
        self.bytes.extend_from_slice(payload);
        self.packets.push((leg, to, start..self.bytes.len()));
    }

    fn report(&mut self, leg: LegId, to: SocketAddr, is_muxed: bool, write: impl FnOnce(&mut Vec<u8>) -> bool) {
        let start = self.bytes.len();
        if write(&mut self.bytes) {
            self.reports.push((leg, to, is_muxed, start..self.bytes.len()));
        }
    }

    fn notice(&mut self, call: CallId, leg: LegId, what: Noticed) {
        self.notices.push(Notice { call, leg, what });
    }

    fn played(&mut self, call: CallId, leg: LegId, over: Option<PlayOver>) {
        if let Some(PlayOver { play, heard_ms, complete }) = over {
            self.notice(call, leg, Noticed::Played { play, heard_ms, complete });
        }
    }

    fn pressed(&mut self, call: CallId, leg: LegId, (digit, duration_ms): Pressed) {
        self.notice(call, leg, Noticed::Digit { digit, duration_ms });
    }
}

const SILENCE: Sound = Sound::silence(Band::Narrow);
/// The longest packet of G.711 passed through: 120 ms.
const PASSED_MAX: usize = 960;
/// 200 ms of silence before it is only described.
const COMFORT_AFTER_TICKS: u32 = 10;
/// 400 ms between two descriptions: address translators must not forget us, and one may be lost.
const COMFORT_EVERY_TICKS: u32 = 20;
/// −65 dBov: a room at night.
const COMFORT_LEVEL: u8 = 65;
