//! How a server is started, and the boot files that it is started with.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;

use crate::{BootFiles, BootTable, Dhcp, Leases, SignedChain};

/// Largest boot file in bytes. iPXE is 1 MiB, a signed shim and GRUB 3 MiB; kernels go over HTTP.
const MAX_BOOT_FILE: u64 = 64 << 20;

/// How a [`crate::Netboot`] is started. Everything else is in the [`crate::BootTable`].
#[derive(Debug, Clone)]
pub struct Config {
    /// Boot files by name, served by TFTP and at `/firmware/{name}`. See [`Config::load_files`].
    pub files: BTreeMap<String, Bytes>,
    /// Which of them is for which firmware, and the port HTTP is on.
    pub boot_files: BootFiles,
    /// Whether TFTP answers from port 69 alone, for firewalls that let nothing else back.
    pub tftp_single_port: bool,
    /// Whether other DHCP servers on our segments are looked for.
    pub foreign_servers: bool,
    /// Addresses given from pools; on disk where they are opened with [`Leases::open`].
    pub leases: Leases,
}

/// A boot file directory that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file or the directory itself.
    #[error("cannot read {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that nothing's firmware could load.
    #[error("{} is larger than {MAX_BOOT_FILE} bytes", path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
    },
}

impl Config {
    /// No boot files yet, the usual names.
    #[must_use]
    pub fn new(http_port: u16) -> Self {
        Self {
            files: BTreeMap::new(),
            boot_files: BootFiles::new(http_port),
            tftp_single_port: false,
            foreign_servers: true,
            leases: Leases::default(),
        }
    }

    /// Says what machines do without boot files, where there are segments that machines boot in.
    pub(crate) fn warn_without_boot_files(&self, table: &BootTable) {
        if self.boot_files.by_architecture.is_empty() && table.served().any(|s| s.dhcp != Dhcp::Off) {
            tracing::warn!(
                "no boot files: only machines whose network cards have iPXE boot from the network; for the others name a \
                 directory with undionly.kpxe and snponly.efi (`boot_files` of rackd.toml, or `--boot-files`): the Debian \
                 package ipxe has them in /usr/lib/ipxe"
            );
        }
    }

    /// Reads shim and GRUB, whatever their files are called, for firmware that runs signed programs only.
    ///
    /// # Errors
    /// As [`Self::load_files`]; one that is not there is an error too, since it was named.
    pub fn load_signed(&mut self, chain: SignedChain, shim: &Path, grub: &Path) -> Result<(), LoadError> {
        for (name, path) in [(chain.shim, shim), (chain.grub, grub)] {
            let bytes = read(path).map_err(|error| error.at(path))?;
            self.files.insert(name.to_owned(), bytes);
        }
        self.boot_files.signed.push(chain);
        Ok(())
    }

    /// Reads the files named in `boot_files` from a directory, those that are there. Symbolic links are followed:
    /// the directory is the operator's.
    ///
    /// # Errors
    /// [`LoadError`] for a directory that is not there, and for a file that is and cannot be read. Call it before
    /// the runtime serves anything, or from a blocking task.
    pub fn load_files(&mut self, directory: &Path) -> Result<(), LoadError> {
        let unread = |source| LoadError::Io { path: directory.to_owned(), source };
        std::fs::read_dir(directory).map_err(unread)?;
        for (_, name) in &self.boot_files.by_architecture {
            let path = directory.join(name);
            match read(&path) {
                Ok(bytes) => drop(self.files.insert(name.clone(), bytes)),
                Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.at(&path)),
            }
        }
        // Perhaps a disk that is not mounted yet: what starts from its own disk does not wait for it.
        if self.files.is_empty() {
            let expected: BTreeSet<&str> =
                self.boot_files.by_architecture.iter().map(|(_, name)| name.as_str()).collect();
            tracing::warn!(
                directory = %directory.display(),
                ?expected,
                "no boot file in the directory of boot files; the Debian package ipxe has them in /usr/lib/ipxe"
            );
        }
        Ok(())
    }
}

enum ReadError {
    Io(io::Error),
    TooLarge,
}

impl ReadError {
    fn at(self, path: &Path) -> LoadError {
        let path = path.to_owned();
        match self {
            Self::Io(source) => LoadError::Io { path, source },
            Self::TooLarge => LoadError::TooLarge { path },
        }
    }
}

fn read(path: &Path) -> Result<Bytes, ReadError> {
    if std::fs::metadata(path).map_err(ReadError::Io)?.len() > MAX_BOOT_FILE {
        return Err(ReadError::TooLarge);
    }
    std::fs::read(path).map(Bytes::from).map_err(ReadError::Io)
}
