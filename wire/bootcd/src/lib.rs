//! A bootable CD as bytes: the ISO 9660 volume (ECMA-119, 4th edition) that a BMC pretends to its machine, with El Torito
//! boot images for BIOS and UEFI (El Torito 1.0; UEFI 2.10 §13.3.2.1).
//!
//! Sans-IO: what is small comes as bytes, what is large by its size alone, and the volume comes out as a list of
//! [`Piece`]s, so that nobody copies a kernel to make a CD of it.
//!
//! ```text
//!  sector 0     system area, empty
//!  sector 16    primary volume descriptor, boot record, terminator
//!  sector 19    path tables, little and big endian
//!  sector 21    directories, one sector each
//!  …            boot catalogue, boot images, files
//! ```
//! The same names and sizes give the same layout: a machine that is reading does not notice that a file got other
//! content of the same length.

mod catalogue;
mod directory;
mod volume;

pub use volume::layout;

/// Bytes of a logical sector.
pub const SECTOR: u64 = 2048;

/// A file of the volume.
#[derive(Debug)]
pub struct File<'a> {
    /// With its directories: `boot/grub/grub.cfg`. Of letters, digits, `_`, `-` and dots; readers fold the case.
    pub path: &'a str,
    /// What is in it.
    pub content: Content,
}

/// What a file holds.
#[derive(Debug)]
pub enum Content {
    /// These bytes.
    Bytes(Vec<u8>),
    /// So many bytes that whoever serves the volume has.
    Elsewhere(u64),
}

/// What firmware starts.
#[derive(Debug, Default)]
pub struct Boot {
    /// For BIOS: a program without emulation that finds the rest of itself by the boot information table, as GRUB's
    /// `i386-pc-eltorito` does.
    pub bios: Option<Vec<u8>>,
    /// For UEFI: a FAT file system with `EFI/BOOT/BOOTX64.EFI`.
    pub efi: Option<Content>,
}

/// A part of the volume, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes.
    Bytes(Vec<u8>),
    /// The content of the `index`th file, so many bytes.
    File {
        /// Which, as given.
        index: usize,
        /// How many.
        len: u64,
    },
    /// The boot image for UEFI, so many bytes.
    Efi {
        /// How many.
        len: u64,
    },
}

impl Piece {
    /// Its bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { len, .. } | Self::Efi { len } => *len,
        }
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Why there is no volume.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CdError {
    /// A name outside the grammar, or twice.
    #[error("expected different file names of letters, digits, '_', '-' and '.', saw {0:?}")]
    Name(String),
    /// A directory larger than a sector.
    #[error("expected at most some 40 names in a directory, saw more")]
    Crowded,
    /// What does not fit the format's 32-bit sizes.
    #[error("expected files of less than 4 GiB and a volume of less than 8 TiB, saw more")]
    TooLarge,
    /// Nothing to start.
    #[error("expected a boot image for BIOS or for UEFI, saw neither")]
    NoBoot,
    /// A BIOS image without room for the table.
    #[error("expected a boot image for BIOS that is not empty, saw {0} bytes")]
    ShortImage(usize),
}

/// A number in both byte orders (ECMA-119 §7.3.3).
pub(crate) fn both32(number: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    let (little, big) = bytes.split_at_mut(4);
    little.copy_from_slice(&number.to_le_bytes());
    big.copy_from_slice(&number.to_be_bytes());
    bytes
}

/// The same of 16 bits (ECMA-119 §7.2.3).
pub(crate) fn both16(number: u16) -> [u8; 4] {
    let [a, b] = number.to_le_bytes();
    [a, b, b, a]
}
