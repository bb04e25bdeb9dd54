//! Pretend nodes: whole servers without QEMU, hundreds in one process.
//!
//! A node is a BMC simulator on the wire (IPMI, Redfish or both) with a machine behind it that does on power-on what a server
//! does: asks rackd for a boot script from its own address, fetches kernel and initrd, runs the real
//! agent on a disk that is a file; or starts the "system" on that disk, which reads its config drive and
//! calls home. Nothing in it knows that rackd is being tested. Start at [`PretendNode::start`]; `boot.rs`
//! is the life of a boot.
//!
//! It listens and calls on loopback, all of whose addresses (127/8) are usable without set-up; or it has a network card
//! (`lan.rs`) and boots by DHCP and TFTP as well.

mod address;
mod board;
mod boot;
mod cd;
pub mod cli;
mod http;
mod image;
mod lan;
mod mishaps;
mod observe;
mod options;
mod power;
mod san;
mod script;
mod system;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use farrier_agent::machine::PretendDisk;
use farrier_proto::types::{BootMode, Cpu, Hardware, Nic, System};
use sha2::{Digest as _, Sha256};

pub use address::{address, mac};
pub use image::{DATA_OFFSET, TAIL_BYTES, write_image};
pub use lan::{Lan, Rom};
pub use mishaps::Mishaps;
pub use observe::{Counters, Event};
pub use options::{BmcSockets, PretendOptions};
pub use san::San;

use crate::bmc::Accounts;
use crate::bmc::redfish::{Facts, RedfishConfig, RedfishFaults, RedfishHandle, RedfishServer};
use crate::bmc::{BmcHandle, BmcServer, Chassis, Faults, PowerState, PretendSerial};
use board::{Board, Hands, Parts};

/// A running pretend node. End it with [`PretendNode::shutdown`]; dropping it cuts its power.
pub struct PretendNode {
    board: Arc<Board>,
    /// Its BMC over IPMI and over Redfish, where it speaks them; none on its way out: shutting down consumes.
    bmc: Option<BmcHandle>,
    redfish: Option<RedfishHandle>,
    bmc_address: SocketAddr,
    accounts: Accounts,
}

impl PretendNode {
    /// Puts a node together: power off, disk empty unless its file is there.
    ///
    /// # Errors
    /// Its directory or disk cannot be made, or the socket has no address.
    pub async fn start(options: PretendOptions) -> io::Result<Self> {
        let source = options.address();
        let PretendOptions {
            name,
            sockets,
            bmc,
            tls,
            ssh_console,
            resets,
            personality,
            mac,
            dir,
            disk_bytes,
            diskless,
            san_reads,
            boot_mode,
            retry,
            limits,
            http,
            lan,
            ..
        } = options;
        tokio::fs::create_dir_all(&dir).await?;
        let efi_vars = (boot_mode == BootMode::Uefi).then(|| dir.join("efivars"));
        if let Some(efi_vars) = &efi_vars {
            tokio::fs::create_dir_all(efi_vars).await?;
        }
        let mut disk = PretendDisk::new(&dir, "sda", disk_bytes);
        disk.disk.serial_number = format!("{name}-sda");
        let hardware = Hardware {
            system: Some(System {
                manufacturer: "Farrier".to_owned(),
                product: "Pretend Machine".to_owned(),
                serial_number: name.clone(),
                uuid: uuid::Uuid::from_bytes(bmc.guid).to_string(),
            }),
            cpu: Some(Cpu {
                architecture: "x86_64".to_owned(),
                model: "Pretend CPU".to_owned(),
                socket_count: 1,
                core_count: count(options.cpus),
                thread_count: count(options.cpus),
            }),
            memory_bytes: i64::try_from(options.memory_bytes).unwrap_or(i64::MAX),
            nics: vec![Nic {
                name: "eth0".to_owned(),
                mac_address: address::colons(mac),
                link_up: true,
                speed_mbps: 10_000,
                driver: "pretend".to_owned(),
                neighbour: None,
            }],
            boot_mode: boot_mode.into(),
            kernel_release: "pretend".to_owned(),
            ..Hardware::default()
        };
        let facts = Facts {
            manufacturer: "Farrier".to_owned(),
            model: "Pretend Machine".to_owned(),
            serial_number: name.clone(),
            uuid: bmc.guid,
            cpus: options.cpus,
            memory_bytes: options.memory_bytes,
            macs: vec![address::colons(mac)],
        };
        let mut redfish = RedfishConfig {
            tls,
            ssh_console,
            resets,
            ..RedfishConfig::new(bmc.user.clone(), bmc.password.clone(), facts).of(personality)
        };
        // One BMC has one set of accounts, whatever it speaks.
        let accounts = bmc.accounts();
        redfish.accounts = accounts.clone();
        redfish.log = bmc.log.clone();
        let disk = (!diskless).then_some(disk);
        let parts =
            Parts { name, mac, source, disk, san_reads, hardware, efi_vars, retry, limits, http, lan, dir };
        let board = Arc::new(Board::new(parts));
        // Makes the disk's file.
        let maker = Arc::clone(&board);
        tokio::task::spawn_blocking(move || maker.machine()).await.map_err(io::Error::other)??;
        let hands = Arc::new(Hands(Arc::clone(&board)));
        let ipmi = sockets
            .ipmi
            .map(|socket| BmcServer::start_with(socket, bmc, accounts.clone(), hands.clone()))
            .transpose()?;
        let redfish =
            sockets.redfish.map(|listener| RedfishServer::start(listener, redfish, hands)).transpose()?;
        let addresses = (ipmi.as_ref().map(BmcHandle::address), redfish.as_ref().map(RedfishHandle::address));
        let bmc_address = addresses.0.or(addresses.1).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { board, bmc_address, bmc: ipmi, redfish, accounts })
    }

    pub fn name(&self) -> &str {
        &self.board.name
    }

    /// Where its BMC listens.
    pub fn bmc_address(&self) -> SocketAddr {
        self.bmc_address
    }

    /// Who its BMC lets in.
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// With colons.
    pub fn mac_address(&self) -> String {
        address::colons(self.board.mac)
    }

    /// Its address: the one that it reckoned for itself, or that DHCP gave it last.
    pub fn address(&self) -> Ipv4Addr {
        self.board.source()
    }

    /// Its network card, if it has one.
    pub fn lan(&self) -> Option<&Lan> {
        self.board.lan.as_ref()
    }

    /// The iSCSI disk that its last boot began from, if it did: what its system knows until it boots again.
    pub fn san(&self) -> Option<San> {
        self.board.san.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The file that is its disk; a machine without a disk has an empty path.
    pub fn disk_path(&self) -> &Path {
        self.board.disk.as_ref().map_or(Path::new(""), |disk| &disk.path)
    }

    pub async fn power(&self) -> PowerState {
        Hands(Arc::clone(&self.board)).power().await
    }

    /// What a BMC of another kind may have its hands on: a chassis's, for example.
    pub fn chassis(&self) -> Arc<dyn Chassis> {
        Arc::new(Hands(Arc::clone(&self.board)))
    }

    /// Somebody presses its power button while it is off.
    pub async fn switch_on(&self) {
        let on = Hands(Arc::clone(&self.board)).set_power(crate::bmc::PowerAction::On).await;
        debug_assert!(on.is_ok(), "switching on has no error");
    }

    /// Everything that happened, in order.
    pub fn events(&self) -> Vec<Event> {
        self.board.diary.events()
    }

    pub fn counters(&self) -> Counters {
        self.board.diary.counters()
    }

    /// Waits until everything that happened so far satisfies `seen`. Put a limit around it.
    pub async fn wait_for(&self, seen: impl FnMut(&[Event]) -> bool) {
        self.board.diary.wait_for(seen).await;
    }

    /// Its end of its serial port: what was typed there.
    pub fn serial_port(&self) -> &PretendSerial {
        &self.board.diary.console
    }

    /// Its BMC over IPMI, for tests that count sessions.
    pub fn ipmi(&self) -> Option<&BmcHandle> {
        self.bmc.as_ref()
    }

    /// Changes how its BMC misbehaves, from the next datagram on.
    pub fn set_faults(&self, faults: Faults) {
        if let Some(bmc) = &self.bmc {
            bmc.set_faults(faults);
        }
    }

    /// Changes how its BMC misbehaves over Redfish, from the next request on.
    pub fn set_redfish_faults(&self, faults: RedfishFaults) {
        if let Some(redfish) = &self.redfish {
            redfish.set_faults(faults);
        }
    }

    /// Its BMC over Redfish, for tests that count sessions and requests.
    pub fn redfish(&self) -> Option<&RedfishHandle> {
        self.redfish.as_ref()
    }

    /// Changes what goes wrong in the machine, from now on.
    pub fn set_mishaps(&self, mishaps: Mishaps) {
        self.board.fate.set(mishaps);
    }

    /// Says where rackd's HTTP server is, or that it is nowhere.
    pub fn set_http(&self, http: Option<SocketAddr>) {
        *self.board.http.lock().unwrap_or_else(PoisonError::into_inner) = http;
    }

    /// SHA-256, in hexadecimal, of a range of its disk's bytes.
    ///
    /// # Errors
    /// The disk is shorter, or cannot be read.
    pub async fn disk_sha256(&self, range: Range<u64>) -> io::Result<String> {
        let path = self.disk_path().to_owned();
        tokio::task::spawn_blocking(move || file_sha256(&path, range)).await.map_err(io::Error::other)?
    }

    /// Cuts power, ends the BMC, waits for both.
    pub async fn shutdown(mut self) {
        // The plug first, or the BMC might wait for a machine that hangs; then the BMC, so that nobody
        // switches it on again.
        self.board.pull_the_plug();
        if let Some(bmc) = self.bmc.take() {
            bmc.shutdown().await;
        }
        if let Some(redfish) = self.redfish.take() {
            redfish.shutdown().await;
        }
        self.board.off().await;
    }
}

impl Drop for PretendNode {
    fn drop(&mut self) {
        self.board.pull_the_plug();
    }
}

/// SHA-256, in hexadecimal, of a range of a file's bytes. Blocking.
///
/// # Errors
/// The file is shorter, or cannot be read.
pub fn file_sha256(path: &Path, range: Range<u64>) -> io::Result<String> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut file = std::fs::File::open(path)?;
    file.seek(SeekFrom::Start(range.start))?;
    let wanted = range.end.saturating_sub(range.start);
    let mut hash = Sha256::new();
    if io::copy(&mut file.take(wanted), &mut hash)? != wanted {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(hex::encode(hash.finalize()))
}

fn count(cpus: u32) -> i32 {
    i32::try_from(cpus).unwrap_or(i32::MAX)
}
