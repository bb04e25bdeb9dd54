use std::path::PathBuf;

/// Why an identity could not be loaded, made or believed.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("cannot read {path}: expected a PEM file; check that it exists and that this user may read it")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot write {path}")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("{path} holds no usable {expected}")]
    Pem { path: PathBuf, expected: &'static str },
    #[error(
        "{path} exists already: remove it first if a new authority is really wanted, every certificate it issued becomes useless"
    )]
    Exists { path: PathBuf },
    #[error("cannot make a certificate")]
    Issue(#[from] rcgen::Error),
    #[error("TLS refused the certificate or key")]
    Tls(#[from] rustls::Error),
    #[error("the certificate request is malformed or not signed by its own key")]
    BadRequest,
    #[error(
        "the certificate names no Farrier identity: expected one URI such as spiffe://farrier/rack/r1, saw {seen}"
    )]
    NoIdentity { seen: String },
    #[error("expected 64 hexadecimal digits (a SHA-256), saw {len} characters")]
    BadPin { len: usize },
    #[error("cannot verify client certificates")]
    Verifier(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("{uri} is not an address: expected https://host:port")]
    BadUri { uri: String },
}
