//! Pretend BMCs by the thousand in one process: an address each, IPMI and Redfish on it, one machine behind both. Or one, in
//! front of a machine that is not pretended.
//!
//! - [`kind`]: whose BMC each pretends to be
//! - [`machine`]: the machine, which may lie
//! - [`script`]: what goes wrong, where and when
//!
//! What a BMC remembers is bounded: event log, sessions, tasks, what was typed on its console.

mod kind;
mod machine;
mod script;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use farrier_identity::device::SelfSigned;
use farrier_ipmi::Secret;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::AbortOnDropHandle;

pub use kind::{KINDS, Kind};
pub use machine::{Lies, Machine, Said};
use script::What;
pub use script::{Active, Protocol, Reset, Rule, Script, ScriptError, Which};

use super::chassis::follow;
use super::qemu::Qemu;
use super::redfish::{Facts, RedfishConfig, RedfishHandle, RedfishServer};
use super::{BmcConfig, BmcHandle, BmcServer};

/// What a fleet is.
#[derive(Debug, Clone)]
pub struct FleetOptions {
    pub count: usize,
    /// The address of the first; each next one has the next.
    pub first: Ipv4Addr,
    /// `None`: they do not speak it. 0 takes a free port for each.
    pub ipmi_port: Option<u16>,
    /// `None`: they do not speak it. 0 takes a free port for each.
    pub redfish_port: Option<u16>,
    /// One after the other, and from the beginning again.
    pub kinds: Vec<Kind>,
    pub user: String,
    pub password: Secret,
    pub kg: Option<Secret>,
    pub script: Script,
}

/// Pretend BMCs. Dropping it stops them; [`Fleet::shutdown`] also waits for them.
pub struct Fleet {
    bmcs: Arc<Vec<One>>,
    /// Plays the fault script.
    player: JoinHandle<()>,
    stop: CancellationToken,
    _guard: DropGuard,
}

/// One of them.
pub struct One {
    pub kind: Kind,
    pub ipmi: Option<BmcHandle>,
    pub redfish: Option<RedfishHandle>,
    pub tls: Option<SelfSigned>,
    pub machine: Arc<Machine>,
    /// Writes down what the machine does by itself.
    _follower: Option<AbortOnDropHandle<()>>,
}

impl Fleet {
    /// All of them listen when this returns, and the script's time begins.
    ///
    /// # Errors
    /// An address cannot be had, or so many files must not be open.
    pub async fn start(options: FleetOptions) -> Result<Self> {
        Self::start_with(options, None).await
    }

    /// One BMC, in front of a QEMU machine.
    ///
    /// # Errors
    /// As for a fleet; QEMU does not answer; there is to be more than one.
    pub async fn before(options: FleetOptions, qemu: Arc<Qemu>) -> Result<Self> {
        ensure!(options.count == 1, "expected --count 1 with a QEMU: it has one BMC");
        Self::start_with(options, Some(qemu)).await
    }

    async fn start_with(options: FleetOptions, qemu: Option<Arc<Qemu>>) -> Result<Self> {
        let FleetOptions { count, first, ipmi_port, redfish_port, .. } = options;
        ensure!(!options.kinds.is_empty(), "expected at least one personality");
        // A connection for each that speaks Redfish.
        let each = usize::from(ipmi_port.is_some()) + 2 * usize::from(redfish_port.is_some());
        allow_open_files(count.saturating_mul(each))?;
        let mut bmcs = Vec::with_capacity(count);
        for number in 0..count {
            let after = u32::try_from(number).ok().and_then(|number| first.to_bits().checked_add(number));
            let ip = Ipv4Addr::from_bits(after.context("expected an address for each, the last ran out")?);
            let udp = match ipmi_port {
                Some(port) => Some(UdpSocket::bind((ip, port)).await.with_context(|| cannot(ip, port))?),
                None => None,
            };
            let tcp = match redfish_port {
                Some(port) => Some(TcpListener::bind((ip, port)).await.with_context(|| cannot(ip, port))?),
                None => None,
            };
            let kind = options.kinds.get(number % options.kinds.len()).copied();
            let kind = kind.context("expected at least one personality")?;
            bmcs.push(one(&options, number, kind, ip, (udp, tcp), qemu.clone()).await?);
        }
        let bmcs = Arc::new(bmcs);
        let stop = CancellationToken::new();
        let (play, ends) = (play(options.script, Arc::clone(&bmcs)), stop.clone());
        let player = tokio::spawn(async move {
            ends.run_until_cancelled_owned(play).await;
        });
        Ok(Self { bmcs, player, _guard: stop.clone().drop_guard(), stop })
    }

    /// All of them, by number.
    #[must_use]
    pub fn bmcs(&self) -> &[One] {
        &self.bmcs
    }

    /// Stops them, and waits until their sockets are closed.
    pub async fn shutdown(self) {
        self.stop.cancel();
        if let Err(error) = self.player.await {
            tracing::error!(%error, "the fault script ended badly");
        }
        let all = Arc::try_unwrap(self.bmcs).unwrap_or_default();
        for one in all {
            if let Some(ipmi) = one.ipmi {
                ipmi.shutdown().await;
            }
            if let Some(redfish) = one.redfish {
                redfish.shutdown().await;
            }
        }
    }
}

impl One {
    /// Where it speaks IPMI.
    #[must_use]
    pub fn ipmi_address(&self) -> Option<SocketAddr> {
        self.ipmi.as_ref().map(BmcHandle::address)
    }

    /// Where it speaks Redfish.
    #[must_use]
    pub fn redfish_address(&self) -> Option<SocketAddr> {
        self.redfish.as_ref().map(RedfishHandle::address)
    }

    fn set(&self, active: Active) {
        if let Some(ipmi) = &self.ipmi {
            ipmi.set_faults(active.ipmi);
        }
        if let Some(redfish) = &self.redfish {
            redfish.set_faults(active.redfish);
        }
        self.machine.set_lies(active.machine);
    }
}

async fn one(
    options: &FleetOptions,
    number: usize,
    kind: Kind,
    ip: Ipv4Addr,
    (udp, tcp): (Option<UdpSocket>, Option<TcpListener>),
    qemu: Option<Arc<Qemu>>,
) -> Result<One> {
    let [_, _, _, _, a, b, c, d] = (number as u64).to_be_bytes();
    let mut config = BmcConfig::new(options.user.clone(), options.password.clone());
    config.kg.clone_from(&options.kg);
    // The same after the simulator's next start.
    let guid = [0xFA, 0x22, 0x1E, 0x20, 0, 0, 0x80, 0, 0x80, 0, 0, 0, a, b, c, d];
    config.manufacturer_id = kind.manufacturer_id;
    config.board = kind.board;
    config.boot_parameters_3_and_4 = kind.boot_parameters_3_and_4;
    config.largest_sdr_part = kind.largest_sdr_part;
    let facts = Facts {
        manufacturer: kind.board.0.to_owned(),
        model: kind.board.1.to_owned(),
        serial_number: format!("SIM{number:05}"),
        uuid: guid,
        cpus: 8,
        memory_bytes: 16 << 30,
        macs: vec![format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}")],
    };
    let (machine, facts) = match &qemu {
        Some(qemu) => (Machine::before(qemu.clone()), qemu.facts(facts).await?),
        None => (Machine::default(), facts),
    };
    let machine = Arc::new(machine);
    config.guid = facts.uuid;
    config.serial_number = Some(facts.serial_number.clone());
    let mut redfish =
        RedfishConfig::new(options.user.clone(), options.password.clone(), facts).of(kind.redfish);
    let accounts = config.accounts();
    redfish.accounts = accounts.clone();
    redfish.log = config.log.clone();
    redfish.sensor_collection = kind.sensor_collection;
    redfish.action_info = kind.action_info;
    redfish.tls = tcp.is_some().then(|| SelfSigned::generate(&[ip.to_string()])).transpose()?;
    let tls = redfish.tls.clone();
    // A task for those alone whose power changes by itself.
    let shuts_down = |rule: &Rule| matches!(rule.what, What::SlowSoftOff(_));
    let stirs = qemu.is_some() || options.script.rules.iter().any(shuts_down);
    let follower =
        stirs.then(|| AbortOnDropHandle::new(tokio::spawn(follow(machine.clone(), config.log.clone()))));
    let ipmi = udp.map(|udp| BmcServer::start_with(udp, config, accounts, machine.clone())).transpose()?;
    let redfish = tcp.map(|tcp| RedfishServer::start(tcp, redfish, machine.clone())).transpose()?;
    Ok(One { kind, ipmi, redfish, tls, machine, _follower: follower })
}

/// Has the faults begin and end.
async fn play(script: Script, bmcs: Arc<Vec<One>>) {
    let start = Instant::now();
    let mut last = None;
    let mut since = Duration::ZERO;
    loop {
        for (number, bmc) in bmcs.iter().enumerate() {
            let active = script.at(number, since);
            let before = last.map(|last| script.at(number, last)).unwrap_or_default();
            if active != before {
                bmc.set(active);
            }
        }
        let Some(next) = script.next_change(since) else { return };
        tokio::time::sleep_until(start + next).await;
        last = Some(since);
        // Never before it, whatever the clock's grain.
        since = start.elapsed().max(next);
    }
}

fn cannot(ip: Ipv4Addr, port: u16) -> String {
    format!("cannot bind {ip}:{port}; is another BMC there, or is it no address of this host?")
}

/// So many sockets, connections and some.
///
/// # Errors
/// This process may not have so many.
pub fn allow_open_files(count: usize) -> Result<()> {
    let wanted = u64::try_from(count)? + 1024;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = Some(wanted);
        limit.maximum = limit.maximum.map(|most| most.max(wanted));
        setrlimit(Resource::Nofile, limit).context("not so many open files are allowed: ulimit -n")?;
    }
    Ok(())
}
