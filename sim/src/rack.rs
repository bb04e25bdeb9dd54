//! A rack: one namespace with its networks, and the machines plugged into them.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::machine::{Firmware, Machine, MachineError, MachineSpec, NicSpec};
use crate::net::{Bridge, NetError, Netns, Tap};

/// Why a rack could not be built.
#[derive(Debug, Error)]
pub enum RackError {
    #[error(transparent)]
    Net(#[from] NetError),
    #[error(transparent)]
    Machine(#[from] MachineError),
    #[error("no directory for the rack")]
    Dir(#[source] std::io::Error),
}

/// The wires and the directory of a rack. Machines are made from it and must be dropped before
/// it, or at the latest with it: dropping a rack ends everything inside its namespace.
#[derive(Debug)]
pub struct Rack {
    netns: Netns,
    provisioning: Bridge,
    tenant: Bridge,
    bmc: Bridge,
    dir: PathBuf,
}

impl Rack {
    /// A rack with three networks: provisioning (10.90.0.1/24 and
    /// fd00:90::1/64 are rackd's), tenant (10.91.0.1/24)
    /// and BMC (10.92.0.1/24).
    pub fn build() -> Result<Self, RackError> {
        let netns = Netns::create()?;
        let provisioning = netns.bridge("prov", 1, "10.90.0.1/24")?;
        // Whoever answers IPv6 router solicitations needs an address to advertise from; unanswered,
        // iPXE waits 12 s.
        netns.add_address(&provisioning, "fd00:90::1/64")?;
        let tenant = netns.bridge("tenant", 2, "10.91.0.1/24")?;
        let bmc = netns.bridge("bmc", 3, "10.92.0.1/24")?;
        let dir = netns.dir();
        Ok(Self { netns, provisioning, tenant, bmc, dir })
    }

    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Where machines PXE boot.
    pub fn provisioning(&self) -> &Bridge {
        &self.provisioning
    }

    /// Where deployed machines end.
    pub fn tenant(&self) -> &Bridge {
        &self.tenant
    }

    /// Where BMCs are.
    pub fn bmcs(&self) -> &Bridge {
        &self.bmc
    }

    /// The rack's directory; removed with the rack.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes `10.92.0.<10 + index>` an address of the namespace, for that machine's BMC simulator
    /// to listen on.
    pub fn bmc_address(&self, index: u8) -> Result<Ipv4Addr, RackError> {
        let address = Ipv4Addr::new(10, 92, 0, index.saturating_add(10));
        self.netns.add_address(&self.bmc, &format!("{address}/24"))?;
        Ok(address)
    }

    /// The specification of machine `index`: a directory, one NIC `52:54:00:90:00:<index>` on a new
    /// tap in the provisioning network, no disk. Add disks, then [`Machine::new`].
    pub fn machine_spec(&self, index: u8, firmware: Firmware) -> Result<(MachineSpec, Tap), RackError> {
        let name = format!("m{index}");
        let dir: PathBuf = self.dir.join(&name);
        std::fs::create_dir_all(&dir).map_err(RackError::Dir)?;
        let tap = self.netns.tap(&format!("tap{index}"), &self.provisioning)?;
        let mut spec = MachineSpec::new(&name, firmware, &dir);
        spec.netns = Some(self.netns.path());
        let mac = format!("52:54:00:90:00:{index:02x}");
        spec.nics.push(NicSpec { mac, tap: tap.name().to_owned() });
        Ok((spec, tap))
    }

    /// [`Machine::new`], for symmetry.
    pub fn machine(&self, spec: MachineSpec) -> Result<Machine, RackError> {
        Ok(Machine::new(spec)?)
    }
}
