use std::fmt;
use std::str::FromStr;

/// EUI-48, shown in lower case with colons.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress(pub [u8; 6]);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, saw {seen:?}")]
pub struct ParseMacError {
    pub expected: &'static str,
    pub seen: String,
}

impl MacAddress {
    /// With dashes, as in iPXE's `${mac:hexhyp}` and in port names.
    pub fn hexhyp(&self) -> String {
        self.to_string().replace(':', "-")
    }
}

impl FromStr for MacAddress {
    type Err = ParseMacError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let refuse = |expected| ParseMacError { expected, seen: s.chars().take(40).collect() };
        let bad = || refuse("a MAC address such as 52:54:00:aa:bb:cc");
        let mut out = [0u8; 6];
        let mut parts = s.split([':', '-']);
        for byte in &mut out {
            let part = parts.next().ok_or_else(bad)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(bad());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() {
            return Err(bad());
        }
        // A group address is nobody's own address (IEEE 802, bit 0 of the first octet).
        if out.first().is_none_or(|b| b & 1 == 1) || out == [0; 6] {
            return Err(refuse(
                "the address of one port, not of a group (an odd first byte) and not all zeroes",
            ));
        }
        Ok(Self(out))
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02x}", if i == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_separators_and_cases_are_read() {
        for text in ["52:54:00:AA:bb:cc", "52-54-00-aa-bb-cc"] {
            assert_eq!(text.parse::<MacAddress>().unwrap().to_string(), "52:54:00:aa:bb:cc");
        }
    }

    #[test]
    fn group_zero_and_malformed_addresses_are_refused() {
        for bad in [
            "",
            "01:00:5e:00:00:01",
            "00:00:00:00:00:00",
            "52:54:00:aa:bb",
            "52:54:00:aa:bb:cc:dd",
            "+2:54:00:aa:bb:cc",
        ] {
            assert!(bad.parse::<MacAddress>().is_err(), "{bad}");
        }
    }
}
