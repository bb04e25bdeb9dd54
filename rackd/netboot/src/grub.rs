//! What GRUB is told, for firmware that runs signed programs only: shim, whom it trusts, starts GRUB, who has shim look at
//! the kernel's signature. GRUB as distributions sign it has TFTP and no HTTP.
//!
//! Every word is either ours or checked by a type, and stands in single quotes: what is inside them means nothing to
//! GRUB's script language (GRUB manual, "Quoting"), and no checked word has one in it.

use std::{fmt::Write as _, net::IpAddr};

use crate::{ArtifactName, Boot, KernelArgs};

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
        Boot::Script { kernel, initrd, args } | Boot::Signed { kernel, initrd, args } => {
            Some(kernel_script(kernel, initrd, args, server))
        }
        // It was told to load us a moment ago; asked again, the firmware goes on to its disk.
        Boot::LocalDisk => Some("reboot\n".to_owned()),
        // For what GRUB starts nobody waits.
        Boot::San(_) | Boot::Wait | Boot::None => None,
    }
}

/// The tries and waits of the iPXE script.
fn kernel_script(kernel: &ArtifactName, initrd: &ArtifactName, args: &KernelArgs, server: IpAddr) -> String {
    let mut line = String::new();
    for token in args.tokens() {
        let _ = write!(line, " '{token}'");
    }
    format!(
        "for try in 1 2 3 4 5 6 7 8 9 10; do\n\
         if linux '(tftp,{server})/artifacts/{kernel}'{line}; then\n\
         if initrd '(tftp,{server})/artifacts/{initrd}'; then\n\
         boot\n\
         fi\n\
         fi\n\
         echo 'boot failed, trying again'\n\
         sleep $try\n\
         done\n\
         reboot\n"
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

    fn script(args: KernelArgs) -> String {
        let (kernel, initrd) = ("ramdisk-1.vmlinuz".parse().unwrap(), "ramdisk-1.cpio".parse().unwrap());
        render(&Boot::Signed { kernel, initrd, args }, IpAddr::from([10, 1, 0, 1])).unwrap()
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
            assert!(check(&script(KernelArgs::parse(args).unwrap())), "{args}");
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
