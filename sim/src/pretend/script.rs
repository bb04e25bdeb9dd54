//! Reads rackd's iPXE scripts as far as a machine without iPXE must.

use std::net::SocketAddr;

use super::san::San;

/// What the network told the machine to boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Script {
    /// A kernel with its command line, and an initrd.
    Kernel { kernel: String, args: String, initrd: String },
    /// An iSCSI disk.
    San(San),
    /// Go on to the disk.
    LocalDisk,
}

impl Script {
    /// `None`: not a script this firmware understands.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()? != "#!ipxe" {
            return None;
        }
        let command = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
            let mut words = line.split("||").next()?.split_ascii_whitespace().peekable();
            while words.next_if_eq(&"--name").is_some() {
                words.next();
            }
            Some((words.next()?.to_owned(), words.collect::<Vec<_>>().join(" ")))
        };
        if let Some((kernel, args)) = command("kernel") {
            let (initrd, _) = command("initrd")?;
            return Some(Self::Kernel { kernel, args, initrd });
        }
        if let Some((san, _)) = command("sanboot").filter(|(word, _)| word.starts_with("iscsi:")) {
            let set =
                |name: &str| Some(text.lines().find_map(|line| line.strip_prefix(name))?.trim().to_owned());
            let proof = (set("set initiator-iqn ")?, set("set username ")?, set("set password ")?);
            return parse_san(&san, proof).map(Self::San);
        }
        text.lines()
            .any(|line| line.starts_with("exit") || line.starts_with("sanboot"))
            .then_some(Self::LocalDisk)
    }
}

/// `iscsi:HOST:PROTOCOL:PORT:LUN:TARGET` (RFC 4173 section 5), the logical unit in hexadecimal.
fn parse_san(path: &str, (initiator, user, secret): (String, String, String)) -> Option<San> {
    let mut words = path.strip_prefix("iscsi:")?.splitn(5, ':');
    let (host, _protocol, port, lun) = (words.next()?, words.next()?, words.next()?, words.next()?);
    Some(San {
        portal: SocketAddr::new(host.parse().ok()?, port.parse().ok()?),
        target: words.next()?.to_owned(),
        lun: u16::from_str_radix(lun, 16).ok()?,
        initiator,
        user,
        secret,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_san_script_gives_the_disk_and_how_to_log_in() {
        let text = "#!ipxe\nset tries:int32 0\nset initiator-iqn iqn.x:node:n1\nset username n1\nset password s\n\
            :again\nsanboot iscsi:10.91.0.1::3260:a:iqn.x:r1:web ||\ninc tries\ngoto again\n";
        let san = San {
            portal: "10.91.0.1:3260".parse().unwrap(),
            target: "iqn.x:r1:web".into(),
            lun: 10,
            initiator: "iqn.x:node:n1".into(),
            user: "n1".into(),
            secret: "s".into(),
        };
        assert_eq!(Script::parse(text), Some(Script::San(san)));
        assert_eq!(Script::parse("#!ipxe\nsanboot iscsi:10.91.0.1::3260:0:iqn.x:r1:web ||\n"), None);
    }

    #[test]
    fn a_kernel_script_gives_its_urls_and_arguments() {
        let text = "#!ipxe\nset tries:int32 0\n:again\nimgfree\n\
            kernel --name kernel http://10.1.0.1:8080/artifacts/k initrd=initrd quiet farrier.token=a || goto failed\n\
            initrd --name initrd http://10.1.0.1:8080/artifacts/i || goto failed\nboot || goto failed\n";
        let script = Script::Kernel {
            kernel: "http://10.1.0.1:8080/artifacts/k".into(),
            args: "initrd=initrd quiet farrier.token=a".into(),
            initrd: "http://10.1.0.1:8080/artifacts/i".into(),
        };
        assert_eq!(Script::parse(text), Some(script));
    }

    #[test]
    fn a_script_without_a_kernel_goes_to_the_disk_and_anything_else_is_no_script() {
        assert_eq!(Script::parse("#!ipxe\nsanboot --drive 0x80 || exit 1\n"), Some(Script::LocalDisk));
        assert_eq!(Script::parse("<html>"), None);
        assert_eq!(Script::parse("#!ipxe\nkernel\n"), None);
    }
}
