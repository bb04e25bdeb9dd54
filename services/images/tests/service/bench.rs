//! A service of a test's own, and callers of every kind.

use farrier_identity::ca::Authority;
use farrier_identity::client::{Expect, channel};
use farrier_identity::{Credentials, Identity, Role};
use farrier_proto::images::image_service_client::ImageServiceClient;
use farrier_proto::images::upload_image_request::{Header, Part};
use farrier_proto::images::{Compression, Image, ImageFormat, UploadImageRequest};
use farrier_proto::types::ChunkManifest;
use sha2::{Digest as _, Sha256};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Status};

pub(crate) type Client = ImageServiceClient<Channel>;

pub(crate) const LIMIT: u64 = 32 << 20;
pub(crate) const CHUNK: usize = 4 << 20;

pub(crate) struct Bench {
    pub(crate) dir: TempDir,
    authority: Authority,
    database_url: String,
    running: Option<Running>,
}

struct Running {
    uri: String,
    stop: CancellationToken,
    server: JoinHandle<anyhow::Result<()>>,
}

impl Bench {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let database_url = format!("sqlite://{}/images.db", dir.path().display());
        Self::start_on(dir, database_url).await
    }

    pub(crate) async fn start_on(dir: TempDir, database_url: String) -> Self {
        let (authority, _) = Authority::generate("test").unwrap();
        let mut bench = Self { dir, authority, database_url, running: None };
        bench.serve().await;
        bench
    }

    async fn serve(&mut self) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("https://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let config = farrier_images::Config {
            listener,
            credentials: self.credentials(Identity::Service("images".into())),
            database_url: self.database_url.clone(),
            data_dir: self.data(),
            max_image_bytes: LIMIT,
        };
        let server = tokio::spawn(farrier_images::run(config, stop.clone()));
        self.running = Some(Running { uri, stop, server });
    }

    pub(crate) async fn restart(&mut self) {
        let running = self.running.take().unwrap();
        running.stop.cancel();
        running.server.await.unwrap().unwrap();
        self.serve().await;
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Names of the files in a folder of the data directory.
    pub(crate) fn files(&self, folder: &str) -> Vec<String> {
        // Not there yet: the service starts on its own task.
        let entries = std::fs::read_dir(self.data().join(folder)).into_iter().flatten();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Waits until the service has cleaned up behind a call that ended.
    pub(crate) async fn no_temporary_files(&self) {
        for _ in 0..500 {
            if self.files("tmp").is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("left behind: {:?}", self.files("tmp"));
    }

    /// Waits until the service has begun to write an upload.
    pub(crate) async fn an_upload_is_under_way(&self) {
        for _ in 0..3000 {
            if !self.files("tmp").is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no upload is under way");
    }

    fn credentials(&self, identity: Identity) -> Credentials {
        let issued =
            self.authority.issue(&identity, &["127.0.0.1".into()], Duration::from_secs(600)).unwrap();
        Credentials::from_pem(&issued.cert_pem, &issued.key_pem, self.authority.cert_pem()).unwrap()
    }

    pub(crate) fn client(&self, identity: Identity) -> Client {
        let uri = &self.running.as_ref().unwrap().uri;
        ImageServiceClient::new(channel(uri, &self.credentials(identity), Expect::AnyService).unwrap())
    }

    pub(crate) fn user(&self, role: Role, project: &str) -> Client {
        self.client(Identity::User { name: "u".into(), role, project: project.into() })
    }

    pub(crate) fn member(&self) -> Client {
        self.user(Role::Member, "blue")
    }

    pub(crate) fn operator(&self) -> Client {
        self.user(Role::Operator, "")
    }

    pub(crate) fn rack(&self) -> Client {
        self.client(Identity::Rack("r1".into()))
    }
}

/// An upload, to be changed before it is sent.
#[derive(Clone)]
pub(crate) struct Upload {
    pub(crate) header: Header,
    pub(crate) file: Vec<u8>,
}

impl Upload {
    pub(crate) fn raw(id: &str, file: Vec<u8>) -> Self {
        let image = Image {
            name: format!("images/{id}"),
            sha256: hex::encode(Sha256::digest(&file)),
            format: ImageFormat::Raw.into(),
            compression: Compression::None.into(),
            architecture: "x86_64".into(),
            ..Image::default()
        };
        let file_bytes = file.len() as i64;
        Self { header: Header { image: Some(image), file_bytes, ..Header::default() }, file }
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut Image)) -> Self {
        change(self.header.image.as_mut().unwrap());
        self
    }

    pub(crate) fn of(self, format: ImageFormat, compression: Compression) -> Self {
        self.with(|image| (image.format, image.compression) = (format.into(), compression.into()))
    }

    pub(crate) fn messages(self) -> Vec<UploadImageRequest> {
        let header = UploadImageRequest { part: Some(Part::Header(self.header)) };
        let data = self
            .file
            .chunks(1 << 20)
            .map(|piece| UploadImageRequest { part: Some(Part::Data(piece.to_vec())) });
        std::iter::once(header).chain(data).collect()
    }

    pub(crate) async fn send(self, client: &mut Client) -> Result<Image, Status> {
        let stream = tokio_stream::iter(self.messages());
        Ok(client.upload_image(stream).await?.into_inner())
    }

    pub(crate) async fn refused(self, client: &mut Client) -> (Code, String, Status) {
        let status = self.send(client).await.unwrap_err();
        let reason = farrier_runtime::error::reason_of(&status).unwrap_or_default();
        (status.code(), reason, status)
    }
}

/// Data in the first chunk, two empty chunks, data in a short last one.
pub(crate) fn disk() -> Vec<u8> {
    let mut disk = vec![0; 3 * CHUNK + 1024];
    for (i, byte) in disk[..100_000].iter_mut().enumerate() {
        *byte = (i * i / 7) as u8;
    }
    disk[3 * CHUNK..].fill(0xa5);
    disk
}

/// The disk as qcow2.
pub(crate) fn qcow2(disk: &[u8], options: &[&str]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("in"), disk).unwrap();
    let out = Command::new("qemu-img")
        .args(["convert", "-f", "raw", "-O", "qcow2"])
        .args(options)
        .args(["in", "out"])
        .current_dir(dir.path())
        .output()
        .expect("no qemu-img here: install the Debian package qemu-utils");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    std::fs::read(dir.path().join("out")).unwrap()
}

pub(crate) fn reason(status: &Status) -> String {
    farrier_runtime::error::reason_of(status).unwrap_or_default()
}

/// Reads a disk as a rack does, checking each chunk against the manifest.
pub(crate) async fn download(client: &mut Client, image: &Image, first: usize) -> (ChunkManifest, Vec<u8>) {
    use farrier_proto::images::{GetManifestRequest, ReadChunksRequest};
    let request =
        GetManifestRequest { name: image.name.clone(), manifest_sha256: image.manifest_sha256.clone() };
    let manifest = client.get_manifest(request).await.unwrap().into_inner();
    assert_eq!(farrier_images::manifest_digest(&manifest), image.manifest_sha256);
    let chunk_bytes = manifest.chunk_bytes as usize;
    let mut disk = vec![0; manifest.size_bytes as usize];
    let request = ReadChunksRequest {
        manifest_sha256: image.manifest_sha256.clone(),
        first_chunk: first as i64,
        chunk_count: 0,
    };
    let mut pieces = client.read_chunks(request).await.unwrap().into_inner();
    let mut last = None;
    while let Some(piece) = pieces.message().await.unwrap() {
        assert!(piece.data.len() <= 1 << 20 && !piece.data.is_empty());
        assert!(last < Some((piece.chunk, piece.offset)), "out of order");
        last = Some((piece.chunk, piece.offset));
        let at = piece.chunk as usize * chunk_bytes + piece.offset as usize;
        disk[at..at + piece.data.len()].copy_from_slice(&piece.data);
    }
    for (i, (chunk, digest)) in disk.chunks(chunk_bytes).zip(manifest.digests.chunks(32)).enumerate() {
        let empty = digest == [0; 32];
        let expected = if empty || i < first { vec![0; chunk.len()] } else { chunk.to_vec() };
        assert_eq!(chunk, expected, "chunk {i}");
        assert!(empty || i < first || Sha256::digest(chunk).as_slice() == digest, "chunk {i}");
    }
    (manifest, disk)
}
