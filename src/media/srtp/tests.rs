use proptest::prelude::*;
use rtc::srtp::context::Context as Theirs;
use rtc::srtp::option::{srtcp_replay_protection, srtp_replay_protection};
use rtc::srtp::protection_profile::ProtectionProfile;

use super::*;
use crate::model::SrtpSuite;

#[test]
fn every_octet_is_as_a_second_implementation_writes_it() {
    for suite in SrtpSuite::ALL {
        let (mut ours, mut theirs) = (Sealer::new(key(suite, 7)), second(suite, 7));
        // Across two rollovers, in leaps that leave packets out.
        for n in (65_000_u32..200_000).step_by(997) {
            let plain = packet(0xCAFE, n as u16, (n % 300) as usize);
            let mut sealed = plain.clone();
            ours.seal_rtp(&mut sealed, 0).unwrap();
            assert_eq!(sealed, theirs.encrypt_rtp(&plain).unwrap()[..], "{suite}, packet {n}");
        }
        // Theirs counts reports from 1.
        ours.seal_rtcp(&mut report(0xCAFE, 0), 0).unwrap();
        for n in 0..50 {
            let plain = report(0xCAFE, n);
            let mut sealed = plain.clone();
            ours.seal_rtcp(&mut sealed, 0).unwrap();
            assert_eq!(sealed, theirs.encrypt_rtcp(&plain).unwrap()[..], "{suite}, report {n}");
        }
    }
}

#[test]
fn what_a_second_implementation_writes_is_read() {
    for suite in SrtpSuite::ALL {
        let (mut ours, mut theirs) = (Opener::new(key(suite, 7)), second(suite, 7));
        for n in (65_000_u32..200_000).step_by(997) {
            let plain = packet(0xCAFE, n as u16, (n % 300) as usize);
            let mut sealed = theirs.encrypt_rtp(&plain).unwrap();
            assert_eq!(ours.open_rtp(&mut sealed), Ok(&mut plain.clone()[..]), "{suite}, packet {n}");
        }
        for n in 0..50 {
            let plain = report(0xCAFE, n);
            let mut sealed = theirs.encrypt_rtcp(&plain).unwrap();
            assert_eq!(ours.open_rtcp(&mut sealed), Ok(&mut plain.clone()[..]), "{suite}, report {n}");
        }
    }
}

/// The stack of which we use the SIP part, for the suites that it has.
#[test]
fn a_third_implementation_agrees() {
    use sipx_rtp::srtp::{Context, Profile};
    for (suite, profile) in [
        (SrtpSuite::Aes128CmSha1Tag80, Profile::AesCm128HmacSha1_80),
        (SrtpSuite::AeadAes128Gcm, Profile::AeadAes128Gcm),
        (SrtpSuite::AeadAes256Gcm, Profile::AeadAes256Gcm),
    ] {
        let key = key(suite, 3);
        let (mut ours, mut theirs) = (Sealer::new(key), Context::new(profile, key.key(), key.salt()).unwrap());
        for n in 65_500_u32..65_600 {
            let plain = packet(0xBEEF, n as u16, 160);
            let mut sealed = plain.clone();
            ours.seal_rtp(&mut sealed, 0).unwrap();
            assert_eq!(sealed, theirs.protect(&plain).unwrap(), "{suite}, packet {n}");
        }
        let mut sealed = report(0xBEEF, 1);
        ours.seal_rtcp(&mut sealed, 0).unwrap();
        assert_eq!(sealed, theirs.protect_rtcp(&report(0xBEEF, 1)).unwrap());
    }
}

#[test]
fn headers_with_sources_and_extension_stay_readable() {
    for suite in SrtpSuite::ALL {
        let mut plain = packet(1, 5, 0);
        plain[0] |= 0x10 | 2;
        plain.extend([9; 8]);
        plain.extend([0xBE, 0xDE, 0, 1, 0x11, 2, 3, 0]);
        plain.extend([0x55; 40]);
        let mut sealed = plain.clone();

        Sealer::new(key(suite, 1)).seal_rtp(&mut sealed, 0).unwrap();

        assert_eq!(sealed[..28], plain[..28]);
        assert_ne!(sealed[28..68], plain[28..]);
        assert_eq!(sealed, second(suite, 1).encrypt_rtp(&plain).unwrap()[..]);
        assert_eq!(Opener::new(key(suite, 1)).open_rtp(&mut sealed), Ok(&mut plain.clone()[..]));
    }
}

#[test]
fn a_packet_is_taken_once_and_in_any_order() {
    let (mut sealer, mut opener) = pair(SrtpSuite::Aes128CmSha1Tag80);
    let sealed: Vec<Vec<u8>> = (0..200).map(|n| seal(&mut sealer, 65_436 + n)).collect();

    for at in [0, 3, 1, 2, 120, 119, 99, 100, 101, 60] {
        assert!(opener.open_rtp(&mut sealed[at].clone()).is_ok(), "packet {at}");
    }
    for at in [0, 3, 120, 100, 99] {
        assert_eq!(opener.open_rtp(&mut sealed[at].clone()), Err(SrtpFault::Replayed), "packet {at}");
    }
    assert!(opener.open_rtp(&mut sealed[199].clone()).is_ok());
    // 128 are remembered; what is older cannot be told from a copy.
    assert!(opener.open_rtp(&mut sealed[72].clone()).is_ok());
    assert_eq!(opener.open_rtp(&mut sealed[71].clone()), Err(SrtpFault::Replayed));
}

#[test]
fn packets_lost_around_the_rollover_do_not_matter() {
    for (first, lost) in [(65_535, 0), (65_000, 900), (65_000, 30_000), (40_000, 32_000)] {
        let (mut sealer, mut opener) = pair(SrtpSuite::AeadAes128Gcm);
        opener.open_rtp(&mut seal(&mut sealer, first)).unwrap();
        for n in first + 1..=first + lost {
            seal(&mut sealer, n);
        }
        let mut next = seal(&mut sealer, first + lost + 1);

        assert!(opener.open_rtp(&mut next).is_ok(), "{lost} lost after {first}");
    }
    // Also when all of them were before the first that we hear.
    let (mut sealer, mut opener) = pair(SrtpSuite::Aes128CmSha1Tag80);
    for n in 65_530..65_540 {
        seal(&mut sealer, n);
    }
    assert!(opener.open_rtp(&mut seal(&mut sealer, 65_540)).is_ok());
}

#[test]
fn a_late_packet_of_the_turn_before_is_still_read() {
    let (mut sealer, mut opener) = pair(SrtpSuite::Aes256CmSha1Tag80);
    let mut late = seal(&mut sealer, 65_534);
    opener.open_rtp(&mut seal(&mut sealer, 65_535)).unwrap();
    opener.open_rtp(&mut seal(&mut sealer, 65_536 + 3)).unwrap();

    assert!(opener.open_rtp(&mut late).is_ok());
    assert!(opener.open_rtp(&mut seal(&mut sealer, 65_536 + 4)).is_ok());
}

#[test]
fn wrong_keys_altered_packets_and_plain_ones_are_refused_and_leave_no_trace() {
    for suite in SrtpSuite::ALL {
        let (mut sealer, mut opener) = pair(suite);
        let good = seal(&mut sealer, 10);
        let mut foreign = seal(&mut Sealer::new(key(suite, 99)), 11);
        assert_eq!(opener.open_rtp(&mut foreign), Err(SrtpFault::NotAuthentic));
        for at in [1, 3, 9, 12, 60, good.len() - 1] {
            let mut altered = good.clone();
            altered[at] ^= 1;
            let before = altered.clone();
            assert_eq!(opener.open_rtp(&mut altered), Err(SrtpFault::NotAuthentic), "{suite}, octet {at}");
            assert_eq!(altered, before, "what is refused is not deciphered");
        }
        assert_eq!(opener.open_rtp(&mut packet(0xCAFE, 12, 160)), Err(SrtpFault::NotAuthentic));
        assert!(opener.sources.is_empty());
        assert!(opener.open_rtp(&mut good.clone()).is_ok());
    }
}

#[test]
fn reports_that_are_proven_but_readable_are_refused_and_copies_too() {
    for suite in SrtpSuite::ALL {
        let (mut sealer, mut opener) = pair(suite);
        let mut sealed = report(1, 1);
        sealer.seal_rtcp(&mut sealed, 0).unwrap();

        let mut readable = sealed.clone();
        let flag = if suite.is_aead() { sealed.len() - 4 } else { sealed.len() - 14 };
        readable[flag] ^= 0x80;
        assert_eq!(opener.open_rtcp(&mut readable), Err(SrtpFault::NotAuthentic));
        assert!(opener.open_rtcp(&mut sealed.clone()).is_ok());
        assert_eq!(opener.open_rtcp(&mut sealed), Err(SrtpFault::Replayed));
    }
}

#[test]
fn a_key_that_comes_back_repeats_no_index_of_reports() {
    let suite = SrtpSuite::AeadAes128Gcm;
    let (mut first, mut opener) = pair(suite);
    let mut sealed = |sealer: &mut Sealer| {
        let mut packet = report(7, 1);
        sealer.seal_rtcp(&mut packet, 0).expect("is a report");
        opener.open_rtcp(&mut packet).map(|plain| plain.len()).map_err(|fault| format!("{fault:?}"))
    };

    let before = sealed(&mut first);
    let mut other = Sealer::following(key(suite, 99), &first);
    other.seal_rtcp(&mut report(7, 2), 0).expect("is a report");
    let mut back = Sealer::following(*first.key(), &other);
    let after = sealed(&mut back);

    assert!(before.is_ok() && after.is_ok(), "{before:?} {after:?}: a repeated index is taken for a replay");
}

#[test]
fn sources_that_come_and_go_do_not_gather() {
    let (mut sealer, mut opener) = pair(SrtpSuite::AeadAes256Gcm);
    for ssrc in 0..100 {
        let mut sealed = packet(ssrc, 1, 20);
        sealer.last = None;
        sealer.seal_rtp(&mut sealed, 0).unwrap();
        assert!(opener.open_rtp(&mut sealed.clone()).is_ok());
        assert_eq!(opener.open_rtp(&mut sealed), Err(SrtpFault::Replayed));
    }
    assert_eq!((opener.sources.len(), opener.sources.capacity()), (SRTP_SOURCES_MAX, SRTP_SOURCES_MAX));
}

#[test]
fn a_key_that_is_spent_protects_nothing_more() {
    let mut sealer = Sealer::new(key(SrtpSuite::Aes128CmSha1Tag80, 1));
    (sealer.last, sealer.rtcp_next) = (Some(INDEX_MAX - 1), RTCP_INDEX_MAX);
    let (mut last, mut next) = (packet(1, 0xFFFF, 9), packet(1, 0, 9));

    assert_eq!(sealer.seal_rtp(&mut last, 0), Ok(()));
    assert_eq!(sealer.seal_rtp(&mut next, 0), Err(SrtpFault::Spent));
    assert_eq!(next, packet(1, 0, 9));
    assert_eq!(sealer.seal_rtcp(&mut report(1, 1), 0), Ok(()));
    assert_eq!(sealer.seal_rtcp(&mut report(1, 1), 0), Err(SrtpFault::Spent));
}

proptest! {
    #[test]
    fn any_octets_are_refused(mut octets in proptest::collection::vec(any::<u8>(), 0..200), suite in 0_usize..5) {
        let mut opener = Opener::new(key(SrtpSuite::ALL[suite], 1));
        prop_assert!(opener.open_rtp(&mut octets.clone()).is_err());
        prop_assert!(opener.open_rtcp(&mut octets).is_err());
        prop_assert!(opener.sources.is_empty());
    }

    #[test]
    fn what_is_sealed_is_opened(octets in proptest::collection::vec(any::<u8>(), 0..200), suite in 0_usize..5, seq: u16) {
        let (mut sealer, mut opener) = pair(SrtpSuite::ALL[suite]);
        let mut plain = packet(3, seq, 0);
        plain.extend(octets);
        let mut sealed = vec![1, 2, 3];
        sealed.extend(&plain);
        sealer.seal_rtp(&mut sealed, 3).unwrap();
        prop_assert_eq!(sealed.len(), 3 + plain.len() + SrtpSuite::ALL[suite].tag_len());
        prop_assert_eq!(opener.open_rtp(&mut sealed[3..]), Ok(&mut plain[..]));
    }
}

fn key(suite: SrtpSuite, seed: u8) -> SrtpKey {
    let octets: Vec<u8> =
        (0..suite.key_len() + suite.salt_len()).map(|at| (at as u8).wrapping_mul(37) ^ seed).collect();
    SrtpKey::new(suite, &octets).unwrap()
}

fn pair(suite: SrtpSuite) -> (Sealer, Opener) {
    (Sealer::new(key(suite, 1)), Opener::new(key(suite, 1)))
}

fn second(suite: SrtpSuite, seed: u8) -> Theirs {
    let profile = match suite {
        SrtpSuite::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
        SrtpSuite::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        SrtpSuite::Aes256CmSha1Tag80 => ProtectionProfile::Aes256CmHmacSha1_80,
        SrtpSuite::Aes128CmSha1Tag80 => ProtectionProfile::Aes128CmHmacSha1_80,
        SrtpSuite::Aes128CmSha1Tag32 => ProtectionProfile::Aes128CmHmacSha1_32,
    };
    let (key, rtp, rtcp) = (key(suite, seed), srtp_replay_protection(64), srtcp_replay_protection(64));
    let crypto = rtc::crypto::default_provider().expect("has one");
    Theirs::new(key.key(), key.salt(), profile, Some(rtp), Some(rtcp), crypto.crypto()).unwrap()
}

/// Seals the packet with this number, counted across turns.
fn seal(sealer: &mut Sealer, n: u32) -> Vec<u8> {
    let mut sealed = packet(0xCAFE, n as u16, 160);
    sealer.seal_rtp(&mut sealed, 0).unwrap();
    sealed
}

fn packet(ssrc: u32, seq: u16, len: usize) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend(seq.to_be_bytes());
    packet.extend((u32::from(seq) * 160).to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend((0..len).map(|at| at as u8));
    packet
}

/// A receiver report without blocks, and a name.
fn report(ssrc: u32, n: u8) -> Vec<u8> {
    let mut report = vec![0x80, 201, 0, 1];
    report.extend(ssrc.to_be_bytes());
    report.extend([0x81, 202, 0, 2]);
    report.extend(ssrc.to_be_bytes());
    report.extend([1, 2, n, n]);
    report
}
