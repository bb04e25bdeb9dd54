use super::*;
use crate::fixture;
use crate::secrets::Secrets;
use farrier_netboot::MacAddr;
use farrier_proto::rack::task_spec::Work;
use farrier_proto::rack::{Clean, Deploy, Machine, MachinePort, Step, Task, TaskSpec, TaskState};

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

fn record(rack: &Rack, id: &str, fence: i64, work: Work) -> Record {
    let port = MachinePort { mac_address: MAC.to_string(), pxe_enabled: true, ..MachinePort::default() };
    let machine = Machine { name: "nodes/n1".into(), ports: vec![port], ..Machine::default() };
    let spec = TaskSpec { machine: Some(machine), work: Some(work) };
    let done = |name: &str| {
        let mut step = Step { name: name.to_owned(), ..Step::default() };
        step.set_state(StepState::Done);
        step
    };
    let steps = crate::step_names(&spec).into_iter().map(done).collect();
    let (id, node) = (id.to_owned(), "nodes/n1".to_owned());
    let sealed = Secrets::default().seal(&rack.vault, &id).unwrap();
    let mut task = Task { id, node, fence, spec: Some(spec), steps, ..Task::default() };
    task.set_state(TaskState::Running);
    Record { task, sealed }
}

/// A deployment to its own disk that has ended well.
async fn deployed(rack: &Rack) -> Record {
    let mut record = record(rack, "d", 1, Work::Deploy(Deploy::default()));
    rack.journal.accept(record.clone()).await.unwrap();
    record.task.set_state(TaskState::Done);
    rack.journal.save(&mut record.task, None).await.unwrap();
    record
}

/// As a task that has just begun, and may yet leave everything as it is.
fn begin_clean(rack: &Arc<Rack>) {
    let clean = record(rack, "c", 2, Work::Clean(Clean::default()));
    rack.tasks.insert(Arc::new(TaskHandle::open(rack, clean).unwrap()));
}

fn is_served(rack: &Rack) -> bool {
    rack.netboot.table().entry(MAC, "row-1").is_some()
}

fn is_restored(rack: &Rack) -> bool {
    !rack.tasks.restored.lock().is_empty()
}

/// Until nobody restores it any more.
async fn restored(rack: &Rack) {
    let restored = async {
        while is_restored(rack) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LAST_PAUSE * 2, restored).await.expect("it ends");
}

#[tokio::test]
async fn an_old_deployment_is_not_served_over_a_task_that_has_the_node_and_is_when_that_left_it() {
    let dir = tempfile::tempdir().unwrap();
    let rack = fixture::rack(dir.path(), &[9]).await;
    let record = deployed(&rack).await;
    begin_clean(&rack);
    restore_unless_taken(&rack, record).await;
    assert!(!is_served(&rack) && is_restored(&rack), "it goes on in the background");
    rack.tasks.remove("c");
    restored(&rack).await;
    assert!(is_served(&rack));
}

#[tokio::test]
async fn a_node_that_is_free_is_served_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let rack = fixture::rack(dir.path(), &[9]).await;
    let record = deployed(&rack).await;
    restore_unless_taken(&rack, record).await;
    assert!(is_served(&rack) && !is_restored(&rack));
}

#[tokio::test]
async fn a_deployment_that_was_taken_back_meanwhile_is_not_served() {
    let dir = tempfile::tempdir().unwrap();
    let rack = fixture::rack(dir.path(), &[9]).await;
    let deployment = deployed(&rack).await;
    rack.journal.accept(record(&rack, "c", 2, Work::Clean(Clean::default()))).await.unwrap();
    restore_unless_taken(&rack, deployment).await;
    restored(&rack).await;
    assert!(!is_served(&rack));
}

/// A fence that touched its machine and took nothing, while rackd still waited for its end.
#[tokio::test]
async fn what_the_nodes_task_has_served_again_is_not_served_a_second_time() {
    let dir = tempfile::tempdir().unwrap();
    let rack = fixture::rack(dir.path(), &[9]).await;
    let record = deployed(&rack).await;
    begin_clean(&rack);
    restore_unless_taken(&rack, record.clone()).await;
    assert!(is_restored(&rack));
    // The task's own word: what it has does not hinder it.
    assert!(restore_finished(&rack, record).await);
    assert!(is_served(&rack) && !is_restored(&rack));
    rack.netboot.update(|table| table.unpublish(MAC, "row-1"));
    rack.tasks.remove("c");
    rack.tracker.close();
    tokio::time::timeout(LAST_PAUSE * 2, rack.tracker.wait()).await.expect("the other one has ended");
    assert!(!is_served(&rack));
}
