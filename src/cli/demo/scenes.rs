//! The three calls, as their callers live them.

use std::time::Duration;

use tokio::time::Instant;

use super::super::expect::{Expectation, ms};
use super::super::phone::{Ending, Line, Report, find};
use super::super::stopwatch::{self, as_ms};
use super::crm::{HANGS, KNOWN};
use super::house::{House, NoShow};
use crate::media::Clip;
use crate::model::{CallId, Digit, SAMPLE_RATE};

/// A call that was played, before what follows it is known.
pub(super) struct Scene {
    pub(super) name: &'static str,
    /// The gateway's name for it, if it noticed it at all.
    pub(super) call: Option<CallId>,
    pub(super) caller: Report,
    pub(super) expectations: Vec<Expectation>,
    /// The record's status that it must end with.
    pub(super) status: &'static str,
    /// What is heard in its recording; `None` where nobody was answered.
    pub(super) recorded: Option<Sides>,
}

/// Something that is heard on each side of a recording.
pub(super) struct Sides {
    /// Said by the caller, if it said anything.
    pub(super) left: Option<Clip>,
    /// Said to the caller.
    pub(super) right: Clip,
}

/// (a) Looked up while it rings, greeted by name; order status by key; transfer past a busy colleague.
pub(super) async fn known_caller(house: &mut House) -> Result<Scene, NoShow> {
    let clips = Clips::load(house)?;
    let others = house.stage.calls().count();
    house.announce("(a) A known caller is greeted by name, asks for her order, and is put through past a busy desk.");
    let mut line = house.call(KNOWN, None).await?;

    line.until(within_ms(8_000), |now| now.first_sound_ms.is_some()).await;
    pause(&mut line, clips.greeting() + INTO_MENU).await;
    let key_1_ms = press(&line, '1').await;
    pause(&mut line, length(&clips.order) + INTO_MENU + Duration::from_millis(300)).await;
    let key_2_ms = press(&line, '2').await;
    house.desk_2.until(within_ms(15_000), |bell| bell.answered > 0).await;
    line.say(clips.caller.clone()).await;
    pause(&mut line, length(&clips.colleague) + Duration::from_millis(500)).await;
    line.hang_up().await;
    let caller = line.over().await;
    let colleague = tokio::time::timeout_at(within_ms(5_000), house.desk_2.report()).await.ok().flatten();

    let heard = Heard { report: &caller };
    let greeted = heard.at_ms(&clips.name, 0);
    let order = heard.at_ms(&clips.order, key_1_ms);
    let message = heard.at_ms(&clips.message, key_2_ms);
    let music = message.and_then(|from| heard.at_ms(&clips.music, from));
    let talk = music.and_then(|from| heard.at_ms(&clips.colleague, from));
    let silence = message.zip(talk).map(|(from, to)| caller.longest_silence_within(from + LEAD_MS, to + LEAD_MS));
    let answered = colleague.as_ref().and_then(|report| report.moments.answered_ms);
    let understood = colleague.as_ref().and_then(|report| Heard { report }.at_ms(&clips.caller, 0));
    let bell = house.desk_1.bell();
    let expectations = vec![
        Expectation::at_most_ms("180 after INVITE", RING_MS_MAX, caller.moments.ringing_ms),
        Expectation::between_ms("answer, as soon as the lookup is done", 250, 1_000, caller.moments.answered_ms),
        Expectation::at_most_ms("first sound after the answer", FIRST_SOUND_MS_MAX, heard.first_sound_after_answer()),
        heard_of("greeted by her name", greeted),
        heard_of("order status after key 1", order),
        heard_of("transfer message after key 2", message),
        Expectation::new("first colleague", "busy, once", format!("rung {} times", bell.rang), bell.rang == 1),
        heard_of("music after the message", music),
        Expectation::between_ms("second colleague answers after", 2_900, 4_000, answered),
        heard_of("colleague after the music", talk),
        Expectation::at_most_ms("longest silence while being transferred", 200, silence),
        Expectation::at_most_ms("longest time between two packets", 200, Some(caller.ear.longest_gap_ms())),
        heard_of("caller at the colleague's", understood),
        hung_up("caller's end", Ending::WeHungUp, Some(&caller)),
        hung_up("colleague's end", Ending::TheyHungUp, colleague.as_ref()),
    ];
    let call = house.stage.calls().after(others);
    let recorded = Some(Sides { left: Some(clips.caller), right: clips.colleague });
    Ok(Scene { name: "known caller", call, caller, expectations, status: "TRANSFERRED", recorded })
}

/// (b) The lookup hangs; the caller is answered at the deadline all the same.
pub(super) async fn lookup_hangs(house: &mut House) -> Result<Scene, NoShow> {
    let name = clip(house, "names/there.wav")?;
    let others = house.stage.calls().count();
    house.announce("(b) A caller whose lookup hangs is answered at the deadline all the same.");
    let mut line = house.call(HANGS[0], None).await?;

    line.until(within_ms(8_000), |now| now.first_sound_ms.is_some()).await;
    pause(&mut line, Duration::from_millis(1_500)).await;
    line.hang_up().await;
    let caller = line.over().await;

    let heard = Heard { report: &caller };
    let expectations = vec![
        Expectation::at_most_ms("180 after INVITE", RING_MS_MAX, caller.moments.ringing_ms),
        Expectation::between_ms("answer at the deadline of 1500 ms", 1_450, 1_800, caller.moments.answered_ms),
        Expectation::at_most_ms("first sound after the answer", FIRST_SOUND_MS_MAX, heard.first_sound_after_answer()),
        heard_of("greeted without a name", heard.at_ms(&name, 0)),
        hung_up("caller's end", Ending::WeHungUp, Some(&caller)),
    ];
    let call = house.stage.calls().after(others);
    let recorded = Some(Sides { left: None, right: name });
    Ok(Scene { name: "lookup hangs", call, caller, expectations, status: "COMPLETED", recorded })
}

/// (c) The caller gives up while it rings; the lookup is given up with it.
pub(super) async fn caller_gives_up(house: &mut House) -> Result<Scene, NoShow> {
    let others = house.stage.calls().count();
    house.announce("(c) A caller gives up while it rings, and the lookup is given up with it.");
    let mut line = house.call(HANGS[1], Some(Duration::from_millis(700))).await?;

    line.until(within_ms(5_000), |now| now.ended_ms.is_some()).await;
    let gave_up = stopwatch::now();
    let caller = line.over().await;
    house.crm.until(within_ms(3_000), |seen| seen.dropped(HANGS[1]).is_some()).await;

    let dropped = house.crm.seen().dropped(HANGS[1]);
    let aborted = dropped.map(|at| as_ms(at.saturating_duration_since(gave_up)));
    let expectations = vec![
        Expectation::at_most_ms("180 after INVITE", RING_MS_MAX, caller.moments.ringing_ms),
        Expectation::new("answer", "never", ms(caller.moments.answered_ms), caller.moments.answered_ms.is_none()),
        hung_up("caller's end", Ending::Canceled, Some(&caller)),
        Expectation::at_most_ms("lookup dropped after CANCEL", 500, aborted),
    ];
    let call = house.stage.calls().after(others);
    Ok(Scene { name: "caller gives up", call, caller, expectations, status: "CANCELED", recorded: None })
}

/// What somebody heard, by the clips that the house knows.
struct Heard<'a> {
    report: &'a Report,
}

impl Heard<'_> {
    /// When a clip began, at this time of the call or later.
    fn at_ms(&self, clip: &Clip, from_ms: u64) -> Option<u64> {
        const PER_MS: u64 = SAMPLE_RATE as u64 / 1000;
        let answered_ms = self.report.moments.answered_ms?;
        let from = usize::try_from(from_ms.saturating_sub(answered_ms) * PER_MS).ok()?;
        let at = find(self.report.ear.recording(), clip, from)?;
        Some(answered_ms + at as u64 / PER_MS)
    }

    fn first_sound_after_answer(&self) -> Option<u64> {
        Some(self.report.moments.first_sound_ms?.saturating_sub(self.report.moments.answered_ms?))
    }
}

struct Clips {
    hello: Clip,
    name: Clip,
    welcome: Clip,
    order: Clip,
    message: Clip,
    music: Clip,
    colleague: Clip,
    caller: Clip,
}

impl Clips {
    fn load(house: &House) -> Result<Clips, NoShow> {
        Ok(Clips {
            hello: clip(house, "hello.wav")?,
            name: clip(house, "names/Ada.wav")?,
            welcome: clip(house, "welcome.wav")?,
            order: clip(house, "order-shipped.wav")?,
            message: clip(house, "transfer.wav")?,
            music: beginning(&clip(house, "music.wav")?),
            colleague: clip(house, "colleague.wav")?,
            caller: clip(house, "caller.wav")?,
        })
    }

    fn greeting(&self) -> Duration {
        length(&self.hello) + length(&self.name) + length(&self.welcome)
    }
}

fn clip(house: &House, name: &str) -> Result<Clip, NoShow> {
    house.files.clip(name).map_err(|why| (super::super::Exit::Failed, why))
}

/// What is surely heard of a long clip before somebody answers.
fn beginning(clip: &Clip) -> Clip {
    clip.get(..SAMPLE_RATE as usize / 2).unwrap_or(clip).into()
}

fn length(clip: &Clip) -> Duration {
    Duration::from_millis(clip.len() as u64 * 1000 / u64::from(SAMPLE_RATE))
}

fn heard_of(name: &str, at_ms: Option<u64>) -> Expectation {
    let seen = at_ms.map_or_else(|| "not heard".to_owned(), |at| format!("heard at {at} ms"));
    Expectation::new(name, "heard", seen, at_ms.is_some())
}

fn hung_up(name: &str, ending: Ending, report: Option<&Report>) -> Expectation {
    let seen = report.map(|report| &report.ending);
    let described = seen.map_or_else(|| "no call".to_owned(), Ending::describe);
    Expectation::new(name, ending.describe(), described, seen == Some(&ending))
}

/// Lets the call go on for a while; shorter when it ends.
async fn pause(line: &mut Line, time: Duration) {
    line.until(stopwatch::now() + time, |_| false).await;
}

/// Presses a key and says when.
async fn press(line: &Line, key: char) -> u64 {
    line.press(&Digit::from_char(key).map_or_else(Vec::new, |digit| vec![digit])).await;
    line.moments().now_ms
}

fn within_ms(ms: u64) -> Instant {
    stopwatch::now() + Duration::from_millis(ms)
}

/// A person listens to a part of the menu before pressing a key.
const INTO_MENU: Duration = Duration::from_millis(1_500);
/// A loaded laptop must not fail the demonstration; `benches/` hold the gateway to 50 ms.
const RING_MS_MAX: u64 = 200;
const FIRST_SOUND_MS_MAX: u64 = 300;
/// Clips begin with 20 ms of silence, and a packet more may lie between the find and the first sound.
const LEAD_MS: u64 = 40;
