//! Three telephones on one call: who hears whom, and what it is made of.
//!
//! Everybody says one level all the time, each another one, so that a sum says whose it is.

use ringback::media::{decode_ulaw, encode_ulaw};
use ringback::model::{Codec, LegId};

use crate::media_support::{Phone, Stage};

const ADA: LegId = LegId(0);
const GRACE: LegId = LegId(1);
const ALAN: LegId = LegId(2);
const LEVELS: [i16; 3] = [1000, 2000, 4000];

#[tokio::test]
async fn three_hear_each_other_and_never_themselves() {
    let stage = Stage::new(33_000);
    let mut phones = phones(&stage);
    let all = [(ADA, vec![GRACE, ALAN]), (GRACE, vec![ADA, ALAN]), (ALAN, vec![ADA, GRACE])];
    stage.call.wire(all.to_vec()).expect("wires");

    assert_eq!(talk(&mut phones), [6000, 5000, 3000]);

    // One leaves, and the two others go on as before there was a third: packet by packet.
    stage.call.wire(vec![(ADA, vec![GRACE]), (GRACE, vec![ADA])]).expect("wires");
    stage.call.close_leg(ALAN).expect("closes");
    phones.truncate(2);
    assert_eq!(talk(&mut phones), [2000, 1000]);
    phones.iter().for_each(Phone::assert_one_stream);
}

#[tokio::test]
async fn an_operator_listens_whispers_and_takes_part() {
    let stage = Stage::new(33_200);
    let mut phones = phones(&stage);

    let listening = [(ADA, vec![GRACE]), (GRACE, vec![ADA]), (ALAN, vec![ADA, GRACE])];
    stage.call.wire(listening.to_vec()).expect("wires");
    assert_eq!(talk(&mut phones), [2000, 1000, 3000], "nobody hears the operator");

    let whispering = [(ADA, vec![GRACE]), (GRACE, vec![ADA, ALAN]), (ALAN, vec![ADA, GRACE])];
    stage.call.wire(whispering.to_vec()).expect("wires");
    assert_eq!(talk(&mut phones), [2000, 5000, 3000], "one hears the operator");

    // The same, as pairs of one source each.
    let pairs = [(ADA, GRACE), (ADA, ALAN), (GRACE, ADA), (GRACE, ALAN), (ALAN, ADA), (ALAN, GRACE)];
    stage.call.wire(pairs.map(|(to, from)| (to, vec![from])).to_vec()).expect("wires");
    assert_eq!(talk(&mut phones), [6000, 5000, 3000], "both hear the operator");
}

fn phones(stage: &Stage) -> Vec<Phone> {
    let phones = [(ADA, Codec::Pcmu), (GRACE, Codec::Pcma), (ALAN, Codec::Pcmu)];
    let phones: Vec<Phone> = phones.into_iter().map(|(leg, codec)| stage.party(leg, codec)).collect();
    phones.iter().for_each(|phone| stage.answer(phone));
    phones
}

/// Lets everybody talk for a second and more; returns what each heard in the end, in full thousands.
fn talk(phones: &mut [Phone]) -> Vec<i32> {
    for _ in 0..70 {
        for (phone, level) in phones.iter_mut().zip(LEVELS) {
            phone.say_ulaw(encode_ulaw(level));
        }
        for phone in phones.iter_mut() {
            phone.listen();
        }
    }
    let heard = |phone: &Phone| {
        let payload = &phone.heard.last().expect("something is heard").payload;
        let samples: Vec<i32> = payload.iter().map(|code| i32::from(decode_ulaw(phone.as_ulaw(*code)))).collect();
        (samples.iter().sum::<i32>() / samples.len() as i32 + 500) / 1000 * 1000
    };
    phones.iter().map(heard).collect()
}
