//! UEFI variables as files: `efivarfs` on a real machine, a folder of the same shape on a pretend one.
//!
//! A file is named `<name>-<vendor GUID>` and holds 4 bytes of attributes, little endian, then the value
//! (Linux Documentation/filesystems/efivarfs.rst).
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

/// EFI_GLOBAL_VARIABLE, the vendor of `Boot####` and `BootOrder` (UEFI 2.10 §3.3).
pub const GLOBAL_GUID: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// NON_VOLATILE | BOOTSERVICE_ACCESS | RUNTIME_ACCESS (UEFI 2.10 §8.2).
const BOOT_ATTRIBUTES: u32 = 0x7;
/// No boot variable is larger; firmware gives the whole store 64 to 256 KiB.
const MAX_VALUE_BYTES: u64 = 64 * 1024;

/// The global variables of a machine's firmware.
pub trait EfiVars: Send + Sync {
    /// Names of all global variables.
    fn names(&self) -> io::Result<Vec<String>>;
    /// Value without its attributes; `None` when there is no such variable.
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>>;
    /// Creates or replaces a non-volatile boot variable.
    fn write(&self, name: &str, value: &[u8]) -> io::Result<()>;
    /// Removes a variable; one that is not there is no error.
    fn remove(&self, name: &str) -> io::Result<()>;
}

/// A folder of variables.
#[derive(Debug, Clone)]
pub struct EfiVarDir {
    root: PathBuf,
}

impl EfiVarDir {
    /// `root` is `/sys/firmware/efi/efivars` or a folder that looks like it.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(format!("{name}-{GLOBAL_GUID}"))
    }
}

/// efivarfs marks variables immutable so that `rm -rf` does not brick a machine; whoever means it
/// clears the flag first. Ordinary folders may not know the flag: then there is nothing to clear.
fn make_mutable(path: &Path) {
    let Ok(file) = File::open(path) else { return };
    if let Ok(flags) = ioctl_getflags(&file)
        && flags.contains(IFlags::IMMUTABLE)
    {
        let _ = ioctl_setflags(&file, flags - IFlags::IMMUTABLE);
    }
}

impl EfiVars for EfiVarDir {
    fn names(&self) -> io::Result<Vec<String>> {
        let suffix = format!("-{GLOBAL_GUID}");
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let name = entry?.file_name();
            if let Some(name) = name.to_str().and_then(|n| n.strip_suffix(&suffix)) {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.path(name)) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let mut bytes = Vec::new();
        file.take(MAX_VALUE_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes.get(4..).map(<[u8]>::to_vec))
    }

    fn write(&self, name: &str, value: &[u8]) -> io::Result<()> {
        let path = self.path(name);
        make_mutable(&path);
        let mut bytes = BOOT_ATTRIBUTES.to_le_bytes().to_vec();
        bytes.extend_from_slice(value);
        let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
        // One write is one SetVariable(); efivarfs replaces the value whatever its old length was.
        let written = file.write(&bytes)?;
        if written != bytes.len() {
            return Err(io::Error::new(
                io::ErrorKind::WriteZero,
                format!("firmware took {written} of {} bytes of {name}", bytes.len()),
            ));
        }
        // Only an ordinary file keeps the tail of a longer old value.
        if file.metadata()?.len() > bytes.len() as u64 {
            file.set_len(bytes.len() as u64)?;
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.path(name);
        make_mutable(&path);
        match fs::remove_file(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}
