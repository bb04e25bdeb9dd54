use super::*;
use crate::machine::{EfiVarDir, EfiVars};
use crate::testing::image;
use farrier_proto::agent::session_response::SetBootEntry;
use std::os::unix::fs::FileExt as _;

fn command(label: &str) -> Command {
    Command::SetBootEntry(SetBootEntry { root_device: None, label: label.into() })
}

fn uefi(loaders: &[&str]) -> (Bench, EfiVarDir) {
    let bench = Bench::with(24 << 20, |machine, dir| {
        std::fs::create_dir(dir.join("efivars")).unwrap();
        machine.with_efi_vars(dir.join("efivars"))
    });
    std::fs::write(bench.disk(), image(bench.dir.path(), loaders)).unwrap();
    let vars = EfiVarDir::new(bench.dir.path().join("efivars"));
    (bench, vars)
}

/// EFI_LOAD_OPTION with that description and an empty path.
fn option(label: &str) -> Vec<u8> {
    let mut bytes = vec![1, 0, 0, 0, 4, 0];
    bytes.extend(label.encode_utf16().chain([0]).flat_map(u16::to_le_bytes));
    bytes.extend([0x7f, 0xff, 4, 0]);
    bytes
}

fn order(vars: &EfiVarDir) -> Vec<u8> {
    vars.read("BootOrder").unwrap().unwrap()
}

#[tokio::test]
async fn the_entry_comes_first_and_stale_ones_of_ours_go() {
    let (bench, vars) =
        uefi(&["/EFI/BOOT/BOOTX64.EFI", "/EFI/debian/shimx64.efi", "/EFI/debian/grubx64.efi"]);
    for (n, label) in
        [("Boot0000", "UEFI PXE"), ("Boot0001", "farrier"), ("Boot0003", "farrier"), ("Boot0004", "other")]
    {
        vars.write(n, &option(label)).unwrap();
    }
    vars.write("BootOrder", &[0, 0, 3, 0, 4, 0, 1, 0]).unwrap();
    let done = bench.run(command("farrier")).await.unwrap();
    assert!(done.detail.contains("\\EFI\\debian\\shimx64.efi"), "{}", done.detail);
    assert_eq!(order(&vars), [1, 0, 0, 0, 4, 0]);
    assert_eq!(vars.names().unwrap(), ["Boot0000", "Boot0001", "Boot0004", "BootOrder"]);

    let entry = vars.read("Boot0001").unwrap().unwrap();
    let path_at = 6 + 2 * "farrier\0".len();
    assert_eq!(&entry[..4], [1, 0, 0, 0], "active");
    assert_eq!(usize::from(u16::from_le_bytes([entry[4], entry[5]])), entry.len() - path_at);
    let path = &entry[path_at..];
    assert_eq!(&path[..4], [4, 1, 42, 0], "HD()");
    assert_eq!(&path[4..24], [1, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0]);
    assert_eq!(&path[40..44], [2, 2, 4, 4], "GPT, GUID; File()");
    assert_eq!(&path[path.len() - 4..], [0x7f, 0xff, 4, 0]);

    // Again: nothing changes, nothing is written.
    let modified = |name: &str| {
        let path = bench.dir.path().join("efivars").join(format!("{name}-{}", crate::machine::GLOBAL_GUID));
        std::fs::metadata(path).unwrap().modified().unwrap()
    };
    let before = (modified("Boot0001"), modified("BootOrder"));
    bench.run(command("farrier")).await.unwrap();
    assert_eq!((modified("Boot0001"), modified("BootOrder")), before);
}

#[tokio::test]
async fn the_removable_media_path_serves_when_no_distribution_is_there() {
    let (bench, vars) = uefi(&["/EFI/BOOT/BOOTX64.EFI"]);
    let done = bench.run(command("farrier: node 17")).await.unwrap();
    assert!(
        done.detail.contains("Boot0000") && done.detail.contains("\\EFI\\BOOT\\BOOTX64.EFI"),
        "{}",
        done.detail
    );
    assert_eq!(order(&vars), [0, 0]);
}

#[tokio::test]
async fn an_image_without_a_loader_is_told() {
    let (bench, _) = uefi(&[]);
    let error = bench.run(command("farrier")).await.unwrap_err();
    assert_eq!(error.reason(), FailureReason::BootEntry);
    assert!(error.to_string().contains("seen no boot loader below \\EFI"), "{error}");
}

#[tokio::test]
async fn bios_has_nothing_to_do() {
    let done = Bench::new(1 << 20).run(command("farrier")).await.unwrap();
    assert!(done.detail.starts_with("BIOS"));
}

#[tokio::test]
async fn firmware_that_refuses_is_told() {
    let (bench, _) = uefi(&["/EFI/BOOT/BOOTX64.EFI"]);
    std::fs::remove_dir(bench.dir.path().join("efivars")).unwrap();
    let error = bench.run(command("farrier")).await.unwrap_err();
    assert_eq!(error.reason(), FailureReason::BootEntry);
}

#[tokio::test]
async fn a_broken_fat_is_an_error_and_no_panic() {
    let (bench, _) = uefi(&["/EFI/BOOT/BOOTX64.EFI"]);
    let disk = std::fs::OpenOptions::new().write(true).open(bench.disk()).unwrap();
    let clean = std::fs::read(bench.disk()).unwrap();
    let part = 1 << 20..(1 << 20) + 65_536;
    let mut seed = 7u64;
    for _ in 0..500 {
        let mut bytes = clean[part.clone()].to_vec();
        for _ in 0..8 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // Half of the damage in the boot sector, the rest in the FAT and the root directory.
            let at = (seed >> 33) as usize % if seed & (1 << 20) == 0 { 64 } else { 65_536 };
            bytes[at] = (seed >> 24) as u8;
        }
        disk.write_all_at(&bytes, part.start as u64).unwrap();
        if let Err(error) = bench.run(command("farrier")).await {
            assert_eq!(error.reason(), FailureReason::BootEntry, "{error}");
        }
    }
}
