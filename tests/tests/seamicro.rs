//! Servers of one SeaMicro chassis: deployed through rackd, and switched from the command line.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::bench::{Bench, deploy, spec};
use crate::pretend_site::Site;
use farrier_proto::rack::task_spec::Work;
use farrier_proto::rack::{Inspect, Task, TaskState, Verify};
use farrier_sim::bmc::seamicro::{SeaMicroConfig, SeaMicroFaults, SeaMicroHandle, SeaMicroServer};
use farrier_sim::bmc::{Chassis, MemoryChassis, PowerAction, Secret};
use tokio::net::TcpListener;

async fn chassis(servers: Vec<(String, Arc<dyn Chassis>, Vec<String>)>) -> SeaMicroHandle {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let password = Secret::new("S3cret");
    SeaMicroServer::start(
        listener,
        SeaMicroConfig {
            user: "admin".into(),
            password,
            servers,
            pools: BTreeMap::from([("0/main".into(), 100)]),
        },
    )
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_of_a_chassis_are_deployed_at_once() {
    let bench = Bench::start().await;
    let (image, content) = bench.image("debian", 24 << 20).await;
    let nodes = [bench.node(1).await, bench.node(2).await];
    let servers = nodes
        .iter()
        .enumerate()
        .map(|(n, node)| (format!("{n}/0"), node.chassis(), vec![node.mac_address()]));
    let chassis = chassis(servers.collect()).await;
    // A chassis in the field: busy now and then, and some connections break.
    chassis.set_faults(SeaMicroFaults {
        busy_every: NonZeroU32::new(7),
        drop_every: NonZeroU32::new(13),
        ..SeaMicroFaults::default()
    });
    let run = async |n: usize, name: &str, fence, work| -> Task {
        let mut ordered = spec(&nodes[n], work);
        let machine = ordered.machine.as_mut().unwrap();
        (machine.bmc_driver, machine.bmc_scheme) = ("seamicro".into(), "http".into());
        (machine.bmc_address, machine.bmc_system) = (chassis.address().to_string(), format!("{n}/0"));
        machine.bmc_password = "S3cret".into();
        let id = format!("{name}-{n}");
        bench.start_task(&id, fence, ordered).await.unwrap();
        let task = bench.ended(&id).await;
        assert_eq!(task.state(), TaskState::Done, "{id}: {}", task.error);
        task
    };
    let both = async |n: usize| {
        let verified = run(n, "verify", 1, Work::Verify(Verify::default())).await;
        let told = &verified.steps[0].detail;
        assert!(told.starts_with("driver seamicro, manufacturer SeaMicro"), "{told}");
        assert!(told.contains("1 NICs") && !told.contains("none of"), "{told}");
        let inspected = run(n, "inspect", 2, Work::Inspect(Inspect {})).await;
        let serial = inspected.result.unwrap().hardware.unwrap().system.unwrap().serial_number;
        assert_eq!(serial, nodes[n].name(), "the right one of the two was switched on");
        run(n, "deploy", 3, deploy(&image, &format!("anvil{n}"))).await;
        assert!(content.is_on(&nodes[n]).await);
        let counters = nodes[n].counters();
        assert_eq!((counters.network_boots, counters.disk_boots, counters.phone_homes), (2, 1, 1));
    };
    tokio::join!(both(0), both(1));
    chassis.shutdown().await;
    bench.stop(nodes.into()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_enrolled_and_switched_by_the_command_line() {
    let site = Site::enrolled(0).await;
    let farrier = |args: &[&str]| site.installation.farrier(args).map_err(|error| format!("{error:#}"));
    let machine = Arc::new(MemoryChassis::new());
    let chassis = chassis(vec![("3/0".into(), machine.clone(), vec!["02:00:00:00:00:01".into()])]).await;
    let (address, password) = (chassis.address().to_string(), site.dir.join("password"));
    std::fs::write(&password, "S3cret").unwrap();
    let password = password.to_string_lossy();
    let create = |name: &str, system: &str| {
        farrier(&[
            "node",
            "create",
            name,
            "--rack",
            "r",
            "--bmc-driver",
            "seamicro",
            "--bmc-scheme",
            "http",
            "--bmc-address",
            &address,
            "--bmc-system",
            system,
            "--bmc-user",
            "admin",
            "--bmc-password-file",
            &password,
        ])
    };
    create("sm", "3/0").unwrap();
    create("none", "4/0").unwrap();
    let same = create("twin", "3/0").unwrap_err();
    assert!(same.contains("BMC"), "{same}");
    let bad = create("bad", "3").unwrap_err();
    assert!(bad.contains("two numbers such as 0/0"), "{bad}");
    farrier(&["node", "manage", "sm", "--wait"]).unwrap();
    let none = farrier(&["node", "manage", "none", "--wait"]).unwrap_err();
    assert!(none.contains("expected server 4/0"), "{none}");
    farrier(&["node", "power", "on", "sm", "--wait"]).unwrap();
    farrier(&["node", "power", "off", "sm", "--wait", "--yes"]).unwrap();
    assert_eq!(machine.actions(), [PowerAction::On, PowerAction::Off]);
    let capabilities = farrier(&["node", "capabilities", "sm"]).unwrap();
    assert!(capabilities.contains("driver seamicro has no sensors"), "{capabilities}");
    let json = |told: String| serde_json::from_str::<serde_json::Value>(&told).unwrap();
    let set = ["node", "vlans", "set", "sm", "nic0", "--untagged", "5", "--tagged", "7,9", "-o", "json"];
    let vlans = json(farrier(&set).unwrap());
    assert_eq!(vlans, serde_json::json!([{ "nic": "nic0", "untagged": [5], "tagged": [7, 9] }]));
    assert_eq!(json(farrier(&["node", "vlans", "show", "sm", "-o", "json"]).unwrap()), vlans);
    let twice = farrier(&["node", "vlans", "set", "sm", "nic0", "--tagged", "7,7"]).unwrap_err();
    assert!(twice.contains("each once"), "{twice}");
    let no_nic = farrier(&["node", "vlans", "set", "sm", "nic9"]).unwrap_err();
    assert!(no_nic.contains("nic0"), "{no_nic}");
    let create =
        ["node", "volume", "create", "sm", "--pool", "0/main", "--volume", "root1", "--size-gb", "30"];
    let made = json(farrier(&[&create[..], &["-o", "json"]].concat()).unwrap());
    assert_eq!(
        (&made["created"], &made["pools"][0]["free_gb"]),
        (&"0/main/root1".into(), &70.into()),
        "{made}"
    );
    let attach = ["node", "volume", "attach", "sm", "0/main/root1", "--yes", "-o", "json"];
    assert_eq!(json(farrier(&attach).unwrap())["root"], "0/main/root1");
    farrier(&["node", "volume", "detach", "sm", "--yes"]).unwrap();
    assert_eq!(json(farrier(&["node", "volume", "show", "sm", "-o", "json"]).unwrap())["root"], "");
    let history = farrier(&["event", "list", "--resource", "sm", "-o", "json"]).unwrap();
    for words in ["set vlans", "nic0: untagged 5, tagged 7, 9", "create volume", "set root volume"] {
        assert!(history.contains(words), "expected {words:?} in {history}");
    }
    let history = farrier(&["event", "list", "--resource", "none", "-o", "json"]).unwrap();
    assert!(!history.contains("S3cret"), "{history}");
    chassis.shutdown().await;
    site.shutdown().await;
}
