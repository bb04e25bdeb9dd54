//! An image that instances need stays, and says who they are.

use crate::bench::{Bench, Client, Upload, disk, download, reason};
use farrier_identity::{Identity, Role};
use farrier_proto::images::{
    DeleteImageRequest, DropHoldRequest, GetImageRequest, HoldImageRequest, Image, ListImagesRequest,
};
use tonic::{Code, Status};

async fn hold(client: &mut Client, image: &Image, instance: &str, owner: &str) -> Result<(), Status> {
    let request = HoldImageRequest {
        name: image.name.clone(),
        manifest_sha256: image.manifest_sha256.clone(),
        instance: format!("instances/{instance}"),
        owner: owner.into(),
    };
    client.hold_image(request).await.map(drop)
}

async fn drop_hold(client: &mut Client, instance: &str) {
    let request = DropHoldRequest { instance: format!("instances/{instance}") };
    client.drop_hold(request).await.unwrap();
}

async fn delete(client: &mut Client, image: &Image) -> Result<(), Status> {
    let request = DeleteImageRequest { name: image.name.clone(), etag: String::new() };
    client.delete_image(request).await.map(drop)
}

async fn used_by(client: &mut Client, image: &Image) -> Vec<String> {
    let request = GetImageRequest { name: image.name.clone() };
    let got = client.get_image(request).await.unwrap().into_inner().used_by;
    let listed = client.list_images(ListImagesRequest::default()).await.unwrap().into_inner().images;
    assert_eq!(listed.iter().find(|i| i.name == image.name).unwrap().used_by, got);
    got
}

#[tokio::test]
async fn an_image_is_not_deleted_while_an_instance_needs_it_not_even_after_a_restart() {
    let mut bench = Bench::start().await;
    let scheduler = Identity::Service("scheduler".into());
    let image = Upload::raw("os", disk()).with(|image| image.owner = "".into());
    let image = image.send(&mut bench.operator()).await.unwrap();
    for (instance, owner) in [("web", "blue"), ("web", "blue"), ("db", "red")] {
        hold(&mut bench.client(scheduler.clone()), &image, instance, owner).await.unwrap();
    }
    bench.restart().await;
    let (mut operator, mut scheduler) = (bench.operator(), bench.client(scheduler));
    let refused = delete(&mut operator, &image).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "IN_USE"));
    assert!(refused.message().contains("in use by instances/db, instances/web:"), "{}", refused.message());
    assert_eq!(used_by(&mut operator, &image).await, ["instances/db", "instances/web"]);
    // A rack reads on.
    assert!(download(&mut bench.rack(), &image, 0).await.1 == disk());
    drop_hold(&mut scheduler, "db").await;
    drop_hold(&mut scheduler, "db").await;
    assert_eq!(reason(&delete(&mut operator, &image).await.unwrap_err()), "IN_USE");
    drop_hold(&mut scheduler, "web").await;
    assert!(used_by(&mut operator, &image).await.is_empty());
    delete(&mut operator, &image).await.unwrap();
    assert!(bench.files("disks").is_empty());
    assert_eq!(hold(&mut scheduler, &image, "web", "blue").await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn whose_instances_need_an_image_is_told_to_their_own_project_only() {
    let bench = Bench::start().await;
    let mut scheduler = bench.client(Identity::Service("scheduler".into()));
    let mut red = bench.user(Role::Member, "red");
    let image = Upload::raw("os", disk()).with(|image| image.owner = "red".into());
    let image = image.send(&mut red).await.unwrap();
    for n in 0..12 {
        hold(&mut scheduler, &image, &format!("r{n:02}"), "red").await.unwrap();
    }
    hold(&mut scheduler, &image, "secret", "blue").await.unwrap();
    assert_eq!(used_by(&mut red, &image).await.len(), 12);
    let refused = delete(&mut red, &image).await.unwrap_err();
    assert!(refused.message().contains("instances/r09, 3 more:"), "{}", refused.message());
    assert!(!refused.message().contains("secret"), "{}", refused.message());
}

#[tokio::test]
async fn only_the_scheduler_holds_and_only_what_it_means() {
    let bench = Bench::start().await;
    let mut operator = bench.operator();
    let image = Upload::raw("os", disk()).send(&mut operator).await.unwrap();
    let refused = hold(&mut operator, &image, "web", "").await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let mut scheduler = bench.client(Identity::Service("scheduler".into()));
    let other = Image { manifest_sha256: "0".repeat(64), ..image.clone() };
    let refused = hold(&mut scheduler, &other, "web", "").await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "IMAGE_CHANGED"));
    assert_eq!(hold(&mut scheduler, &image, "../web", "").await.unwrap_err().code(), Code::InvalidArgument);
    delete(&mut operator, &image).await.unwrap();
}
