//! The answer's bytes.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU16;

use dhcproto::{
    Encodable as _,
    v6::{DhcpOption, IAAddr, IANA, Message, MessageType, OptionCode, Status, StatusCode, UnknownOption},
};

use super::request::{Hop, Ia, Request6};
use crate::{Dhcp6, dhcp::BootFile};

/// An answer under construction.
pub(super) struct Reply(Message);

impl Reply {
    pub(super) fn new(kind: MessageType, request: &Request6, six: &Dhcp6) -> Self {
        let mut message = Message::new_with_id(kind, request.xid);
        message.opts_mut().insert(DhcpOption::ServerId(six.duid()));
        if let Some(id) = &request.client_id {
            message.opts_mut().insert(DhcpOption::ClientId(id.clone()));
        }
        Self(message)
    }

    pub(super) fn with(mut self, option: DhcpOption) -> Self {
        self.0.opts_mut().insert(option);
        self
    }

    pub(super) fn status(self, status: Status, words: &str) -> Self {
        self.with(status_code(status, words))
    }

    /// One association has the reserved address for `seconds`, and no other: the one that has it already, or the first.
    /// There is none for the others.
    pub(super) fn addresses(mut self, ias: &[Ia], reserved: Ipv6Addr, seconds: u32) -> Self {
        let its = ias.iter().position(|ia| ia.addresses.contains(&reserved)).unwrap_or(0);
        for (index, ia) in ias.iter().enumerate() {
            let mut answer = IANA { id: ia.id, t1: 0, t2: 0, opts: Default::default() };
            let stale = ia.addresses.iter().filter(|ip| index != its || **ip != reserved);
            // RFC 8415 §18.3.4, §18.3.5: a lifetime of 0 takes an address away.
            stale.for_each(|ip| answer.opts.insert(address(*ip, 0)));
            if index == its {
                // RFC 8415 §21.4: T1 and T2 at 0.5 and 0.8 of the preferred lifetime.
                (answer.t1, answer.t2) = (seconds / 2, seconds - seconds / 5);
                answer.opts.insert(address(reserved, seconds));
            } else {
                answer.opts.insert(status_code(Status::NoAddrsAvail, "a port has one address"));
            }
            self.0.opts_mut().insert(DhcpOption::IANA(answer));
        }
        self
    }

    /// None of the associations is known here (RFC 8415 §18.3.4).
    pub(super) fn no_binding(mut self, ias: &[Ia]) -> Self {
        for ia in ias {
            let mut answer = IANA { id: ia.id, t1: 0, t2: 0, opts: Default::default() };
            answer.opts.insert(status_code(Status::NoBinding, "not reserved on this network"));
            self.0.opts_mut().insert(DhcpOption::IANA(answer));
        }
        self
    }

    /// RFC 5970 §3.1: the URL, with an IPv6 address in brackets. UEFI's HTTP boot wants its class back
    /// (UEFI 2.10 §24.7.3.2).
    pub(super) fn boot(self, six: &Dhcp6, boot: &BootFile) -> Self {
        let url = match boot {
            BootFile::Nothing | BootFile::Unknown(..) => return self,
            BootFile::Tftp(file) => tftp(six, file),
            BootFile::Script(url) | BootFile::Http(url) => url.clone(),
        };
        let this = self.with(raw(BOOTFILE_URL, url.into_bytes()));
        if !matches!(boot, BootFile::Http(_)) {
            return this;
        }
        // Enterprise 343 as firmware itself has it, one class. Raw: dhcproto counts classes where their length belongs.
        let class = [&INTEL.to_be_bytes()[..], &[0, 10], b"HTTPClient"].concat();
        this.with(raw(VENDOR_CLASS, class))
    }

    /// RFC 3646 §3. Firmware that boots from a URL with a name resolves it by them.
    pub(super) fn dns(self, servers: &[Ipv6Addr]) -> Self {
        if servers.is_empty() {
            return self;
        }
        self.with(DhcpOption::DomainNameServers(servers.iter().take(MOST_DNS).copied().collect()))
    }

    /// RFC 5970 §3.2, one parameter: how long the boot file is. EDK2 takes it for a decimal number of 512 octets, as option 13 of
    /// DHCPv4 has it (RFC 2132 §3.15), and need not ask the TFTP server; one of more than 16 bits, or of none, ends its boot.
    pub(super) fn length(self, blocks: Option<NonZeroU16>) -> Self {
        let Some(blocks) = blocks else { return self };
        let digits = blocks.to_string().into_bytes();
        let length = u16::try_from(digits.len()).unwrap_or(0).to_be_bytes();
        self.with(raw(BOOTFILE_PARAMETERS, [&length[..], &digits].concat()))
    }

    /// The bytes to send, in as many envelopes as it came in (RFC 8415 §19.3). `None` if they cannot be encoded, which no
    /// table can bring about.
    pub(super) fn bytes(&self, relays: &[Hop]) -> Option<Vec<u8>> {
        let mut bytes = self.0.to_vec().ok()?;
        for hop in relays.iter().rev() {
            let mut outer = vec![RELAY_REPL, hop.hop_count];
            outer.extend(hop.link.octets());
            outer.extend(hop.peer.octets());
            let mut option = |code: u16, value: &[u8]| {
                outer.extend(code.to_be_bytes());
                outer.extend(u16::try_from(value.len()).ok()?.to_be_bytes());
                outer.extend(value);
                Some(())
            };
            if let Some(id) = &hop.interface_id {
                option(INTERFACE_ID, id)?;
            }
            option(RELAY_MSG, &bytes)?;
            bytes = outer;
        }
        Some(bytes)
    }
}

/// Where a file of our TFTP server is.
pub(super) fn tftp(six: &Dhcp6, file: &str) -> String {
    format!("tftp://[{}]/{file}", IpAddr::from(six.server_ip))
}

fn address(addr: Ipv6Addr, seconds: u32) -> DhcpOption {
    let opts = Default::default();
    DhcpOption::IAAddr(IAAddr { addr, preferred_life: seconds, valid_life: seconds, opts })
}

fn status_code(status: Status, words: &str) -> DhcpOption {
    DhcpOption::StatusCode(StatusCode { status, msg: words.to_owned() })
}

fn raw(code: u16, bytes: Vec<u8>) -> DhcpOption {
    DhcpOption::Unknown(UnknownOption::new(OptionCode::from(code), bytes))
}

/// As many as DHCPv4's.
const MOST_DNS: usize = 8;
const RELAY_REPL: u8 = 13;
const RELAY_MSG: u16 = 9;
const VENDOR_CLASS: u16 = 16;
const INTERFACE_ID: u16 = 18;
const BOOTFILE_URL: u16 = 59;
const BOOTFILE_PARAMETERS: u16 = 60;
const INTEL: u32 = 343;
