//! The leases on disk: records one after another, each with a checksum, the last one for an address holds.
//!
//! Crash safe: a record counts once it is whole and synced, and nobody is told of a lease before that. A torn end,
//! which a crash leaves, is cut off. Grown large, it is written anew beside itself and renamed. Its checksums begin with random
//! bytes of its own: nobody who is not us can write a record, also not inside of one.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use super::record::{Record, SALT, Salt};

#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
    len: u64,
    salt: Salt,
    /// A write failed half way: what the file ends with is unknown.
    torn: bool,
    /// It was written anew, and its name may not be on disk.
    name_unsynced: bool,
    /// Writing it anew failed at this length: not again before it has grown.
    too_full_at: Option<u64>,
}

impl Log {
    /// Opens or makes the file and reads what is in it. It is this process's until it ends.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Vec<Record>)> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        file.try_lock().map_err(|error| {
            io::Error::new(io::ErrorKind::ResourceBusy, format!("another process has it: {error}"))
        })?;
        let mut bytes = Vec::new();
        (&mut file).take(MOST + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MOST {
            return Err(io::Error::other(format!("larger than {MOST} bytes: not a file of leases")));
        }
        let mut log = Self {
            path: path.to_owned(),
            file,
            len: 0,
            salt: Salt::NONE,
            torn: false,
            name_unsynced: false,
            too_full_at: None,
        };
        if bytes.is_empty() {
            log.rewrite(&[])?;
            return Ok((log, Vec::new()));
        }
        let Some((salt, mut rest)) = salt_of(&bytes) else {
            return Err(io::Error::other("does not begin as a file of leases: name another one"));
        };
        log.salt = salt;
        let (mut records, mut lost) = (whole_ones(salt, &mut rest), 0);
        log.len = (bytes.len() - rest.len()) as u64;
        // A crash harms the end of a file, and a disk any place of it: what comes behind that place is as good as before.
        while let Some((skipped, more)) = beyond(salt, rest) {
            rest = more;
            records.extend(whole_ones(salt, &mut rest));
            lost += skipped;
        }
        if lost > 0 {
            log.harmed(&bytes, lost, &records);
            // Where it could not be written anew, what follows goes behind what is there.
        } else if records.is_empty() && rest.len() > super::record::MOST {
            // No write is so torn that nothing of it is whole: what checksums begin with is not what was written.
            log.harmed(&bytes, rest.len(), &records);
        } else if !rest.is_empty() {
            log.cut(rest)?;
        }
        // Of an earlier rackd. Where there is no room for another one, it goes on as it is.
        if log.salt == Salt::NONE
            && let Err(error) = log.rewrite(&records)
        {
            tracing::warn!(path = %log.path.display(), %error, "leases are not written anew with a salt: they are kept as they were");
        }
        log.file.seek(SeekFrom::Start(log.len))?;
        Ok((log, records))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes records and waits until the disk has them.
    pub(super) fn append(&mut self, records: &[Record]) -> io::Result<()> {
        if self.torn {
            self.mend()?;
        }
        if self.name_unsynced {
            self.sync_name()?;
        }
        if records.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(records.len() * 64);
        records.iter().for_each(|record| record.write(self.salt, &mut bytes));
        let done = self.file.write_all(&bytes).and_then(|()| self.file.sync_data());
        match done {
            Ok(()) => self.len += bytes.len() as u64,
            Err(_) => self.torn = true,
        }
        done
    }

    /// Whether it is time to write it anew, with this many records that hold.
    pub(super) fn wants_rewrite(&self, records: usize) -> bool {
        let again = self.too_full_at.is_none_or(|len| self.len > len.saturating_add(MORE));
        self.torn || (again && self.len > LARGE.max(records as u64 * 64 * 4))
    }

    /// Cuts off what a write that failed left. What is whole stays.
    fn mend(&mut self) -> io::Result<()> {
        self.file.set_len(self.len)?;
        self.file.seek(SeekFrom::Start(self.len))?;
        self.torn = false;
        Ok(())
    }

    /// Writes it anew with these records only. Where that fails, what was there is there.
    pub(super) fn rewrite(&mut self, records: &[Record]) -> io::Result<()> {
        let written = self.try_rewrite(records);
        self.too_full_at = written.is_err().then_some(self.len);
        written
    }

    fn try_rewrite(&mut self, records: &[Record]) -> io::Result<()> {
        let random: [u8; SALT] = rand::random();
        let salt = Salt::of(random);
        let mut bytes = [HEADER, &random].concat();
        records.iter().for_each(|record| record.write(salt, &mut bytes));
        let new = self.path.with_extension("new");
        let file = match whole(&new, &bytes).and_then(|file| std::fs::rename(&new, &self.path).map(|()| file))
        {
            Ok(file) => file,
            Err(error) => {
                // What there is room for is wanted by the file that stays.
                let _nothing_else_helps = std::fs::remove_file(&new);
                return Err(error);
            }
        };
        // The one of before has no name any more: whatever fails from here on, what follows goes into this one.
        (self.file, self.len, self.torn, self.name_unsynced) = (file, bytes.len() as u64, false, true);
        self.salt = salt;
        self.sync_name()
    }

    /// The name is on disk with its directory. Before that a crash brings back the file of before.
    fn sync_name(&mut self) -> io::Result<()> {
        File::open(self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")))?
            .sync_all()?;
        self.name_unsynced = false;
        Ok(())
    }

    /// Keeps the file as it was found, and writes what is whole in it anew.
    fn harmed(&mut self, found: &[u8], bytes: usize, records: &[Record]) {
        let kept = self.path.with_extension("damaged");
        // The first one is nearest to what was.
        if !kept.exists()
            && let Err(error) = std::fs::write(&kept, found)
        {
            tracing::error!(path = %kept.display(), %error, "what was damaged is not kept");
        }
        let (path, kept) = (self.path.display(), kept.display());
        tracing::error!(
            %path, bytes, %kept,
            "leases are damaged in their middle, which no crash does: look at the disk; an address that was written there \
             may be given again while its machine runs"
        );
        self.len = found.len() as u64;
        if let Err(error) = self.rewrite(records) {
            tracing::error!(path = %self.path.display(), %error, "leases are not written anew: what is whole is read again");
        }
    }

    /// Cuts off what is no record. More than a crash leaves is kept beside it: somebody may want to look.
    fn cut(&mut self, rest: &[u8]) -> io::Result<()> {
        let (path, bytes) = (self.path.display(), rest.len());
        if bytes > A_BATCH {
            std::fs::write(self.path.with_extension("damaged"), rest)?;
            tracing::error!(
                %path, bytes,
                "leases are damaged, and what follows is lost and kept in .damaged: look at the disk; an address that was written \
                 there may be given again while its machine runs"
            );
        } else {
            tracing::info!(%path, bytes, "the last write of leases was interrupted: nobody was told of it");
        }
        self.file.set_len(self.len)?;
        self.file.sync_all()
    }
}

/// How its checksums begin, and what follows. `None`: it is no file of leases.
fn salt_of(bytes: &[u8]) -> Option<(Salt, &[u8])> {
    if let Some(rest) = bytes.strip_prefix(UNSALTED) {
        return Some((Salt::NONE, rest));
    }
    let (random, rest) = bytes.strip_prefix(HEADER)?.split_first_chunk::<SALT>()?;
    Some((Salt::of(*random), rest))
}

/// All records up to what is none.
fn whole_ones(salt: Salt, rest: &mut &[u8]) -> Vec<Record> {
    std::iter::from_fn(|| Record::read(salt, rest)).collect()
}

/// Where the next record begins behind bytes that are none: how many those are, and what is left from there on.
fn beyond(salt: Salt, rest: &[u8]) -> Option<(usize, &[u8])> {
    (1..rest.len()).find_map(|at| {
        let from = rest.get(at..)?;
        Record::read(salt, &mut &*from).map(|_| (at, from))
    })
}

/// A file with these bytes that is on disk, and this process's.
fn whole(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
    file.try_lock()?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(file)
}

/// Random bytes follow, then records.
const HEADER: &[u8] = b"farrier leases 2\n";
/// Of rackd before there was a salt: records follow.
const UNSALTED: &[u8] = b"farrier leases 1\n";
/// Largest file that is read: a full /16 written anew is 5 MB.
const MOST: u64 = 1 << 30;
/// Below this nobody minds old records.
const LARGE: u64 = 4 << 20;
/// By so much it grows before writing it anew is tried again.
const MORE: u64 = 1 << 20;
/// What one interrupted write can leave.
const A_BATCH: usize = 1 << 20;
