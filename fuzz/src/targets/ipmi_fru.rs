//! An inventory as a BMC may tell it. Its sums are made right, so that the fields behind them are looked at.

use farrier_ipmi::fru::Fru;

const UNIT: usize = 8;

pub fn run(data: &[u8]) {
    // As it came, too: wrong sums are told, not obeyed.
    let _ = Fru::parse(data);
    let mut bytes = data.to_vec();
    if bytes.len() < UNIT {
        return;
    }
    bytes[0] = 1;
    let areas = [2, 3, 4].map(|at| usize::from(bytes[at]) * UNIT);
    for at in areas.into_iter().filter(|at| *at >= UNIT) {
        let Some([version, length, ..]) = bytes.get_mut(at..) else { continue };
        *version = 1;
        let end = at + usize::from(*length) * UNIT;
        sum(bytes.get_mut(at..end));
    }
    sum(bytes.get_mut(..UNIT));
    let fru = Fru::parse(&bytes).expect("its header is right");
    let present = usize::from(fru.chassis.is_some())
        + usize::from(fru.board.is_some())
        + usize::from(fru.product.is_some());
    assert_eq!(present + fru.broken.len(), areas.iter().filter(|at| **at != 0).count());
    if let Some(chassis) = fru.chassis {
        let texts = chassis.custom.iter().chain([&chassis.part_number, &chassis.serial_number]);
        let mut shown = 0;
        for text in texts {
            assert!(!text.contains(char::is_control), "{text:?}");
            shown += text.chars().count();
        }
        // Two digits a byte is the most that a field says.
        assert!(shown <= 2 * 255 * UNIT);
    }
}

fn sum(bytes: Option<&mut [u8]>) {
    if let Some((last, body)) = bytes.and_then(<[u8]>::split_last_mut) {
        *last = body.iter().fold(0_u8, |sum, byte| sum.wrapping_sub(*byte));
    }
}
