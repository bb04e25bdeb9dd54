//! What netboot serves to a task's machine: typed data in, a reservation and a boot script out.

use crate::boot_cd::BootCdError;
use crate::config::SegmentConfig;
use crate::discovery;
use crate::homes;
use crate::kernel::Machine as Architecture;
use crate::rack::Rack;
use crate::volumes::{Access, Account};
use farrier_journal::JournalError;
use farrier_netboot::{
    Boot, BootEntry, KernelArgs, KernelArgsError, Lease, MacAddr, Ramdisks, San, SanError,
};
use farrier_proto::rack::Machine;
use farrier_proto::types::BootInterface;
use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddrV4};

#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    #[error(
        "node {node}: expected at least one port with network boot enabled, saw none; give it one with `farrier port create`, or enable one with `farrier port update`"
    )]
    NoPort { node: String },
    #[error("{seen:?} is no MAC address")]
    Mac { seen: String },
    #[error("the ramdisk's kernel arguments cannot be used")]
    Args(#[from] KernelArgsError),
    #[error(
        "node {node} is of {architecture}: expected a ramdisk with a kernel for that in `[{table}]` of rackd.toml, saw none; `cargo xtask ramdisk --architecture {architecture} --out DIR` makes one; if the node is another machine, `farrier node update {node} --arch ARCHITECTURE` says so"
    )]
    NoRamdisk { node: String, architecture: &'static str, table: &'static str },
    #[error(
        "node {node} is an arm64 machine, and no distribution has what boots an iSCSI disk, iPXE, for those: expected snponly-arm64.efi in `boot_files` of rackd.toml (`bin-arm64-efi/snponly.efi` of iPXE's own sources), saw none; deploy with the method direct or iscsi, or onto another node"
    )]
    Arm64San { node: String },
    #[error(
        "node {node} runs signed programs only: expected shim and GRUB of {architecture} in `[signed_boot.{architecture}]` of rackd.toml, saw none; Debian's packages shim-signed and grub-efi-{debian}-signed have them"
    )]
    NoSignedBoot { node: String, architecture: &'static str, debian: &'static str },
    #[error(
        "node {node} runs signed programs only (Secure Boot), and what boots an iSCSI disk, iPXE, is not signed: deploy with the method direct or iscsi, or switch Secure Boot off and say so with `farrier node update {node} --secure-boot false`"
    )]
    SignedSan { node: String },
    #[error(
        "a diskless node boots from the network: expected boot interface network, saw virtual media; `farrier node update {node} --boot-interface network`, or another deploy method"
    )]
    MediaSan { node: String },
    #[error("the iSCSI disk cannot be written into a boot script")]
    San(#[from] SanError),
    #[error(transparent)]
    Cd(#[from] BootCdError),
    #[error("no address can be given")]
    Address(#[from] JournalError),
}

/// What a machine is to boot.
pub(crate) enum Serve<'a> {
    /// The ramdisk, with a token for this boot.
    Ramdisk { token: &'a str },
    /// An iSCSI disk of this rack.
    San { access: &'a Access, account: &'a Account },
    /// Its own disk.
    LocalDisk,
    /// Its iSCSI disk, which is not here yet.
    Wait,
}

/// Where it boots that.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    /// In this network.
    In(&'a SegmentConfig),
    /// Each port in the provisioning network that it is in.
    Home,
}

impl Rack {
    /// Reserves an address for each bootable port and says what it boots.
    /// Returns the addresses in the order of the ports.
    pub(crate) async fn publish(
        &self,
        machine: &Machine,
        hostname: &str,
        place: Place<'_>,
        serve: &Serve<'_>,
    ) -> Result<Vec<Ipv4Addr>, PublishError> {
        self.check_bootable(machine, serve)?;
        let mut addresses = Vec::new();
        for mac in bootable(machine)? {
            for segment in homes::places(self, mac, &place) {
                addresses.push(self.publish_port(machine, mac, hostname, segment, serve).await?);
            }
        }
        Ok(addresses)
    }

    async fn publish_port(
        &self,
        machine: &Machine,
        mac: MacAddr,
        hostname: &str,
        segment: &SegmentConfig,
        serve: &Serve<'_>,
    ) -> Result<Ipv4Addr, PublishError> {
        let ip = self.reserve(&machine.name, mac, segment).await?;
        let boot = match serve {
            Serve::Ramdisk { token } => {
                let ramdisks = self.ramdisks_for(machine, segment, mac, ip, token)?;
                if machine.secure_boot { Boot::Signed(ramdisks) } else { Boot::Script(ramdisks) }
            }
            Serve::San { access, account } => Boot::San(san(segment, access, account)?),
            Serve::LocalDisk => Boot::LocalDisk,
            Serve::Wait => Boot::Wait,
        };
        self.netboot.update(|table| {
            self.known.give_way(table, ip, mac);
            table.publish(BootEntry {
                mac,
                node: machine.name.clone(),
                hostname: hostname.to_owned(),
                ip,
                network: segment.name.clone(),
                boot,
            });
        });
        Ok(ip)
    }

    /// The address of a port in a segment, which it keeps.
    pub(crate) async fn reserve(
        &self,
        node: &str,
        mac: MacAddr,
        segment: &SegmentConfig,
    ) -> Result<Ipv4Addr, JournalError> {
        let (first, last) = segment.pool;
        let at_work = self.ports_at_work();
        let network = &segment.name;
        let served = |mac: &str| {
            at_work.contains(mac)
                || mac.parse().is_ok_and(|mac| self.netboot.table().entry(mac, network).is_some())
        };
        let text = mac.to_string();
        let held = self.leased_to_others(network, mac);
        let leased = |ip| held.contains(&ip);
        let address = self.journal.address(network, &text, first, last, served, leased).await;
        // Last, that of a known machine that nobody works on; strangers take none of those.
        if !matches!(address, Err(JournalError::PoolExhausted { .. })) || discovery::port_of(node).is_some() {
            return address;
        }
        let idle = |mac: &str| {
            let table = self.netboot.table();
            mac.parse().is_ok_and(|mac| self.known.is_idle(&table, mac, network))
        };
        // Rather that of one that has asked in another network since.
        let left = |mac: &str| {
            let asked = mac.parse().ok().and_then(|mac| self.asked_in(mac));
            idle(mac) && asked.is_some_and(|asked| asked.name != *network)
        };
        let is_there = |mac: &str| served(mac) && !left(mac);
        let address = self.journal.address(network, &text, first, last, is_there, leased).await;
        if !matches!(address, Err(JournalError::PoolExhausted { .. })) {
            return address;
        }
        let at_work = |mac: &str| served(mac) && !idle(mac);
        self.journal.address(network, &text, first, last, at_work, leased).await
    }

    /// Addresses of a network that other machines run with, whoever they are: their leases say so. Not those of one that has
    /// asked in another network since.
    pub(crate) fn leased_to_others(&self, network: &str, mac: MacAddr) -> HashSet<Ipv4Addr> {
        let here = |lease: &Lease| {
            let left = self.asked_in(lease.mac).is_some_and(|asked| asked.name != network);
            lease.network == network && lease.mac != mac && !left
        };
        self.netboot.leases().into_iter().filter(here).map(|lease| lease.ip).collect()
    }

    /// The ports of machines that tasks work on. Those of boot CDs are told their addresses, and ask nobody.
    pub(crate) fn ports_at_work(&self) -> HashSet<String> {
        let tasks = self.tasks.all();
        let machines = tasks.iter().filter_map(|task| task.spec.machine.as_ref());
        machines.flat_map(|machine| machine.ports.iter().map(|port| port.mac_address.clone())).collect()
    }

    /// The address of the machine's first port, by which the ramdisk of a CD and its system are reached where no DHCP is.
    pub(crate) async fn first_address(
        &self,
        machine: &Machine,
        segment: &SegmentConfig,
    ) -> Result<(MacAddr, Ipv4Addr), PublishError> {
        let first = bootable(machine)?.first().copied();
        let mac = first.ok_or_else(|| PublishError::NoPort { node: machine.name.clone() })?;
        Ok((mac, self.reserve(&machine.name, mac, segment).await?))
    }

    /// Serves the ramdisk as a boot CD. Returns the address that it is told.
    pub(crate) async fn publish_cd(
        &self,
        machine: &Machine,
        segment: &SegmentConfig,
        key: &str,
        token: &str,
    ) -> Result<Ipv4Addr, PublishError> {
        self.check_ramdisk(machine)?;
        let (mac, ip) = self.first_address(machine, segment).await?;
        self.boot_cds.serve(key, &self.ramdisks_for(machine, segment, mac, ip, token)?).await?;
        Ok(ip)
    }

    /// Nothing more is served to this machine. It may run, and then goes on with the addresses that it has.
    pub(crate) fn unpublish(&self, machine: &Machine) {
        self.each_port(machine, |mac, segment| {
            self.netboot.update(|table| table.unpublish(mac, &segment.name))
        });
    }

    /// The same of a machine that is off, and so has no address any more, but for what is `kept` of a port in a network.
    pub(crate) fn take_back(&self, machine: &Machine, kept: impl Fn(MacAddr, &SegmentConfig) -> bool) {
        self.each_port(machine, |mac, segment| {
            if !kept(mac, segment) {
                self.netboot.update(|table| table.unpublish(mac, &segment.name));
                self.netboot.end_lease(mac, &segment.name);
            }
        });
    }

    fn each_port(&self, machine: &Machine, each: impl Fn(MacAddr, &SegmentConfig)) {
        for mac in bootable(machine).unwrap_or_default() {
            self.config.segments.iter().for_each(|segment| each(mac, segment));
        }
    }

    /// What its firmware could not start is told before it is switched on, as far as it is known what the machine is.
    fn check_bootable(&self, machine: &Machine, serve: &Serve<'_>) -> Result<(), PublishError> {
        let node = || machine.name.clone();
        match serve {
            Serve::San { .. } if machine.boot_interface() == BootInterface::VirtualMedia => {
                Err(PublishError::MediaSan { node: node() })
            }
            Serve::San { .. } if machine.secure_boot => Err(PublishError::SignedSan { node: node() }),
            Serve::San { .. }
                if Architecture::of_node(&machine.architecture) == Some(Architecture::Arm64)
                    && !self.netboot.has_boot_file(PXE_ARM64) =>
            {
                Err(PublishError::Arm64San { node: node() })
            }
            Serve::Ramdisk { .. } => {
                self.check_ramdisk(machine)?;
                if machine.secure_boot { self.check_signed(machine) } else { Ok(()) }
            }
            Serve::San { .. } | Serve::LocalDisk | Serve::Wait => Ok(()),
        }
    }

    fn check_ramdisk(&self, machine: &Machine) -> Result<(), PublishError> {
        let known = Architecture::of_node(&machine.architecture);
        let Some(known) = known.filter(|known| !self.ramdisks.start_on(*known)) else { return Ok(()) };
        let (architecture, table) = match known {
            Architecture::X86 => ("x86_64", "ramdisk"),
            Architecture::Arm64 => ("arm64", "ramdisk.arm64"),
        };
        Err(PublishError::NoRamdisk { node: machine.name.clone(), architecture, table })
    }

    /// Of a machine that was never looked at it is not known what it is: one whose shim is missing is told of when it asks.
    fn check_signed(&self, machine: &Machine) -> Result<(), PublishError> {
        let known = Architecture::of_node(&machine.architecture).map(|known| vec![known]);
        let perhaps = known.or_else(|| self.ramdisks.machines()).unwrap_or_else(|| vec![Architecture::X86]);
        let chains = &self.config.signed_boot;
        let missing = |architecture: &Architecture| match architecture {
            Architecture::X86 => chains.x86_64.is_none().then_some(("x86_64", "amd64")),
            Architecture::Arm64 => chains.arm64.is_none().then_some(("arm64", "arm64")),
        };
        let missing: Option<Vec<_>> = perhaps.iter().map(missing).collect();
        match missing.as_deref() {
            Some(&[(architecture, debian), ..]) => {
                Err(PublishError::NoSignedBoot { node: machine.name.clone(), architecture, debian })
            }
            _ => Ok(()),
        }
    }

    /// The ramdisk of its architecture for one boot of a machine, by one of its ports.
    fn ramdisks_for(
        &self,
        machine: &Machine,
        segment: &SegmentConfig,
        mac: MacAddr,
        ip: Ipv4Addr,
        token: &str,
    ) -> Result<Ramdisks, KernelArgsError> {
        self.ramdisks.boot(|args| self.kernel_args(args, machine, (segment, mac, ip), token))
    }

    fn kernel_args(
        &self,
        mut args: KernelArgs,
        machine: &Machine,
        (segment, mac, ip): (&SegmentConfig, MacAddr, Ipv4Addr),
        token: &str,
    ) -> Result<KernelArgs, KernelArgsError> {
        let gateway = segment.gateway.map(|g| g.to_string()).unwrap_or_default();
        let now = farrier_runtime::time::now().seconds;
        // The whole name of one that nobody described: its ramdisk tells by that what it is.
        let node = machine.name.strip_prefix("nodes/").unwrap_or(&machine.name);
        for (key, value) in [
            ("farrier.url", format!("https://{}:{}", segment.address, self.agent_port)),
            ("farrier.ca", self.agent_pin().to_hex()),
            ("farrier.token", token.to_owned()),
            ("farrier.node", node.to_owned()),
            ("farrier.ip", format!("{ip}/{},{gateway}", segment.prefix)),
            ("farrier.time", now.to_string()),
            ("BOOTIF", format!("01-{}", mac.to_string().replace(':', "-"))),
        ] {
            args.push(key, Some(&value))?;
        }
        Ok(args)
    }
}

fn san(segment: &SegmentConfig, access: &Access, account: &Account) -> Result<San, SanError> {
    Ok(San {
        portal: SocketAddrV4::new(segment.address, access.port),
        target: access.target.parse()?,
        lun: 0,
        initiator: access.initiator.parse()?,
        user: account.user().parse()?,
        secret: account.secret.parse()?,
    })
}

/// arm64 UEFI, by PXE (IANA's processor architecture types).
const PXE_ARM64: u16 = 11;

/// The ports that may boot from the network.
pub(crate) fn bootable(machine: &Machine) -> Result<Vec<MacAddr>, PublishError> {
    let macs: Vec<MacAddr> = machine
        .ports
        .iter()
        .filter(|p| p.pxe_enabled)
        .map(|p| p.mac_address.parse().map_err(|_| PublishError::Mac { seen: p.mac_address.clone() }))
        .collect::<Result<_, _>>()?;
    if macs.is_empty() { Err(PublishError::NoPort { node: machine.name.clone() }) } else { Ok(macs) }
}

#[cfg(test)]
mod tests;
