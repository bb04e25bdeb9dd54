//! The operating system on a pretend node's disk: as much of cloud-init as a deploy can see.

use std::io::{self, Read as _, Seek, SeekFrom};
use std::path::Path;

use farrier_agent::machine::{BlockDevice as _, FileDisk};
use farrier_agent::partitions::{Extent, PartitionTable};

/// cloud-init's files are small; user data is at most a few MiB.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// What cloud-init read from the config drive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seed {
    pub(super) instance: String,
    pub(super) hostname: String,
    pub(super) phone_home: Option<String>,
}

/// Whether firmware would start anything from this disk. Blocking.
pub(super) fn is_bootable(disk: &Path) -> io::Result<bool> {
    Ok(!matches!(PartitionTable::read(&open(disk)?)?, PartitionTable::None))
}

/// Reads the CIDATA volume of a disk, if it has one. Blocking.
pub(super) fn read_seed(disk: &Path) -> io::Result<Option<Seed>> {
    let device = open(disk)?;
    for extent in PartitionTable::read(&device)?.extents() {
        let Some(volume) = Volume::open(disk, extent)? else { continue };
        return seed_of(&volume).map(Some);
    }
    Ok(None)
}

/// Reads a CIDATA volume that fills a file, if it is one. Blocking.
pub(super) fn read_volume(file: &Path) -> io::Result<Option<Seed>> {
    let len = std::fs::metadata(file)?.len();
    Volume::open(file, Extent { offset: 0, len })?.map(|volume| seed_of(&volume)).transpose()
}

fn seed_of(volume: &Volume) -> io::Result<Seed> {
    let meta: serde_json::Value =
        volume.read("meta-data")?.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let text = |key: &str| meta.get(key).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
    let mut seed = Seed { instance: text("instance-id"), hostname: text("local-hostname"), phone_home: None };
    // User data is merged over vendor data.
    for name in ["user-data", "vendor-data"] {
        if let (None, Some(bytes)) = (&seed.phone_home, volume.read(name)?) {
            seed.phone_home = phone_home(&String::from_utf8_lossy(&bytes));
        }
    }
    Ok(seed)
}

/// The url of cloud-config's `phone_home`.
fn phone_home(text: &str) -> Option<String> {
    let block = text.lines().skip_while(|line| line.trim_end() != "phone_home:").skip(1);
    block
        .take_while(|line| line.starts_with([' ', '\t']))
        .find_map(|line| line.trim().strip_prefix("url:"))
        .map(|url| url.trim().trim_matches(['"', '\'']).to_owned())
}

fn open(disk: &Path) -> io::Result<FileDisk> {
    FileDisk::open(disk, std::fs::metadata(disk)?.len(), 512)
}

type Fat = fatfs::FileSystem<Window>;

/// A FAT volume labelled CIDATA.
struct Volume(Fat);

impl Volume {
    fn open(disk: &Path, extent: Extent) -> io::Result<Option<Self>> {
        let window = Window { file: open(disk)?, extent, at: 0 };
        // Anything may be in a partition: what is no FAT volume is not ours.
        let Ok(fat) = Fat::new(window, fatfs::FsOptions::new().update_accessed_date(false)) else {
            return Ok(None);
        };
        Ok((fat.volume_label().trim_end() == "CIDATA").then_some(Self(fat)))
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let file = match self.0.root_dir().open_file(name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }
}

/// A partition of a disk, read only.
struct Window {
    file: FileDisk,
    extent: Extent,
    at: u64,
}

impl io::Read for Window {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.extent.len.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let len = buf.len().min(left);
        let buf = buf.get_mut(..len).unwrap_or_default();
        self.file.read_at(buf, self.extent.offset.saturating_add(self.at))?;
        self.at += len as u64;
        Ok(len)
    }
}

impl io::Write for Window {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.extent.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::phone_home;

    #[test]
    fn the_url_is_that_of_phone_home_and_of_nothing_else() {
        let text = "#cloud-config\napt:\n  url: http://other\nphone_home:\n  post: [a]\n  url: \"http://h/p\"\nx: 1\n";
        assert_eq!(phone_home(text).as_deref(), Some("http://h/p"));
        assert_eq!(phone_home("#cloud-config\nphone_home:\nx:\n  url: no\n"), None);
        assert_eq!(phone_home("#cloud-config\n{}\n"), None);
    }
}
