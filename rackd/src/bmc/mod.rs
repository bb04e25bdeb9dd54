//! The BMCs of this rack: which driver, where, and whom to believe.

mod access;
mod dial;

pub(crate) use access::{Access, BadAccess, DriverChoice};
pub(crate) use dial::TlsDial;

use farrier_bmc::ipmi::IpmiHub;
use farrier_bmc::redfish::RedfishHub;
use farrier_bmc::{Auto, Bmc, BmcError, Deadline};
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
    auto: Auto,
}

impl Bmcs {
    /// # Errors
    /// No UDP socket can be had.
    pub(crate) async fn bind() -> std::io::Result<Self> {
        let redfish = RedfishHub::new(Arc::new(TlsDial));
        Ok(Self { ipmi: IpmiHub::bind().await?, redfish, auto: Auto::default() })
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
                self.auto.open(node, redfish, ipmi, deadline).await?
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
