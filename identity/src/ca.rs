//! The embedded certificate authority of a small installation: two files, `ca.pem` and `ca.key`.

use crate::{Identity, IdentityError};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;
use time::OffsetDateTime;

/// Clock skew tolerated at the start of a certificate's validity.
const SKEW: Duration = Duration::from_secs(300);

/// An authority that can issue.
pub struct Authority {
    cert_pem: String,
    cert_der: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its private key, PEM.
pub struct Issued {
    pub cert_pem: String,
    pub key_pem: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

impl Authority {
    /// Makes an authority that nobody else trusts yet, valid for ten years.
    pub fn generate(common_name: &str) -> Result<(Self, Issued), IdentityError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        valid_for(&mut params, Duration::from_secs(3650 * 86_400));
        let cert = params.self_signed(&key)?;
        let issued = Issued { cert_pem: cert.pem(), key_pem: key.serialize_pem() };
        Ok((Self::from_pem(&issued.cert_pem, &issued.key_pem)?, issued))
    }

    /// Makes an authority in `dir`, refusing to replace one that is there.
    pub fn init(dir: &Path, common_name: &str) -> Result<Self, IdentityError> {
        let cert_path = dir.join("ca.pem");
        let key_path = dir.join("ca.key");
        for path in [&cert_path, &key_path] {
            if path.exists() {
                return Err(IdentityError::Exists { path: path.clone() });
            }
        }
        let (authority, issued) = Self::generate(common_name)?;
        std::fs::create_dir_all(dir).map_err(|source| IdentityError::Write { path: dir.into(), source })?;
        write_private(&key_path, issued.key_pem.as_bytes())?;
        write_public(&cert_path, issued.cert_pem.as_bytes())?;
        Ok(authority)
    }

    /// Loads the authority in `dir`.
    pub fn load(dir: &Path) -> Result<Self, IdentityError> {
        let read = |name: &str| {
            let path = dir.join(name);
            std::fs::read_to_string(&path).map_err(|source| IdentityError::Read { path, source })
        };
        Self::from_pem(&read("ca.pem")?, &read("ca.key")?)
    }

    fn from_pem(cert_pem: &str, key_pem: &str) -> Result<Self, IdentityError> {
        let key = KeyPair::from_pem(key_pem)?;
        let issuer = Issuer::from_ca_cert_pem(cert_pem, key)?;
        let cert_der = crate::files::certificates(Path::new("ca.pem"), cert_pem.as_bytes())?
            .into_iter()
            .next()
            .map(|c| c.to_vec())
            .ok_or(IdentityError::Pem { path: "ca.pem".into(), expected: "certificate" })?;
        Ok(Self { cert_pem: cert_pem.to_owned(), cert_der, issuer })
    }

    /// The authority's own certificate, PEM.
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// The authority's own certificate, DER.
    pub fn cert_der(&self) -> &[u8] {
        &self.cert_der
    }

    /// Makes a key and a certificate for `identity`, reachable under `hosts` (DNS names or addresses).
    pub fn issue(
        &self,
        identity: &Identity,
        hosts: &[String],
        valid: Duration,
    ) -> Result<Issued, IdentityError> {
        self.sign(leaf(identity, hosts, valid)?)
    }

    /// The same without hosts, good from when the authority itself is: for clients whose clocks may be behind ours by more than
    /// [`SKEW`], and which trust this authority alone.
    pub fn issue_backdated(&self, identity: &Identity, valid: Duration) -> Result<Issued, IdentityError> {
        let mut params = leaf(identity, &[], valid)?;
        let began = crate::verify::validity(&self.cert_der.as_slice().into())?.from;
        params.not_before = params.not_before.min(began.into());
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> Result<Issued, IdentityError> {
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?;
        Ok(Issued { cert_pem: cert.pem() + &self.cert_pem, key_pem: key.serialize_pem() })
    }

    /// Signs a PKCS#10 request (DER). Names and usages in the request are ignored: the caller decides
    /// who it is. Returns the certificate, DER.
    pub fn sign_request(
        &self,
        csr_der: &[u8],
        identity: &Identity,
        hosts: &[String],
        valid: Duration,
    ) -> Result<Vec<u8>, IdentityError> {
        if csr_der.len() > 16 * 1024 {
            return Err(IdentityError::BadRequest);
        }
        let csr = CertificateSigningRequestParams::from_der(&csr_der.to_vec().into())
            .map_err(|_| IdentityError::BadRequest)?;
        let mut request = csr;
        request.params = leaf(identity, hosts, valid)?;
        Ok(request.signed_by(&self.issuer)?.der().to_vec())
    }
}

/// SHA-256 of the public key in a certificate request: the same key asking again is the same asker.
pub fn request_key_digest(csr_der: &[u8]) -> Result<[u8; 32], IdentityError> {
    let csr = CertificateSigningRequestParams::from_der(&csr_der.to_vec().into())
        .map_err(|_| IdentityError::BadRequest)?;
    Ok(sha256(csr.public_key.der_bytes()))
}

/// Writes a service's identity directory: `cert.pem`, `key.pem`, `ca.pem`.
pub fn write_identity(dir: &Path, issued: &Issued, ca_pem: &str) -> Result<(), IdentityError> {
    std::fs::create_dir_all(dir).map_err(|source| IdentityError::Write { path: dir.into(), source })?;
    write_private(&dir.join("key.pem"), issued.key_pem.as_bytes())?;
    write_public(&dir.join("ca.pem"), ca_pem.as_bytes())?;
    write_public(&dir.join("cert.pem"), issued.cert_pem.as_bytes())
}

/// Makes a key and a PKCS#10 request (DER) for a joiner. Returns (key PEM, request DER).
pub fn new_request() -> Result<(String, Vec<u8>), IdentityError> {
    let key = KeyPair::generate()?;
    let params = CertificateParams::new(Vec::<String>::new())?;
    Ok((key.serialize_pem(), params.serialize_request(&key)?.der().to_vec()))
}

/// A DER certificate as PEM.
pub fn to_pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in body.as_bytes().chunks(64) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let mut out = [0u8; 32];
    out.copy_from_slice(digest.as_ref());
    out
}

fn leaf(identity: &Identity, hosts: &[String], valid: Duration) -> Result<CertificateParams, IdentityError> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name = DistinguishedName::new();
    let name = match identity {
        Identity::Service(n) | Identity::Rack(n) | Identity::Node(n) => n,
        Identity::User { name, role, project } => {
            params.distinguished_name.push(DnType::OrganizationalUnitName, role.as_str());
            params.distinguished_name.push(DnType::OrganizationName, project.as_str());
            name
        }
    };
    params.distinguished_name.push(DnType::CommonName, name.as_str());
    params.subject_alt_names.push(SanType::URI(identity.to_string().try_into()?));
    for host in hosts {
        params.subject_alt_names.push(match host.parse::<IpAddr>() {
            Ok(ip) => SanType::IpAddress(ip),
            Err(_) => SanType::DnsName(host.as_str().try_into()?),
        });
    }
    params.is_ca = IsCa::NoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    // Users never serve; everything else may.
    if !matches!(identity, Identity::User { .. } | Identity::Node(_)) {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    valid_for(&mut params, valid);
    Ok(params)
}

fn valid_for(params: &mut CertificateParams, valid: Duration) {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - SKEW;
    params.not_after = now + valid;
}

/// A secret: its owner's alone.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), IdentityError> {
    write_whole(path, bytes, 0o600)
}

pub(crate) fn write_public(path: &Path, bytes: &[u8]) -> Result<(), IdentityError> {
    write_whole(path, bytes, 0o644)
}

/// All of it or nothing, also where the power fails: a rename alone may be on disk before what the file holds (XFS, and ext4 where
/// the name is new), and a rack with an empty certificate starts no more.
fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<(), IdentityError> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let written = || {
        let new = path.with_extension("new");
        let mut file =
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        // The name is on disk with its directory.
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        std::fs::File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    };
    written().map_err(|source| IdentityError::Write { path: path.into(), source })
}
