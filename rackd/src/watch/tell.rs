//! Telling inventory what was seen. While it is away, the newest of each node waits.

use super::look::{Seen, Sighting};
use farrier_bmc::{Health, PowerState};
use farrier_proto::inventory::watch_service_client::WatchServiceClient;
use farrier_proto::inventory::{
    BmcHealth, MachineHealth, MachineIdentity, ReportObservationsRequest, ReportedObservation, WaitingTask,
};
use farrier_proto::types;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// Tells until nobody looks any more.
pub(super) async fn tell(inventory: WatchServiceClient<Channel>, mut seen: mpsc::Receiver<Sighting>) {
    let mut waiting = Waiting::default();
    let mut retry_at: Option<Instant> = None;
    let mut taken = Vec::new();
    loop {
        tokio::select! {
            count = seen.recv_many(&mut taken, BATCH) => {
                if count == 0 {
                    return;
                }
                taken.drain(..).for_each(|sighting| waiting.saw(sighting));
            }
            () = until(retry_at), if retry_at.is_some() => retry_at = None,
        }
        while retry_at.is_none() && !waiting.is_empty() {
            let send = |request| {
                let mut inventory = inventory.clone();
                async move { inventory.report_observations(request).await.map(drop) }
            };
            let left = report(waiting.take(BATCH), send).await;
            if !left.is_empty() {
                retry_at = Some(Instant::now() + RETRY);
            }
            left.into_iter().for_each(|sighting| waiting.give_back(sighting));
        }
    }
}

/// Reports them; what may be taken another time is left. One that inventory will never take costs the others nothing.
async fn report<F>(batch: Vec<Sighting>, send: impl Fn(ReportObservationsRequest) -> F) -> Vec<Sighting>
where
    F: Future<Output = Result<(), Status>>,
{
    let mut groups = vec![batch];
    while let Some(group) = groups.pop() {
        let observations = group.iter().map(|sighting| reported(sighting, Instant::now())).collect();
        match send(ReportObservationsRequest { observations }).await {
            Ok(()) => {}
            Err(status) if status.code() == Code::InvalidArgument => match <[Sighting; 1]>::try_from(group) {
                Ok([one]) => {
                    tracing::error!(node.id = %one.node, %status, "what was seen of a BMC is refused, and not told");
                }
                Err(group) => groups.extend(group.into_iter().map(|one| vec![one])),
            },
            Err(status) => {
                let left: Vec<_> = groups.into_iter().flatten().chain(group).collect();
                tracing::warn!(%status, nodes = left.len(), "what was seen of BMCs is not told yet");
                return left;
            }
        }
    }
    Vec::new()
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// By node: as many as are looked at.
#[derive(Debug, Default)]
struct Waiting {
    waits: BTreeMap<String, Sighting>,
    /// The newest that was taken to be told: a look that began before it may end after it, but not long after.
    newest: BTreeMap<String, Sighting>,
}

impl Waiting {
    fn saw(&mut self, sighting: Sighting) {
        let newest = self.newest.get(&sighting.node).filter(|told| told.at > sighting.at);
        let known = self.waits.remove(&sighting.node).or_else(|| newest.cloned());
        let kept = match known {
            Some(known) => newer(known, sighting),
            None => sighting,
        };
        self.waits.insert(kept.node.clone(), kept);
    }

    /// Something newer may have come meanwhile.
    fn give_back(&mut self, sighting: Sighting) {
        let kept = match self.waits.remove(&sighting.node) {
            Some(since) => newer(sighting, since),
            None => sighting,
        };
        self.waits.insert(kept.node.clone(), kept);
    }

    fn take(&mut self, most: usize) -> Vec<Sighting> {
        let taken: Vec<_> =
            std::iter::from_fn(|| self.waits.pop_first()).take(most).map(|(_, taken)| taken).collect();
        let now = Instant::now();
        self.newest.retain(|_, told| now < told.at + LATE);
        self.newest.extend(taken.iter().map(|taken| (taken.node.clone(), taken.clone())));
        taken
    }

    fn is_empty(&self) -> bool {
        self.waits.is_empty()
    }
}

/// Of two sightings the one that was seen later, however they came, and who the machine is of the other where it does not say.
fn newer(one: Sighting, other: Sighting) -> Sighting {
    let (mut newer, older) = if one.at > other.at { (one, other) } else { (other, one) };
    newer.seen.keep_machine(older.seen);
    newer
}

fn reported(sighting: &Sighting, now: Instant) -> ReportedObservation {
    let mut reported = ReportedObservation {
        node: sighting.node.clone(),
        age: age(sighting.at, now),
        ..ReportedObservation::default()
    };
    match &sighting.seen {
        Seen::Power { state, driver, health, problem, machine } => {
            reported.set_bmc_health(BmcHealth::Ok);
            reported.set_power_state(match state {
                PowerState::On => types::PowerState::On,
                PowerState::Off => types::PowerState::Off,
            });
            reported.driver = (*driver).to_owned();
            reported.passed_over.clone_from(&sighting.passed_over);
            reported.set_machine_health(match health {
                Health::Unknown => MachineHealth::Unspecified,
                Health::Ok => MachineHealth::Ok,
                Health::Warning => MachineHealth::Warning,
                Health::Critical => MachineHealth::Critical,
            });
            reported.machine_problem.clone_from(problem);
            reported.machine = machine.as_ref().map(|machine| MachineIdentity {
                uuid: machine.uuid.clone(),
                serial_number: machine.serial.clone(),
                driver: machine.driver.to_owned(),
                address: machine.address.clone(),
            });
            reported.waiting = sighting.waiting.as_ref().map(|waiting| WaitingTask {
                fence: waiting.fence,
                step: waiting.step.to_owned(),
                power_state: waiting.left.into(),
            });
            reported.machine_age = machine.as_ref().and_then(|machine| age(machine.at, now));
        }
        Seen::Unreachable(problem) => {
            reported.set_bmc_health(BmcHealth::Unreachable);
            reported.bmc_problem.clone_from(problem);
        }
        Seen::Failing(problem) => {
            reported.set_bmc_health(BmcHealth::Failing);
            reported.bmc_problem.clone_from(problem);
        }
    }
    reported
}

fn age(at: Instant, now: Instant) -> Option<prost_types::Duration> {
    now.saturating_duration_since(at).try_into().ok()
}

/// What inventory takes at once.
const BATCH: usize = 100;
/// Longer than any look takes.
const LATE: Duration = Duration::from_secs(10 * 60);
/// After a report that did not get through.
const RETRY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::super::look::Machine;
    use super::*;

    fn sighting(node: &str, at: Instant, seen: Seen) -> Sighting {
        Sighting { node: node.to_owned(), at, seen, passed_over: String::new(), waiting: None }
    }

    #[test]
    fn what_waits_is_the_newest_of_each_node() {
        let now = Instant::now();
        let power = |state| Seen::Power {
            state,
            driver: "ipmi",
            health: Health::Ok,
            problem: String::new(),
            machine: None,
        };
        let mut waiting = Waiting::default();
        waiting.saw(sighting("nodes/a", now, power(PowerState::On)));
        waiting.saw(sighting("nodes/b", now, power(PowerState::On)));
        let batch = waiting.take(BATCH);
        assert_eq!(batch.len(), 2);
        // While these are told in vain, one is looked at again.
        waiting.saw(sighting("nodes/b", now + RETRY, power(PowerState::Off)));
        batch.into_iter().for_each(|sighting| waiting.give_back(sighting));
        assert_eq!(waiting.take(1).len(), 1);
        let last = waiting.take(BATCH);
        assert_eq!(last, [sighting("nodes/b", now + RETRY, power(PowerState::Off))]);
        assert!(waiting.is_empty());
    }

    #[test]
    fn a_look_that_ends_late_does_not_override_what_was_seen_after_it() {
        let at = Instant::now();
        let power = |state, machine| Seen::Power {
            state,
            driver: "redfish",
            health: Health::Ok,
            problem: String::new(),
            machine,
        };
        let (uuid, serial, address) = (String::new(), "A17".to_owned(), "h".to_owned());
        let machine = Some(Machine { uuid, serial, driver: "redfish", address, at });
        let late = || sighting("nodes/a", at, power(PowerState::On, machine.clone()));
        let newest = |machine| vec![sighting("nodes/a", at + RETRY, power(PowerState::Off, machine))];
        for is_told in [false, true] {
            let mut waiting = Waiting::default();
            waiting.saw(newest(None).remove(0));
            if is_told {
                assert_eq!(waiting.take(BATCH), newest(None));
            }
            waiting.saw(late());
            assert_eq!(waiting.take(BATCH), newest(machine.clone()), "told before: {is_told}");
        }
        // Also when what was seen later could not be told.
        let mut waiting = Waiting::default();
        waiting.saw(newest(None).remove(0));
        let batch = waiting.take(BATCH);
        waiting.saw(late());
        batch.into_iter().for_each(|sighting| waiting.give_back(sighting));
        assert_eq!(waiting.take(BATCH), newest(machine));
    }

    #[tokio::test]
    async fn one_that_inventory_refuses_for_good_costs_the_others_nothing() {
        let told = std::cell::RefCell::new(Vec::new());
        let send = |request: ReportObservationsRequest| {
            let nodes: Vec<_> = request.observations.into_iter().map(|one| one.node).collect();
            let taken = match nodes.as_slice() {
                [.., _, _] | [] if nodes.contains(&"nodes/bad".to_owned()) => {
                    Err(Status::invalid_argument("x"))
                }
                [one] if one == "nodes/bad" => Err(Status::invalid_argument("x")),
                [one] if one == "nodes/late" => Err(Status::unavailable("x")),
                _ => {
                    told.borrow_mut().extend(nodes);
                    Ok(())
                }
            };
            std::future::ready(taken)
        };
        let batch = |nodes: &[&str]| {
            let seen = |node: &&str| sighting(node, Instant::now(), Seen::Unreachable("x".into()));
            nodes.iter().map(seen).collect::<Vec<_>>()
        };
        let nodes = |left: Vec<Sighting>| left.into_iter().map(|one| one.node).collect::<Vec<_>>();
        let left = report(batch(&["nodes/a", "nodes/bad", "nodes/b"]), send).await;
        assert_eq!(nodes(left), [""; 0]);
        told.borrow_mut().sort();
        assert_eq!(*told.borrow(), ["nodes/a", "nodes/b"]);
        // One that is refused for now is left, with those behind it.
        let left = report(batch(&["nodes/c", "nodes/late", "nodes/bad"]), send).await;
        assert_eq!(nodes(left), ["nodes/c", "nodes/late"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_is_there_no_more_is_forgotten() {
        let mut waiting = Waiting::default();
        let seen = |node| sighting(node, Instant::now(), Seen::Unreachable("x".into()));
        waiting.saw(seen("nodes/gone"));
        assert_eq!(waiting.take(BATCH).len(), 1);
        tokio::time::advance(LATE).await;
        waiting.saw(seen("nodes/here"));
        assert_eq!(waiting.take(BATCH).len(), 1);
        assert_eq!(waiting.newest.keys().collect::<Vec<_>>(), ["nodes/here"]);
    }

    #[test]
    fn its_age_is_of_when_it_is_told() {
        let at = Instant::now();
        let told = reported(&sighting("nodes/a", at, Seen::Unreachable("x".into())), at + RETRY);
        assert_eq!(told.age, Some(prost_types::Duration { seconds: 10, nanos: 0 }));
        assert_eq!((told.bmc_health(), told.bmc_problem.as_str()), (BmcHealth::Unreachable, "x"));
    }

    #[test]
    fn who_the_machine_is_keeps_its_own_age_beside_a_newer_look() {
        let at = Instant::now();
        let power = |machine| Seen::Power {
            state: PowerState::On,
            driver: "ipmi",
            health: Health::Ok,
            problem: String::new(),
            machine,
        };
        let (uuid, serial, address) = (String::new(), "A17".to_owned(), "h 2".to_owned());
        let machine = Machine { uuid, serial, driver: "ipmi", address, at };
        let mut waiting = Waiting::default();
        waiting.saw(sighting("nodes/a", at, power(Some(machine))));
        waiting.saw(sighting("nodes/a", at + RETRY, power(None)));
        let newest = waiting.take(BATCH);
        let told = reported(newest.first().unwrap(), at + RETRY * 2);
        let seconds = |age: &Option<prost_types::Duration>| age.as_ref().map(|age| age.seconds);
        assert_eq!((seconds(&told.age), seconds(&told.machine_age)), (Some(10), Some(20)));
        let machine = told.machine.unwrap();
        assert_eq!((machine.serial_number.as_str(), machine.address.as_str()), ("A17", "h 2"));
    }
}
