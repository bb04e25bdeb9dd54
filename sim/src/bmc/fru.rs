//! The FRU information of a simulated board (IPMI 2.0 section 34; FRU Information Storage Definition v1.0).

use farrier_ipmi::completion;

type Answer = (u8, Vec<u8>);

/// 2026-01-01, in minutes since 1996 (FRU section 11).
const MADE: [u8; 3] = [0xC0, 0xC6, 0xF0];

/// One of the commands; `None`: it is none.
pub(super) fn execute(cmd: u8, data: &[u8], serial: &str, board: (&str, &str)) -> Option<Answer> {
    Some(match (cmd, data) {
        (0x10, [0]) => {
            let [low, high] = u16::try_from(bytes(serial, board).len()).unwrap_or(u16::MAX).to_le_bytes();
            // By bytes.
            (completion::OK, vec![low, high, 0])
        }
        (0x11, [0, low, high, count]) => {
            let bytes = bytes(serial, board);
            let from = usize::from(u16::from_le_bytes([*low, *high]));
            let Some(rest) = bytes.get(from..) else { return Some((completion::OUT_OF_RANGE, Vec::new())) };
            let part = rest.get(..usize::from(*count)).unwrap_or(rest);
            let length = u8::try_from(part.len()).unwrap_or(0);
            (completion::OK, [&[length][..], part].concat())
        }
        (0x10 | 0x11, [_, ..]) => (completion::NOT_PRESENT, Vec::new()),
        (0x10 | 0x11, _) => (completion::LENGTH_INVALID, Vec::new()),
        _ => return None,
    })
}

/// A common header, a board and a product area.
fn bytes(serial: &str, (manufacturer, model): (&str, &str)) -> Vec<u8> {
    let mut board = MADE.to_vec();
    for text in [manufacturer, "SIM-1", serial, "PN-1", ""] {
        field(&mut board, text);
    }
    let mut product = Vec::new();
    for text in [manufacturer, model, "FS-1", "1", serial, "", ""] {
        field(&mut product, text);
    }
    // English (FRU section 15).
    let (board, product) = (area(&[1, 0, 0], board), area(&[1, 0, 0], product));
    let board_at = 1;
    let product_at = board_at + u8::try_from(board.len() / 8).unwrap_or(0);
    let header = summed(vec![1, 0, 0, board_at, product_at, 0, 0]);
    [header, board, product].concat()
}

/// A type/length byte and 8-bit text, of which six bits of length have room for so much (FRU section 13).
fn field(area: &mut Vec<u8>, text: &str) {
    let text = text.as_bytes().get(..LONGEST).unwrap_or(text.as_bytes());
    area.push(0xC0 | u8::try_from(text.len()).unwrap_or(0));
    area.extend(text);
}

const LONGEST: usize = 0x3F;

/// Begins with version, length in eights and language; ends with C1h, zeroes and the checksum.
fn area(head: &[u8], fields: Vec<u8>) -> Vec<u8> {
    let mut area = [head, &fields, &[0xC1]].concat();
    while area.len() % 8 != 7 {
        area.push(0);
    }
    if let Some(length) = area.len().checked_add(1).and_then(|whole| u8::try_from(whole / 8).ok())
        && let Some(place) = area.get_mut(1)
    {
        *place = length;
    }
    summed(area)
}

/// With a byte that makes the sum zero.
fn summed(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    bytes.push(sum.wrapping_neg());
    bytes
}
