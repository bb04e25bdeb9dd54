//! What may come in, and what may not.

use crate::bench::{Bench, LIMIT, Upload, disk, download, qcow2};
use farrier_identity::Role;
use farrier_proto::images::upload_image_request::Part;
use farrier_proto::images::{Compression, Image, ImageFormat, UploadImageRequest};
use std::io::Read as _;
use tonic::Code;
use tonic_types::StatusExt as _;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::read::GzEncoder::new(bytes, flate2::Compression::fast()).read_to_end(&mut out).unwrap();
    out
}

#[tokio::test]
async fn every_format_of_one_disk_gives_one_manifest_and_one_file() {
    let bench = Bench::start().await;
    let disk = disk();
    let raw = |id: &str| Upload::raw(id, disk.clone());
    let zstd = zstd::encode_all(disk.as_slice(), 1).unwrap();
    let uploads = [
        raw("raw"),
        Upload::raw("raw-zstd", zstd).of(ImageFormat::Raw, Compression::Zstd),
        Upload::raw("raw-gzip", gzip(&disk)).of(ImageFormat::Raw, Compression::Gzip),
        Upload::raw("qcow2", qcow2(&disk, &[])).of(ImageFormat::Qcow2, Compression::None),
        Upload::raw("qcow2-c", qcow2(&disk, &["-c"])).of(ImageFormat::Qcow2, Compression::None),
        Upload::raw("qcow2-gzip", gzip(&qcow2(&disk, &[]))).of(ImageFormat::Qcow2, Compression::Gzip),
    ];
    let mut seen = Vec::new();
    for upload in uploads {
        let header = upload.header.clone();
        let image = upload.send(&mut bench.member()).await.unwrap();
        assert_eq!(image.sha256, header.image.unwrap().sha256);
        assert_eq!((image.file_bytes, image.disk_bytes), (header.file_bytes, disk.len() as i64));
        assert_eq!(image.owner, "blue");
        assert!(!image.uid.is_empty() && !image.etag.is_empty() && image.create_time.is_some());
        seen.push(image);
    }
    assert!(seen.iter().all(|image| image.manifest_sha256 == seen[0].manifest_sha256));
    assert_eq!(bench.files("disks").len(), 2);
    assert!(download(&mut bench.rack(), &seen[3], 0).await.1 == disk);
    bench.no_temporary_files().await;
}

#[tokio::test]
async fn bytes_other_than_promised_are_refused() {
    let bench = Bench::start().await;
    let mut client = bench.member();
    let good = || Upload::raw("a", disk());

    let wrong = good().with(|image| image.sha256 = "0".repeat(64));
    let (code, reason, status) = wrong.refused(&mut client).await;
    assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "CHECKSUM_MISMATCH"));
    let facts = status.get_details_error_info().unwrap().metadata;
    assert_eq!(facts["expected"], "0".repeat(64));
    assert_eq!(Some(&facts["seen"]), good().header.image.map(|image| image.sha256).as_ref());

    let mut short = good();
    short.header.file_bytes += 1;
    let (code, reason, _) = short.refused(&mut client).await;
    assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "TRUNCATED"));

    for less in [1, 8 << 20] {
        let mut long = good();
        long.header.file_bytes -= less;
        let (code, reason, status) = long.refused(&mut client).await;
        assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "INVALID_FIELD"));
        assert_eq!(status.get_details_error_info().unwrap().metadata["field"], "header.file_bytes");
    }
    bench.no_temporary_files().await;
    assert!(bench.files("disks").is_empty());
    // A refusal leaves the name free.
    good().send(&mut client).await.unwrap();
}

#[tokio::test]
async fn a_digest_is_checked_before_anything_is_parsed() {
    let bench = Bench::start().await;
    let garbage = Upload::raw("a", b"no qcow2 at all".to_vec()).of(ImageFormat::Qcow2, Compression::Zstd);
    let wrong = garbage.clone().with(|image| image.sha256 = "0".repeat(64));
    assert_eq!(wrong.refused(&mut bench.member()).await.1, "CHECKSUM_MISMATCH");
    assert_eq!(garbage.refused(&mut bench.member()).await.1, "BAD_FORMAT");
}

#[tokio::test]
async fn attacks_are_refused() {
    let bench = Bench::start().await;
    let mut client = bench.member();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("secret"), vec![7; 65536]).unwrap();
    let made = std::process::Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-b", "secret", "-F", "raw", "backed"])
        .current_dir(dir.path())
        .status();
    assert!(made.unwrap().success());
    let backed = std::fs::read(dir.path().join("backed")).unwrap();
    let (code, reason, status) =
        Upload::raw("a", backed).of(ImageFormat::Qcow2, Compression::None).refused(&mut client).await;
    assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "BAD_FORMAT"));
    assert!(status.message().contains("backing file"), "{}", status.message());

    let bomb = zstd::encode_all(std::io::repeat(0).take(LIMIT + 1), 1).unwrap();
    let (code, reason, _) =
        Upload::raw("a", bomb).of(ImageFormat::Raw, Compression::Zstd).refused(&mut client).await;
    assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "IMAGE_TOO_LARGE"));

    let mut large = Upload::raw("a", disk());
    large.header.file_bytes = LIMIT as i64 + 1;
    assert_eq!(large.refused(&mut client).await.1, "IMAGE_TOO_LARGE");
    bench.no_temporary_files().await;
    assert!(bench.files("disks").is_empty());
}

#[tokio::test]
async fn a_bad_header_names_the_field() {
    let bench = Bench::start().await;
    let mut client = bench.member();
    type Change = Box<dyn FnOnce(&mut Image)>;
    let cases: Vec<(&str, Change)> = vec![
        ("header.image.name", Box::new(|i| i.name = "images/Not A Label".into())),
        ("header.image.name", Box::new(|i| i.name = "images/../x".into())),
        ("header.image.sha256", Box::new(|i| i.sha256.clear())),
        ("header.image.sha256", Box::new(|i| i.sha256 = "g".repeat(64))),
        ("header.image.format", Box::new(|i| i.format = 0)),
        ("header.image.format", Box::new(|i| i.format = 9)),
        ("header.image.compression", Box::new(|i| i.compression = 0)),
        ("header.image.architecture", Box::new(|i| i.architecture = "m68k".into())),
        ("header.image.description", Box::new(|i| i.description = "x".repeat(1025))),
        ("header.image.owner", Box::new(|i| i.owner = "red".into())),
    ];
    let mut uploads: Vec<_> =
        cases.into_iter().map(|(field, change)| (field, Upload::raw("a", vec![1]).with(change))).collect();
    for file_bytes in [0, -1] {
        let mut upload = Upload::raw("a", vec![1]);
        upload.header.file_bytes = file_bytes;
        uploads.push(("header.file_bytes", upload));
    }
    let mut upload = Upload::raw("a", vec![1]);
    upload.header.image = None;
    uploads.push(("header.image", upload));
    for (field, upload) in uploads {
        let (code, reason, status) = upload.refused(&mut client).await;
        assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "INVALID_FIELD"), "{field}");
        assert_eq!(status.get_details_error_info().unwrap().metadata["field"], field);
    }
}

#[tokio::test]
async fn the_order_of_messages_is_kept() {
    let bench = Bench::start().await;
    let mut client = bench.member();
    let header = || Upload::raw("a", vec![1]).messages().remove(0);
    let data = |n| UploadImageRequest { part: Some(Part::Data(vec![1; n])) };
    let streams = [
        ("nothing", vec![]),
        ("data first", vec![data(1)]),
        ("two headers", vec![header(), header()]),
        ("a large piece", vec![header(), data((1 << 20) + 1)]),
    ];
    for (what, messages) in streams {
        let status = client.upload_image(tokio_stream::iter(messages)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status}");
    }
}

#[tokio::test]
async fn the_same_request_again_has_the_same_answer() {
    let bench = Bench::start().await;
    let mut client = bench.member();
    let mut upload = Upload::raw("a", disk());
    upload.header.request_id = "11111111-1111-4111-8111-111111111111".into();
    let first = upload.clone().send(&mut client).await.unwrap();
    assert_eq!(upload.clone().send(&mut client).await.unwrap(), first);

    let other = upload.clone().with(|image| image.sha256 = "1".repeat(64));
    assert_eq!(other.refused(&mut client).await.1, "REQUEST_ID_REUSED");
    upload.header.request_id = String::new();
    let (code, reason, _) = upload.clone().refused(&mut client).await;
    assert_eq!((code, reason.as_str()), (Code::AlreadyExists, "NAME_TAKEN"));
    // Nor does another project get the answer by the same request id.
    upload.header.request_id = "11111111-1111-4111-8111-111111111111".into();
    assert_eq!(upload.refused(&mut bench.user(Role::Member, "red")).await.1, "NAME_TAKEN");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_of_one_name_at_once_make_one_image() {
    let bench = Bench::start().await;
    let tries: Vec<_> = (0..4_u8)
        .map(|i| {
            let mut client = bench.member();
            tokio::spawn(async move { Upload::raw("a", vec![i + 1; 1 << 20]).send(&mut client).await })
        })
        .collect();
    let mut won = Vec::new();
    for one in tries {
        match one.await.unwrap() {
            Ok(image) => won.push(image.manifest_sha256),
            Err(status) => assert_eq!(crate::bench::reason(&status), "NAME_TAKEN"),
        }
    }
    assert_eq!(won.len(), 1);
    assert_eq!(bench.files("disks"), [format!("{}.manifest", won[0]), format!("{}.raw", won[0])]);
    bench.no_temporary_files().await;
}

#[tokio::test]
async fn a_caller_who_goes_away_leaves_nothing() {
    let bench = Bench::start().await;
    let mut client = bench.member();
    let (send, receive) = tokio::sync::mpsc::channel(16);
    for message in Upload::raw("a", disk()).messages().into_iter().take(3) {
        send.send(message).await.unwrap();
    }
    let stream = tokio_stream::wrappers::ReceiverStream::new(receive);
    let call = tokio::spawn(async move { client.upload_image(stream).await });
    while bench.files("tmp").is_empty() {
        tokio::task::yield_now().await;
    }
    call.abort();
    bench.no_temporary_files().await;
    drop(send);
}

#[tokio::test]
async fn who_may_upload() {
    let bench = Bench::start().await;
    let upload =
        |id: &str, owner: &str| Upload::raw(id, vec![1; 512]).with(|image| image.owner = owner.into());
    for mut client in [bench.user(Role::Reader, "blue"), bench.rack(), bench.user(Role::Member, "")] {
        let (code, reason, _) = upload("a", "").refused(&mut client).await;
        assert_eq!((code, reason.as_str()), (Code::PermissionDenied, "NOT_ALLOWED"));
    }
    let image = upload("all", "").send(&mut bench.operator()).await.unwrap();
    assert_eq!(image.owner, "");
    let image = upload("red", "red").send(&mut bench.operator()).await.unwrap();
    assert_eq!(image.owner, "red");
}
