//! The iPXE script a machine gets. Every word in it is either ours or checked by a type, so it needs no quoting.

use std::{fmt::Write as _, net::SocketAddr};

use crate::{Boot, MacAddr, Ramdisk, Ramdisks, San};

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
        Boot::Script(ramdisks) | Boot::Signed(ramdisks) => Some(kernel_script(ramdisks, server)),
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

fn kernel_script(ramdisks: &Ramdisks, server: SocketAddr) -> String {
    let load = match ramdisks {
        Ramdisks::One(ramdisk) => load(ramdisk, server),
        // `buildarch` is what iPXE itself was built for: of x86 it is i386 or x86_64.
        Ramdisks::Two { x86, arm64 } => format!(
            "iseq ${{buildarch}} arm64 && goto arm64 ||\n{}goto loaded\n:arm64\n{}:loaded\n",
            load(x86, server),
            load(arm64, server)
        ),
    };
    format!(
        "#!ipxe\nset tries:int32 0\n:again\nimgfree\n{load}\
         boot || goto failed\n:failed\ninc tries\niseq ${{tries}} {TRIES} && reboot ||\n\
         echo boot failed, trying again\nsleep ${{tries}}\ngoto again\n"
    )
}

fn load(Ramdisk { kernel, initrd, args }: &Ramdisk, server: SocketAddr) -> String {
    let mut line = String::new();
    for token in args.tokens() {
        let _ = write!(line, " {token}");
    }
    // The EFI stub finds its initrd by the name in `initrd=`; BIOS ignores it.
    format!(
        "kernel --name kernel http://{server}/artifacts/{kernel} initrd=initrd{line} || goto failed\n\
         initrd --name initrd http://{server}/artifacts/{initrd} || goto failed\n"
    )
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
    use crate::KernelArgs;

    const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);

    fn ramdisk(name: &str, args: &str) -> Ramdisk {
        Ramdisk {
            kernel: format!("{name}.vmlinuz").parse().unwrap(),
            initrd: format!("{name}.cpio").parse().unwrap(),
            args: KernelArgs::parse(args).unwrap(),
        }
    }

    #[test]
    fn a_kernel_script_is_exactly_this() {
        let boot = Boot::Script(ramdisk("ramdisk-1", "console=ttyS0 farrier.token=abc").into());
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
    fn a_kernel_script_of_two_architectures_is_exactly_this() {
        let (x86, arm64) = (ramdisk("a", "console=ttyS0"), ramdisk("b", "console=ttyAMA0"));
        assert_eq!(
            render(&Boot::Script(Ramdisks::Two { x86, arm64 }), MAC, "10.1.0.1:8080".parse().unwrap())
                .unwrap(),
            "#!ipxe\n\
             set tries:int32 0\n\
             :again\n\
             imgfree\n\
             iseq ${buildarch} arm64 && goto arm64 ||\n\
             kernel --name kernel http://10.1.0.1:8080/artifacts/a.vmlinuz initrd=initrd console=ttyS0 || goto failed\n\
             initrd --name initrd http://10.1.0.1:8080/artifacts/a.cpio || goto failed\n\
             goto loaded\n\
             :arm64\n\
             kernel --name kernel http://10.1.0.1:8080/artifacts/b.vmlinuz initrd=initrd console=ttyAMA0 || goto failed\n\
             initrd --name initrd http://10.1.0.1:8080/artifacts/b.cpio || goto failed\n\
             :loaded\n\
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
