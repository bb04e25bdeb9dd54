use super::*;
use farrier_proto::scheduler::{Instance, Operation};

fn new(name: &str, node: &str) -> NewOperation {
    let operation = Operation {
        name: name.into(),
        node: node.into(),
        target: "instances/i".into(),
        ..Operation::default()
    };
    let row = OperationRow {
        operation,
        owner: "p".into(),
        work: Default::default(),
        sealed: Some(b"sealed".to_vec()),
        cancel: String::new(),
    };
    NewOperation { row, request: None, create: None }
}

/// Every promise of the store, on one database.
async fn promises(store: &Store) {
    // The same request makes one operation and one instance.
    let mut first = new("operations/1", "nodes/a");
    first.request = Some(("r1".into(), b"content".to_vec()));
    first.create = Some(Instance { name: "instances/i".into(), owner: "p".into(), ..Instance::default() });
    store.create(first.clone()).await.unwrap();
    let mut again = first.clone();
    again.row.operation.name = "operations/9".into();
    assert_eq!(store.create(again).await.unwrap().name, "operations/1");
    let mut other = first.clone();
    other.request = Some(("r1".into(), b"other".to_vec()));
    assert!(matches!(store.create(other).await, Err(StoreError::RequestIdReused { .. })));
    let mut taken = first.clone();
    taken.request = None;
    taken.row.operation.name = "operations/8".into();
    assert!(matches!(store.create(taken).await, Err(StoreError::NameTaken { .. })));
    assert!(
        matches!(store.operation("operations/8").await, Err(StoreError::NotFound { .. })),
        "all or nothing"
    );

    // A request is answered from the record, also one that got an operation that was there.
    assert_eq!(store.answered("r1", b"content").await.unwrap().unwrap().name, "operations/1");
    assert_eq!(store.answered("r2", b"content").await.unwrap(), None);
    assert!(matches!(store.answered("r1", b"x").await, Err(StoreError::RequestIdReused { .. })));
    for _ in 0..2 {
        store.remember("r2", b"content", "operations/1").await.unwrap();
    }
    assert_eq!(store.answered("r2", b"content").await.unwrap().unwrap().name, "operations/1");
    assert!(matches!(
        store.remember("r2", b"x", "operations/1").await,
        Err(StoreError::RequestIdReused { .. })
    ));

    // Work on a node is in order.
    store.create(new("operations/2", "nodes/a")).await.unwrap();
    assert_eq!(
        store.ahead_of("operations/2", "nodes/a", "x").await.unwrap().as_deref(),
        Some("operations/1")
    );
    assert_eq!(store.unfinished().await.unwrap(), ["operations/1", "operations/2"]);

    // What is done changes no more, and its secrets are gone.
    assert_eq!(store.operation("operations/1").await.unwrap().sealed.as_deref(), Some(&b"sealed"[..]));
    let edited = store
        .edit_with_instance("operations/1", |row, instance| {
            row.operation.done = true;
            instance.placed_node = "nodes/a".into();
        })
        .await
        .unwrap();
    assert!(edited.is_some());
    assert_eq!(store.operation("operations/1").await.unwrap().sealed, None);
    assert!(store.edit("operations/1", |row| row.operation.done = false).await.unwrap().is_none());
    assert_eq!(store.instance("instances/i").await.unwrap().placed_node, "nodes/a");
    assert_eq!(store.ahead_of("operations/2", "nodes/a", "x").await.unwrap(), None);
    store.edit_removing_instance("operations/2", |row| row.operation.done = true).await.unwrap();
    assert!(matches!(store.instance("instances/i").await, Err(StoreError::NotFound { .. })));

    // Cursors.
    assert_eq!(store.cursor("racks/r").await.unwrap(), 0);
    store.set_cursor("racks/r", 5).await.unwrap();
    store.set_cursor("racks/r", 7).await.unwrap();
    assert_eq!(store.cursor("racks/r").await.unwrap(), 7);
}

#[tokio::test]
async fn promises_hold_on_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&format!("sqlite://{}/s.db", dir.path().display())).await.unwrap();
    promises(&store).await;
}

#[tokio::test]
async fn promises_hold_on_postgresql() {
    let postgres = farrier_db_testing::Postgres::start();
    let url = postgres.database().await;
    promises(&Store::open(&url).await.unwrap()).await;
}

#[tokio::test]
async fn concurrent_edits_are_all_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&format!("sqlite://{}/s.db", dir.path().display())).await.unwrap();
    store.create(new("operations/1", "nodes/a")).await.unwrap();
    let edits = (0..20).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { store.edit("operations/1", |row| row.cancel.push('x')).await })
    });
    for edit in edits.collect::<Vec<_>>() {
        edit.await.unwrap().unwrap();
    }
    assert_eq!(store.operation("operations/1").await.unwrap().cancel.len(), 20);
}
