//! The certificates that SIP stands on, from the files that the configuration names.

use std::path::PathBuf;

use tracing::warn;

use super::house::House;
use super::start::StartError;
use crate::config::{self, ClientCertificates, Config};
use crate::sip::{self, SipTls, TlsIdentity, Trust};

/// Reads them anew.
pub(crate) fn read(config: &Config) -> Result<SipTls, StartError> {
    let named = &config.gateway.sip.certificates;
    let file = |path: &PathBuf| {
        std::fs::read(path).map_err(|error| StartError::new("SIP certificates", path.display(), error))
    };
    let identity = match (&named.certificate, &named.key) {
        (Some(certificate), Some(key)) => {
            let key = config::secret(&config.dir, key).map_err(|error| StartError::new("SIP key", "", error))?;
            Some(TlsIdentity { certificate: file(certificate)?, key })
        }
        // The check has told of one without the other.
        _ => None,
    };
    Ok(SipTls {
        identity,
        client_certificates: match named.client {
            ClientCertificates::Off => sip::ClientCertificates::Off,
            ClientCertificates::Request => sip::ClientCertificates::Request,
            ClientCertificates::Require => sip::ClientCertificates::Require,
        },
        client_ca: named.client_ca.as_ref().map(file).transpose()?,
        trust: match &named.trust {
            Some(path) => Trust::Pem(file(path)?),
            None => Trust::System,
        },
        wildcards: named.wildcards,
    })
}

/// Reads them again under open connections, which keep theirs. With a mistake in the new ones the old ones stay.
pub(super) fn renew(house: &House) {
    let renewed = read(&house.config())
        .and_then(|tls| house.sip.reload_tls(tls).map_err(|error| StartError::new("SIP certificates", "", error)));
    if let Err(error) = renewed {
        warn!(%error, "SIP keeps the certificates that it has");
    }
}
