//! TLS with devices that belong to nobody's trust domain: BMCs, with certificates of their own making.
//!
//! A device is known by the SHA-256 of its certificate, or by an authority and its name. There is no mode that takes
//! any certificate: whoever knows nothing yet learns what was seen, and no connection.

use crate::{IdentityError, ca, provider};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature, verify_tls13_signature_with_raw_key};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

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
    /// The one that is trusted, and its key proves nothing: RSA of so many bits.
    #[error("an RSA key of {0} bits, where {LEAST_BITS} are the least")]
    WeakKey(usize),
    /// TLS failed before or after that.
    #[error("{0}")]
    Tls(String),
}

/// Of an RSA key: shorter ones are within reach of those who want to be taken for the device.
const LEAST_BITS: usize = 2048;

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
    connected.map_err(|error| lock(&refused).take().unwrap_or_else(|| tls(&error)))
}

#[derive(Debug)]
struct DeviceVerifier {
    trust: DeviceTrust,
    /// Why it was refused.
    refused: Arc<Mutex<Option<DeviceError>>>,
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
            *lock(&self.refused) = Some(DeviceError::Certificate(seen));
        })?;
        if let Some(bits) = weak_key(end_entity) {
            *lock(&self.refused) = Some(DeviceError::WeakKey(bits));
            return Err(Error::General("the key is too short".to_owned()));
        }
        Ok(ServerCertVerified::assertion())
    }

    // The device has the key of the certificate: proven also for one that is pinned. Of that nothing else counts: many BMCs make
    // themselves certificates of X.509 version 1, which have no names and dates that anybody would believe.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self.trust {
            DeviceTrust::Pin(_) => verify_tls12_with_key(message, cert, dss),
            _ => verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        match self.trust {
            DeviceTrust::Pin(_) => {
                let key = SubjectPublicKeyInfoDer::from(key_of(cert)?.raw);
                verify_tls13_signature_with_raw_key(message, &key, dss, &algorithms)
            }
            _ => verify_tls13_signature(message, cert, dss, &algorithms),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// The public key of a certificate, of whatever version.
fn key_of<'a>(certificate: &'a CertificateDer<'_>) -> Result<SubjectPublicKeyInfo<'a>, Error> {
    let parsed = X509Certificate::from_der(certificate.as_ref());
    let (_, parsed) = parsed.map_err(|_| CertificateError::BadEncoding)?;
    Ok(parsed.tbs_certificate.subject_pki)
}

/// The length of a key that is too short to prove anything.
fn weak_key(certificate: &CertificateDer<'_>) -> Option<usize> {
    match key_of(certificate).ok()?.parsed().ok()? {
        PublicKey::RSA(key) => Some(key.key_size()).filter(|bits| *bits < LEAST_BITS),
        _ => None,
    }
}

/// As rustls does for a certificate that its own parser reads: TLS 1.2 leaves the curve of a key open (RFC 8446 §4.4.3 no more), so that
/// each algorithm of the scheme is tried. One for another kind of key does not verify.
fn verify_tls12_with_key(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let key = key_of(certificate)?;
    let known = provider().signature_verification_algorithms.mapping;
    let known = known.iter().filter(|(scheme, _)| *scheme == signed.scheme).flat_map(|(_, all)| all.iter());
    let mut verified =
        known.map(|one| one.verify_signature(&key.subject_public_key.data, message, signed.signature()));
    match verified.any(|tried| tried.is_ok()) {
        true => Ok(HandshakeSignatureValid::assertion()),
        false => Err(CertificateError::BadSignature.into()),
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
    use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
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

    /// openssl as a device with a certificate of X.509 version 1, which it makes where no extension is asked for, and a key of this
    /// kind: what a client with its pin gets, and what one with another pin does.
    async fn by_openssl(key: &[&str], version: &str) -> (Result<(), DeviceError>, Result<(), DeviceError>) {
        let dir = tempfile::tempdir().unwrap();
        let run = |args: &[&str]| {
            let done = std::process::Command::new("openssl").args(args).current_dir(dir.path()).output();
            let done = done.expect("openssl is missing: install the Debian package openssl");
            assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
        };
        let made = [
            "req",
            "-new",
            "-nodes",
            "-subj",
            "/CN=bmc",
            "-keyout",
            "key.pem",
            "-out",
            "asked.pem",
            "-newkey",
        ];
        run(&[&made[..], key].concat());
        run(&["x509", "-req", "-in", "asked.pem", "-signkey", "key.pem", "-out", "cert.pem"]);
        let pem = std::fs::read(dir.path().join("cert.pem")).unwrap();
        let certificate = CertificateDer::from_pem_slice(&pem).unwrap();
        assert!(ParsedCertificate::try_from(&certificate).is_err(), "it is of another version than 1");
        let pin = ca::sha256(&certificate);
        let mut device = tokio::process::Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-cert", "cert.pem", "-key", "key.pem", version])
            .args(["-cipher", "DEFAULT:@SECLEVEL=0"])
            .current_dir(dir.path())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut said = tokio::io::BufReader::new(device.stdout.take().unwrap()).lines();
        let at = loop {
            let line = said.next_line().await.unwrap().expect("openssl listens nowhere");
            if let Some(at) = line.strip_prefix("ACCEPT ") {
                break at.to_owned();
            }
        };
        let mut seen = Vec::new();
        for trust in [DeviceTrust::Pin(pin), DeviceTrust::Pin([7; 32])] {
            let stream = TcpStream::connect(&at).await.unwrap();
            seen.push(connect(stream, "bmc.example", &trust).await.map(drop));
        }
        device.kill().await.unwrap();
        let (wrong, right) = (seen.pop().unwrap(), seen.pop().unwrap());
        (right, wrong)
    }

    #[tokio::test]
    async fn a_certificate_of_version_1_is_as_good_as_its_pin_and_its_key() {
        let curve = |name| ["ec", "-pkeyopt", name];
        let (p256, p384) = (curve("ec_paramgen_curve:P-256"), curve("ec_paramgen_curve:P-384"));
        for key in [&["rsa:2048"][..], &p256, &p384] {
            for version in ["-tls1_2", "-tls1_3"] {
                let (right, wrong) = by_openssl(key, version).await;
                assert!(right.is_ok(), "{key:?} {version}: {right:?}");
                assert!(matches!(wrong, Err(DeviceError::Certificate(_))), "{key:?} {version}: {wrong:?}");
            }
        }
        let (weak, _) = by_openssl(&["rsa:1024"], "-tls1_2").await;
        assert!(matches!(weak, Err(DeviceError::WeakKey(1024))), "{weak:?}");
    }

    /// Whoever has copied a certificate has not its key.
    #[tokio::test]
    async fn a_device_that_has_not_the_key_of_its_certificate_is_no_device() {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let (own, copied) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
            let of = |key| rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(key).unwrap();
            let certificate = of(&copied).der().clone();
            let pin = ca::sha256(&certificate);
            for (key, is_it) in [(&copied, true), (&own, false)] {
                let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
                let private = provider().key_provider.load_private_key(private).unwrap();
                let shown = rustls::sign::CertifiedKey::new(vec![certificate.clone()], private);
                let config = rustls::ServerConfig::builder_with_provider(provider())
                    .with_protocol_versions(&[version])
                    .unwrap()
                    .with_no_client_auth()
                    .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(shown)));
                let acceptor = TlsAcceptor::from(Arc::new(config));
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
                let (there, _) = listener.accept().await.unwrap();
                let trust = DeviceTrust::Pin(pin);
                let (_, seen) = tokio::join!(acceptor.accept(there), connect(stream, "127.0.0.1", &trust));
                match seen {
                    Ok(_) => assert!(is_it, "{version:?}"),
                    Err(DeviceError::Tls(why)) => assert!(!is_it, "{version:?}: {why}"),
                    Err(other) => panic!("{other}"),
                }
            }
        }
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
