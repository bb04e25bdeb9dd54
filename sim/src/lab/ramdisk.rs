//! `farrier-lab ramdisk`: kernel and ramdisk for the machines of a real rack.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};

use super::Programs;
use crate::media::{KernelFlavour, MediaStore};
use crate::tool::install_missing;

/// Options of `farrier-lab ramdisk`.
#[derive(Debug, Args)]
pub struct RamdiskArgs {
    /// Directory for `vmlinuz` and `initrd`, which `[ramdisk]` of rackd.toml names, or `[ramdisk.arm64]`, and for `cd-bios.img` and
    /// `cd-efi.img`, which `[virtual_media]` does; of arm64 also for `shimaa64.efi` and `grubaa64.efi`, which `[signed_boot.arm64]`
    /// names, and with a `cd-efi.img` for both architectures
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Debian's kernel for cloud machines instead of the one for hardware: virtio and NVMe only, smaller
    #[arg(long)]
    virtual_machines: bool,
    /// A driver that is not among those that every ramdisk has, by the name of its module; may be repeated
    #[arg(long = "module", value_name = "NAME")]
    modules: Vec<String>,
    /// The machines' architecture
    #[arg(long, value_enum, default_value_t = Architecture::X86_64)]
    architecture: Architecture,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Architecture {
    #[value(name = "x86_64")]
    X86_64,
    Arm64,
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
    let store = MediaStore::of_workspace()?;
    let (ramdisk, cd, signed) = match args.architecture {
        Architecture::X86_64 => {
            let flavour = if args.virtual_machines { KernelFlavour::Cloud } else { KernelFlavour::Generic };
            let cd = store.cd_loaders()?;
            (store.ramdisk_with(Programs::build()?.agent(), flavour, &args.modules)?, cd, Vec::new())
        }
        Architecture::Arm64 => {
            let flavour =
                if args.virtual_machines { KernelFlavour::CloudArm64 } else { KernelFlavour::GenericArm64 };
            let signed = store.arm64()?;
            let cd = store.cd_loaders_with(&signed)?;
            let signed = vec![(signed.shim, "shimaa64.efi"), (signed.grub, "grubaa64.efi")];
            (store.ramdisk_with(&Programs::arm64_agent(&store)?, flavour, &args.modules)?, cd, signed)
        }
    };
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
    let files = [
        (ramdisk.kernel, "vmlinuz"),
        (ramdisk.initrd, "initrd"),
        (cd.bios, "cd-bios.img"),
        (cd.efi, "cd-efi.img"),
    ];
    for (from, name) in files.into_iter().chain(signed) {
        let to = args.out.join(name);
        let bytes = std::fs::copy(from, &to).with_context(|| format!("cannot write {}", to.display()))?;
        eprintln!("{}: {:.1} MiB", to.display(), bytes as f64 / f64::from(1 << 20));
    }
    Ok(())
}
