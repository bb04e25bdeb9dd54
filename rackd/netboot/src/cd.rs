//! The GRUB configuration of a boot CD. Every word in it is ours or checked by a type.

use crate::grub::{of_its_architecture, start};
use crate::{ArtifactName, Ramdisks};

/// Starts a ramdisk from the files that [`cd_file`] names, and after a failure the machine anew: a BMC that lost its connection
/// gives read errors. `mark` is a file that no other volume has, by its path: what the machine has beside this CD is not looked at.
#[must_use]
pub fn cd_script(mark: &str, ramdisks: &Ramdisks) -> String {
    let start = of_its_architecture(ramdisks, |ramdisk| start(ramdisk, "/", SUFFIX));
    format!(
        "search --no-floppy --set=root --file {mark}\n\
         {start}\
         echo 'the CD cannot be read: starting anew'\nsleep 10\nreboot\n"
    )
}

/// What a kernel or an initrd is called on the CD, at its top.
#[must_use]
pub fn cd_file(name: &ArtifactName) -> String {
    format!("{name}{SUFFIX}")
}

/// Readers of ISO 9660 differ in what they make of a name without a dot.
const SUFFIX: &str = ".img";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KernelArgs, Ramdisk};

    #[test]
    fn a_cd_script_is_exactly_this() {
        let args = KernelArgs::parse("console=ttyS0 a=b;c farrier.token=abc").unwrap();
        let ramdisk = Ramdisk { kernel: "kernel".parse().unwrap(), initrd: "initrd".parse().unwrap(), args };
        assert_eq!(cd_file(&ramdisk.kernel), "kernel.img");
        assert_eq!(
            cd_script("/farrier/a1", &ramdisk.into()),
            "search --no-floppy --set=root --file /farrier/a1\n\
             if linux '/kernel.img' 'console=ttyS0' 'a=b;c' 'farrier.token=abc'; then\n\
             if initrd '/initrd.img'; then\n\
             boot\n\
             fi\n\
             fi\n\
             echo 'the CD cannot be read: starting anew'\nsleep 10\nreboot\n"
        );
    }
}
