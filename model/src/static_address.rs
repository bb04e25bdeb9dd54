//! A static IPv4 address of a BMC with its network, checked before anybody is told of it: a BMC takes nonsense too, and is
//! gone then.

use std::fmt;
use std::net::Ipv4Addr;

/// An address that a host may have, in a network that has room for others, and a gateway of that network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StaticAddress {
    address: Ipv4Addr,
    prefix: u8,
    gateway: Option<Ipv4Addr>,
}

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadStaticAddress {
    /// This part is no IPv4 address.
    Text(&'static str),
    /// No host has it.
    Address(Ipv4Addr),
    /// A host needs a network of 1 to 30 bits.
    Mask,
    /// It is the network itself, or all its hosts.
    NoHost(Ipv4Addr),
    /// It is no other host of the same network.
    Gateway(Ipv4Addr),
}

impl StaticAddress {
    /// # Errors
    /// A BMC that took it could not be reached, or could not answer.
    pub fn new(
        address: Ipv4Addr,
        subnet_mask: Ipv4Addr,
        gateway: Option<Ipv4Addr>,
    ) -> Result<Self, BadStaticAddress> {
        let bits = u32::from(subnet_mask);
        let prefix = u8::try_from(bits.leading_ones()).map_err(|_| BadStaticAddress::Mask)?;
        if !(1..=30).contains(&prefix) || bits.count_ones() != u32::from(prefix) {
            return Err(BadStaticAddress::Mask);
        }
        let first = address.octets().first().copied().unwrap_or_default();
        // 0/8 is "this network", 224/4 multicast, 240/4 reserved (RFC 6890).
        if first == 0 || first >= 224 {
            return Err(BadStaticAddress::Address(address));
        }
        let new = Self { address, prefix, gateway };
        if !new.is_host(address) {
            return Err(BadStaticAddress::NoHost(address));
        }
        match gateway {
            Some(gateway) if !new.takes_gateway(gateway) => Err(BadStaticAddress::Gateway(gateway)),
            _ => Ok(new),
        }
    }

    /// Of dotted texts; an empty gateway is none.
    ///
    /// # Errors
    /// As of [`StaticAddress::new`], or one of them is no address.
    pub fn parse(address: &str, subnet_mask: &str, gateway: &str) -> Result<Self, BadStaticAddress> {
        let ip = |name, text: &str| text.parse::<Ipv4Addr>().map_err(|_| BadStaticAddress::Text(name));
        let gateway = if gateway.is_empty() { None } else { Some(ip("gateway", gateway)?) };
        Self::new(ip("address", address)?, ip("subnet mask", subnet_mask)?, gateway)
    }

    /// The address itself.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Of its network.
    #[must_use]
    pub fn subnet_mask(&self) -> Ipv4Addr {
        self.mask().into()
    }

    /// The way out, where it is said.
    #[must_use]
    pub fn gateway(&self) -> Option<Ipv4Addr> {
        self.gateway
    }

    /// Whether this may be its gateway.
    #[must_use]
    pub fn takes_gateway(&self, gateway: Ipv4Addr) -> bool {
        gateway != self.address && self.is_host(gateway)
    }

    fn mask(&self) -> u32 {
        u32::MAX << (32 - u32::from(self.prefix))
    }

    /// In the network, and neither its first address nor its last.
    fn is_host(&self, other: Ipv4Addr) -> bool {
        let (mask, other) = (self.mask(), u32::from(other));
        other & mask == u32::from(self.address) & mask && other & !mask != 0 && other | mask != u32::MAX
    }
}

impl fmt::Display for StaticAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)?;
        self.gateway.map_or(Ok(()), |gateway| write!(f, " via {gateway}"))
    }
}

impl fmt::Display for BadStaticAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(name) => write!(f, "{name}: expected IPv4, four numbers with dots between"),
            Self::Address(seen) => write!(f, "address: expected one of a host, saw {seen}"),
            Self::Mask => f.write_str("subnet mask: expected 1 to 30 ones in front, such as 255.255.255.0"),
            Self::NoHost(seen) => {
                write!(
                    f,
                    "address: expected a host's, saw {seen}, the first or the last address of its network"
                )
            }
            Self::Gateway(seen) => {
                write!(f, "gateway: expected another host of the same network, saw {seen}")
            }
        }
    }
}

impl std::error::Error for BadStaticAddress {}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(
        address: [u8; 4],
        prefix: u32,
        gateway: Option<[u8; 4]>,
    ) -> Result<StaticAddress, BadStaticAddress> {
        let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
        StaticAddress::new(address.into(), mask.into(), gateway.map(Ipv4Addr::from))
    }

    #[test]
    fn a_host_has_a_network_and_its_gateway_is_another_host_of_it() {
        let good = new([192, 0, 2, 7], 24, Some([192, 0, 2, 1])).unwrap();
        assert_eq!(good.subnet_mask(), Ipv4Addr::new(255, 255, 255, 0));
        assert_eq!(good.to_string(), "192.0.2.7/24 via 192.0.2.1");
        assert!(new([10, 255, 255, 255], 7, None).is_ok() && new([127, 3, 0, 9], 8, None).is_ok());
        assert!(new([192, 0, 2, 1], 30, Some([192, 0, 2, 2])).is_ok());
    }

    #[test]
    fn what_would_cut_a_bmc_off_is_refused_with_its_reason() {
        use BadStaticAddress::{Address, Gateway, Mask, NoHost, Text};
        let parse = StaticAddress::parse;
        assert_eq!(parse("192.0.2.7", "255.255.255.0", ""), new([192, 0, 2, 7], 24, None));
        assert_eq!(parse("192.0.2.7/24", "255.255.255.0", ""), Err(Text("address")));
        assert_eq!(parse("192.0.2.7", "24", ""), Err(Text("subnet mask")));
        assert_eq!(parse("192.0.2.7", "255.255.255.0", "gw"), Err(Text("gateway")));
        let ip = |last| Ipv4Addr::new(192, 0, 2, last);
        for (seen, why) in [
            (new([192, 0, 2, 7], 0, None), Mask),
            (new([192, 0, 2, 7], 31, None), Mask),
            (new([192, 0, 2, 7], 32, None), Mask),
            (StaticAddress::new(ip(7), Ipv4Addr::new(255, 0, 255, 0), None), Mask),
            (new([192, 0, 2, 0], 24, None), NoHost(ip(0))),
            (new([192, 0, 2, 255], 24, None), NoHost(ip(255))),
            (new([192, 0, 2, 8], 29, None), NoHost(ip(8))),
            (new([0, 0, 2, 7], 24, None), Address(Ipv4Addr::new(0, 0, 2, 7))),
            (new([224, 0, 0, 1], 24, None), Address(Ipv4Addr::new(224, 0, 0, 1))),
            (new([255, 255, 255, 254], 24, None), Address(Ipv4Addr::new(255, 255, 255, 254))),
            (new([192, 0, 2, 7], 24, Some([192, 0, 3, 1])), Gateway(Ipv4Addr::new(192, 0, 3, 1))),
            (new([192, 0, 2, 7], 24, Some([192, 0, 2, 7])), Gateway(ip(7))),
            (new([192, 0, 2, 7], 24, Some([192, 0, 2, 0])), Gateway(ip(0))),
            (new([192, 0, 2, 7], 24, Some([192, 0, 2, 255])), Gateway(ip(255))),
            (new([192, 0, 2, 7], 24, Some([0, 0, 0, 0])), Gateway(Ipv4Addr::UNSPECIFIED)),
        ] {
            assert_eq!(seen, Err(why));
        }
    }
}
