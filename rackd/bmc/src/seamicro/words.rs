//! What the chassis's ids and values mean; pure.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::PowerState;
use crate::redfish::document::Document;

/// The highest VLAN id there is (IEEE 802.1Q §9.6).
pub(super) const MAX_VLAN: u16 = 4094;
/// Boot from the network first.
pub(super) const PXE: &str = "pxe,hd0";
/// Boot from the root volume.
pub(super) const DISK: &str = "hd0";
/// Longest name and id taken, in bytes.
const MAX_NAME: usize = 64;

/// Whether this can be a pool, or a volume in one, in a path: `0/pool`, `0/pool/volume`.
pub(super) fn is_id(id: &str, parts: usize) -> bool {
    let is_name = |part: &str| {
        let letters = part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        !part.is_empty() && part.len() <= MAX_NAME && letters && !part.bytes().all(|b| b == b'.')
    };
    id.split('/').count() == parts && id.split('/').all(is_name)
}

/// A server's power; `None`: it does not say.
pub(super) fn power(server: &Document) -> Option<PowerState> {
    let on = match server.at("active")? {
        Value::Bool(on) => *on,
        Value::String(text) if text.trim().eq_ignore_ascii_case("true") => true,
        Value::String(text) if text.trim().eq_ignore_ascii_case("false") => false,
        _ => return None,
    };
    Some(if on { PowerState::On } else { PowerState::Off })
}

/// A boot order, the first word of an answer that is text or JSON of a text.
pub(super) fn boot_order(body: &[u8]) -> Option<String> {
    let text = match serde_json::from_slice::<Value>(body) {
        Ok(Value::String(text)) => text,
        Ok(_) => return None,
        Err(_) => std::str::from_utf8(body).ok()?.to_owned(),
    };
    let order = text.split_whitespace().next()?;
    let good = order.len() <= MAX_NAME && order.bytes().all(|b| b.is_ascii_alphanumeric() || b == b',');
    (good && order.starts_with(|c: char| c.is_ascii_lowercase())).then(|| order.to_owned())
}

/// Whether an order begins with the network.
pub(super) fn is_pxe(order: &str) -> bool {
    order.split(',').next() == Some("pxe")
}

/// VLANs as a NIC has them: a number, a text such as `7`, `7,9` or `12-14`, a list of those, or nothing. What is none is left
/// out.
pub(super) fn vlans(value: Option<&Value>) -> BTreeSet<u16> {
    match value {
        Some(Value::Number(number)) => {
            number.as_u64().and_then(|n| u16::try_from(n).ok()).filter(is_vlan).into_iter().collect()
        }
        Some(Value::String(text)) => text.split([',', ' ']).flat_map(range).filter(is_vlan).collect(),
        // A list in a list is none of theirs, and depth is not followed.
        Some(Value::Array(list)) => {
            let parts = list.iter().filter(|part| !part.is_array());
            parts.flat_map(|part| vlans(Some(part))).collect()
        }
        _ => BTreeSet::new(),
    }
}

pub(super) fn is_vlan(vlan: &u16) -> bool {
    (1..=MAX_VLAN).contains(vlan)
}

/// `12`, or `12-14`.
fn range(text: &str) -> Vec<u16> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.parse::<u16>().ok().map(|n| n.min(MAX_VLAN));
    number(from).zip(number(to)).map(|(from, to)| (from..=to).collect()).unwrap_or_default()
}

/// The id in the answer to a volume's making: text or JSON of a text, `kind/id`, where an object has the id as its name.
pub(super) fn made(body: &[u8]) -> Option<String> {
    match serde_json::from_slice::<Value>(body) {
        Ok(Value::String(text)) => text.split_once('/').map(|(_, id)| id.to_owned()),
        Ok(Value::Object(object)) => object.keys().next().cloned(),
        Ok(_) => None,
        Err(_) => std::str::from_utf8(body).ok()?.split_once('/').map(|(_, id)| id.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ids_stay_in_their_path() {
        assert!(is_id("0/ironic-p6-6", 2) && is_id("0/p6-6/a_b.c", 3));
        for bad in ["0", "0/p/v/w", "0//v", "0/../v", "0/p/v?x=1", "0/p/v w", "0/./v", "0/p/é"] {
            assert!(!is_id(bad, 3), "{bad}");
        }
    }

    #[test]
    fn values_come_in_several_types() {
        let server = |text: &str| power(&Document::parse(text.as_bytes(), None).unwrap());
        assert_eq!(server(r#"{"active": true}"#), Some(PowerState::On));
        assert_eq!(server(r#"{"active": "false"}"#), Some(PowerState::Off));
        for bad in [r#"{"active": null}"#, r#"{"active": 1}"#, r#"{"active": "maybe"}"#, "{}"] {
            assert_eq!(server(bad), None, "{bad}");
        }
        for (body, order) in [
            (&br#""pxe,hd0 none""#[..], Some("pxe,hd0")),
            (b"hd0 hd1\n", Some("hd0")),
            (br#"{"bootOrder": "hd0"}"#, None),
            (b"<html>", None),
            (b"", None),
            (b"\xff", None),
        ] {
            assert_eq!(boot_order(body).as_deref(), order);
        }
        assert!(is_pxe(PXE) && !is_pxe(DISK) && !is_pxe("hd0,pxe") && !is_pxe("pxelinux"));
        let set = |value: Value| vlans(Some(&value)).into_iter().collect::<Vec<_>>();
        assert_eq!(set(json!("7, 12-14")), [7, 12, 13, 14]);
        assert_eq!(set(json!(["7", 9, ["8"], {}])), [7, 9]);
        assert_eq!((set(json!(17)), set(json!("")), set(json!("x-9"))), (vec![17], vec![], vec![]));
        assert_eq!(set(json!("1-99999999")), Vec::<u16>::new());
        assert_eq!(set(json!("0-65535")).len(), usize::from(MAX_VLAN));
        assert_eq!(made(br#""volumes/0/p/v""#).as_deref(), Some("0/p/v"));
        assert_eq!(made(br#"{"0/p/v": {}}"#).as_deref(), Some("0/p/v"));
        assert_eq!((made(b"[]"), made(b"no")), (None, None));
    }
}
