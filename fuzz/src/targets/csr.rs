//! PKCS#10 requests of joining rackds and of agents, and certificates' PEM files.

use farrier_identity::ca::{Authority, request_key_digest};
use farrier_identity::{Credentials, Identity};
use std::sync::LazyLock;
use std::time::Duration;

static CA: LazyLock<Authority> = LazyLock::new(|| Authority::generate("fuzz").unwrap().0);

pub fn run(data: &[u8]) {
    let digest = request_key_digest(data);
    let identity = Identity::Rack("r1".into());
    let signed = CA.sign_request(data, &identity, &["127.0.0.1".into()], Duration::from_secs(60));
    if let Ok(certificate) = signed {
        assert!(digest.is_ok() && !certificate.is_empty());
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = Credentials::from_pem(text, text, text);
        let _ = Identity::parse(text, None, "").map(|id| assert_eq!(id.to_string(), text));
    }
}
