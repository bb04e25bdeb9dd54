use super::*;
use crate::machine::{BlockDevice, EfiVars, Machine};
use crate::testing::{Fault, ImageServer, image, tool};
use farrier_proto::agent::session_response::WriteImage;
use farrier_proto::types::{Hardware, RootDeviceHints};
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt as _;

const MIB: u64 = 1 << 20;

fn command(server: &ImageServer) -> WriteImage {
    WriteImage { root_device: None, manifest: Some(server.manifest(1 << 20)), url: server.url() }
}

async fn write(bench: &Bench, server: &ImageServer) -> Result<Done, CommandError> {
    let url = watch::Sender::new(server.url());
    bench.run_from(Command::WriteImage(command(server)), url.subscribe()).await
}

/// The image's bytes where its own backup table was not, and a table of the disk's size.
fn assert_written(bench: &Bench, server: &ImageServer) {
    let disk = std::fs::read(bench.disk()).unwrap();
    let image = server.image();
    let table = 34 * 512..image.len() - 33 * 512;
    assert!(disk[table.clone()] == image[table], "the disk does not hold the image");
    let said = tool("sgdisk", "gdisk", &["-v", &bench.disk_name()]);
    assert!(said.contains("No problems found"), "{said}");
}

/// How often each chunk's first byte was asked for and served.
fn fetches(server: &ImageServer) -> BTreeMap<u64, usize> {
    let mut count = BTreeMap::new();
    for (first, _) in server.served() {
        *count.entry(first).or_default() += 1;
    }
    count
}

#[tokio::test]
async fn an_image_is_written_sparsely_and_its_table_grows_to_the_disk() {
    let bench = Bench::new(64 * MIB);
    // What a tenant left.
    std::fs::write(bench.disk(), vec![0xaa; 64 << 20]).unwrap();
    let server = ImageServer::start(image(bench.dir.path(), &["/EFI/BOOT/BOOTX64.EFI"]), &[]).await;
    let done = write(&bench, &server).await.unwrap();
    assert_written(&bench, &server);
    assert!(done.written_bytes < 9 << 20, "zeros were written: {}", done.written_bytes);
    assert!(done.detail.contains("moved to the end"), "{}", done.detail);
    assert!(server.connections() <= 5, "4 for the image, 1 for chunk 0: connections are kept alive");
    // 40 MiB lie behind the image and stay as they were; of the image only the data takes room.
    let used = std::fs::metadata(bench.disk()).unwrap().blocks() * 512;
    assert!(used < 52 * MIB, "{used} bytes are allocated");
    assert!(fetches(&server).values().all(|n| *n == 1));
    let blkid = tool("blkid", "util-linux", &["-p", "-o", "export", &bench.disk_name()]);
    assert!(blkid.contains("PTTYPE=gpt"), "{blkid}");
}

#[tokio::test]
async fn faults_of_every_kind_are_survived_and_broken_transfers_go_on() {
    let bench = Bench::new(32 * MIB);
    let faults = [
        Fault::Truncate(300_000),
        Fault::Corrupt,
        Fault::Drop,
        Fault::Status(503),
        Fault::WrongRange,
        Fault::Truncate(0),
        Fault::Status(200),
        Fault::Truncate(1_000_000),
    ];
    let server = ImageServer::start(image(bench.dir.path(), &[]), &faults).await;
    write(&bench, &server).await.unwrap();
    assert_written(&bench, &server);
    let ranges = server.served();
    let chunk_of_truncated = ranges.iter().find(|(first, _)| first % MIB == 300_000);
    assert_eq!(chunk_of_truncated.map(|(_, len)| *len), Some(MIB - 300_000), "{ranges:?}");
}

#[tokio::test]
async fn a_server_that_is_killed_and_comes_back_is_not_asked_for_written_chunks() {
    let bench = Bench::new(32 * MIB);
    let mut server = ImageServer::start(image(bench.dir.path(), &[]), &[]).await;
    server.fall_silent_after(5);
    let url = watch::Sender::new(server.url());
    let run = bench.run_from(Command::WriteImage(command(&server)), url.subscribe());
    let trouble = async {
        server.until_served(5).await;
        // Its answers have been read and written, or are being.
        tokio::time::sleep(Duration::from_millis(50)).await;
        server.kill();
        let before = fetches(&server);
        tokio::time::sleep(Duration::from_millis(50)).await;
        server.come_back().await;
        before
    };
    let (result, before) = tokio::join!(run, trouble);
    result.unwrap();
    assert_written(&bench, &server);
    let after = fetches(&server);
    for chunk in before.keys() {
        assert_eq!(after[chunk], 1, "chunk at {chunk} was fetched again: {after:?}");
    }
}

#[tokio::test]
async fn a_write_follows_rackd_to_another_address() {
    let bench = Bench::new(32 * MIB);
    let bytes = image(bench.dir.path(), &[]);
    let mut old = ImageServer::start(bytes.clone(), &[]).await;
    let new = ImageServer::start(bytes, &[]).await;
    old.fall_silent_after(4);
    let url = watch::Sender::new(old.url());
    let run = bench.run_from(Command::WriteImage(command(&old)), url.subscribe());
    let restart = async {
        old.until_served(4).await;
        old.kill();
        url.send_replace(new.url());
    };
    let (result, ()) = tokio::join!(run, restart);
    result.unwrap();
    assert_written(&bench, &new);
}

#[tokio::test]
async fn a_chunk_that_stays_wrong_fails_with_its_number_and_the_next_command_resumes() {
    let bench = Bench::new(32 * MIB);
    let server = ImageServer::start(image(bench.dir.path(), &[]), &[]).await;
    server.corrupt_always(15 * MIB);
    let error = write(&bench, &server).await.unwrap_err();
    assert_eq!(error.reason(), FailureReason::Checksum);
    let text = error.to_string();
    assert!(text.contains("chunk 15: expected SHA-256") && text.contains("in 4 downloads"), "{text}");
    // Half written is not bootable.
    let head = std::fs::read(bench.disk()).unwrap();
    assert!(head[..34 * 512].iter().all(|b| *b == 0));

    let before = fetches(&server);
    server.heal();
    write(&bench, &server).await.unwrap();
    assert_written(&bench, &server);
    let again = fetches(&server).iter().filter(|(at, n)| before.get(at).is_some_and(|b| b < n)).count();
    assert!(again <= 4, "{again} chunks were fetched twice");
}

#[tokio::test]
async fn a_server_that_stays_away_fails_the_download_without_telling_the_secret() {
    let bench = Bench::new(32 * MIB);
    let mut server = ImageServer::start(image(bench.dir.path(), &[]), &[]).await;
    server.kill();
    let error = write(&bench, &server).await.unwrap_err();
    assert_eq!(error.reason(), FailureReason::Download);
    let text = error.to_string();
    assert!(text.contains("127.0.0.1:") && !text.contains("secret"), "{text}");
}

#[tokio::test]
async fn an_image_larger_than_the_disk_names_both_sizes() {
    let bench = Bench::new(20 * MIB);
    let server = ImageServer::start(image(bench.dir.path(), &[]), &[]).await;
    let error = write(&bench, &server).await.unwrap_err();
    assert_eq!(error.reason(), FailureReason::DiskTooSmall);
    let text = error.to_string();
    assert!(text.contains("25165824 bytes") && text.contains("20971520 bytes"), "{text}");
    assert!(server.served().is_empty());
}

#[tokio::test]
async fn no_matching_disk_says_why_each_was_left() {
    let bench = Bench::new(32 * MIB);
    let server = ImageServer::start(image(bench.dir.path(), &[]), &[]).await;
    let hints = RootDeviceHints { serial_number: "other".into(), ..RootDeviceHints::default() };
    let command = WriteImage { root_device: Some(hints), ..command(&server) };
    let error = bench.run(Command::WriteImage(command)).await.unwrap_err();
    assert_eq!(error.reason(), FailureReason::NoRootDevice);
    assert!(error.to_string().contains("/dev/vda: serial number is \"pretend-vda\""), "{error}");
}

#[tokio::test]
async fn an_image_that_ends_inside_a_block_is_written_whole() {
    let bench = Bench::new(32 * MIB);
    let mut bytes = image(bench.dir.path(), &[]);
    bytes.truncate((14 << 20) + 100);
    let server = ImageServer::start(bytes, &[]).await;
    write(&bench, &server).await.unwrap();
    let disk = std::fs::read(bench.disk()).unwrap();
    assert!(disk[34 * 512..server.image().len()] == server.image()[34 * 512..]);
}

/// Takes every write and keeps only those near its beginning.
struct Forgetful(PretendMachine);

struct ForgetfulDisk(Arc<dyn BlockDevice>);

impl Machine for Forgetful {
    fn hardware(&self) -> io::Result<Hardware> {
        self.0.hardware()
    }
    fn open_disk(&self, name: &str) -> io::Result<Arc<dyn BlockDevice>> {
        Ok(Arc::new(ForgetfulDisk(self.0.open_disk(name)?)))
    }
    fn efi_vars(&self) -> Option<Arc<dyn EfiVars>> {
        self.0.efi_vars()
    }
    fn boot_id(&self) -> String {
        self.0.boot_id()
    }
    fn power_off(&self) -> io::Result<()> {
        self.0.power_off()
    }
    fn restart(&self) -> io::Result<()> {
        self.0.restart()
    }
}

impl BlockDevice for ForgetfulDisk {
    fn size_bytes(&self) -> u64 {
        self.0.size_bytes()
    }
    fn block_bytes(&self) -> u32 {
        self.0.block_bytes()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_at(buf, offset)
    }
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        if offset < 4 * MIB { self.0.write_at(data, offset) } else { Ok(()) }
    }
    fn unmap(&self, offset: u64, len: u64) -> io::Result<bool> {
        self.0.unmap(offset, len)
    }
    fn zero(&self, offset: u64, len: u64) -> io::Result<()> {
        self.0.zero(offset, len)
    }
    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
    fn forget_cached(&self, offset: u64, len: u64) -> io::Result<()> {
        self.0.forget_cached(offset, len)
    }
}

#[tokio::test]
async fn a_disk_that_drops_writes_is_found_out() {
    let dir = tempfile::tempdir().unwrap();
    let disk = PretendDisk::new(dir.path(), "vda", 32 * MIB);
    let machine = PretendMachine::new("n1", "52:54:00:00:00:01", vec![disk]).unwrap();
    let context = Arc::new(Context::new(Arc::new(Forgetful(machine)), quick()));
    let bench = Bench { dir, context };
    let server = ImageServer::start(image(bench.dir.path(), &[]), &[]).await;
    let error = write(&bench, &server).await.unwrap_err();
    // The noise of the image is at 10 to 16 MiB.
    let CommandError::ReadBack { offset, .. } = error else { panic!("{error}") };
    assert!((10 * MIB..16 * MIB).contains(&offset), "{offset}");
}
