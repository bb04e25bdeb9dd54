//! What concerns the BMC more than its machine, in the words of the wire: its network, its watchdog timer, what it measures.

use super::bmc::{bmc_failed, driver};
use farrier_bmc::{Bmc, Capability, Deadline, NetworkInterface, PowerDraw, WatchdogState};
use farrier_proto::rack::{BmcNetwork, BmcNetworkInterface, BmcPowerDraw, BmcWatchdog};
use std::time::Duration;
use tonic::Status;

pub(super) async fn network(bmc: &Bmc, deadline: Deadline) -> Result<BmcNetwork, Status> {
    let read = bmc.network(deadline).await.map_err(|error| bmc_failed(&error))?;
    Ok(BmcNetwork {
        interfaces: read.interfaces.into_iter().map(interface).collect(),
        warnings: read.warnings,
        driver: driver(bmc, Capability::Network),
    })
}

pub(super) async fn watchdog(bmc: &Bmc, deadline: Deadline) -> Result<BmcWatchdog, Status> {
    let read = bmc.watchdog(deadline).await.map_err(|error| bmc_failed(&error))?;
    Ok(timer(read, driver(bmc, Capability::Watchdog)))
}

pub(super) async fn disarm_watchdog(bmc: &Bmc, deadline: Deadline) -> Result<BmcWatchdog, Status> {
    let read = bmc.disarm_watchdog(deadline).await.map_err(|error| bmc_failed(&error))?;
    Ok(timer(read, driver(bmc, Capability::Watchdog)))
}

pub(super) fn interface(seen: NetworkInterface) -> BmcNetworkInterface {
    fn text(told: Option<impl ToString>) -> String {
        told.map(|told| told.to_string()).unwrap_or_default()
    }
    BmcNetworkInterface {
        name: seen.name,
        mac_address: seen.mac.map(|mac| mac.map(|byte| format!("{byte:02x}")).join(":")).unwrap_or_default(),
        address: text(seen.address),
        subnet_mask: text(seen.subnet_mask),
        gateway: text(seen.gateway),
        source: seen.source.map(|source| source.as_str().to_owned()).unwrap_or_default(),
        vlan_id: seen.vlan.map(i32::from),
        ipv6_addresses: seen.ipv6.iter().map(ToString::to_string).collect(),
    }
}

fn timer(read: WatchdogState, driver: String) -> BmcWatchdog {
    let milliseconds = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    BmcWatchdog {
        running: read.running,
        timer_use: read.timer_use.to_owned(),
        action: read.action.to_owned(),
        initial_milliseconds: milliseconds(read.initial),
        left_milliseconds: milliseconds(read.left),
        expired: read.expired.into_iter().map(str::to_owned).collect(),
        driver,
    }
}

pub(super) fn power_draw(draw: PowerDraw, driver: String) -> BmcPowerDraw {
    BmcPowerDraw {
        now: draw.now,
        average: draw.average,
        least: draw.least,
        most: draw.most,
        period_seconds: draw.period.map(|period| i64::try_from(period.as_secs()).unwrap_or(i64::MAX)),
        driver,
    }
}
