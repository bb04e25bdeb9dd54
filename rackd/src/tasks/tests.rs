use super::*;
use farrier_proto::rack::{
    Clean, Deploy, Fence, Inspect, Power, Recovery, RotateBmcCredentials, Snapshot, UpdateFirmware, Verify,
};

fn specs() -> Vec<TaskSpec> {
    let mut works = vec![
        Work::Verify(Verify::default()),
        Work::Inspect(Inspect {}),
        Work::Clean(Clean::default()),
        Work::Deploy(Deploy::default()),
        Work::Deploy(Deploy { method: DeployMethod::Diskless.into(), ..Deploy::default() }),
        Work::Deploy(Deploy {
            method: DeployMethod::Diskless.into(),
            recovery: Some(Recovery::default()),
            ..Deploy::default()
        }),
        Work::Snapshot(Snapshot::default()),
        Work::Fence(Fence::default()),
        Work::RotateBmcCredentials(RotateBmcCredentials::default()),
        Work::UpdateFirmware(UpdateFirmware::default()),
    ];
    for action in
        [PowerAction::On, PowerAction::Off, PowerAction::SoftOff, PowerAction::Cycle, PowerAction::Reset]
    {
        works.push(Work::Power(Power { action: action.into() }));
    }
    works.into_iter().map(|work| TaskSpec { machine: None, work: Some(work) }).collect()
}

#[test]
fn no_task_is_empty_and_none_has_a_step_twice() {
    for spec in specs() {
        let names = step_names(&spec);
        assert!(!names.is_empty());
        let mut unique = names.clone();
        unique.sort_unstable();
        unique.dedup();
        // Agent commands are remembered by task and step name: a name twice would skip the second.
        assert_eq!(unique.len(), names.len(), "{names:?}");
    }
}

#[test]
fn what_a_machine_needs_to_run_is_made_again_network_and_disk_included() {
    let lasting =
        |spec: &TaskSpec| plan(spec).into_iter().filter(|s| s.lasts()).map(Step::name).collect::<Vec<_>>();
    assert_eq!(lasting(&specs()[3]), ["plug_tenant", "publish_local_disk"]);
    for diskless in &specs()[4..6] {
        assert_eq!(lasting(diskless), ["plug_tenant", "offer_volume", "publish_san"]);
    }
}

#[test]
fn a_deployment_has_two_power_cycles_and_ends_with_the_systems_word() {
    let names = step_names(&specs()[3]);
    assert_eq!(names.iter().filter(|n| matches!(**n, "power_on" | "start_system")).count(), 2);
    assert_eq!(names.last(), Some(&"wait_system"));
}
