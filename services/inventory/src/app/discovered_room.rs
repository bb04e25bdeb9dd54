//! How many discovered machines are kept, and which one goes for one more: strangers can make up any number, and a network of one
//! rack keeps no other rack from finding machines.

use super::App;
use super::pattern::serial;
use super::proposal::Matcher;
use super::resource::event;
use super::same_machine::is_said;
use farrier_inventory_store::StoreError;
use farrier_proto::inventory::{DiscoveredMachine, DiscoveryPlan, Event};
use farrier_runtime::authz::Caller;
use farrier_runtime::error::{Reason, refuse};
use tonic::{Code, Status};

/// What one more machine takes.
pub(super) enum Room {
    /// Nothing.
    Free,
    /// The row of another, which nobody has seen for longest, no plan expects, and has neither a serial number nor a UUID.
    InPlaceOf(Box<DiscoveredMachine>),
    /// Those that are there are all expected, or machines that somebody may wait for.
    None,
}

impl Room {
    /// What goes, by name and revision, and the event that tells it.
    pub(super) fn goes(self, caller: &Caller) -> Option<((String, i64), Event)> {
        let Self::InPlaceOf(other) = self else { return None };
        let detail = format!(
            "{} has as many as are kept ({IN_RACK} a rack, {MOST} in all), and another one came: of those that say neither serial \
             number nor UUID this one has not been seen for longest, and no plan expects it",
            other.rack
        );
        let gone = Event { detail, ..event(caller, &other.name, "delete") };
        Some(((other.name, other.etag.parse().unwrap_or(0)), gone))
    }
}

impl App {
    pub(super) async fn room(&self, plan: &DiscoveryPlan, rack: &str) -> Result<Room, StoreError> {
        let has_its_share = self.store.count_machines(Some(rack)).await? >= IN_RACK;
        if !has_its_share && self.store.count_machines(None).await? < MOST {
            return Ok(Room::Free);
        }
        // One that has less than its share takes from any.
        let other = self.longest_unseen(&Matcher::new(plan), has_its_share.then_some(rack)).await?;
        Ok(other.map_or(Room::None, Room::InPlaceOf))
    }

    async fn longest_unseen(
        &self,
        matcher: &Matcher<'_>,
        rack: Option<&str>,
    ) -> Result<Option<Box<DiscoveredMachine>>, StoreError> {
        let mut passed = 0;
        loop {
            let page = self.store.longest_unseen(rack, passed, PAGE).await?;
            if page.is_empty() {
                return Ok(None);
            }
            passed += page.len() as u64;
            if let Some(other) =
                page.into_iter().find(|machine| !says_who(machine) && !matcher.is_expected(machine))
            {
                return Ok(Some(Box::new(other)));
            }
        }
    }
}

/// Whether it is a machine that has booted and said which it is: it is off now and tells nobody again, and a person may be about to
/// accept it.
fn says_who(machine: &DiscoveredMachine) -> bool {
    let system = machine.hardware.as_ref().and_then(|hardware| hardware.system.as_ref());
    system.is_some_and(|system| is_said(&serial(&system.serial_number)) || !system.uuid.is_empty())
}

/// What a rack is told of a machine for which there is no room.
pub(super) fn full(rack: &str) -> Status {
    let short = rack.trim_start_matches("racks/");
    let text = format!(
        "{IN_RACK} discovered machines of a rack are kept, {MOST} in all, and each is expected by the plan or says which machine it is: accept or forget \
         some, `farrier discovered list --rack {short}` has them"
    );
    refuse(Code::ResourceExhausted, Reason::Unavailable, text)
}

/// Of one rack: more than stand in a row of racks.
const IN_RACK: u64 = 1024;
/// Of all: rows of five kilobytes, and of 64 at most.
const MOST: u64 = 8192;
/// Rows that are read at a time.
const PAGE: u64 = 32;
