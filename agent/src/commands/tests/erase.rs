use super::*;
use crate::testing::{image, tool};
use farrier_proto::agent::session_response::erase::Depth;
use farrier_proto::agent::session_response::{Erase, Inspected};
use farrier_proto::types::Disk;

fn erase(depth: Depth) -> Command {
    Command::Erase(Erase { depth: depth.into(), inspected: None })
}

fn erase_inspected(disks: Vec<Disk>) -> Command {
    let inspected = Some(Inspected { disks });
    Command::Erase(Erase { depth: Depth::Metadata.into(), inspected })
}

#[tokio::test]
async fn a_disk_of_the_inspection_that_does_not_appear_fails_the_erase_by_name() {
    let bench = used(32 << 20);
    let there = bench.context.machine.hardware().unwrap().disks;
    bench.run(erase_inspected(there.clone())).await.unwrap();
    // Names move between boots: the same disk under another is no other disk.
    let moved = Disk { name: "/dev/sdz".into(), ..there[0].clone() };
    bench.run(erase_inspected(vec![moved])).await.unwrap();
    let gone = Disk { name: "/dev/sdb".into(), serial_number: "lost-7".into(), ..Disk::default() };
    let error = bench.run(erase_inspected([there, vec![gone]].concat())).await.unwrap_err();
    assert_eq!(error.reason(), FailureReason::NotErased);
    assert!(error.to_string().contains("lost-7"), "{error}");
}

#[tokio::test]
async fn no_disk_at_all_is_clean_only_when_the_inspection_saw_none() {
    let bench = Bench::without_disks();
    let error = bench.run(erase(Depth::Metadata)).await.unwrap_err();
    assert_eq!(error.reason(), FailureReason::NotErased, "{error}");
    let done = bench.run(erase_inspected(Vec::new())).await.unwrap();
    assert!(done.disks.is_empty());
}

/// A machine whose second disk is found by its kernel after the first.
struct LateDisk {
    machine: PretendMachine,
    looks: std::sync::atomic::AtomicUsize,
}

impl crate::machine::Machine for LateDisk {
    fn hardware(&self) -> std::io::Result<Hardware> {
        let mut hardware = self.machine.hardware()?;
        if self.looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0 {
            hardware.disks.truncate(1);
        }
        Ok(hardware)
    }
    fn open_disk(&self, name: &str) -> std::io::Result<Arc<dyn crate::machine::BlockDevice>> {
        self.machine.open_disk(name)
    }
    fn efi_vars(&self) -> Option<Arc<dyn crate::machine::EfiVars>> {
        None
    }
    fn boot_id(&self) -> String {
        self.machine.boot_id()
    }
    fn power_off(&self) -> std::io::Result<()> {
        self.machine.power_off()
    }
    fn restart(&self) -> std::io::Result<()> {
        self.machine.restart()
    }
}

#[tokio::test]
async fn a_disk_that_appears_late_is_erased_also_without_an_inspection() {
    let dir = tempfile::tempdir().unwrap();
    let disks = ["vda", "vdb"].map(|name| PretendDisk::new(dir.path(), name, 32 << 20));
    let machine = PretendMachine::new("n1", "52:54:00:00:00:01", disks.to_vec()).unwrap();
    let machine = Arc::new(LateDisk { machine, looks: 0.into() });
    let context = Arc::new(Context::new(machine, quick()));
    let url = watch::Sender::new(String::new());
    let progress = Progress::new(Duration::ZERO, |_, _, _| {});
    let done = execute(&context, erase(Depth::Metadata), url.subscribe(), progress).await.unwrap();
    assert_eq!(done.disks, ["/dev/vda", "/dev/vdb"]);
}

/// A disk full of a tenant's data, with partitions.
fn used(disk_bytes: u64) -> Bench {
    let bench = Bench::new(disk_bytes);
    let mut bytes = vec![0xaa; disk_bytes as usize];
    let image = image(bench.dir.path(), &["/EFI/BOOT/BOOTX64.EFI"]);
    bytes[..image.len()].copy_from_slice(&image);
    std::fs::write(bench.disk(), &bytes).unwrap();
    bench
}

#[tokio::test]
async fn metadata_goes_from_both_ends_of_disk_and_partitions_and_only_there() {
    let bench = used(96 << 20);
    // Btrfs copies its superblock to 64 MiB of the disk.
    let done = bench.run(erase(Depth::Metadata)).await.unwrap();
    assert_eq!(done.disks, ["/dev/vda"]);
    let disk = std::fs::read(bench.disk()).unwrap();
    let zero = |from: usize, to: usize| disk[from << 20..to << 20].iter().all(|b| *b == 0);
    assert!(zero(0, 8) && zero(88, 96), "ends of the disk");
    assert!(zero(1, 9) && zero(9, 17) && zero(13, 21), "ends of the partitions");
    assert!(disk[64 << 20..(64 << 20) + 4096].iter().all(|b| *b == 0), "btrfs mirror");
    assert!(disk[30 << 20..60 << 20].iter().all(|b| *b == 0xaa), "the rest is FULL's work");
    let probe = std::process::Command::new("/sbin/blkid").args(["-p", &bench.disk_name()]).output();
    assert_eq!(probe.expect("install the package util-linux").status.code(), Some(2), "blkid finds nothing");
}

#[tokio::test]
async fn full_leaves_nothing_and_can_be_asked_again() {
    let bench = used(64 << 20);
    for _ in 0..2 {
        bench.run(erase(Depth::Full)).await.unwrap();
        assert!(std::fs::read(bench.disk()).unwrap().iter().all(|b| *b == 0));
    }
}

#[tokio::test]
async fn a_disk_smaller_than_both_ends_is_erased() {
    let bench = Bench::new(3 << 20);
    std::fs::write(bench.disk(), vec![1; 3 << 20]).unwrap();
    bench.run(erase(Depth::Metadata)).await.unwrap();
    assert!(std::fs::read(bench.disk()).unwrap().iter().all(|b| *b == 0));
    assert_eq!(bench.run(erase(Depth::Unspecified)).await.unwrap_err().reason(), FailureReason::Unsupported);
    let _ = tool("sgdisk", "gdisk", &["--version"]);
}

/// A disk that says it zeroed and did not, in three ways.
mod liars {
    use super::*;
    use crate::machine::{BlockDevice, EfiVars, FileDisk};
    use farrier_proto::types::{Disk, Hardware};
    use std::io;

    struct Liar {
        disk: FileDisk,
        lies_about_zero: bool,
    }

    impl BlockDevice for Liar {
        fn size_bytes(&self) -> u64 {
            self.disk.size_bytes()
        }
        fn block_bytes(&self) -> u32 {
            512
        }
        fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
            self.disk.read_at(buf, offset)
        }
        fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
            self.disk.write_at(data, offset)
        }
        fn unmap(&self, _: u64, _: u64) -> io::Result<bool> {
            Ok(true)
        }
        fn zero(&self, offset: u64, len: u64) -> io::Result<()> {
            if self.lies_about_zero { Ok(()) } else { self.disk.zero(offset, len) }
        }
        fn sync(&self) -> io::Result<()> {
            Ok(())
        }
        fn forget_cached(&self, _: u64, _: u64) -> io::Result<()> {
            Ok(())
        }
    }

    struct LyingMachine {
        path: PathBuf,
        lies_about_zero: bool,
    }

    const SIZE: u64 = 40 << 20;

    impl Machine for LyingMachine {
        fn hardware(&self) -> io::Result<Hardware> {
            let disk = Disk { name: "/dev/liar".into(), size_bytes: SIZE as i64, ..Disk::default() };
            Ok(Hardware { disks: vec![disk], ..Hardware::default() })
        }
        fn open_disk(&self, _: &str) -> io::Result<Arc<dyn BlockDevice>> {
            let disk = FileDisk::open(&self.path, SIZE, 512)?;
            Ok(Arc::new(Liar { disk, lies_about_zero: self.lies_about_zero }))
        }
        fn efi_vars(&self) -> Option<Arc<dyn EfiVars>> {
            None
        }
        fn boot_id(&self) -> String {
            String::new()
        }
        fn power_off(&self) -> io::Result<()> {
            Ok(())
        }
        fn restart(&self) -> io::Result<()> {
            Ok(())
        }
    }

    async fn erase_liar(depth: Depth, lies_about_zero: bool) -> (Result<Done, CommandError>, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("liar.raw");
        std::fs::write(&path, vec![0x55; SIZE as usize]).unwrap();
        let machine = Arc::new(LyingMachine { path: path.clone(), lies_about_zero });
        let context = Arc::new(Context::new(machine, quick()));
        let url = watch::Sender::new(String::new());
        let progress = Progress::new(Duration::ZERO, |_, _, _| {});
        let result = execute(&context, erase(depth), url.subscribe(), progress).await;
        (result, std::fs::read(&path).unwrap())
    }

    #[tokio::test]
    async fn a_disk_that_only_pretends_to_erase_is_found_out() {
        for depth in [Depth::Metadata, Depth::Full] {
            let (result, _) = erase_liar(depth, true).await;
            let error = result.unwrap_err();
            assert_eq!(error.reason(), FailureReason::NotErased, "{error}");
            assert!(error.to_string().contains("data at byte 0"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_disk_that_only_pretends_to_discard_gets_zeros_written() {
        let (result, disk) = erase_liar(Depth::Full, false).await;
        result.unwrap();
        assert!(disk.iter().all(|b| *b == 0));
    }
}
