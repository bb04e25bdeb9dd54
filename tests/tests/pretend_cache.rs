//! What happens to a rack's copies of images.

use std::os::unix::fs::FileExt as _;

use farrier_proto::rack::task_spec::Work;
use farrier_proto::rack::{Deploy, TaskState};
use farrier_proto::types::DeployMethod;

use crate::bench::{Bench, deploy};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_rots_on_the_rack_is_repaired_when_the_next_machine_finds_out() {
    let bench = Bench::start().await;
    let (image, content) = bench.image("debian", 24 << 20).await;
    let node = bench.node(1).await;
    assert_eq!(bench.run("first", 1, &node, deploy(&image, "web")).await.state(), TaskState::Done);
    for (id, fence, method) in [("direct", 2, DeployMethod::Direct), ("iscsi", 3, DeployMethod::Iscsi)] {
        rot(&bench.cached(&image), 5 << 20);
        let Work::Deploy(deploy) = deploy(&image, "web") else { unreachable!() };
        let work = Work::Deploy(Deploy { method: method.into(), ..deploy });
        let task = bench.run(id, fence, &node, work).await;
        assert_eq!(task.state(), TaskState::Done, "{}", task.error);
        let step = task.steps.iter().find(|step| step.name == "write_image").unwrap();
        assert!(step.detail.contains("1 damaged chunks"), "{}", step.detail);
        assert!(content.is_on(&node).await);
    }
    bench.stop(vec![node]).await;
}

fn rot(path: &std::path::Path, at: u64) {
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[!byte[0]], at).unwrap();
}
