use super::event::DISK_FAILED;
use super::noun::{Noun, etag, fields, labelled};
use super::rack::is_own_rack;
use super::{App, bmc, check, error, explain, state};
use farrier_inventory_store::{BmcPlace, NodeExtra, SecretChange, Secrets};
use farrier_model::Collection;
use farrier_model::bmc_key;
use farrier_model::lifecycle::State;
use farrier_proto::inventory::{Explanation, Node, PowerPolicy};
use farrier_proto::types::{BootInterface, BootMode, ProvisionState, RootDeviceHints};
use farrier_runtime::authz::Caller;
use farrier_runtime::error::{Reason, internal, invalid, refuse, refuse_with};
use farrier_runtime::filter::Term;
use farrier_runtime::time;
use farrier_runtime::vault::Vault;
use prost_types::Timestamp;
use tonic::{Code, Status};

/// Rack units of the tallest rack that anybody builds, with room.
pub(super) const RACK_UNITS: i32 = 100;

impl App {
    pub(crate) async fn explain(&self, caller: &Caller, name: &str) -> Result<Explanation, Status> {
        let node = self.with_observation(self.get(caller, name).await?).await?;
        let failed = self.newest_event(&node.name, DISK_FAILED).await?;
        let now_ms = time::now_ms();
        let mut explained = explain::explain(node, now_ms);
        if let Some(failed) = failed {
            explain::add_disk(&mut explained, &failed, now_ms);
        }
        Ok(explained)
    }

    pub(crate) async fn delete_node(&self, caller: &Caller, name: &str, etag: &str) -> Result<(), Status> {
        self.delete(caller, name, etag, |node: &Node| {
            let at = state::read(node.state());
            if !node.instance.is_empty() {
                return Err(error::in_use(&format!(
                    "{name} is given to {}: delete that first",
                    node.instance
                )));
            }
            if !node.operation.is_empty() {
                return Err(error::in_use(&format!(
                    "{} works on {name}: wait for it or abort it",
                    node.operation
                )));
            }
            if !at.is_removable() {
                return Err(error::in_use(&format!(
                    "{name} is `{at}`: only a node at rest without an instance is deleted"
                )));
            }
            Ok(())
        })
        .await
    }
}

/// Where a node's BMC password is sealed for.
pub(crate) fn bmc_context(node: &str) -> String {
    format!("{node}/bmc")
}

/// Where the key of a node's BMC itself is sealed for.
pub(super) fn kg_context(node: &str) -> String {
    format!("{node}/bmc/kg")
}

/// What the password that a rotation gives to a BMC is sealed for.
pub(super) fn next_context(node: &str) -> String {
    format!("{node}/bmc/next")
}

impl Noun for Node {
    const COLLECTION: Collection = Collection::Nodes;
    const FIELD: &'static str = "node";
    const FILTER: &'static [&'static str] =
        &["state", "rack", "instance", "operation", "resource_class", "owner", "maintenance", "labels"];
    fields!(
        bmc,
        boot_mode,
        boot_interface,
        secure_boot,
        power_policy,
        architecture,
        resource_class,
        traits,
        labels,
        owner,
        root_device,
        description,
        maintenance,
        maintenance_reason,
        rack_unit
    );
    etag!();
    labelled!();

    fn born(self, uid: String, now: Timestamp) -> Result<Self, Status> {
        check::name("node.name", Self::COLLECTION, &self.name)?;
        check::name("node.rack", Collection::Racks, &self.rack)?;
        let mut new = Self {
            name: self.name.clone(),
            rack: self.rack.clone(),
            uid,
            state: ProvisionState::Enroll.into(),
            state_time: Some(now),
            create_time: Some(now),
            update_time: Some(now),
            ..Self::default()
        };
        // Whatever may be updated may be given; the rest is ours to write.
        for field in Self::MASK {
            new.take(field, &self);
        }
        new.check()?;
        Ok(new)
    }

    fn check(&self) -> Result<(), Status> {
        if let Some(bmc) = &self.bmc {
            bmc::check(bmc::OF_NODE, bmc)?;
        }
        if BootMode::try_from(self.boot_mode).is_err() {
            return Err(invalid("node.boot_mode", "expected BIOS, UEFI or nothing"));
        }
        if BootInterface::try_from(self.boot_interface).is_err() {
            return Err(invalid("node.boot_interface", "expected network, virtual media or nothing"));
        }
        if PowerPolicy::try_from(self.power_policy).is_err() {
            return Err(invalid("node.power_policy", "expected report, keep or nothing"));
        }
        if self.secure_boot && self.boot_mode() == BootMode::Bios {
            return Err(invalid(
                "node.secure_boot",
                "expected boot mode UEFI, or none yet: BIOS has no Secure Boot",
            ));
        }
        if !(0..=RACK_UNITS).contains(&self.rack_unit) {
            return Err(invalid("node.rack_unit", format!("expected 0 (unknown) to {RACK_UNITS}")));
        }
        check::architecture("node.architecture", &self.architecture)?;
        check::word("node.resource_class", &self.resource_class)?;
        check::word("node.owner", &self.owner)?;
        check::words("node.traits", &self.traits)?;
        check::labels("node.labels", &self.labels)?;
        check::text("node.description", &self.description)?;
        check::text("node.maintenance_reason", &self.maintenance_reason)?;
        self.root_device.as_ref().map_or(Ok(()), check_hints)
    }

    fn touch(&mut self, now: Timestamp) {
        self.update_time = Some(now);
    }

    fn parent(&self) -> Option<&str> {
        Some(&self.rack)
    }

    fn seal(&mut self, before: Option<&Self>, vault: &Vault) -> Result<NodeExtra, Status> {
        let context = bmc_context(&self.name);
        let stored = before.and_then(|b| b.bmc.as_ref()).is_some_and(|b| b.password_set);
        let rotates = before.and_then(|b| b.bmc.as_ref()).is_some_and(|b| b.rotation_pending);
        let rotation_time = before.and_then(|b| b.bmc.as_ref()).and_then(|b| b.rotation_time);
        let next_user = before.and_then(|b| b.bmc.as_ref()).map(|b| b.next_user.clone()).unwrap_or_default();
        let holder = before.map(|b| b.operation.as_str()).unwrap_or_default();
        let says = self.bmc.as_ref().is_none_or(|bmc| !bmc.password.is_empty());
        if rotates && says && !holder.is_empty() {
            // The BMC may have the new password already, and nobody else knows it.
            return Err(refuse_with(
                Code::Aborted,
                Reason::NodeBusy,
                format!("{holder} gives the BMC of {} a new password: retry when it has ended", self.name),
                [("node", self.name.clone()), ("operation", holder.to_owned())],
            ));
        }
        let kg = seal_key(self, before, vault)?;
        let secrets = match &mut self.bmc {
            None => Secrets { current: SecretChange::Clear, next: SecretChange::Clear, kg },
            Some(bmc) if bmc.password.is_empty() => {
                bmc.password_set = stored;
                bmc.default_password &= stored;
                bmc.rotation_pending = rotates;
                bmc.rotation_time = rotation_time;
                bmc.next_user = next_user;
                Secrets { kg, ..Secrets::default() }
            }
            Some(bmc) => {
                let password = std::mem::take(&mut bmc.password);
                bmc.password_set = true;
                // Whoever says the password knows what became of a rotation.
                bmc.rotation_pending = false;
                bmc.rotation_time = None;
                bmc.next_user.clear();
                let current = vault.seal(&context, password.as_bytes()).map_err(internal)?;
                Secrets { current: SecretChange::Store(current), next: SecretChange::Clear, kg }
            }
        };
        let place = self.bmc.as_ref().filter(|bmc| bmc::has_bmc(bmc));
        let place = place.map(|bmc| bmc::place(&self.rack, bmc));
        Ok(NodeExtra { secrets, bmc_place: Some(BmcPlace(place)), ..NodeExtra::default() })
    }

    fn visible_to(&self, caller: &Caller) -> bool {
        is_own_rack(caller, &self.rack).unwrap_or_else(|| caller.sees(&self.owner))
    }

    fn term(term: Term) -> Result<Term, Status> {
        let bad = |why: &str| refuse(Code::InvalidArgument, Reason::InvalidFilter, format!("filter: {why}"));
        let value = match term.field.as_str() {
            "rack" => Collection::Racks.whole(term.value),
            "instance" => Collection::Instances.whole(term.value),
            "operation" => Collection::Operations.whole(term.value),
            "state" => match state::parse(&term.value) {
                Some(state) => state.as_str().to_owned(),
                None => {
                    let known: Vec<_> = State::ALL.iter().map(|state| state.as_str()).collect();
                    let why = format!(
                        "{:?} is no provision state; expected one of {}",
                        term.value,
                        known.join(", ")
                    );
                    return Err(bad(&why));
                }
            },
            "maintenance" if !matches!(term.value.as_str(), "true" | "false") => {
                return Err(bad("maintenance: expected true or false"));
            }
            _ => term.value,
        };
        Ok(Term { field: term.field, value })
    }
}

/// What becomes of the key that is stored for a BMC. One that is not named stays, `0x` takes it away.
fn seal_key(node: &mut Node, before: Option<&Node>, vault: &Vault) -> Result<SecretChange, Status> {
    let stored = before.and_then(|b| b.bmc.as_ref()).is_some_and(|b| b.kg_set);
    let Some(bmc) = &mut node.bmc else { return Ok(SecretChange::Clear) };
    let key = std::mem::take(&mut bmc.kg);
    if key.is_empty() {
        bmc.kg_set = stored;
        return Ok(SecretChange::Keep);
    }
    // What it may be was checked.
    bmc.kg_set = bmc_key::parse(&key).is_some_and(|bytes| !bytes.is_empty());
    if !bmc.kg_set {
        return Ok(SecretChange::Clear);
    }
    let sealed = vault.seal(&kg_context(&node.name), key.as_bytes()).map_err(internal)?;
    Ok(SecretChange::Store(sealed))
}

fn check_hints(hints: &RootDeviceHints) -> Result<(), Status> {
    check::not_negative("node.root_device.min_size_bytes", hints.min_size_bytes)?;
    for (field, text) in [
        ("node.root_device.name", &hints.name),
        ("node.root_device.serial_number", &hints.serial_number),
        ("node.root_device.wwn", &hints.wwn),
        ("node.root_device.model", &hints.model),
        ("node.root_device.by_path", &hints.by_path),
    ] {
        check::text(field, text)?;
    }
    Ok(())
}
