//! Reading qcow2: our own strict look at the header, then `imago` for the tables.
//!
//! The header is where the tricks are: a backing file or an external data file names any path on this
//! machine, as does a key. All of them are refused by name here, and the reader is opened so that it opens
//! nothing itself. (qemu `docs/interop/qcow2.txt` describes the format.)

use super::cut::{Piece, Source};
use super::{ImportError, reading};
use imago::file::File as ImagoFile;
use imago::qcow2::Qcow2;
use imago::{DenyImplicitOpenGate, FormatAccess, FormatDriverBuilder as _, Mapping};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// A qcow2 image as the disk it holds.
pub(super) struct Disk {
    access: FormatAccess<ImagoFile>,
    at: u64,
    size: u64,
}

impl Disk {
    /// Opens an image whose disk has at most `max_bytes`.
    pub(super) fn open(file: &File, max_bytes: u64) -> Result<Self, ImportError> {
        let mut head = vec![0; HEAD_MAX];
        let length = read_head(file, &mut head).map_err(reading)?;
        let size = check_header(head.get(..length).unwrap_or_default())?;
        if size > max_bytes {
            return Err(ImportError::TooLarge { limit: max_bytes });
        }
        let own = file.try_clone().map_err(reading)?;
        let storage = ImagoFile::try_from(own).map_err(reading)?;
        let image = Qcow2::<ImagoFile>::builder(storage)
            .write(false)
            .open(DenyImplicitOpenGate::default())
            .map_err(bad)?;
        let access = FormatAccess::new(image);
        if access.size() != size {
            return Err(ImportError::BadFormat("the size of the disk is not clear".to_owned()));
        }
        Ok(Self { access, at: 0, size })
    }

    /// Whether the image says, without a look at data, that the range is zero.
    fn is_hole(&self, mut from: u64, to: u64) -> Result<bool, ImportError> {
        while from < to {
            match self.access.get_mapping(from, to - from).map_err(bad)? {
                (Mapping::Zero { .. }, length) if length > 0 => from = from.saturating_add(length),
                _ => return Ok(false),
            }
        }
        Ok(true)
    }
}

impl Source for Disk {
    fn next(&mut self, buffer: &mut [u8]) -> Result<Piece, ImportError> {
        let length = (self.size - self.at).min(buffer.len() as u64);
        let from = self.at;
        self.at += length;
        let wanted = usize::try_from(length).unwrap_or(buffer.len());
        if self.is_hole(from, self.at)? {
            return Ok(Piece::Zeros(wanted));
        }
        let buffer = buffer.get_mut(..wanted).unwrap_or_default();
        self.access.read(buffer, from).map_err(bad)?;
        Ok(Piece::Data(wanted))
    }
}

/// Checks the first bytes of a file; returns the size of the disk.
fn check_header(head: &[u8]) -> Result<u64, ImportError> {
    let refuse = |why: &str| Err(ImportError::BadFormat(format!("qcow2: {why}")));
    let (Some(magic), Some(version)) = (word(head, 0), word(head, 4)) else {
        return refuse("the file is shorter than a header");
    };
    if magic != MAGIC {
        return refuse("the file is no qcow2 image");
    }
    let fields = (long(head, 8), word(head, 20), long(head, 24), word(head, 32), word(head, 60));
    let (Some(backing), Some(cluster_bits), Some(size), Some(crypt), Some(snapshots)) = fields else {
        return refuse("the file is shorter than a header");
    };
    if backing != 0 {
        return refuse("it has a backing file: flatten it with 'qemu-img convert'");
    }
    if !CLUSTER_BITS.contains(&cluster_bits) {
        return refuse("the cluster size is not between 512 bytes and 2 MiB");
    }
    if crypt != 0 {
        return refuse("it is encrypted");
    }
    if snapshots != 0 {
        return refuse("it has internal snapshots: flatten it with 'qemu-img convert'");
    }
    if size == 0 {
        return refuse("the disk is empty");
    }
    let extensions = match version {
        2 => V2_HEADER,
        3 => check_v3(head, cluster_bits)?,
        _ => return refuse("the version is neither 2 nor 3"),
    };
    check_extensions(head, extensions, 1 << cluster_bits)?;
    Ok(size)
}

/// Checks what version 3 added; returns where the header extensions start.
fn check_v3(head: &[u8], cluster_bits: u32) -> Result<usize, ImportError> {
    let refuse = |why: String| Err(ImportError::BadFormat(format!("qcow2: {why}")));
    let (Some(incompatible), Some(length)) = (long(head, 72), word(head, 100)) else {
        return refuse("the file is shorter than a header".to_owned());
    };
    for (bit, why) in INCOMPATIBLE {
        if incompatible & (1 << bit) != 0 {
            return refuse((*why).to_owned());
        }
    }
    if incompatible != 0 {
        return refuse(format!("it needs features that are not known here ({incompatible:#x})"));
    }
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length < V3_HEADER || length % 8 != 0 || length > 1 << cluster_bits {
        return refuse(format!("a header cannot have {length} bytes"));
    }
    Ok(length)
}

/// Walks the header extensions (type, length, data padded to 8 bytes); they end with the first cluster.
fn check_extensions(head: &[u8], mut at: usize, cluster: usize) -> Result<(), ImportError> {
    let refuse = |why: &str| Err(ImportError::BadFormat(format!("qcow2: {why}")));
    while at.saturating_add(8) <= cluster {
        let (Some(kind), Some(length)) = (word(head, at), word(head, at.saturating_add(4))) else {
            return refuse("the header has no end");
        };
        match kind {
            0 => return Ok(()),
            EXT_DATA_FILE => return refuse("it names an external data file"),
            EXT_BACKING_FORMAT => return refuse("it names the format of a backing file"),
            EXT_ENCRYPTION => return refuse("it is encrypted"),
            // imago 0.2.6 indexes into each entry without a look at its length.
            EXT_FEATURE_NAMES if length % FEATURE_NAME_BYTES != 0 => {
                return refuse("the table of feature names is cut short");
            }
            _ => {}
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        at = length
            .checked_next_multiple_of(8)
            .and_then(|n| at.checked_add(8)?.checked_add(n))
            .unwrap_or(usize::MAX);
        if at > cluster {
            return refuse("a header extension is larger than the header");
        }
    }
    Ok(())
}

fn read_head(file: &File, head: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while let Some(rest) = head.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, length as u64) {
            Ok(0) => break,
            Ok(n) => length += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// Big endian numbers of the header.
fn word(head: &[u8], at: usize) -> Option<u32> {
    head.get(at..)?.first_chunk().copied().map(u32::from_be_bytes)
}

fn long(head: &[u8], at: usize) -> Option<u64> {
    head.get(at..)?.first_chunk().copied().map(u64::from_be_bytes)
}

fn bad(error: io::Error) -> ImportError {
    ImportError::BadFormat(format!("qcow2: {error}"))
}

/// "QFI\xfb"
const MAGIC: u32 = 0x5146_49fb;
const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=21;
/// The header and its extensions are within the first cluster, which has at most this.
const HEAD_MAX: usize = 1 << 21;
const V2_HEADER: usize = 72;
const V3_HEADER: usize = 104;
const EXT_BACKING_FORMAT: u32 = 0xE279_2ACA;
const EXT_FEATURE_NAMES: u32 = 0x6803_F857;
const EXT_ENCRYPTION: u32 = 0x0537_BE77;
const EXT_DATA_FILE: u32 = 0x4441_5441;
const FEATURE_NAME_BYTES: u32 = 48;
const INCOMPATIBLE: &[(u32, &str)] = &[
    (0, "it was not closed: repair it with 'qemu-img check -r all'"),
    (1, "it is marked as corrupt"),
    (2, "it keeps its data in an external file"),
    (3, "its clusters are not compressed with zlib: convert it with '-o compression_type=zlib'"),
    (4, "it has extended L2 entries: convert it with '-o extended_l2=off'"),
];
