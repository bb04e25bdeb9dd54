//! https for whoever boots: a server's certificate, and no question who the client is. Firmware knows an authority, and has
//! no certificate of its own.

mod ffdhe;

use crate::{IdentityError, provider};
use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server};

/// Between two looks at the files, which are renewed weeks before they end.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// A certificate with its chain, and its key, from two PEM files that are read again when they change. Cheap to clone.
#[derive(Clone)]
pub struct WebCertificate(Arc<Inner>);

struct Inner {
    certificate: PathBuf,
    key: PathBuf,
    acceptor: ArcSwap<TlsAcceptor>,
    looked: Mutex<(Instant, Stamp)>,
}

/// When each file was written.
type Stamp = [Option<SystemTime>; 2];

impl WebCertificate {
    /// Reads both files. Fails rather than start without them.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, IdentityError> {
        let acceptor = read(certificate, key)?;
        Ok(Self(Arc::new(Inner {
            looked: Mutex::new((Instant::now(), stamp(certificate, key))),
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            acceptor: ArcSwap::from_pointee(acceptor),
        })))
    }

    /// The server's side of a handshake. Put a time limit around it.
    pub async fn accept(&self, stream: TcpStream) -> std::io::Result<server::TlsStream<TcpStream>> {
        self.refresh(Instant::now());
        let acceptor = self.0.acceptor.load_full();
        acceptor.accept(stream).await
    }

    /// Files that changed are read; those that are no good change nothing.
    fn refresh(&self, now: Instant) {
        let Inner { certificate, key, acceptor, looked } = &*self.0;
        let mut looked = looked.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(looked.0) < LOOK_EVERY {
            return;
        }
        let seen = stamp(certificate, key);
        let changed = std::mem::replace(&mut *looked, (now, seen)).1 != seen;
        drop(looked);
        if changed {
            match read(certificate, key) {
                Ok(new) => {
                    acceptor.store(Arc::new(new));
                    tracing::info!(certificate = %certificate.display(), "certificate reloaded");
                }
                Err(error) => {
                    let error = error.to_string();
                    tracing::error!(error, "new certificate refused, keeping the last good one");
                }
            }
        }
    }
}

impl std::fmt::Debug for WebCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WebCertificate({})", self.0.certificate.display())
    }
}

fn stamp(certificate: &Path, key: &Path) -> Stamp {
    [certificate, key].map(|path| std::fs::metadata(path).and_then(|m| m.modified()).ok())
}

fn read(certificate: &Path, key: &Path) -> Result<TlsAcceptor, IdentityError> {
    let pem = |path: &Path, expected| IdentityError::Pem { path: path.to_owned(), expected };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
    let chain = chain.map_err(|_| pem(certificate, "certificates"))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|_| pem(key, "a private key"))?;
    let provider = Arc::new(ffdhe::with_ffdhe(CryptoProvider::clone(&provider())));
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, private)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{DeviceError, DeviceTrust, connect};
    use tokio::net::TcpListener;

    fn write(dir: &Path, host: &str) -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let made = rcgen::CertificateParams::new(vec![host.to_owned()]).unwrap().self_signed(&key).unwrap();
        std::fs::write(dir.join("cert.pem"), made.pem()).unwrap();
        std::fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
        made.pem()
    }

    async fn is_trusted(web: &WebCertificate, authority: &str) -> bool {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (there, _) = listener.accept().await.unwrap();
        let trust = DeviceTrust::authorities(authority).unwrap();
        let (_, connected) = tokio::join!(web.accept(there), connect(stream, "boot.example", &trust));
        assert!(matches!(connected, Ok(_) | Err(DeviceError::Certificate(_))));
        connected.is_ok()
    }

    #[tokio::test]
    async fn a_renewed_certificate_is_used_and_a_broken_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        assert!(WebCertificate::load(&certificate, &key).is_err(), "there is none");
        let first = write(dir.path(), "boot.example");
        let web = WebCertificate::load(&certificate, &key).unwrap();
        assert!(is_trusted(&web, &first).await);
        let second = write(dir.path(), "boot.example");
        let later = |n: u32| Instant::now() + LOOK_EVERY * n;
        std::fs::File::options()
            .append(true)
            .open(&key)
            .unwrap()
            .set_modified(SystemTime::UNIX_EPOCH)
            .unwrap();
        web.refresh(later(2));
        assert!(is_trusted(&web, &second).await && !is_trusted(&web, &first).await);
        std::fs::write(&key, "no key").unwrap();
        web.refresh(later(4));
        assert!(is_trusted(&web, &second).await, "the last good one");
    }
    /// What openssl says of a session with a certificate of RSA, as firmware without elliptic curves needs one.
    async fn openssl(dir: &Path, web: &WebCertificate, more: &[&str]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap().to_string();
        let mut client = tokio::process::Command::new("openssl");
        client
            .args(["s_client", "-connect", &at, "-verify_return_error", "-CAfile"])
            .arg(dir.join("cert.pem"));
        client.args(more).stdin(std::process::Stdio::null()).kill_on_drop(true);
        let web = web.clone();
        let serving = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = web.accept(stream).await else { return };
            let _ = tokio::io::AsyncWriteExt::shutdown(&mut stream).await;
        });
        let output = client.output().await.expect("openssl is missing: install the Debian package openssl");
        serving.abort();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    #[tokio::test]
    async fn openssl_without_elliptic_curves_agrees_on_a_key_and_with_them_as_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let (certificate, key) = (path("cert.pem"), path("key.pem"));
        let made = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=boot", "-days", "9"];
        let mut openssl_req = std::process::Command::new("openssl");
        openssl_req.args(made).args(["-keyout", &key, "-out", &certificate]);
        assert!(openssl_req.output().unwrap().status.success());
        let web = WebCertificate::load(Path::new(&certificate), Path::new(&key)).unwrap();
        for (asks, says) in [
            (
                &["-tls1_2", "-cipher", "DHE-RSA-AES256-GCM-SHA384"][..],
                &["DHE-RSA-AES256-GCM-SHA384", "DH, 2048"][..],
            ),
            (
                &["-tls1_2", "-cipher", "DHE-RSA-AES128-GCM-SHA256"],
                &["DHE-RSA-AES128-GCM-SHA256", "DH, 2048"],
            ),
            (&["-tls1_3", "-groups", "ffdhe2048"], &["TLSv1.3", "DH, 2048"]),
            (&["-tls1_2"], &["ECDHE-RSA", "X25519"]),
            (&["-tls1_3"], &["TLSv1.3", "X25519"]),
        ] {
            let said = openssl(dir.path(), &web, asks).await;
            assert!(
                says.iter().chain(&["Verification: OK"]).all(|word| said.contains(word)),
                "{asks:?}: {said}"
            );
        }
        // Keys that are not agreed on anew each time stay out.
        let said = openssl(dir.path(), &web, &["-tls1_2", "-cipher", "AES256-GCM-SHA384"]).await;
        assert!(said.contains("handshake failure"), "{said}");
    }
}
