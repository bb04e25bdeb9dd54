//! How a new rackd gets its identity, and how racks and services keep theirs.

use super::resource::event;
use super::{App, check, error};
use farrier_identity::agent::PinnedCa;
use farrier_identity::ca::{Authority, request_key_digest, to_pem};
use farrier_identity::{Identity, IdentityError};
use farrier_inventory_store::{JoinToken as StoredToken, Redeemed};
use farrier_model::{Collection, is_label, parse_name};
use farrier_proto::inventory::{
    CreateJoinTokenRequest, JoinRequest, JoinResponse, JoinToken, Rack, RenewCertificateRequest,
};
use farrier_runtime::authz::Caller;
use farrier_runtime::error::{Reason, internal, invalid, refuse};
use farrier_runtime::telemetry::chain;
use farrier_runtime::time;
use sha2::{Digest as _, Sha256};
use std::time::Duration;
use tonic::{Code, Status};
use uuid::Uuid;

/// First word of a token: a person who finds one knows what it is.
const PREFIX: &str = "farrier-join";
const DEFAULT_VALID_SECONDS: i32 = 3600;
const MAX_VALID_SECONDS: i32 = 7 * 86_400;
/// Racks and services renew long before; a rack that the centre cannot reach for weeks still works.
const CERTIFICATE_VALID: Duration = Duration::from_secs(30 * 86_400);
/// Names and addresses in one certificate.
const HOSTS: usize = 16;
/// Longest certificate request, in bytes.
const CSR: usize = 16 * 1024;

impl App {
    pub(crate) async fn create_join_token(
        &self,
        caller: &Caller,
        request: &CreateJoinTokenRequest,
    ) -> Result<JoinToken, Status> {
        let authority = self.authority()?;
        let rack = parse_name(Collection::Racks, &request.rack).map_err(|e| invalid("rack", e))?;
        let seconds = match request.valid_seconds {
            0 => DEFAULT_VALID_SECONDS,
            seconds @ 1..=MAX_VALID_SECONDS => seconds,
            _ => {
                return Err(invalid("valid_seconds", format!("expected 0 (an hour) to {MAX_VALID_SECONDS}")));
            }
        };
        // Two random UUIDs: 244 bits from the system's generator.
        let secret = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let token = format!("{PREFIX}.{rack}.{secret}.{}", PinnedCa::of(authority.cert_der()).to_hex());
        let expires_ms = time::now_ms().saturating_add(i64::from(seconds) * 1000);
        let stored = StoredToken { digest: digest(&token), rack: request.rack.clone(), expires_ms };
        self.store
            .create_join_token(stored, event(caller, &request.rack, "create join token"))
            .await
            .map_err(error::store)?;
        Ok(JoinToken { token, expire_time: Some(time::timestamp(expires_ms)) })
    }

    pub(crate) async fn join(&self, request: &JoinRequest) -> Result<JoinResponse, Status> {
        let authority = self.authority()?;
        let unknown = || refused(Reason::TokenUnknown, "the token is not known here: make a new one");
        if !is_token(&request.token) {
            return Err(unknown());
        }
        check_hosts(&request.hosts)?;
        // The request is read first: one that is malformed does not use the token up.
        let key = key_digest(&request.csr_der)?;
        let joined = |rack: &str| {
            let id = parse_name(Collection::Racks, rack).unwrap_or_default();
            event(&Caller::with(Identity::Rack(id.to_owned())), rack, "join")
        };
        let redeemed = self
            .store
            .redeem_join_token(&digest(&request.token), &key, time::now_ms(), joined)
            .await
            .map_err(error::store)?;
        let rack = match redeemed {
            Redeemed::Rack(rack) => rack,
            Redeemed::Unknown => return Err(unknown()),
            Redeemed::Used => {
                return Err(refused(
                    Reason::TokenUsed,
                    "the token was used already, with another key: make a new one. `rackd join` makes a key each time it runs; if it \
                     did not run here before, find out who joined: `farrier event list`",
                ));
            }
            Redeemed::Expired => {
                return Err(refused(Reason::TokenExpired, "the token is too old: make a new one"));
            }
        };
        let id = parse_name(Collection::Racks, &rack).map_err(internal)?;
        certify(authority, &Identity::Rack(id.to_owned()), &request.csr_der, &request.hosts)
    }

    pub(crate) async fn renew(
        &self,
        caller: &Caller,
        request: &RenewCertificateRequest,
    ) -> Result<JoinResponse, Status> {
        let authority = self.authority()?;
        let identity = match caller.identity() {
            Some(identity @ Identity::Service(_)) => identity,
            Some(identity @ Identity::Rack(id)) => {
                // A rack that was deleted is not a rack any more.
                let name = Collection::Racks.name(id);
                self.store.get::<Rack>(&name).await.map_err(error::store)?;
                identity
            }
            _ => {
                return Err(refuse(
                    Code::PermissionDenied,
                    Reason::NotAllowed,
                    "only racks and services renew here",
                ));
            }
        };
        check_hosts(&request.hosts)?;
        key_digest(&request.csr_der)?;
        certify(authority, identity, &request.csr_der, &request.hosts)
    }

    fn authority(&self) -> Result<&Authority, Status> {
        self.authority.as_deref().ok_or_else(|| {
            refuse(
                Code::FailedPrecondition,
                Reason::NoAuthority,
                "this installation has no embedded authority: certificates come from its external PKI",
            )
        })
    }
}

fn certify(
    authority: &Authority,
    identity: &Identity,
    csr: &[u8],
    hosts: &[String],
) -> Result<JoinResponse, Status> {
    let certificate =
        authority.sign_request(csr, identity, hosts, CERTIFICATE_VALID).map_err(|e| match e {
            IdentityError::BadRequest => bad_csr(),
            other => internal(chain(&other)),
        })?;
    let ca_pem = authority.cert_pem().to_owned();
    Ok(JoinResponse { certificate_pem: to_pem(&certificate) + &ca_pem, ca_pem })
}

fn key_digest(csr: &[u8]) -> Result<[u8; 32], Status> {
    if csr.len() > CSR {
        return Err(bad_csr());
    }
    request_key_digest(csr).map_err(|_| bad_csr())
}

fn bad_csr() -> Status {
    invalid(
        "csr_der",
        format!("expected a PKCS#10 request (DER) of at most {CSR} bytes, signed by its own key"),
    )
}

fn check_hosts(hosts: &[String]) -> Result<(), Status> {
    if hosts.len() <= HOSTS && hosts.iter().all(|h| check::is_host(h)) {
        return Ok(());
    }
    Err(invalid("hosts", format!("expected at most {HOSTS} DNS names or addresses")))
}

fn is_token(token: &str) -> bool {
    let hex = |text: &str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    matches!(
        token.split('.').collect::<Vec<_>>().as_slice(),
        [PREFIX, rack, secret, ca] if is_label(rack) && hex(secret) && hex(ca)
    )
}

fn digest(token: &str) -> String {
    hex::encode(Sha256::digest(token.as_bytes()))
}

fn refused(reason: Reason, why: &str) -> Status {
    refuse(Code::PermissionDenied, reason, why)
}
