//! What is kept on disk of machines that are being discovered: a file for each and kind, by its address, whole or not there.

use farrier_netboot::MacAddr;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Files of one kind. All of it blocks.
#[derive(Debug, Clone)]
pub(super) struct Files {
    directory: PathBuf,
    kind: &'static str,
}

impl Files {
    /// In rackd's data directory.
    pub(super) fn new(data: &Path, kind: &'static str) -> Self {
        Self { directory: data.join(DIRECTORY), kind }
    }

    /// On disk when it is over, or as it was before.
    pub(super) fn write(&self, mac: MacAddr, bytes: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        let path = self.path(mac);
        if !path.exists() && self.ports()?.len() >= MOST {
            return Err(io::Error::other(format!("{MOST} machines are kept already")));
        }
        let new = path.with_extension(format!("{}-new", self.kind));
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        // The name is on disk with its directory.
        File::open(&self.directory)?.sync_all()
    }

    pub(super) fn read(&self, mac: MacAddr) -> io::Result<Vec<u8>> {
        fs::read(self.path(mac))
    }

    /// Also what never was there.
    pub(super) fn remove(&self, mac: MacAddr) -> io::Result<()> {
        match fs::remove_file(self.path(mac)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Whose files are there, in the order of their addresses.
    pub(super) fn ports(&self) -> io::Result<Vec<MacAddr>> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut ports = Vec::new();
        for entry in entries {
            let path = entry?.path();
            let port = path.file_stem().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
            if let Some(port) = port.filter(|_| path.extension().is_some_and(|kind| kind == self.kind)) {
                ports.push(port);
            }
        }
        ports.sort_unstable_by_key(|port: &MacAddr| port.0);
        Ok(ports)
    }

    fn path(&self, mac: MacAddr) -> PathBuf {
        self.directory.join(mac.hyphenated()).with_extension(self.kind)
    }
}

const DIRECTORY: &str = "discovered";
/// Of a kind: as many as are on their way through the ramdisk at once. Strangers can make up more.
pub(super) const MOST: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_fill_no_disk_and_each_kind_is_by_itself() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (Files::new(dir.path(), "one"), Files::new(dir.path(), "other"));
        assert_eq!(one.ports().unwrap(), []);
        let mac = |n: usize| {
            let [.., a, b] = n.to_be_bytes();
            MacAddr([2, 0, 0, 1, a, b])
        };
        fs::create_dir_all(&one.directory).unwrap();
        (0..MOST).for_each(|n| fs::write(one.path(mac(n)), "filled").unwrap());
        one.write(mac(MOST), b"one too many").unwrap_err();
        one.write(mac(3), b"in its own place").unwrap();
        other.write(mac(MOST), b"x").unwrap();
        assert_eq!((one.ports().unwrap().len(), other.ports().unwrap()), (MOST, vec![mac(MOST)]));
        one.remove(mac(4)).unwrap();
        one.remove(mac(4)).unwrap();
        one.write(mac(MOST), b"there is room").unwrap();
        assert_eq!(one.read(mac(MOST)).unwrap(), b"there is room");
    }
}
