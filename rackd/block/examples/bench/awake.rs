//! Processors that never sleep. With one request at a time a server waits most of the time, and on a virtual machine what
//! it is charged is then the way into the idle loop and out of it, more than its own work. Something that runs only when
//! nothing else wants to keeps it out of the figures, everybody's.

use std::process::{Child, Command};

/// Until it is dropped.
pub(crate) struct Awake(Vec<Child>);

impl Awake {
    /// One loop a processor, of the scheduling class that gives way to all others (sched(7), SCHED_IDLE).
    pub(crate) fn start() -> std::io::Result<Awake> {
        let count = std::thread::available_parallelism()?.get();
        let mut awake = Awake(Vec::new());
        for _ in 0..count {
            let child =
                Command::new("chrt").args(["--idle", "0", "sh", "-c", "while :; do :; done"]).spawn()?;
            awake.0.push(child);
        }
        Ok(awake)
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
