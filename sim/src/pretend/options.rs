//! What a pretend node is made of.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use farrier_agent::limits::Limits;
use farrier_identity::device::SelfSigned;
use farrier_proto::types::BootMode;
use tokio::net::{TcpListener, UdpSocket};

use super::address;
use super::lan::Lan;
use crate::bmc::redfish::Personality;
use crate::bmc::{BmcConfig, Secret};

/// Start from [`PretendOptions::new`] and change what the test is about.
pub struct PretendOptions {
    /// Also the serial number in the hardware report.
    pub name: String,
    /// Where the BMC listens: any address of this host, port 0 for a free one.
    pub sockets: BmcSockets,
    /// Its account is Redfish's too.
    pub bmc: BmcConfig,
    /// Redfish's certificate; `None`: http.
    pub tls: Option<SelfSigned>,
    /// Where Redfish says that the machine's console is: the port of somebody's SSH server at the BMC's address.
    pub ssh_console: Option<u16>,
    /// Reset types that Redfish offers instead of what everybody's does; see [`crate::bmc::redfish::ILO_4_RESETS`].
    pub resets: Option<&'static [&'static str]>,
    /// Whose Redfish it is.
    pub personality: Personality,
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
    /// A network card, by which it asks DHCP for its address and for what it boots, instead of `pool` and `http`.
    pub lan: Option<Lan>,
    /// Between two tries to boot from the network, and to call home.
    pub retry: Duration,
    /// The agent's; small, since there may be hundreds in one process.
    pub limits: Limits,
}

/// What a pretend BMC speaks, and where.
#[derive(Debug)]
pub struct BmcSockets {
    pub ipmi: Option<UdpSocket>,
    pub redfish: Option<TcpListener>,
}

impl BmcSockets {
    /// Where they listen; without any, on loopback.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        let ipmi = self.ipmi.as_ref().and_then(|socket| socket.local_addr().ok());
        let redfish = self.redfish.as_ref().and_then(|listener| listener.local_addr().ok());
        ipmi.or(redfish).map_or(IpAddr::from([127, 0, 0, 1]), |address| address.ip())
    }

    /// Both protocols on free ports with one number.
    ///
    /// # Errors
    /// No number is free for both.
    pub async fn both(ip: IpAddr) -> io::Result<Self> {
        let mut last = io::ErrorKind::AddrInUse.into();
        for _ in 0..PORT_TRIES {
            let redfish = TcpListener::bind((ip, 0)).await?;
            match UdpSocket::bind(redfish.local_addr()?).await {
                Ok(ipmi) => return Ok(Self { ipmi: Some(ipmi), redfish: Some(redfish) }),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl From<UdpSocket> for BmcSockets {
    /// IPMI only.
    fn from(socket: UdpSocket) -> Self {
        Self { ipmi: Some(socket), redfish: None }
    }
}

impl From<TcpListener> for BmcSockets {
    /// Redfish only.
    fn from(listener: TcpListener) -> Self {
        Self { ipmi: None, redfish: Some(listener) }
    }
}

impl PretendOptions {
    /// A BIOS machine with a disk of 256 MiB, and a BMC for `admin` with password `pretend`.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        mac: [u8; 6],
        sockets: impl Into<BmcSockets>,
        dir: impl Into<PathBuf>,
        pool: (Ipv4Addr, Ipv4Addr),
    ) -> Self {
        Self {
            name: name.into(),
            sockets: sockets.into(),
            bmc: BmcConfig { moves: true, ..BmcConfig::new("admin", Secret::new("pretend")) },
            tls: None,
            ssh_console: None,
            resets: None,
            personality: Personality::Plain,
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
            lan: None,
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

/// Numbers that are tried until one is free for TCP and UDP; the second mostly is.
const PORT_TRIES: usize = 32;

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
