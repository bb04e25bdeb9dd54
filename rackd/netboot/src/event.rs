//! What happened on the way to a booted machine, told so that nobody needs tcpdump.

mod rings;

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, SystemTime},
};

use farrier_model::size::exact;

use crate::{MacAddr, PacketOf};
pub(crate) use rings::Events;

/// One thing that happened.
#[derive(Debug, Clone)]
pub struct BootEvent {
    /// When.
    pub at: SystemTime,
    /// The port it is about, if that is known.
    pub mac: Option<MacAddr>,
    /// Its node, if the port is in the table.
    pub node: Option<String>,
    /// What.
    pub kind: EventKind,
    /// The rest, for people. Never a secret.
    pub detail: String,
    /// Grows by one with each event of this process.
    pub sequence: u64,
    /// The packet that was read or sent.
    pub packet: PacketOf,
}

impl BootEvent {
    /// With every option of its packet, by name and value, in its detail; `None`: it is of no packet, or of one that is kept no
    /// more.
    #[must_use]
    pub fn told_whole(&self) -> Option<Self> {
        let text = self.packet.text()?;
        let between = if self.detail.is_empty() { "" } else { " " };
        Some(Self { detail: format!("{}{between}[{text}]", self.detail), ..self.clone() })
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// A machine looks for an address (DHCPDISCOVER).
    Discover,
    /// We offered one.
    Offer,
    /// It asks for one, or to keep one (DHCPREQUEST).
    Request,
    /// It has one.
    Ack,
    /// It may not have the one it asked for.
    Nak,
    /// It asked for settings only (DHCPINFORM), and got them.
    Inform,
    /// It said something that changes nothing: the detail says why.
    Ignored {
        /// What it was, as it is called in RFC 2131 or RFC 8415.
        message: &'static str,
    },
    /// It found its address in use by another machine (DHCPDECLINE).
    Decline,
    /// It gave its address back.
    Release,
    /// A DHCPv6 message, of a machine or to it, by its name in RFC 8415 §7.3.
    Dhcp6(&'static str),
    /// It took another server's offer.
    OtherServer,
    /// A DHCP server that is not ours answers on a network that is. Told once a minute for each.
    ForeignServer {
        /// Its address; of a DHCPv6 server the link-local one.
        server: IpAddr,
        /// The network.
        network: String,
    },
    /// A router advertises on a network whose IPv6 is ours, and says otherwise. Told once a minute for each.
    RogueRouter {
        /// Its link-local address.
        router: Ipv6Addr,
        /// The network.
        network: String,
    },
    /// An address of ours is used by somebody who did not get it from us. One of a pool is left alone.
    AddressInUse,
    /// A lease could not be written to disk, so its machine was told nothing.
    LeaseNotWritten,
    /// What a machine of the table was to be told did not leave.
    AnswerNotSent,
    /// A machine that is not in the table. Told once a minute for each address, firmware and systems apart.
    UnknownMac {
        /// The network it is on.
        network: String,
        /// Whether it is firmware that wants to boot, not a system that wants an address.
        boots: bool,
    },
    /// A machine that is not in the table has an address of the pool, or has it again.
    Guest {
        /// The network it is on.
        network: String,
        /// Its address.
        ip: Ipv4Addr,
        /// Whether it is firmware that wants to boot.
        boots: bool,
        /// Whose BMC it calls itself.
        bmc: Option<&'static str>,
    },
    /// A machine that is not in the table, and no address of the pool is free. Told once a minute.
    PoolExhausted {
        /// The network whose pool it is.
        network: String,
    },
    /// A known machine on a network where nothing is reserved for it, or in another rack than its own.
    WrongNetwork,
    /// Firmware that wants to boot, on a network of BMCs, where it gets no answer. Told once a minute for each address.
    BootsOnManagement {
        /// The network.
        network: String,
    },
    /// A relay agent of a subnet that is none of ours. Told once a minute for each.
    UnknownRelay {
        /// Its address: `giaddr`, or where a DHCPv6 relay sent from.
        relay: IpAddr,
    },
    /// Firmware of a kind we have no boot file for (option 93).
    UnknownArchitecture {
        /// The number, RFC 4578 §2.1 and IANA's registry.
        architecture: u16,
    },
    /// A file is being fetched by TFTP.
    TftpStart,
    /// Parts of a file were sent by TFTP again: what and why is in the detail. Told each time that it happened twice as often.
    TftpAgain,
    /// A file was fetched by TFTP.
    TftpDone {
        /// Bytes acknowledged.
        bytes: u64,
        /// From request to last ACK.
        elapsed: Duration,
    },
    /// A transfer broke off.
    TftpFailed {
        /// Bytes acknowledged.
        bytes: u64,
    },
    /// A TFTP request was refused.
    TftpRefused,
    /// So many transfers are under way that requests are not answered until some end. Told once a minute and machine.
    TftpFull,
    /// GRUB's boot script was given out by TFTP.
    TftpScript,
    /// A boot script was given out.
    HttpScript,
    /// A boot script was refused.
    HttpScriptRefused,
    /// Boot firmware was fetched over HTTP.
    HttpFirmware {
        /// Name of the file.
        name: String,
        /// Bytes sent.
        bytes: u64,
    },
    /// A kernel or initrd was fetched.
    HttpArtifact {
        /// Served name.
        name: String,
        /// Bytes sent; less than its size when the machine broke off.
        bytes: u64,
    },
    /// How long a file is was asked for, or whether it is what the machine has already (HEAD, and 304: RFC 9110 §9.3.2, §15.4.5).
    HttpAsked {
        /// The answer's status.
        status: u16,
        /// What was asked about.
        name: String,
    },
    /// A connection was closed unheard: so many are open, and its address has its share of them. Told once a minute and machine.
    HttpFull,
    /// An HTTP request that got no file.
    HttpFailed {
        /// The answer's (RFC 9110 §15).
        status: u16,
        /// What was asked for; printable.
        name: String,
    },
    /// A TLS handshake failed.
    TlsFailed,
    /// A machine has logged in to its iSCSI disk (RFC 7143 §6). Whoever serves the disk says so: [`crate::Netboot::tell`].
    IscsiLogin,
    /// Its session has ended.
    IscsiLogout,
    /// A login to an iSCSI disk was refused.
    IscsiRefused,
    /// The ramdisk runs, and its agent has shown the boot's secret.
    AgentRegistered,
    /// An agent whose boot's secret is not good.
    AgentRefused,
    /// A packet that nobody can read was dropped. Told once a minute and sender, of machines of the table.
    Malformed {
        /// What it was to be.
        protocol: &'static str,
    },
    /// More than fifty events of one kind and port in a second, or five refusals: the rest of that second is not told.
    Flood,
    /// Listening on an interface.
    SegmentUp,
    /// Not listening on an interface (any more).
    SegmentDown,
}

impl EventKind {
    /// Whether it is about addresses: DHCP, its pools, and its servers.
    #[must_use]
    pub fn is_dhcp(&self) -> bool {
        match self {
            Self::Discover
            | Self::Offer
            | Self::Request
            | Self::Ack
            | Self::Nak
            | Self::Inform
            | Self::Decline
            | Self::Release
            | Self::Dhcp6(_)
            | Self::Ignored { .. }
            | Self::OtherServer
            | Self::ForeignServer { .. }
            | Self::RogueRouter { .. }
            | Self::AddressInUse
            | Self::LeaseNotWritten
            | Self::AnswerNotSent
            | Self::UnknownMac { .. }
            | Self::Guest { .. }
            | Self::PoolExhausted { .. }
            | Self::WrongNetwork
            | Self::BootsOnManagement { .. }
            | Self::UnknownRelay { .. }
            | Self::UnknownArchitecture { .. }
            | Self::Malformed { protocol: "dhcp" | "proxydhcp" | "dhcpv6" }
            | Self::Flood
            | Self::SegmentUp
            | Self::SegmentDown => true,
            Self::TftpStart
            | Self::TftpAgain
            | Self::TftpDone { .. }
            | Self::TftpFailed { .. }
            | Self::TftpRefused
            | Self::TftpFull
            | Self::Malformed { .. }
            | Self::TftpScript
            | Self::HttpScript
            | Self::HttpScriptRefused
            | Self::HttpFirmware { .. }
            | Self::HttpArtifact { .. }
            | Self::HttpAsked { .. }
            | Self::HttpFull
            | Self::HttpFailed { .. }
            | Self::TlsFailed
            | Self::IscsiLogin
            | Self::IscsiLogout
            | Self::IscsiRefused
            | Self::AgentRegistered
            | Self::AgentRefused => false,
        }
    }
}

impl EventKind {
    /// Whether it is told when an answer has left, and not before.
    pub(crate) fn is_answer(&self) -> bool {
        matches!(
            self,
            Self::Offer
                | Self::Ack
                | Self::Nak
                | Self::Inform
                | Self::Guest { .. }
                | Self::Dhcp6("ADVERTISE" | "REPLY")
        )
    }
}

impl EventKind {
    /// Whether a boot script went out, and with it the secret that was in it.
    #[must_use]
    pub fn gave_script(&self) -> bool {
        matches!(self, Self::HttpScript | Self::TftpScript)
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Discover => "DHCPDISCOVER",
            Self::Offer => "DHCPOFFER",
            Self::Request => "DHCPREQUEST",
            Self::Ack => "DHCPACK",
            Self::Nak => "DHCPNAK",
            Self::Inform => "DHCPINFORM",
            Self::Decline => "DHCPDECLINE",
            Self::Release => "DHCPRELEASE",
            Self::Dhcp6(message) => return write!(f, "DHCPv6 {message}"),
            Self::Ignored { message } => return write!(f, "{message} ignored"),
            Self::OtherServer => "other DHCP server",
            Self::ForeignServer { server, network } => {
                return write!(f, "foreign DHCP server {server} on {network}");
            }
            Self::RogueRouter { router, network } => {
                return write!(f, "rogue router {router} on {network}");
            }
            Self::AddressInUse => "address in use",
            Self::LeaseNotWritten => "lease not written",
            Self::AnswerNotSent => "answer not sent",
            Self::UnknownMac { .. } => "unknown MAC",
            Self::Guest { ip, bmc: None, .. } => return write!(f, "{ip} of the pool"),
            Self::Guest { ip, bmc: Some(bmc), .. } => return write!(f, "{ip} of the pool to {bmc}"),
            Self::WrongNetwork => "wrong network",
            Self::BootsOnManagement { network } => return write!(f, "boots on management network {network}"),
            Self::UnknownRelay { relay } => return write!(f, "unknown relay {relay}"),
            Self::UnknownArchitecture { architecture } => {
                return write!(f, "unknown architecture {architecture}");
            }
            Self::TftpStart => "TFTP begins",
            Self::TftpAgain => "TFTP sends again",
            Self::TftpDone { bytes, elapsed } => {
                return write!(f, "TFTP done, {} in {} ms", exact(*bytes), elapsed.as_millis());
            }
            Self::TftpFailed { bytes } => return write!(f, "TFTP broke off after {}", exact(*bytes)),
            Self::TftpRefused => "TFTP refused",
            Self::TftpFull => "TFTP is full",
            Self::TftpScript => "TFTP boot script",
            Self::HttpScript => "HTTP boot script",
            Self::HttpScriptRefused => "HTTP boot script refused",
            Self::HttpFirmware { name, bytes } | Self::HttpArtifact { name, bytes } => {
                return write!(f, "HTTP {name}, {}", exact(*bytes));
            }
            Self::HttpAsked { status, name } => return write!(f, "HTTP {name}, asked about: {status}"),
            Self::HttpFull => "HTTP is full",
            Self::HttpFailed { status, name } => return write!(f, "HTTP {name}: {status}"),
            Self::TlsFailed => "TLS handshake failed",
            Self::IscsiLogin => "iSCSI login",
            Self::IscsiLogout => "iSCSI session ended",
            Self::IscsiRefused => "iSCSI login refused",
            Self::AgentRegistered => "agent registered",
            Self::AgentRefused => "agent refused",
            Self::Malformed { protocol } => return write!(f, "malformed {protocol} packet"),
            Self::Flood => "flood",
            Self::SegmentUp => "segment up",
            Self::PoolExhausted { .. } => "address pool exhausted",
            Self::SegmentDown => "segment down",
        })
    }
}
