//! What a rack's certificate may add: an image under its reservation, and nothing else.

use crate::bench::{Bench, Client, Upload, disk, download, reason};
use farrier_identity::{Identity, Role};
use farrier_proto::images::{GetImageRequest, Image, ReleaseImageRequest, ReserveImageRequest};
use tonic::{Code, Status};

const OPERATION: &str = "operations/o1";

fn scheduler(bench: &Bench) -> Client {
    bench.client(Identity::Service("scheduler".into()))
}

async fn reserve(client: &mut Client, id: &str, operation: &str) -> Result<i64, Status> {
    let image = Image {
        name: format!("images/{id}"),
        owner: "red".into(),
        description: "of web".into(),
        architecture: "aarch64".into(),
        ..Image::default()
    };
    let request =
        ReserveImageRequest { image: Some(image), rack: "racks/r1".into(), operation: operation.into() };
    Ok(client.reserve_image(request).await?.into_inner().max_bytes)
}

async fn release(client: &mut Client, id: &str, operation: &str) -> Option<Image> {
    let request = ReleaseImageRequest { name: format!("images/{id}"), operation: operation.into() };
    client.release_image(request).await.unwrap().into_inner().image
}

/// What a rack sends, lies included.
fn from_rack(id: &str, operation: &str) -> Upload {
    let mut upload = Upload::raw(id, disk()).with(|image| {
        image.owner = "blue".into();
        image.description = "the rack's own words".into();
    });
    upload.header.request_id = operation.into();
    upload
}

#[track_caller]
fn not_allowed(answer: (Code, String, Status)) {
    assert_eq!((answer.0, answer.1.as_str()), (Code::PermissionDenied, "NOT_ALLOWED"), "{:?}", answer.2);
}

#[tokio::test]
async fn a_rack_uploads_under_its_reservation_and_nowhere_else() {
    let bench = Bench::start().await;
    let (mut rack, mut scheduler) = (bench.rack(), scheduler(&bench));
    let mut other = bench.client(Identity::Rack("r2".into()));
    not_allowed(from_rack("golden", OPERATION).refused(&mut rack).await);
    assert!(reserve(&mut scheduler, "golden", OPERATION).await.unwrap() > 0);
    // Another rack, another operation's id, no id, another name.
    not_allowed(from_rack("golden", OPERATION).refused(&mut other).await);
    not_allowed(from_rack("golden", "operations/o2").refused(&mut rack).await);
    not_allowed(from_rack("golden", "").refused(&mut rack).await);
    not_allowed(from_rack("silver", OPERATION).refused(&mut rack).await);

    let image = from_rack("golden", OPERATION).send(&mut rack).await.unwrap();
    // Whose it is and what it is, the scheduler has said.
    assert_eq!((image.owner.as_str(), image.description.as_str()), ("red", "of web"));
    assert_eq!(image.architecture, "aarch64");
    assert!(download(&mut rack, &image, 0).await.1 == disk());
    let mut red = bench.user(Role::Reader, "red");
    red.get_image(GetImageRequest { name: image.name.clone() }).await.unwrap();
    let hidden = bench.member().get_image(GetImageRequest { name: image.name.clone() }).await;
    assert_eq!(hidden.unwrap_err().code(), Code::NotFound);

    // The answer was lost: the same again is the same image; other bytes are not.
    assert_eq!(from_rack("golden", OPERATION).send(&mut rack).await.unwrap().uid, image.uid);
    let mut changed = Upload::raw("golden", vec![9; 512]);
    changed.header.request_id = OPERATION.into();
    assert_eq!(changed.refused(&mut rack).await.1, "REQUEST_ID_REUSED");
    // A scheduler that asks again after the upload finds its own image in no way.
    reserve(&mut scheduler, "golden", OPERATION).await.unwrap();

    assert_eq!(release(&mut scheduler, "golden", OPERATION).await.map(|i| i.uid), Some(image.uid));
    not_allowed(from_rack("golden", OPERATION).refused(&mut rack).await);
}

#[tokio::test]
async fn a_reserved_name_is_taken_until_it_is_released() {
    let mut bench = Bench::start().await;
    let mut scheduler_client = scheduler(&bench);
    Upload::raw("old", disk()).send(&mut bench.operator()).await.unwrap();
    for (id, operation) in [("old", OPERATION), ("golden", OPERATION)] {
        let answer = reserve(&mut scheduler_client, id, operation).await;
        assert_eq!(answer.is_ok(), id == "golden");
        assert!(answer.err().is_none_or(|status| reason(&status) == "NAME_TAKEN"));
    }
    assert_eq!(
        reason(&reserve(&mut scheduler_client, "golden", "operations/o2").await.unwrap_err()),
        "NAME_TAKEN"
    );
    let (code, why, _) = Upload::raw("golden", disk()).refused(&mut bench.member()).await;
    assert_eq!((code, why.as_str()), (Code::AlreadyExists, "NAME_TAKEN"));

    // It outlives a restart, and another operation does not end it.
    bench.restart().await;
    let mut scheduler = scheduler(&bench);
    assert_eq!(release(&mut scheduler, "golden", "operations/o2").await, None);
    assert_eq!(Upload::raw("golden", disk()).refused(&mut bench.member()).await.1, "NAME_TAKEN");
    assert_eq!(release(&mut scheduler, "golden", OPERATION).await, None);
    // Twice is no error.
    assert_eq!(release(&mut scheduler, "golden", OPERATION).await, None);
    let image = Upload::raw("golden", disk()).send(&mut bench.member()).await.unwrap();
    // Somebody else's image is not what came of the reservation.
    assert_eq!(release(&mut scheduler, "golden", OPERATION).await, None);
    assert_eq!(image.owner, "blue");
}

#[tokio::test]
async fn an_upload_whose_reservation_ends_meanwhile_makes_no_image() {
    let bench = Bench::start().await;
    let (mut rack, mut scheduler) = (bench.rack(), scheduler(&bench));
    reserve(&mut scheduler, "golden", OPERATION).await.unwrap();
    let (parts, received) = tokio::sync::mpsc::channel(1);
    let mut messages = from_rack("golden", OPERATION).messages().into_iter();
    let uploading = tokio::spawn(async move {
        rack.upload_image(tokio_stream::wrappers::ReceiverStream::new(received)).await
    });
    // The second piece is taken when the header was: the upload is under way.
    parts.send(messages.next().unwrap()).await.unwrap();
    parts.send(messages.next().unwrap()).await.unwrap();
    bench.an_upload_is_under_way().await;
    assert_eq!(release(&mut scheduler, "golden", OPERATION).await, None);
    for message in messages {
        parts.send(message).await.unwrap();
    }
    drop(parts);
    let status = uploading.await.unwrap().unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::PermissionDenied, "NOT_ALLOWED"));
    assert!(bench.files("disks").is_empty());
    bench.no_temporary_files().await;
}

#[tokio::test]
async fn only_what_can_be_an_image_is_reserved() {
    let bench = Bench::start().await;
    let mut scheduler = scheduler(&bench);
    let good = || ReserveImageRequest {
        image: Some(Image { name: "images/a".into(), ..Image::default() }),
        rack: "racks/r1".into(),
        operation: OPERATION.into(),
    };
    type Change = fn(&mut ReserveImageRequest);
    let rows: [(&str, Change); 6] = [
        ("image", |r| r.image = None),
        ("name", |r| r.image.as_mut().unwrap().name = "a".into()),
        ("image.architecture", |r| r.image.as_mut().unwrap().architecture = "vax".into()),
        ("image.description", |r| r.image.as_mut().unwrap().description = "x".repeat(1025)),
        ("rack", |r| r.rack = "r1".into()),
        ("operation", |r| r.operation = String::new()),
    ];
    for (field, change) in rows {
        let mut bad = good();
        change(&mut bad);
        let status = scheduler.reserve_image(bad).await.unwrap_err();
        assert!(status.message().starts_with(field), "{field}: {}", status.message());
    }
}
