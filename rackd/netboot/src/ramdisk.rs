//! What is started over the network: one ramdisk, or one for each architecture.

use crate::{ArtifactName, KernelArgs};

/// A kernel and its initrd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ramdisk {
    /// Served name of the kernel.
    pub kernel: ArtifactName,
    /// Served name of the initrd.
    pub initrd: ArtifactName,
    /// The kernel's command line.
    pub args: KernelArgs,
}

/// The ramdisks of a boot. Of two, the boot program takes that of its own architecture when it runs: nobody has to know before
/// what the machine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ramdisks {
    /// This one, whatever starts it.
    One(Ramdisk),
    /// One for each architecture.
    Two {
        /// For x86, of 32 and of 64 bits.
        x86: Ramdisk,
        /// For arm64.
        arm64: Ramdisk,
    },
}

impl Ramdisks {
    /// `first` alone; or, beside one for arm64, for x86.
    #[must_use]
    pub fn new(first: Ramdisk, arm64: Option<Ramdisk>) -> Self {
        match arm64 {
            None => Self::One(first),
            Some(arm64) => Self::Two { x86: first, arm64 },
        }
    }
}

impl From<Ramdisk> for Ramdisks {
    fn from(ramdisk: Ramdisk) -> Self {
        Self::One(ramdisk)
    }
}
