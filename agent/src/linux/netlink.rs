//! The four messages of rtnetlink(7) the agent needs, and their answer.
//!
//! ```text
//! nlmsghdr   len u32 | type u16 | flags u16 | seq u32 | port u32      linux/netlink.h
//! ifinfomsg  family u8 | pad u8 | type u16 | index i32 | flags u32 | change u32
//! ifaddrmsg  family u8 | prefix u8 | flags u8 | scope u8 | index u32  linux/if_addr.h
//! rtmsg      family dst_len src_len tos table protocol scope type u8 | flags u32   linux/rtnetlink.h
//! rtattr     len u16 | type u16 | value, padded to 4
//! ```
//! Numbers are in the machine's byte order.
use rustix::io::Errno;
use std::net::IpAddr;

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const NLMSG_ERROR: u16 = 2;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_CREATE: u16 = 0x400;

const IFF_UP: u32 = 1;
/// Also what is sent to groups that nobody here is in: LLDP's.
const IFF_ALLMULTI: u32 = 0x200;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// Duplicate address detection would take a second, and rackd hands out each address once.
const IFA_F_NODAD: u8 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const RTN_UNICAST: u8 = 1;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// `ip link set INDEX up allmulticast on`.
pub fn link_up(index: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend_from_slice(&index.to_ne_bytes());
    // What they are to be, and which of them.
    for flags in [IFF_UP | IFF_ALLMULTI; 2] {
        body.extend_from_slice(&flags.to_ne_bytes());
    }
    message(RTM_NEWLINK, 0, &body)
}

/// `ip address replace IP/PREFIX dev INDEX`.
pub fn address(index: u32, ip: IpAddr, prefix_len: u8) -> Vec<u8> {
    let flags = if ip.is_ipv6() { IFA_F_NODAD } else { 0 };
    let mut body = vec![family(ip), prefix_len, flags, 0];
    body.extend_from_slice(&index.to_ne_bytes());
    attribute(&mut body, IFA_LOCAL, &octets(ip));
    attribute(&mut body, IFA_ADDRESS, &octets(ip));
    message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &body)
}

/// `ip route replace default via GATEWAY dev INDEX`.
pub fn default_route(index: u32, gateway: IpAddr) -> Vec<u8> {
    let mut body = vec![family(gateway), 0, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, 0, RTN_UNICAST, 0, 0, 0, 0];
    attribute(&mut body, RTA_GATEWAY, &octets(gateway));
    attribute(&mut body, RTA_OIF, &index.to_ne_bytes());
    message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &body)
}

/// What the kernel answered: an acknowledgement is an error message that says 0.
pub fn acknowledgement(answer: &[u8]) -> Result<(), Errno> {
    let kind = answer.get(4..6).and_then(|b| b.try_into().ok()).map(u16::from_ne_bytes);
    let code = answer.get(16..20).and_then(|b| b.try_into().ok()).map(i32::from_ne_bytes);
    match (kind, code) {
        (Some(NLMSG_ERROR), Some(0)) => Ok(()),
        // The kernel's errors are -1 to -4095 (include/linux/err.h); rustix panics on others.
        (Some(NLMSG_ERROR), Some(code @ -4095..0)) => Err(Errno::from_raw_os_error(-code)),
        _ => Err(Errno::BADMSG),
    }
}

fn family(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { AF_INET } else { AF_INET6 }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let len = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    body.extend_from_slice(&len.to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len() + 16).unwrap_or(u32::MAX);
    let mut out = len.to_ne_bytes().to_vec();
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(&(NLM_F_REQUEST | NLM_F_ACK | flags).to_ne_bytes());
    out.extend_from_slice(&[0; 8]); // one request at a time: no sequence number; port 0 is the kernel
    out.extend_from_slice(body);
    out
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::*;

    fn check(message: Vec<u8>, expect: &str) {
        assert_eq!(hex::encode(message), expect.replace(' ', ""));
    }

    /// The bytes iproute2 sends for the same commands (strace -e sendmsg ip …), but for sequence numbers.
    #[test]
    fn messages_are_those_of_iproute2() {
        check(link_up(2), "20000000 1000 0500 00000000 00000000 00000000 02000000 01020000 01020000");
        check(
            address(2, "10.90.0.17".parse().unwrap(), 24),
            "28000000 1400 0505 00000000 00000000 02 18 00 00 02000000 0800 0200 0a5a0011 0800 0100 0a5a0011",
        );
        check(
            default_route(2, "10.90.0.1".parse().unwrap()),
            "2c000000 1800 0505 00000000 00000000 02 00 00 00 fe 04 00 01 00000000 \
             0800 0500 0a5a0001 0800 0400 02000000",
        );
    }

    #[test]
    fn acknowledgements_carry_the_kernels_error() {
        let answer = |code: i32| {
            let mut bytes = vec![0; 16];
            bytes[4] = 2;
            bytes.extend_from_slice(&code.to_ne_bytes());
            bytes
        };
        assert_eq!(acknowledgement(&answer(0)), Ok(()));
        assert_eq!(acknowledgement(&answer(-17)), Err(Errno::EXIST));
        assert_eq!(acknowledgement(&[]), Err(Errno::BADMSG));
        assert!(acknowledgement(&answer(i32::MIN)).is_err());
    }
}
