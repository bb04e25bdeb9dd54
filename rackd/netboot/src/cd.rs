//! The GRUB configuration of a boot CD. Every word in it is ours or checked by a type.

use std::fmt::Write as _;

use crate::KernelArgs;

/// Starts `kernel` and `initrd`, files of the CD by their paths, and after a failure the machine anew: a BMC that lost
/// its connection gives read errors. `mark` is a file that no other volume has, by its path: what the machine has beside this
/// CD is not looked at.
///
/// Quoted, since `;` and `*` mean something to GRUB and are in the grammar of [`KernelArgs`]; quotes are not.
#[must_use]
pub fn cd_script(mark: &str, kernel: &str, initrd: &str, args: &KernelArgs) -> String {
    let mut line = String::new();
    for token in args.tokens() {
        let _ = write!(line, " '{token}'");
    }
    format!(
        "search --no-floppy --set=root --file {mark}\n\
         if linux {kernel}{line}; then if initrd {initrd}; then boot; fi; fi\n\
         echo 'the CD cannot be read: starting anew'\nsleep 10\nreboot\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cd_script_is_exactly_this() {
        let args = KernelArgs::parse("console=ttyS0 a=b;c farrier.token=abc").unwrap();
        assert_eq!(
            cd_script("/farrier/a1", "/kernel.img", "/initrd.img", &args),
            "search --no-floppy --set=root --file /farrier/a1\n\
             if linux /kernel.img 'console=ttyS0' 'a=b;c' 'farrier.token=abc'; then if initrd /initrd.img; then boot; fi; fi\n\
             echo 'the CD cannot be read: starting anew'\nsleep 10\nreboot\n"
        );
    }
}
