//! A server of this process, on free ports.

#![allow(dead_code)]

pub(crate) mod hand;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use farrier_block::{Backing, Chap, FileBacking, Limits, LunSpec, Mode, Portal, TargetSpec, Targets, serve};
use tokio_util::sync::CancellationToken;

pub(crate) struct Server {
    pub(crate) targets: Targets,
    pub(crate) portals: Vec<SocketAddr>,
    shutdown: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// With this many portals on the loopback.
    pub(crate) fn start(limits: Limits, portals: usize) -> Server {
        let targets = Targets::new(Limits { portals: portals as u16, ..limits });
        let sockets: Vec<Portal> =
            (0..portals).map(|_| Portal::bind(([127, 0, 0, 1], 0).into()).expect("a free port")).collect();
        let addresses = sockets.iter().map(|portal| portal.local_addr().expect("bound")).collect();
        let shutdown = CancellationToken::new();
        let (for_thread, stop) = (targets.clone(), shutdown.clone());
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(serve(sockets, for_thread, stop)).expect("serves");
        });
        Server { targets, portals: addresses, shutdown, thread: Some(thread) }
    }

    pub(crate) fn url(&self, name: &str) -> String {
        format!("iscsi://{}/{name}/0", self.portals[0])
    }

    /// Ends it and waits.
    pub(crate) fn stop(&mut self) {
        self.shutdown.cancel();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server ends without a panic");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

pub(crate) fn target(name: &str, lun: LunSpec) -> TargetSpec {
    TargetSpec {
        name: name.into(),
        alias: String::new(),
        luns: vec![lun],
        accounts: Vec::new(),
        initiators: Vec::new(),
    }
}

pub(crate) fn with_chap(spec: TargetSpec, chap: Chap) -> TargetSpec {
    TargetSpec { accounts: vec![chap], ..spec }
}

pub(crate) fn sparse(directory: &Path, name: &str, size: u64) -> PathBuf {
    let path = directory.join(name);
    std::fs::File::create(&path).and_then(|file| file.set_len(size)).expect("a sparse file");
    path
}

pub(crate) fn file(directory: &Path, name: &str, size: u64) -> Arc<dyn Backing> {
    FileBacking::open(&sparse(directory, name, size), Mode::ReadWrite).expect("opens")
}
