//! Redfish: our driver on one thread, and sushy, over the same services, each with a certificate of its own.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use farrier_bmc::redfish::{Dial, DialError, RedfishAddress, RedfishHub, Stream, Trust, Tuning};
use farrier_bmc::{Bmc, BmcError, Deadline, PowerState, Secret};
use farrier_identity::device::{DeviceError, DeviceTrust, connect};
use futures::StreamExt as _;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::fleet::{self, Kind, PASSWORD, USER, redfish_address};
use crate::peers::{feed, row};
use crate::usage::{median, own_cpu};

/// Connections at once.
const AT_ONCE: usize = 256;
const PATIENCE: Duration = Duration::from_secs(60);

/// Over TLS, as rackd dials a BMC whose certificate is pinned.
struct PinnedDial;

#[async_trait::async_trait]
impl Dial for PinnedDial {
    async fn dial(&self, address: &RedfishAddress) -> Result<Box<dyn Stream>, DialError> {
        let Trust::Pin(pin) = address.trust else { return Err(DialError::Tls("no pin".to_owned())) };
        let stream = TcpStream::connect(address.addr).await?;
        stream.set_nodelay(true)?;
        match connect(stream, &address.host, &DeviceTrust::Pin(pin)).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(DeviceError::Certificate(seen)) => Err(DialError::Certificate(seen)),
            Err(error @ DeviceError::WeakKey(_)) => Err(DialError::WeakKey(error.to_string())),
            Err(DeviceError::Tls(seen)) => Err(DialError::Tls(seen)),
        }
    }
}

pub(crate) fn ours(pins: &[[u8; 32]], runs: usize) -> Result<()> {
    println!(
        "\n| Redfish | services | runs | wall s | CPU s | us CPU/read | reads/CPU s |\n|---|--:|--:|--:|--:|--:|--:|"
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut first, mut later) = (Vec::new(), Vec::new());
        for _ in 0..runs {
            // Each keeps the connection of the first sweep for the second.
            let hub = hub(Tuning { max_unused: pins.len(), ..Tuning::default() });
            let bmcs = handles(&hub, pins);
            first.push(timed(&bmcs).await?);
            later.push(timed(&bmcs).await?);
            drop(bmcs);
            hub.shutdown().await;
        }
        for (what, figures) in [("connected for it", first), ("connected", later)] {
            let wall = median(figures.iter().map(|(wall, _)| *wall).collect());
            let cpu = median(figures.iter().map(|(_, cpu)| *cpu).collect());
            let count = pins.len() as f64;
            println!(
                "| ours, {what} | {} | {runs} | {wall:.2} | {cpu:.2} | {:.0} | {:.0} |",
                pins.len(),
                cpu / count * 1e6,
                count / cpu
            );
        }
        Ok(())
    })
}

pub(crate) fn hub(tuning: Tuning) -> RedfishHub {
    RedfishHub::with(Arc::new(PinnedDial), tuning)
}

pub(crate) fn handles(hub: &RedfishHub, pins: &[[u8; 32]]) -> Vec<Bmc> {
    let bmc = |(index, pin): (usize, &[u8; 32])| {
        let trust = Trust::Pin(*pin);
        hub.bmc(RedfishAddress::new(redfish_address(index), USER, Secret::new(PASSWORD), trust))
    };
    pins.iter().enumerate().map(bmc).collect()
}

/// One sweep that must succeed: wall and processor seconds.
pub(crate) async fn timed(bmcs: &[Bmc]) -> Result<(f64, f64)> {
    let (begin, used) = (Instant::now(), own_cpu()?);
    let reads = bmcs
        .iter()
        .enumerate()
        .map(|(index, bmc)| async move { (index, bmc.power_status(Deadline::after(PATIENCE)).await) });
    let answers: Vec<_> = futures::stream::iter(reads).buffer_unordered(AT_ONCE).collect().await;
    all_well(answers)?;
    Ok((begin.elapsed().as_secs_f64(), (own_cpu()? - used).as_secs_f64()))
}

/// By number. None of the services is bad.
pub(crate) fn all_well(answers: Vec<(usize, Result<PowerState, BmcError>)>) -> Result<()> {
    let mut seen = Vec::with_capacity(answers.len());
    for (index, answer) in answers {
        let state = answer.with_context(|| format!("number {index} is well and was not read"))?;
        seen.push((index, Kind::Healthy, Some(state)));
    }
    fleet::check(seen)
}

pub(crate) fn sushy(python: &Path, count: usize, runs: usize) -> Result<()> {
    let urls: Vec<String> = (0..count).map(|index| format!("https://{}", redfish_address(index))).collect();
    println!("\n| peer | reads | runs | wall s | CPU s | us CPU/read |\n|---|--:|--:|--:|--:|--:|");
    for (what, rounds) in [("session opened", 1), ("session opened, and ten reads more", 11)] {
        row(&format!("sushy, {what}"), urls.len() * rounds, runs, || run(python, &urls, rounds))?;
    }
    // What Python and its modules cost before the first BMC.
    row("sushy, no service at all", 0, runs, || run(python, &[], 1))
}

fn run(python: &Path, urls: &[String], rounds: usize) -> Result<()> {
    let child = Command::new("timeout")
        .args(["300"])
        .arg(python)
        .args(["-c", SCRIPT, &rounds.to_string(), USER, PASSWORD])
        .stdin(Stdio::piped())
        .spawn()
        .with_context(|| format!("{} does not start", python.display()))?;
    feed(child, &urls.join("\n")).context("sushy, given five minutes")
}

/// One service after the other, each session kept, as a worker of Ironic does. Certificates are not looked at.
const SCRIPT: &str = r#"
import sys, warnings
import sushy
warnings.simplefilter("ignore")
rounds, user, password = int(sys.argv[1]), sys.argv[2], sys.argv[3]
systems, auths = [], []
for url in sys.stdin.read().split():
    auth = sushy.auth.SessionAuth(username=user, password=password)
    [system] = sushy.Sushy(url, auth=auth, verify=False).get_system_collection().get_members()
    assert system.power_state in (sushy.PowerState.ON, sushy.PowerState.OFF)
    systems.append(system)
    auths.append(auth)
for _ in range(rounds - 1):
    for system in systems:
        system.refresh(force=True)
        assert system.power_state in (sushy.PowerState.ON, sushy.PowerState.OFF)
for auth in auths:
    auth.close()
"#;
