//! The same behaviour on SQLite and on PostgreSQL.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use farrier_db_testing::Postgres;
use farrier_images_store::{DeleteError, Filter, InsertError, Reservation, ReserveError, Store};
use farrier_proto::images::Image;

async fn on_sqlite(check: impl AsyncFn(&Store)) {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/images.db", dir.path().display());
    check(&Store::open(&url).await.unwrap()).await;
    // A second start finds the schema done.
    Store::open(&url).await.unwrap();
}

async fn on_postgres(check: impl AsyncFn(&Store)) {
    let postgres = Postgres::start();
    let url = postgres.database().await;
    check(&Store::open(&url).await.unwrap()).await;
    Store::open(&url).await.unwrap();
}

#[tokio::test]
async fn sqlite() {
    on_sqlite(everything).await;
}

#[tokio::test]
async fn postgres() {
    on_postgres(everything).await;
}

async fn everything(store: &Store) {
    an_image_comes_back_as_it_went(store).await;
    a_name_is_taken_once(store).await;
    lists_are_filtered_and_paged(store).await;
    a_stale_etag_deletes_nothing(store).await;
    the_last_image_of_a_disk_is_told(store).await;
    one_of_many_wins(store).await;
    a_reservation_keeps_a_name_for_one_operation(store).await;
}

fn image(id: &str, owner: &str, manifest: &str) -> Image {
    Image {
        name: format!("images/{id}"),
        uid: format!("uid-{id}-{manifest}"),
        description: "for tests".into(),
        owner: owner.into(),
        sha256: format!("sha-{id}"),
        architecture: "x86_64".into(),
        manifest_sha256: manifest.into(),
        disk_bytes: 512,
        create_time: Some(prost_types::Timestamp { seconds: 5, nanos: 0 }),
        ..Image::default()
    }
}

async fn clear(store: &Store) {
    for stored in store.list(&Filter::default(), None, 1000).await.unwrap() {
        store.delete(&stored.image.name, "").await.unwrap();
    }
}

async fn an_image_comes_back_as_it_went(store: &Store) {
    let inserted = store.insert(&image("a", "p", "m"), "r1", false).await.unwrap();
    assert_eq!(inserted.request_id, "r1");
    assert_eq!(Image { etag: String::new(), ..inserted.image.clone() }, image("a", "p", "m"));
    assert!(!inserted.image.etag.is_empty());
    assert_eq!(store.image("images/a").await.unwrap(), Some(inserted));
    assert_eq!(store.image("images/b").await.unwrap(), None);
    assert!(store.image("nodes/a").await.is_err());
    clear(store).await;
}

async fn a_name_is_taken_once(store: &Store) {
    let first = store.insert(&image("a", "p", "m"), "r1", false).await.unwrap();
    match store.insert(&image("a", "q", "n"), "r2", false).await {
        Err(InsertError::Taken(existing)) => assert_eq!(*existing, first),
        other => panic!("{other:?}"),
    }
    clear(store).await;
}

async fn lists_are_filtered_and_paged(store: &Store) {
    for (id, owner) in [("a", "p"), ("b", "q"), ("c", ""), ("c-2", "p"), ("d", "p")] {
        store.insert(&image(id, owner, "m"), "", false).await.unwrap();
    }
    let names = async |filter: Filter, after: Option<&str>, limit| -> Vec<String> {
        let found = store.list(&filter, after, limit).await.unwrap();
        found.into_iter().map(|stored| stored.image.name.replace("images/", "")).collect()
    };
    let project = |p: &str| Filter { visible_to: Some(p.into()), ..Filter::default() };
    assert_eq!(names(Filter::default(), None, 9).await.len(), 5);
    assert_eq!(names(project("q"), None, 9).await, ["b", "c"]);
    assert_eq!(names(Filter { owner: Some("p".into()), ..project("q") }, None, 9).await, [""; 0]);
    assert_eq!(names(Filter { owner: Some("p".into()), ..Filter::default() }, None, 9).await.len(), 3);
    assert_eq!(names(Filter { name: Some("images/a".into()), ..Filter::default() }, None, 9).await, ["a"]);
    assert_eq!(names(Filter { name: Some("nonsense".into()), ..Filter::default() }, None, 9).await, [""; 0]);
    assert_eq!(names(Filter { sha256: Some("sha-d".into()), ..Filter::default() }, None, 9).await, ["d"]);
    assert_eq!(
        names(Filter { architecture: Some("m68k".into()), ..Filter::default() }, None, 9).await,
        [""; 0]
    );
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = names(Filter::default(), after.as_deref(), 2).await;
        let Some(last) = page.last() else { break };
        after = Some(format!("images/{last}"));
        seen.extend(page);
    }
    seen.sort();
    assert_eq!(seen, ["a", "b", "c", "c-2", "d"]);
    clear(store).await;
}

async fn a_stale_etag_deletes_nothing(store: &Store) {
    let first = store.insert(&image("a", "p", "m"), "", false).await.unwrap().image.etag;
    store.delete("images/a", &first).await.unwrap();
    assert!(matches!(store.delete("images/a", "").await, Err(DeleteError::NotFound)));
    // The same name again is another image.
    let second = store.insert(&image("a", "p", "n"), "", false).await.unwrap().image.etag;
    assert_ne!(first, second);
    assert!(matches!(store.delete("images/a", &first).await, Err(DeleteError::Stale)));
    store.delete("images/a", &second).await.unwrap();
}

async fn the_last_image_of_a_disk_is_told(store: &Store) {
    for (id, manifest) in [("a", "m"), ("b", "m"), ("c", "n")] {
        store.insert(&image(id, "p", manifest), "", false).await.unwrap();
    }
    let manifests = store.manifests().await.unwrap();
    assert_eq!(manifests, ["m".to_owned(), "n".to_owned()].into());
    assert!(!store.delete("images/a", "").await.unwrap().last);
    let last = store.delete("images/b", "").await.unwrap();
    assert!(last.last && last.manifest_sha256 == "m");
    clear(store).await;
}

async fn one_of_many_wins(store: &Store) {
    let tries = (0..16).map(|i| {
        let store = store.clone();
        tokio::spawn(async move { store.insert(&image("race", "p", &format!("m{i}")), "", false).await })
    });
    let mut won = 0;
    for result in tries.collect::<Vec<_>>() {
        match result.await.unwrap() {
            Ok(_) => won += 1,
            Err(InsertError::Taken(_)) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(won, 1);
    clear(store).await;
}

async fn a_reservation_keeps_a_name_for_one_operation(store: &Store) {
    clear(store).await;
    let kept = |operation: &str, expires_ms| Reservation {
        image: "images/kept".into(),
        owner: "p".into(),
        description: "d".into(),
        architecture: String::new(),
        rack: "racks/r1".into(),
        operation: operation.into(),
        expires_ms,
    };
    // Images of these tests are made at second 5.
    store.reserve(&kept("operations/a", 9000), 1000).await.unwrap();
    store.reserve(&kept("operations/a", 10_000), 1000).await.unwrap();
    let taken = store.reserve(&kept("operations/b", 9000), 1000).await;
    assert!(matches!(taken, Err(ReserveError::Taken)), "{taken:?}");
    assert_eq!(store.reservation("images/kept", 1000).await.unwrap(), Some(kept("operations/a", 10_000)));
    assert_eq!(store.reservation("images/kept", 10_000).await.unwrap(), None);
    for (request, reserved) in [("operations/b", true), ("operations/a", false), ("", false)] {
        let refused = store.insert(&image("kept", "p", "m"), request, reserved).await;
        assert!(matches!(refused, Err(InsertError::Reservation)), "{refused:?}");
    }
    store.insert(&image("kept", "p", "m"), "operations/a", true).await.unwrap();
    // What came of it is told, also when it is asked for again.
    store.reserve(&kept("operations/a", 10_000), 1000).await.unwrap();
    let told = store.release("images/kept", "operations/a").await.unwrap();
    assert_eq!(told.map(|stored| stored.image.name), Some("images/kept".into()));
    let taken = store.reserve(&kept("operations/b", 9000), 1000).await;
    assert!(matches!(taken, Err(ReserveError::Taken)), "{taken:?}");
    clear(store).await;
    // One that was forgotten ends by itself.
    store.reserve(&kept("operations/a", 4000), 1000).await.unwrap();
    store.insert(&image("kept", "p", "m"), "", false).await.unwrap();
    clear(store).await;
    store.reserve(&kept("operations/b", 9000), 4000).await.unwrap();
    assert!(store.release("images/kept", "operations/b").await.unwrap().is_none());
}
