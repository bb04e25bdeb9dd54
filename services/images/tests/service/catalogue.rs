//! Names, lists, projects, deletion, restart.

use crate::bench::{Bench, Client, Upload, disk, download, reason};
use farrier_db_testing::Postgres;
use farrier_identity::{Identity, Role};
use farrier_proto::images::{DeleteImageRequest, GetImageRequest, ListImagesRequest};
use tonic::{Code, Status};

async fn get(client: &mut Client, name: &str) -> Result<String, Status> {
    Ok(client.get_image(GetImageRequest { name: name.into() }).await?.into_inner().uid)
}

async fn delete(client: &mut Client, name: &str, etag: &str) -> Result<(), Status> {
    client.delete_image(DeleteImageRequest { name: name.into(), etag: etag.into() }).await.map(|_| ())
}

/// Every page of two.
async fn list(client: &mut Client, filter: &str) -> Vec<String> {
    let (mut names, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListImagesRequest { page_size: 2, page_token, filter: filter.into() };
        let page = client.list_images(request).await.unwrap().into_inner();
        assert!(page.images.len() <= 2);
        names.extend(page.images.into_iter().map(|image| image.name.replace("images/", "")));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return names;
        }
    }
}

async fn upload(client: &mut Client, id: &str, owner: &str, content: Vec<u8>) {
    Upload::raw(id, content).with(|image| image.owner = owner.into()).send(client).await.unwrap();
}

#[tokio::test]
async fn a_foreign_project_sees_nothing() {
    let bench = Bench::start().await;
    let mut operator = bench.operator();
    for (id, owner) in [("b1", "blue"), ("b2", "blue"), ("r1", "red"), ("all", ""), ("b3", "blue")] {
        upload(&mut operator, id, owner, vec![1; 512]).await;
    }
    let (mut blue, mut red) = (bench.member(), bench.user(Role::Member, "red"));
    assert_eq!(list(&mut blue, "").await, ["all", "b1", "b2", "b3"]);
    assert_eq!(list(&mut red, "").await, ["all", "r1"]);
    assert_eq!(list(&mut operator, "").await.len(), 5);
    assert_eq!(list(&mut bench.client(Identity::Service("scheduler".into())), "").await.len(), 5);
    assert_eq!(list(&mut operator, "owner=blue AND name=images/b2").await, ["b2"]);
    assert_eq!(list(&mut red, "owner=blue").await, [""; 0]);
    assert_eq!(list(&mut red, "architecture=aarch64").await, [""; 0]);
    for (filter, token) in [("colour=red", ""), ("", "!!"), ("", "bm9kZXMvYQ")] {
        let request = ListImagesRequest { page_size: 0, page_token: token.into(), filter: filter.into() };
        assert_eq!(red.list_images(request).await.unwrap_err().code(), Code::InvalidArgument);
    }

    get(&mut blue, "images/b1").await.unwrap();
    get(&mut red, "images/all").await.unwrap();
    for name in ["images/b1", "images/nothing"] {
        assert_eq!(get(&mut red, name).await.unwrap_err().code(), Code::NotFound);
        assert_eq!(delete(&mut red, name, "").await.unwrap_err().code(), Code::NotFound);
    }
    assert_eq!(delete(&mut red, "images/all", "").await.unwrap_err().code(), Code::PermissionDenied);
    let mut reader = bench.user(Role::Reader, "blue");
    get(&mut reader, "images/b1").await.unwrap();
    assert_eq!(delete(&mut reader, "images/b1", "").await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(get(&mut bench.rack(), "images/b1").await.unwrap_err().code(), Code::PermissionDenied);
    delete(&mut blue, "images/b1", "").await.unwrap();
    delete(&mut operator, "images/all", "").await.unwrap();
}

#[tokio::test]
async fn the_last_image_of_a_disk_frees_it() {
    let bench = Bench::start().await;
    let mut member = bench.member();
    upload(&mut member, "a", "", disk()).await;
    upload(&mut member, "b", "", disk()).await;
    assert_eq!(bench.files("disks").len(), 2);
    let etag = member.get_image(GetImageRequest { name: "images/a".into() }).await.unwrap().into_inner().etag;
    let status = delete(&mut member, "images/a", "old").await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Aborted, "STALE_ETAG"));
    delete(&mut member, "images/a", &etag).await.unwrap();
    assert_eq!(bench.files("disks").len(), 2);
    delete(&mut member, "images/b", "").await.unwrap();
    assert!(bench.files("disks").is_empty());
}

async fn a_restart_finds_everything(mut bench: Bench) {
    let image = Upload::raw("a", disk()).send(&mut bench.member()).await.unwrap();
    let before = bench.files("disks");
    let tmp = bench.data().join("tmp/left-by-a-crash");
    std::fs::write(&tmp, b"x").unwrap();
    let orphan = bench.data().join("disks").join(format!("{}.raw", "0".repeat(64)));
    std::fs::write(&orphan, b"x").unwrap();
    bench.restart().await;
    let found =
        bench.member().get_image(GetImageRequest { name: image.name.clone() }).await.unwrap().into_inner();
    assert_eq!(found, image);
    assert!(download(&mut bench.rack(), &image, 0).await.1 == disk());
    assert!(!tmp.exists());
    assert_eq!(bench.files("disks"), before);
}

#[tokio::test]
async fn a_restart_finds_everything_on_sqlite() {
    a_restart_finds_everything(Bench::start().await).await;
}

#[tokio::test]
async fn a_restart_finds_everything_on_postgres() {
    let postgres = Postgres::start();
    let url = postgres.database().await;
    a_restart_finds_everything(Bench::start_on(tempfile::tempdir().unwrap(), url).await).await;
}
