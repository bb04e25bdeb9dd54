use super::*;
use farrier_proto::rack::{Task, TaskState};
use std::net::Ipv4Addr;

async fn journal() -> (tempfile::TempDir, Journal) {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(&dir.path().join("journal.db")).await.unwrap();
    (dir, journal)
}

fn record(id: &str, node: &str, fence: i64) -> Record {
    let mut task = Task { id: id.into(), node: node.into(), fence, ..Task::default() };
    task.set_state(TaskState::Running);
    Record { task, sealed: b"sealed".to_vec() }
}

#[tokio::test]
async fn the_same_task_again_is_known_and_another_content_is_refused() {
    let (_dir, journal) = journal().await;
    assert!(matches!(journal.accept(record("t", "nodes/a", 1)).await, Ok(Accepted::New(_))));
    assert!(matches!(journal.accept(record("t", "nodes/a", 1)).await, Ok(Accepted::Known(_))));
    assert!(matches!(journal.accept(record("t", "nodes/b", 1)).await, Err(JournalError::Differs { .. })));
}

#[tokio::test]
async fn a_stale_fence_changes_nothing() {
    let (_dir, journal) = journal().await;
    journal.accept(record("new", "nodes/a", 5)).await.unwrap();
    let refused = journal.accept(record("old", "nodes/a", 4)).await;
    assert!(matches!(refused, Err(JournalError::StaleFence { seen: 5, given: 4, .. })), "{refused:?}");
    assert!(journal.get("old").await.unwrap().is_none());
    assert!(journal.accept(record("other", "nodes/b", 1)).await.is_ok());
}

#[tokio::test]
async fn changes_are_followed_in_order_and_survive_a_new_start() {
    let (dir, journal) = journal().await;
    for id in ["a", "b"] {
        journal.accept(record(id, &format!("nodes/{id}"), 1)).await.unwrap();
    }
    let mut a = journal.get("a").await.unwrap().unwrap().task;
    a.set_state(TaskState::Done);
    journal.save(&mut a, None).await.unwrap();
    drop(journal);
    let journal = Journal::open(&dir.path().join("journal.db")).await.unwrap();
    let ids: Vec<_> = journal.since(1, 10).await.unwrap().into_iter().map(|t| (t.id, t.sequence)).collect();
    assert_eq!(ids, [("b".to_owned(), 2), ("a".to_owned(), 3)]);
    assert_eq!(*journal.latest().borrow(), 3);
    let unfinished: Vec<_> = journal.unfinished().await.unwrap().into_iter().map(|r| r.task.id).collect();
    assert_eq!(unfinished, ["b"]);
}

#[tokio::test]
async fn a_second_task_of_one_owner_waits_and_a_newer_owner_does_not() {
    let (_dir, journal) = journal().await;
    journal.accept(record("one", "nodes/a", 5)).await.unwrap();
    let refused = journal.accept(record("two", "nodes/a", 5)).await.unwrap_err();
    assert!(matches!(&refused, JournalError::Busy { task, .. } if task == "one"), "{refused}");
    assert!(journal.get("two").await.unwrap().is_none());
    journal.accept(record("newer", "nodes/a", 6)).await.unwrap();
    let mut one = journal.get("one").await.unwrap().unwrap().task;
    let unfinished: Vec<_> = journal.unfinished().await.unwrap().into_iter().map(|r| r.task.id).collect();
    assert_eq!(unfinished, ["one", "newer"]);
    // Even when the older changed last, its newer owner comes last when resuming and first when looking back.
    journal.save(&mut one, None).await.unwrap();
    let unfinished: Vec<_> = journal.unfinished().await.unwrap().into_iter().map(|r| r.task.id).collect();
    assert_eq!(unfinished, ["one", "newer"]);
    let back: Vec<_> = journal.of_node("nodes/a").await.unwrap().into_iter().map(|r| r.task.id).collect();
    assert_eq!(back, ["newer", "one"]);
    one.set_state(TaskState::Aborted);
    journal.save(&mut one, None).await.unwrap();
    assert_eq!(journal.nodes().await.unwrap(), ["nodes/a"]);
    journal.forget(&["one".into(), "newer".into()]).await.unwrap();
    let left: Vec<_> = journal.of_node("nodes/a").await.unwrap().into_iter().map(|r| r.task.id).collect();
    assert_eq!(left, ["newer"], "a running task is never forgotten");
}

#[tokio::test]
async fn a_machine_keeps_its_address_and_a_full_pool_says_so() {
    let (_dir, journal) = journal().await;
    let (first, last) = ("10.0.0.10".parse().unwrap(), "10.0.0.11".parse().unwrap());
    let (all, none) = (|_: &str| true, |_: Ipv4Addr| false);
    let a = journal.address("p", "aa", first, last, all, none).await.unwrap();
    let b = journal.address("p", "bb", first, last, all, none).await.unwrap();
    assert_ne!(a, b);
    assert_eq!(journal.address("p", "aa", first, last, all, none).await.unwrap(), a);
    assert_eq!(journal.address("other", "cc", first, last, all, none).await.unwrap(), a);
    let full = journal.address("p", "cc", first, last, all, none).await.unwrap_err();
    assert!(full.to_string().contains("all 2 addresses"), "{full}");
    // A machine that is gone gives way; one that is there keeps what it has.
    let left = journal.address("p", "cc", first, last, |mac| mac != "bb", none).await.unwrap();
    assert_eq!(left, b);
    assert_eq!(journal.address("p", "aa", first, last, all, none).await.unwrap(), a);
}

#[tokio::test]
async fn an_address_whose_lease_runs_is_nobody_elses() {
    let (_dir, journal) = journal().await;
    let (first, last) = (Ipv4Addr::new(10, 0, 0, 10), Ipv4Addr::new(10, 0, 0, 13));
    let nobody = |_: &str| false;
    // Of machines that the journal never heard of: it was lost.
    let other = Ipv4Addr::new(10, 0, 0, 12);
    let given = |mac: &'static str, leased: fn(Ipv4Addr) -> bool| {
        journal.address("p", mac, first, last, nobody, leased)
    };
    for mac in ["00:0a", "00:0b", "00:0c"] {
        assert_ne!(given(mac, |ip| ip.octets()[3] == 12).await.unwrap(), other);
    }
    // The lowest one of nobody, but for those that still answer; a machine's own lease keeps it from nothing.
    let left = given("00:0d", |ip| ip.octets()[3] != 11).await.unwrap();
    assert_eq!(left, Ipv4Addr::new(10, 0, 0, 11));
    assert_eq!(given("00:0d", |_| true).await.unwrap(), left);
    let full = given("00:0e", |_| true).await.unwrap_err();
    assert!(matches!(full, JournalError::PoolExhausted { .. }), "{full}");
}

#[tokio::test]
async fn where_a_port_asked_last_is_remembered() {
    let (dir, journal) = journal().await;
    for (mac, segment) in [("aa", "row-1"), ("bb", "row-1"), ("aa", "row-2")] {
        journal.set_home(mac, segment).await.unwrap();
    }
    drop(journal);
    let again = Journal::open(&dir.path().join("journal.db")).await.unwrap();
    let mut homes: Vec<_> = again.homes().await.unwrap().into_iter().collect();
    homes.sort();
    assert_eq!(homes, [("aa".into(), "row-2".into()), ("bb".into(), "row-1".into())]);
}

#[tokio::test]
async fn addresses_of_another_record_fill_in_what_is_not_known_here() {
    let (_dir, journal) = journal().await;
    let ip = |n: u8| Ipv4Addr::new(10, 90, 0, n);
    journal.restore("row-1", &[("52:54:00:00:00:01".into(), ip(11))]).await.unwrap();
    let had = [
        // Its address here stands, and so does whose 10.90.0.11 is.
        ("52:54:00:00:00:01".to_owned(), ip(12)),
        ("52:54:00:00:00:02".to_owned(), ip(11)),
        ("52:54:00:00:00:03".to_owned(), ip(13)),
        // Said twice, the first counts.
        ("52:54:00:00:00:03".to_owned(), ip(14)),
        ("52:54:00:00:00:04".to_owned(), ip(13)),
    ];
    journal.restore("row-1", &had).await.unwrap();
    let known = journal.addresses("row-1").await.unwrap();
    let expected = [("52:54:00:00:00:01".to_owned(), ip(11)), ("52:54:00:00:00:03".to_owned(), ip(13))];
    assert_eq!(known, expected.into());
    assert!(journal.addresses("row-2").await.unwrap().is_empty());
}
