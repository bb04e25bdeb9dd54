//! A chassis that answers SeaMicro's REST API with anything.

use super::redfish_client::{script, soon, told};
use farrier_bmc::redfish::{RedfishAddress, Trust, Tuning};
use farrier_bmc::seamicro::SeaMicroHub;
use farrier_bmc::{BootMode, BootOverride, Device, Secret};
use std::sync::Arc;
use std::time::Duration;

pub fn run(data: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let tuning = Tuning {
            busy_delay: Duration::ZERO,
            tries: 2,
            max_members: 4,
            breaker_failures: u32::MAX,
            refused_pause: Duration::ZERO,
            ..Tuning::default()
        };
        let hub = SeaMicroHub::with(Arc::new(script(data)), tuning);
        let addr = ([192, 0, 2, 1], 80).into();
        let address = RedfishAddress::new(addr, "u", Secret::new("hunter2"), Trust::Plain);
        let handle = hub.bmc(RedfishAddress { system: "0/0".to_owned(), ..address });
        let _ = handle.power_status(soon()).await.map_err(told);
        let wanted = BootOverride { device: Device::Network, persistent: true, mode: BootMode::Bios };
        if let Ok(seen) = handle.set_boot_device(wanted, soon()).await {
            assert_eq!(seen.device, wanted.device, "set, and not read back");
        }
        let _ = handle.identity(soon()).await.map_err(told);
        let _ = handle.inventory(soon()).await.map(|seen| assert!(seen.nics.len() <= 4)).map_err(told);
        let _ = handle.power_reset(soon()).await.map_err(told);
        hub.shutdown().await;
    });
}
