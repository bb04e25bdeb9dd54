use crate::{Identity, IdentityError, Role, Validity, ca, provider};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// Reads the identity out of a certificate: its one SPIFFE URI, and for users role and project from the
/// subject.
pub(crate) fn identity(cert: &CertificateDer<'_>) -> Result<Identity, IdentityError> {
    let none = |seen: &str| IdentityError::NoIdentity { seen: seen.to_owned() };
    let (_, parsed) = X509Certificate::from_der(cert).map_err(|_| none("a malformed certificate"))?;
    let names = parsed.subject_alternative_name().map_err(|_| none("malformed alternative names"))?;
    let uris: Vec<&str> = names
        .iter()
        .flat_map(|ext| ext.value.general_names.iter())
        .filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None })
        .collect();
    let [uri] = uris.as_slice() else { return Err(none(&format!("{} URI names", uris.len()))) };
    let role = parsed
        .subject()
        .iter_organizational_unit()
        .next()
        .and_then(|ou| ou.as_str().ok())
        .and_then(|ou| ou.parse::<Role>().ok());
    let project = parsed
        .subject()
        .iter_organization()
        .next()
        .and_then(|o| o.as_str().ok())
        .unwrap_or_default()
        .to_owned();
    Identity::parse(uri, role, &project).map_err(|e| none(&e.seen))
}

/// When the certificate begins and ends to be good.
pub(crate) fn validity(cert: &CertificateDer<'_>) -> Result<Validity, IdentityError> {
    let malformed = || IdentityError::NoIdentity { seen: "a malformed certificate".to_owned() };
    let (_, parsed) = X509Certificate::from_der(cert).map_err(|_| malformed())?;
    let at = |seconds: i64| {
        u64::try_from(seconds).ok().and_then(|s| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(s)))
    };
    let validity = parsed.validity();
    Ok(Validity {
        from: at(validity.not_before.timestamp()).ok_or_else(malformed)?,
        until: at(validity.not_after.timestamp()).ok_or_else(malformed)?,
    })
}

/// DNS names and addresses in the certificate.
pub(crate) fn hosts(cert: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, parsed)) = X509Certificate::from_der(cert) else { return Vec::new() };
    let Ok(names) = parsed.subject_alternative_name() else { return Vec::new() };
    let host = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => address(bytes).map(|ip| ip.to_string()),
        _ => None,
    };
    names.iter().flat_map(|ext| ext.value.general_names.iter()).filter_map(host).collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// Which authority a client believes.
#[derive(Clone)]
pub(crate) enum Trust {
    /// The authorities in `ca.pem`.
    Roots(Arc<RootCertStore>),
    /// The authority with this SHA-256, which the server sends at the end of its chain. For a ramdisk or a
    /// joining rackd, which has only a kernel argument or a token to go by.
    Pin([u8; 32]),
}

/// Verifies a server by its SPIFFE id instead of its host name: addresses of racks change, identities do
/// not.
pub(crate) struct SpiffeVerifier {
    pub(crate) trust: Trust,
    pub(crate) expect: Box<dyn Fn(&Identity) -> bool + Send + Sync>,
}

impl std::fmt::Debug for SpiffeVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SpiffeVerifier")
    }
}

impl ServerCertVerifier for SpiffeVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let pinned;
        let roots = match &self.trust {
            Trust::Roots(roots) => roots.as_ref(),
            Trust::Pin(pin) => {
                let root = intermediates
                    .iter()
                    .find(|cert| ca::sha256(cert) == *pin)
                    .ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
                let mut store = RootCertStore::empty();
                store.add(root.clone().into_owned())?;
                pinned = store;
                &pinned
            }
        };
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            roots,
            intermediates,
            now,
            provider().signature_verification_algorithms.all,
        )?;
        let id = identity(end_entity)
            .map_err(|_| Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))?;
        if (self.expect)(&id) {
            Ok(ServerCertVerified::assertion())
        } else {
            tracing::warn!(seen = %id, "server has another identity than expected");
            Err(Error::InvalidCertificate(CertificateError::NotValidForName))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
