//! TLS on connections: our certificate, whose certificates we believe, and whom they name (RFC 5922).
//!
//! What was agreed when a connection was opened stays with it: new settings count for new connections.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::super::config::{ClientCertificates, SipTls, TlsError, TlsIdentity, Trust};

/// The settings in force. Clones share them.
#[derive(Clone)]
pub(in crate::sip) struct Tls(Arc<ArcSwap<Agreed>>);

struct Agreed {
    settings: SipTls,
    /// For TLS listeners. `None` without a certificate of ours.
    server: Option<Arc<ServerConfig>>,
    /// For WebSockets: browsers have no certificates.
    browsers: Option<Arc<ServerConfig>>,
    /// Made when it is first needed, since reading the system's roots takes a while.
    client: Mutex<Option<Arc<ClientConfig>>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Tls {
    pub(super) fn new(settings: SipTls) -> Result<Tls, TlsError> {
        Ok(Tls(Arc::new(ArcSwap::from_pointee(Agreed::new(settings)?))))
    }

    /// From now on new connections stand on these.
    pub(in crate::sip) fn reload(&self, settings: SipTls) -> Result<(), TlsError> {
        self.0.store(Arc::new(Agreed::new(settings)?));
        Ok(())
    }

    pub(super) fn server(&self) -> Option<Arc<ServerConfig>> {
        self.0.load().server.clone()
    }

    pub(super) fn browsers(&self) -> Option<Arc<ServerConfig>> {
        self.0.load().browsers.clone()
    }

    /// May read files: call it where waiting is allowed.
    pub(super) fn client(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let agreed = self.0.load();
        let mut made = agreed.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = made.as_ref() {
            return Ok(config.clone());
        }
        let config = Arc::new(client(&agreed.settings)?);
        *made = Some(config.clone());
        Ok(config)
    }
}

impl Agreed {
    fn new(settings: SipTls) -> Result<Agreed, TlsError> {
        let (mut server, mut browsers) = (None, None);
        if let Some(identity) = &settings.identity {
            server = Some(Arc::new(self::server(identity, settings.client_certificates, &settings)?));
            browsers = Some(Arc::new(self::server(identity, ClientCertificates::Off, &settings)?));
        }
        // Roots of our own are read at once, so that a mistake shows at once.
        if let Trust::Pem(pem) = &settings.trust {
            roots(pem)?;
        }
        Ok(Agreed { settings, server, browsers, client: Mutex::default() })
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn server(identity: &TlsIdentity, asks: ClientCertificates, settings: &SipTls) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Identity(error.to_string()))?;
    let builder = if asks == ClientCertificates::Off {
        builder.with_no_client_auth()
    } else {
        let pem = settings.client_ca.as_deref().ok_or(TlsError::NoClientCa)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(pem)?), provider());
        let verifier = match asks {
            ClientCertificates::Request => verifier.allow_unauthenticated(),
            ClientCertificates::Require | ClientCertificates::Off => verifier,
        };
        builder.with_client_cert_verifier(verifier.build().map_err(|error| TlsError::Roots(error.to_string()))?)
    };
    let (chain, key) = pair(identity)?;
    builder.with_single_cert(chain, key).map_err(|error| TlsError::Identity(error.to_string()))
}

fn client(settings: &SipTls) -> Result<ClientConfig, TlsError> {
    let roots = match &settings.trust {
        Trust::System => system_roots()?,
        Trust::Pem(pem) => roots(pem)?,
    };
    let verifier = Verifier { roots, provider: provider(), wildcards: settings.wildcards };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Identity(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    match &settings.identity {
        Some(identity) => {
            let (chain, key) = pair(identity)?;
            builder.with_client_auth_cert(chain, key).map_err(|error| TlsError::Identity(error.to_string()))
        }
        None => Ok(builder.with_no_client_auth()),
    }
}

fn pair(identity: &TlsIdentity) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&identity.certificate).collect();
    let chain = chain.map_err(|_| TlsError::Identity("the certificate is no PEM".to_owned()))?;
    if chain.is_empty() {
        return Err(TlsError::Identity("the file holds no certificate".to_owned()));
    }
    // Its own error could quote the key.
    let key = PrivateKeyDer::from_pem_slice(identity.key.reveal().as_bytes())
        .map_err(|_| TlsError::Identity("the key is no PEM private key".to_owned()))?;
    Ok((chain, key))
}

fn roots(pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| TlsError::Roots("the file is no PEM".to_owned()))?;
        store.add(certificate).map_err(|error| TlsError::Roots(error.to_string()))?;
    }
    if store.is_empty() { Err(TlsError::Roots("the file holds no certificate".to_owned())) } else { Ok(store) }
}

fn system_roots() -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    let (taken, _) = store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if taken == 0 { Err(TlsError::Roots("this system has no root certificates".to_owned())) } else { Ok(store) }
}

/// The host names that a certificate bears, in lower case: DNS names, and the hosts of its `sip:` URIs (RFC 5922 §7.1).
pub(super) fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let names = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        // A URI with a user names a person, not a domain.
        GeneralName::URI(uri) => {
            uri.strip_prefix("sip:").filter(|host| !host.contains('@')).map(str::to_ascii_lowercase)
        }
        _ => None,
    });
    names.take(NAMES_MAX).collect()
}

/// Believes what a root of ours signed and what bears the name that was dialled (RFC 5922 §4).
#[derive(Debug)]
struct Verifier {
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
    wildcards: bool,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        rustls::client::verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.roots,
            intermediates,
            now,
            algorithms,
        )?;
        let is_named = match server_name {
            ServerName::DnsName(name) => {
                let wanted = name.as_ref().trim_end_matches('.').to_ascii_lowercase();
                names(end_entity).iter().any(|name| bears(name, &wanted, self.wildcards))
            }
            ServerName::IpAddress(ip) => addresses(end_entity).contains(&IpAddr::from(*ip)),
            _ => false,
        };
        if is_named {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::InvalidCertificate(CertificateError::NotValidForName))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// RFC 5922 §7.2: `*` stands for itself, unless an admin allows it for one label, as the web does.
fn bears(name: &str, wanted: &str, wildcards: bool) -> bool {
    if name == wanted {
        return true;
    }
    let rest = name.strip_prefix("*.").filter(|_| wildcards);
    rest.is_some_and(|rest| rest.contains('.') && wanted.split_once('.').is_some_and(|(_, domain)| domain == rest))
}

fn addresses(certificate: &CertificateDer<'_>) -> Vec<IpAddr> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let addresses = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::IPAddress(octets) => match octets.len() {
            4 => <[u8; 4]>::try_from(*octets).ok().map(IpAddr::from),
            _ => <[u8; 16]>::try_from(*octets).ok().map(IpAddr::from),
        },
        _ => None,
    });
    addresses.collect()
}

/// Names of one certificate that are looked at. A hosting platform puts a hundred into one.
const NAMES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_borne_exactly_or_by_one_allowed_star() {
        assert!(bears("sbc.example", "sbc.example", false));
        assert!(!bears("*.example.com", "sbc.example.com", false));
        assert!(bears("*.example.com", "sbc.example.com", true));
        assert!(!bears("*.example.com", "a.sbc.example.com", true));
        assert!(!bears("*.example.com", "example.com", true));
        assert!(!bears("*.com", "example.com", true));
    }
}
