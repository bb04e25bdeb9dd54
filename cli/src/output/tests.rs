//! Golden outputs of each noun. The clock stands still, so no time has to be redacted.

use super::*;
use farrier_proto::inventory::{
    Bmc, BmcHealth, Event, Explanation, Flavor, JoinToken, MachineHealth, MachineIdentity, Node, Observation,
    Port, Rack, Site,
};
use farrier_proto::rack::{
    BootEvent, KnownMachines, RackStatus, Segment, SegmentRole, Step, StepState, TaskResult,
};
use farrier_proto::scheduler::{
    Instance, InstanceState, Operation, OperationError, OperationPhase, OperationType, Rejection,
};
use farrier_proto::types::{Cpu, Disk, Hardware, Neighbour, Nic, OwnBmc, PowerState, ProvisionState};
use prost_types::Timestamp;
use std::time::{Duration, UNIX_EPOCH};

const NOON: i64 = 1_767_268_800;

fn at(seconds_ago: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds: NOON - seconds_ago, nanos: 500_000_000 })
}

fn printer(format: Format) -> Printer {
    Printer { format, colour: false, now: UNIX_EPOCH + Duration::from_secs(1_767_268_801) }
}

/// All four forms of a list, and the form of one, in one file per noun.
fn golden<T: Resource>(name: &str, items: &[T]) {
    let mut text = String::new();
    for format in [Format::Table, Format::Wide, Format::Json, Format::Yaml] {
        text.push_str(&format!("=== list, {format:?}\n{}", printer(format).render_list(items).unwrap()));
    }
    text.push_str(&format!("=== one, Table\n{}", printer(Format::Table).render_one(&items[0]).unwrap()));
    insta::assert_snapshot!(name, text);
}

fn labels() -> std::collections::HashMap<String, String> {
    [("row", "a"), ("gen", "12")].map(|(k, v)| (k.to_owned(), v.to_owned())).into()
}

fn node() -> Node {
    Node {
        name: "nodes/n1".into(),
        uid: "0190".into(),
        rack: "racks/r1".into(),
        rack_unit: 7,
        bmc: Some(Bmc {
            driver: "ipmi".into(),
            address: "10.0.0.9".into(),
            user: "admin".into(),
            password: "never shown".into(),
            password_set: true,
            cipher_suite: 17,
            ..Bmc::default()
        }),
        architecture: "x86_64".into(),
        traits: vec!["NVME".into(), "TPM2".into()],
        labels: labels(),
        state: ProvisionState::DeployFailed.into(),
        state_time: at(200),
        power_state: PowerState::On.into(),
        observation: Some(Observation {
            power_state: PowerState::Off.into(),
            power_time: at(75),
            power_differs: true,
            bmc_health: BmcHealth::Unreachable.into(),
            bmc_time: at(15),
            bmc_problem: "BMC 10.0.0.9:623 is unreachable".into(),
            bmc_changes: 9,
            bmc_changes_since: at(600),
            bmc_change_time: at(15),
            bmc_flapping: true,
            driver: "ipmi".into(),
            machine_health: MachineHealth::Critical.into(),
            machine_problem: "drive fault".into(),
            machine: Some(MachineIdentity {
                uuid: "00112233-4455-6677-8899-aabbccddeeff".into(),
                ..Default::default()
            }),
            ..Observation::default()
        }),
        hardware: Some(Hardware {
            cpu: Some(Cpu { architecture: "x86_64".into(), thread_count: 64, ..Cpu::default() }),
            memory_bytes: 256 << 30,
            disks: vec![Disk { name: "/dev/nvme0n1".into(), size_bytes: 960_197_124_096, ..Disk::default() }],
            nics: vec![Nic {
                name: "eno1".into(),
                mac_address: "52:54:00:00:00:01".into(),
                link_up: true,
                neighbour: Some(Neighbour {
                    chassis_id: "02:00:00:00:0a:01".into(),
                    port_id: "Ethernet1/7".into(),
                    system_name: "tor-a1".into(),
                    management_addresses: vec!["10.0.0.2".into()],
                    vlan: 103,
                    ..Neighbour::default()
                }),
                ..Nic::default()
            }],
            own_bmc: Some(OwnBmc {
                mac_address: "52:54:00:00:00:99".into(),
                ip_address: "10.0.0.9".into(),
                ..OwnBmc::default()
            }),
            ..Hardware::default()
        }),
        instance: "instances/web".into(),
        last_error: "boot_network: expected a DHCP request, saw none in 300 s".into(),
        fence: 4,
        etag: "e1".into(),
        create_time: at(90_000),
        ..Node::default()
    }
}

#[test]
fn site() {
    golden(
        "site",
        &[Site {
            name: "sites/ber".into(),
            uid: "u".into(),
            description: "Berlin".into(),
            labels: labels(),
            etag: "e".into(),
            create_time: at(60),
            update_time: None,
        }],
    );
}

#[test]
fn rack() {
    golden(
        "rack",
        &[Rack {
            name: "racks/r1".into(),
            site: "sites/ber".into(),
            address: "https://r1:7443".into(),
            create_time: at(7200),
            ..Rack::default()
        }],
    );
}

#[test]
fn nodes() {
    let idle = Node {
        name: "nodes/n2".into(),
        rack: "racks/r1".into(),
        state: 99,
        maintenance: true,
        ..Node::default()
    };
    golden("node", &[node(), idle]);
}

#[test]
fn no_password_is_ever_printed() {
    for format in [Format::Table, Format::Wide, Format::Json, Format::Yaml] {
        let text =
            printer(format).render_list(&[node()]).unwrap() + &printer(format).render_one(&node()).unwrap();
        assert!(!text.contains("never shown"), "{text}");
    }
}

#[test]
fn explanation() {
    golden(
        "explanation",
        &[Explanation {
            node: None,
            summary: "n1 is deploy failed since 3m".into(),
            expected: "a DHCP request from 52:54:00:00:00:01".into(),
            observed: "nothing".into(),
            actions: vec!["look at the cable".into(), "farrier node boot-trace n1".into()],
            verbs: vec!["undeploy".into()],
        }],
    );
}

#[test]
fn port() {
    golden(
        "port",
        &[Port {
            name: "ports/52-54-00-00-00-01".into(),
            node: "nodes/n1".into(),
            mac_address: "52:54:00:00:00:01".into(),
            pxe_enabled: true,
            switch_name: "tor1".into(),
            switch_port: "swp4".into(),
            ..Port::default()
        }],
    );
}

#[test]
fn flavor() {
    golden(
        "flavor",
        &[Flavor {
            name: "flavors/big".into(),
            architecture: "x86_64".into(),
            cpu_count: 64,
            memory_bytes: 256 << 30,
            disk_bytes: 480_000_000_000,
            traits: vec!["NVME".into()],
            ..Flavor::default()
        }],
    );
}

#[test]
fn image() {
    use farrier_proto::images::{Compression, Image, ImageFormat};
    golden(
        "image",
        &[Image {
            name: "images/ubuntu".into(),
            sha256: "ab".repeat(32),
            format: ImageFormat::Qcow2.into(),
            compression: Compression::Zstd.into(),
            architecture: "x86_64".into(),
            disk_bytes: 2 << 30,
            stored_bytes: 700 << 20,
            file_bytes: 300 << 20,
            used_by: vec!["instances/db".into(), "instances/web".into()],
            create_time: at(60),
            ..Image::default()
        }],
    );
}

#[test]
fn instance() {
    golden(
        "instance",
        &[Instance {
            name: "instances/web".into(),
            flavor: "flavors/big".into(),
            image: "images/ubuntu".into(),
            user_data: b"#cloud-config secret".to_vec(),
            ssh_keys: vec!["ssh-ed25519 AAAA".into()],
            state: InstanceState::Active.into(),
            addresses: vec!["10.1.0.5".into()],
            placed_node: "nodes/n1".into(),
            create_time: at(600),
            ..Instance::default()
        }],
    );
}

#[test]
fn operation() {
    let running = Operation {
        name: "operations/01".into(),
        r#type: OperationType::Deploy.into(),
        target: "instances/web".into(),
        node: "nodes/n1".into(),
        rack: "racks/r1".into(),
        phase: OperationPhase::Running.into(),
        steps: vec![Step {
            name: "write_image".into(),
            state: StepState::Running.into(),
            start_time: at(30),
            attempt: 1,
            done_bytes: 1 << 30,
            total_bytes: 2 << 30,
            ..Step::default()
        }],
        actor: "spiffe://farrier/user/ada".into(),
        create_time: at(100),
        ..Operation::default()
    };
    let failed = Operation {
        name: "operations/02".into(),
        r#type: OperationType::Deploy.into(),
        target: "instances/db".into(),
        phase: OperationPhase::Failed.into(),
        done: true,
        error: Some(OperationError {
            reason: "NO_NODE_FITS".into(),
            message: "no node fits flavors/big".into(),
            rejections: vec![Rejection { node: "nodes/n1".into(), reason: "is active".into() }],
        }),
        result: Some(TaskResult { addresses: vec!["10.1.0.5".into()], ..TaskResult::default() }),
        create_time: at(100),
        end_time: at(58),
        ..Operation::default()
    };
    golden("operation", &[running, failed]);
}

#[test]
fn event() {
    golden(
        "event",
        &[Event {
            sequence: 41,
            time: at(10),
            actor: "spiffe://farrier/user/ada".into(),
            resource: "nodes/n1".into(),
            action: "manage".into(),
            before: "enroll".into(),
            after: "verifying".into(),
            operation: "operations/01".into(),
            detail: String::new(),
        }],
    );
}

#[test]
fn rack_daemon() {
    golden(
        "rack_status",
        &[RackStatus {
            rack: "racks/r1".into(),
            version: "0.1.0".into(),
            segments: vec![Segment {
                name: "prov".into(),
                interface: "br0".into(),
                address: "10.90.0.1/24".into(),
                role: SegmentRole::Provisioning.into(),
            }],
            running_task_count: 2,
            start_time: at(100),
            known_machines: Some(KnownMachines { generation: 7, port_count: 40, read_time: at(160) }),
            abilities: vec!["rotate-to-account".into()],
        }],
    );
    golden(
        "boot_trace",
        &[MacBootEvent {
            mac_address: "52:54:00:00:00:01".into(),
            event: BootEvent {
                time: at(9),
                kind: "dhcp discover".into(),
                detail: "arch 7".into(),
                r#type: farrier_proto::rack::BootEventType::DhcpDiscover.into(),
                ..BootEvent::default()
            },
        }],
    );
    golden("join_token", &[JoinToken { token: "fj1.x.y".into(), expire_time: at(-3600) }]);
}

#[test]
fn an_empty_list_is_its_header_or_an_empty_array() {
    assert_eq!(printer(Format::Json).render_list::<Site>(&[]).unwrap(), "[]\n");
    assert_eq!(printer(Format::Table).render_list::<Site>(&[]).unwrap(), "NAME  DESCRIPTION  LABELS  AGE\n");
}
