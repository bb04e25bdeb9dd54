//! Every target, with its seeds and a bounded number of mutations of them: the same ones each time, on stable Rust and without
//! a fuzzer, so that the test command notices what panics. `FARRIER_FUZZ_MUTATIONS=N` tries more.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod golden;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

macro_rules! tests {
    ($($name:ident: $mutations:expr),* $(,)?) => {
        $(
            #[test]
            fn $name() {
                replay(stringify!($name), farrier_fuzz::targets::$name::run, $mutations);
            }
        )*

        const ALL: &[&str] = &[$(stringify!($name)),*];
    };
}

farrier_fuzz::for_each_target!(tests);

/// One target: its seeds, and so many mutations of them.
fn replay(name: &str, run: fn(&[u8]), count: u32) {
    let more = std::env::var("FARRIER_FUZZ_MUTATIONS").ok();
    let count = more.map_or(count, |more| more.parse().expect("FARRIER_FUZZ_MUTATIONS is a number"));
    let mut seeds = seeds(&root().join("seeds").join(name));
    assert!(!seeds.is_empty(), "expected seeds in fuzz/seeds/{name}, found none");
    seeds.extend(golden::seeds(name));
    if let Some(dir) = std::env::var_os("FARRIER_FUZZ_SEEDS") {
        keep(&seeds, &Path::new(&dir).join(name));
    }
    let mut chance = Chance::of(name);
    let mutated = (0..count).map(|_| chance.mutate(&seeds));
    let Some(input) = seeds.iter().cloned().chain(mutated).find(|input| !survives(run, input)) else {
        return;
    };
    let path = std::env::temp_dir().join(format!("farrier-fuzz-{name}"));
    let kept =
        fs::write(&path, &input).map_or_else(|error| error.to_string(), |()| path.display().to_string());
    panic!("panicked at an input of {} bytes, kept in {kept}", input.len());
}

/// All of them as files, for a fuzzer.
fn keep(seeds: &[Vec<u8>], dir: &Path) {
    fs::create_dir_all(dir).expect("a directory for seeds");
    for (number, seed) in seeds.iter().enumerate() {
        fs::write(dir.join(number.to_string()), seed).expect("a seed is written");
    }
}

/// The mapping from targets to captures has a target's name in it: one that is misspelt would be without them.
#[test]
fn targets_of_netboot_have_seeds_of_real_boots() {
    for (name, least) in [
        ("boot_trace", 80),
        ("dhcp", 20),
        ("dhcp6", 8),
        ("dhcp_answer", 20),
        ("foreign6", 8),
        ("http_head", 10),
        ("tftp", 15),
    ] {
        let seeds = golden::seeds(name).len();
        assert!(ALL.contains(&name) && seeds >= least, "{name}: expected {least} seeds, saw {seeds}");
    }
    assert_eq!(golden::seeds("csr").len(), 0);
}

/// A target that nobody runs here would look as if it had passed.
#[test]
fn every_target_is_listed() {
    let files = fs::read_dir(root().join("fuzz_targets")).expect("fuzz_targets");
    for file in files.map(|entry| entry.expect("an entry").path()) {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        assert!(ALL.contains(&name.as_str()), "{name} is not listed in fuzz/src/targets/mod.rs");
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// In an order that is always the same.
fn seeds(dir: &Path) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("a seed")).collect()
}

fn survives(run: fn(&[u8]), input: &[u8]) -> bool {
    catch_unwind(AssertUnwindSafe(|| run(input))).is_ok()
}

/// splitmix64.
struct Chance(u64);

/// Values at which lengths and signs go wrong.
const EDGES: &[u8] = &[0, 1, 0x0F, 0x10, 0x20, 0x3F, 0x40, 0x7F, 0x80, 0xC0, 0xFE, 0xFF];
/// Longest input.
const MOST: usize = 64 << 10;

impl Chance {
    /// Another for each target, the same each time (FNV-1a).
    fn of(name: &str) -> Self {
        Self(
            name.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
            }),
        )
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        if bound == 0 { 0 } else { (self.next() % bound as u64) as usize }
    }

    /// One seed, changed in one place or in a few.
    fn mutate(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(6) {
            self.change(&mut bytes, seeds);
        }
        bytes.truncate(MOST);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = self.below(bytes.len());
        match self.next() % 9 {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
            1 if !bytes.is_empty() => bytes[at] = EDGES[self.below(EDGES.len())],
            2 if !bytes.is_empty() => bytes[at] = self.next() as u8,
            // A number of two bytes, off by a little.
            3 if !bytes.is_empty() => bytes[at] = bytes[at].wrapping_add(self.below(5) as u8).wrapping_sub(2),
            4 => bytes.truncate(at),
            5 => bytes.insert(at, EDGES[self.below(EDGES.len())]),
            6 => {
                let end = (at + 1 + self.below(16)).min(bytes.len());
                bytes.drain(at.min(end)..end);
            }
            // Some of it again.
            7 => {
                let end = (at + 1 + self.below(64)).min(bytes.len());
                let again = bytes[at.min(end)..end].to_vec();
                let place = self.below(bytes.len() + 1);
                bytes.splice(place..place, again);
            }
            // The end of another.
            _ => {
                let other = &seeds[self.below(seeds.len())];
                bytes.truncate(at);
                bytes.extend_from_slice(&other[self.below(other.len())..]);
            }
        }
    }
}
