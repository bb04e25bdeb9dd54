//! One boot of a pretend machine, from power-on until it switches itself off: what a server does.

use std::future::pending;
use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use farrier_agent::args::KernelArgs;
use farrier_agent::{Config, Ended};
use futures::FutureExt as _;

use super::address::hyphens;
use super::board::Board;
use super::http;
use super::observe::Event;
use super::power::{PoweredMachine, Supply};
use super::san::{self, NoSession, San, Session};
use super::script::Script;
use super::system;
use crate::bmc::{BootDeviceSelector, BootFlags};

/// Ends when the machine has switched itself off. Dropping it is what cutting power does.
pub(super) async fn run(board: &Board, supply: &Arc<Supply>, flags: BootFlags) {
    if board.fate.now().hang_before_agent {
        return strike(board, "hang_before_agent").await;
    }
    let found = tokio::select! {
        found = firmware(board, flags) => found,
        () = supply.button.cancelled() => return,
    };
    let system = match found {
        // A ramdisk takes no notice of the power button.
        Boot::Ramdisk(args) => return agent(board, supply, &args).await,
        Boot::Disk => operating_system(board).boxed(),
        Boot::San(san) => async move { san_system(board, &san).await }.boxed(),
    };
    tokio::select! {
        () = system => {}
        () = supply.button.cancelled() => {}
    }
}

/// What the firmware has found.
enum Boot {
    /// A ramdisk, with its kernel line.
    Ramdisk(String),
    Disk,
    San(San),
}

/// Finds something to boot.
async fn firmware(board: &Board, flags: BootFlags) -> Boot {
    let from_network = flags.valid && flags.device == BootDeviceSelector::PXE;
    if !from_network && is_bootable(board).await {
        return Boot::Disk;
    }
    let mut silent = true;
    loop {
        match network(board).await {
            Ok(Some(Script::Kernel { kernel, args, initrd })) => match fetch(board, [&kernel, &initrd]).await
            {
                Ok(()) => {
                    board.diary.note(Event::NetworkBoot);
                    return Boot::Ramdisk(args);
                }
                Err(error) => tracing::warn!(node = board.name, %error, "artifacts"),
            },
            Ok(Some(Script::San(san))) => return Boot::San(san),
            Ok(Some(Script::LocalDisk)) if is_bootable(board).await => return Boot::Disk,
            Ok(_) if from_network => {}
            Ok(_) => {
                if std::mem::take(&mut silent) {
                    board.diary.note(Event::NothingToBoot);
                }
            }
            Err(error) => tracing::debug!(node = board.name, %error, "no boot script"),
        }
        tokio::time::sleep(board.retry).await;
    }
}

/// Asks the rack for a script; `Ok(None)`: it has none for us.
async fn network(board: &Board) -> Result<Option<Script>, http::HttpError> {
    let Some(rackd) = board.http() else { return Ok(None) };
    let url = format!("http://{rackd}/boot/{}.ipxe", hyphens(board.mac));
    let answer = http::get(board.source, &url).await?;
    if answer.status != 200 {
        return Ok(None);
    }
    Ok(Script::parse(&String::from_utf8_lossy(&answer.body)))
}

/// Kernel and initrd are read to their ends, as a machine would, and thrown away.
async fn fetch(board: &Board, urls: [&str; 2]) -> anyhow::Result<()> {
    for url in urls {
        let answer = http::get(board.source, url).await?;
        anyhow::ensure!(answer.status == 200 && answer.length > 0, "{url}: status {}", answer.status);
    }
    Ok(())
}

async fn agent(board: &Board, supply: &Arc<Supply>, args: &str) {
    if board.fate.now().agent_never_calls {
        return strike(board, "agent_never_calls").await;
    }
    let (config, machine) = match prepare(board, args) {
        Ok(prepared) => prepared,
        Err(error) => {
            tracing::error!(node = board.name, error = format!("{error:#}"), "the ramdisk stops");
            return strike(board, "bad kernel arguments").await;
        }
    };
    let machine = Arc::new(PoweredMachine { inner: machine, supply: Arc::clone(supply) });
    board.diary.note(Event::AgentStarted);
    match farrier_agent::run(machine, config, supply.crashed.clone()).await {
        Ended::PoweredOff => {}
        Ended::Shutdown => strike(board, "die_after_bytes").await,
    }
}

fn prepare(board: &Board, args: &str) -> anyhow::Result<(Config, farrier_agent::machine::PretendMachine)> {
    let args = KernelArgs::parse(args)?;
    anyhow::ensure!(args.boot_mac == Some(board.mac), "BOOTIF is not this machine's");
    let given = args.address.map(|address| address.ip.to_string());
    anyhow::ensure!(given == Some(board.source.to_string()), "farrier.ip is {given:?}, not {}", board.source);
    let mut config = Config::from_args(&args)?;
    config.limits = board.limits.clone();
    Ok((config, board.machine()?))
}

/// Starts what is on the disk. Runs until somebody presses the button.
async fn operating_system(board: &Board) {
    board.diary.note(Event::DiskBoot);
    let seed = match on_disk(board, system::read_seed).await {
        Ok(seed) => seed.unwrap_or_default(),
        Err(error) => {
            tracing::warn!(node = board.name, %error, "the system cannot read its config drive");
            system::Seed::default()
        }
    };
    come_up(board, seed).await;
    pending().await
}

/// Starts what is on an iSCSI disk. It does not end: without its disk a system hangs.
async fn san_system(board: &Board, san: &San) {
    *board.san.lock().unwrap_or_else(PoisonError::into_inner) = Some(san.clone());
    // Firmware and kernel try again when the target goes away in the middle.
    let (session, bytes) = loop {
        match Session::open(board.source, san).await {
            Ok(mut session) => match session.read_all(SEED_LUN).await {
                Ok(bytes) => break (session, bytes),
                Err(error) => tracing::debug!(node = board.name, %error, "the disk cannot be read"),
            },
            Err(NoSession::Refused) => tracing::debug!(node = board.name, "the disk refuses the machine"),
            Err(NoSession::Away(error)) => tracing::debug!(node = board.name, %error, "no iSCSI disk"),
        }
        tokio::time::sleep(board.retry).await;
    };
    board.diary.note(Event::SanBoot);
    let seed = on_disk(board, move |disk| {
        let copy = disk.with_file_name("seed.img");
        std::fs::write(&copy, bytes)?;
        system::read_volume(&copy)
    });
    let seed = match seed.await {
        Ok(seed) => seed.unwrap_or_default(),
        Err(error) => {
            tracing::warn!(node = board.name, %error, "the system cannot read its NoCloud volume");
            system::Seed::default()
        }
    };
    tokio::join!(come_up(board, seed), san::live(board, san, session));
}

/// The system runs, and calls home once.
async fn come_up(board: &Board, seed: system::Seed) {
    board.diary.note(Event::SystemUp { hostname: seed.hostname.clone() });
    if board.fate.now().system_never_calls {
        return strike(board, "system_never_calls").await;
    }
    if let Some(url) = seed.phone_home.clone().filter(|_| !is_home(board, &seed.instance)) {
        let (instance, name) = (&seed.instance, &seed.hostname);
        let form = format!("instance_id={instance}&hostname={name}&fqdn={name}");
        loop {
            match http::post(board.source, &url, form.clone()).await {
                Ok(answer) if answer.status == 200 => break,
                Ok(answer) => tracing::debug!(node = board.name, status = answer.status, "call home refused"),
                Err(error) => tracing::debug!(node = board.name, %error, "call home failed"),
            }
            tokio::time::sleep(board.retry).await;
        }
        *board.at_home.lock().unwrap_or_else(PoisonError::into_inner) = Some(seed.instance.clone());
        board.diary.note(Event::PhonedHome { instance: seed.instance });
    }
}

/// Where rackd puts the NoCloud file system.
const SEED_LUN: u16 = 1;

fn is_home(board: &Board, instance: &str) -> bool {
    board.at_home.lock().unwrap_or_else(PoisonError::into_inner).as_deref() == Some(instance)
}

/// Sits there with power on; what hangs does not hear the button either.
async fn strike(board: &Board, mishap: &'static str) {
    board.diary.note(Event::Struck(mishap));
    pending().await
}

async fn is_bootable(board: &Board) -> bool {
    on_disk(board, system::is_bootable).await.unwrap_or(false)
}

async fn on_disk<T: Send + 'static>(
    board: &Board,
    look: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let path = board.disk.path.clone();
    tokio::task::spawn_blocking(move || look(&path)).await.map_err(io::Error::other)?
}
