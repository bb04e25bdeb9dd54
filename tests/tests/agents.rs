//! A ramdisk's certificate opens the session of its own task, and only while that runs.

use crate::bench::{Bench, PATIENCE, spec, within};
use farrier_identity::Identity;
use farrier_proto::agent::session_request::{Hello, Report};
use farrier_proto::agent::{SessionRequest, SessionResponse};
use farrier_proto::rack::task_spec::Work;
use farrier_proto::rack::{GetTaskRequest, Inspect, StepState, Task, TaskState};
use farrier_runtime::error::reason_of;
use farrier_sim::pretend::Mishaps;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

type Session = (mpsc::Sender<SessionRequest>, Streaming<SessionResponse>);

async fn open(bench: &Bench, who: &str) -> Result<Session, Status> {
    let hello = Hello { boot_id: "boot".into(), ..Hello::default() };
    let (tx, rx) = mpsc::channel(4);
    tx.send(SessionRequest { report: Some(Report::Hello(hello)) }).await.unwrap();
    let mut agent = bench.agent(Identity::Node(who.to_owned()));
    let orders = within(agent.session(ReceiverStream::new(rx))).await?.into_inner();
    Ok((tx, orders))
}

fn waits(task: &Task) -> bool {
    task.steps.iter().any(|s| s.name == "wait_agent" && s.state() == StepState::Running)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agents_certificate_opens_its_own_tasks_session_and_none_after_the_end() {
    let bench = Bench::start().await;
    let nodes = vec![bench.node(1).await, bench.node(2).await];
    for (node, id) in nodes.iter().zip(["t1", "t2"]) {
        // It boots and hangs: whoever calls is this test.
        node.set_mishaps(Mishaps { hang_before_agent: true, ..Mishaps::default() });
        bench.start_task(id, 1, spec(node, Work::Inspect(Inspect {}))).await.unwrap();
        bench.until(id, waits).await;
    }
    // Another task of the same node, another node with the same task, a node without a task, nobody's task.
    for foreign in ["n1.t2", "n2.t1", "n1", "n1.t3", "t1"] {
        let status = open(&bench, foreign).await.expect_err(foreign);
        assert_eq!(status.code(), Code::PermissionDenied, "{foreign}: {status:?}");
        assert_eq!(reason_of(&status).as_deref(), Some("NOT_ALLOWED"), "{foreign}");
    }
    let (_reports, mut orders) = open(&bench, "n1.t1").await.unwrap();
    bench.until("t1", |task| !waits(task)).await;
    let other = bench.rack.clone().get_task(GetTaskRequest { id: "t2".into() }).await.unwrap().into_inner();
    assert!(waits(&other), "the other node's task heard nothing: {other:#?}");

    let ended = bench.abort("t1", "enough").await;
    assert_ne!(ended.state(), TaskState::Running);
    // The session ends with its task, and its certificate, still valid, opens none any more.
    let drained = async { while let Ok(Some(_)) = orders.message().await {} };
    tokio::time::timeout(PATIENCE, drained).await.expect("the session ends");
    let status = open(&bench, "n1.t1").await.expect_err("its task has ended");
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    assert!(status.message().contains("has ended"), "{status:?}");
    bench.stop(nodes).await;
}
