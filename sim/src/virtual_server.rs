//! A whole server of a rack: a QEMU machine with disks and a NIC, and the BMC in front of it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use thiserror::Error;
use tokio::net::{TcpListener, UdpSocket};

mod chassis;
mod serial;

pub use chassis::QemuChassis;

use farrier_identity::device::SelfSigned;

use crate::bmc::redfish::{Facts, RedfishConfig, RedfishHandle, RedfishServer};
use crate::bmc::{BmcConfig, BmcHandle, BmcServer, Secret};
use crate::machine::{Architecture, DiskBus, DiskSpec, Firmware, Machine, MachineError};
use crate::net::{NetError, Tap};
use crate::rack::{Rack, RackError};

/// The port of RMCP, at which every BMC listens.
const RMCP_PORT: u16 = 623;
/// The port of https.
const REDFISH_PORT: u16 = 443;

/// What a server is made of and who may press its buttons.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    pub memory_mib: u32,
    pub cpus: u8,
    pub architecture: Architecture,
    /// Its UEFI runs signed programs only.
    pub secure_boot: bool,
    /// In boot order; empty sparse files unless they name one.
    pub disks: Vec<DiskSpec>,
    /// The BMC's one account, an administrator.
    pub user: String,
    /// At most 20 bytes.
    pub password: Secret,
    /// The certificate with which the BMC speaks Redfish, beside IPMI. Such a machine has a virtual CD drive.
    pub redfish: Option<SelfSigned>,
    /// As in [`crate::machine::MachineSpec`]: what the machine sees of a BMC.
    pub system_interface: Option<SocketAddr>,
    /// As in [`crate::machine::MachineSpec`].
    pub smbios: Vec<Vec<u8>>,
}

impl ServerOptions {
    /// A disk of `size` bytes on virtio, made empty.
    #[must_use]
    pub fn disk(serial: &str, size: u64) -> DiskSpec {
        DiskSpec { bus: DiskBus::VirtioBlk, size, serial: serial.to_owned(), path: None }
    }
}

impl Default for ServerOptions {
    /// 1 GiB, one CPU, one empty disk of 8 GiB, `admin` with password `farrier-lab`.
    fn default() -> Self {
        Self {
            memory_mib: 1024,
            cpus: 1,
            architecture: Architecture::X86_64,
            secure_boot: false,
            disks: vec![Self::disk("disk0", 8 << 30)],
            user: "admin".to_owned(),
            password: Secret::new("farrier-lab"),
            redfish: None,
            system_interface: None,
            smbios: Vec::new(),
        }
    }
}

/// Why a server could not be put into the rack.
#[derive(Debug, Error)]
pub enum ServerError {
    #[error(transparent)]
    Rack(#[from] RackError),
    #[error(transparent)]
    Net(#[from] NetError),
    #[error("server {name}: no BMC")]
    Bmc {
        name: String,
        #[source]
        source: std::io::Error,
    },
    #[error("no tokio runtime is running: a BMC needs one")]
    NoRuntime(#[from] tokio::runtime::TryCurrentError),
}

/// A server: off when made. End it with [`VirtualServer::shutdown`]; dropping the rack ends it too.
pub struct VirtualServer {
    /// `m<index>`.
    pub name: String,
    /// For tests that look at the machine itself; power goes through the BMC.
    pub machine: Arc<Machine>,
    pub chassis: Arc<QemuChassis>,
    pub bmc: BmcHandle,
    /// The same BMC over Redfish, if it speaks it; at the same address, port 443.
    pub redfish: Option<RedfishHandle>,
    /// Inside the rack's namespace.
    pub bmc_address: SocketAddr,
    /// Of its NICs, the one that network boots first.
    pub macs: Vec<String>,
    /// The rack's end of its cable: also the name of its switch port.
    pub tap: Tap,
    pub firmware: Firmware,
}

impl VirtualServer {
    /// Puts server `index` into `rack`: cable in the provisioning network, BMC at
    /// [`Rack::bmc_address`], power off.
    ///
    /// # Errors
    /// The wires, the disks or the BMC's socket cannot be made, or no tokio runtime runs here.
    pub fn start(
        rack: &Rack,
        index: u8,
        firmware: Firmware,
        options: ServerOptions,
    ) -> Result<Self, ServerError> {
        // The BMC becomes a task of this runtime; `from_std` would panic without one.
        let runtime = tokio::runtime::Handle::try_current()?;
        let (mut spec, tap) = rack.machine_spec(index, firmware)?;
        spec.memory_mib = options.memory_mib;
        spec.cpus = options.cpus;
        spec.architecture = options.architecture;
        spec.secure_boot = options.secure_boot;
        spec.disks = options.disks;
        spec.cd_drive = options.redfish.is_some();
        spec.system_interface = options.system_interface;
        spec.smbios = options.smbios;
        let (name, macs) = (spec.name.clone(), spec.nics.iter().map(|nic| nic.mac.clone()).collect());
        let guid = *spec.uuid.as_bytes();
        let machine = Arc::new(rack.machine(spec)?);

        let bmc_address = SocketAddr::new(IpAddr::V4(rack.bmc_address(index)?), RMCP_PORT);
        let socket = rack.netns().udp_bind(bmc_address)?;
        let web = SocketAddr::new(bmc_address.ip(), REDFISH_PORT);
        let listener = options.redfish.is_some().then(|| rack.netns().tcp_listen(web)).transpose()?;
        let chassis = Arc::new(QemuChassis::new(Arc::clone(&machine)));
        let facts = Facts {
            manufacturer: "Farrier".to_owned(),
            model: "Lab".to_owned(),
            serial_number: name.clone(),
            uuid: guid,
            cpus: options.cpus.into(),
            memory_bytes: u64::from(options.memory_mib) << 20,
            macs: Vec::clone(&macs),
        };
        let mut redfish = RedfishConfig::new(options.user.clone(), options.password.clone(), facts);
        redfish.tls = options.redfish;
        let mut config = BmcConfig::new(options.user, options.password);
        config.guid = guid;
        // One BMC has one set of accounts, whatever it speaks.
        let accounts = config.accounts();
        redfish.accounts = accounts.clone();
        redfish.log = config.log.clone();
        let _inside = runtime.enter();
        let bmc = UdpSocket::from_std(socket)
            .and_then(|socket| BmcServer::start_with(socket, config, accounts, chassis.clone()))
            .map_err(|source| ServerError::Bmc { name: name.clone(), source })?;
        let redfish = listener
            .map(|listener| RedfishServer::start(TcpListener::from_std(listener)?, redfish, chassis.clone()))
            .transpose()
            .map_err(|source| ServerError::Bmc { name: name.clone(), source })?;
        Ok(Self { name, machine, chassis, bmc, redfish, bmc_address, macs, tap, firmware })
    }

    /// Pulls the plug and ends the BMC.
    ///
    /// # Errors
    /// QEMU cannot be ended in order.
    pub async fn shutdown(self) -> Result<(), MachineError> {
        self.bmc.shutdown().await;
        if let Some(redfish) = self.redfish {
            redfish.shutdown().await;
        }
        self.machine.power_off().await
    }
}
