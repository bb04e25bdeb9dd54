//! For which machines a kernel is, by its first bytes: no other firmware is to be given a program that would start it.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// What an image says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Machine {
    X86,
    Arm64,
}

impl Machine {
    /// The architectures of clients (RFC 4578 §2.1 and IANA's registry) that start it.
    pub(crate) fn starts_on(self, architecture: u16) -> bool {
        match self {
            Self::X86 => matches!(architecture, 0 | 6 | 7 | 9 | 15 | 16),
            Self::Arm64 => matches!(architecture, 11 | 19),
        }
    }

    /// As nodes have it (`Node.architecture`). `None`: it is not known, or none of these.
    pub(crate) fn of_node(architecture: &str) -> Option<Self> {
        match architecture {
            "x86_64" => Some(Self::X86),
            "aarch64" => Some(Self::Arm64),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::X86 => "x86",
            Self::Arm64 => "arm64",
        }
    }

    /// `None`: the file says nothing that is known here.
    pub(crate) fn of_file(path: &Path) -> io::Result<Option<Self>> {
        let mut head = Vec::new();
        File::open(path)?.take(HEAD).read_to_end(&mut head)?;
        Ok(Self::of(&head))
    }

    fn of(head: &[u8]) -> Option<Self> {
        let at = |offset: usize, magic: &[u8]| head.get(offset..).is_some_and(|rest| rest.starts_with(magic));
        // The Linux boot protocols of x86 (`HdrS`) and arm64 (`ARM\x64`); compressed arm64 kernels are EFI programs alone.
        if at(0x202, b"HdrS") {
            return Some(Self::X86);
        }
        if at(0x38, b"ARM\x64") {
            return Some(Self::Arm64);
        }
        let (_, rest) = head.strip_prefix(b"MZ").and(head.split_at_checked(0x3c))?;
        let pe = usize::try_from(u32::from_le_bytes(*rest.first_chunk()?)).ok()?;
        let machine = head.get(pe..)?.strip_prefix(b"PE\0\0")?.first_chunk()?;
        match u16::from_le_bytes(*machine) {
            0x8664 | 0x014c => Some(Self::X86),
            0xaa64 => Some(Self::Arm64),
            _ => None,
        }
    }
}

/// All of those are within it.
const HEAD: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pieces: &[(usize, &[u8])]) -> Vec<u8> {
        let mut head = vec![0; 0x300];
        for (at, bytes) in pieces {
            head[*at..*at + bytes.len()].copy_from_slice(bytes);
        }
        head
    }

    #[test]
    fn kernels_say_what_they_are_for() {
        let pe = |machine: u16| {
            with(&[(0, b"MZ"), (0x3c, &[0x80]), (0x80, b"PE\0\0"), (0x84, &machine.to_le_bytes())])
        };
        for (head, machine) in [
            (with(&[(0x202, b"HdrS")]), Some(Machine::X86)),
            (with(&[(0, b"MZ"), (0x38, b"ARM\x64")]), Some(Machine::Arm64)),
            (pe(0xaa64), Some(Machine::Arm64)),
            (pe(0x8664), Some(Machine::X86)),
            (pe(0x5064), None),
            (b"MZ".to_vec(), None),
            (with(&[(0, b"MZ"), (0x3c, &[0xff; 4])]), None),
            (b"a pretend kernel".to_vec(), None),
        ] {
            assert_eq!(Machine::of(&head), machine);
        }
    }

    #[test]
    fn a_kernel_starts_on_its_own_firmware() {
        for (architecture, machine) in
            [(0, Machine::X86), (7, Machine::X86), (16, Machine::X86), (11, Machine::Arm64)]
        {
            assert!(machine.starts_on(architecture));
            let other = if machine == Machine::X86 { Machine::Arm64 } else { Machine::X86 };
            assert!(!other.starts_on(architecture));
        }
    }
}
