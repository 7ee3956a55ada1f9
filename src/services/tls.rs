//! Which cryptography TLS stands on: one provider for the whole process.

/// Makes `ring` the process's provider. Calling it again changes nothing; a provider that the binary chose stays.
pub fn install() {
    // The error says that somebody was faster, which is what we want to know is true.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
