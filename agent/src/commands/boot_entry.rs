//! SetBootEntry: the disk's boot loader first in the firmware's boot order.
//!
//! `Boot####` and `BootOrder` are UEFI 2.10 §3.1.3 and §3.3; device paths §10.3. Nothing of the image
//! runs, as `efibootmgr` and `grub-install` in a chroot would (CVE-2026-43003).
use super::loader::{self, Loader};
use super::{CommandError, Context, OpenDisk, blocking, done, open_root};
use crate::machine::EfiVars;
use farrier_proto::agent::session_request::Done;
use farrier_proto::agent::session_response::SetBootEntry;
use std::sync::Arc;

/// LOAD_OPTION_ACTIVE.
const ACTIVE: u32 = 1;
const MAX_LABEL_CHARS: usize = 64;
const NEXT: &str = "boot the disk by the BMC's boot device, and look at the firmware's boot variables";

pub(super) async fn run(context: &Arc<Context>, command: SetBootEntry) -> Result<Done, CommandError> {
    let Some(vars) = context.machine.efi_vars() else {
        return Ok(done("BIOS: the firmware keeps no boot entries, nothing to do"));
    };
    let label: String = command.label.chars().filter(|c| !c.is_control()).take(MAX_LABEL_CHARS).collect();
    if label.is_empty() {
        return Err(CommandError::Unsupported {
            expected: "a label for the boot entry",
            seen: "none".to_owned(),
            next: "report a bug in rackd",
        });
    }
    let disk = open_root(context, command.root_device).await?;
    blocking(move || set(&disk, &*vars, &label)).await
}

fn set(disk: &OpenDisk, vars: &dyn EfiVars, label: &str) -> Result<Done, CommandError> {
    let name = &disk.info.name;
    let loader = loader::find(&disk.device, std::env::consts::ARCH).map_err(|error| {
        let expected = format!("a boot loader on the EFI system partition of {name}");
        let next = "deploy an image that boots with UEFI, or set the node's boot mode to BIOS";
        CommandError::BootEntry { expected, seen: error.to_string(), next }
    })?;
    let option = load_option(label, &loader);
    let number = place(vars, label, &option)?;
    let order = vars.read("BootOrder").map_err(refused("reading BootOrder"))?.unwrap_or_default();
    let seen = vars.read(&variable(number)).map_err(refused("reading the entry back"))?;
    if seen.as_deref() != Some(option.as_slice()) || parse_order(&order).first() != Some(&number) {
        return Err(CommandError::BootEntry {
            expected: format!("{} first in BootOrder", variable(number)),
            seen: format!("{:04X?}", parse_order(&order)),
            next: NEXT,
        });
    }
    Ok(Done {
        disks: vec![name.clone()],
        ..done(format!("{} {label:?}: {} of {name}", variable(number), loader.path))
    })
}

fn refused(doing: &'static str) -> impl FnOnce(std::io::Error) -> CommandError {
    move |error| CommandError::BootEntry {
        expected: format!("{doing} to work"),
        seen: error.to_string(),
        next: NEXT,
    }
}

/// Writes the entry in place of the one we left before, removes further ones of ours, puts it first.
fn place(vars: &dyn EfiVars, label: &str, option: &[u8]) -> Result<u16, CommandError> {
    let names = vars.names().map_err(refused("listing boot variables"))?;
    let mut taken: Vec<u16> = names.iter().filter_map(|n| entry_number(n)).collect();
    taken.sort_unstable();
    let mut ours = Vec::new();
    for number in &taken {
        let value = vars.read(&variable(*number)).map_err(refused("reading boot entries"))?;
        if value.as_deref().and_then(description).as_deref() == Some(label) {
            ours.push(*number);
        }
    }
    let number = match ours.first() {
        Some(number) => *number,
        None => (0..=u16::MAX).find(|n| taken.binary_search(n).is_err()).unwrap_or(0),
    };
    let current = vars.read(&variable(number)).map_err(refused("reading the boot entry"))?;
    // Each write wears the flash: what is right already stays.
    if current.as_deref() != Some(option) {
        vars.write(&variable(number), option).map_err(refused("writing the boot entry"))?;
    }
    let old = vars.read("BootOrder").map_err(refused("reading BootOrder"))?.unwrap_or_default();
    let mut order = vec![number];
    order.extend(parse_order(&old).into_iter().filter(|n| !ours.contains(n) && *n != number));
    let bytes: Vec<u8> = order.iter().flat_map(|n| n.to_le_bytes()).collect();
    if bytes != old {
        vars.write("BootOrder", &bytes).map_err(refused("writing BootOrder"))?;
    }
    for stale in ours.iter().skip(1) {
        vars.remove(&variable(*stale)).map_err(refused("removing a stale boot entry"))?;
    }
    Ok(number)
}

fn variable(number: u16) -> String {
    format!("Boot{number:04X}")
}

fn entry_number(name: &str) -> Option<u16> {
    let digits = name.strip_prefix("Boot").filter(|d| d.len() == 4)?;
    u16::from_str_radix(digits, 16).ok()
}

fn parse_order(bytes: &[u8]) -> Vec<u16> {
    bytes.chunks_exact(2).filter_map(|b| b.try_into().ok().map(u16::from_le_bytes)).collect()
}

/// Description of an EFI_LOAD_OPTION: UTF-16 up to a NUL, after attributes and path length.
fn description(option: &[u8]) -> Option<String> {
    let units: Vec<u16> = parse_order(option.get(6..)?).into_iter().take_while(|u| *u != 0).collect();
    String::from_utf16(&units).ok()
}

/// EFI_LOAD_OPTION (§3.1.3): attributes, length of the path list, description, HD(), File(), end.
fn load_option(label: &str, loader: &Loader) -> Vec<u8> {
    let mut path = Vec::new();
    // Hard drive (§10.3.5.1): media 4, subtype 1, 42 bytes; GPT partition known by its GUID.
    path.extend_from_slice(&[4, 1, 42, 0]);
    path.extend_from_slice(&loader.partition.to_le_bytes());
    path.extend_from_slice(&loader.first_block.to_le_bytes());
    path.extend_from_slice(&loader.block_count.to_le_bytes());
    path.extend_from_slice(&loader.partition_guid);
    path.extend_from_slice(&[2, 2]);
    // File path (§10.3.5.4): media 4, subtype 4.
    let file = utf16z(&loader.path);
    path.extend_from_slice(&[4, 4]);
    path.extend_from_slice(&u16::try_from(file.len() + 4).unwrap_or(u16::MAX).to_le_bytes());
    path.extend_from_slice(&file);
    // End of entire device path (§10.3.1).
    path.extend_from_slice(&[0x7f, 0xff, 4, 0]);

    let mut out = ACTIVE.to_le_bytes().to_vec();
    out.extend_from_slice(&u16::try_from(path.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend_from_slice(&utf16z(label));
    out.extend_from_slice(&path);
    out
}

fn utf16z(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}
