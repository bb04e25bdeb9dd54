//! What a Redfish BMC costs in memory while nobody asks it, as rackd's watch holds them: a handle and a session each, looked at
//! once in a while, and no connection in between; what the first BMC alone needs of the program is not counted. First as the watch
//! does it, spread over a part of each minute; then all at once, after which the allocator keeps what the connections needed that
//! were open at a time.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use farrier_bmc::redfish::Tuning;
use farrier_bmc::{Bmc, Deadline};

use crate::usage::resident;
use crate::web::{all_well, handles, hub, timed};

/// Looks, each with the pause after which connections are closed: memory that grew with each of them would show.
const LOOKS: usize = 3;

/// In a process of its own.
pub(crate) fn measure(pins: &[[u8; 32]]) -> Result<()> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("idle")
        .stdin(Stdio::piped())
        .spawn()
        .context("the process that measures does not start")?;
    let mut input = child.stdin.take().context("no input of the process that measures")?;
    for pin in pins {
        writeln!(input, "{}", hex::encode(pin))?;
    }
    drop(input);
    let status = child.wait()?;
    ensure!(status.success(), "idle BMCs: {status}");
    Ok(())
}

pub(crate) fn run() -> Result<()> {
    let pin = |line: std::io::Result<String>| -> Result<[u8; 32]> {
        hex::decode(line?)?.try_into().ok().context("a SHA-256 has 32 bytes")
    };
    let pins: Vec<[u8; 32]> = std::io::stdin().lines().map(pin).collect::<Result<_>>()?;
    farrier_sim::bmc::fleet::allow_open_files(pins.len())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        println!("\n| Redfish BMCs that nobody asks | BMCs | KiB each |\n|---|--:|--:|");
        // What a look needs in code and tables is there once, however many BMCs there are.
        let warm = hub(Tuning::default());
        timed(&handles(&warm, pins.get(..1).unwrap_or_default())).await?;
        warm.shutdown().await;
        let begin = resident()?;
        let row = |what: &str| -> Result<()> {
            let each = resident()?.saturating_sub(begin) as f64 / pins.len().max(1) as f64 / 1024.0;
            println!("| {what} | {} | {each:.1} |", pins.len());
            Ok(())
        };
        let hub = hub(Tuning::default());
        let bmcs = handles(&hub, &pins);
        // The actors run once and wait.
        tokio::task::yield_now().await;
        row("known, not asked yet")?;
        // Connections are closed, sessions kept.
        let pause = Tuning::default().idle_disconnect + Duration::from_secs(1);
        for look in 1..=LOOKS {
            spread(&bmcs).await?;
            tokio::time::sleep(pause).await;
            row(&format!("look {look}, spread over {} s", SPREAD.as_secs()))?;
        }
        for look in 1..=LOOKS {
            timed(&bmcs).await?;
            tokio::time::sleep(pause).await;
            row(&format!("look {look}, all at once"))?;
        }
        drop(bmcs);
        hub.shutdown().await;
        Ok(())
    })
}

/// As rackd's watch spreads a round of a minute.
const SPREAD: Duration = Duration::from_secs(24);

async fn spread(bmcs: &[Bmc]) -> Result<()> {
    let each = SPREAD.div_f64(bmcs.len().max(1) as f64);
    let looks = (0..).zip(bmcs).enumerate().map(|(index, (nth, bmc))| async move {
        tokio::time::sleep(each * nth).await;
        (index, bmc.look(Deadline::after(PATIENCE)).await.map(|seen| seen.power))
    });
    all_well(futures::future::join_all(looks).await)
}

const PATIENCE: Duration = Duration::from_secs(35);
