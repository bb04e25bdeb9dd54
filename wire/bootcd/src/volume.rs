//! The volume as a whole: who is where, and its descriptors (ECMA-119 §8).

use crate::directory::{Directory, Extent, path_table, record, sector, tree};
use crate::{Boot, CdError, Content, File, Piece, SECTOR, both16, both32, catalogue};

/// Puts a volume together. `label` is its name: 1 to 32 of A–Z, 0–9 and `_`.
///
/// # Errors
/// [`CdError`]: what does not fit the format.
pub fn layout(label: &str, files: Vec<File<'_>>, boot: Boot) -> Result<Vec<Piece>, CdError> {
    let Boot { mut bios, efi } = boot;
    if bios.is_none() && efi.is_none() {
        return Err(CdError::NoBoot);
    }
    // Whole sectors, so that nobody who reads the volume has to guess where the image ends.
    if let Some(image) = &mut bios {
        image.resize(image.len().next_multiple_of(usize::try_from(SECTOR).unwrap_or(1)), 0);
    }
    let tree = tree(&files)?;
    let mut places = Places { next: 16 + 3 };
    let tables = [places.take(TABLE)?, places.take(TABLE)?];
    let directories = tree.iter().map(|_| places.take(SECTOR)).collect::<Result<Vec<_>, _>>()?;
    let boot_catalogue = places.take(SECTOR)?;
    let bios_at = bios.as_ref().map(|image| places.take(image.len() as u64)).transpose()?;
    let efi_at = efi.as_ref().map(|image| places.take(size(image))).transpose()?;
    let extents = files.iter().map(|file| places.take(size(&file.content))).collect::<Result<Vec<_>, _>>()?;
    places.take(PAD)?;
    let root = directories.first().copied().ok_or(CdError::Crowded)?;
    if let Some((image, at)) = bios.as_mut().zip(bios_at) {
        catalogue::inform(image, at)?;
    }

    let mut out = Writer::default();
    out.zeros(16 * SECTOR);
    out.sector(&primary(label, places.next, &table(&tree, &directories, false)?, &tables, root));
    out.sector(&boot_record(boot_catalogue));
    out.sector(b"\xffCD001\x01");
    out.sector(&table(&tree, &directories, false)?);
    out.sector(&table(&tree, &directories, true)?);
    for index in 0..tree.len() {
        out.sector(&sector(&tree, index, &directories, &extents)?);
    }
    out.sector(&catalogue::sector(bios_at, efi_at));
    if let Some(image) = bios {
        out.padded(Piece::Bytes(image));
    }
    match efi {
        Some(Content::Bytes(image)) => out.padded(Piece::Bytes(image)),
        Some(Content::Elsewhere(len)) => out.padded(Piece::Efi { len }),
        None => {}
    }
    for (index, file) in files.into_iter().enumerate() {
        out.padded(match file.content {
            Content::Bytes(bytes) => Piece::Bytes(bytes),
            Content::Elsewhere(len) => Piece::File { index, len },
        });
    }
    out.zeros(PAD);
    Ok(out.pieces)
}

/// A path table, which has a sector to itself.
fn table(tree: &[Directory], directories: &[Extent], big: bool) -> Result<Vec<u8>, CdError> {
    let table = path_table(tree, directories, big);
    if table.len() as u64 > TABLE { Err(CdError::Crowded) } else { Ok(table) }
}

fn size(content: &Content) -> u64 {
    match content {
        Content::Bytes(bytes) => bytes.len() as u64,
        Content::Elsewhere(len) => *len,
    }
}

/// Hands out sectors.
struct Places {
    next: u32,
}

impl Places {
    fn take(&mut self, len: u64) -> Result<Extent, CdError> {
        let sector = self.next;
        let sectors = u32::try_from(len.div_ceil(SECTOR)).map_err(|_| CdError::TooLarge)?;
        self.next = self.next.checked_add(sectors).ok_or(CdError::TooLarge)?;
        Ok(Extent { sector, len: u32::try_from(len).map_err(|_| CdError::TooLarge)? })
    }
}

/// The primary volume descriptor (§8.4).
fn primary(label: &str, sectors: u32, table: &[u8], tables: &[Extent; 2], root: Extent) -> Vec<u8> {
    let mut out = b"\x01CD001\x01\0".to_vec();
    out.extend([b' '; 32]);
    out.extend(padded(label, 32));
    out.extend([0; 8]);
    out.extend(both32(sectors));
    out.extend([0; 32]);
    out.extend(both16(1));
    out.extend(both16(1));
    out.extend(both16(u16::try_from(SECTOR).unwrap_or_default()));
    out.extend(both32(u32::try_from(table.len()).unwrap_or_default()));
    let [little, big] = tables;
    out.extend(little.sector.to_le_bytes());
    out.extend([0; 4]);
    out.extend(big.sector.to_be_bytes());
    out.extend([0; 4]);
    out.extend(record(&[0], root, true));
    // Volume set, publisher, preparer, application; copyright, abstract and bibliography are files.
    for (words, len) in
        [("", 128), ("FARRIER", 128), ("FARRIER", 128), ("FARRIER", 128), ("", 37), ("", 37), ("", 37)]
    {
        out.extend(padded(words, len));
    }
    // Made, changed, expires, in force: not said (§8.4.26.1).
    for _ in 0..4 {
        out.extend(b"0000000000000000\0");
    }
    out.push(1);
    out
}

/// El Torito 1.0 figure 7.
fn boot_record(catalogue: Extent) -> Vec<u8> {
    let mut out = b"\0CD001\x01EL TORITO SPECIFICATION".to_vec();
    out.resize(0x47, 0);
    out.extend(catalogue.sector.to_le_bytes());
    out
}

fn padded(words: &str, len: usize) -> Vec<u8> {
    let mut out: Vec<u8> = words.bytes().map(|b| b.to_ascii_uppercase()).take(len).collect();
    out.resize(len, b' ');
    out
}

/// Collects pieces; what is small goes together.
#[derive(Default)]
struct Writer {
    pieces: Vec<Piece>,
}

impl Writer {
    /// Bytes, filled up to a sector.
    fn sector(&mut self, bytes: &[u8]) {
        self.padded(Piece::Bytes(bytes.to_vec()));
    }

    fn padded(&mut self, piece: Piece) {
        let short = piece.len().next_multiple_of(SECTOR) - piece.len();
        match (self.pieces.last_mut(), piece) {
            (Some(Piece::Bytes(last)), Piece::Bytes(bytes)) => last.extend(bytes),
            (_, piece) => self.pieces.push(piece),
        }
        self.zeros(short);
    }

    fn zeros(&mut self, len: u64) {
        let zeros = vec![0; usize::try_from(len).unwrap_or_default()];
        match self.pieces.last_mut() {
            _ if zeros.is_empty() => {}
            Some(Piece::Bytes(last)) => last.extend(zeros),
            _ => self.pieces.push(Piece::Bytes(zeros)),
        }
    }
}

/// Behind the last file. Readers read ahead, and where the medium ends SeaBIOS gives GRUB what was in its buffer; mkisofs has
/// added as much since there are CDs.
const PAD: u64 = 150 * SECTOR;
/// Bytes of a path table at most.
const TABLE: u64 = SECTOR;
