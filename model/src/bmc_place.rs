//! A BMC's own place in its network as somebody wants it, checked and put into words by one for all: what the scheduler writes
//! down is what the rack does.

use std::fmt;

use crate::{BadStaticAddress, StaticAddress};

/// Where an address comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A server says it.
    Dhcp,
    /// It is said here.
    Static,
}

/// An IPv4 address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewAddress {
    /// A server says it.
    Dhcp,
    /// This one.
    Static(StaticAddress),
}

/// What shall be so; what is not said stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BmcPlace {
    /// The BMC's word for the interface; empty: the one that it is asked through, or its only one.
    pub interface: String,
    /// Where its IPv4 address comes from.
    pub address: Option<NewAddress>,
    /// The VLAN that its frames are tagged with; `Some(None)`: they are not.
    pub vlan: Option<Option<u16>>,
}

/// As somebody says it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked<'a> {
    /// The BMC's word for the interface.
    pub interface: &'a str,
    /// `None`: it stays.
    pub source: Option<Source>,
    /// Dotted; empty where the source is not static.
    pub address: &'a str,
    /// As of [`Asked::address`].
    pub subnet_mask: &'a str,
    /// As of [`Asked::address`]; empty also where there is none.
    pub gateway: &'a str,
    /// 1 to 4094, or 0 for none; `None`: it stays.
    pub vlan: Option<i32>,
}

/// What is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadPlace {
    /// The address, its mask or its gateway.
    Address(BadStaticAddress),
    /// There is an address, and another source.
    NotStatic,
    /// No VLAN has this number.
    Vlan,
    /// No interface has such a name.
    Interface,
    /// Nothing is to change.
    Nothing,
}

impl BmcPlace {
    /// # Errors
    /// A BMC that took it could not be reached, or there is nothing for it to take.
    pub fn of(asked: Asked<'_>) -> Result<Self, BadPlace> {
        let Asked { interface, source, address, subnet_mask, gateway, vlan } = asked;
        if interface.len() > NAME || !interface.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(BadPlace::Interface);
        }
        let address = match source {
            Some(Source::Static) => {
                let address = StaticAddress::parse(address, subnet_mask, gateway);
                Some(NewAddress::Static(address.map_err(BadPlace::Address)?))
            }
            _ if !(address.is_empty() && subnet_mask.is_empty() && gateway.is_empty()) => {
                return Err(BadPlace::NotStatic);
            }
            Some(Source::Dhcp) => Some(NewAddress::Dhcp),
            None => None,
        };
        let vlan = match vlan.map(u16::try_from) {
            None => None,
            Some(Ok(0)) => Some(None),
            Some(Ok(id @ 1..=4094)) => Some(Some(id)),
            Some(_) => return Err(BadPlace::Vlan),
        };
        if address.is_none() && vlan.is_none() {
            return Err(BadPlace::Nothing);
        }
        Ok(Self { interface: interface.to_owned(), address, vlan })
    }

    /// The address, if it is said here.
    #[must_use]
    pub fn new_address(&self) -> Option<StaticAddress> {
        match self.address {
            Some(NewAddress::Static(address)) => Some(address),
            Some(NewAddress::Dhcp) | None => None,
        }
    }
}

/// Bytes of an interface's name.
const NAME: usize = 64;

impl fmt::Display for BmcPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        words.extend(self.address.map(|address| match address {
            NewAddress::Dhcp => "address by DHCP".to_owned(),
            NewAddress::Static(address) => format!("address {address}"),
        }));
        words.extend(self.vlan.map(|vlan| vlan.map_or("no VLAN".to_owned(), |id| format!("VLAN {id}"))));
        if !self.interface.is_empty() {
            words.push(format!("interface {}", self.interface));
        }
        f.write_str(if words.is_empty() { "nothing" } else { "" })?;
        f.write_str(&words.join(", "))
    }
}

impl BadPlace {
    /// Which of the settings it is about; empty: all of them.
    #[must_use]
    pub fn part(&self) -> &'static str {
        match self {
            Self::Address(_) | Self::Nothing => "",
            Self::NotStatic => "address",
            Self::Vlan => "vlan_id",
            Self::Interface => "interface",
        }
    }
}

impl fmt::Display for BadPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(error) => error.fmt(f),
            Self::NotStatic => f.write_str("expected one only where the source is static"),
            Self::Vlan => f.write_str("expected 1 to 4094, or 0 for none"),
            Self::Interface => write!(f, "expected a name of at most {NAME} printable bytes"),
            Self::Nothing => f.write_str("expected an address, its source or a VLAN"),
        }
    }
}

impl std::error::Error for BadPlace {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_cut_a_bmc_off_is_refused_before_it_is_asked() {
        let asked = |source, address: &str, gateway: &str, vlan| {
            let subnet_mask = if address.is_empty() { "" } else { "255.255.255.0" };
            BmcPlace::of(Asked { interface: "", source, address, subnet_mask, gateway, vlan })
        };
        use Source::{Dhcp, Static};
        let whole = asked(Some(Static), "192.0.2.7", "192.0.2.1", Some(4094)).unwrap();
        assert_eq!(whole.to_string(), "address 192.0.2.7/24 via 192.0.2.1, VLAN 4094");
        assert_eq!(whole.new_address().unwrap().address().to_string(), "192.0.2.7");
        assert_eq!(asked(None, "", "", Some(0)).unwrap().to_string(), "no VLAN");
        assert_eq!(asked(Some(Dhcp), "", "", None).unwrap().address, Some(NewAddress::Dhcp));
        for (bad, part, why) in [
            (asked(None, "", "", None), "", "expected an address, its source or a VLAN"),
            (asked(Some(Static), "192.0.2.7", "192.0.3.1", None), "", "gateway: expected another host"),
            (asked(Some(Static), "192.0.2.255", "", None), "", "the first or the last"),
            (asked(Some(Static), "bmc1", "", None), "", "address: expected IPv4"),
            (asked(Some(Static), "", "", None), "", "address: expected IPv4"),
            (asked(Some(Dhcp), "192.0.2.7", "", None), "address", "only where the source is static"),
            (asked(None, "192.0.2.7", "", Some(5)), "address", "only where the source is static"),
            (asked(Some(Dhcp), "", "", Some(4095)), "vlan_id", "expected 1 to 4094"),
            (asked(Some(Dhcp), "", "", Some(-1)), "vlan_id", "expected 1 to 4094"),
        ] {
            let error = bad.unwrap_err();
            assert!(error.part() == part && error.to_string().contains(why), "{error}");
        }
        for bad in ["a b", "\n", &"x".repeat(65)] {
            let asked = Asked { interface: bad, source: Some(Dhcp), ..Asked::default() };
            assert_eq!(BmcPlace::of(asked), Err(BadPlace::Interface));
        }
        let named = Asked { interface: "eth0", source: Some(Dhcp), ..Asked::default() };
        assert_eq!(BmcPlace::of(named).unwrap().to_string(), "address by DHCP, interface eth0");
    }
}
