//! rackd keeps its own certificate: when two thirds of its life are over it asks inventory for the next one.
//!
//! Nothing else waits for this. A rack that the centre cannot reach for a while goes on with the old one and
//! asks again; a running server takes the new one over for its next connections.

use anyhow::Context as _;
use farrier_identity::ca::{self, Issued};
use farrier_identity::client::{Expect, channel_with_deadline};
use farrier_identity::{Credentials, Identity, Validity, swap};
use farrier_proto::inventory::RenewCertificateRequest;
use farrier_proto::inventory::join_service_client::JoinServiceClient;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tokio_util::sync::CancellationToken;

/// Inventory signs one request.
const CALL: Duration = Duration::from_secs(30);
/// Between two tries. A rack has ten days for them.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
const LAST_PAUSE: Duration = Duration::from_secs(3600);
/// Clocks are set, and machines sleep: the time is looked at this often.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);

/// Where a rackd asks, and what it keeps.
pub(crate) struct Renewal {
    /// Inventory, `https://host:port`.
    pub(crate) inventory: String,
    /// `cert.pem`, `key.pem`, `ca.pem`.
    pub(crate) identity: PathBuf,
    pub(crate) credentials: Credentials,
}

impl Renewal {
    /// Renews for ever, until `shutdown`.
    pub(crate) async fn keep(self, shutdown: CancellationToken) {
        let work = async {
            let mut pause = FIRST_PAUSE;
            loop {
                let wait = due(self.credentials.validity()).duration_since(SystemTime::now());
                if let Ok(wait) = wait
                    && !wait.is_zero()
                {
                    tokio::time::sleep(wait.min(LOOK_AGAIN)).await;
                    continue;
                }
                match self.renew().await {
                    Ok(()) => {
                        pause = FIRST_PAUSE;
                        tracing::info!(identity = %self.credentials.identity(), "certificate renewed");
                        continue;
                    }
                    Err(error) => {
                        let ends = humantime(self.credentials.validity().until);
                        tracing::warn!(error = format!("{error:#}"), %ends, "certificate not renewed, trying again");
                    }
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LAST_PAUSE);
            }
        };
        tokio::select! {
            () = work => {}
            () = shutdown.cancelled() => {}
        }
    }

    /// Asks once. The old pair stays unless the new one is better in every way.
    async fn renew(&self) -> anyhow::Result<()> {
        let expect = Expect::Exactly(Identity::Service("inventory".to_owned()));
        let channel = channel_with_deadline(&self.inventory, &self.credentials, expect, CALL)?;
        let (key_pem, csr_der) = ca::new_request()?;
        let request = RenewCertificateRequest { csr_der, hosts: self.credentials.hosts() };
        let answer = JoinServiceClient::new(channel).renew_certificate(request).await;
        let answer = answer.with_context(|| format!("{} gave no certificate", self.inventory))?.into_inner();
        let issued = Issued { cert_pem: answer.certificate_pem, key_pem };
        let next = Credentials::from_pem(&issued.cert_pem, &issued.key_pem, &read_ca(&self.identity)?)
            .context("the new certificate cannot be used")?;
        anyhow::ensure!(
            next.identity() == self.credentials.identity(),
            "the new certificate is for {}: expected {}",
            next.identity(),
            self.credentials.identity()
        );
        anyhow::ensure!(
            next.validity().until > self.credentials.validity().until,
            "the new certificate ends no later than the old one: is the clock of inventory right?"
        );
        swap::replace(&self.identity, &issued)?;
        self.credentials.reload()?;
        Ok(())
    }
}

/// When the next certificate is asked for.
fn due(validity: Validity) -> SystemTime {
    let life = validity.until.duration_since(validity.from).unwrap_or_default();
    validity.from + life * 2 / 3
}

/// Trust is the operator's: a renewal never changes whom the rack believes.
fn read_ca(identity: &Path) -> anyhow::Result<String> {
    let path = identity.join("ca.pem");
    std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// Seconds from now, for a log line.
fn humantime(until: SystemTime) -> String {
    match until.duration_since(SystemTime::now()) {
        Ok(left) => format!("in {} hours", left.as_secs() / 3600),
        Err(_) => "over already".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_time_when_two_thirds_are_over() {
        let from = SystemTime::UNIX_EPOCH;
        let validity = Validity { from, until: from + Duration::from_secs(30 * 86_400) };
        assert_eq!(due(validity), from + Duration::from_secs(20 * 86_400));
        // Upside down: at once, rather than never.
        let odd = Validity { from: validity.until, until: from };
        assert_eq!(due(odd), validity.until);
    }
}
