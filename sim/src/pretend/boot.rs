//! One boot of a pretend machine, from power-on until it switches itself off: what a server does.

use std::future::pending;
use std::io;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use farrier_agent::args::KernelArgs;
use farrier_agent::machine::BlockDevice;
use farrier_agent::{Config, Ended};
use sha2::{Digest as _, Sha256};

use super::address::hyphens;
use super::board::Board;
use super::cd;
use super::http;
use super::lan::Told;
use super::observe::Event;
use super::power::{PoweredMachine, Supply};
use super::san::Link;
use super::script::Script;
use super::system;
use crate::bmc::{BootDeviceSelector, BootFlags};

/// What firmware starts.
enum Found {
    /// The kernel line of a ramdisk.
    Ramdisk(String),
    Disk(Arc<dyn BlockDevice>),
    San(Arc<Link>),
}

/// Ends when the machine has switched itself off. Dropping it is what cutting power does.
pub(super) async fn run(board: &Board, supply: &Arc<Supply>, flags: BootFlags) {
    while boots(board, supply, flags).await == Then::Again {
        board.diary.note(Event::Restarted);
    }
}

/// What comes after a boot.
#[derive(PartialEq, Eq)]
enum Then {
    Off,
    /// It starts from its firmware again, with power on.
    Again,
}

async fn boots(board: &Board, supply: &Arc<Supply>, flags: BootFlags) -> Then {
    if board.fate.now().hang_before_agent {
        return strike(board, "hang_before_agent").await;
    }
    let found = tokio::select! {
        found = firmware(board, supply, flags) => found,
        () = supply.button.cancelled() => return Then::Off,
    };
    let system = async {
        match found {
            // A ramdisk takes no notice of the power button.
            Found::Ramdisk(args) => return Some(args),
            Found::Disk(disk) => operating_system(board, disk).await,
            Found::San(link) => diskless_system(board, &link).await,
        }
        None
    };
    let ramdisk = tokio::select! {
        ramdisk = system => ramdisk,
        () = supply.button.cancelled() => return Then::Off,
    };
    match ramdisk {
        Some(args) => agent(board, supply, &args).await,
        None => Then::Off,
    }
}

/// Finds something to boot.
async fn firmware(board: &Board, supply: &Supply, flags: BootFlags) -> Found {
    if flags.valid
        && flags.device == BootDeviceSelector::CDROM
        && let Some(url) = board.media()
    {
        match cd::boot(board.source(), &url).await {
            Ok(started) => {
                board.diary.note(Event::MediaBoot);
                return Found::Ramdisk(started.args);
            }
            // As firmware does: on to what else there is.
            Err(error) => tracing::warn!(node = board.name, error = format!("{error:#}"), "boot CD"),
        }
    }
    let from_network = flags.valid && flags.device == BootDeviceSelector::PXE;
    if !from_network && let Some(disk) = bootable_disk(board).await {
        return Found::Disk(disk);
    }
    let mut silent = true;
    loop {
        match network(board).await {
            Ok(Some(Script::Kernel { kernel, args, initrd })) => match fetch(board, [&kernel, &initrd]).await
            {
                Ok(()) => {
                    board.diary.note(Event::NetworkBoot);
                    return Found::Ramdisk(args);
                }
                Err(error) => tracing::warn!(node = board.name, %error, "artifacts"),
            },
            Ok(Some(Script::San(san))) => {
                *board.san.lock().unwrap_or_else(PoisonError::into_inner) = Some(san.clone());
                let diary = Arc::clone(&board.diary);
                let link = Link::new(san, board.source(), board.retry, supply.cut.clone(), diary);
                if is_bootable_san(board, &link).await {
                    board.diary.note(Event::SanBoot);
                    return Found::San(link);
                }
            }
            Ok(Some(Script::LocalDisk)) => {
                if let Some(disk) = bootable_disk(board).await {
                    return Found::Disk(disk);
                }
            }
            Ok(_) if from_network => {}
            Ok(_) => {
                if std::mem::take(&mut silent) {
                    board.diary.note(Event::NothingToBoot);
                }
            }
            Err(error) => {
                tracing::debug!(node = board.name, error = format!("{error:#}"), "no boot script");
            }
        }
        tokio::time::sleep(board.retry).await;
    }
}

/// Asks the rack for a script; `Ok(None)`: it has none for us.
async fn network(board: &Board) -> anyhow::Result<Option<Script>> {
    let url = match (&board.lan, board.http()) {
        (Some(lan), _) => {
            let (ip, told) = lan.boot(&board.dir).await?;
            board.set_source(ip);
            match told {
                Told::Script(url) => url,
                Told::Nothing => return Ok(Some(Script::LocalDisk)),
            }
        }
        (None, Some(rackd)) => format!("http://{rackd}/boot/{}.ipxe", hyphens(board.mac)),
        (None, None) => return Ok(None),
    };
    let answer = http::get(board.source(), &url).await?;
    if answer.status != 200 {
        return Ok(None);
    }
    Ok(Script::parse(&String::from_utf8_lossy(&answer.body)))
}

/// Kernel and initrd are read to their ends, as a machine would, and thrown away.
async fn fetch(board: &Board, urls: [&str; 2]) -> anyhow::Result<()> {
    for url in urls {
        let answer = http::get(board.source(), url).await?;
        anyhow::ensure!(answer.status == 200 && answer.length > 0, "{url}: status {}", answer.status);
    }
    Ok(())
}

async fn agent(board: &Board, supply: &Arc<Supply>, args: &str) -> Then {
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
        Ended::PoweredOff => Then::Off,
        Ended::Restarted => Then::Again,
        Ended::Shutdown => strike(board, "die_after_bytes").await,
    }
}

fn prepare(board: &Board, args: &str) -> anyhow::Result<(Config, farrier_agent::machine::PretendMachine)> {
    let args = KernelArgs::parse(args)?;
    anyhow::ensure!(args.boot_mac == Some(board.mac), "BOOTIF is not this machine's");
    let given = args.address.map(|address| address.ip.to_string());
    anyhow::ensure!(
        given == Some(board.source().to_string()),
        "farrier.ip is {given:?}, not {}",
        board.source()
    );
    let mut config = Config::from_args(&args)?;
    config.limits = board.limits.clone();
    Ok((config, board.machine()?))
}

/// Starts what is on the disk. Runs until somebody presses the button.
async fn operating_system(board: &Board, disk: Arc<dyn BlockDevice>) {
    board.diary.note(Event::DiskBoot);
    // Another network than the one it was booted in, perhaps.
    while let Some(lan) = &board.lan {
        match lan.address(&board.dir).await {
            Ok(ip) => {
                board.set_source(ip);
                break;
            }
            Err(error) => tracing::debug!(node = board.name, error = format!("{error:#}"), "no address"),
        }
        tokio::time::sleep(board.retry).await;
    }
    system_up(board, blocking(move || system::read_seed(&disk)).await).await;
    pending().await
}

/// The same on an iSCSI disk, whose second logical unit is the config drive. It uses its disk as long as it runs.
async fn diskless_system(board: &Board, link: &Arc<Link>) {
    let (reads, link) = (board.san_reads.clone(), Arc::clone(link));
    let started = blocking(move || {
        let root = link.disk(link.lun())?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        for range in reads {
            let mut at = range.start;
            while at < range.end {
                let len = usize::try_from(range.end - at).unwrap_or(usize::MAX).min(buffer.len());
                let place = buffer.get_mut(..len).unwrap_or_default();
                root.read_at(place, at)?;
                hash.update(&*place);
                at += len as u64;
            }
        }
        let config: Arc<dyn BlockDevice> = Arc::new(link.disk(CONFIG_LUN)?);
        Ok((root, hex::encode(hash.finalize()), system::read_seed_disk(&config)?))
    });
    let (root, seed) = match started.await {
        Ok((root, sha256, seed)) => {
            board.diary.note(Event::SanRead { sha256 });
            (Some(Arc::new(root)), Ok(seed))
        }
        Err(error) => (None, Err(error)),
    };
    let disk_in_use = async {
        while let Some(root) = &root {
            tokio::time::sleep(ALIVE_EVERY).await;
            let root = Arc::clone(root);
            if let Err(error) = blocking(move || root.read_at(&mut [0; 512], 0)).await {
                tracing::warn!(node = board.name, %error, "the system lost its disk");
                break;
            }
        }
    };
    tokio::join!(system_up(board, seed), disk_in_use);
    pending().await
}

/// The system runs, and says so where its config drive tells it to.
async fn system_up(board: &Board, seed: io::Result<Option<system::Seed>>) {
    let seed = match seed {
        Ok(seed) => seed.unwrap_or_default(),
        Err(error) => {
            tracing::warn!(node = board.name, %error, "the system cannot read its config drive");
            system::Seed::default()
        }
    };
    board.diary.note(Event::SystemUp { hostname: seed.hostname.clone() });
    if board.fate.now().system_never_calls {
        return strike(board, "system_never_calls").await;
    }
    if let Some(url) = seed.phone_home.clone().filter(|_| !is_home(board, &seed.instance)) {
        let (instance, name) = (&seed.instance, &seed.hostname);
        let form = format!("instance_id={instance}&hostname={name}&fqdn={name}");
        loop {
            match http::post(board.source(), &url, form.clone()).await {
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

fn is_home(board: &Board, instance: &str) -> bool {
    board.at_home.lock().unwrap_or_else(PoisonError::into_inner).as_deref() == Some(instance)
}

/// Sits there with power on; what hangs does not hear the button either.
async fn strike<T>(board: &Board, mishap: &'static str) -> T {
    board.diary.note(Event::Struck(mishap));
    pending().await
}

async fn bootable_disk(board: &Board) -> Option<Arc<dyn BlockDevice>> {
    let path = board.disk.as_ref()?.path.clone();
    let look = blocking(move || {
        let disk = system::open(&path)?;
        Ok(system::is_bootable(&*disk)?.then_some(disk))
    });
    look.await.ok()?
}

async fn is_bootable_san(board: &Board, link: &Arc<Link>) -> bool {
    let link = Arc::clone(link);
    let look = blocking(move || system::is_bootable(&link.disk(link.lun())?)).await;
    look.unwrap_or_else(|error| {
        tracing::warn!(node = board.name, %error, "iSCSI disk");
        false
    })
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// The logical unit with the NoCloud file system.
const CONFIG_LUN: u16 = 1;
/// Between two reads of a system that runs: often enough that it hears when its target went away.
const ALIVE_EVERY: Duration = Duration::from_secs(1);
