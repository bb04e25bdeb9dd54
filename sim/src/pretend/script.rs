//! Reads rackd's iPXE scripts as far as a machine without iPXE must.

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
        if let Some(san) = San::parse(text) {
            return Some(Self::San(san));
        }
        text.lines()
            .any(|line| line.starts_with("exit") || line.starts_with("sanboot"))
            .then_some(Self::LocalDisk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
