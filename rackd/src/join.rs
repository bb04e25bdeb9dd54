//! How a new rackd gets its identity: a one-time token, once.

use anyhow::Context as _;
use farrier_identity::{ca, client};
use farrier_proto::inventory::join_service_client::JoinServiceClient;
use std::path::Path;

/// What `rackd join` was given.
pub struct JoinRequest<'a> {
    /// Inventory, `https://host:port`.
    pub inventory: &'a str,
    /// `farrier-join.<rack>.<secret>.<SHA-256 of the authority>`, from `farrier rack join-token`.
    pub token: &'a str,
    /// Names and addresses under which rackd will be reached.
    pub hosts: Vec<String>,
    /// Where `cert.pem`, `key.pem` and `ca.pem` go.
    pub identity: &'a Path,
}

/// Exchanges the token for a certificate. The authority is pinned by the token: nobody in between can join
/// us to another installation.
pub async fn join(request: JoinRequest<'_>) -> anyhow::Result<()> {
    let pin = request
        .token
        .rsplit('.')
        .next()
        .and_then(|hex| farrier_identity::agent::PinnedCa::from_hex(hex).ok())
        .context("the token is malformed: expected farrier-join.<rack>.<secret>.<digest>, from `farrier rack join-token`")?;
    let (key_pem, csr_der) = ca::new_request()?;
    let channel = client::pinned_channel(request.inventory, pin.bytes())?;
    let answer = JoinServiceClient::new(channel)
        .join(farrier_proto::inventory::JoinRequest {
            token: request.token.to_owned(),
            csr_der,
            hosts: request.hosts,
        })
        .await
        .with_context(|| format!("{} refused the join", request.inventory))?
        .into_inner();
    let issued = ca::Issued { cert_pem: answer.certificate_pem, key_pem };
    ca::write_identity(request.identity, &issued, &answer.ca_pem)?;
    Ok(())
}
