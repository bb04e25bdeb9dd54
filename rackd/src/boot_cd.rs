//! Boot CDs: the ramdisk on a volume that a BMC pretends to its machine. One for each machine, made of pieces that are read
//! when somebody asks for them, with a token for one boot.
//!
//! No DHCP, no TFTP, no broadcast: the BMC reads from a URL of this rack, and the ramdisk is told its address. Who knows the URL
//! can read the token; it is as unguessable as that, told to the BMC alone, and served as long as the step lasts.

use crate::config::VirtualMediaConfig;
use crate::rack::Rack;
use crate::ramdisks::Ramdisks;
use axum::Router;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use farrier_bootcd::{Boot, CdError, Content, File};
use farrier_netboot::{Artifact, ArtifactName, Joined, Piece, cd_file, cd_script, http};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Why there is no boot CD.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootCdError {
    #[error(
        "the node boots from virtual media: expected [virtual_media] in this rack's rackd.toml, saw none; add it, or \
         let the node boot from the network: `farrier node update NODE --boot-interface network`"
    )]
    NotConfigured,
    #[error("{}: expected a file of the boot CD, which `cargo xtask ramdisk --out DIR` makes", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the boot CD cannot be laid out")]
    Layout(#[from] CdError),
}

/// The CDs that are served.
pub(crate) struct BootCds {
    config: Option<VirtualMediaConfig>,
    /// Kernels and initrds, by their names.
    files: Vec<(ArtifactName, PathBuf)>,
    served: Mutex<HashMap<String, Served>>,
}

struct Served {
    pieces: Arc<Joined>,
    /// Who read of it last, and when.
    reader: watch::Sender<Option<Read>>,
}

/// Somebody reads a boot CD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) by: IpAddr,
    pub(crate) at: Instant,
}

impl BootCds {
    pub(crate) fn new(config: Option<VirtualMediaConfig>, ramdisks: &Ramdisks) -> Self {
        Self { config, files: ramdisks.files().cloned().collect(), served: Mutex::default() }
    }

    /// Serves a CD that boots the ramdisk of its machine's architecture under `key`, in place of the one before. One that has
    /// other arguments has its files at the same places: whoever is reading goes on.
    pub(crate) async fn serve(&self, key: &str, boot: &farrier_netboot::Ramdisks) -> Result<(), BootCdError> {
        let config = self.config.as_ref().ok_or(BootCdError::NotConfigured)?;
        let read = async |path: &PathBuf| {
            tokio::fs::read(path).await.map_err(|source| BootCdError::File { path: path.clone(), source })
        };
        let mut files = Vec::new();
        for (name, path) in &self.files {
            files.push((cd_file(name), path, self.size(path).await?));
        }
        // Half of the key: the whole stays between the BMC and us.
        let mark = format!("farrier/{}", key.get(..16).unwrap_or(key));
        let mut script = cd_script(&format!("/{mark}"), boot);
        script.extend(std::iter::repeat_n('\n', SCRIPT_BYTES.saturating_sub(script.len())));
        let elsewhere =
            files.iter().map(|(name, _, len)| File { path: name, content: Content::Elsewhere(*len) });
        let mut contents: Vec<File<'_>> = elsewhere.collect();
        contents.extend([
            File { path: "boot/grub/grub.cfg", content: Content::Bytes(script.into_bytes()) },
            // Where Debian's GRUB for CDs looks when it does not know what it came from.
            File { path: ".disk/info", content: Content::Bytes(b"Farrier\n".to_vec()) },
            File { path: &mark, content: Content::Bytes(Vec::new()) },
        ]);
        // Read where it is, as the kernel: it is megabytes, and there are as many CDs as machines that boot.
        let efi = self.size(&config.efi).await?;
        let boot = Boot { bios: Some(read(&config.bios).await?), efi: Some(Content::Elsewhere(efi)) };
        let pieces = farrier_bootcd::layout(LABEL, contents, boot)?;
        let pieces = pieces.into_iter().filter_map(|piece| match piece {
            farrier_bootcd::Piece::Bytes(bytes) => Some(Piece::Bytes(bytes.into())),
            farrier_bootcd::Piece::Efi { len } => Some(Piece::File { path: config.efi.clone(), len }),
            farrier_bootcd::Piece::File { index, len } => {
                Some(Piece::File { path: files.get(index)?.1.clone(), len })
            }
        });
        let pieces = Arc::new(Joined::new(pieces));
        let mut served = self.lock();
        match served.get_mut(key) {
            Some(before) => before.pieces = pieces,
            None => {
                served.insert(key.to_owned(), Served { pieces, reader: watch::channel(None).0 });
            }
        }
        Ok(())
    }

    async fn size(&self, path: &PathBuf) -> Result<u64, BootCdError> {
        let meta = tokio::fs::metadata(path).await;
        Ok(meta.map_err(|source| BootCdError::File { path: path.clone(), source })?.len())
    }

    /// Nobody reads it any more.
    pub(crate) fn withdraw(&self, key: &str) {
        self.lock().remove(key);
    }

    /// Who reads it; `None`: it is not served.
    pub(crate) fn reader(&self, key: &str) -> Option<watch::Receiver<Option<Read>>> {
        Some(self.lock().get(key)?.reader.subscribe())
    }

    fn find(&self, key: &str, reader: IpAddr) -> Option<Arc<Joined>> {
        let served = self.lock();
        let found = served.get(key)?;
        let now = Instant::now();
        // BMCs read by sectors: thousands of times.
        found.reader.send_if_modified(|last| {
            let news = last.is_none_or(|last| last.by != reader || now.duration_since(last.at) >= SECOND);
            if news {
                *last = Some(Read { by: reader, at: now });
            }
            news
        });
        Some(Arc::clone(&found.pieces))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Served>> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rack {
    /// What BMCs are told, without the key: `http://address:port`.
    pub(crate) fn media_base(&self) -> Option<String> {
        let named = self.config.virtual_media.as_ref()?.url.clone();
        let own = || self.provisioning().next().map(|s| format!("http://{}:{}", s.address, self.http_port));
        named.or_else(own)
    }
}

pub(crate) fn routes(rack: Arc<Rack>) -> Router {
    Router::new().route("/media/{file}", get(media)).with_state(rack)
}

/// A part of a CD, as BMCs read it. The key is in the path: nothing of the request is logged.
async fn media(
    State(rack): State<Arc<Rack>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(file): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let pieces = file.strip_suffix(".iso").and_then(|key| rack.boot_cds.find(key, peer.ip().to_canonical()));
    let Some(pieces) = pieces else { return StatusCode::NOT_FOUND.into_response() };
    let netboot = rack.netboot.clone();
    http::respond(Artifact::Joined(pieces), &method, &headers, move |bytes| {
        netboot.count_sent("media", bytes)
    })
    .await
}

const SECOND: Duration = Duration::from_secs(1);
const LABEL: &str = "FARRIER";
/// The script is filled up to so much: longer than the longest, with the arguments of two kernels, so that a new token moves no
/// file.
const SCRIPT_BYTES: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{RamdiskConfig, RamdiskFiles};
    use crate::kernel::Machine;
    use farrier_netboot::KernelArgs;

    /// Of both architectures.
    fn ramdisks(dir: &std::path::Path) -> Ramdisks {
        let files = |kernel: &str, initrd: &str| RamdiskFiles {
            kernel: dir.join(kernel),
            initrd: dir.join(initrd),
            args: String::new(),
        };
        let config = RamdiskConfig { files: files("k", "i"), arm64: Some(files("k-arm64", "i-arm64")) };
        Ramdisks::of(&config, Some(Machine::X86), Some(Machine::Arm64)).unwrap()
    }

    fn boot(dir: &std::path::Path, args: &str) -> farrier_netboot::Ramdisks {
        ramdisks(dir).boot(|_| KernelArgs::parse(args)).unwrap()
    }

    async fn cds(dir: &std::path::Path) -> BootCds {
        let file = async |name: &str, bytes: usize| {
            tokio::fs::write(dir.join(name), vec![7; bytes]).await.unwrap();
            dir.join(name)
        };
        let config =
            VirtualMediaConfig { bios: file("bios", 3000).await, efi: file("efi", 9000).await, url: None };
        for (name, bytes) in [("k", 5000), ("i", 12_345), ("k-arm64", 4000), ("i-arm64", 9999)] {
            file(name, bytes).await;
        }
        BootCds::new(Some(config), &ramdisks(dir))
    }

    fn bytes(pieces: &[Piece]) -> (u64, Vec<u8>) {
        let mut own = Vec::new();
        let mut len = 0;
        for piece in pieces {
            match piece {
                Piece::Bytes(bytes) => {
                    len += bytes.len() as u64;
                    own.extend(bytes);
                }
                Piece::File { len: file, .. } => len += file,
            }
        }
        (len, own)
    }

    /// A BMC that reads while the token is renewed must find its kernel where it was.
    #[tokio::test]
    async fn a_new_token_moves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let cds = cds(dir.path()).await;
        let serve = async |args: &str| {
            cds.serve("0123456789abcdef0123", &boot(dir.path(), args)).await.unwrap();
            bytes(cds.find("0123456789abcdef0123", [10, 0, 0, 9].into()).unwrap().pieces())
        };
        let short = serve("farrier.token=a").await;
        let long = serve(&format!("farrier.token={}", "b".repeat(1800))).await;
        assert_eq!(short.0, long.0);
        let differ = short.1.iter().zip(&long.1).filter(|(a, b)| a != b).count();
        assert!((1..=SCRIPT_BYTES).contains(&differ), "{differ}");
        // All four files are on it, and what starts them.
        assert!(short.0 > 3000 + 9000 + 5000 + 12_345 + 4000 + 9999, "{}", short.0);
        let script = String::from_utf8_lossy(&short.1).into_owned();
        for file in ["/kernel.img", "/initrd.img", "/kernel-arm64.img", "/initrd-arm64.img"] {
            assert!(script.contains(&format!("'{file}'")), "{file}");
        }
    }

    #[tokio::test]
    async fn a_cd_is_there_for_who_knows_it_until_it_is_withdrawn() {
        let dir = tempfile::tempdir().unwrap();
        let cds = cds(dir.path()).await;
        let (key, bmc): (&str, IpAddr) = ("0123456789abcdef0123", [10, 0, 0, 9].into());
        assert!(cds.reader(key).is_none());
        cds.serve(key, &boot(dir.path(), "")).await.unwrap();
        let mut reader = cds.reader(key).unwrap();
        assert!(cds.find("0123456789abcdef", bmc).is_none());
        assert!(cds.find(key, bmc).is_some());
        assert_eq!(reader.wait_for(Option::is_some).await.unwrap().map(|read| read.by), Some(bmc));
        cds.withdraw(key);
        assert!(cds.find(key, bmc).is_none());
    }

    #[tokio::test]
    async fn what_is_missing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let cds = cds(dir.path()).await;
        tokio::fs::remove_file(dir.path().join("efi")).await.unwrap();
        let boot = boot(dir.path(), "");
        let error = cds.serve("0123456789abcdef", &boot).await.unwrap_err();
        assert!(error.to_string().contains("efi: expected a file of the boot CD"), "{error}");
        let none = BootCds::new(None, &ramdisks(dir.path()));
        let error = none.serve("0123456789abcdef", &boot).await.unwrap_err();
        assert!(error.to_string().contains("[virtual_media]"), "{error}");
    }
}
