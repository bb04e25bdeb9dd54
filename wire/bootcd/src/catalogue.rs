//! The El Torito boot catalogue, and what a BIOS image is told of itself.

use crate::directory::Extent;
use crate::{CdError, SECTOR};

/// The catalogue's sector (El Torito 1.0 §2): a validation entry, the default entry, and for UEFI a section of its own.
pub(crate) fn sector(bios: Option<Extent>, efi: Option<Extent>) -> Vec<u8> {
    let first = if bios.is_some() { X86 } else { EFI };
    let mut out = validation(first);
    out.extend(match (bios, efi) {
        // A BIOS takes four of its own sectors; the image loads the rest.
        (Some(bios), _) => entry(bios, 4),
        (None, Some(efi)) => entry(efi, halves(efi)),
        (None, None) => [0; 32],
    });
    if let (Some(_), Some(efi)) = (bios, efi) {
        let mut header = [0; 32];
        // 91h: the last header; one entry follows.
        header[..4].copy_from_slice(&[0x91, EFI, 1, 0]);
        out.extend(header);
        out.extend(entry(efi, halves(efi)));
    }
    out.resize(usize::try_from(SECTOR).unwrap_or(usize::MAX), 0);
    out
}

/// The validation entry: its 16-bit words add up to nothing.
fn validation(platform: u8) -> Vec<u8> {
    let mut out = [0_u8; 32];
    out[..2].copy_from_slice(&[1, platform]);
    out[4..11].copy_from_slice(b"FARRIER");
    out[30..].copy_from_slice(&[0x55, 0xaa]);
    let sum = out.chunks_exact(2).fold(0_u16, |sum, word| match word {
        [low, high] => sum.wrapping_add(u16::from_le_bytes([*low, *high])),
        _ => sum,
    });
    out[28..30].copy_from_slice(&0_u16.wrapping_sub(sum).to_le_bytes());
    out.to_vec()
}

/// An image without emulation.
fn entry(image: Extent, halves: u16) -> [u8; 32] {
    let mut out = [0; 32];
    out[0] = 0x88;
    out[6..8].copy_from_slice(&halves.to_le_bytes());
    out[8..12].copy_from_slice(&image.sector.to_le_bytes());
    out
}

/// Virtual sectors of 512 bytes.
fn halves(image: Extent) -> u16 {
    u16::try_from(image.len.div_ceil(512)).unwrap_or(u16::MAX)
}

/// Writes the boot information table, which mkisofs made the custom: where the volume descriptor and the image are, how
/// long it is, and the sum of its words behind the table.
pub(crate) fn inform(image: &mut [u8], at: Extent) -> Result<(), CdError> {
    let short = CdError::ShortImage(image.len());
    let (head, rest) = image.split_at_mut_checked(64).ok_or(short)?;
    let sum = rest.chunks(4).fold(0_u32, |sum, word| {
        let mut padded = [0; 4];
        padded.iter_mut().zip(word).for_each(|(to, from)| *to = *from);
        sum.wrapping_add(u32::from_le_bytes(padded))
    });
    let mut table = [0; 56];
    for (place, number) in table.chunks_exact_mut(4).zip([16, at.sector, at.len, sum]) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    head.iter_mut().skip(8).zip(table).for_each(|(to, from)| *to = from);
    Ok(())
}

/// Platform identifiers (El Torito 1.0 figure 2; UEFI 2.10 §13.3.2.1).
const X86: u8 = 0;
const EFI: u8 = 0xef;
