//! DTLS-SRTP with one browser (RFC 5764): whose certificate it is, then keys, then audio that only the two of us read.
//!
//! Never trusts a certificate for what it says: it is the one whose fingerprint stood in the offer, or the browser is
//! refused.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::BytesMut;
use rtc::crypto::{HashAlgorithm, RTCCryptoProvider};
use rtc::dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use rtc::dtls::crypto::Certificate;
use rtc::dtls::endpoint::{Endpoint, EndpointEvent};
use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc::dtls::state::State;
use rtc::shared::TransportProtocol;
use rtc::shared::error::Error;
use rtc::srtp::config::{Config as SrtpConfig, LABEL_EXTRACTOR_DTLS_SRTP};
use rtc::srtp::context::Context;
use rtc::srtp::option::{srtcp_replay_protection, srtp_replay_protection};
use rtc::srtp::protection_profile::ProtectionProfile;

use crate::model::limits::{WEBRTC_FORGERIES_MAX, WEBRTC_SOURCES_MAX};

/// Who we are towards browsers: a certificate that we made ourselves when we started.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) crypto: Arc<dyn RTCCryptoProvider>,
    certificate: Certificate,
    /// What stands in our answers.
    pub(super) fingerprint: [u8; 32],
}

impl Identity {
    /// Makes a key on P-256 and a certificate of it.
    pub(super) fn make() -> Result<Identity, Error> {
        let crypto = rtc::crypto::default_provider().map_err(|error| Error::Crypto(error.to_string()))?;
        let certificate = Certificate::generate_self_signed(vec!["ringback".to_owned()], crypto.crypto())?;
        let shown = certificate.certificate.first().ok_or(Error::ErrNonCertificate)?;
        let fingerprint = fingerprint(&crypto, shown).ok_or(Error::ErrNonCertificate)?;
        Ok(Identity { crypto, certificate, fingerprint })
    }
}

fn fingerprint(crypto: &Arc<dyn RTCCryptoProvider>, certificate: &[u8]) -> Option<[u8; 32]> {
    crypto.crypto().hash(HashAlgorithm::Sha256, certificate).ok()?.try_into().ok()
}

/// What a datagram of the handshake, or the clock, led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Audio can flow.
    Open,
    /// The other side closed.
    Closed,
    /// The other side is somebody else than the one who made the offer.
    Stranger,
    /// Its handshake leads nowhere.
    Broken,
}

/// One association.
pub(super) struct Secure {
    crypto: Arc<dyn RTCCryptoProvider>,
    endpoint: Endpoint,
    /// For the side that begins, until it does.
    begins: Option<Arc<HandshakeConfig>>,
    is_stranger: Arc<AtomicBool>,
    keys: Option<Keys>,
    is_over: bool,
}

impl Secure {
    /// Waits for the browser's handshake, or, when it is to be begun by us, for [`Secure::begin`].
    pub(super) fn new(identity: &Identity, fingerprints: Vec<[u8; 32]>, begins: bool) -> Result<Secure, Error> {
        let is_stranger = Arc::new(AtomicBool::new(false));
        let (crypto, noted) = (Arc::clone(&identity.crypto), Arc::clone(&is_stranger));
        let config = ConfigBuilder::default()
            .with_crypto_provider(Arc::clone(&identity.crypto))
            .with_certificates(vec![identity.certificate.clone()])
            .with_srtp_protection_profiles(PROFILES.iter().map(|(dtls, _)| *dtls).collect())
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            // No authority stands behind such certificates; the fingerprint below is what counts.
            .with_insecure_skip_verify(true)
            .with_extended_master_secret(ExtendedMasterSecretType::Require)
            .with_verify_peer_certificate(Some(Arc::new(move |shown: &[Vec<u8>], _: &[_]| {
                let shown = shown.first().and_then(|shown| fingerprint(&crypto, shown));
                if shown.is_some_and(|shown| fingerprints.contains(&shown)) {
                    return Ok(());
                }
                noted.store(true, Ordering::Relaxed);
                Err(Error::ErrNoMatchingCertificateFingerprint)
            })))
            .build(begins, None)?;
        let config = Arc::new(config);
        let waiting = (!begins).then(|| Arc::clone(&config));
        Ok(Secure {
            crypto: Arc::clone(&identity.crypto),
            endpoint: Endpoint::new(NOBODY, TransportProtocol::UDP, waiting),
            begins: begins.then_some(config),
            is_stranger,
            keys: None,
            is_over: false,
        })
    }

    /// Begins the handshake, when it is ours to begin. Again has no effect.
    pub(super) fn begin(&mut self, now: Instant) {
        if let Some(config) = self.begins.take() {
            // Without one the browser never hears of us, and the time for it runs out.
            let _ = self.endpoint.connect(now, NOBODY, config, None);
        }
    }

    /// Takes a datagram of DTLS.
    pub(super) fn take(&mut self, now: Instant, datagram: &[u8]) -> Option<News> {
        if self.is_over || self.begins.is_some() {
            return None;
        }
        let read = self.endpoint.read(now, NOBODY, None, datagram.into());
        if self.is_stranger.load(Ordering::Relaxed) {
            self.is_over = true;
            return Some(News::Stranger);
        }
        // Anybody can put garbage before an open association: it changes nothing.
        let mut news = None;
        for event in read.unwrap_or_default() {
            match event {
                EndpointEvent::HandshakeComplete => {
                    let state = self.endpoint.get_connection_state(NOBODY);
                    self.keys = state.and_then(|state| Keys::export(state, &self.crypto));
                    news = Some(if self.keys.is_some() { News::Open } else { News::Broken });
                }
                EndpointEvent::PeerClosed => {
                    self.is_over = true;
                    news = Some(News::Closed);
                }
                // We offered no data channels, so nothing that is said on one is for us.
                _ => {}
            }
        }
        news
    }

    /// Repeats what got lost.
    pub(super) fn tick(&mut self, now: Instant) -> Option<News> {
        if self.is_over || self.endpoint.poll_timeout(&NOBODY).is_none_or(|due| due > now) {
            return None;
        }
        let failed = self.endpoint.handle_timeout(NOBODY, now).is_err();
        failed.then_some(News::Broken)
    }

    /// When [`Secure::tick`] is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.endpoint.poll_timeout(&NOBODY).filter(|_| !self.is_over)
    }

    /// A datagram of ours to send.
    pub(super) fn poll(&mut self) -> Option<BytesMut> {
        self.endpoint.poll_transmit().map(|transmit| transmit.message)
    }

    /// Says goodbye: a close_notify, to be had from [`Secure::poll`].
    pub(super) fn close(&mut self, now: Instant) {
        if !self.is_over {
            self.is_over = true;
            // Whoever was never connected needs no goodbye.
            let _ = self.endpoint.close(now);
        }
    }

    /// Encrypts a packet; `None` before there are keys.
    pub(super) fn seal(&mut self, rtp: &[u8]) -> Option<BytesMut> {
        self.keys.as_mut()?.ours.encrypt_rtp(rtp).ok()
    }

    /// Decrypts a packet; `None` when it is forged, came before, or there are no keys yet.
    pub(super) fn open(&mut self, srtp: &[u8]) -> Option<BytesMut> {
        self.keys.as_mut()?.open(srtp, &self.crypto)
    }
}

/// The keys of both ways.
struct Keys {
    ours: Context,
    /// Theirs, for each of their sources. The library makes room for a source before it knows that a packet is genuine;
    /// so every source has a context of its own, and those for whom nothing spoke yet share one that is thrown away.
    theirs: Vec<(u32, Context)>,
    unproven: Context,
    forgeries: u32,
    config: SrtpConfig,
}

impl Keys {
    fn export(state: &State, crypto: &Arc<dyn RTCCryptoProvider>) -> Option<Keys> {
        let agreed = state.srtp_protection_profile();
        let (_, profile) = PROFILES.iter().find(|(dtls, _)| *dtls == agreed)?;
        let mut config = SrtpConfig { profile: *profile, ..SrtpConfig::default() };
        let material =
            state.export_keying_material(LABEL_EXTRACTOR_DTLS_SRTP, &[], config.keying_material_len()).ok()?;
        config.set_session_keys_from_keying_material(material.as_ref(), state.is_client()).ok()?;
        let (key, salt) = (&config.keys.local_master_key, &config.keys.local_master_salt);
        let ours = Context::new(key, salt, config.profile, None, None, crypto.crypto()).ok()?;
        let unproven = theirs(&config, crypto)?;
        Some(Keys { ours, theirs: Vec::new(), unproven, forgeries: 0, config })
    }

    fn open(&mut self, srtp: &[u8], crypto: &Arc<dyn RTCCryptoProvider>) -> Option<BytesMut> {
        let source = u32::from_be_bytes(*srtp.get(8..12)?.first_chunk()?);
        if let Some((_, context)) = self.theirs.iter_mut().find(|(known, _)| *known == source) {
            return context.decrypt_rtp(srtp).ok();
        }
        match self.unproven.decrypt_rtp(srtp) {
            Ok(rtp) => {
                let proven = std::mem::replace(&mut self.unproven, theirs(&self.config, crypto)?);
                if self.theirs.len() == WEBRTC_SOURCES_MAX {
                    // A browser has one, and another after it changed its microphone.
                    self.theirs.remove(0);
                }
                self.theirs.push((source, proven));
                Some(rtp)
            }
            Err(_) => {
                self.forgeries += 1;
                if self.forgeries.is_multiple_of(WEBRTC_FORGERIES_MAX) {
                    self.unproven = theirs(&self.config, crypto)?;
                }
                None
            }
        }
    }
}

fn theirs(config: &SrtpConfig, crypto: &Arc<dyn RTCCryptoProvider>) -> Option<Context> {
    let (key, salt) = (&config.keys.remote_master_key, &config.keys.remote_master_salt);
    let (rtp, rtcp) = (srtp_replay_protection(REPLAY_WINDOW), srtcp_replay_protection(REPLAY_WINDOW));
    Context::new(key, salt, config.profile, Some(rtp), Some(rtcp), crypto.crypto()).ok()
}

/// Most wanted first.
const PROFILES: [(SrtpProtectionProfile, ProtectionProfile); 3] = [
    (SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm, ProtectionProfile::AeadAes128Gcm),
    (SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm, ProtectionProfile::AeadAes256Gcm),
    (SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80, ProtectionProfile::Aes128CmHmacSha1_80),
];
/// RFC 3711 §3.3.2.
const REPLAY_WINDOW: usize = 64;
/// ICE knows where the other side is, so one name does for the library.
const NOBODY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 1);
