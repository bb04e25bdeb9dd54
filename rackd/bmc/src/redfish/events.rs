//! What happens once: the diagnostic interrupt, and the BMC's own restart.

use async_trait::async_trait;

use super::driver::{DRIVER, RedfishBmc};
use super::link::Link;
use super::power;
use crate::actor::Call;
use crate::{BmcError, Capability, Deadline, Interrupt, ResetBmc};

#[async_trait]
impl Interrupt for RedfishBmc {
    async fn diagnostic_interrupt(&self, deadline: Deadline) -> Result<(), BmcError> {
        self.reset(&power::INTERRUPT, deadline).await
    }
}

#[async_trait]
impl ResetBmc for RedfishBmc {
    async fn reset_bmc(&self, deadline: Deadline) -> Result<(), BmcError> {
        self.call(deadline, |link, call| Box::pin(link.restart(call))).await
    }
}

impl Link {
    async fn restart(&mut self, call: &mut Call) -> Result<(), BmcError> {
        let (_, system) = self.system(call).await?;
        let Some((path, manager)) = self.manager(call, &system).await? else {
            return Err(BmcError::Unsupported { driver: DRIVER, capability: Capability::ResetBmc.as_str() });
        };
        match self.press(call, path, &manager, power::OF_MANAGER, &power::RESTART).await {
            // It may have been too quick to answer. One that goes on as before has not restarted.
            Err(lost @ BmcError::AnswerLost { .. }) => match self.power(call).await {
                Ok(_) => Err(lost),
                Err(_) => Ok(()),
            },
            other => other,
        }
    }
}
