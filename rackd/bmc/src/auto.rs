//! Driver `auto`: Redfish where the BMC answers it, else IPMI; what worked is remembered.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use async_trait::async_trait;

use crate::{Bmc, BmcError, Deadline};

/// A driver that learns from the BMC whose it is.
#[async_trait]
pub trait Recognise: Send + Sync {
    /// The handle under the vendor's own driver name, with what that one can.
    async fn recognised(&self, deadline: Deadline) -> Result<Bmc, BmcError>;
}

/// What worked for which node.
#[derive(Debug, Default)]
pub struct Auto {
    worked: Mutex<HashMap<String, &'static str>>,
}

impl Auto {
    /// Where `worked` says what worked before.
    #[must_use]
    pub fn knowing(worked: impl IntoIterator<Item = (String, &'static str)>) -> Self {
        Self { worked: Mutex::new(worked.into_iter().collect()) }
    }

    /// The handle of the driver that works: the one that worked last is asked first, Redfish where none did. Its
    /// [`Bmc::driver`] says which it is; the other's failure, if it was asked first, comes along.
    ///
    /// # Errors
    /// Both fail; or Redfish is there and shows another certificate than the node's, or refuses the password: then
    /// IPMI is not tried, since that would take a warning for a fault, or lock the account.
    pub async fn open(
        &self,
        node: &str,
        redfish: Bmc,
        ipmi: Bmc,
        deadline: Deadline,
    ) -> Result<(Bmc, Option<BmcError>), BmcError> {
        let ipmi_first = self.worked(node) == Some(ipmi.driver());
        // What Redfish lacks, IPMI may have on the same BMC; the other way round Redfish has just failed.
        let redfish = redfish.or(ipmi.clone());
        let (first, second) = if ipmi_first { (ipmi, redfish) } else { (redfish, ipmi) };
        // The second must have its time too.
        let half = Deadline::at(Instant::now() + deadline.remaining() / 2);
        let failed = match first.power_status(half).await {
            Ok(_) => return Ok((self.remember(node, first.recognised(half).await?), None)),
            Err(error) if is_final(&error) => return Err(error),
            Err(error) => error,
        };
        match second.power_status(deadline).await {
            Ok(_) => Ok((self.remember(node, second.recognised(deadline).await?), Some(failed))),
            Err(error) if is_final(&error) => Err(error),
            Err(error) => {
                let (failed, error) = (Box::new(failed), Box::new(error));
                let (redfish, ipmi) = if ipmi_first { (error, failed) } else { (failed, error) };
                Err(BmcError::NoDriver { redfish, ipmi })
            }
        }
    }

    /// What worked last, by node.
    #[must_use]
    pub fn all(&self) -> HashMap<String, &'static str> {
        self.worked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The driver that worked last.
    #[must_use]
    pub fn worked(&self, node: &str) -> Option<&'static str> {
        self.worked.lock().unwrap_or_else(PoisonError::into_inner).get(node).copied()
    }

    fn remember(&self, node: &str, bmc: Bmc) -> Bmc {
        let mut worked = self.worked.lock().unwrap_or_else(PoisonError::into_inner);
        worked.insert(node.to_owned(), bmc.driver());
        bmc
    }
}

/// Whether the other driver must not be tried: this one is there, and something is wrong that a person has to see.
/// A node that says nothing of certificates has none to differ from.
fn is_final(error: &BmcError) -> bool {
    match error {
        BmcError::CircuitOpen { reason, .. } => is_final(reason),
        BmcError::Certificate { pinned, .. } => *pinned,
        BmcError::WrongPassword { .. } => true,
        _ => false,
    }
}
