//! Builds what the rack's machines boot: guest disk images and the ramdisk of the agent.
//!
//! Everything is made from Debian packages with the machine's own apt sources, without loop
//! devices and mounts, bit by bit the same each time ([`SOURCE_DATE_EPOCH`]), and kept under a name
//! that holds a hash of everything that went in: what is there is used, what changed is rebuilt.
//!
//! All functions block, for up to minutes: call them from `spawn_blocking`.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::tool::ToolError;

mod apt;
mod arm64;
mod cd;
mod compiler;
pub mod cpio;
mod debian;
mod disk;
mod iscsi;
mod kernel;
mod mini;
mod ramdisk;
mod seed;
pub mod signed;

pub use arm64::Arm64;
pub use cd::CdLoaders;
pub use kernel::{Kernel, KernelFlavour};
pub use ramdisk::Ramdisk;
pub use seed::{append_seed, seed_volume};

/// Why a boot medium could not be built.
#[derive(Debug, Error)]
pub enum MediaError {
    #[error(transparent)]
    Tool(#[from] ToolError),
    #[error("{path}: {what}")]
    Io {
        path: PathBuf,
        what: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("{0}: apt knows no such package; is there a Debian source for it?")]
    NoPackage(String),
    #[error("{0} is not as expected: {1}")]
    Unexpected(String, &'static str),
}

/// A whole-disk image of a guest operating system: raw, GPT, boots on BIOS and on UEFI.
#[derive(Debug, Clone)]
pub struct GuestImage {
    /// Sparse raw file in the cache; copy it before a machine writes to it.
    pub path: PathBuf,
    /// Size in bytes of the disk, holes included.
    pub size: u64,
    /// Root of the guest's file system before it became an image, for tests that look inside.
    pub key: String,
}

impl GuestImage {
    /// A private, sparse copy for a machine to boot from.
    pub fn copy_to(&self, path: &Path) -> Result<(), MediaError> {
        crate::tool::run("cp", [OsArg("--sparse=always"), OsArg(&text(&self.path)), OsArg(&text(path))])?;
        Ok(())
    }
}

/// The cache of finished media; cheap to open, safe to share between processes.
#[derive(Debug, Clone)]
pub struct MediaStore {
    root: PathBuf,
}

impl MediaStore {
    /// A store in `root`, made when absent.
    pub fn open(root: &Path) -> Result<Self, MediaError> {
        make_dir(root)?;
        let root = root.canonicalize().map_err(io(root, "cannot be resolved"))?;
        Ok(Self { root })
    }

    /// The store of this source tree: `target/lab`.
    pub fn of_workspace() -> Result<Self, MediaError> {
        Self::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/lab"))
    }

    /// The smallest guest: GRUB, kernel and a busybox initramfs on 48 MiB. It takes its
    /// configuration from a `CIDATA` volume and phones home.
    pub fn mini(&self) -> Result<GuestImage, MediaError> {
        mini::build(self)
    }

    /// The mini guest behind shim and GRUB as Debian signs them, for firmware that runs nothing else; boots with BIOS too.
    pub fn mini_signed(&self) -> Result<GuestImage, MediaError> {
        mini::build_signed(self)
    }

    /// The mini guest for arm64 machines, signed.
    pub fn mini_arm64(&self) -> Result<GuestImage, MediaError> {
        mini::build_arm64(self)
    }

    /// Debian 12 with systemd, cloud-init and an SSH server.
    pub fn debian(&self) -> Result<GuestImage, MediaError> {
        debian::build(self)
    }

    /// What boot CDs of x86 machines start with.
    pub fn cd_loaders(&self) -> Result<CdLoaders, MediaError> {
        cd::build(self, None)
    }

    /// The same for arm64 machines too, by these.
    pub fn cd_loaders_with(&self, arm64: &Arm64) -> Result<CdLoaders, MediaError> {
        cd::build(self, Some(arm64))
    }

    /// What an arm64 machine boots with: Debian's shim, GRUB and kernel, and a ramdisk that says so.
    pub fn arm64(&self) -> Result<Arm64, MediaError> {
        arm64::fetch(self)
    }

    /// A Rust compiler that builds for arm64, to be cargo's `RUSTC`.
    pub fn arm64_compiler(&self) -> Result<PathBuf, MediaError> {
        compiler::fetch(self)
    }

    /// A kernel package of Debian, unpacked.
    pub fn kernel(&self, flavour: KernelFlavour) -> Result<Kernel, MediaError> {
        kernel::fetch(self, flavour)
    }

    /// The ramdisk with `agent` (a static executable) as `/init`.
    pub fn ramdisk(&self, agent: &Path, flavour: KernelFlavour) -> Result<Ramdisk, MediaError> {
        self.ramdisk_with(agent, flavour, &[])
    }

    /// The same with further drivers, by the names of their modules.
    pub fn ramdisk_with(
        &self,
        agent: &Path,
        flavour: KernelFlavour,
        further: &[String],
    ) -> Result<Ramdisk, MediaError> {
        let kernel = self.kernel(flavour)?;
        let mut key = Key::new("ramdisk");
        key.add(ramdisk::RECIPE).add(&kernel.release).add(&kernel.package_version);
        key.add_bytes(&read(agent)?);
        further.iter().for_each(|module| _ = key.add(module));
        let name = format!("ramdisk-{}", flavour.name());
        let dir = self.cached(&name, &key, |dir| ramdisk::build(agent, &kernel, further, dir).map(|_| ()))?;
        ramdisk::open(&dir)
    }

    /// What every ramdisk brings drivers for, by the names of their modules.
    pub fn ramdisk_modules() -> &'static [&'static str] {
        ramdisk::MODULES
    }

    /// A ramdisk with the same kernel and drivers, and a busybox script as `/init`: other people's ramdisks,
    /// to be compared with ours.
    pub fn script_ramdisk(&self, init: &str, flavour: KernelFlavour) -> Result<Ramdisk, MediaError> {
        let kernel = self.kernel(flavour)?;
        let busybox = read(BUSYBOX.as_ref())?;
        let mut key = Key::new("script-ramdisk");
        key.add(ramdisk::RECIPE).add(&kernel.release).add(&kernel.package_version);
        key.add(init).add_bytes(&busybox);
        let name = format!("script-ramdisk-{}", flavour.name());
        let dir =
            self.cached(&name, &key, |dir| ramdisk::build_script(init, &busybox, &kernel, dir).map(|_| ()))?;
        ramdisk::open(&dir)
    }

    /// The directory `<name>-<key>`, filled by `build` when it is not there yet. Concurrent
    /// builders of one thing wait for the first, in this process and in others.
    fn cached(
        &self,
        name: &str,
        key: &Key,
        build: impl FnOnce(&Path) -> Result<(), MediaError>,
    ) -> Result<PathBuf, MediaError> {
        let finished = self.root.join(format!("{name}-{}", key.short()));
        if finished.exists() {
            return Ok(finished);
        }
        let lock_path = self.root.join(format!(".{name}.lock"));
        let lock = std::fs::File::create(&lock_path).map_err(io(&lock_path, "cannot be made"))?;
        lock.lock().map_err(io(&lock_path, "cannot be locked"))?;
        if finished.exists() {
            return Ok(finished);
        }
        let started = std::time::Instant::now();
        tracing::info!(medium = name, key = key.short(), "building");
        let work = tempfile::Builder::new()
            .prefix(&format!(".{name}-"))
            .tempdir_in(&self.root)
            .map_err(io(&self.root, "no working directory"))?;
        build(work.path())?;
        let work = work.keep();
        std::fs::rename(&work, &finished).map_err(io(&finished, "cannot be put in place"))?;
        let elapsed_ms = started.elapsed().as_millis();
        tracing::info!(medium = name, path = %finished.display(), elapsed_ms, "built");
        Ok(finished)
    }
}

/// A hash of everything that goes into a medium.
struct Key(Sha256);

impl Key {
    fn new(recipe: &str) -> Self {
        let mut key = Self(Sha256::new());
        key.add(recipe);
        key
    }

    fn add(&mut self, part: &str) -> &mut Self {
        self.add_bytes(part.as_bytes())
    }

    fn add_bytes(&mut self, part: &[u8]) -> &mut Self {
        // With its length, so that no two lists of parts run into the same bytes.
        self.0.update((part.len() as u64).to_be_bytes());
        self.0.update(part);
        self
    }

    fn short(&self) -> String {
        hex::encode(self.0.clone().finalize().get(..6).unwrap_or_default())
    }
}

/// An argument for a program, by reference, so that strings and paths mix in one list.
struct OsArg<'a>(&'a str);

impl AsRef<std::ffi::OsStr> for OsArg<'_> {
    fn as_ref(&self) -> &std::ffi::OsStr {
        self.0.as_ref()
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn io(path: &Path, what: &'static str) -> impl FnOnce(std::io::Error) -> MediaError + use<> {
    let path = path.to_owned();
    move |source| MediaError::Io { path, what, source }
}

fn read(path: &Path) -> Result<Vec<u8>, MediaError> {
    std::fs::read(path).map_err(io(path, "cannot be read"))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), MediaError> {
    std::fs::write(path, bytes).map_err(io(path, "cannot be written"))
}

fn make_dir(path: &Path) -> Result<(), MediaError> {
    std::fs::create_dir_all(path).map_err(io(path, "cannot be made"))
}

/// Static, of Debian's `busybox-static`.
const BUSYBOX: &str = "/bin/busybox";
/// Seconds since 1970 that every time stamp in a medium is set to: some day in 2023.
const SOURCE_DATE_EPOCH: u32 = 1_700_000_000;
