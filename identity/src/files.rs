use crate::{Identity, IdentityError, provider, verify};
use arc_swap::ArcSwap;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

/// How often the files are looked at for a new generation. Rotation happens hours before expiry, so a
/// few seconds cost nothing and need no file-watch descriptors.
const RELOAD_EVERY: Duration = Duration::from_secs(5);

/// A certificate, its key and the authorities it trusts, read from a directory (`cert.pem`, `key.pem`,
/// `ca.pem`) and read again when the files change. Cheap to clone.
#[derive(Clone)]
pub struct Credentials {
    current: Arc<ArcSwap<Loaded>>,
    dir: Option<PathBuf>,
    generation: Arc<watch::Sender<u64>>,
}

/// When a certificate is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    pub from: SystemTime,
    pub until: SystemTime,
}

/// One good generation of the files.
pub(crate) struct Loaded {
    pub(crate) identity: Identity,
    validity: Validity,
    hosts: Vec<String>,
    pub(crate) roots: Arc<RootCertStore>,
    pub(crate) server_required: Arc<rustls::ServerConfig>,
    pub(crate) server_optional: Arc<rustls::ServerConfig>,
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: Arc<PrivateKeyDer<'static>>,
    stamp: Vec<Option<SystemTime>>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({})", self.identity())
    }
}

impl Credentials {
    /// Reads `dir`. Fails rather than start without an identity.
    pub fn load(dir: &Path) -> Result<Self, IdentityError> {
        let loaded = read_dir(dir)?;
        Ok(Self {
            current: Arc::new(ArcSwap::from_pointee(loaded)),
            dir: Some(dir.to_owned()),
            generation: Arc::new(watch::channel(0).0),
        })
    }

    /// From PEM texts that are not in files (tests, the agent's server side of rackd).
    pub fn from_pem(cert_pem: &str, key_pem: &str, ca_pem: &str) -> Result<Self, IdentityError> {
        let here = Path::new("memory");
        let loaded = build(here, cert_pem.as_bytes(), key_pem.as_bytes(), ca_pem.as_bytes(), Vec::new())?;
        Ok(Self {
            current: Arc::new(ArcSwap::from_pointee(loaded)),
            dir: None,
            generation: Arc::new(watch::channel(0).0),
        })
    }

    /// Who these credentials speak for.
    pub fn identity(&self) -> Identity {
        self.current.load().identity.clone()
    }

    /// When the certificate begins and ends.
    pub fn validity(&self) -> Validity {
        self.current.load().validity
    }

    /// DNS names and addresses in the certificate.
    pub fn hosts(&self) -> Vec<String> {
        self.current.load().hosts.clone()
    }

    pub(crate) fn loaded(&self) -> Arc<Loaded> {
        self.current.load_full()
    }

    /// Looks at the files once; swaps them in when they changed and are good. Returns whether they were
    /// swapped. On an error the last good generation stays.
    pub fn reload(&self) -> Result<bool, IdentityError> {
        let Some(dir) = &self.dir else { return Ok(false) };
        if stamp(dir) == self.current.load().stamp {
            return Ok(false);
        }
        let loaded = read_dir(dir)?;
        self.current.store(Arc::new(loaded));
        self.generation.send_modify(|g| *g += 1);
        Ok(true)
    }

    /// Number of reloads so far; a caller can wait for the next.
    pub fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Reloads for ever. A bad file is reported once per change and changes nothing. Cancel-safe.
    pub async fn watch(self) {
        let mut reported = String::new();
        loop {
            tokio::time::sleep(RELOAD_EVERY).await;
            match self.reload() {
                Ok(true) => {
                    reported.clear();
                    tracing::info!(identity = %self.identity(), "certificate reloaded");
                }
                Ok(false) => reported.clear(),
                Err(error) => {
                    let text = error.to_string();
                    if text != reported {
                        tracing::error!(error = %text, "new certificate refused, keeping the last good one");
                        reported = text;
                    }
                }
            }
        }
    }
}

fn stamp(dir: &Path) -> Vec<Option<SystemTime>> {
    ["cert.pem", "key.pem", "ca.pem"]
        .iter()
        .map(|name| std::fs::metadata(dir.join(name)).and_then(|m| m.modified()).ok())
        .collect()
}

fn read_dir(dir: &Path) -> Result<Loaded, IdentityError> {
    let read = |name: &str| {
        let path = dir.join(name);
        std::fs::read(&path).map_err(|source| IdentityError::Read { path, source })
    };
    // The stamp is taken first: a file that changes while it is read is read again next time.
    let stamp = stamp(dir);
    build(dir, &read("cert.pem")?, &read("key.pem")?, &read("ca.pem")?, stamp)
}

fn build(
    dir: &Path,
    cert: &[u8],
    key: &[u8],
    ca: &[u8],
    stamp: Vec<Option<SystemTime>>,
) -> Result<Loaded, IdentityError> {
    let chain = certificates(&dir.join("cert.pem"), cert)?;
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| IdentityError::Pem { path: dir.join("key.pem"), expected: "private key" })?;
    let mut roots = RootCertStore::empty();
    for root in certificates(&dir.join("ca.pem"), ca)? {
        roots.add(root)?;
    }
    let roots = Arc::new(roots);
    let leaf = chain
        .first()
        .ok_or_else(|| IdentityError::Pem { path: dir.join("cert.pem"), expected: "certificate" })?;
    let identity = verify::identity(leaf)?;
    let (validity, hosts) = (verify::validity(leaf)?, verify::hosts(leaf));

    let server = |optional: bool| -> Result<Arc<rustls::ServerConfig>, IdentityError> {
        let builder = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider());
        let builder = if optional { builder.allow_unauthenticated() } else { builder };
        let verifier = builder.build().map_err(|e| IdentityError::Verifier(Box::new(e)))?;
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    };
    Ok(Loaded {
        identity,
        validity,
        hosts,
        server_required: server(false)?,
        server_optional: server(true)?,
        roots,
        chain,
        key: Arc::new(key),
        stamp,
    })
}

pub(crate) fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let bad = || IdentityError::Pem { path: path.to_owned(), expected: "certificate" };
    let certs: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| bad())?;
    if certs.is_empty() { Err(bad()) } else { Ok(certs) }
}
