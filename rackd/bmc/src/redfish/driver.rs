//! The capabilities in terms of resources.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::address::RedfishAddress;
use super::boot::{self, Impossible};
use super::collection::BATCH;
use super::console_login::ConsoleLogin;
use super::document::{Document, Path};
use super::health;
use super::inventory;
use super::link::{Ask, Link};
use super::power::{self, Reset};
use super::vendor;
use crate::actor::{self, Call, Job};
use crate::actors::{Kept, Way};
use crate::coalesce::{Coalesced, Joined, Turn};
use crate::look;
use crate::ssh::Ssh;
use crate::{
    BmcError, BmcIdentity, BootDevice, BootMode, BootOverride, Capability, Deadline, Identify, Identity,
    Inventory, Led, Look, Power, PowerState, ReadInventory,
};

pub(super) use super::vendor::DRIVER;

/// One BMC over Redfish: a mailbox to its actor.
#[derive(Clone)]
pub(super) struct RedfishBmc {
    pub(super) addr: SocketAddr,
    mailbox: mpsc::Sender<Job<Link>>,
    pub(super) kept: Kept,
    /// What opens its console; `None`: nothing does.
    pub(super) ssh: Option<ConsoleWay>,
}

/// The BMC, its console's program, and what is known of log-ins at the console.
pub(super) type ConsoleWay = (Arc<RedfishAddress>, Ssh, Arc<ConsoleLogin>);

impl RedfishBmc {
    pub(super) fn new(addr: SocketAddr, (mailbox, kept): Way<Link>, ssh: Option<ConsoleWay>) -> Self {
        Self { addr, mailbox, kept, ssh }
    }

    pub(super) async fn call<T, F>(&self, deadline: Deadline, operation: F) -> Result<T, BmcError>
    where
        T: Send + 'static,
        F: for<'a> FnOnce(&'a mut Link, &'a mut Call) -> BoxFuture<'a, Result<T, BmcError>> + Send + 'static,
    {
        actor::call(self.addr, &self.mailbox, deadline, operation).await
    }

    /// A read of one turn, which those join who ask for the same before it has begun.
    pub(super) async fn read<T, F>(
        &self,
        reads: &Arc<Coalesced<T>>,
        deadline: Deadline,
        operation: F,
    ) -> Result<T, BmcError>
    where
        T: Clone + Send + 'static,
        F: for<'a> FnOnce(&'a mut Link, &'a mut Call) -> BoxFuture<'a, Result<T, BmcError>> + Send + 'static,
    {
        let read = |turn: Turn<T>| {
            self.call(deadline, move |link, call| Box::pin(turn.spend(operation(link, call))))
        };
        reads.ask(deadline, read).await
    }

    pub(super) async fn reset(&self, reset: &'static Reset, deadline: Deadline) -> Result<(), BmcError> {
        self.call(deadline, |link, call| Box::pin(link.reset(call, reset))).await
    }
}

#[async_trait]
impl Power for RedfishBmc {
    async fn power_status(&self, deadline: Deadline) -> Result<PowerState, BmcError> {
        Ok(self.look(deadline).await?.power)
    }

    async fn look(&self, deadline: Deadline) -> Result<Look, BmcError> {
        self.read(&self.kept.reads.look, deadline, |link, call| Box::pin(link.look(call))).await
    }

    async fn glance(&self, deadline: Deadline) -> Result<Look, BmcError> {
        self.read(&self.kept.reads.look, deadline, |link, call| {
            Box::pin(async move {
                let seen = link.look(call).await;
                link.http.close();
                seen
            })
        })
        .await
    }

    async fn power_on(&self, deadline: Deadline) -> Result<(), BmcError> {
        self.reset(&power::ON, deadline).await
    }

    async fn power_off(&self, deadline: Deadline) -> Result<(), BmcError> {
        self.reset(&power::OFF, deadline).await
    }

    async fn power_soft(&self, deadline: Deadline) -> Result<(), BmcError> {
        self.reset(&power::SOFT, deadline).await
    }

    async fn soft_off_takes(&self, deadline: Deadline) -> Result<Duration, BmcError> {
        self.call(deadline, |link, call| {
            Box::pin(async move {
                let (_, system) = link.system(call).await?;
                let manager = link.optional_manager(call, &system).await?;
                Ok(manager.as_ref().map_or(Duration::ZERO, vendor::soft_off))
            })
        })
        .await
    }

    async fn power_cycle(&self, deadline: Deadline) -> Result<(), BmcError> {
        self.reset(&power::CYCLE, deadline).await
    }

    async fn power_reset(&self, deadline: Deadline) -> Result<(), BmcError> {
        self.reset(&power::RESET, deadline).await
    }
}

#[async_trait]
impl BootDevice for RedfishBmc {
    async fn set_boot_device(
        &self,
        wanted: BootOverride,
        deadline: Deadline,
    ) -> Result<BootOverride, BmcError> {
        self.call(deadline, move |link, call| Box::pin(link.set_boot_device(call, wanted))).await
    }

    async fn boot_device(&self, deadline: Deadline) -> Result<BootOverride, BmcError> {
        self.read(&self.kept.reads.boot_device, deadline, |link, call| Box::pin(link.boot_device(call))).await
    }
}

#[async_trait]
impl Identity for RedfishBmc {
    async fn identity(&self, deadline: Deadline) -> Result<BmcIdentity, BmcError> {
        self.read(&self.kept.reads.identity, deadline, |link, call| Box::pin(link.identity(call))).await
    }
}

#[async_trait]
impl Identify for RedfishBmc {
    async fn identify(&self, led: Led, deadline: Deadline) -> Result<(), BmcError> {
        self.call(deadline, move |link, call| Box::pin(link.identify(call, led))).await
    }
}

#[async_trait]
impl ReadInventory for RedfishBmc {
    async fn inventory(&self, deadline: Deadline) -> Result<Inventory, BmcError> {
        self.kept.reads.inventory.ask_in_parts(deadline, |turn| self.whole_inventory(turn, deadline)).await
    }
}

impl RedfishBmc {
    async fn whole_inventory(
        &self,
        turn: Turn<Inventory>,
        deadline: Deadline,
    ) -> Result<(Joined<Inventory>, Inventory), BmcError> {
        let first = self.call(deadline, |link, call| {
            Box::pin(async move {
                let joined = turn.begin();
                Ok((joined, link.inventory(call).await?))
            })
        });
        let (joined, (mut seen, system)) = first.await?;
        match self.lists(&system, &mut seen, deadline).await {
            // What was read in time is told all the same.
            Err(error) if error.is_transient() && deadline.is_past() => {
                inventory::foremost(&mut seen.warnings, format!("not everything is read: {error}"));
            }
            read => read?,
        }
        Ok((joined, seen))
    }

    /// What there may be many of.
    async fn lists(
        &self,
        system: &Document,
        seen: &mut Inventory,
        deadline: Deadline,
    ) -> Result<(), BmcError> {
        let nics = system.link("EthernetInterfaces");
        self.members("EthernetInterfaces", nics, seen, inventory::nic, deadline).await?;
        let firmware = self.call(deadline, |link, call| Box::pin(link.firmware_list(call))).await;
        let firmware = optional(firmware, &mut seen.warnings, "UpdateService")?.flatten();
        self.members("FirmwareInventory", firmware, seen, inventory::firmware, deadline).await?;
        self.disks(system, seen, deadline).await
    }

    /// Reads a collection's members into an inventory.
    async fn members(
        &self,
        name: &str,
        collection: Option<Path>,
        seen: &mut Inventory,
        read: fn(&mut Inventory, &Document),
        deadline: Deadline,
    ) -> Result<(), BmcError> {
        let Some(collection) = collection else {
            inventory::warn(&mut seen.warnings, format!("there are no {name}"));
            return Ok(());
        };
        let path = collection.as_str().to_owned();
        let listed = self.listed(collection, &mut seen.warnings, deadline).await;
        for batch in optional(listed, &mut seen.warnings, &path)?.unwrap_or_default().chunks(BATCH) {
            for (_, document) in self.some(batch, &mut seen.warnings, deadline).await? {
                read(seen, &document);
            }
        }
        Ok(())
    }
}

impl Link {
    pub(super) async fn power(&mut self, call: &mut Call) -> Result<PowerState, BmcError> {
        Ok(self.look(call).await?.power)
    }

    async fn look(&mut self, call: &mut Call) -> Result<Look, BmcError> {
        let (path, system) = self.system(call).await?;
        let Some(state) = power::state(&system) else {
            let seen = system.at("PowerState").map_or("none".to_owned(), ToString::to_string);
            let error = self.bad_answer(&Ask::get(&path), "a PowerState of On or Off", &seen);
            return Err(self.unless_it_starts(error));
        };
        self.it_works();
        let (health, problem) = health::of(&system);
        let settling = power::on_its_way(&system).is_some();
        let who = look::mark([system.text("UUID"), system.text("SerialNumber")]);
        Ok(Look { power: state, health, problem, settling, who })
    }

    async fn reset(&mut self, call: &mut Call, reset: &'static Reset) -> Result<(), BmcError> {
        let (path, system) = self.system(call).await?;
        match self.press(call, path, &system, power::OF_SYSTEM, reset).await {
            Err(BmcError::AnswerLost { addr, command, .. }) => {
                Err(BmcError::AnswerLost { addr, command, power_now: self.power(call).await.ok() })
            }
            // Many BMCs refuse "on" when it is on already, instead of doing nothing, or while it is on its way.
            Err(refused @ BmcError::Http { .. }) => {
                let Some(wanted) = reset.reaches else { return Err(refused) };
                let (_, system) = self.system(call).await?;
                match power::on_its_way(&system) {
                    // What is read back says when it is there.
                    Some(there) if there == wanted => Ok(()),
                    Some(_) => Err(BmcError::BetweenStates {
                        addr: self.address.addr,
                        wanted,
                        seen: system.text("PowerState").unwrap_or_default(),
                    }),
                    None if power::state(&system) == Some(wanted) => Ok(()),
                    None => Err(refused),
                }
            }
            other => other,
        }
    }

    /// A reset action, of the types that a resource offers.
    pub(super) async fn press(
        &mut self,
        call: &mut Call,
        path: Path,
        resource: &Document,
        action: power::Action,
        reset: &'static Reset,
    ) -> Result<(), BmcError> {
        let at = |name: &str| resource.at(&format!("{}/{name}", action.property));
        let target = at("target").and_then(|target| Path::of(target.as_str()?));
        let target = target.or_else(|| path.member(action.path)).unwrap_or(path);
        let mut offered = power::offered(resource, action);
        if offered.is_empty()
            && let Some(info) = at("@Redfish.ActionInfo")
            && let Some(info) = info.as_str().and_then(Path::of)
        {
            offered = power::offered_by_info(&self.get(call, &info).await?);
        }
        let Some(kind) = power::choose(reset, &offered) else {
            let (wanted, mut expected) = (reset.name, reset.types.to_vec());
            expected.extend(reset.button.then_some(power::BUTTON));
            return Err(BmcError::NotOffered { addr: self.address.addr, wanted, expected, offered });
        };
        let is_button = kind == power::BUTTON;
        match power::press(resource) {
            _ if !is_button => {}
            power::Press::Does => {}
            power::Press::NotNeeded => return Ok(()),
            power::Press::Unknown => {
                let seen = resource.text("PowerState").unwrap_or_else(|| "no PowerState".to_owned());
                return Err(BmcError::BetweenStates {
                    addr: self.address.addr,
                    wanted: PowerState::Off,
                    seen,
                });
            }
        }
        let ask = Ask::post(&target, json!({ "ResetType": kind }));
        // A second press of the button may start what the first has switched off.
        let ask = if reset.repeats && !is_button { ask } else { ask.once(reset.name) };
        let answer = self.send(call, &ask).await?;
        if answer.status.is_success() { Ok(()) } else { Err(self.refused(&ask, &answer)) }
    }

    pub(super) async fn set_boot_device(
        &mut self,
        call: &mut Call,
        wanted: BootOverride,
    ) -> Result<BootOverride, BmcError> {
        let (path, system) = self.system(call).await?;
        let mut with_mode = true;
        loop {
            let body = boot::change(wanted, &system, with_mode).map_err(|why| self.impossible(why))?;
            let (ask, answer) = self.patch(call, &path, &body, system.etag.clone()).await?;
            if answer.status.is_success() {
                break;
            }
            // Some systems show a mode and refuse to have it written.
            let has_mode = body.pointer("/Boot/BootSourceOverrideMode").is_some();
            if !(answer.status.is_client_error() && has_mode) {
                return Err(self.refused(&ask, &answer));
            }
            tracing::info!(bmc.addr = %self.address.addr, status = answer.status.as_u16(), "boot mode refused");
            with_mode = false;
        }
        let mut attempt = 0;
        loop {
            let (_, system) = self.system(call).await?;
            let seen = boot::read(&system, wanted.mode).ok_or_else(|| self.no_boot())?;
            // A mode that the BMC refuses is the caller's to judge; one that it took it should have.
            let as_asked = boot::is_kept(wanted, seen, with_mode);
            if as_asked {
                return Ok(seen);
            }
            // Several BMCs answer before they have stored it.
            let pause = self.tuning.busy(attempt);
            attempt += 1;
            if attempt >= self.tuning.tries || pause >= call.deadline.remaining() {
                return Err(BmcError::NotApplied {
                    addr: self.address.addr,
                    what: "the boot device",
                    expected: wanted.to_string(),
                    seen: seen.to_string(),
                });
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn boot_device(&mut self, call: &mut Call) -> Result<BootOverride, BmcError> {
        let (_, system) = self.system(call).await?;
        boot::read(&system, BootMode::Uefi).ok_or_else(|| self.no_boot())
    }

    async fn identity(&mut self, call: &mut Call) -> Result<BmcIdentity, BmcError> {
        let (_, system) = self.system(call).await?;
        let manager = self.optional_manager(call, &system).await?;
        let text = |path| system.text(path).unwrap_or_default();
        Ok(BmcIdentity {
            manufacturer: text("Manufacturer"),
            product: text("Model"),
            firmware: manager.and_then(|m| m.text("FirmwareVersion")).unwrap_or_default(),
            protocol: format!("Redfish {}", self.root(call).await?.version),
            guid: inventory::uuid(&text("UUID")).filter(|uuid| *uuid != [0; 16] && *uuid != [0xFF; 16]),
            serial: text("SerialNumber"),
        })
    }

    async fn identify(&mut self, call: &mut Call, led: Led) -> Result<(), BmcError> {
        let on = match led {
            Led::On => true,
            Led::Off => false,
            Led::Seconds(_) => {
                return Err(BmcError::Unsupported { driver: DRIVER, capability: "locator LED for a time" });
            }
        };
        let (path, system) = self.system(call).await?;
        if let Some(body) = led_of(&system, on) {
            return self.switch_led(call, &path, &body, system.etag).await;
        }
        // Only where the system has none itself: what is wrong with its chassis is no matter otherwise.
        if let Some(path) = system.links("Links/Chassis", 1).pop() {
            let chassis = self.get(call, &path).await?;
            if let Some(body) = led_of(&chassis, on) {
                return self.switch_led(call, &path, &body, chassis.etag).await;
            }
        }
        Err(BmcError::Unsupported { driver: DRIVER, capability: Capability::Identify.as_str() })
    }

    async fn switch_led(
        &mut self,
        call: &mut Call,
        path: &Path,
        body: &Value,
        etag: Option<String>,
    ) -> Result<(), BmcError> {
        let (ask, answer) = self.patch(call, path, body, etag).await?;
        if answer.status.is_success() { Ok(()) } else { Err(self.refused(&ask, &answer)) }
    }

    /// What takes few requests, and the system.
    async fn inventory(&mut self, call: &mut Call) -> Result<(Inventory, Document), BmcError> {
        let (_, system) = self.system(call).await?;
        let mut seen = Inventory::default();
        inventory::system(&mut seen, &system);
        inventory::manager(&mut seen, self.optional_manager(call, &system).await?.as_ref());
        Ok((seen, system))
    }

    async fn optional_manager(
        &mut self,
        call: &mut Call,
        system: &Document,
    ) -> Result<Option<Document>, BmcError> {
        let manager = self.manager(call, system).await;
        let manager = optional(manager, &mut Inventory::default().warnings, "Managers")?.flatten();
        Ok(manager.map(|(_, document)| document))
    }

    fn impossible(&self, why: Impossible) -> BmcError {
        match why {
            Impossible::NoOverride => self.no_boot(),
            Impossible::CannotBeSet => {
                BmcError::Unsupported { driver: DRIVER, capability: "setting this boot device" }
            }
            Impossible::NotOffered { expected, offered } => {
                let wanted = "this boot device";
                BmcError::NotOffered { addr: self.address.addr, wanted, expected, offered }
            }
        }
    }

    fn no_boot(&self) -> BmcError {
        BmcError::NotOffered {
            addr: self.address.addr,
            wanted: "a boot override",
            expected: vec!["Boot/BootSourceOverrideTarget"],
            offered: Vec::new(),
        }
    }
}

/// What a resource with a locator LED is told; `None`: it has none.
fn led_of(document: &Document, on: bool) -> Option<Value> {
    // The second is how it was said before 2020.
    if document.at("LocationIndicatorActive").is_some() {
        Some(json!({ "LocationIndicatorActive": on }))
    } else if document.at("IndicatorLED").is_some() {
        Some(json!({ "IndicatorLED": if on { "Blinking" } else { "Off" } }))
    } else {
        None
    }
}

/// A resource that may be missing or broken: a warning. A BMC that is away still ends the call.
pub(super) fn optional<T>(
    read: Result<T, BmcError>,
    warnings: &mut Vec<String>,
    what: &str,
) -> Result<Option<T>, BmcError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(BmcError::Http { status, .. }) => {
            inventory::warn(warnings, format!("{what}: HTTP {status}"));
            Ok(None)
        }
        Err(BmcError::BadAnswer { seen: came, .. }) => {
            inventory::warn(warnings, format!("{what}: {came}"));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
