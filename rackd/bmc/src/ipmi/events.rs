//! What happens once: the diagnostic interrupt, and the BMC's own restart.

use async_trait::async_trait;
use farrier_ipmi::command::{ChassisControl, ColdReset};
use ipmi_rs_core::app::GetDeviceId;

use super::driver::IpmiBmc;
use super::link::Link;
use crate::actor::Call;
use crate::{BmcError, Deadline, Interrupt, ResetBmc};

#[async_trait]
impl Interrupt for IpmiBmc {
    async fn diagnostic_interrupt(&self, deadline: Deadline) -> Result<(), BmcError> {
        let control = ChassisControl::DiagnosticInterrupt;
        self.call(deadline, move |link, call| Box::pin(link.power_event(call, control))).await
    }
}

#[async_trait]
impl ResetBmc for IpmiBmc {
    async fn reset_bmc(&self, deadline: Deadline) -> Result<(), BmcError> {
        self.call(deadline, |link, call| Box::pin(link.cold_reset(call))).await
    }
}

impl Link {
    /// The device is identified first: that proves the session alive, so that silence afterwards is the restart's.
    async fn cold_reset(&mut self, call: &mut Call) -> Result<(), BmcError> {
        self.command(call, GetDeviceId).await?;
        if self.command_once(call, ColdReset).await?.is_some() {
            self.forget_session();
            return Ok(());
        }
        // Silence may be the network's. Once anything is heard again, the session tells: a restart forgets it.
        let lost = BmcError::AnswerLost { addr: self.address.addr, command: "Cold Reset", power_now: None };
        while self.probe(call).await.is_err() {
            if call.deadline.is_past() {
                return Err(lost);
            }
        }
        if self.command_once(call, GetDeviceId).await?.is_some() {
            return Err(lost);
        }
        self.forget_session();
        Ok(())
    }
}
