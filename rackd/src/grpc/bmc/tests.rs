use super::super::rack::RackApi;
use super::*;
use crate::fixture;
use farrier_proto::rack::rack_service_server::RackService as _;
use farrier_proto::rack::task_spec::Work;
use farrier_proto::rack::{
    BiosChange, BootSource, Power, PowerAction, SecureBootKeyReset, StartTaskRequest, Task, TaskSpec,
};
use futures::future::BoxFuture;
use std::net::SocketAddr;
use tokio::net::TcpListener;

const NODE: &str = "nodes/n1";

/// Of a BMC that takes connections and says nothing.
fn machine(bmc: SocketAddr) -> Machine {
    Machine {
        name: NODE.into(),
        // It has all that there is to change.
        bmc_driver: "idrac".into(),
        bmc_scheme: "http".into(),
        bmc_address: bmc.to_string(),
        bmc_user: "admin".into(),
        ..Machine::default()
    }
}

type Ask = fn(BmcApi, Option<Machine>) -> BoxFuture<'static, Result<(), Status>>;

macro_rules! asks {
    ($machine:ident: $($method:ident($request:expr)),* $(,)?) => {
        [$((
            stringify!($method),
            |api: BmcApi, $machine: Option<Machine>| -> BoxFuture<'static, Result<(), Status>> {
                Box::pin(async move { api.$method(Request::new($request)).await.map(drop) })
            },
        )),*]
    };
}

/// All that changes what a BMC of this kind is set to, or what it does.
const CHANGES: [(&str, Ask); 11] = asks![machine:
    reset_bmc(ResetBmcRequest { machine }),
    use_virtual_media(UseVirtualMediaRequest {
        machine,
        action: MediaAction::Insert.into(),
        image_url: "http://192.0.2.1/i.iso".into(),
        ..UseVirtualMediaRequest::default()
    }),
    use_virtual_media(UseVirtualMediaRequest {
        machine,
        action: MediaAction::Eject.into(),
        ..UseVirtualMediaRequest::default()
    }),
    set_bios(SetBiosRequest { machine, changes: vec![BiosChange::default()] }),
    set_boot_device(SetBootDeviceRequest {
        machine,
        source: BootSource::Disk.into(),
        ..SetBootDeviceRequest::default()
    }),
    set_boot_mode(SetBootModeRequest { machine, boot_mode: types::BootMode::Uefi.into() }),
    set_secure_boot(SetSecureBootRequest { machine, enabled: true }),
    reset_secure_boot_keys(ResetSecureBootKeysRequest {
        machine,
        reset: SecureBootKeyReset::Default.into(),
    }),
    set_boot_order(SetBootOrderRequest { machine, first: vec!["Boot0001".into()] }),
    import_profile(ImportProfileRequest {
        machine,
        shutdown: ProfileShutdown::Forced.into(),
        ..ImportProfileRequest::default()
    }),
    interrupt_machine(InterruptMachineRequest { machine, force: false }),
];

async fn start_task(rack: &Arc<Rack>, machine: Machine) -> Result<Task, Status> {
    let work = Work::Power(Power { action: PowerAction::Off.into() });
    let spec = TaskSpec { machine: Some(machine), work: Some(work) };
    let request = StartTaskRequest { id: "1".into(), fence: 1, spec: Some(spec) };
    let api = RackApi { rack: Arc::clone(rack) };
    Ok(api.start_task(Request::new(request)).await?.into_inner())
}

/// A BMC takes up to two minutes to be opened and to do it: work that began meanwhile would be changed under its hands.
#[tokio::test]
async fn no_work_begins_while_somebody_changes_its_bmc_and_nobody_changes_the_bmc_of_work() {
    let dir = tempfile::tempdir().unwrap();
    let rack = fixture::rack(dir.path(), &[9]).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let machine = || machine(silent.local_addr().unwrap());
    for (name, ask) in CHANGES {
        let changing = tokio::spawn(ask(BmcApi { rack: Arc::clone(&rack) }, Some(machine())));
        while rack.changes.keeps_waiting(NODE).is_none() {
            assert!(!changing.is_finished(), "{name}: {:?}", changing.await);
            tokio::task::yield_now().await;
        }
        let refused = start_task(&rack, machine()).await.unwrap_err();
        // The scheduler asks again.
        assert_eq!(refused.code(), Code::Unavailable, "{name}");
        assert!(refused.message().contains("somebody is changing what the BMC of nodes/n1"), "{refused}");
        assert!(rack.journal.get("1").await.unwrap().is_none() && rack.tasks.all().is_empty(), "{name}");
        // Who asked has gone.
        changing.abort();
        assert!(changing.await.unwrap_err().is_cancelled());
        assert_eq!(rack.changes.keeps_waiting(NODE), None, "{name}");
    }
    start_task(&rack, machine()).await.unwrap();
    for (name, ask) in CHANGES {
        let refused = ask(BmcApi { rack: Arc::clone(&rack) }, Some(machine())).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{name}");
        assert!(refused.message().contains("operations/1 works on nodes/n1"), "{name}: {refused}");
    }
    assert_eq!(rack.changes.keeps_waiting(NODE), None);
    rack.shutdown.cancel();
}

/// The two that change a BMC wait for each other too.
#[tokio::test]
async fn a_bmc_on_its_way_to_another_address_is_not_changed() {
    let dir = tempfile::tempdir().unwrap();
    let rack = fixture::rack(dir.path(), &[9]).await;
    let _moving = rack.moves.begin(NODE).unwrap();
    let machine = machine(([127, 0, 0, 1], 1).into());
    let (_, reset) = CHANGES[0];
    let refused = reset(BmcApi { rack: Arc::clone(&rack) }, Some(machine)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("on its way to another address: wait for it"), "{refused}");
}
