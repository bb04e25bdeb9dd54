//! The iPXE script a machine gets. Every word in it is either ours or checked by a type, so it needs no quoting.

use std::{fmt::Write as _, net::SocketAddr};

use crate::{ArtifactName, Boot, KernelArgs, MacAddr, San};

/// Tries before the machine reboots and asks again. The waits between them grow by a second each, so this is
/// about a minute: longer than a restart of rackd takes.
const TRIES: u32 = 10;

/// Where the HTTP server has the script of a port.
pub(crate) fn path(mac: MacAddr) -> String {
    format!("/boot/{}.ipxe", mac.hyphenated())
}

/// Renders the script for `boot` of a port, with artifacts served at `server`. `None` when there is nothing to say.
pub(crate) fn render(boot: &Boot, mac: MacAddr, server: SocketAddr) -> Option<String> {
    match boot {
        Boot::Script { kernel, initrd, args } | Boot::Signed { kernel, initrd, args } => {
            Some(kernel_script(kernel, initrd, args, server))
        }
        Boot::San(san) => Some(san_script(san)),
        Boot::LocalDisk => Some(LOCAL_DISK.to_owned()),
        Boot::Wait => Some(wait_script(mac, server)),
        Boot::None => None,
    }
}

/// BIOS: start the first disk. UEFI: leave with an error, since EDK2 takes a boot option that returns success for
/// "the user is done" and stops going through the list.
const LOCAL_DISK: &str = "#!ipxe
iseq ${platform} efi && goto efi ||
sanboot --no-describe --drive 0x80 || exit 1
:efi
exit 1
";

fn kernel_script(
    kernel: &ArtifactName,
    initrd: &ArtifactName,
    args: &KernelArgs,
    server: SocketAddr,
) -> String {
    let mut line = String::new();
    for token in args.tokens() {
        line.push(' ');
        line.push_str(token);
    }
    let mut out = String::from("#!ipxe\nset tries:int32 0\n:again\nimgfree\n");
    // The EFI stub finds its initrd by the name in `initrd=`; BIOS ignores it.
    let _ = writeln!(
        out,
        "kernel --name kernel http://{server}/artifacts/{kernel} initrd=initrd{line} || goto failed"
    );
    let _ = writeln!(out, "initrd --name initrd http://{server}/artifacts/{initrd} || goto failed");
    let _ = write!(
        out,
        "boot || goto failed\n:failed\ninc tries\niseq ${{tries}} {TRIES} && reboot ||\n\
         echo boot failed, trying again\nsleep ${{tries}}\ngoto again\n"
    );
    out
}

/// The target may be away while rackd restarts: the script goes on trying, as for a kernel. `sanboot` comes back
/// only when it failed; it leaves the iBFT behind for the operating system.
fn san_script(san: &San) -> String {
    let San { portal, target, lun, initiator, user, secret } = san;
    let (host, port, user, secret) = (portal.ip(), portal.port(), user.expose(), secret.expose());
    format!(
        "#!ipxe\nset tries:int32 0\nset initiator-iqn {initiator}\nset username {user}\nset password {secret}\n\
         :again\nsanboot iscsi:{host}::{port}:{lun:x}:{target} ||\ninc tries\n\
         iseq ${{tries}} {TRIES} && reboot ||\necho no answer from the disk, trying again\nsleep ${{tries}}\ngoto again\n"
    )
}

/// Another script takes its place when there is one; as long as there is none, this one begins anew. It starts the machine again
/// only where nobody answers.
fn wait_script(mac: MacAddr, server: SocketAddr) -> String {
    format!(
        "#!ipxe\nset tries:int32 0\n:again\ninc tries\niseq ${{tries}} {TRIES} && reboot ||\n\
         echo what this machine boots is not here yet, asking again\nsleep 5\n\
         chain --replace --autofree http://{server}{} || goto again\n",
        path(mac)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);

    #[test]
    fn a_kernel_script_is_exactly_this() {
        let boot = Boot::Script {
            kernel: "ramdisk-1.vmlinuz".parse().unwrap(),
            initrd: "ramdisk-1.cpio".parse().unwrap(),
            args: KernelArgs::parse("console=ttyS0 farrier.token=abc").unwrap(),
        };
        assert_eq!(
            render(&boot, MAC, "10.1.0.1:8080".parse().unwrap()).unwrap(),
            "#!ipxe\n\
             set tries:int32 0\n\
             :again\n\
             imgfree\n\
             kernel --name kernel http://10.1.0.1:8080/artifacts/ramdisk-1.vmlinuz initrd=initrd console=ttyS0 farrier.token=abc || goto failed\n\
             initrd --name initrd http://10.1.0.1:8080/artifacts/ramdisk-1.cpio || goto failed\n\
             boot || goto failed\n\
             :failed\n\
             inc tries\n\
             iseq ${tries} 10 && reboot ||\n\
             echo boot failed, trying again\n\
             sleep ${tries}\n\
             goto again\n"
        );
    }

    #[test]
    fn a_san_script_is_exactly_this() {
        let boot = Boot::San(San {
            portal: "10.91.0.1:3260".parse().unwrap(),
            target: "iqn.2026-11.dev.farrier:r1:web".parse().unwrap(),
            lun: 10,
            initiator: "iqn.2026-11.dev.farrier:r1:node:n1".parse().unwrap(),
            user: "n1".parse().unwrap(),
            secret: "abcdef0123456789".parse().unwrap(),
        });
        assert_eq!(
            render(&boot, MAC, "10.91.0.1:8080".parse().unwrap()).unwrap(),
            "#!ipxe\n\
             set tries:int32 0\n\
             set initiator-iqn iqn.2026-11.dev.farrier:r1:node:n1\n\
             set username n1\n\
             set password abcdef0123456789\n\
             :again\n\
             sanboot iscsi:10.91.0.1::3260:a:iqn.2026-11.dev.farrier:r1:web ||\n\
             inc tries\n\
             iseq ${tries} 10 && reboot ||\n\
             echo no answer from the disk, trying again\n\
             sleep ${tries}\n\
             goto again\n"
        );
    }

    #[test]
    fn a_script_that_waits_is_exactly_this() {
        assert_eq!(
            render(&Boot::Wait, MAC, "10.91.0.1:8080".parse().unwrap()).unwrap(),
            "#!ipxe\n\
             set tries:int32 0\n\
             :again\n\
             inc tries\n\
             iseq ${tries} 10 && reboot ||\n\
             echo what this machine boots is not here yet, asking again\n\
             sleep 5\n\
             chain --replace --autofree http://10.91.0.1:8080/boot/52-54-00-00-00-01.ipxe || goto again\n"
        );
    }
}
