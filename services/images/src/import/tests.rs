use super::*;
use crate::disks::manifest_digest;
use farrier_model::chunks::{CHUNK_BYTES, EMPTY_CHUNK};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::Command;

const LIMIT: u64 = 64 << 20;
const CHUNK: usize = CHUNK_BYTES as usize;

struct Bench {
    _dir: tempfile::TempDir,
    disks: Disks,
    /// Of what changes are told.
    base: String,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { disks: Disks::open(dir.path().into()).unwrap(), _dir: dir, base: String::new() }
    }

    fn convert(
        &self,
        file: &[u8],
        format: ImageFormat,
        compression: Compression,
    ) -> Result<Cut, ImportError> {
        let declared = Declared { format, compression, max_bytes: LIMIT, base: self.base.clone() };
        convert(&self.disks, Verified::trusting(&self.disks, file), declared, &CancellationToken::new())
    }

    fn qcow2(&self, file: &[u8]) -> Result<Cut, ImportError> {
        self.convert(file, ImageFormat::Qcow2, Compression::None)
    }
}

fn qemu_img(args: &[&str], dir: &Path) {
    let out = Command::new("qemu-img")
        .args(args)
        .current_dir(dir)
        .output()
        .expect("no qemu-img here: install the Debian package qemu-utils");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

/// Data in the first chunk, a hole, data at the end.
fn sample() -> Vec<u8> {
    let mut disk = vec![0; 3 * CHUNK + 1024];
    for (i, byte) in disk[..100_000].iter_mut().enumerate() {
        *byte = (i * i / 7) as u8;
    }
    disk[3 * CHUNK..].fill(0xa5);
    disk
}

fn made(disk: &[u8], options: &[&str]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("in"), disk).unwrap();
    let args = [&["convert", "-f", "raw", "-O", "qcow2"], options, &["in", "out"]].concat();
    qemu_img(&args, dir.path());
    std::fs::read(dir.path().join("out")).unwrap()
}

fn reason(result: Result<Cut, ImportError>) -> String {
    match result {
        Err(ImportError::BadFormat(why)) => why,
        other => panic!("expected a bad format, saw {other:?}"),
    }
}

/// With `sample` as the disk that changes are told of.
fn over_sample() -> Bench {
    let mut bench = Bench::new();
    let cut = bench.convert(&sample(), ImageFormat::Raw, Compression::None).unwrap();
    bench.base = manifest_digest(&cut.manifest);
    bench.disks.publish(cut.raw, &cut.manifest).unwrap();
    bench
}

/// As a rack tells it.
fn changes(disk: &[u8], chunks: &[usize]) -> Vec<u8> {
    let mut told = (disk.len() as u64).to_le_bytes().to_vec();
    for chunk in chunks {
        told.extend_from_slice(&(*chunk as u64).to_le_bytes());
        told.extend_from_slice(&disk[chunk * CHUNK..disk.len().min((chunk + 1) * CHUNK)]);
    }
    told
}

#[test]
fn a_disk_told_by_its_changes_is_the_disk() {
    let bench = over_sample();
    let same = sample();
    // Longer: what was the last chunk goes on, with zeros and with data behind it.
    let mut longer = sample();
    longer.resize(5 * CHUNK + 512, 0);
    longer[4 * CHUNK + 7] = 9;
    let mut shorter = sample()[..CHUNK + 512].to_vec();
    shorter[9] ^= 1;
    // A chunk of zeros over data, data over a hole.
    let mut other = sample();
    other[..CHUNK].fill(0);
    other[2 * CHUNK + 1] = 1;
    for (disk, chunks) in
        [(&same, &[][..]), (&longer, &[4]), (&longer, &[0, 3, 4, 5]), (&shorter, &[0]), (&other, &[0, 2])]
    {
        let told = zstd::encode_all(&changes(disk, chunks)[..], 1).unwrap();
        let cut = bench.convert(&told, ImageFormat::Changes, Compression::Zstd).unwrap();
        let whole = bench.convert(disk, ImageFormat::Raw, Compression::None).unwrap();
        assert_eq!(cut.manifest, whole.manifest, "{chunks:?}");
        assert_eq!(cut.stored_bytes, whole.stored_bytes);
        assert!(std::fs::read(cut.raw.path()).unwrap() == *disk, "{chunks:?}");
    }
}

#[test]
fn changes_that_are_badly_told_are_refused() {
    let bench = over_sample();
    let disk = sample();
    let number = |number: u64| number.to_le_bytes().to_vec();
    let convert = |file: &[u8]| bench.convert(file, ImageFormat::Changes, Compression::None);
    let whole = changes(&disk, &[0, 1]);
    for file in [
        &whole[..5],
        &whole[..12],
        &whole[..whole.len() - 1],
        &changes(&disk, &[1, 0]),
        &changes(&disk, &[1, 1]),
        &[changes(&disk, &[3]), number(4)].concat(),
        &[number(1024), number(1)].concat(),
    ] {
        assert!(reason(convert(file)).contains("not well told"));
    }
    assert!(matches!(convert(&number(0)), Err(ImportError::BadFormat(_))), "an empty disk");
    assert!(matches!(convert(&number(u64::MAX)), Err(ImportError::TooLarge { .. })));
    let elsewhere = Bench { base: "0".repeat(64), ..Bench::new() };
    let refused = elsewhere.convert(&whole, ImageFormat::Changes, Compression::None);
    assert!(matches!(refused, Err(ImportError::NoBase(_))));
}

#[test]
fn chunks_are_digested_and_empty_ones_left_out() {
    let bench = Bench::new();
    let disk = sample();
    let cut = bench.convert(&disk, ImageFormat::Raw, Compression::None).unwrap();
    assert_eq!(cut.manifest.size_bytes as usize, disk.len());
    let mut expected = Sha256::digest(&disk[..CHUNK]).to_vec();
    expected.extend(EMPTY_CHUNK);
    expected.extend(EMPTY_CHUNK);
    expected.extend(Sha256::digest(&disk[3 * CHUNK..]));
    assert_eq!(cut.manifest.digests, expected);
    assert_eq!(cut.stored_bytes as usize, CHUNK + 1024);
    assert_eq!(std::fs::read(cut.raw.path()).unwrap(), disk);
}

#[test]
fn a_disk_is_rounded_up_to_a_sector() {
    let bench = Bench::new();
    for (length, expected) in
        [(1, 512), (512, 512), (513, 1024), (CHUNK - 1, CHUNK), (CHUNK + 1, CHUNK + 512)]
    {
        let cut = bench.convert(&vec![1; length], ImageFormat::Raw, Compression::None).unwrap();
        assert_eq!(cut.manifest.size_bytes as usize, expected);
        assert_eq!(cut.manifest.digests.len(), 32 * expected.div_ceil(CHUNK));
        let mut padded = vec![1; length];
        padded.resize(expected, 0);
        assert_eq!(std::fs::read(cut.raw.path()).unwrap(), padded);
    }
}

#[test]
fn every_format_of_one_disk_gives_one_manifest() {
    let bench = Bench::new();
    let disk = sample();
    let raw = manifest_digest(&bench.convert(&disk, ImageFormat::Raw, Compression::None).unwrap().manifest);
    let zstd = zstd::encode_all(disk.as_slice(), 1).unwrap();
    let mut gzip = Vec::new();
    flate2::read::GzEncoder::new(disk.as_slice(), flate2::Compression::fast())
        .read_to_end(&mut gzip)
        .unwrap();
    let plain = made(&disk, &[]);
    let zipped = zstd::encode_all(plain.as_slice(), 1).unwrap();
    let cases = [
        ("raw zstd", zstd, ImageFormat::Raw, Compression::Zstd),
        ("raw gzip", gzip, ImageFormat::Raw, Compression::Gzip),
        ("qcow2", plain, ImageFormat::Qcow2, Compression::None),
        ("qcow2 zstd", zipped, ImageFormat::Qcow2, Compression::Zstd),
        ("qcow2 v2", made(&disk, &["-o", "compat=0.10"]), ImageFormat::Qcow2, Compression::None),
        ("qcow2 compressed", made(&disk, &["-c"]), ImageFormat::Qcow2, Compression::None),
        (
            "qcow2 small clusters",
            made(&disk, &["-o", "cluster_size=512"]),
            ImageFormat::Qcow2,
            Compression::None,
        ),
        (
            "qcow2 large clusters",
            made(&disk, &["-c", "-o", "cluster_size=2M"]),
            ImageFormat::Qcow2,
            Compression::None,
        ),
        ("qcow2 preallocated", made(&disk, &["-S", "0"]), ImageFormat::Qcow2, Compression::None),
    ];
    for (what, file, format, compression) in cases {
        let cut = bench.convert(&file, format, compression).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(manifest_digest(&cut.manifest), raw, "{what}");
        assert_eq!(std::fs::read(cut.raw.path()).unwrap(), disk, "{what}");
    }
}

#[test]
fn qcow2_that_reaches_for_other_files_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::new();
    std::fs::write(dir.path().join("secret"), vec![7; 65536]).unwrap();
    qemu_img(&["create", "-f", "qcow2", "-b", "secret", "-F", "raw", "backed"], dir.path());
    qemu_img(
        &["create", "-f", "qcow2", "-o", "data_file=data,data_file_raw=on", "external", "1M"],
        dir.path(),
    );
    qemu_img(&["create", "-f", "qcow2", "zeros", "1M"], dir.path());
    qemu_img(&["snapshot", "-c", "s", "zeros"], dir.path());
    let file = |name| std::fs::read(dir.path().join(name)).unwrap();
    for (name, why) in [("backed", "backing file"), ("external", "external file"), ("zeros", "snapshots")] {
        let seen = reason(bench.qcow2(&file(name)));
        assert!(seen.contains(why), "{name}: {seen}");
    }
    // The flag for an external file taken away, its name left in the header.
    let mut external = file("external");
    external[72..80].fill(0);
    assert!(reason(bench.qcow2(&external)).contains("external data file"));
}

#[test]
fn qcow2_that_cannot_be_read_says_so() {
    let bench = Bench::new();
    let disk = sample();
    let zstd = reason(bench.qcow2(&made(&disk, &["-c", "-o", "compression_type=zstd"])));
    assert!(zstd.contains("compression_type=zlib"), "{zstd}");
    assert!(reason(bench.qcow2(&made(&disk, &["-o", "extended_l2=on"]))).contains("extended_l2"));
    let good = made(&disk, &[]);
    let cases: &[(usize, &[u8], &str)] = &[
        (0, b"RAWD", "no qcow2"),
        (7, &[4], "version"),
        (20, &[0, 0, 0, 40], "cluster size"),
        (32, &[0, 0, 0, 2], "encrypted"),
        (79, &[1], "closed"),
        (79, &[2], "corrupt"),
        (72, &[128], "not known"),
        (24, &[0; 8], "empty"),
        (100, &[0, 0, 0, 1], "header"),
        (100, &[255; 4], "header"),
    ];
    for (at, bytes, why) in cases {
        let mut file = good.clone();
        file[*at..at + bytes.len()].copy_from_slice(bytes);
        let seen = reason(bench.qcow2(&file));
        assert!(seen.contains(why), "{why}: {seen}");
    }
    let mut huge = good;
    huge[24..32].copy_from_slice(&(1_u64 << 40).to_be_bytes());
    assert!(matches!(bench.qcow2(&huge), Err(ImportError::TooLarge { limit: LIMIT })));
}

#[test]
fn a_bomb_is_too_large() {
    let bench = Bench::new();
    let zeros = std::io::repeat(0).take(LIMIT + 1);
    let zstd = zstd::encode_all(zeros, 1).unwrap();
    let mut gzip = Vec::new();
    let zeros = std::io::repeat(0).take(LIMIT + 1);
    flate2::read::GzEncoder::new(zeros, flate2::Compression::best()).read_to_end(&mut gzip).unwrap();
    for (bomb, compression) in [(zstd, Compression::Zstd), (gzip, Compression::Gzip)] {
        for format in [ImageFormat::Raw, ImageFormat::Qcow2] {
            let seen = bench.convert(&bomb, format, compression);
            assert!(matches!(seen, Err(ImportError::TooLarge { limit: LIMIT })), "{compression:?} {seen:?}");
        }
    }
}

#[test]
fn broken_compression_is_a_bad_format() {
    let bench = Bench::new();
    let mut cut_short = zstd::encode_all(sample().as_slice(), 1).unwrap();
    cut_short.truncate(cut_short.len() / 2);
    for (file, compression) in [
        (b"not compressed".to_vec(), Compression::Zstd),
        (b"not compressed".to_vec(), Compression::Gzip),
        (cut_short, Compression::Zstd),
    ] {
        reason(bench.convert(&file, ImageFormat::Raw, compression));
    }
    reason(bench.convert(&zstd::encode_all(&b""[..], 1).unwrap(), ImageFormat::Raw, Compression::Zstd));
}

#[test]
fn a_cancelled_conversion_stops_and_leaves_nothing() {
    let bench = Bench::new();
    let declared = Declared {
        format: ImageFormat::Raw,
        compression: Compression::None,
        max_bytes: LIMIT,
        base: String::new(),
    };
    let cancel = CancellationToken::new();
    cancel.cancel();
    let file = Verified::trusting(&bench.disks, b"x");
    assert!(matches!(convert(&bench.disks, file, declared, &cancel), Err(ImportError::Cancelled)));
    assert_eq!(std::fs::read_dir(bench._dir.path().join("tmp")).unwrap().count(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Garbage over a good image's header, extensions and tables: refused or read, never a panic. The reader
    /// is called without the net that `convert` holds under it.
    #[test]
    fn no_qcow2_panics(patches in prop::collection::vec((0_usize..4096 * 6, any::<u8>()), 1..12), at in 0_usize..3) {
        let bench = Bench::new();
        let mut file = base().to_vec();
        for (offset, byte) in patches {
            // Header and extensions, or the tables behind them.
            let place = offset % [112, 512, 4096 * 6][at];
            if let Some(slot) = file.get_mut(place) { *slot = byte; }
        }
        let temp = bench.disks.temp().unwrap();
        temp.file().write_all(&file).unwrap();
        let out = bench.disks.temp().unwrap();
        if let Ok(mut disk) = qcow2::Disk::open(temp.file(), 8 << 20) {
            let _ = cut::cut(&mut disk, out, 8 << 20, &CancellationToken::new());
        }
    }

    #[test]
    fn no_head_panics(head in prop::collection::vec(any::<u8>(), 0..300)) {
        let bench = Bench::new();
        let mut file = b"QFI\xfb\0\0\0\x03".to_vec();
        file.extend(head);
        let _ = bench.qcow2(&file);
        let _ = bench.convert(&file, ImageFormat::Raw, Compression::Zstd);
        let _ = bench.convert(&file, ImageFormat::Raw, Compression::Gzip);
    }
}

/// A small image with small clusters, so that the tables are near the start.
fn base() -> &'static [u8] {
    static BASE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    BASE.get_or_init(|| {
        let mut disk = vec![0; 256 << 10];
        disk[10_000..30_000].fill(9);
        made(&disk, &["-c", "-o", "cluster_size=4k"])
    })
}
