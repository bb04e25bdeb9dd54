use super::boot_network;
use super::context::Context;
use super::executor::{FIRST_PAUSE, LAST_PAUSE, journal};
use super::patience::{AGAIN, Next, Patience, QUIET};
use super::step::{Step, StepError, Timeouts};
use super::{insert_cd, power};
use crate::boot::bootable;
use crate::boot_cd::Read;
use farrier_bmc::{MANUAL, PowerState};
use farrier_netboot::{BootEvent, EventKind, MacAddr};
use farrier_proto::rack::task_spec::Work;
use farrier_proto::types::{BootMode, Hardware};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, SystemTime};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::sync::watch;
use tokio::time::Instant;

/// DHCP, boot loader, kernel, ramdisk: until the agent has proven its token and said hello.
pub(super) struct WaitAgent;

/// A kernel starts, and an agent calls, in seconds on any machine: however short the time is that an agent has.
const STARTS: Duration = Duration::from_secs(60);

#[async_trait::async_trait]
impl Step for WaitAgent {
    fn name(&self) -> &'static str {
        "wait_agent"
    }
    /// One that boots on has more time than one of which nothing is heard.
    fn deadline(&self, timeouts: &Timeouts) -> Duration {
        timeouts.agent_most.max(timeouts.agent * (AGAIN + 1))
    }
    /// Whoever presses its button is seen before the agent's time is over.
    fn only_waits(&self) -> bool {
        true
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        let media = cx.boots_from_media()?;
        let expected = expected(cx, media);
        cx.note(&*expected).await?;
        let (whole, ports) = (cx.rack.timeouts.agent, bootable(cx.machine()?).unwrap_or_default());
        let mut heard = match media {
            true => Heard::Cd(cx.rack.boot_cds.reader(&cx.media_key().await?)),
            false => Heard::Network(cx.rack.netboot.events(), ports.clone()),
        };
        let quiet = whole.mul_f64(QUIET);
        let mut patience =
            Patience::new(whole, if media { quiet } else { quiet.max(STARTS) }, Instant::now());
        if !media {
            // Listened to first, so that nothing is missed.
            for event in before(cx, &ports).await {
                take(&mut patience, &happened(&event.kind), Instant::now());
            }
        }
        if cx.machine()?.bmc_driver == MANUAL {
            patience = patience.without_again();
        }
        let (mut refusals, mut seen) = (cx.task.agent.refusals(), None);
        let session = loop {
            tokio::select! {
                session = cx.task.agent.connected() => break session,
                () = tokio::time::sleep_until(patience.next().at()) => {
                    // What is sent by the piece is looked at when it matters.
                    if last_sent(cx, &ports).is_some_and(|at| patience.got(at.into())) {
                        continue;
                    }
                    if let Next::GiveUp(_) = patience.next() {
                        return Err(given_up(cx, &patience).await);
                    }
                    cx.note(why_again(&patience, media)).await?;
                    tokio::select! {
                        biased;
                        // It was not so lost as it seemed. Once the machine is being switched off it is gone on to its end: nobody
                        // else would switch it on.
                        session = cx.task.agent.connected() => break session,
                        looked = over_what_passes(cx, Part::Look) => looked?,
                        () = tokio::time::sleep_until(patience.give_up()) => {
                            return Err(given_up(cx, &patience).await);
                        }
                    }
                    // Its BMC may have been away as long as its network: who boots by now is left alone.
                    while let Some(happened) = heard.now() {
                        take(&mut patience, &happened, Instant::now());
                    }
                    if let Some(at) = last_sent(cx, &ports) {
                        patience.got(at.into());
                    }
                    if patience.next().at() > Instant::now() {
                        cx.note(&*expected).await?;
                        continue;
                    }
                    match tokio::time::timeout(whole, boot_again(cx, media, &mut heard)).await {
                        Ok(begun) => begun?,
                        Err(_) => return Err(given_up(cx, &patience).await),
                    }
                    patience.begins_again(Instant::now());
                    seen = None;
                    let times = patience.times();
                    cx.note(format!("switched off and on again ({times} of {AGAIN}); {expected}")).await?;
                }
                happened = heard.next() => {
                    take(&mut patience, &happened, Instant::now());
                    if let Happened::Read(read) = happened
                        && seen.replace(read.by) != Some(read.by)
                    {
                        cx.note(format!("the boot CD is read by {}; expecting the ramdisk's agent", read.by)).await?;
                    }
                }
                Ok(()) = refusals.changed() => {
                    let refusal = refusals.borrow_and_update().clone();
                    if let Some(why) = refusal {
                        cx.note(why).await?;
                    }
                }
            }
        };
        let Some(session) = session else {
            return Err(StepError::Again("rackd is shutting down".to_owned()));
        };
        let hardware = session.hardware;
        check_boot_mode(cx, &hardware)?;
        cx.note(format!("agent up, boot {}", session.boot_id)).await?;
        Ok(cx.task.edit(|task| task.result.get_or_insert_default().hardware = Some(hardware)).await?)
    }
}

fn expected(cx: &Context<'_>, media: bool) -> String {
    if media {
        let base = cx.rack.media_base().unwrap_or_default();
        return format!("expecting the BMC to read the boot CD: can it reach {base}?");
    }
    let node = cx.task.node.rsplit('/').next().unwrap_or_default();
    format!(
        "expecting the ramdisk's agent; `farrier node boot-trace {node}` shows what the machine asks the network"
    )
}

/// Why it is switched off and on, for people.
fn why_again(patience: &Patience, media: bool) -> String {
    let (why, what) = match (media, patience.was_heard()) {
        (true, true) => ("no agent since the boot CD was read", "it is put in again"),
        (true, false) => ("nobody reads the boot CD", "it is put in again"),
        (false, true) => (
            "nothing more is heard of the machine, and no agent came",
            "it is to boot from the network once more",
        ),
        (false, false) => ("nothing is heard of the machine", "it is to boot from the network once more"),
    };
    format!("{why}: {what}, and the machine switched off and on")
}

async fn given_up(cx: &Context<'_>, patience: &Patience) -> StepError {
    let last = cx.task.task().await.steps.get(cx.index).map(|step| step.detail.clone()).unwrap_or_default();
    let (seconds, from) = (cx.rack.timeouts.agent.as_secs(), patience.counted_from());
    StepError::Fatal(format!("not done within {seconds}s since {from}; last: {last}"))
}

/// Firmware that could not boot goes on to something else and does not come back to it. What passes is waited for, part by part:
/// this is done a few times in all, and half of it leaves the machine off.
async fn boot_again(cx: &Context<'_>, media: bool, heard: &mut Heard) -> Result<(), StepError> {
    let _ours = cx.task.acts();
    over_what_passes(cx, Part::Off).await?;
    // An agent that came at the last moment went with its machine.
    cx.task.agent.hang_up();
    // What it did before is no sign of the boot that begins now.
    heard.forget();
    let parts: &[Part] = match media {
        true => &[Part::Eject, Part::Insert, Part::On],
        false => &[Part::BootNetwork, Part::On],
    };
    for part in parts {
        over_what_passes(cx, *part).await?;
    }
    Ok(())
}

async fn over_what_passes(cx: &Context<'_>, part: Part) -> Result<(), StepError> {
    let mut pause = FIRST_PAUSE;
    while let Err(error) = part.run(cx).await {
        let StepError::Again(why) = error else { return Err(error) };
        tracing::info!(operation.id = %cx.task.id, step = cx.name, error = %why, "part of another boot tried again");
        journal(cx, |step| step.detail = format!("{why}; next try in {}s", pause.as_secs())).await;
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
    Ok(())
}

#[derive(Debug, Clone, Copy)]
enum Part {
    /// Whether its BMC answers: nothing is switched off before that.
    Look,
    Off,
    /// A BMC that lost its connection says that the CD is in the drive.
    Eject,
    Insert,
    /// The next boot, once: what was set before was good for the boot that failed.
    BootNetwork,
    On,
}

impl Part {
    async fn run(self, cx: &Context<'_>) -> Result<(), StepError> {
        match self {
            Self::Look => Ok(cx.bmc().await?.power_status(cx.call()).await.map(drop)?),
            Self::Off => power::ensure(cx, PowerState::Off).await,
            Self::Eject => insert_cd::eject(cx).await,
            Self::Insert => insert_cd::insert(cx).await,
            Self::BootNetwork => boot_network::BootNetwork.run(cx).await,
            Self::On => power::ensure(cx, PowerState::On).await,
        }
    }
}

/// Where it is heard that a machine boots.
enum Heard {
    /// Whoever reads its boot CD; `None`: that is not served.
    Cd(Option<watch::Receiver<Option<Read>>>),
    /// What its ports do.
    Network(Receiver<Arc<BootEvent>>, Vec<MacAddr>),
}

enum Happened {
    /// The boot CD was read.
    Read(Read),
    /// It was sent a file of what it boots.
    Sent,
    /// It was given its script.
    Script,
    /// It asked, or was answered.
    Other,
}

impl Heard {
    /// The next that is heard of it; never, where nothing is. Cancel-safe.
    async fn next(&mut self) -> Happened {
        match self {
            Self::Cd(Some(reader)) => {
                if reader.changed().await.is_ok()
                    && let Some(read) = *reader.borrow_and_update()
                {
                    return Happened::Read(read);
                }
            }
            Self::Network(events, ports) => loop {
                match events.recv().await {
                    Ok(event) if event.mac.is_some_and(|mac| ports.contains(&mac)) => {
                        return happened(&event.kind);
                    }
                    Ok(_) => {}
                    // In a storm of others nothing is known of this one by that; what it is sent is looked at when it matters.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => break,
                }
            },
            Self::Cd(None) => {}
        }
        std::future::pending().await
    }

    /// What is heard already.
    fn now(&mut self) -> Option<Happened> {
        match std::pin::pin!(self.next()).poll(&mut std::task::Context::from_waker(Waker::noop())) {
            Poll::Ready(happened) => Some(happened),
            Poll::Pending => None,
        }
    }

    /// What has happened and was not asked for yet.
    fn forget(&mut self) {
        match self {
            Self::Cd(reader) => reader.iter_mut().for_each(watch::Receiver::mark_unchanged),
            Self::Network(events, _) => *events = events.resubscribe(),
        }
    }
}

/// When one of its ports was last sent a part of a file.
fn last_sent(cx: &Context<'_>, ports: &[MacAddr]) -> Option<std::time::Instant> {
    ports.iter().filter_map(|port| cx.rack.netboot.last_sent(*port)).max()
}

/// What the machine did since it was switched on, before anybody listened here.
async fn before(cx: &Context<'_>, ports: &[MacAddr]) -> Vec<Arc<BootEvent>> {
    let task = cx.task.task().await;
    let power_on = cx.index.checked_sub(1).and_then(|before| task.steps.get(before)?.start_time);
    let Some(on) = power_on.and_then(|time| SystemTime::try_from(time).ok()) else { return Vec::new() };
    let all = ports.iter().flat_map(|port| cx.rack.netboot.trace(*port));
    all.filter(|event| event.at >= on).collect()
}

fn take(patience: &mut Patience, happened: &Happened, now: Instant) {
    match happened {
        // A machine that reads is a machine that boots.
        Happened::Read(read) => {
            patience.got(read.at);
        }
        Happened::Sent => {
            patience.got(now);
        }
        Happened::Script => patience.got_script(now),
        Happened::Other => patience.heard(now),
    }
}

fn happened(event: &EventKind) -> Happened {
    match event {
        EventKind::TftpDone { bytes: 1.., .. }
        | EventKind::HttpFirmware { bytes: 1.., .. }
        | EventKind::HttpArtifact { bytes: 1.., .. } => Happened::Sent,
        kind if kind.gave_script() => Happened::Script,
        _ => Happened::Other,
    }
}

/// A system installed for one firmware does not start under the other, and would be waited for in vain. A BMC that
/// drops the EFI bit of its boot flags boots the ramdisk all the same.
fn check_boot_mode(cx: &Context<'_>, hardware: &Hardware) -> Result<(), StepError> {
    let (wanted, seen) = (cx.machine()?.boot_mode(), hardware.boot_mode());
    let deploys = matches!(cx.task.spec.work, Some(Work::Deploy(_)));
    if !deploys || wanted == BootMode::Unspecified || seen == BootMode::Unspecified || wanted == seen {
        return Ok(());
    }
    let node = cx.task.node.rsplit('/').next().unwrap_or_default();
    Err(StepError::fatal(if seen == BootMode::Uefi {
        format!(
            "firmware mode: expected the machine to boot by BIOS, saw UEFI; set the mode in its firmware, or correct the node: `farrier node update {node} --boot-mode uefi`"
        )
    } else {
        format!(
            "firmware mode: expected the machine to boot by UEFI, saw BIOS; set the mode in its firmware, or correct the node: `farrier node update {node} --boot-mode bios`"
        )
    }))
}
