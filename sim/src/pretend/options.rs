//! What a pretend node is made of.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use farrier_agent::limits::Limits;
use farrier_proto::types::BootMode;
use tokio::net::UdpSocket;

use super::address;
use crate::bmc::{BmcConfig, Secret};

/// Start from [`PretendOptions::new`] and change what the test is about.
pub struct PretendOptions {
    /// Also the serial number in the hardware report.
    pub name: String,
    /// Where the BMC listens: any address of this host, port 0 for a free one.
    pub socket: UdpSocket,
    pub bmc: BmcConfig,
    pub mac: [u8; 6],
    /// The node's own directory, made when absent: its disk, and its firmware variables.
    pub dir: PathBuf,
    pub disk_bytes: u64,
    /// It has no disk: it lives on the iSCSI disk that a boot script names.
    pub diskless: bool,
    /// What its system reads of that disk before it calls home.
    pub san_reads: Vec<Range<u64>>,
    pub memory_bytes: u64,
    pub cpus: u32,
    /// BIOS unless it says UEFI.
    pub boot_mode: BootMode,
    /// The addresses that rackd gives to machines of this network; see [`address::address`].
    pub pool: (Ipv4Addr, Ipv4Addr),
    /// rackd's HTTP server, which DHCP would tell. `None`: the network is dead.
    pub http: Option<SocketAddr>,
    /// Between two tries to boot from the network, and to call home.
    pub retry: Duration,
    /// The agent's; small, since there may be hundreds in one process.
    pub limits: Limits,
}

impl PretendOptions {
    /// A BIOS machine with a disk of 256 MiB, and a BMC for `admin` with password `pretend`.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        mac: [u8; 6],
        socket: UdpSocket,
        dir: impl Into<PathBuf>,
        pool: (Ipv4Addr, Ipv4Addr),
    ) -> Self {
        Self {
            name: name.into(),
            socket,
            bmc: BmcConfig::new("admin", Secret::new("pretend")),
            mac,
            dir: dir.into(),
            disk_bytes: 256 << 20,
            diskless: false,
            san_reads: Vec::new(),
            memory_bytes: 16 << 30,
            cpus: 8,
            boot_mode: BootMode::Bios,
            pool,
            http: None,
            retry: Duration::from_millis(100),
            limits: limits(),
        }
    }

    /// The address it will take.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        address::address(self.mac, self.pool)
    }
}

fn limits() -> Limits {
    Limits {
        chunks_in_flight: 2,
        reconnect_min: Duration::from_millis(50),
        reconnect_max: Duration::from_secs(1),
        retry_min: Duration::from_millis(50),
        retry_max: Duration::from_secs(1),
        disk_wait: Duration::from_millis(200),
        disk_poll: Duration::from_millis(50),
        power_off_grace: Duration::from_secs(2),
        ..Limits::default()
    }
}
