//! The operating systems that a lab deploys.

use anyhow::Result;
use clap::ValueEnum;

use crate::media::{GuestImage, MediaStore};

/// What is deployed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Image {
    /// Debian 12 with cloud-init and SSH
    Debian,
    /// 48 MiB that boot and phone home; no SSH
    Mini,
}

impl Image {
    /// Without `images/`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Image::Debian => "debian-12",
            Image::Mini => "mini",
        }
    }

    /// The disk, from the cache when it is there. Blocking, up to minutes.
    pub(super) fn build(self, store: &MediaStore) -> Result<GuestImage> {
        Ok(match self {
            Image::Debian => store.debian()?,
            Image::Mini => store.mini()?,
        })
    }

    /// What the system says on its console when it is up.
    pub(super) fn up_marker(self) -> &'static str {
        match self {
            Image::Debian => "FARRIER-DEBIAN-SSHD",
            Image::Mini => "FARRIER-MINI-UP",
        }
    }
}
