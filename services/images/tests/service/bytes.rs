//! What racks read.

use crate::bench::{Bench, CHUNK, Client, Upload, disk, download, reason};
use farrier_identity::{Identity, Role};
use farrier_proto::images::{GetManifestRequest, Image, ReadChunksRequest};
use tonic::{Code, Status};

async fn manifest(client: &mut Client, name: &str, digest: &str) -> Result<(), Status> {
    let request = GetManifestRequest { name: name.into(), manifest_sha256: digest.into() };
    client.get_manifest(request).await.map(|_| ())
}

async fn first_piece(client: &mut Client, digest: &str, first_chunk: i64) -> Result<Option<i64>, Status> {
    let request = ReadChunksRequest { manifest_sha256: digest.into(), first_chunk, chunk_count: 0 };
    Ok(client.read_chunks(request).await?.into_inner().message().await?.map(|piece| piece.chunk))
}

async fn uploaded(bench: &Bench) -> Image {
    Upload::raw("a", disk()).send(&mut bench.member()).await.unwrap()
}

#[tokio::test]
async fn a_rack_reads_a_disk_from_any_chunk_on() {
    let bench = Bench::start().await;
    let image = uploaded(&bench).await;
    let mut rack = bench.rack();
    assert!(download(&mut rack, &image, 0).await.1 == disk());
    let mut tail = disk();
    tail[..CHUNK].fill(0);
    assert!(download(&mut rack, &image, 1).await.1 == tail);
    for (first, expected) in [(0, Some(0)), (1, Some(3)), (3, Some(3)), (4, None), (i64::MAX, None)] {
        assert_eq!(first_piece(&mut rack, &image.manifest_sha256, first).await.unwrap(), expected, "{first}");
    }
    assert_eq!(
        reason(&first_piece(&mut rack, &image.manifest_sha256, -1).await.unwrap_err()),
        "INVALID_FIELD"
    );
}

#[tokio::test]
async fn a_rack_that_wants_some_chunks_gets_no_others() {
    let bench = Bench::start().await;
    let image = uploaded(&bench).await;
    let mut rack = bench.rack();
    // Chunks 1 and 2 are empty.
    for (first_chunk, chunk_count, expected) in
        [(0, 1, vec![0]), (0, 3, vec![0]), (1, 2, vec![]), (1, 3, vec![3]), (0, i64::MAX, vec![0, 3])]
    {
        let manifest_sha256 = image.manifest_sha256.clone();
        let request = ReadChunksRequest { manifest_sha256, first_chunk, chunk_count };
        let mut pieces = rack.read_chunks(request).await.unwrap().into_inner();
        let mut seen = Vec::new();
        while let Some(piece) = pieces.message().await.unwrap() {
            seen.push(piece.chunk);
        }
        seen.dedup();
        assert_eq!(seen, expected, "{first_chunk} {chunk_count}");
    }
    let manifest_sha256 = image.manifest_sha256.clone();
    let request = ReadChunksRequest { manifest_sha256, first_chunk: 0, chunk_count: -1 };
    assert_eq!(reason(&rack.read_chunks(request).await.unwrap_err()), "INVALID_FIELD");
}

#[tokio::test]
async fn unknown_disks_are_not_found() {
    let bench = Bench::start().await;
    let image = uploaded(&bench).await;
    let mut rack = bench.rack();
    for digest in ["", "x", "../../images.db", &"0".repeat(64), &"a".repeat(10_000)] {
        let status = first_piece(&mut rack, digest, 0).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound, "{digest:.80}");
    }
    assert_eq!(manifest(&mut rack, "images/b", "").await.unwrap_err().code(), Code::NotFound);
    assert_eq!(manifest(&mut rack, "nodes/b", "").await.unwrap_err().code(), Code::InvalidArgument);
    let status = manifest(&mut rack, &image.name, &"0".repeat(64)).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "IMAGE_CHANGED"));
    manifest(&mut rack, &image.name, &image.manifest_sha256).await.unwrap();
}

#[tokio::test]
async fn a_rack_that_knows_an_image_s_name_learns_nothing_of_it() {
    let bench = Bench::start().await;
    let image = uploaded(&bench).await;
    for digest in ["", &"0".repeat(64)] {
        let status = manifest(&mut bench.rack(), &image.name, digest).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "IMAGE_CHANGED"));
        let details = String::from_utf8_lossy(status.details());
        assert!(
            !details.contains(&image.manifest_sha256) && !status.message().contains(&image.manifest_sha256)
        );
    }
    manifest(&mut bench.operator(), &image.name, "").await.unwrap();
}

#[tokio::test]
async fn who_may_read_bytes() {
    let bench = Bench::start().await;
    let image = uploaded(&bench).await;
    let service = |name: &str| Identity::Service(name.into());
    let may = [bench.rack(), bench.operator(), bench.client(service("scheduler"))];
    for mut client in may {
        manifest(&mut client, &image.name, &image.manifest_sha256).await.unwrap();
        first_piece(&mut client, &image.manifest_sha256, 0).await.unwrap();
    }
    let may_not = [
        bench.user(Role::Reader, "blue"),
        bench.member(),
        bench.client(service("inventory")),
        bench.client(Identity::Node("n1".into())),
    ];
    for mut client in may_not {
        let status = manifest(&mut client, &image.name, "").await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied);
        let status = first_piece(&mut client, &image.manifest_sha256, 0).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied);
    }
}

#[tokio::test]
async fn a_deletion_does_not_disturb_a_reader() {
    let bench = Bench::start().await;
    let image = uploaded(&bench).await;
    let request =
        ReadChunksRequest { manifest_sha256: image.manifest_sha256.clone(), first_chunk: 0, chunk_count: 0 };
    let mut pieces = bench.rack().read_chunks(request).await.unwrap().into_inner();
    pieces.message().await.unwrap().unwrap();
    let request = farrier_proto::images::DeleteImageRequest { name: image.name, etag: String::new() };
    bench.member().delete_image(request).await.unwrap();
    assert!(bench.files("disks").is_empty());
    let mut bytes = 1 << 20;
    while let Some(piece) = pieces.message().await.unwrap() {
        bytes += piece.data.len();
    }
    assert_eq!(bytes as i64, image.stored_bytes);
}
