//! Ports into networks.

use super::context::Context;
use super::step::{Step, StepError};
use crate::config::SegmentConfig;
use farrier_switch::SwitchPort;

/// The machine's ports into the network where ramdisks boot.
pub(super) struct Provisioning;
/// The machine's ports into the network where it will live.
pub(super) struct Tenant;

#[async_trait::async_trait]
impl Step for Provisioning {
    fn name(&self) -> &'static str {
        "plug_provisioning"
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        provisioning(cx).await
    }
}

/// The machine's ports into the provisioning segment.
pub(super) async fn provisioning(cx: &Context<'_>) -> Result<(), StepError> {
    let home = cx.rack.home_of(cx.machine()?);
    plug(cx, home.ok_or_else(|| StepError::fatal("this rack has no provisioning segment"))?).await
}

#[async_trait::async_trait]
impl Step for Tenant {
    fn name(&self) -> &'static str {
        "plug_tenant"
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        plug(cx, tenant(cx)?).await
    }
    fn lasts(&self) -> bool {
        true
    }
    async fn restore(&self, cx: &Context<'_>) -> Result<(), StepError> {
        plug_ports(cx, tenant(cx)?).await
    }
}

/// The segment that the instance asked for.
pub(super) fn tenant<'a>(cx: &Context<'a>) -> Result<&'a SegmentConfig, StepError> {
    let asked = cx.deploy()?.network.clone();
    let tenant = cx.rack.tenant(&asked, cx.machine()?);
    tenant.ok_or_else(|| StepError::fatal(cx.rack.refuse_network(&asked).unwrap_or_default()))
}

async fn plug(cx: &Context<'_>, segment: &SegmentConfig) -> Result<(), StepError> {
    plug_ports(cx, segment).await?;
    cx.note(format!("in {} ({})", segment.name, cx.rack.switch.driver())).await
}

async fn plug_ports(cx: &Context<'_>, segment: &SegmentConfig) -> Result<(), StepError> {
    for port in cx.machine()?.ports.iter().filter(|p| p.pxe_enabled) {
        if port.switch_port.is_empty() && cx.rack.switch.driver() != "none" {
            return Err(StepError::fatal(format!(
                "port {}: expected a switch port for driver {}, saw none; set it with `farrier port update`",
                port.mac_address,
                cx.rack.switch.driver()
            )));
        }
        let place = SwitchPort { switch: port.switch_name.clone(), port: port.switch_port.clone() };
        cx.rack.switch.plug(&place, &segment.name).await?;
    }
    Ok(())
}
