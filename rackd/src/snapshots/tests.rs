use super::*;
use farrier_block::{FileBacking, Mode, OverlayOptions};
use tonic::transport::Endpoint;

const BLOCK: usize = 4096;
const DISK: u64 = 8 << 20;

struct Bench {
    dir: tempfile::TempDir,
    snapshots: Snapshots,
    volume: Volume,
}

impl Bench {
    /// A volume over an image of sevens, with a block of nines of its own.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("image"), vec![7; 4 << 20]).unwrap();
        let base = FileBacking::open(&dir.path().join("image"), Mode::ReadOnly).unwrap();
        let options = OverlayOptions { size: Some(DISK), ..OverlayOptions::default() };
        let overlay = Overlay::create(&dir.path().join("disk"), &options, base.clone(), "abc").unwrap();
        overlay.write_at(&[9; BLOCK], 0).unwrap();
        let nowhere = Endpoint::from_static("http://127.0.0.1:9").connect_lazy();
        let snapshots = Snapshots::new(dir.path(), nowhere);
        Self { dir, snapshots, volume: Volume { overlay, base, base_id: "abc".into() } }
    }

    fn left(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path().join("snapshots")).into_iter().flatten();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

fn silent() -> Progress {
    Box::new(|_, _| ())
}

#[tokio::test]
async fn a_picture_is_the_disk_at_its_moment_and_packs_the_same_every_time() {
    let bench = Bench::new();
    bench.snapshots.take("t1", &bench.volume).await.unwrap();
    // The machine goes on writing; the picture does not change, and the same task has one only.
    bench.volume.overlay.write_at(&[1; BLOCK], 0).unwrap();
    bench.snapshots.take("t1", &bench.volume).await.unwrap();
    let told = Arc::new(std::sync::Mutex::new((0, 0)));
    let last = told.clone();
    let progress: Progress = Box::new(move |done, total| *last.lock().unwrap() = (done, total));
    let first = bench.snapshots.measure("t1", &bench.volume, progress).await.unwrap();
    // The size, and the one chunk that differs.
    let all = 8 + 8 + CHUNK_BYTES;
    assert_eq!(*told.lock().unwrap(), (all, all));
    assert_eq!(bench.snapshots.measure("t1", &bench.volume, silent()).await.unwrap(), first);

    let flag = Arc::new(AtomicBool::new(false));
    let path = bench.snapshots.whole("t1");
    let packed = pack(&path, &bench.volume, silent(), flag, Vec::new()).unwrap();
    assert_eq!((packed.len() as u64, hex::encode(Sha256::digest(&packed))), (first.bytes, first.sha256));
    assert!(packed.len() < 64 << 10, "{} bytes for two runs and zeros", packed.len());
    let told = zstd::decode_all(packed.as_slice()).unwrap();
    assert_eq!(told.len() as u64, all);
    assert_eq!((&told[..8], &told[8..16]), (&DISK.to_le_bytes()[..], &[0; 8][..]));
    assert!(told[16..16 + BLOCK].iter().all(|byte| *byte == 9));
    assert!(told[16 + BLOCK..].iter().all(|byte| *byte == 7));

    bench.snapshots.remove("t1").await.unwrap();
    bench.snapshots.remove("t1").await.unwrap();
    assert!(bench.left().is_empty());
}

#[tokio::test]
async fn half_a_picture_is_taken_again_and_one_without_a_task_goes() {
    let bench = Bench::new();
    std::fs::create_dir_all(bench.dir.path().join("snapshots")).unwrap();
    std::fs::write(bench.snapshots.part("t1"), b"half").unwrap();
    std::fs::write(bench.snapshots.part("gone"), b"half").unwrap();
    bench.snapshots.take("t1", &bench.volume).await.unwrap();
    bench.snapshots.take("t2", &bench.volume).await.unwrap();
    bench.snapshots.sweep(|task| task == "t1").await.unwrap();
    assert_eq!(bench.left(), ["t1.overlay"]);
}

#[test]
fn work_that_nobody_waits_for_ends() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let bench = runtime.block_on(async { Bench::new() });
    runtime.block_on(bench.snapshots.take("t1", &bench.volume)).unwrap();
    let path = bench.snapshots.whole("t1");
    let stopped = Arc::new(AtomicBool::new(true));
    let packed = pack(&path, &bench.volume, silent(), stopped, Vec::new());
    assert!(matches!(packed, Err(SnapshotError::Stopped)));
    // Nobody takes the messages any more.
    let (pieces, received) = mpsc::channel(1);
    drop(received);
    let running = Arc::new(AtomicBool::new(false));
    let mut sender = Sender { pieces, piece: vec![0; PIECE_BYTES - 1] };
    assert_eq!(sender.write(&[1, 2, 3]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    let packed = pack(&path, &bench.volume, silent(), running, sender);
    assert!(packed.is_ok() || matches!(packed, Err(SnapshotError::Stopped)));
}

#[tokio::test]
async fn a_picture_that_has_no_room_is_not_begun() {
    let mut bench = Bench::new();
    bench.snapshots.free = |_| Ok(BLOCK as u64);
    let error = bench.snapshots.take("t1", &bench.volume).await.unwrap_err();
    assert!(matches!(error, SnapshotError::NoRoom(_)) && !error.is_transient(), "{error}");
    assert!(error.to_string().contains("0 MiB free"), "{error}");
    assert!(bench.left().is_empty());
    bench.snapshots.free = |_| Ok(u64::MAX);
    bench.snapshots.take("t1", &bench.volume).await.unwrap();
    // It is there: nobody asks again.
    bench.snapshots.free = |_| Ok(0);
    bench.snapshots.take("t1", &bench.volume).await.unwrap();
}
