use super::*;
use crate::CONFIG_DRIVE_PARTITION;
use crate::testing::{image, tool};
use farrier_proto::agent::session_response::{File, WriteConfigDrive};

fn drive(files: &[(&str, &[u8])]) -> Command {
    let file = |(name, content): &(&str, &[u8])| File { name: (*name).into(), content: content.to_vec() };
    Command::WriteConfigDrive(WriteConfigDrive { root_device: None, files: files.iter().map(file).collect() })
}

/// The drive's partition, cut out into a file of its own.
fn cut_out(bench: &Bench, partition: &str) -> String {
    let info = tool("sgdisk", "gdisk", &["-i", partition, &bench.disk_name()]);
    assert!(info.contains(&format!("'{}'", CONFIG_DRIVE_PARTITION)), "{info}");
    let sector = |what: &str| -> usize {
        let line = info.lines().find(|l| l.starts_with(what)).unwrap();
        line.split_whitespace().nth(2).unwrap().parse().unwrap()
    };
    let disk = std::fs::read(bench.disk()).unwrap();
    let path = bench.dir.path().join("drive.img");
    std::fs::write(&path, &disk[sector("First") * 512..(sector("Last") + 1) * 512]).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn nocloud_files_are_read_by_other_peoples_tools_and_replaced_in_place() {
    let bench = Bench::new(64 << 20);
    let mut bytes = image(bench.dir.path(), &[]);
    bytes.resize(64 << 20, 0);
    std::fs::write(bench.disk(), &bytes).unwrap();

    let meta = b"instance-id: i-1\nlocal-hostname: n1\n";
    let large = vec![b'#'; 300_000];
    let files: [(&str, &[u8]); 4] = [
        ("meta-data", meta),
        ("user-data", &large),
        ("network-config", b"version: 2\n"),
        ("vendor-data", b""),
    ];
    bench.run(drive(&files)).await.unwrap();
    let said = tool("sgdisk", "gdisk", &["-v", &bench.disk_name()]);
    assert!(said.contains("No problems found"), "{said}");
    let volume = cut_out(&bench, "3");
    tool("fsck.vfat", "dosfstools", &["-n", &volume]);
    let blkid = tool("blkid", "util-linux", &["-p", "-o", "export", &volume]);
    assert!(blkid.contains("LABEL=CIDATA") && blkid.contains("TYPE=vfat"), "{blkid}");
    assert_eq!(tool("mtype", "mtools", &["-i", &volume, "::/meta-data"]).as_bytes(), meta);
    assert_eq!(tool("mtype", "mtools", &["-i", &volume, "::/user-data"]).len(), large.len());
    let listing = tool("mdir", "mtools", &["-i", &volume, "::"]);
    assert!(listing.contains("network-config") && listing.contains("vendor-data"), "{listing}");

    let before = tool("sgdisk", "gdisk", &["-i", "3", &bench.disk_name()]);
    bench.run(drive(&[("meta-data", b"second")])).await.unwrap();
    assert_eq!(tool("sgdisk", "gdisk", &["-i", "3", &bench.disk_name()]), before);
    let volume = cut_out(&bench, "3");
    tool("fsck.vfat", "dosfstools", &["-n", &volume]);
    assert_eq!(tool("mtype", "mtools", &["-i", &volume, "::/meta-data"]), "second");
    assert!(!tool("mdir", "mtools", &["-i", &volume, "::"]).contains("user-data"));
    // The image's partitions are as they were.
    let disk = std::fs::read(bench.disk()).unwrap();
    assert!(disk[1 << 20..21 << 20] == bytes[1 << 20..21 << 20]);
}

#[tokio::test]
async fn a_dos_table_takes_the_drive_too() {
    let bench = Bench::new(32 << 20);
    let name = bench.disk_name();
    let script = bench.dir.path().join("parts");
    std::fs::write(&script, "label: dos\nstart=2048, size=8192, type=83, bootable\n").unwrap();
    let mut sfdisk = std::process::Command::new("/sbin/sfdisk");
    let made = sfdisk.arg(&name).stdin(std::fs::File::open(script).unwrap()).output();
    assert!(made.expect("install the package fdisk").status.success());
    for content in ["one", "two"] {
        bench.run(drive(&[("meta-data", content.as_bytes())])).await.unwrap();
        let volume = format!("{name}@@28M");
        assert_eq!(tool("mtype", "mtools", &["-i", &volume, "::/meta-data"]), content);
    }
    let dump = tool("sfdisk", "fdisk", &["--dump", &name]);
    assert_eq!(dump.matches("start=").count(), 2, "{dump}");
}

#[tokio::test]
async fn a_disk_that_is_full_or_has_no_table_is_refused() {
    let bench = Bench::new(24 << 20);
    let error = bench.run(drive(&[("meta-data", b"")])).await.unwrap_err();
    assert_eq!(error.reason(), FailureReason::Unsupported);
    std::fs::write(bench.disk(), image(bench.dir.path(), &[])).unwrap();
    let error = bench.run(drive(&[("meta-data", b"")])).await.unwrap_err();
    assert_eq!(error.reason(), FailureReason::DiskTooSmall);
    assert!(error.to_string().contains("at least 4194304 bytes (4 MiB) for the config drive"), "{error}");
}

#[tokio::test]
async fn names_that_are_paths_and_files_that_are_huge_are_refused() {
    let bench = Bench::new(24 << 20);
    for name in ["../x", "a/b", "", ".hidden", "a b", "ä", &"x".repeat(65)] {
        let error = bench.run(drive(&[(name, b"")])).await.unwrap_err();
        assert_eq!(error.reason(), FailureReason::Unsupported, "{name}");
    }
    let twice: [(&str, &[u8]); 2] = [("user-data", b""), ("USER-DATA", b"")];
    assert!(bench.run(drive(&twice)).await.is_err());
    let huge = vec![0; 60 << 20];
    assert!(bench.run(drive(&[("user-data", &huge)])).await.unwrap_err().to_string().contains("64 MiB"));
}
