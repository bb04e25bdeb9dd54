//! The BMCs of this rack: which driver, where, and whom to believe.

mod access;
mod dial;
mod remembered;

pub(crate) use access::{Access, BadAccess, DriverChoice};
pub(crate) use dial::TlsDial;

use farrier_bmc::ipmi::IpmiHub;
use farrier_bmc::redfish::RedfishHub;
use farrier_bmc::{Bmc, BmcError, Deadline};
use remembered::Remembered;
use std::path::Path;
use std::sync::Arc;

/// A BMC that a driver was found for.
#[derive(Debug, Clone)]
pub(crate) struct Opened {
    pub(crate) bmc: Bmc,
    /// Why the driver that was tried first is not it.
    pub(crate) passed_over: Option<BmcError>,
}

/// All drivers of one rackd.
pub(crate) struct Bmcs {
    ipmi: IpmiHub,
    redfish: RedfishHub,
    remembered: Arc<Remembered>,
}

impl Bmcs {
    /// What `auto` finds out is remembered in a file of `data`.
    ///
    /// # Errors
    /// No UDP socket can be had.
    pub(crate) async fn bind(data: &Path) -> std::io::Result<Self> {
        let redfish = RedfishHub::new(Arc::new(TlsDial));
        let remembered = Arc::new(Remembered::open(data.join("bmc-drivers.json")));
        Ok(Self { ipmi: IpmiHub::bind().await?, redfish, remembered })
    }

    /// A handle for a node's BMC; only `auto` asks the BMC something for it.
    pub(crate) async fn open(
        &self,
        node: &str,
        access: Access,
        deadline: Deadline,
    ) -> Result<Opened, BmcError> {
        let (bmc, passed_over) = match access.driver {
            DriverChoice::Ipmi => (self.ipmi.bmc(access.ipmi), None),
            DriverChoice::Redfish => (self.redfish.bmc(access.redfish), None),
            DriverChoice::Auto => {
                let (redfish, ipmi) = (self.redfish.bmc(access.redfish), self.ipmi.bmc(access.ipmi));
                // Tasks say it in full.
                let node = node.strip_prefix("nodes/").unwrap_or(node);
                let auto = &self.remembered.auto;
                let before = auto.worked(node);
                let found = auto.open(node, redfish, ipmi, deadline).await?;
                if auto.worked(node) != before {
                    self.remembered.changed();
                }
                found
            }
        };
        Ok(Opened { bmc, passed_over })
    }

    /// A handle for a node's serial console. Of what `auto` may find only IPMI has one.
    pub(crate) fn console(&self, access: Access) -> Bmc {
        match access.driver {
            DriverChoice::Ipmi | DriverChoice::Auto => self.ipmi.bmc(access.ipmi),
            DriverChoice::Redfish => self.redfish.bmc(access.redfish),
        }
    }

    /// Closes all sessions and waits for that.
    pub(crate) async fn shutdown(&self) {
        tokio::join!(self.ipmi.shutdown(), self.redfish.shutdown());
    }
}
