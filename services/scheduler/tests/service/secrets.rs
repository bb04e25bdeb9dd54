//! User data: given, used, never told and never at rest in clear.

use crate::fixture::{Fixture, create, inner, within};
use farrier_proto::rack::task_spec::Work;
use farrier_proto::rack::{TaskResult, TaskState};
use farrier_proto::scheduler::*;

const SECRET: &[u8] = b"#cloud-config\npassword: hunter2-0123456789\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn user_data_reaches_the_rack_and_is_neither_told_nor_stored_in_clear() {
    let f = Fixture::start().await;
    f.available("n1").await;
    let mut member = f.member("blue");
    let mut request = create("web");
    request.instance.as_mut().unwrap().user_data = SECRET.to_vec();
    let operation = member.create_with(request).await.unwrap();
    member.until(&operation.name, |op| op.waiting.contains("closed")).await;
    // Before the rack has it, with the write-ahead log.
    let files = f.database_files();
    assert!(!files.is_empty());
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(SECRET.len()).any(|w| w == SECRET), "{}", file.display());
    }
    assert!(member.instance("web").await.unwrap().user_data.is_empty());
    let list = inner(member.instances.list_instances(ListInstancesRequest::default()).await).unwrap();
    assert!(list.instances.iter().all(|i| i.user_data.is_empty()) && list.instances.len() == 1);

    f.rack.open();
    let task = within(f.rack.taken(&operation.name)).await;
    let Some(Work::Deploy(deploy)) = task.spec.unwrap().work else { panic!("expected a deployment") };
    assert_eq!(deploy.user_data, SECRET);
    f.rack.end(&task.id, TaskState::Done, "", TaskResult::default());
    let done = member.done(&operation.name).await;
    assert!(!format!("{done:?}").contains("hunter2"));
}
