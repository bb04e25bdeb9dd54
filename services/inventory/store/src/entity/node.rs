use super::{Resource, common, label_matches, row};
use crate::dispatch::Applied;
use farrier_proto::inventory::Node;
use farrier_proto::types::ProvisionState;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::IntoCondition as _;
use sea_orm::{ActiveValue, Condition, NotSet, Set};
use std::collections::HashMap;

/// Physical servers.
#[derive(Debug, Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "node")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    pub uid: String,
    pub revision: i64,
    pub created_ms: i64,
    pub updated_ms: i64,
    pub body: Vec<u8>,
    pub rack: String,
    pub state: String,
    pub instance: String,
    pub operation: String,
    pub resource_class: String,
    pub owner: String,
    pub maintenance: bool,
    /// BMC password, sealed for `nodes/<name>/bmc`.
    pub bmc_secret: Option<Vec<u8>>,
    /// The password that a rotation gives to the BMC, sealed for `nodes/<name>/bmc/next`.
    pub bmc_next_secret: Option<Vec<u8>>,
    /// The BMC's own key (Kg), sealed for `nodes/<name>/bmc/kg`.
    pub bmc_kg_secret: Option<Vec<u8>>,
    /// What its BMC is: no two nodes have the same. None: no BMC, or one that was given before this was kept.
    pub bmc_place: Option<String>,
    /// Of the machine itself, as it was inspected last; as a discovered machine's.
    pub system_uuid: Option<String>,
    pub system_serial: Option<String>,
    /// Its own BMC's, as its machine or a rack has seen it last; with colons, small letters.
    pub bmc_mac: Option<String>,
    /// The last transition, so that the same call again gets the same answer.
    pub applied_operation: String,
    pub applied_event: String,
}

#[derive(Debug, Clone, Copy, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// What a machine is known by beside its interfaces; none: it does not say, or says what a thousand others do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SystemKeys {
    pub uuid: Option<String>,
    pub serial: Option<String>,
    /// MAC address of its own BMC; blades may share one.
    pub bmc: Option<String>,
}

/// What a write does to a stored secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SecretChange {
    #[default]
    Keep,
    /// Sealed by the caller.
    Store(Vec<u8>),
    Clear,
}

/// What a write does to both passwords and the key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Secrets {
    pub current: SecretChange,
    /// The one that a rotation gives to the BMC.
    pub next: SecretChange,
    /// Kg.
    pub kg: SecretChange,
}

/// A BMC among those of the installation; none: the node has no BMC.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BmcPlace(pub Option<String>);

/// Columns of a node that are not in its message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeExtra {
    pub secrets: Secrets,
    /// What its BMC is, from now on; none: as it was.
    pub bmc_place: Option<BmcPlace>,
    /// What its machine is known by, from now on; none: as it was.
    pub system: Option<SystemKeys>,
    /// Set by a transition.
    pub applied: Option<Applied>,
}

impl Resource for Node {
    common!(NodeExtra);

    fn row(&self, revision: i64, extra: &NodeExtra) -> ActiveModel {
        row!(
            self,
            revision,
            update_time {
                rack: Set(self.rack.clone()),
                state: Set(state_word(self.state())),
                instance: Set(self.instance.clone()),
                operation: Set(self.operation.clone()),
                resource_class: Set(self.resource_class.clone()),
                owner: Set(self.owner.clone()),
                maintenance: Set(self.maintenance),
                bmc_secret: changed(&extra.secrets.current),
                bmc_next_secret: changed(&extra.secrets.next),
                bmc_kg_secret: changed(&extra.secrets.kg),
                bmc_place: extra.bmc_place.as_ref().map_or(NotSet, |place| Set(place.0.clone())),
                system_uuid: extra.system.as_ref().map_or(NotSet, |system| Set(system.uuid.clone())),
                system_serial: extra.system.as_ref().map_or(NotSet, |system| Set(system.serial.clone())),
                // Not every ramdisk can ask its BMC: what was known of it stays.
                bmc_mac: extra
                    .system
                    .as_ref()
                    .and_then(|s| s.bmc.clone())
                    .map_or(NotSet, |mac| Set(Some(mac))),
                applied_operation: extra.applied.as_ref().map_or(NotSet, |a| Set(a.operation.clone())),
                applied_event: extra.applied.as_ref().map_or(NotSet, |a| Set(a.event.clone())),
            }
        )
    }

    fn matches(field: &str, value: &str) -> Option<Condition> {
        match field {
            "state" => Some(Column::State.eq(value).into_condition()),
            "rack" => Some(Column::Rack.eq(value).into_condition()),
            "instance" => Some(Column::Instance.eq(value).into_condition()),
            "operation" => Some(Column::Operation.eq(value).into_condition()),
            "resource_class" => Some(Column::ResourceClass.eq(value).into_condition()),
            "owner" => Some(Column::Owner.eq(value).into_condition()),
            "bmc_mac" => Some(Column::BmcMac.eq(value).into_condition()),
            "maintenance" => Some(Column::Maintenance.eq(value == "true").into_condition()),
            _ => label_matches(Column::Name, field, value),
        }
    }

    fn rivals(extra: &NodeExtra) -> Option<Condition> {
        let BmcPlace(place) = extra.bmc_place.as_ref()?;
        place.as_ref().map(|place| Column::BmcPlace.eq(place.as_str()).into_condition())
    }

    fn labels(&self) -> Option<&HashMap<String, String>> {
        Some(&self.labels)
    }

    fn visible(project: &str) -> Condition {
        Condition::any().add(Column::Owner.eq("")).add(Column::Owner.eq(project))
    }
}

fn changed(change: &SecretChange) -> ActiveValue<Option<Vec<u8>>> {
    match change {
        SecretChange::Keep => NotSet,
        SecretChange::Store(sealed) => Set(Some(sealed.clone())),
        SecretChange::Clear => Set(None),
    }
}

/// The state's word in the life cycle table: `verify failed`.
fn state_word(state: ProvisionState) -> String {
    let name = state.as_str_name();
    name.strip_prefix("PROVISION_STATE_").unwrap_or(name).to_lowercase().replace('_', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_model::lifecycle::State;

    #[test]
    fn every_state_is_stored_as_its_word() {
        for (number, state) in (1..).zip(State::ALL) {
            assert_eq!(ProvisionState::try_from(number).map(state_word).as_deref(), Ok(state.as_str()));
        }
    }
}
