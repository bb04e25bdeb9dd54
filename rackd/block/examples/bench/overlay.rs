//! How long the steps of an overlay's life take: 8 GiB, and 256 MiB of it written at random places.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use farrier_block::{Backing as _, FileBacking, Image, Mode, Overlay, OverlayOptions};

pub(crate) fn run(directory: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let path = |name: &str| directory.join(name);
    std::fs::File::create(path("image"))?.set_len(SIZE)?;
    let image: Arc<dyn Image> = FileBacking::open(&path("image"), Mode::ReadOnly)?;
    println!("\n| overlay over 8 GiB | ms |\n|---|--:|");
    let say =
        |what: &str, since: Instant| println!("| {what} | {:.1} |", since.elapsed().as_secs_f64() * 1e3);
    let begun = Instant::now();
    let overlay = Overlay::create(&path("overlay"), &OverlayOptions::default(), image.clone(), "image")?;
    say("clone", begun);
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let begun = Instant::now();
    for _ in 0..WRITES {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        overlay.write_at(&[7; 4096], random % (SIZE / 4096) * 4096)?;
    }
    say("65536 first writes of 4k at random places", begun);
    let begun = Instant::now();
    overlay.flush()?;
    say("flush", begun);
    let begun = Instant::now();
    overlay.snapshot(&path("snapshot"))?;
    say("snapshot, synced", begun);
    drop(overlay);
    let begun = Instant::now();
    let overlay = Overlay::open(&path("overlay"), image, "image")?;
    say("open", begun);
    let begun = Instant::now();
    overlay.discard(0, SIZE)?;
    overlay.flush()?;
    say("discard of all", begun);
    Ok(())
}

const SIZE: u64 = 8 << 30;
const WRITES: u32 = 64 * 1024;
