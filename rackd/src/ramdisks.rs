//! The rack's ramdisks: one, or one for each architecture of its machines. Which one a machine boots is decided when its boot
//! program runs, by what that was built for.

use crate::config::{RamdiskConfig, RamdiskFiles};
use crate::kernel::Machine;
use anyhow::Context as _;
use farrier_netboot::{Artifact, ArtifactName, BootTable, KernelArgs, KernelArgsError, Ramdisk};
use std::path::{Path, PathBuf};

/// What `[ramdisk]` names.
#[derive(Debug, Clone)]
pub(crate) struct Ramdisks {
    /// For every machine, or for x86 where there is one for arm64.
    first: Files,
    arm64: Option<Files>,
}

#[derive(Debug, Clone)]
struct Files {
    /// What its kernel runs on, as far as it says so.
    is_for: Option<Machine>,
    kernel: (ArtifactName, PathBuf),
    initrd: (ArtifactName, PathBuf),
    /// Its own kernel arguments.
    args: String,
}

impl Ramdisks {
    /// Those whose files are there, each of an architecture of its own where there are two.
    pub(crate) fn open(config: &RamdiskConfig) -> anyhow::Result<Self> {
        let first = kernel_of("ramdisk", "", &config.files)?;
        let of_arm64 = |files| kernel_of("ramdisk.arm64", " --architecture arm64", files);
        let arm64 = config.arm64.as_ref().map(of_arm64).transpose()?;
        Self::of(config, first, arm64.flatten())
    }

    /// Those whose kernels say that they are for these machines.
    pub(crate) fn of(
        config: &RamdiskConfig,
        first: Option<Machine>,
        second: Option<Machine>,
    ) -> anyhow::Result<Self> {
        if let Some(files) = &config.arm64 {
            let kernels = [
                ("ramdisk", &config.files, first, Machine::X86),
                ("ramdisk.arm64", files, second, Machine::Arm64),
            ];
            for (key, files, seen, expected) in kernels {
                anyhow::ensure!(
                    seen == Some(expected),
                    "{key}: expected a kernel for {} where there are [ramdisk] and [ramdisk.arm64], saw {} at {}",
                    expected.name(),
                    seen.map_or_else(
                        || "one that does not say what it is for".to_owned(),
                        |machine| format!("one for {}", machine.name())
                    ),
                    files.kernel.display()
                );
            }
        }
        let arm64 = config.arm64.as_ref().map(|files| Files::new(files, "-arm64", second)).transpose()?;
        Ok(Self { first: Files::new(&config.files, "", first)?, arm64 })
    }

    fn all(&self) -> impl Iterator<Item = &Files> {
        std::iter::once(&self.first).chain(&self.arm64)
    }

    /// What the kernels run on; `None`: one does not say so.
    pub(crate) fn machines(&self) -> Option<Vec<Machine>> {
        self.all().map(|files| files.is_for).collect()
    }

    /// Whether one starts on such a machine, as far as the kernels say what they are for.
    pub(crate) fn start_on(&self, machine: Machine) -> bool {
        self.all().any(|files| files.is_for.is_none_or(|its| its == machine))
    }

    /// All files, by the names under which they are served.
    pub(crate) fn files(&self) -> impl Iterator<Item = &(ArtifactName, PathBuf)> {
        self.all().flat_map(|files| [&files.kernel, &files.initrd])
    }

    /// Serves the files.
    pub(crate) fn publish(&self, table: &mut BootTable) {
        for (name, path) in self.files() {
            table.publish_artifact(name.clone(), Artifact::File(path.clone()));
        }
    }

    /// What a machine is to boot: each with its own kernel arguments, and what `complete` adds for this boot.
    pub(crate) fn boot(
        &self,
        complete: impl Fn(KernelArgs) -> Result<KernelArgs, KernelArgsError>,
    ) -> Result<farrier_netboot::Ramdisks, KernelArgsError> {
        let boot = |files: &Files| -> Result<Ramdisk, KernelArgsError> {
            let args = complete(KernelArgs::parse(&files.args)?)?;
            Ok(Ramdisk { kernel: files.kernel.0.clone(), initrd: files.initrd.0.clone(), args })
        };
        Ok(farrier_netboot::Ramdisks::new(boot(&self.first)?, self.arm64.as_ref().map(boot).transpose()?))
    }
}

impl Files {
    fn new(files: &RamdiskFiles, suffix: &str, is_for: Option<Machine>) -> anyhow::Result<Self> {
        let served = |name: &str, path: &Path| -> anyhow::Result<_> {
            Ok((format!("{name}{suffix}").parse()?, path.to_owned()))
        };
        Ok(Self {
            is_for,
            kernel: served("kernel", &files.kernel)?,
            initrd: served("initrd", &files.initrd)?,
            args: files.args.clone(),
        })
    }
}

/// Which machines a ramdisk is for, as far as its kernel says so. With `options` it is made.
fn kernel_of(key: &str, options: &str, files: &RamdiskFiles) -> anyhow::Result<Option<Machine>> {
    for path in [&files.kernel, &files.initrd] {
        anyhow::ensure!(
            path.is_file(),
            "{key}: expected a file at {}, saw none; `cargo xtask ramdisk --out DIR{options}` makes both, `[{key}]` in the \
             configuration names them",
            path.display()
        );
    }
    Machine::of_file(&files.kernel).with_context(|| format!("cannot read {}", files.kernel.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(name: &str) -> RamdiskFiles {
        let path = |suffix: &str| PathBuf::from(format!("/none/{name}.{suffix}"));
        RamdiskFiles { kernel: path("k"), initrd: path("i"), args: format!("console={name}") }
    }

    fn config(arm64: bool) -> RamdiskConfig {
        RamdiskConfig { files: files("a"), arm64: arm64.then(|| files("b")) }
    }

    #[test]
    fn of_two_each_is_for_an_architecture_of_its_own() {
        use Machine::{Arm64, X86};
        assert!(Ramdisks::of(&config(true), Some(X86), Some(Arm64)).is_ok());
        for (first, second, refused) in [
            (Some(Arm64), Some(Arm64), "ramdisk: expected a kernel for x86 where"),
            (Some(X86), Some(X86), "ramdisk.arm64: expected a kernel for arm64 where"),
            (Some(Arm64), Some(X86), "saw one for arm64 at /none/a.k"),
            (None, Some(Arm64), "saw one that does not say what it is for at /none/a.k"),
            (Some(X86), None, "saw one that does not say what it is for at /none/b.k"),
        ] {
            let error = Ramdisks::of(&config(true), first, second).unwrap_err().to_string();
            assert!(error.contains(refused), "{error}");
        }
        // Alone it is for whoever boots it.
        for first in [None, Some(X86), Some(Arm64)] {
            Ramdisks::of(&config(false), first, None).unwrap();
        }
    }

    #[test]
    fn who_has_no_kernel_of_its_own_is_known_where_the_kernels_say_what_they_are_for() {
        use Machine::{Arm64, X86};
        let one = |machine| Ramdisks::of(&config(false), machine, None).unwrap();
        assert!(one(Some(X86)).start_on(X86) && !one(Some(X86)).start_on(Arm64));
        assert!(one(None).start_on(X86) && one(None).start_on(Arm64) && one(None).machines().is_none());
        let two = Ramdisks::of(&config(true), Some(X86), Some(Arm64)).unwrap();
        assert!(two.start_on(X86) && two.start_on(Arm64));
        assert_eq!(two.machines(), Some(vec![X86, Arm64]));
    }

    #[test]
    fn each_has_its_own_arguments_and_those_of_the_boot() {
        let two = Ramdisks::of(&config(true), Some(Machine::X86), Some(Machine::Arm64)).unwrap();
        let boot = two.boot(|mut args| {
            args.push("farrier.token", Some("t"))?;
            Ok(args)
        });
        let ramdisk = |kernel: &str, initrd: &str, args| Ramdisk {
            kernel: kernel.parse().unwrap(),
            initrd: initrd.parse().unwrap(),
            args: KernelArgs::parse(args).unwrap(),
        };
        let expected = farrier_netboot::Ramdisks::Two {
            x86: ramdisk("kernel", "initrd", "console=a farrier.token=t"),
            arm64: ramdisk("kernel-arm64", "initrd-arm64", "console=b farrier.token=t"),
        };
        assert_eq!(boot.unwrap(), expected);
    }

    #[test]
    fn a_file_that_is_missing_is_named_with_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let there = |name: &str| {
            std::fs::write(dir.path().join(name), "x").unwrap();
            dir.path().join(name)
        };
        let files = RamdiskFiles { kernel: there("k"), initrd: there("i"), args: String::new() };
        let arm64 = RamdiskFiles { initrd: dir.path().join("none"), ..files.clone() };
        let error = Ramdisks::open(&RamdiskConfig { files, arm64: Some(arm64) }).unwrap_err().to_string();
        assert!(error.starts_with("ramdisk.arm64: expected a file at") && error.contains("none"), "{error}");
    }
}
