//! `farrier-lab ramdisk`: kernel and ramdisk for the machines of a real rack.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;

use super::Programs;
use crate::media::{KernelFlavour, MediaStore};
use crate::tool::install_missing;

/// Options of `farrier-lab ramdisk`.
#[derive(Debug, Args)]
pub struct RamdiskArgs {
    /// Directory for `vmlinuz` and `initrd`, which `[ramdisk]` of rackd.toml names, and for `cd-bios.img` and
    /// `cd-efi.img`, which `[virtual_media]` does
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Debian's kernel for cloud machines instead of the one for hardware: virtio and NVMe only, smaller
    #[arg(long)]
    virtual_machines: bool,
}

/// Makes them from Debian's kernel package and the agent.
pub fn ramdisk(args: &RamdiskArgs) -> ExitCode {
    match make(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ramdisk: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn make(args: &RamdiskArgs) -> Result<()> {
    install_missing(|text| eprintln!("{text}"))?;
    let programs = Programs::build()?;
    let flavour = if args.virtual_machines { KernelFlavour::Cloud } else { KernelFlavour::Generic };
    let store = MediaStore::of_workspace()?;
    let (ramdisk, cd) = (store.ramdisk(programs.agent(), flavour)?, store.cd_loaders()?);
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
    for (from, name) in [
        (&ramdisk.kernel, "vmlinuz"),
        (&ramdisk.initrd, "initrd"),
        (&cd.bios, "cd-bios.img"),
        (&cd.efi, "cd-efi.img"),
    ] {
        let to = args.out.join(name);
        let bytes = std::fs::copy(from, &to).with_context(|| format!("cannot write {}", to.display()))?;
        eprintln!("{}: {:.1} MiB", to.display(), bytes as f64 / f64::from(1 << 20));
    }
    Ok(())
}
