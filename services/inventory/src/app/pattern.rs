//! What a person wrote into a plan, and what a machine or a switch says of itself, compared: serial numbers, MAC addresses, networks and
//! words with `*`.

use std::net::Ipv4Addr;

/// Serial numbers in any case of letters, and with blanks around them, are the same.
pub(super) fn serial(text: &str) -> String {
    text.trim().to_lowercase()
}

/// Network and mask.
pub(super) fn subnet(text: &str) -> Option<(u32, u32)> {
    let (address, prefix) = text.split_once('/')?;
    let prefix: u32 = prefix.parse().ok().filter(|prefix| *prefix <= 32)?;
    let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
    Some((address.parse::<Ipv4Addr>().ok()?.to_bits() & mask, mask))
}

/// A MAC address or its beginning, as labels and switches write it (`52:54:00`, `52-54-00`, `5254.00`, `525400`), without what is
/// between; `None`: it is none.
pub(super) fn mac_digits(text: &str) -> Option<String> {
    let groups: Vec<&str> = text.split([':', '-', '.']).collect();
    let (_, before) = groups.split_last()?;
    let whole = |group: &&str| matches!(group.len(), 2 | 4 | 6);
    let digits = groups.concat().to_ascii_lowercase();
    let is_hex = digits.len() <= 12 && digits.chars().all(|c| c.is_ascii_hexdigit());
    (is_hex && before.iter().all(whole)).then_some(digits)
}

/// `*` stands for anything.
pub(super) fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

pub(super) fn same_mac(one: &str, other: &str) -> bool {
    plain(one) == plain(other)
}

/// A MAC address in one of its ways to be written.
pub(super) fn plain(mac: &str) -> String {
    mac.to_lowercase().replace('-', ":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        assert!(glob("a*b*c", "axxbxxc") && glob("*", "") && !glob("a*a", "a") && !glob("ab", "abc"));
    }

    #[test]
    fn the_beginning_of_a_mac_address_is_read_as_people_write_it() {
        let all = mac_digits("52:54:00:00:00:01").unwrap();
        for text in
            ["52:54:00", "52-54-00", "5254.00", "525400", "52:54:0", "52:54:", "52:54:00:00:00:01", ""]
        {
            let digits = mac_digits(&text.to_uppercase());
            assert!(digits.is_some_and(|digits| all.starts_with(&digits)), "{text:?}");
        }
        assert!(!all.starts_with(&mac_digits("525401").unwrap()));
        for text in ["zz", "5:54:00", "52:54:00:00:00:01:02", "52::54", ":52", "52 54"] {
            assert_eq!(mac_digits(text), None, "{text:?}");
        }
    }
}
