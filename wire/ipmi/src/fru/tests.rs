use proptest::prelude::*;

use super::*;

/// An area's bytes: head, padding and checksum around `fields`.
fn area(fields: &[u8]) -> Vec<u8> {
    let length = (fields.len() + 3).div_ceil(UNIT);
    let mut bytes = vec![FORMAT, u8::try_from(length).unwrap()];
    bytes.extend(fields);
    bytes.resize(length * UNIT - 1, 0);
    summed(bytes)
}

fn summed(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.push(bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_sub(*byte)));
    bytes
}

fn latin(texts: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for text in texts {
        bytes.push(0xC0 | u8::try_from(text.len()).unwrap());
        bytes.extend(text.as_bytes());
    }
    bytes.push(0xC1);
    bytes
}

fn inventory() -> Vec<u8> {
    let chassis = area(&[&[0x17][..], &latin(&["CH-1", "C123", "lab"])].concat());
    let board =
        area(&[&[0, 0xA0, 0x05, 0x00][..], &latin(&["Farrier", "Anvil", "B456", "AN-2", ""])].concat());
    let product =
        area(&[&[25][..], &latin(&["Farrier", "Forge", "FO-3", "1.2", "P789", "tag 9", "", "x1"])].concat());
    let mut at = 1_u8;
    let mut offsets = Vec::new();
    for area in [&chassis, &board, &product] {
        offsets.push(at);
        at += area[1];
    }
    let header = summed([&[FORMAT, 0][..], &offsets, &[0, 0]].concat());
    [header, chassis, board, product].concat()
}

#[test]
fn an_inventory_is_read() {
    let fru = Fru::parse(&inventory()).unwrap();
    assert_eq!(fru.broken, []);
    let chassis = fru.chassis.unwrap();
    assert_eq!((chassis.kind, &*chassis.part_number, &*chassis.serial_number), (0x17, "CH-1", "C123"));
    assert_eq!(chassis.custom, ["lab"]);
    let board = fru.board.unwrap();
    // 1,440 minutes after the beginning of 1996.
    assert_eq!(board.made, Some(820_454_400 + 86_400));
    assert_eq!((&*board.manufacturer, &*board.product, &*board.serial_number), ("Farrier", "Anvil", "B456"));
    let product = fru.product.unwrap();
    assert_eq!((&*product.name, &*product.serial_number, &*product.asset_tag), ("Forge", "P789", "tag 9"));
    assert_eq!(product.custom, ["x1"]);
}

#[test]
fn a_broken_area_is_told_and_the_others_are_read() {
    let mut bytes = inventory();
    bytes[12] ^= 0x40;
    let fru = Fru::parse(&bytes).unwrap();
    assert!(fru.chassis.is_none() && fru.board.is_some() && fru.product.is_some());
    assert!(matches!(fru.broken[..], [ParseError::Checksum { what: "FRU chassis area", .. }]), "{fru:?}");
    // Cut: the last area is not whole.
    let bytes = inventory();
    let fru = Fru::parse(&bytes[..bytes.len() - 1]).unwrap();
    assert!(fru.board.is_some() && fru.product.is_none());
    assert!(matches!(fru.broken[..], [ParseError::Truncated { what: "FRU product area", .. }]), "{fru:?}");
}

#[test]
fn an_inventory_nobody_wrote_is_refused() {
    assert!(matches!(Fru::parse(&[0xFF; 64]), Err(ParseError::Unexpected { .. })));
    assert!(matches!(
        Fru::parse(&[1, 0, 0, 0, 0, 0, 0, 0]),
        Err(ParseError::Checksum { expected: 0xFF, .. })
    ));
    assert!(matches!(Fru::parse(&[1]), Err(ParseError::Truncated { .. })));
}

proptest! {
    #[test]
    fn no_bytes_panic_and_what_is_read_is_bounded(
        fields in proptest::collection::vec(any::<u8>(), 0..200), tail in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        // Valid around, anything within: the checksums let the fields be looked at.
        let header = summed(vec![FORMAT, 0, 1, 1, 1, 0, 0]);
        let bytes = [header, area(&fields), tail].concat();
        let fru = Fru::parse(&bytes).unwrap();
        if let Some(board) = fru.board {
            prop_assert!(board.custom.len() <= fields.len());
        }
    }
}
