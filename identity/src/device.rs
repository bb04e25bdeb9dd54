//! TLS with devices that belong to nobody's trust domain: BMCs, with certificates of their own making.
//!
//! A device is known by the SHA-256 of its certificate, or by an authority and its name. There is no mode that takes
//! any certificate: whoever knows nothing yet learns what was seen, and no connection.

use crate::{IdentityError, ca, provider};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// What makes a device the one that is meant.
#[derive(Debug, Clone)]
pub enum DeviceTrust {
    /// Its certificate has this SHA-256; names and dates in it mean nothing.
    Pin([u8; 32]),
    /// Its certificate is signed by one of these, is within its dates, and has the name.
    Authorities(Vec<CertificateDer<'static>>),
    /// Nothing does.
    Nothing,
}

/// Why a device is not connected to.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// Not the certificate that is trusted; its SHA-256.
    #[error("the certificate is not the one that is trusted")]
    Certificate([u8; 32]),
    /// TLS failed before or after that.
    #[error("{0}")]
    Tls(String),
}

impl DeviceTrust {
    /// From PEM, with at least one certificate that can be an authority.
    pub fn authorities(pem: &str) -> Result<Self, IdentityError> {
        let bad = || IdentityError::Pem { path: "authorities".into(), expected: "certificates" };
        let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        let list = list.map_err(|_| bad())?;
        let mut store = RootCertStore::empty();
        for certificate in &list {
            store.add(certificate.clone())?;
        }
        if list.is_empty() { Err(bad()) } else { Ok(Self::Authorities(list)) }
    }
}

/// TLS over a connection to the device `name` (a DNS name or an address), proven before this returns.
pub async fn connect(
    stream: TcpStream,
    name: &str,
    trust: &DeviceTrust,
) -> Result<client::TlsStream<TcpStream>, DeviceError> {
    let tls = |error: &dyn std::fmt::Display| DeviceError::Tls(error.to_string());
    let name = ServerName::try_from(name.to_owned()).map_err(|error| tls(&error))?;
    let refused = Arc::default();
    let verifier = DeviceVerifier { trust: trust.clone(), refused: Arc::clone(&refused) };
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| tls(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    // What would be resumed ends with this one connection: the place kept for it would be half of what the connection costs.
    config.resumption = Resumption::disabled();
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    connected.map_err(|error| match *lock(&refused) {
        Some(seen) => DeviceError::Certificate(seen),
        None => tls(&error),
    })
}

#[derive(Debug)]
struct DeviceVerifier {
    trust: DeviceTrust,
    /// What was refused.
    refused: Arc<Mutex<Option<[u8; 32]>>>,
}

impl DeviceVerifier {
    fn check(
        &self,
        seen: [u8; 32],
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let unknown = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        match &self.trust {
            DeviceTrust::Pin(pin) if *pin == seen => Ok(()),
            DeviceTrust::Pin(_) | DeviceTrust::Nothing => Err(unknown),
            DeviceTrust::Authorities(list) => {
                let mut roots = RootCertStore::empty();
                for authority in list {
                    roots.add(authority.clone())?;
                }
                let parsed = ParsedCertificate::try_from(end_entity)?;
                let algorithms = provider().signature_verification_algorithms.all;
                verify_server_cert_signed_by_trust_anchor(&parsed, &roots, intermediates, now, algorithms)?;
                verify_server_name(&parsed, name)
            }
        }
    }
}

impl ServerCertVerifier for DeviceVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let seen = ca::sha256(end_entity);
        self.check(seen, end_entity, intermediates, server_name, now).inspect_err(|_| {
            *lock(&self.refused) = Some(seen);
        })?;
        Ok(ServerCertVerified::assertion())
    }

    // The device has the key of the certificate: proven also for one that is pinned.
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

/// A device's own certificate, as a BMC makes one for itself: for simulators.
#[derive(Clone)]
pub struct SelfSigned {
    cert_pem: String,
    cert_der: CertificateDer<'static>,
    acceptor: TlsAcceptor,
}

impl SelfSigned {
    /// A new one, for these names and addresses.
    pub fn generate(hosts: &[String]) -> Result<Self, IdentityError> {
        let key = rcgen::KeyPair::generate()?;
        let certificate = rcgen::CertificateParams::new(hosts.to_vec())?.self_signed(&key)?;
        let cert_der = certificate.der().clone();
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![cert_der.clone()], private)?;
        // Nothing is resumed: the place kept for it would be most of what a simulated BMC costs.
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { cert_pem: certificate.pem(), cert_der, acceptor: TlsAcceptor::from(Arc::new(config)) })
    }

    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// SHA-256 of the certificate.
    pub fn fingerprint(&self) -> [u8; 32] {
        ca::sha256(&self.cert_der)
    }

    /// The device's side of a handshake. Put a time limit around it.
    pub async fn accept<S>(&self, stream: S) -> std::io::Result<server::TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.acceptor.accept(stream).await
    }
}

impl std::fmt::Debug for SelfSigned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SelfSigned")
    }
}

/// One assignment is all that happens under it.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// One connection to a device with this certificate; what it says after the handshake.
    async fn talk(device: &SelfSigned, name: &str, trust: &DeviceTrust) -> Result<String, DeviceError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (there, _) = listener.accept().await.unwrap();
        let device = async {
            let mut stream = device.accept(there).await?;
            stream.write_all(b"hello").await?;
            stream.shutdown().await
        };
        let console = async {
            let mut stream = connect(stream, name, trust).await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            Ok(text)
        };
        let (_, told) = tokio::join!(device, console);
        told
    }

    #[tokio::test]
    async fn a_device_is_known_by_its_certificate_or_its_authority_and_by_nothing_else() {
        let device = SelfSigned::generate(&["127.0.0.1".to_owned()]).unwrap();
        let other = SelfSigned::generate(&["127.0.0.1".to_owned()]).unwrap();
        let by_authority = |device: &SelfSigned| DeviceTrust::authorities(device.cert_pem()).unwrap();
        for trust in [DeviceTrust::Pin(device.fingerprint()), by_authority(&device)] {
            assert_eq!(talk(&device, "127.0.0.1", &trust).await.unwrap(), "hello");
        }
        for trust in [DeviceTrust::Pin(other.fingerprint()), by_authority(&other), DeviceTrust::Nothing] {
            match talk(&device, "127.0.0.1", &trust).await {
                Err(DeviceError::Certificate(seen)) => assert_eq!(seen, device.fingerprint()),
                other => panic!("{other:?}"),
            }
        }
        // A pin asks for no name; an authority does.
        let pin = DeviceTrust::Pin(device.fingerprint());
        assert_eq!(talk(&device, "bmc.example", &pin).await.unwrap(), "hello");
        let wrong_name = talk(&device, "bmc.example", &by_authority(&device)).await;
        assert!(matches!(wrong_name, Err(DeviceError::Certificate(_))), "{wrong_name:?}");
    }

    #[tokio::test]
    async fn a_device_that_speaks_no_tls_is_told_from_one_with_another_certificate() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut there, _) = listener.accept().await.unwrap();
        there.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let answer = connect(stream, "127.0.0.1", &DeviceTrust::Nothing).await;
        assert!(matches!(answer, Err(DeviceError::Tls(_))), "{answer:?}");
    }

    #[test]
    fn authorities_are_certificates() {
        for bad in ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(DeviceTrust::authorities(bad).is_err(), "{bad}");
        }
    }
}
