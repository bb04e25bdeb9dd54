//! What a node's chassis does for it, VLANs and volumes: who may is a rule, the rack asks the chassis.

use super::App;
use farrier_proto::rack::{
    BmcNicVlans, BmcVolumes, NewVolume, NicVlans, ReadBmcVolumesRequest, ReadNicVlansRequest,
    SetBmcVolumeRequest, SetNicVlansRequest, set_bmc_volume_request,
};
use farrier_proto::scheduler::set_node_volume_request::Change;
use farrier_proto::scheduler::{
    ReadNodeNicVlansRequest, ReadNodeVolumesRequest, SetNodeNicVlansRequest, SetNodeVolumeRequest,
};
use farrier_runtime::authz::Caller;
use farrier_runtime::error::{asked, invalid};
use tonic::Status;

impl App {
    pub(crate) async fn read_nic_vlans(
        &self,
        request: ReadNodeNicVlansRequest,
    ) -> Result<BmcNicVlans, Status> {
        let (machine, mut rack) = self.bmc_of(&request.name).await?;
        let answer = rack.read_nic_vlans(ReadNicVlansRequest { machine: Some(machine) }).await;
        Ok(answer.map_err(|status| asked("the rack", status))?.into_inner())
    }

    pub(crate) async fn set_nic_vlans(
        &self,
        caller: &Caller,
        request: SetNodeNicVlansRequest,
    ) -> Result<BmcNicVlans, Status> {
        let SetNodeNicVlansRequest { name, vlans } = request;
        let vlans = vlans.unwrap_or_default();
        let detail = detail(&vlans)?;
        self.not_held(&name).await?;
        let (machine, mut rack) = self.bmc_of(&name).await?;
        let audit = self.audit(caller, name);
        audit.record("set vlans", &detail).await?;
        let request = SetNicVlansRequest { machine: Some(machine), vlans: Some(vlans) };
        let answer = rack.set_nic_vlans(request).await;
        audit.outcome("set vlans", answer).await
    }

    pub(crate) async fn read_volumes(&self, request: ReadNodeVolumesRequest) -> Result<BmcVolumes, Status> {
        let (machine, mut rack) = self.bmc_of(&request.name).await?;
        let answer = rack.read_bmc_volumes(ReadBmcVolumesRequest { machine: Some(machine) }).await;
        Ok(answer.map_err(|status| asked("the rack", status))?.into_inner())
    }

    pub(crate) async fn set_volume(
        &self,
        caller: &Caller,
        request: SetNodeVolumeRequest,
    ) -> Result<BmcVolumes, Status> {
        let SetNodeVolumeRequest { name, change } = request;
        let (action, detail, change) = match change {
            Some(Change::Create(volume)) => {
                let NewVolume { pool, name, size_gb } = &volume;
                check_id("create.pool", pool)?;
                check_id("create.name", name)?;
                if *size_gb < 1 {
                    return Err(invalid("create.size_gb", "expected 1 or more"));
                }
                let detail = format!("{pool}/{name}, {size_gb} GB");
                ("create volume", detail, set_bmc_volume_request::Change::Create(volume))
            }
            Some(Change::Root(root)) => {
                if !root.is_empty() {
                    check_id("root", &root)?;
                }
                let detail = if root.is_empty() { "none".to_owned() } else { root.clone() };
                ("set root volume", detail, set_bmc_volume_request::Change::Root(root))
            }
            None => return Err(invalid("change", "expected a volume to make, or one to give")),
        };
        self.not_held(&name).await?;
        let (machine, mut rack) = self.bmc_of(&name).await?;
        let audit = self.audit(caller, name);
        audit.record(action, &detail).await?;
        let request = SetBmcVolumeRequest { machine: Some(machine), change: Some(change) };
        audit.outcome(action, rack.set_bmc_volume(request).await).await
    }
}

/// For the history.
fn detail(vlans: &NicVlans) -> Result<String, Status> {
    check_id("vlans.nic", &vlans.nic)?;
    if vlans.untagged.len() + vlans.tagged.len() > VLANS {
        return Err(invalid("vlans", format!("expected at most {VLANS}")));
    }
    let list = |vlans: &[i32]| vlans.iter().map(i32::to_string).collect::<Vec<_>>().join(", ");
    let told = |word: &str, vlans: &[i32]| (!vlans.is_empty()).then(|| format!("{word} {}", list(vlans)));
    let words: Vec<_> =
        [told("untagged", &vlans.untagged), told("tagged", &vlans.tagged)].into_iter().flatten().collect();
    let words = if words.is_empty() { "none".to_owned() } else { words.join(", ") };
    Ok(format!("{}: {words}", vlans.nic))
}

/// It goes to the chassis, and into the history.
fn check_id(field: &str, id: &str) -> Result<(), Status> {
    if !(1..=ID).contains(&id.len()) || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(invalid(field, format!("expected a name of at most {ID} bytes")));
    }
    Ok(())
}

const ID: usize = 128;
const VLANS: usize = 65;
