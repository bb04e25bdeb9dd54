//! How a new rackd gets its identity: a one-time token, once.

use anyhow::Context as _;
use farrier_identity::{ca, client};
use farrier_proto::inventory::join_service_client::JoinServiceClient;
use farrier_runtime::error::reason_of;
use std::path::Path;
use tonic::Status;

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
        .map_err(|status| refused(request.inventory, &status))?
        .into_inner();
    let issued = ca::Issued { cert_pem: answer.certificate_pem, key_pem };
    ca::write_identity(request.identity, &issued, &answer.ca_pem)?;
    Ok(())
}

/// A server of ours refuses with a reason; without one nobody answered, or not inventory.
fn refused(inventory: &str, status: &Status) -> anyhow::Error {
    if reason_of(status).is_some_and(|reason| !reason.is_empty()) {
        return anyhow::anyhow!("{inventory} refused the join: {}", status.message());
    }
    let mut why = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let text = error.to_string();
        if !why.contains(&text) {
            why = format!("{why}: {text}");
        }
        cause = error.source();
    }
    anyhow::anyhow!(
        "cannot join through {inventory}: {why}; expected inventory there, with the authority that the token names: \
         look at `farrier context show` where the token was made"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_runtime::error::{Reason, refuse};
    use tonic::Code;

    #[test]
    fn refusals_and_silence_are_told_apart_without_tonics_words() {
        let used = refuse(Code::PermissionDenied, Reason::TokenUsed, "the token was used");
        assert_eq!(
            refused("https://c:1", &used).to_string(),
            "https://c:1 refused the join: the token was used"
        );
        let text = refused("https://c:1", &Status::unavailable("tcp connect error")).to_string();
        assert!(text.starts_with("cannot join through https://c:1: tcp connect error; expected"), "{text}");
    }
}
