//! A Rust compiler with the standard library of arm64, for hosts whose own has none: Debian's, which is as new as its browsers
//! need, unpacked and not installed.
//!
//! Cargo is the host's. A compiler is of one piece with its standard libraries, so both architectures' are Debian's, and
//! what it builds is kept apart from what the host's builds.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use super::apt::Apt;
use super::{Key, MediaError, MediaStore, arm64, io, make_dir, write};

/// The program to be cargo's `RUSTC`.
pub(super) fn fetch(store: &MediaStore) -> Result<PathBuf, MediaError> {
    let (host, foreign) = (Apt::open(store)?, Apt::open_foreign(store, arm64::ARCHITECTURE)?);
    // Named by their versions, as libraries are.
    let libraries = host.dependency(STANDARD, "libstd-rust-web-")?;
    let llvm = host.dependency(&libraries, "libllvm")?;
    let packages =
        [(&host, COMPILER), (&host, STANDARD), (&host, &*libraries), (&host, &*llvm), (&foreign, STANDARD)];
    let mut key = Key::new("compiler");
    key.add(STARTER);
    for (apt, package) in packages {
        key.add(package).add(&apt.version(package)?);
    }
    let dir = store.cached("compiler", &key, |dir| {
        let root = dir.join("root");
        make_dir(&root)?;
        packages.iter().try_for_each(|(apt, package)| apt.unpack(package, &root))?;
        let starter = dir.join("rustc");
        write(&starter, STARTER.as_bytes())?;
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&starter, executable).map_err(io(&starter, "cannot be made executable"))
    })?;
    Ok(dir.join("rustc"))
}

/// The compiler looks for its libraries where the packages would have put them.
const STARTER: &str = "#!/bin/sh
root=${0%/*}/root/usr
LD_LIBRARY_PATH=$root/lib/x86_64-linux-gnu exec \"$root/bin/rustc\" \"$@\"
";
/// Debian's compiler for its browsers, newer than its `rustc`.
const COMPILER: &str = "rustc-web";
const STANDARD: &str = "libstd-rust-web-dev";
