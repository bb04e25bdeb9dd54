//! Looking packages up and downloading them, with package lists of the store's own.
//!
//! The host's lists are shared with everything else that uses apt (images of containers delete
//! them, for one), and updating them changes the host. Ours are fetched once and then stay: what a
//! medium is built from does not change from one day to the next. Remove `apt/` from the store for
//! newer packages. The sources are the host's.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{MediaError, MediaStore, io, make_dir, text};
use crate::tool;

pub(super) struct Apt {
    lists: PathBuf,
    /// Of another architecture than this machine's, whose own packages are of no account then.
    foreign: Option<&'static str>,
}

impl Apt {
    /// The package lists of `store`, fetched when there are none.
    pub(super) fn open(store: &MediaStore) -> Result<Self, MediaError> {
        Self::open_at(&store.root.join("apt"), None)
    }

    /// Those of another architecture. What is installed on this machine is neither looked at nor changed.
    pub(super) fn open_foreign(store: &MediaStore, architecture: &'static str) -> Result<Self, MediaError> {
        Self::open_at(&store.root.join(format!("apt-{architecture}")), Some(architecture))
    }

    fn open_at(root: &Path, foreign: Option<&'static str>) -> Result<Self, MediaError> {
        let lists = root.join("lists");
        make_dir(&lists.join("partial"))?;
        let status = root.join("status");
        std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(&status)
            .map_err(io(&status, "cannot be made"))?;
        let lock_path = root.join("lock");
        let lock = std::fs::File::create(&lock_path).map_err(io(&lock_path, "cannot be made"))?;
        lock.lock().map_err(io(&lock_path, "cannot be locked"))?;
        let apt = Self { lists, foreign };
        if !apt.lists_are_there() {
            tracing::info!("fetching package lists");
            apt.update()?;
        }
        Ok(apt)
    }

    /// The first package that `package` depends on whose name begins with `prefix`.
    pub(super) fn dependency(&self, package: &str, prefix: &str) -> Result<String, MediaError> {
        self.show(package, "Depends")?
            .split(',')
            .filter_map(|depends| depends.split_whitespace().next())
            .find(|name| name.starts_with(prefix))
            .map(str::to_owned)
            .ok_or_else(|| MediaError::NoPackage(package.to_owned()))
    }

    /// The version of `package` that apt would install.
    pub(super) fn version(&self, package: &str) -> Result<String, MediaError> {
        self.show(package, "Version")
    }

    /// Downloads that version into `dir`, after one update when the mirror has moved on.
    pub(super) fn download(&self, dir: &Path, package: &str) -> Result<(), MediaError> {
        let get = || {
            let mut command = self.command("apt-get");
            command.current_dir(dir).args(["-q", "download", package]);
            tool::output(command, &[])
        };
        if get().is_err() {
            self.update()?;
            get()?;
        }
        Ok(())
    }

    /// Downloads a package and unpacks it into `root`: nothing of it runs, and nothing is installed.
    pub(super) fn unpack(&self, package: &str, root: &Path) -> Result<(), MediaError> {
        let archives = tempfile::tempdir().map_err(io(Path::new("/tmp"), "no working directory"))?;
        self.download(archives.path(), package)?;
        for archive in
            std::fs::read_dir(archives.path()).map_err(io(archives.path(), "cannot be read"))?.flatten()
        {
            tool::run("dpkg", ["-x", &text(&archive.path()), &text(root)])?;
        }
        Ok(())
    }

    fn show(&self, package: &str, field: &str) -> Result<String, MediaError> {
        let mut command = self.command("apt-cache");
        command.args(["show", "--no-all-versions", package]);
        tool::output(command, &[])?
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(": "))
            .map(str::to_owned)
            .ok_or_else(|| MediaError::NoPackage(package.to_owned()))
    }

    fn update(&self) -> Result<(), MediaError> {
        let mut command = self.command("apt-get");
        command.args(["-q", "update"]);
        tool::output(command, &[])?;
        Ok(())
    }

    fn lists_are_there(&self) -> bool {
        let entries = std::fs::read_dir(&self.lists).into_iter().flatten().flatten();
        entries.into_iter().any(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-o").arg(format!("Dir::State::lists={}", text(&self.lists)));
        // The caches that go with the lists: a medium asks for the versions of dozens of packages, and each answer
        // without them costs a second. apt replaces them whole.
        for cache in ["pkgcache", "srcpkgcache"] {
            let file = self.lists.with_file_name(format!("{cache}.bin"));
            command.arg("-o").arg(format!("Dir::Cache::{cache}={}", text(&file)));
        }
        if let Some(architecture) = self.foreign {
            command.arg("-o").arg(format!("APT::Architecture={architecture}"));
            command.arg("-o").arg(format!("APT::Architectures={architecture}"));
            let status = self.lists.with_file_name("status");
            command.arg("-o").arg(format!("Dir::State::status={}", text(&status)));
        }
        // The directories belong to root, who apt would step down from.
        command.args(["-o", "APT::Sandbox::User=root"]);
        command
    }
}
