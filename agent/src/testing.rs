//! What the tests share: foreign tools, a small image, an image server that misbehaves on demand.
use crate::manifest::Manifest;
use farrier_proto::types::ChunkManifest;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// Runs a tool and returns what it printed; fails when it fails, and names its package when it is missing.
pub(crate) fn tool(name: &str, package: &str, args: &[&str]) -> String {
    let output = Command::new(name)
        .args(args)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("MTOOLS_SKIP_CHECK", "1")
        .output()
        .unwrap_or_else(|e| panic!("cannot run {name} ({e}): install the package {package}"));
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {args:?}: {text}");
    text
}

/// A GPT image of 24 MiB: an ESP with loaders at the given paths, 6 MiB of noise, zeros, a lone sector.
pub(crate) fn image(dir: &Path, loaders: &[&str]) -> Vec<u8> {
    let path = dir.join("image.raw");
    std::fs::File::create(&path).unwrap().set_len(24 << 20).unwrap();
    let file = path.to_str().unwrap();
    tool("sgdisk", "gdisk", &["-n", "1:2048:+8M", "-t", "1:ef00", "-n", "2:0:+12M", file]);
    tool("mkfs.vfat", "dosfstools", &["--offset", "2048", "-i", "12345678", file, "8192"]);
    let volume = format!("{file}@@1M");
    let source = dir.join("loader");
    std::fs::write(&source, b"MZ loader").unwrap();
    for loader in loaders {
        let mut at = String::from("::");
        let (folders, _) = loader.rsplit_once('/').unwrap();
        for folder in folders.split('/').filter(|f| !f.is_empty()) {
            at = format!("{at}/{folder}");
            // Fails when it is there already.
            let _ = Command::new("mmd").args(["-i", &volume, &at]).env("MTOOLS_SKIP_CHECK", "1").output();
        }
        tool("mcopy", "mtools", &["-i", &volume, source.to_str().unwrap(), &format!("::{loader}")]);
    }
    let mut bytes = std::fs::read(&path).unwrap();
    let mut seed = 1u64;
    for byte in &mut bytes[10 << 20..16 << 20] {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        *byte = (seed >> 56) as u8;
    }
    bytes[(19 << 20) + 512] = 1;
    bytes
}

/// What the server does to one request instead of answering it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// Says the whole range comes, sends that many bytes, closes.
    Truncate(usize),
    /// Flips the first byte.
    Corrupt,
    /// Closes without a word.
    Drop,
    Status(u16),
    /// Answers with another range than was asked for.
    WrongRange,
}

struct Shared {
    image: Vec<u8>,
    faults: Mutex<VecDeque<Fault>>,
    /// Corrupts every answer that begins here.
    always_corrupt: Mutex<Option<u64>>,
    /// Ranges answered in full, first byte and length.
    served: Mutex<Vec<(u64, u64)>>,
    /// Requests to answer before falling silent; `None`: all.
    budget: Mutex<Option<usize>>,
    connections: Mutex<usize>,
}

/// Serves one image with ranges, keep-alive, and faults in the order they were given.
pub(crate) struct ImageServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    task: Option<AbortOnDropHandle<()>>,
}

impl ImageServer {
    pub(crate) async fn start(image: Vec<u8>, faults: &[Fault]) -> Self {
        let shared = Arc::new(Shared {
            image,
            faults: Mutex::new(faults.iter().copied().collect()),
            always_corrupt: Mutex::default(),
            served: Mutex::default(),
            budget: Mutex::default(),
            connections: Mutex::default(),
        });
        let mut server = Self { shared, address: ([127, 0, 0, 1], 0).into(), task: None };
        server.come_back().await;
        server
    }

    /// Listens again, at the same port as before.
    pub(crate) async fn come_back(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        *self.shared.budget.lock().unwrap() = None;
        let shared = self.shared.clone();
        self.task = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            let mut connections = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                *shared.connections.lock().unwrap() += 1;
                connections.push(AbortOnDropHandle::new(tokio::spawn(serve(shared.clone(), stream))));
            }
        })));
    }

    /// As kill -9 would: every connection and the listener are gone.
    pub(crate) fn kill(&mut self) {
        self.task = None;
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/secret/image", self.address)
    }

    pub(crate) fn manifest(&self, chunk_bytes: usize) -> ChunkManifest {
        Manifest::of(&self.shared.image, chunk_bytes)
    }

    pub(crate) fn image(&self) -> &[u8] {
        &self.shared.image
    }

    /// Answers that many requests, then none (the connection stays open and silent).
    pub(crate) fn fall_silent_after(&self, requests: usize) {
        *self.shared.budget.lock().unwrap() = Some(requests);
    }

    pub(crate) fn corrupt_always(&self, offset: u64) {
        *self.shared.always_corrupt.lock().unwrap() = Some(offset);
    }

    pub(crate) fn heal(&self) {
        *self.shared.always_corrupt.lock().unwrap() = None;
    }

    pub(crate) fn served(&self) -> Vec<(u64, u64)> {
        self.shared.served.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        *self.shared.connections.lock().unwrap()
    }

    /// Waits until that many ranges were served.
    pub(crate) async fn until_served(&self, count: usize) {
        while self.served().len() < count {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }
}

async fn serve(shared: Arc<Shared>, mut stream: TcpStream) {
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break end + 4;
            }
            let mut piece = [0; 4096];
            match stream.read(&mut piece).await {
                Ok(0) | Err(_) => return,
                Ok(n) => buffer.extend_from_slice(&piece[..n]),
            }
        };
        let request = String::from_utf8_lossy(&buffer[..end]).into_owned();
        buffer.drain(..end);
        let range =
            request.lines().find_map(|l| l.to_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
        let range = range.expect("every request has a range");
        let (first, last) = range.trim().split_once('-').unwrap();
        let (first, last): (u64, u64) = (first.parse().unwrap(), last.parse().unwrap());

        let silent = match &mut *shared.budget.lock().unwrap() {
            None => false,
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
        };
        if silent {
            std::future::pending::<()>().await;
        }
        let mut body = shared.image[first as usize..=last as usize].to_vec();
        let fault = shared.faults.lock().unwrap().pop_front();
        let mut told = first;
        match fault {
            Some(Fault::Drop) => return,
            Some(Fault::Status(code)) => {
                let head = format!("HTTP/1.1 {code} Sorry\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(head.as_bytes()).await.ok();
                continue;
            }
            Some(Fault::Corrupt) => body[0] ^= 1,
            Some(Fault::WrongRange) => told += 1,
            Some(Fault::Truncate(_)) | None => {}
        }
        if *shared.always_corrupt.lock().unwrap() == Some(first) {
            body[0] ^= 1;
        }
        let head = format!(
            "HTTP/1.1 206 Partial Content\r\ncontent-length: {}\r\ncontent-range: bytes {told}-{last}/{}\r\n\r\n",
            body.len(),
            shared.image.len()
        );
        stream.write_all(head.as_bytes()).await.ok();
        if let Some(Fault::Truncate(len)) = fault {
            stream.write_all(&body[..len.min(body.len())]).await.ok();
            stream.shutdown().await.ok();
            return;
        }
        if stream.write_all(&body).await.is_err() {
            return;
        }
        shared.served.lock().unwrap().push((first, body.len() as u64));
    }
}
