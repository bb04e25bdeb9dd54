//! The boot programs that firmware with Microsoft's keys runs: shim, which they signed, and GRUBs, which Debian signed and
//! shim trusts. The kernels of [`super::kernel`] have Debian's signature too.

/// The first program of every way to boot. Package `shim-signed`.
pub const SHIM: &str = "/usr/lib/shim/shimx64.efi.signed";
/// GRUB that shim fetched from the network: reads `/grub/grub.cfg` by TFTP, and has no HTTP. Package
/// `grub-efi-amd64-signed`, as the others.
pub const GRUB_NETWORK: &str = "/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed";
/// GRUB on a disk: reads `/EFI/debian/grub.cfg` beside it.
pub const GRUB_DISK: &str = "/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed";
/// GRUB on a CD: reads `/boot/grub/grub.cfg` of the volume that it came from.
pub const GRUB_CD: &str = "/usr/lib/grub/x86_64-efi-signed/gcdx64.efi.signed";
/// What shim starts where somebody has to enrol a key. Package `shim-helpers-amd64-signed`.
pub const KEY_MANAGER: &str = "/usr/lib/shim/mmx64.efi.signed";
