//! `/init` of the deploy ramdisk. Elsewhere it only looks: `farrier-agent inspect`.
use std::process::ExitCode;

/// sysexits.h: the command was used incorrectly.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    if std::process::id() == 1 {
        farrier_agent::linux::start();
    }
    if std::env::args().nth(1).as_deref() == Some("inspect") {
        let hardware = farrier_agent::hardware::inspect(std::path::Path::new("/"));
        farrier_agent::linux::console::say(&format!("{hardware:#?}"));
        return ExitCode::SUCCESS;
    }
    farrier_agent::linux::console::say(
        "expected to be pid 1 of a ramdisk; next: boot it, or try `farrier-agent inspect`",
    );
    ExitCode::from(USAGE)
}
