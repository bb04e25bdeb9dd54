//! Machines that nobody described: one that asks to boot gets the ramdisk, says what it is made of, and is switched off.
//! Inventory keeps it as discovered until somebody accepts it. One that turns out to be a node's goes on to its disk instead.
//!
//! Whether a machine is unknown is inventory's word, asked for each boot: a node without a task is unknown here too. So
//! without the centre nothing is discovered; what was found meanwhile is told when it is back, also by a rackd that started
//! since, and BMCs that asked for their addresses meanwhile are looked at then.

mod bmcs;
mod boots;
mod files;
mod found;
mod unreported;

use crate::boot::{Place, Serve};
use crate::config::{Config, DiscoveryMode, SegmentConfig};
use crate::rack::Rack;
use crate::secrets::TokenUse;
use boots::Boots;
use farrier_identity::client::{Expect, channel_with_deadline};
use farrier_identity::{Credentials, Identity};
use farrier_netboot::{BootEntry, BootEvent, EventKind, Lease, LeaseKind, MacAddr};
use farrier_proto::agent::session_response::{Command, Inspect, PowerOff, Restart};
use farrier_proto::inventory::discovered_service_client::DiscoveredServiceClient;
use farrier_proto::inventory::{
    GivenAddress, ReportMachineRequest, SightMachineRequest, SightMachineResponse,
};
use farrier_proto::rack::{Machine, MachinePort};
use farrier_proto::types::Hardware;
use farrier_runtime::crash;
use found::{Begun, Found};
use prost::Message as _;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};
use unreported::Unreported;

/// What this rack does about unknown machines, and those under way.
pub(crate) struct Discovery {
    /// `None`: nothing is discovered.
    inventory: Option<DiscoveredServiceClient<Channel>>,
    pub(crate) found: Arc<Found>,
    boots: Arc<Boots>,
    unreported: Unreported,
    /// Strangers can cause both at will.
    told_full: Minute,
    told_unasked: Minute,
    told_bmcs: Minute,
}

/// What is told once a minute at most.
#[derive(Default)]
struct Minute(Mutex<Option<Instant>>);

impl Minute {
    fn due(&self, now: Instant) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = told.is_none_or(|at| now.saturating_duration_since(at) >= MINUTE);
        if due {
            *told = Some(now);
        }
        due
    }
}

impl Discovery {
    pub(crate) fn new(config: &Config, credentials: &Credentials) -> anyhow::Result<Self> {
        let inventory = match (config.discovery.mode, &config.inventory) {
            (DiscoveryMode::Off, _) | (_, None) => None,
            (DiscoveryMode::Wait, Some(inventory)) => {
                let expect = Expect::Exactly(Identity::Service("inventory".to_owned()));
                let channel = channel_with_deadline(inventory, credentials, expect, CALL)?;
                Some(DiscoveredServiceClient::new(channel))
            }
        };
        let (found, boots) = (Found::default(), Boots::new(&config.data));
        if inventory.is_some() {
            found.load(boots.all(), Instant::now());
        }
        Ok(Self {
            inventory,
            found: Arc::new(found),
            boots: Arc::new(boots),
            unreported: Unreported::new(&config.data),
            told_full: Minute::default(),
            told_unasked: Minute::default(),
            told_bmcs: Minute::default(),
        })
    }

    #[cfg(test)]
    pub(crate) fn off(data: &std::path::Path) -> Self {
        Self {
            inventory: None,
            found: Arc::default(),
            boots: Arc::new(Boots::new(data)),
            unreported: Unreported::new(data),
            told_full: Minute::default(),
            told_unasked: Minute::default(),
            told_bmcs: Minute::default(),
        }
    }
}

/// How many machines a provisioning network has addresses for.
fn addresses(segment: &SegmentConfig) -> u32 {
    segment.pool.1.to_bits().saturating_sub(segment.pool.0.to_bits()).saturating_add(1)
}

/// Finds machines and BMCs until shutdown.
pub(crate) async fn run(rack: Arc<Rack>) {
    tokio::join!(
        serve_again(&rack),
        boot_machines(rack.clone()),
        tell_again(rack.clone()),
        bmcs::look(rack.clone())
    );
}

/// Those that were under way when this rackd ended: one that starts again finds its script.
async fn serve_again(rack: &Rack) {
    let work = async {
        for mac in rack.discovery.found.ports() {
            serve(rack, mac).await;
        }
    };
    rack.shutdown.run_until_cancelled(work).await;
}

/// Tells inventory of machines that were found while it was away, until shutdown: those whom nobody here waits for any more.
async fn tell_again(rack: Arc<Rack>) {
    let Some(inventory) = rack.discovery.inventory.clone() else { return };
    let work = async {
        let (found, centre) = (&rack.discovery.found, Centre(inventory));
        let mut again = tokio::time::interval(TELL_AGAIN);
        again.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            again.tick().await;
            unreported::tell(&rack.discovery.unreported, |mac| found.said(mac).is_none(), &centre).await;
        }
    };
    rack.shutdown.run_until_cancelled(work).await;
}

struct Centre(DiscoveredServiceClient<Channel>);

impl unreported::Hears for Centre {
    async fn hears(&self, report: ReportMachineRequest) -> Result<(), Status> {
        let mac = report.boot_mac_address.clone();
        let answer = self.0.clone().report_machine(report).await?.into_inner();
        tracing::info!(
            mac,
            machine = answer.machine,
            node.id = answer.node,
            "machine discovered some time ago"
        );
        Ok(())
    }
}

/// Boots the machines that netboot does not know, until shutdown. A centre that is slow or away keeps no machine waiting
/// for another one's answer.
async fn boot_machines(rack: Arc<Rack>) {
    let Some(inventory) = rack.discovery.inventory.clone() else { return };
    let mut events = rack.netboot.events();
    let mut tidy = tokio::time::interval(TIDY);
    let (mut asking, mut asked_for) = (JoinSet::new(), HashSet::new());
    loop {
        let event = tokio::select! {
            () = rack.shutdown.cancelled() => return,
            Some(done) = asking.join_next() => {
                match done {
                    Ok(mac) => drop(asked_for.remove(&mac)),
                    // A bug, told where it happened; nobody is to wait for ever because of it.
                    Err(_) => asked_for.clear(),
                }
                continue;
            }
            _ = tidy.tick() => {
                // They may begin anew, and their addresses are free.
                forget_old(&rack, Instant::now()).await;
                continue;
            }
            event = events.recv() => event,
        };
        match event {
            Ok(event) => {
                let unknown = unknown(&rack, &event).filter(|(mac, _)| !asked_for.contains(mac));
                let Some((mac, network)) = unknown else {
                    continue;
                };
                if asking.len() >= ASKING {
                    rack.netboot.tell_again(Some(mac));
                    continue;
                }
                asked_for.insert(mac);
                let (rack, inventory) = (Arc::clone(&rack), inventory.clone());
                asking.spawn(async move {
                    sight(&rack, inventory, mac, &network).await;
                    mac
                });
            }
            // Whose events they were is not known: each machine is told of when it asks again.
            Err(RecvError::Lagged(_)) => rack.netboot.tell_again(None),
            Err(RecvError::Closed) => return,
        }
    }
}

/// The machine, if it is one to be discovered. A tenant's machine that boots, and whatever only wants an address, are
/// nobody's business here.
fn unknown(rack: &Rack, event: &BootEvent) -> Option<(MacAddr, String)> {
    match &event.kind {
        EventKind::UnknownMac { network, boots: true } if rack.provisioning_named(network).is_some() => {
            Some((event.mac?, network.clone()))
        }
        _ => None,
    }
}

async fn sight(rack: &Rack, mut inventory: DiscoveredServiceClient<Channel>, mac: MacAddr, network: &str) {
    let request = SightMachineRequest { mac_address: mac.to_string() };
    let answer = match tokio::time::timeout(SIGHT, inventory.sight_machine(request)).await {
        Ok(answer) => answer.map(Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded(format!("expected an answer within {SIGHT:?}, saw none"))),
    };
    match answer {
        Ok(sighted) if sighted.node.is_empty() => begin(rack, mac, network).await,
        Ok(SightMachineResponse { node, rack: own, .. }) if !own.is_empty() => {
            let detail =
                format!("it is a port of {node}, which is in {own}: it is served there, and not here");
            rack.netboot.tell_of(mac, &node, EventKind::WrongNetwork, detail);
        }
        Ok(sighted) => tracing::debug!(%mac, node.id = sighted.node, "a node without a task asks to boot"),
        Err(status) => {
            tracing::debug!(%mac, %status, "not told whether this machine is known");
            if rack.discovery.told_unasked.due(Instant::now()) {
                tracing::warn!(%mac, %status, "not told whether unknown machines are known: nothing is booted");
            }
            // Its firmware asks four times in a minute.
            rack.netboot.tell_again(Some(mac));
        }
    }
}

async fn begin(rack: &Rack, mac: MacAddr, network: &str) {
    let Some(segment) = rack.provisioning_named(network) else { return };
    let now = Instant::now();
    forget_old(rack, now).await;
    let begun = rack.discovery.found.begin(mac, (network, addresses(segment)), now);
    if has_place(rack, mac, begun, now) {
        tracing::info!(%mac, "an unknown machine gets the ramdisk");
        serve(rack, mac).await;
    }
}

fn has_place(rack: &Rack, mac: MacAddr, begun: Begun, now: Instant) -> bool {
    match begun {
        Begun::TooMany => {
            tracing::debug!(%mac, "too many unknown machines at once: this one has to ask again");
            if rack.discovery.told_full.due(now) {
                tracing::warn!(
                    "too many unknown machines at once: {mac} and what comes after it have to ask again"
                );
            }
            rack.netboot.tell_again(Some(mac));
            return false;
        }
        Begun::InPlaceOf(other) => unpublish(rack, other),
        Begun::Yes => {}
    }
    true
}

async fn forget_old(rack: &Rack, now: Instant) {
    for mac in rack.discovery.found.forget_old(now) {
        unpublish(rack, mac);
        keep_boot(rack, mac).await;
    }
}

/// It was given its script. A token lives for one boot.
pub(crate) async fn script_given(rack: &Rack, mac: MacAddr) {
    rack.discovery.found.fetched(mac, Instant::now());
    serve(rack, mac).await;
    keep_boot(rack, mac).await;
}

/// Whose boot this token is of, and what its use comes to: whoever has used it has used it after a restart too.
pub(crate) async fn use_token(rack: &Rack, token: &str, key: &str) -> Option<(MacAddr, TokenUse)> {
    let (mac, used) = rack.discovery.found.use_token(token, key)?;
    if used == TokenUse::First {
        keep_boot(rack, mac).await;
    }
    Some((mac, used))
}

/// The disk has what is so of it now: its boot, or that it is here no more.
async fn keep_boot(rack: &Rack, mac: MacAddr) {
    let (found, boots) = (Arc::clone(&rack.discovery.found), Arc::clone(&rack.discovery.boots));
    let kept = tokio::task::spawn_blocking(move || boots.keep(&found, mac)).await;
    if let Ok(Err(error)) = kept {
        tracing::warn!(%mac, %error, "a machine that is being discovered is in memory only: after a restart it starts again");
    }
}

/// It asks in another network than before.
pub(crate) async fn moved(rack: &Rack, mac: MacAddr, segment: &SegmentConfig) {
    let now = Instant::now();
    let begun = rack.discovery.found.moved(mac, (&segment.name, addresses(segment)), now);
    if begun.is_some_and(|begun| has_place(rack, mac, begun, now)) {
        serve(rack, mac).await;
    }
}

/// The ramdisk's script with a new token, where no task has taken the machine meanwhile: wherever it asked, since it may be
/// back where it was.
async fn serve(rack: &Rack, mac: MacAddr) {
    let name = name(mac);
    if rack.netboot.table().entries_of(mac).iter().any(|entry| entry.node != name) {
        return;
    }
    let Some(token) = rack.discovery.found.new_token(mac) else { return };
    let goes_on = rack.discovery.found.goes_on(mac);
    let hostname = mac.hyphenated();
    for network in rack.discovery.found.networks(mac) {
        let Some(segment) = rack.provisioning_named(&network) else { continue };
        let serve = if goes_on { Serve::LocalDisk } else { Serve::Ramdisk { token: &token } };
        let served = rack.publish(&machine(rack, mac), &hostname, Place::In(segment), &serve).await;
        if let Err(error) = served {
            // It takes no place from others, and begins when it asks again.
            rack.discovery.found.not_served(mac, &network);
            let error = farrier_runtime::telemetry::chain(&error);
            tracing::warn!(%mac, segment = network, error, "an unknown machine gets nothing to boot");
        }
    }
}

/// Its ramdisk is there: inventory is told, and it is switched off, unless it turns out to be a node's. One that was here before is
/// told of where nobody is at it, because this rackd has started since.
pub(crate) fn registered(rack: &Arc<Rack>, mac: MacAddr, used: TokenUse, hardware: Option<Hardware>) {
    let Some(inventory) = rack.discovery.inventory.clone() else { return };
    if used != TokenUse::First && rack.discovery.found.said(mac).is_some() {
        return;
    }
    let hardware = bounded(rack, mac, hardware.unwrap_or_default());
    // One that boots again and again, or says that it does, is reported by one task, as it was last.
    if !rack.discovery.found.say(mac, hardware) {
        return;
    }
    let rack = rack.clone();
    rack.clone().tracker.spawn(async move {
        let work = finish(&rack, inventory, mac);
        rack.shutdown.run_until_cancelled(work).await;
    });
}

fn bounded(rack: &Rack, mac: MacAddr, hardware: Hardware) -> Hardware {
    if hardware.encoded_len() > MOST_HARDWARE {
        // Inventory would refuse it. It is reported as a machine that said nothing of itself.
        if rack.discovery.told_full.due(Instant::now()) {
            tracing::warn!(%mac, "an unknown machine says more of itself than any machine has: not kept");
        }
        return Hardware::default();
    }
    hardware
}

/// What takes a while to be seen: disks, links, and what is at their other ends. Without an answer it is as it registered.
async fn inspect(rack: &Rack, mac: MacAddr) {
    let Some(agent) = rack.discovery.found.agent(mac) else { return };
    let seconds = rack.config.inspection.neighbour_seconds;
    let order = Command::Inspect(Inspect { neighbour_seconds: seconds.into() });
    let within = INSPECTED + Duration::from_secs(seconds.into());
    match tokio::time::timeout(within, agent.command("inspect", order, |_| {}, |_| {})).await {
        Ok(Ok(done)) => {
            if let Some(hardware) = done.hardware {
                rack.discovery.found.say(mac, bounded(rack, mac, hardware));
            }
        }
        Ok(Err(failure)) => {
            tracing::warn!(%mac, why = failure.message, "a discovered machine is not inspected")
        }
        Err(_) => tracing::warn!(%mac, "a discovered machine does not answer: it is told as it registered"),
    }
}

/// Whose machine it is, as inventory says.
enum Whose {
    Nobodys,
    /// The node's of this name; empty: it may be somebody's.
    Node(String),
    /// The centre was away for long, or could not read what the machine says: somebody's system may run on it.
    NotSaid,
}

async fn finish(rack: &Rack, mut inventory: DiscoveredServiceClient<Channel>, mac: MacAddr) {
    inspect(rack, mac).await;
    crash::point("discovery", "inspected");
    let (mut kept, mut whose) = (None, Whose::NotSaid);
    for attempt in 1..=ATTEMPTS {
        let hardware = rack.discovery.found.said(mac);
        let request = report(rack, mac, hardware);
        match inventory.report_machine(request.clone()).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                tracing::info!(%mac, machine = answer.machine, node.id = answer.node, "machine discovered");
                whose = if answer.has_owner { Whose::Node(answer.node) } else { Whose::Nobodys };
                unreported::blocking(&rack.discovery.unreported, move |all| all.forget(mac)).await;
                break;
            }
            // Refused, it would be refused again. It can boot again.
            Err(status) if !may_pass(&status) => {
                tracing::error!(%mac, %status, "a discovered machine is not written down");
                unreported::blocking(&rack.discovery.unreported, move |all| all.forget(mac)).await;
                break;
            }
            Err(status) => {
                tracing::debug!(%mac, %status, "a discovered machine is not told yet");
                if rack.discovery.told_unasked.due(Instant::now()) {
                    tracing::warn!(%mac, %status, "discovered machines are not told yet");
                }
                if kept.as_ref() != Some(&request) {
                    keep(rack, mac, request.clone()).await;
                    kept = Some(request);
                }
                // There is no room for it before somebody makes some.
                if status.code() == Code::ResourceExhausted {
                    whose = Whose::Nobodys;
                    break;
                }
                // It does not wait here for ever: what is on disk is told when the centre is back.
                if attempt < ATTEMPTS {
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
    match whose {
        Whose::Node(node) => go_on(rack, mac, &node).await,
        Whose::NotSaid => go_on(rack, mac, "").await,
        Whose::Nobodys => {
            let order = last_order(rack, mac, "off", Command::PowerOff(PowerOff {}));
            match tokio::time::timeout(OFF, order).await {
                Ok(Ok(())) => {}
                Ok(Err(why)) => tracing::warn!(%mac, why, "a discovered machine stays on"),
                Err(_) => tracing::warn!(%mac, "a discovered machine does not answer, and may stay on"),
            }
            rack.discovery.found.end(mac);
            unpublish(rack, mac);
        }
    }
    keep_boot(rack, mac).await;
}

/// A machine that asked to boot by an interface which is no port of its node: what that runs is on its disk, and it goes on to it.
/// `node`: empty where it is not clear whose it is.
async fn go_on(rack: &Rack, mac: MacAddr, node: &str) {
    tracing::warn!(%mac, node.id = node, "a machine that was discovered is a node's, or may be: it starts again, and has its disk to boot");
    rack.discovery.found.go_on(mac, Instant::now());
    // Before it asks again.
    serve(rack, mac).await;
    let order = last_order(rack, mac, "restart", Command::Restart(Restart {}));
    match tokio::time::timeout(OFF, order).await {
        Ok(Ok(())) => {}
        // An older ramdisk does not know it. One that nobody knows starts again by itself, after minutes.
        Ok(Err(why)) => tracing::info!(%mac, why, "a node's machine does not start again at once"),
        Err(_) => tracing::warn!(%mac, "a node's machine does not answer, and may stay where it is"),
    }
    rack.discovery.found.dismiss(mac);
}

/// What came of it, as far as its agent is there: that leaves at once.
async fn last_order(rack: &Rack, mac: MacAddr, id: &str, order: Command) -> Result<(), String> {
    let Some(agent) = rack.discovery.found.agent(mac) else { return Ok(()) };
    let outcome = agent.command(id, order, |_| {}, |_| {}).await;
    agent.hang_up();
    outcome.map(drop).map_err(|failure| failure.message)
}

/// Whatever becomes of this rackd, it is told.
async fn keep(rack: &Rack, mac: MacAddr, request: ReportMachineRequest) {
    let kept = unreported::blocking(&rack.discovery.unreported, move |all| all.keep(mac, &request)).await;
    if let Some(Err(error)) = kept {
        tracing::warn!(%mac, %error, "a discovered machine that is not told yet is in memory only, and forgotten by a restart");
    }
}

fn report(rack: &Rack, mac: MacAddr, hardware: Option<Hardware>) -> ReportMachineRequest {
    let peer = rack.discovery.found.agent(mac).and_then(|agent| agent.peer());
    let came = peer.and_then(|ip| rack.provisioning_at(ip)).map(|segment| segment.name.clone());
    let network = came.or_else(|| rack.discovery.found.network(mac)).unwrap_or_default();
    let ip = rack.netboot.table().entry(mac, &network).map(|entry| entry.ip.to_string());
    let given = rack.netboot.leases().into_iter().filter(|lease| is_given(rack, lease)).take(GIVEN);
    let given = given
        .map(|lease| GivenAddress { mac_address: lease.mac.to_string(), ip_address: lease.ip.to_string() });
    ReportMachineRequest {
        boot_mac_address: mac.to_string(),
        hardware,
        ip_address: ip.unwrap_or_default(),
        given: given.collect(),
    }
}

/// Whether somebody has an address who may be a BMC. A tenant's machine is nobody's. On a management network one may have a
/// reservation.
fn is_given(rack: &Rack, lease: &Lease) -> bool {
    match lease.kind {
        LeaseKind::Pool(_) if rack.provisioning_named(&lease.network).is_some() => true,
        LeaseKind::Pool(_) | LeaseKind::Reserved => rack.is_management(&lease.network),
        LeaseKind::Declined => false,
    }
}

/// Whether inventory may take the same later: it has not said that something is wrong with what it was told.
fn may_pass(status: &Status) -> bool {
    !matches!(
        status.code(),
        Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::AlreadyExists
            | Code::NotFound
            | Code::Unimplemented
    )
}

/// Whether it would say so whatever it was told.
fn says_nothing_of_it(status: &Status) -> bool {
    may_pass(status) && !matches!(status.code(), Code::Internal | Code::Unknown)
}

/// Nothing is served to an unknown machine any more.
fn unpublish(rack: &Rack, mac: MacAddr) {
    let name = name(mac);
    rack.netboot.update(|table| {
        // A task may have it by now.
        let its = |entry: &&Arc<BootEntry>| entry.node == name;
        let networks: Vec<_> = table.entries_of(mac).iter().filter(its).map(|e| e.network.clone()).collect();
        networks.iter().for_each(|network| table.unpublish(mac, network));
    });
}

/// Who the ramdisk of an unknown machine is.
pub(crate) fn identity(mac: MacAddr) -> Identity {
    Identity::Node(format!("discovered.{}", mac.hyphenated()))
}

/// As events and boot scripts have it.
pub(crate) fn name(mac: MacAddr) -> String {
    format!("discovered/{}", mac.hyphenated())
}

/// Whose boot script it was, if it was one of an unknown machine.
pub(crate) fn port_of(name: &str) -> Option<MacAddr> {
    name.strip_prefix("discovered/")?.parse().ok()
}

fn machine(rack: &Rack, mac: MacAddr) -> Machine {
    let port = MachinePort { mac_address: mac.to_string(), pxe_enabled: true, ..MachinePort::default() };
    let secure_boot = rack.config.discovery.secure_boot;
    Machine { name: name(mac), ports: vec![port], secure_boot, ..Machine::default() }
}

/// Leases of pools told beside a machine: the BMCs of a row.
const GIVEN: usize = 1024;
/// What got no further than its script is looked for this often.
const TIDY: Duration = Duration::from_secs(60);
const MINUTE: Duration = Duration::from_secs(60);
/// As inventory has it: a server with a hundred disks says a tenth of this.
const MOST_HARDWARE: usize = 64 << 10;
/// Inventory reads a row, and firmware that was not answered gives up within a minute.
const SIGHT: Duration = Duration::from_secs(2);
/// Machines that inventory is asked about at a time.
const ASKING: usize = 64;
/// Inventory reads some rows.
const CALL: Duration = Duration::from_secs(10);
/// Besides what its neighbours have: an agent connects in seconds, and waits 20 s for disks.
const INSPECTED: Duration = Duration::from_secs(60);
/// How often a machine is told of: half an hour of an absent centre.
const ATTEMPTS: u32 = 180;
const RETRY: Duration = Duration::from_secs(10);
/// How often those on disk are told again.
const TELL_AGAIN: Duration = Duration::from_secs(60);
/// An agent that is connected, or connects again, takes its order in seconds.
const OFF: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests;
