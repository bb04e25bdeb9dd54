//! `farrier.rack.v1.BmcService`: what the BMCs of this rack's machines know.

use super::bmc_readings::{event, inventory, sensor};
use super::{bmc_itself, bmc_network, boot_device, boot_order, chassis, firmware};
use crate::bmc::{Access, Changing, Keys};
use crate::rack::Rack;
use farrier_bmc::{
    Bmc, BmcError, BootMode, Capability, Deadline, ProfileFormat as Format, ProfileShutdown as Shutdown,
};
use farrier_model::{Collection, parse_name};
use farrier_proto::rack::bmc_service_server::BmcService;
use farrier_proto::rack::set_bmc_volume_request::Change;
use farrier_proto::rack::{
    BiosSettings, BmcBootDevice, BmcBootMode, BmcBootOrder, BmcCapabilities, BmcCapability, BmcDone,
    BmcEventLog, BmcInventory, BmcNetwork, BmcNetworkChange, BmcNicVlans, BmcPowerDraw, BmcProfile,
    BmcProfileImport, BmcSecureBoot, BmcSecureBootKeys, BmcSensors, BmcTask, BmcVirtualMedia, BmcVolumes,
    BmcWatchdog, ClearBmcEventLogRequest, DisarmWatchdogRequest, ExportProfileRequest, Firmware,
    IdentifyMachineRequest, ImportProfileRequest, InterruptMachineRequest, Machine, MediaAction, NewVolume,
    ProfileFormat, ProfileShutdown, ReadBiosRequest, ReadBmcCapabilitiesRequest, ReadBmcEventLogRequest,
    ReadBmcInventoryRequest, ReadBmcNetworkRequest, ReadBmcPowerDrawRequest, ReadBmcSensorsRequest,
    ReadBmcTaskRequest, ReadBmcVolumesRequest, ReadBootDeviceRequest, ReadBootModeRequest,
    ReadBootOrderRequest, ReadFirmwareRequest, ReadNicVlansRequest, ReadSecureBootKeysRequest,
    ReadSecureBootRequest, ReadWatchdogRequest, ResetBmcRequest, ResetSecureBootKeysRequest, SetBiosRequest,
    SetBmcNetworkRequest, SetBmcVolumeRequest, SetBootDeviceRequest, SetBootModeRequest, SetBootOrderRequest,
    SetNicVlansRequest, SetSecureBootRequest, UseVirtualMediaRequest,
};
use farrier_proto::types;
use farrier_runtime::error::{Reason, invalid, refuse};
use std::sync::Arc;
use std::time::Duration;
use tonic::{Code, Request, Response, Status};

/// Reading a log of thousands of records takes a slow BMC so long.
const PATIENCE: Duration = Duration::from_secs(120);
/// Writing a profile takes an iDRAC one to four minutes.
const EXPORT_PATIENCE: Duration = Duration::from_secs(300);
/// Records of one answer.
const MOST: usize = 10_000;

pub(crate) struct BmcApi {
    pub(crate) rack: Arc<Rack>,
}

#[tonic::async_trait]
impl BmcService for BmcApi {
    async fn read_bmc_event_log(
        &self,
        request: Request<ReadBmcEventLogRequest>,
    ) -> Result<Response<BmcEventLog>, Status> {
        let ReadBmcEventLogRequest { machine, last, log } = request.into_inner();
        let last = match usize::try_from(last) {
            Ok(0) => MOST,
            Ok(last) if last <= MOST => last,
            _ => return Err(invalid("last", format!("expected 0 to {MOST}, saw {last}"))),
        };
        let deadline = Deadline::after(PATIENCE);
        let bmc = self.open(machine, deadline).await?;
        let log = bmc.named_log(&log, last, deadline).await.map_err(|error| bmc_failed(&error))?;
        Ok(Response::new(BmcEventLog {
            events: log.events.into_iter().map(event).collect(),
            total: i64::try_from(log.total).unwrap_or(i64::MAX),
            overflow: log.overflow,
            driver: driver(&bmc, Capability::EventLog),
            log: log.log,
            logs: log.logs,
            warnings: log.warnings,
        }))
    }

    async fn read_bmc_sensors(
        &self,
        request: Request<ReadBmcSensorsRequest>,
    ) -> Result<Response<BmcSensors>, Status> {
        let deadline = Deadline::after(PATIENCE);
        let bmc = self.open(request.into_inner().machine, deadline).await?;
        let read = bmc.sensors(deadline).await.map_err(|error| bmc_failed(&error))?;
        Ok(Response::new(BmcSensors {
            sensors: read.sensors.into_iter().map(sensor).collect(),
            warnings: read.warnings,
            driver: driver(&bmc, Capability::Sensors),
        }))
    }

    async fn read_bmc_inventory(
        &self,
        request: Request<ReadBmcInventoryRequest>,
    ) -> Result<Response<BmcInventory>, Status> {
        let deadline = Deadline::after(PATIENCE);
        let bmc = self.open(request.into_inner().machine, deadline).await?;
        let read = bmc.inventory(deadline).await.map_err(|error| bmc_failed(&error))?;
        Ok(Response::new(inventory(read, driver(&bmc, Capability::Inventory))))
    }

    async fn clear_bmc_event_log(
        &self,
        request: Request<ClearBmcEventLogRequest>,
    ) -> Result<Response<BmcDone>, Status> {
        let ClearBmcEventLogRequest { machine, log } = request.into_inner();
        let deadline = Deadline::after(PATIENCE);
        let bmc = self.open(machine, deadline).await?;
        bmc.clear_named_log(&log, deadline).await.map_err(|error| bmc_failed(&error))?;
        Ok(done(&bmc, Capability::EventLog))
    }

    async fn read_bmc_capabilities(
        &self,
        request: Request<ReadBmcCapabilitiesRequest>,
    ) -> Result<Response<BmcCapabilities>, Status> {
        let (id, access) = access_of(request.into_inner().machine).await?;
        let opened = self.rack.bmc.open(&id, access, Deadline::after(PATIENCE)).await;
        let opened = opened.map_err(|error| bmc_failed(&error))?;
        let passed_over = opened.passed_over.map(|error| error.to_string()).unwrap_or_default();
        Ok(Response::new(capabilities(&opened.bmc, passed_over)))
    }

    async fn read_bmc_power_draw(
        &self,
        request: Request<ReadBmcPowerDrawRequest>,
    ) -> Result<Response<BmcPowerDraw>, Status> {
        let deadline = Deadline::after(PATIENCE);
        let bmc = self.open(request.into_inner().machine, deadline).await?;
        let read = bmc.power_draw(deadline).await.map_err(|error| bmc_failed(&error))?;
        Ok(Response::new(bmc_itself::power_draw(read, driver(&bmc, Capability::PowerDraw))))
    }

    async fn read_bmc_network(
        &self,
        request: Request<ReadBmcNetworkRequest>,
    ) -> Result<Response<BmcNetwork>, Status> {
        let deadline = Deadline::after(PATIENCE);
        let bmc = self.open(request.into_inner().machine, deadline).await?;
        bmc_itself::network(&bmc, deadline).await.map(Response::new)
    }

    async fn set_bmc_network(
        &self,
        request: Request<SetBmcNetworkRequest>,
    ) -> Result<Response<BmcNetworkChange>, Status> {
        let SetBmcNetworkRequest { machine, settings } = request.into_inner();
        let wanted = bmc_network::wanted(&settings.unwrap_or_default())?;
        let machine = machine.ok_or_else(|| invalid("machine", "expected whose BMC it is"))?;
        bmc_network::change(Arc::clone(&self.rack), machine, wanted).await.map(Response::new)
    }

    async fn read_watchdog(
        &self,
        request: Request<ReadWatchdogRequest>,
    ) -> Result<Response<BmcWatchdog>, Status> {
        let deadline = Deadline::after(PATIENCE);
        let bmc = self.open(request.into_inner().machine, deadline).await?;
        bmc_itself::watchdog(&bmc, deadline).await.map(Response::new)
    }

    async fn disarm_watchdog(
        &self,
        request: Request<DisarmWatchdogRequest>,
    ) -> Result<Response<BmcWatchdog>, Status> {
        let deadline = Deadline::after(PATIENCE);
        let bmc = self.open(request.into_inner().machine, deadline).await?;
        bmc_itself::disarm_watchdog(&bmc, deadline).await.map(Response::new)
    }

    async fn use_virtual_media(
        &self,
        request: Request<UseVirtualMediaRequest>,
    ) -> Result<Response<BmcVirtualMedia>, Status> {
        let request = request.into_inner();
        let action = request.action();
        let UseVirtualMediaRequest { machine, image_url, boot_once, force, .. } = request;
        let _changing = match action {
            MediaAction::Show => None,
            // Whoever insists goes between the steps of a task, and before one.
            _ if force => None,
            _ => Some(self.begin(&machine).await?),
        };
        let uefi = machine.as_ref().is_none_or(|machine| machine.boot_mode() != types::BootMode::Bios);
        let deadline = Deadline::after(PATIENCE);
        let bmc = self.open(machine, deadline).await?;
        let (media, boots_once) = match action {
            MediaAction::Unspecified => return Err(invalid("action", "expected show, insert or eject")),
            MediaAction::Show => (bmc.media(deadline).await, false),
            MediaAction::Eject => (bmc.eject_media(deadline).await, false),
            MediaAction::Insert => (bmc.insert_media(&image_url, deadline).await, boot_once),
        };
        let media = media.map_err(|error| bmc_failed(&error))?;
        if boots_once {
            let mode = if uefi { BootMode::Uefi } else { BootMode::Bios };
            bmc.boot_media_once(mode, deadline).await.map_err(|error| bmc_failed(&error))?;
        }
        Ok(Response::new(BmcVirtualMedia {
            inserted: media.inserted,
            image_url: media.image,
            boots_once,
            driver: driver(&bmc, Capability::VirtualMedia),
        }))
    }

    async fn read_bios(&self, request: Request<ReadBiosRequest>) -> Result<Response<BiosSettings>, Status> {
        let deadline = Deadline::after(PATIENCE);
        let bmc = self.open(request.into_inner().machine, deadline).await?;
        let read = bmc.bios(deadline).await.map_err(|error| bmc_failed(&error))?;
        Ok(Response::new(firmware::settings(read, driver(&bmc, Capability::Bios))))
    }

    async fn set_bios(&self, request: Request<SetBiosRequest>) -> Result<Response<BiosSettings>, Status> {
        let SetBiosRequest { machine, changes } = request.into_inner();
        let deadline = Deadline::after(PATIENCE);
        let (_changing, bmc) = self.open_to_change(machine, deadline).await?;
        let changes = changes.into_iter().map(|change| (change.name, change.value)).collect();
        let set = bmc.set_bios(changes, deadline).await.map_err(|error| bmc_failed(&error))?;
        Ok(Response::new(firmware::settings(set, driver(&bmc, Capability::Bios))))
    }

    async fn read_firmware(
        &self,
        request: Request<ReadFirmwareRequest>,
    ) -> Result<Response<Firmware>, Status> {
        let deadline = Deadline::after(PATIENCE);
        let bmc = self.open(request.into_inner().machine, deadline).await?;
        let parts = bmc.firmware(deadline).await.map_err(|error| bmc_failed(&error))?;
        Ok(Response::new(firmware::parts(parts, driver(&bmc, Capability::Firmware))))
    }

    async fn read_bmc_task(&self, request: Request<ReadBmcTaskRequest>) -> Result<Response<BmcTask>, Status> {
        let ReadBmcTaskRequest { machine, task } = request.into_inner();
        // What an update follows by itself may be anywhere; what somebody types is asked for with the BMC's credentials.
        if !task.starts_with("/redfish/") {
            return Err(invalid(
                "task",
                "expected a path below /redfish/; a task elsewhere is followed by the update that began it, and not asked for by hand",
            ));
        }
        let deadline = Deadline::after(PATIENCE);
        let bmc = self.open(machine, deadline).await?;
        let task = bmc.task(&task, deadline).await.map_err(|error| bmc_failed(&error))?;
        Ok(Response::new(firmware::task(task, driver(&bmc, Capability::Firmware))))
    }

    async fn interrupt_machine(
        &self,
        request: Request<InterruptMachineRequest>,
    ) -> Result<Response<BmcDone>, Status> {
        let InterruptMachineRequest { machine, force } = request.into_inner();
        let _changing = if force { None } else { Some(self.begin(&machine).await?) };
        let deadline = Deadline::after(PATIENCE);
        let bmc = self.open(machine, deadline).await?;
        bmc.diagnostic_interrupt(deadline).await.map_err(|error| bmc_failed(&error))?;
        Ok(done(&bmc, Capability::Interrupt))
    }

    async fn reset_bmc(&self, request: Request<ResetBmcRequest>) -> Result<Response<BmcDone>, Status> {
        let machine = request.into_inner().machine;
        let deadline = Deadline::after(PATIENCE);
        let (_changing, bmc) = self.open_to_change(machine, deadline).await?;
        bmc.reset_bmc(deadline).await.map_err(|error| bmc_failed(&error))?;
        Ok(done(&bmc, Capability::ResetBmc))
    }

    async fn read_boot_device(
        &self,
        request: Request<ReadBootDeviceRequest>,
    ) -> Result<Response<BmcBootDevice>, Status> {
        let deadline = Deadline::after(PATIENCE);
        let bmc = self.open(request.into_inner().machine, deadline).await?;
        let seen = bmc.boot_device(deadline).await.map_err(|error| bmc_failed(&error))?;
        Ok(Response::new(boot_device::kept(seen, driver(&bmc, Capability::BootDevice))))
    }

    async fn set_boot_device(
        &self,
        request: Request<SetBootDeviceRequest>,
    ) -> Result<Response<BmcBootDevice>, Status> {
        let request = request.into_inner();
        let wanted = boot_device::wanted(&request)?;
        let deadline = Deadline::after(PATIENCE);
        let (_changing, bmc) = self.open_to_change(request.machine, deadline).await?;
        let seen = bmc.set_boot_device(wanted, deadline).await.map_err(|error| bmc_failed(&error))?;
        Ok(Response::new(boot_device::kept(seen, driver(&bmc, Capability::BootDevice))))
    }

    async fn read_boot_mode(
        &self,
        request: Request<ReadBootModeRequest>,
    ) -> Result<Response<BmcBootMode>, Status> {
        let deadline = Deadline::after(PATIENCE);
        let bmc = self.open(request.into_inner().machine, deadline).await?;
        let state = bmc.boot_mode(deadline).await.map_err(|error| bmc_failed(&error))?;
        Ok(Response::new(boot_device::mode(state, driver(&bmc, Capability::BootMode))))
    }

    async fn set_boot_mode(
        &self,
        request: Request<SetBootModeRequest>,
    ) -> Result<Response<BmcBootMode>, Status> {
        let request = request.into_inner();
        let wanted = boot_device::wanted_mode(request.boot_mode())?;
        let deadline = Deadline::after(PATIENCE);
        let (_changing, bmc) = self.open_to_change(request.machine, deadline).await?;
        let state = bmc.set_boot_mode(wanted, deadline).await.map_err(|error| bmc_failed(&error))?;
        Ok(Response::new(boot_device::mode(state, driver(&bmc, Capability::BootMode))))
    }

    async fn read_secure_boot(
        &self,
        request: Request<ReadSecureBootRequest>,
    ) -> Result<Response<BmcSecureBoot>, Status> {
        let deadline = Deadline::after(PATIENCE);
        let bmc = self.open(request.into_inner().machine, deadline).await?;
        let state = bmc.secure_boot(deadline).await.map_err(|error| bmc_failed(&error))?;
        Ok(Response::new(boot_device::secure_boot(state, driver(&bmc, Capability::SecureBoot))))
    }

    async fn set_secure_boot(
        &self,
        request: Request<SetSecureBootRequest>,
    ) -> Result<Response<BmcSecureBoot>, Status> {
        let SetSecureBootRequest { machine, enabled } = request.into_inner();
        let deadline = Deadline::after(PATIENCE);
        let (_changing, bmc) = self.open_to_change(machine, deadline).await?;
        let state = bmc.set_secure_boot(enabled, deadline).await.map_err(|error| bmc_failed(&error))?;
        Ok(Response::new(boot_device::secure_boot(state, driver(&bmc, Capability::SecureBoot))))
    }

    async fn read_secure_boot_keys(
        &self,
        request: Request<ReadSecureBootKeysRequest>,
    ) -> Result<Response<BmcSecureBootKeys>, Status> {
        let deadline = Deadline::after(PATIENCE);
        let bmc = self.open(request.into_inner().machine, deadline).await?;
        let keys = bmc.secure_boot_keys(deadline).await.map_err(|error| bmc_failed(&error))?;
        Ok(Response::new(boot_order::keys(keys, driver(&bmc, Capability::SecureBoot))))
    }

    async fn reset_secure_boot_keys(
        &self,
        request: Request<ResetSecureBootKeysRequest>,
    ) -> Result<Response<BmcSecureBootKeys>, Status> {
        let request = request.into_inner();
        let to = boot_order::reset(request.reset())?;
        let deadline = Deadline::after(PATIENCE);
        let (_changing, bmc) = self.open_to_change(request.machine, deadline).await?;
        let keys = bmc.reset_secure_boot_keys(to, deadline).await.map_err(|error| bmc_failed(&error))?;
        Ok(Response::new(boot_order::keys(keys, driver(&bmc, Capability::SecureBoot))))
    }

    async fn read_boot_order(
        &self,
        request: Request<ReadBootOrderRequest>,
    ) -> Result<Response<BmcBootOrder>, Status> {
        let deadline = Deadline::after(PATIENCE);
        let bmc = self.open(request.into_inner().machine, deadline).await?;
        let order = bmc.boot_order(deadline).await.map_err(|error| bmc_failed(&error))?;
        Ok(Response::new(boot_order::order(order, driver(&bmc, Capability::BootOrder))))
    }

    async fn set_boot_order(
        &self,
        request: Request<SetBootOrderRequest>,
    ) -> Result<Response<BmcBootOrder>, Status> {
        let SetBootOrderRequest { machine, first } = request.into_inner();
        let deadline = Deadline::after(PATIENCE);
        let (_changing, bmc) = self.open_to_change(machine, deadline).await?;
        let order = bmc.set_boot_order(first, deadline).await.map_err(|error| bmc_failed(&error))?;
        Ok(Response::new(boot_order::order(order, driver(&bmc, Capability::BootOrder))))
    }

    async fn export_profile(
        &self,
        request: Request<ExportProfileRequest>,
    ) -> Result<Response<BmcProfile>, Status> {
        let request = request.into_inner();
        let format = match request.format() {
            ProfileFormat::Unspecified | ProfileFormat::Xml => Format::Xml,
            ProfileFormat::Json => Format::Json,
        };
        let deadline = Deadline::after(EXPORT_PATIENCE);
        let bmc = self.open(request.machine, deadline).await?;
        let profile = bmc.export_profile(format, &request.target, deadline).await;
        let profile = profile.map_err(|error| bmc_failed(&error))?;
        Ok(Response::new(BmcProfile { profile, driver: driver(&bmc, Capability::Profile) }))
    }

    async fn import_profile(
        &self,
        request: Request<ImportProfileRequest>,
    ) -> Result<Response<BmcProfileImport>, Status> {
        let request = request.into_inner();
        let shutdown = match request.shutdown() {
            ProfileShutdown::Unspecified | ProfileShutdown::None => Shutdown::None,
            ProfileShutdown::Graceful => Shutdown::Graceful,
            ProfileShutdown::Forced => Shutdown::Forced,
        };
        let deadline = Deadline::after(PATIENCE);
        let (_changing, bmc) = self.open_to_change(request.machine, deadline).await?;
        let task = bmc.import_profile(request.profile, &request.target, shutdown, deadline).await;
        let task = task.map_err(|error| bmc_failed(&error))?;
        Ok(Response::new(BmcProfileImport { task, driver: driver(&bmc, Capability::Profile) }))
    }

    async fn read_nic_vlans(
        &self,
        request: Request<ReadNicVlansRequest>,
    ) -> Result<Response<BmcNicVlans>, Status> {
        let deadline = Deadline::after(PATIENCE);
        let bmc = self.open(request.into_inner().machine, deadline).await?;
        let chassis = bmc.vlans().map_err(|error| bmc_failed(&error))?;
        let seen = chassis.vlans(deadline).await.map_err(|error| bmc_failed(&error))?;
        Ok(Response::new(chassis::vlans(seen, driver(&bmc, Capability::Vlans))))
    }

    async fn set_nic_vlans(
        &self,
        request: Request<SetNicVlansRequest>,
    ) -> Result<Response<BmcNicVlans>, Status> {
        let SetNicVlansRequest { machine, vlans } = request.into_inner();
        let wanted = chassis::wanted(vlans.unwrap_or_default())?;
        let deadline = Deadline::after(PATIENCE);
        let (_changing, bmc) = self.open_to_change(machine, deadline).await?;
        let switch = bmc.vlans().map_err(|error| bmc_failed(&error))?;
        let seen = switch.set_vlans(wanted, deadline).await.map_err(|error| bmc_failed(&error))?;
        Ok(Response::new(chassis::vlans(vec![seen], driver(&bmc, Capability::Vlans))))
    }

    async fn read_bmc_volumes(
        &self,
        request: Request<ReadBmcVolumesRequest>,
    ) -> Result<Response<BmcVolumes>, Status> {
        let deadline = Deadline::after(PATIENCE);
        let bmc = self.open(request.into_inner().machine, deadline).await?;
        let lender = bmc.volumes().map_err(|error| bmc_failed(&error))?;
        let driver = driver(&bmc, Capability::Volumes);
        let seen = chassis::volumes(lender, String::new(), driver, deadline).await;
        Ok(Response::new(seen.map_err(|error| bmc_failed(&error))?))
    }

    async fn set_bmc_volume(
        &self,
        request: Request<SetBmcVolumeRequest>,
    ) -> Result<Response<BmcVolumes>, Status> {
        let SetBmcVolumeRequest { machine, change } = request.into_inner();
        let deadline = Deadline::after(PATIENCE);
        let (_changing, bmc) = self.open_to_change(machine, deadline).await?;
        let lender = bmc.volumes().map_err(|error| bmc_failed(&error))?;
        let created = match change {
            Some(Change::Create(NewVolume { pool, name, size_gb })) => {
                let size = u64::try_from(size_gb).ok().filter(|size| *size > 0);
                let size = size.ok_or_else(|| invalid("create.size_gb", "expected 1 or more"))?;
                lender.create_volume(&pool, &name, size, deadline).await
            }
            Some(Change::Root(root)) => {
                let root = Some(root.as_str()).filter(|root| !root.is_empty());
                lender.set_root_volume(root, deadline).await.map(|()| String::new())
            }
            None => return Err(invalid("change", "expected a volume to make, or one to give")),
        };
        let created = created.map_err(|error| bmc_failed(&error))?;
        let seen = chassis::volumes(lender, created, driver(&bmc, Capability::Volumes), deadline).await;
        Ok(Response::new(seen.map_err(|error| bmc_failed(&error))?))
    }

    async fn identify_machine(
        &self,
        request: Request<IdentifyMachineRequest>,
    ) -> Result<Response<BmcDone>, Status> {
        let request = request.into_inner();
        let led = boot_device::led(&request)?;
        let deadline = Deadline::after(PATIENCE);
        let bmc = self.open(request.machine, deadline).await?;
        bmc.identify(led, deadline).await.map_err(|error| bmc_failed(&error))?;
        Ok(done(&bmc, Capability::Identify))
    }
}

impl BmcApi {
    /// Nothing that changes how the machine starts or answers while a task works on it; and no task begins until the change is
    /// dropped.
    async fn begin(&self, machine: &Option<Machine>) -> Result<Changing, Status> {
        let machine = machine.as_ref().ok_or_else(|| invalid("machine", "expected whose BMC it is"))?;
        begin_change(&self.rack, machine).await
    }

    async fn open_to_change(
        &self,
        machine: Option<Machine>,
        deadline: Deadline,
    ) -> Result<(Changing, Bmc), Status> {
        let changing = self.begin(&machine).await?;
        Ok((changing, self.open(machine, deadline).await?))
    }

    async fn open(&self, machine: Option<Machine>, deadline: Deadline) -> Result<Bmc, Status> {
        let (id, access) = access_of(machine).await?;
        let opened = self.rack.bmc.open(&id, access, deadline).await;
        Ok(opened.map_err(|error| bmc_failed(&error))?.bmc)
    }
}

/// Whoever accepts a task looks for a change in a turn of his own: of the two that come together one sees the other.
async fn begin_change(rack: &Rack, machine: &Machine) -> Result<Changing, Status> {
    let _turn = rack.tasks.turn().await;
    not_busy(rack, &machine.name).await?;
    if let Some(why) = rack.moves.keeps_waiting(&machine.name, &machine.bmc_address) {
        return Err(refuse(Code::FailedPrecondition, Reason::NodeBusy, format!("{why}: wait for it")));
    }
    Ok(rack.changes.begin(&machine.name))
}

pub(super) async fn not_busy(rack: &Rack, node: &str) -> Result<(), Status> {
    let Some(task) = rack.tasks.of_node(node).first().cloned() else { return Ok(()) };
    let task = task.task().await;
    Err(refuse(
        Code::FailedPrecondition,
        Reason::NodeBusy,
        format!("operations/{} works on {node} and needs its BMC: wait for it, or stop it", task.id),
    ))
}

/// A node's id, and the way to its BMC.
pub(super) async fn access_of(machine: Option<Machine>) -> Result<(String, Access), Status> {
    let mut machine = machine.ok_or_else(|| invalid("machine", "expected whose BMC it is"))?;
    let id = parse_name(Collection::Nodes, &machine.name)
        .map_err(|error| invalid("machine.name", error))?
        .to_owned();
    let keys = Keys::take(&mut machine);
    let access = Access::of(&machine, &keys).await.map_err(|error| {
        let code = if error.is_transient() { Code::Unavailable } else { Code::FailedPrecondition };
        refuse(code, Reason::BmcFailed, error.to_string())
    })?;
    Ok((id, access))
}

pub(super) fn bmc_failed(error: &BmcError) -> Status {
    match error {
        BmcError::ConsoleTaken { .. } => {
            refuse(Code::FailedPrecondition, Reason::ConsoleTaken, error.to_string())
        }
        BmcError::ShuttingDown => refuse(Code::Unavailable, Reason::Unavailable, error.to_string()),
        error if error.is_transient() => refuse(Code::Unavailable, Reason::BmcFailed, error.to_string()),
        error => refuse(Code::FailedPrecondition, Reason::BmcFailed, error.to_string()),
    }
}

pub(super) fn driver(bmc: &Bmc, capability: Capability) -> String {
    bmc.driver_of(capability).unwrap_or_default().to_owned()
}

fn done(bmc: &Bmc, capability: Capability) -> Response<BmcDone> {
    Response::new(BmcDone { driver: driver(bmc, capability) })
}

fn capabilities(bmc: &Bmc, passed_over: String) -> BmcCapabilities {
    let one = |capability: &Capability| {
        let driver = driver(bmc, *capability);
        let reason = match driver.as_str() {
            "" if bmc.turned_out_without(*capability) => {
                format!("driver {} was told by this BMC that it has no {capability}", bmc.driver())
            }
            "" => format!("driver {} has no {capability}", bmc.driver()),
            _ => String::new(),
        };
        BmcCapability { name: capability.as_str().to_owned(), driver, reason }
    };
    BmcCapabilities {
        capabilities: Capability::ALL.iter().map(one).collect(),
        driver: bmc.driver().to_owned(),
        passed_over,
    }
}

#[cfg(test)]
mod tests;
