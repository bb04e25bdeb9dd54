//! The archive format of an initramfs: cpio "newc" (kernel: buffer-format.rst).
//!
//! Written here, not by the cpio program: no device nodes need to exist, the order is ours, and
//! every archive of the same files is the same bytes.

use super::SOURCE_DATE_EPOCH;

/// An initramfs under construction. Parents must be added before what is inside them: the kernel
/// unpacks in order.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    pub fn new() -> Self {
        Self::default()
    }

    /// A directory, mode 0755.
    pub fn dir(&mut self, path: &str) -> &mut Self {
        self.entry(path, 0o040_755, 2, (0, 0), &[])
    }

    /// A regular file; `mode` holds the permission bits.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> &mut Self {
        self.entry(path, 0o100_000 | mode, 1, (0, 0), content)
    }

    pub fn symlink(&mut self, path: &str, target: &str) -> &mut Self {
        self.entry(path, 0o120_777, 1, (0, 0), target.as_bytes())
    }

    /// A character device, mode 0600.
    pub fn char_device(&mut self, path: &str, major: u32, minor: u32) -> &mut Self {
        self.entry(path, 0o020_600, 1, (major, minor), &[])
    }

    /// The finished archive, not compressed.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, 1, (0, 0), &[]);
        self.bytes
    }

    /// One header of 110 bytes (a magic and 13 numbers of 8 hex digits), the name with its zero
    /// byte, padding to 4 bytes, the content, padding to 4 bytes.
    fn entry(&mut self, path: &str, mode: u32, links: u32, device: (u32, u32), content: &[u8]) -> &mut Self {
        self.entries += 1;
        let numbers = [
            self.entries,
            mode,
            0, // owner
            0, // group
            links,
            SOURCE_DATE_EPOCH,
            u32::try_from(content.len()).unwrap_or(u32::MAX),
            0, // the device the archive was made on
            0,
            device.0,
            device.1,
            u32::try_from(path.len() + 1).unwrap_or(u32::MAX),
            0, // checksum, unused in this variant
        ];
        self.bytes.extend_from_slice(b"070701");
        for number in numbers {
            self.bytes.extend_from_slice(format!("{number:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
        self
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn gnu_cpio_reads_what_we_write() {
        let dir = tempfile::tempdir().unwrap();
        let mut archive = Archive::new();
        archive.dir("etc").file("etc/name", 0o644, b"odd length!").symlink("init", "etc/name");
        archive.char_device("null", 1, 3);
        let path = dir.path().join("a.cpio");
        std::fs::write(&path, archive.finish()).unwrap();
        let list =
            Command::new("cpio").args(["--quiet", "-tvF"]).arg(&path).output().expect("apt-get install cpio");
        assert!(list.status.success());
        let list = String::from_utf8(list.stdout).unwrap();
        let kinds: String = list.lines().filter_map(|line| line.chars().next()).collect();
        assert_eq!(kinds, "d-lc", "{list}");
        assert!(list.contains("init -> etc/name"), "{list}");
        assert!(list.contains("1,   3"), "{list}");
    }
}
