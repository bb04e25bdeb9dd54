//! Other people's readers understand the volume: isoinfo of cdrkit, xorriso.

// Helpers of tests may fail like tests; clippy's allowance covers only the test functions themselves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::process::Command;

use farrier_bootcd::{Boot, CdError, Content, File, Piece, SECTOR, layout};

fn file(path: &str, content: Content) -> File<'_> {
    File { path, content }
}

fn cd() -> Vec<Piece> {
    let files = vec![
        file("boot/grub/grub.cfg", Content::Bytes(b"boot\n".to_vec())),
        file(".disk/info", Content::Bytes(b"Farrier\n".to_vec())),
        file("kernel.img", Content::Elsewhere(5000)),
        file("initrd.img", Content::Elsewhere(1)),
    ];
    layout("FARRIER", files, Boot { bios: Some(vec![0xe9; 3000]), efi: Some(Content::Elsewhere(70_000)) })
        .unwrap()
}

fn bytes(pieces: &[Piece], files: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Bytes(bytes) => out.extend(bytes),
            Piece::Efi { len } => out.extend(vec![7; usize::try_from(*len).unwrap()]),
            Piece::File { index, len } => {
                assert_eq!(files[*index].len() as u64, *len);
                out.extend(&files[*index]);
            }
        }
    }
    out
}

fn image() -> tempfile::NamedTempFile {
    let files = vec![vec![], vec![], vec![b'k'; 5000], vec![b'i'; 1]];
    let volume = bytes(&cd(), &files);
    assert_eq!(volume.len() as u64 % SECTOR, 0);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), volume).unwrap();
    file
}

fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn isoinfo_finds_the_files() {
    let image = image();
    let path = image.path().to_str().unwrap();
    let listed = said("isoinfo", &["-f", "-i", path]);
    let mut listed: Vec<&str> = listed.lines().collect();
    listed.sort_unstable();
    let expected = [
        "/.DISK",
        "/.DISK/INFO;1",
        "/BOOT",
        "/BOOT/GRUB",
        "/BOOT/GRUB/GRUB.CFG;1",
        "/INITRD.IMG;1",
        "/KERNEL.IMG;1",
    ];
    assert_eq!(listed, expected);
    assert_eq!(said("isoinfo", &["-x", "/BOOT/GRUB/GRUB.CFG;1", "-i", path]), "boot\n");
    assert_eq!(said("isoinfo", &["-x", "/KERNEL.IMG;1", "-i", path]), "k".repeat(5000));
    // The path tables are read by few; this one reads them.
    let table = said("isoinfo", &["-p", "-i", path]);
    for (number, parent, name) in
        [("1", "1", ""), ("2", "1", ".DISK"), ("3", "1", "BOOT"), ("4", "3", "GRUB")]
    {
        let line = table.lines().find(|line| line.trim_start().starts_with(&format!("{number}:")));
        let line = line.unwrap_or_else(|| panic!("{table}"));
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[1], parent, "{table}");
        assert!(line.ends_with(name), "{table}");
    }
}

#[test]
fn xorriso_finds_both_boot_images() {
    let image = image();
    let found = said("xorriso", &["-indev", image.path().to_str().unwrap(), "-report_el_torito", "plain"]);
    let line = |what: &str| {
        found.lines().find(|line| line.contains(what)).unwrap_or_else(|| panic!("{what}: {found}")).to_owned()
    };
    assert!(line("boot img :   1").contains("BIOS"), "{found}");
    assert!(line("boot img :   2").contains("UEFI"), "{found}");
}

/// The boot image of a volume, by its catalogue, as a BIOS finds it.
fn bios_image(volume: &[u8], len: usize) -> &[u8] {
    let number = |at: usize| u32::from_le_bytes(volume[at..at + 4].try_into().unwrap()) as usize;
    let catalogue = number(17 * 2048 + 0x47) * 2048;
    let image = number(catalogue + 32 + 8) * 2048;
    &volume[image..image + len]
}

#[test]
fn a_bios_image_is_told_what_genisoimage_tells_it() {
    let dir = tempfile::tempdir().unwrap();
    let image: Vec<u8> = (0..4096_u32).map(|n| (n * 7 % 251) as u8).collect();
    std::fs::create_dir(dir.path().join("tree")).unwrap();
    std::fs::write(dir.path().join("tree/boot.img"), &image).unwrap();
    let (tree, theirs) = (dir.path().join("tree"), dir.path().join("cd.iso"));
    let (tree, theirs) = (tree.to_str().unwrap(), theirs.to_str().unwrap());
    let eltorito = ["-quiet", "-b", "boot.img", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table"];
    said("genisoimage", &[&eltorito[..], &["-o", theirs, tree]].concat());
    let ours = layout("X", vec![], Boot { bios: Some(image.clone()), efi: None }).unwrap();
    let (ours, theirs) = (bytes(&ours, &[]), std::fs::read(theirs).unwrap());
    let (ours, theirs) = (bios_image(&ours, 4096), bios_image(&theirs, 4096));
    // Where the image is differs; where the descriptor is, the length and the sum do not.
    assert_eq!((&ours[..12], &ours[16..]), (&theirs[..12], &theirs[16..]));
    assert_ne!(ours[20..24], image[20..24]);
}

#[test]
fn other_content_of_the_same_length_changes_no_place() {
    let with = |content: &[u8]| {
        let files = vec![
            file("grub.cfg", Content::Bytes(content.to_vec())),
            file("kernel.img", Content::Elsewhere(9)),
        ];
        layout("X", files, Boot { bios: None, efi: Some(Content::Bytes(vec![1; 4096])) }).unwrap()
    };
    let lengths = |pieces: Vec<Piece>| pieces.iter().map(Piece::len).collect::<Vec<_>>();
    assert_eq!(lengths(with(b"one")), lengths(with(b"two")));
}

#[test]
fn what_does_not_fit_is_refused() {
    let boot = || Boot { bios: None, efi: Some(Content::Elsewhere(512)) };
    let refused = |files: Vec<File<'_>>| layout("X", files, boot()).unwrap_err();
    for path in ["", "a//b", "../a", "a b", "a;1", "é", "a/b/c/d/e/f/g/h/i", "X".repeat(32).as_str()] {
        assert!(matches!(refused(vec![file(path, Content::Elsewhere(1))]), CdError::Name(_)), "{path}");
    }
    let twice = vec![file("a", Content::Elsewhere(1)), file("A", Content::Elsewhere(1))];
    assert!(matches!(refused(twice), CdError::Name(_)));
    let both = vec![file("a/b", Content::Elsewhere(1)), file("a", Content::Elsewhere(1))];
    assert!(matches!(refused(both), CdError::Name(_)));
    assert_eq!(refused(vec![file("a", Content::Elsewhere(1 << 32))]), CdError::TooLarge);
    let names: Vec<String> = (0..100).map(|n| format!("file-{n}")).collect();
    let many = names.iter().map(|name| file(name, Content::Elsewhere(1))).collect();
    assert_eq!(refused(many), CdError::Crowded);
    assert_eq!(layout("X", vec![], Boot::default()), Err(CdError::NoBoot));
    let empty = Boot { bios: Some(vec![]), efi: None };
    assert_eq!(layout("X", vec![], empty), Err(CdError::ShortImage(0)));
}
