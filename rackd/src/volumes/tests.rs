use super::*;
use std::process::Command;
use std::time::Duration;

struct Bench {
    dir: tempfile::TempDir,
    volumes: Volumes,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("image"), vec![7; 1 << 20]).unwrap();
        let volumes = Volumes {
            targets: Targets::new(Limits::default()),
            port: 3260,
            rack: "r1".into(),
            dir: dir.path().join("volumes"),
            vault: Arc::new(Vault::open_or_create(&dir.path().join("key")).unwrap()),
            disk: Disk::new(PATIENCE),
            offers: broadcast::Sender::new(OFFERS),
            open: Slots::default(),
        };
        Self { dir, volumes }
    }
    async fn make(&self, instance: &str, node: &str, task: &str) {
        let new = NewVolume {
            instance,
            node,
            task,
            image: open_image(&self.dir.path().join("image")).unwrap(),
            manifest_sha256: "abc",
            bytes: 2 << 20,
            seed: vec![0; 4 << 20],
        };
        self.volumes.ensure_volume(new).await.unwrap();
    }
    async fn offer(&self, instance: &str, node: &str) -> Result<Access, VolumeError> {
        let image = open_image(&self.dir.path().join("image")).unwrap();
        let task = self.volumes.record(instance).await.map(|(_, record)| record.task).unwrap_or_default();
        self.volumes.offer_volume(instance, node, &task, image).await
    }
    /// By the task that made it, to the first node: nobody has to ask the record who that is.
    async fn offer_first(&self, instance: &str) -> Result<Access, VolumeError> {
        let image = open_image(&self.dir.path().join("image")).unwrap();
        self.volumes.offer_volume(instance, "nodes/n1", "t1", image).await
    }
    /// As far as the turn that somebody else has.
    async fn until_it_waits<T>(&self, instance: &str, mut work: impl Future<Output = T> + Unpin) {
        // The map's, this one, the turn's, and then that of who waits.
        while Arc::strong_count(&self.volumes.open.slot(instance)) < 4 {
            assert!(futures::poll!(&mut work).is_pending());
            tokio::task::yield_now().await;
        }
    }
    fn write(&self, instance: &str) {
        let files = self.volumes.files(instance);
        let base = open_image(&self.dir.path().join("image")).unwrap();
        let overlay = Overlay::open(&files.overlay, base, "abc").unwrap();
        overlay.write_at(&[9; 512], 0).unwrap();
        overlay.flush().unwrap();
    }
    fn first_byte(&self, instance: &str) -> u8 {
        let files = self.volumes.files(instance);
        let base = open_image(&self.dir.path().join("image")).unwrap();
        let overlay = Overlay::open(&files.overlay, base, "abc").unwrap();
        let mut byte = [0; 512];
        overlay.read_at(&mut byte, 0).unwrap();
        byte[0]
    }
}

#[tokio::test]
async fn a_volume_is_kept_by_its_own_task_and_made_anew_by_another() {
    let bench = Bench::new();
    bench.make("instances/web", "nodes/n1", "t1").await;
    bench.write("web");
    bench.make("instances/web", "nodes/n1", "t1").await;
    assert_eq!(bench.first_byte("web"), 9);
    bench.make("instances/web", "nodes/n1", "t2").await;
    assert_eq!(bench.first_byte("web"), 7);
    // Killed before it was whole: made again.
    bench.write("web");
    std::fs::remove_file(bench.volumes.files("web").seed).unwrap();
    bench.make("instances/web", "nodes/n1", "t2").await;
    assert_eq!(bench.first_byte("web"), 7);
}

#[tokio::test]
async fn a_node_is_offered_its_own_and_dropping_leaves_the_others() {
    let bench = Bench::new();
    bench.make("web", "nodes/n1", "t1").await;
    bench.make("db", "nodes/n2", "t2").await;
    let web = bench.offer("web", "nodes/n1").await.unwrap();
    let db = bench.offer("db", "nodes/n2").await.unwrap();
    assert_eq!(web.target, "iqn.2026-11.dev.farrier:r1:volume:web");
    assert_eq!(web.initiator, "iqn.2026-11.dev.farrier:r1:node:n1");
    assert_eq!(bench.volumes.drop_volumes("nodes/n1").await.unwrap(), ["web"]);
    assert_eq!(bench.volumes.targets.names(), [db.target]);
    assert!(matches!(bench.offer("web", "nodes/n1").await, Err(VolumeError::NoVolume { .. })));
    // Again is no error: the step may have been cut off behind it.
    assert!(bench.volumes.drop_volumes("nodes/n1").await.unwrap().is_empty());
    bench.volumes.withdraw("nodes/n2").await;
    assert!(bench.volumes.targets.names().is_empty());
    bench.offer("db", "nodes/n2").await.unwrap();
}

#[tokio::test]
async fn a_volume_moves_whole_and_its_first_machine_is_offered_it_no_more() {
    let bench = Bench::new();
    bench.make("web", "nodes/n1", "t1").await;
    bench.write("web");
    let first = bench.offer("web", "nodes/n1").await.unwrap();
    let volumes = &bench.volumes;
    let image = || open_image(&bench.dir.path().join("image")).unwrap();
    let offer = async |node: &str, task: &str| volumes.offer_volume("web", node, task, image()).await;
    assert!(matches!(volumes.give("db", "nodes/n1", "nodes/n2").await, Err(VolumeError::NoVolume { .. })));
    assert!(matches!(volumes.give("web", "nodes/n3", "nodes/n2").await, Err(VolumeError::Elsewhere { .. })));
    assert_eq!(volumes.targets.names(), std::slice::from_ref(&first.target), "a refusal disturbs nobody");

    volumes.give("web", "nodes/n1", "nodes/n2").await.unwrap();
    volumes.give("web", "nodes/n1", "nodes/n2").await.unwrap();
    assert!(volumes.targets.names().is_empty());
    let owner = |task: &str, seed_of: &str| Owner {
        node: "nodes/n2".into(),
        task: task.into(),
        seed_of: seed_of.into(),
    };
    assert_eq!(volumes.owner("web").await.unwrap(), owner("", "t1"));
    // Neither the old machine's task nor one that has not taken it over.
    for (node, task) in [("nodes/n1", "t1"), ("nodes/n2", "t2"), ("nodes/n2", "t1")] {
        assert!(matches!(offer(node, task).await, Err(VolumeError::Elsewhere { .. })), "{node} {task}");
    }
    assert!(volumes.drop_volumes("nodes/n1").await.unwrap().is_empty(), "it is not n1's any more");

    assert!(volumes.adopt("web", "nodes/n1", "t1", vec![1; 512]).await.is_err());
    volumes.adopt("web", "nodes/n2", "t2", vec![1; 512]).await.unwrap();
    volumes.adopt("web", "nodes/n2", "t2", vec![2; 512]).await.unwrap();
    assert_eq!(std::fs::read(volumes.files("web").seed).unwrap(), [1; 512]);
    assert!(volumes.adopt("web", "nodes/n2", "t3", vec![3; 512]).await.is_err());
    assert_eq!(volumes.owner("web").await.unwrap(), owner("t2", "t2"));
    let second = offer("nodes/n2", "t2").await.unwrap();
    assert_eq!(second.target, first.target);
    assert_ne!(second.initiator, first.initiator);
    assert!(offer("nodes/n1", "t1").await.is_err());
    let mut byte = [0; 512];
    let volume = volumes.volume("web", "nodes/n2", |_| None).await.unwrap();
    volume.overlay.read_at(&mut byte, 0).unwrap();
    assert_eq!(byte[0], 9, "what was written is there");

    // And to the same machine again, by another task: the secrets of the last one have the user data.
    volumes.give("web", "nodes/n2", "nodes/n2").await.unwrap();
    assert_eq!(volumes.owner("web").await.unwrap(), owner("", "t2"));
    assert!(offer("nodes/n2", "t2").await.is_err());
    volumes.adopt("web", "nodes/n2", "t4", vec![4; 512]).await.unwrap();
    offer("nodes/n2", "t4").await.unwrap();
    assert_eq!(volumes.drop_volumes("nodes/n2").await.unwrap(), ["web"]);
}

#[tokio::test]
async fn a_move_ends_although_its_task_was_stopped_in_it() {
    let bench = Bench::new();
    bench.make("web", "nodes/n1", "t1").await;
    {
        let moving = std::pin::pin!(bench.volumes.give("web", "nodes/n1", "nodes/n2"));
        // Begun, and dropped: as a task that is stopped drops its step.
        assert!(futures::poll!(moving).is_pending());
    }
    // Whoever asks now waits for the end of it.
    assert_eq!(bench.volumes.owner("web").await.unwrap().node, "nodes/n2");
}

#[tokio::test]
async fn tasks_that_a_volume_needs_are_known_also_after_it_moved() {
    let bench = Bench::new();
    assert!(bench.volumes.tasks().await.unwrap().is_empty());
    bench.make("web", "nodes/n1", "t1").await;
    bench.volumes.give("web", "nodes/n1", "nodes/n2").await.unwrap();
    assert!(bench.volumes.tasks().await.unwrap().contains("t1"), "its user data is in this task's secrets");
}

#[tokio::test]
async fn what_is_done_to_one_volume_does_not_wait_for_another() {
    let bench = Bench::new();
    bench.make("web", "nodes/n1", "t1").await;
    let turn = bench.volumes.open.turn("web").await;
    // As long as this is held nothing happens to it; to others everything.
    bench.make("db", "nodes/n2", "t2").await;
    bench.offer("db", "nodes/n2").await.unwrap();
    bench.volumes.give("db", "nodes/n2", "nodes/n3").await.unwrap();
    assert_eq!(bench.volumes.drop_volumes("nodes/n3").await.unwrap(), ["db"]);
    let mut dropping = std::pin::pin!(bench.volumes.drop_volumes("nodes/n1"));
    bench.until_it_waits("web", &mut dropping).await;
    drop(turn);
    assert_eq!(dropping.await.unwrap(), ["web"]);
}

#[tokio::test]
async fn a_volume_that_moves_while_its_node_is_cleaned_is_not_dropped() {
    let bench = Bench::new();
    bench.make("web", "nodes/n1", "t1").await;
    let turn = bench.volumes.open.turn("web").await;
    // It waits behind the one who is about to give the volume away.
    let mut dropping = std::pin::pin!(bench.volumes.drop_volumes("nodes/n1"));
    bench.until_it_waits("web", &mut dropping).await;
    let files = bench.volumes.files("web");
    let record = Record { node: "nodes/n2".into(), ..read_record(&files.record).unwrap().unwrap() };
    write_record(&files.record, &record).unwrap();
    drop(turn);
    assert!(dropping.await.unwrap().is_empty());
    assert!(files.overlay.exists());
}

#[tokio::test]
async fn a_volume_grows_under_its_machine_and_never_shrinks() {
    let bench = Bench::new();
    bench.make("web", "nodes/n1", "t1").await;
    let volumes = &bench.volumes;
    assert!(matches!(volumes.grow("web", 4 << 20).await, Err(VolumeError::NotOffered { .. })));
    assert!(matches!(volumes.grow("db", 4 << 20).await, Err(VolumeError::NoVolume { .. })));
    bench.offer("web", "nodes/n1").await.unwrap();
    assert!(matches!(volumes.grow("web", 1 << 20).await, Err(VolumeError::Shrinks { .. })));
    assert!(matches!(volumes.grow("web", (4 << 20) + 1).await, Err(VolumeError::Overlay { .. })));
    assert_eq!(volumes.grow("web", 4 << 20).await.unwrap(), "nodes/n1");
    let shown = volumes.shown("").await.unwrap();
    assert_eq!(shown.len(), 1);
    assert_eq!((shown[0].instance.as_str(), shown[0].size_bytes), ("web", 4 << 20));
    assert!(volumes.shown("nodes/n2").await.unwrap().is_empty());
    // It has that size in its file.
    volumes.withdraw("nodes/n1").await;
    assert_eq!(Overlay::peek(&volumes.files("web").overlay).unwrap().size, 4 << 20);
}

#[tokio::test]
async fn a_disk_that_hangs_is_told_and_holds_up_what_is_its_own_alone() {
    let mut bench = Bench::new();
    bench.make("web", "nodes/n1", "t1").await;
    bench.make("db", "nodes/n2", "t2").await;
    let record = bench.volumes.files("web").record;
    let kept = std::fs::read(&record).unwrap();
    std::fs::remove_file(&record).unwrap();
    // Whoever opens it waits until somebody writes.
    assert!(Command::new("mkfifo").arg(&record).status().unwrap().success());
    let mut offers = bench.volumes.offers();
    // What hangs is not begun again. Nothing that does not hang is waited for as shortly.
    bench.volumes.disk.patience = Duration::from_millis(300);
    for _ in 0..3 {
        assert!(matches!(bench.offer_first("web").await, Err(VolumeError::Hangs { .. })));
        assert!(matches!(bench.volumes.images().await, Err(VolumeError::Hangs { .. })));
        let Offer::Failed(told) = offers.try_recv().unwrap() else { panic!("it cannot be offered") };
        assert_eq!((told.node.as_str(), told.instance.as_str()), ("nodes/n1", "web"));
        assert!(told.reason.contains("expected an answer within"), "{told:?}");
    }
    bench.volumes.disk.patience = PATIENCE;
    assert_eq!(bench.volumes.disk.under_way(), 2, "the volume's own, and a look at all");
    let made = |node: &str, instance: &str| Offer::Made { node: node.into(), instance: instance.into() };
    bench.offer("db", "nodes/n2").await.unwrap();
    assert_eq!(offers.try_recv().unwrap(), made("nodes/n2", "db"));
    // It is back: who waited reads nothing, who asks then what is there.
    let pipe = std::fs::OpenOptions::new().write(true).open(&record).unwrap();
    let whole = record.with_extension("whole");
    std::fs::write(&whole, kept).unwrap();
    std::fs::rename(&whole, &record).unwrap();
    drop(pipe);
    bench.offer_first("web").await.unwrap();
    assert_eq!(offers.try_recv().unwrap(), made("nodes/n1", "web"));
    bench.volumes.images().await.unwrap();
    assert_eq!(bench.volumes.owner_of("iqn.2026-11.dev.farrier:r1:volume:web").as_deref(), Some("nodes/n1"));
}
