//! What GRUB is told, for firmware that runs signed programs only: shim, whom it trusts, starts GRUB, who has shim look at
//! the kernel's signature. GRUB as distributions sign it has TFTP and no HTTP.
//!
//! Every word is either ours or checked by a type, and stands in single quotes: what is inside them means nothing to
//! GRUB's script language (GRUB manual, "Quoting"), and no checked word has one in it.

use std::{fmt::Write as _, net::IpAddr};

use crate::{Boot, Ramdisk, Ramdisks};

/// The names under which GRUB asks for its script: with the prefix that Debian and Ubuntu build in, and with none.
pub(crate) const NAMES: &[&str] = &["grub/grub.cfg", "grub.cfg"];

/// What shim and GRUB ask for and do well without: revocations and certificates beside shim, lists of modules that
/// cannot be loaded under the lock. Not having them is no news.
pub(crate) const OPTIONAL: &[&str] = &[
    "revocations.efi",
    "revocations_sku.efi",
    "revocations_sbat.efi",
    "shim_certificate.efi",
    "shim_certificate_0.efi",
    "grub/x86_64-efi/command.lst",
    "grub/x86_64-efi/crypto.lst",
    "grub/x86_64-efi/fs.lst",
    "grub/x86_64-efi/grub.cfg",
    "grub/x86_64-efi/terminal.lst",
    "grub/arm64-efi/command.lst",
    "grub/arm64-efi/crypto.lst",
    "grub/arm64-efi/fs.lst",
    "grub/arm64-efi/grub.cfg",
    "grub/arm64-efi/terminal.lst",
];

/// Renders the script for `boot`, with artifacts served at `server`. `None` when GRUB has no business here.
pub(crate) fn render(boot: &Boot, server: IpAddr) -> Option<String> {
    match boot {
        Boot::Script(ramdisks) | Boot::Signed(ramdisks) => Some(kernel_script(ramdisks, server)),
        // It was told to load us a moment ago; asked again, the firmware goes on to its disk.
        Boot::LocalDisk => Some("reboot\n".to_owned()),
        // For what GRUB starts nobody waits.
        Boot::San(_) | Boot::Wait | Boot::None => None,
    }
}

/// The tries and waits of the iPXE script.
fn kernel_script(ramdisks: &Ramdisks, server: IpAddr) -> String {
    let place = format!("(tftp,{server})/artifacts/");
    let start = of_its_architecture(ramdisks, |ramdisk| start(ramdisk, &place, ""));
    format!(
        "for try in 1 2 3 4 5 6 7 8 9 10; do\n\
         {start}\
         echo 'boot failed, trying again'\n\
         sleep $try\n\
         done\n\
         reboot\n"
    )
}

/// The commands that start a ramdisk: of two, that of GRUB's own architecture (of x86 `grub_cpu` is i386 or x86_64).
pub(crate) fn of_its_architecture(ramdisks: &Ramdisks, start: impl Fn(&Ramdisk) -> String) -> String {
    match ramdisks {
        Ramdisks::One(ramdisk) => start(ramdisk),
        Ramdisks::Two { x86, arm64 } => {
            format!("if [ \"$grub_cpu\" = 'arm64' ]; then\n{}else\n{}fi\n", start(arm64), start(x86))
        }
    }
}

/// Starts a ramdisk whose files are in `place`, by their names and `suffix`. It comes back only where that failed.
pub(crate) fn start(Ramdisk { kernel, initrd, args }: &Ramdisk, place: &str, suffix: &str) -> String {
    let mut line = String::new();
    for token in args.tokens() {
        let _ = write!(line, " '{token}'");
    }
    format!(
        "if linux '{place}{kernel}{suffix}'{line}; then\n\
         if initrd '{place}{initrd}{suffix}'; then\n\
         boot\n\
         fi\n\
         fi\n"
    )
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        process::{Command, Stdio},
    };

    use proptest::prelude::*;

    use super::*;
    use crate::KernelArgs;

    fn ramdisk(name: &str, args: KernelArgs) -> Ramdisk {
        let served = |suffix| format!("{name}.{suffix}").parse().unwrap();
        Ramdisk { kernel: served("vmlinuz"), initrd: served("cpio"), args }
    }

    fn script_of(ramdisks: Ramdisks) -> String {
        render(&Boot::Signed(ramdisks), IpAddr::from([10, 1, 0, 1])).unwrap()
    }

    fn script(args: KernelArgs) -> String {
        script_of(ramdisk("ramdisk-1", args).into())
    }

    fn two(x86: KernelArgs, arm64: KernelArgs) -> String {
        script_of(Ramdisks::Two { x86: ramdisk("a", x86), arm64: ramdisk("b", arm64) })
    }

    #[test]
    fn a_kernel_script_is_exactly_this() {
        let args = KernelArgs::parse("console=ttyS0 farrier.token=abc ds=nocloud;s=/x").unwrap();
        assert_eq!(
            script(args),
            "for try in 1 2 3 4 5 6 7 8 9 10; do\n\
             if linux '(tftp,10.1.0.1)/artifacts/ramdisk-1.vmlinuz' 'console=ttyS0' 'farrier.token=abc' 'ds=nocloud;s=/x'; then\n\
             if initrd '(tftp,10.1.0.1)/artifacts/ramdisk-1.cpio'; then\n\
             boot\n\
             fi\n\
             fi\n\
             echo 'boot failed, trying again'\n\
             sleep $try\n\
             done\n\
             reboot\n"
        );
    }

    #[test]
    fn a_kernel_script_of_two_architectures_is_exactly_this() {
        let args = |line| KernelArgs::parse(line).unwrap();
        assert_eq!(
            two(args("console=ttyS0"), args("console=ttyAMA0")),
            "for try in 1 2 3 4 5 6 7 8 9 10; do\n\
             if [ \"$grub_cpu\" = 'arm64' ]; then\n\
             if linux '(tftp,10.1.0.1)/artifacts/b.vmlinuz' 'console=ttyAMA0'; then\n\
             if initrd '(tftp,10.1.0.1)/artifacts/b.cpio'; then\n\
             boot\n\
             fi\n\
             fi\n\
             else\n\
             if linux '(tftp,10.1.0.1)/artifacts/a.vmlinuz' 'console=ttyS0'; then\n\
             if initrd '(tftp,10.1.0.1)/artifacts/a.cpio'; then\n\
             boot\n\
             fi\n\
             fi\n\
             fi\n\
             echo 'boot failed, trying again'\n\
             sleep $try\n\
             done\n\
             reboot\n"
        );
    }

    /// GRUB's own reader of scripts.
    #[test]
    fn grub_takes_what_we_write() {
        let check = |script: &str| {
            let mut check =
                Command::new("grub-script-check").stdin(Stdio::piped()).spawn().unwrap_or_else(|error| {
                    panic!("grub-script-check: {error}: install the Debian package grub-common")
                });
            check.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
            check.wait().unwrap().success()
        };
        for args in ["", "console=ttyS0,115200n8 a=*?[x]!;~%@+:/, ip=[2001:db8::1]:::64::eth0:off fi done"] {
            let args = KernelArgs::parse(args).unwrap();
            assert!(check(&script(args.clone())) && check(&two(args.clone(), args.clone())), "{args:?}");
        }
        assert!(!check("if linux a; then\nboot\n"), "it looks");
    }

    proptest! {
        #[test]
        fn arguments_stay_in_their_quotes(line in "[ -~]{0,200}") {
            if let Ok(args) = KernelArgs::parse(&line) {
                let tokens: Vec<String> = args.tokens().map(|token| format!("'{token}'")).collect();
                let text = script(args);
                let plain = script(KernelArgs::new());
                prop_assert_eq!(text.lines().count(), plain.lines().count());
                let line = text.lines().nth(1).unwrap();
                let words = line.strip_prefix("if linux '(tftp,10.1.0.1)/artifacts/ramdisk-1.vmlinuz'").unwrap();
                let words: Vec<&str> = words.strip_suffix("; then").unwrap().split_ascii_whitespace().collect();
                prop_assert_eq!(&words, &tokens);
                prop_assert!(line.matches('\'').count() == 2 + 2 * tokens.len());
            }
        }
    }
}
