use super::context::Context;
use super::executor::{FIRST_PAUSE, LAST_PAUSE, journal};
use super::step::{Step, StepError, Timeouts};
use super::{insert_cd, power};
use crate::boot_cd::Read;
use farrier_bmc::PowerState;
use farrier_proto::rack::task_spec::Work;
use farrier_proto::types::{BootMode, Hardware};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// DHCP, boot loader, kernel, ramdisk: until the agent has proven its token and said hello.
pub(super) struct WaitAgent;

/// How long a CD that nobody has read is waited for, and one that somebody has: parts of the time that an agent has. Servers
/// with much memory test it for ten minutes and more before they read anything.
const UNREAD: f64 = 2.0 / 3.0;
const READ: f64 = 1.0 / 3.0;

#[async_trait::async_trait]
impl Step for WaitAgent {
    fn name(&self) -> &'static str {
        "wait_agent"
    }
    fn deadline(&self, timeouts: &Timeouts) -> Duration {
        timeouts.agent
    }
    /// Whoever presses its button is seen before the agent's time is over.
    fn only_waits(&self) -> bool {
        true
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        let node = cx.task.node.rsplit('/').next().unwrap_or_default().to_owned();
        let expected = if cx.boots_from_media()? {
            let base = cx.rack.media_base().unwrap_or_default();
            format!("expecting the BMC to read the boot CD: can it reach {base}?")
        } else {
            format!(
                "expecting the ramdisk's agent; `farrier node boot-trace {node}` shows what the machine asks the network"
            )
        };
        cx.note(expected).await?;
        let mut refusals = cx.task.agent.refusals();
        let mut reader = match cx.boots_from_media()? {
            true => cx.rack.boot_cds.reader(&cx.media_key().await?),
            false => None,
        };
        let whole = self.deadline(&cx.rack.timeouts);
        let mut again_at = cx.boots_from_media()?.then(|| Instant::now() + whole.mul_f64(UNREAD));
        let mut seen = None;
        let session = loop {
            tokio::select! {
                session = cx.task.agent.connected() => break session,
                () = until(again_at) => {
                    let why = if seen.is_some() { "no agent since the boot CD was read" } else { "nobody reads the boot CD" };
                    cx.note(format!("{why}: it is put in again, and the machine switched off and on")).await?;
                    tokio::select! {
                        biased;
                        // It was not so lost as it seemed. Once the machine is being switched off it is gone on to its end: nobody
                        // else would switch it on.
                        session = cx.task.agent.connected() => break session,
                        looked = over_what_passes(cx, Part::Look) => looked?,
                    }
                    boot_cd_again(cx).await?;
                    again_at = Some(Instant::now() + whole.mul_f64(UNREAD));
                }
                read = next_read(&mut reader) => {
                    // A machine that reads is a machine that boots.
                    again_at = Some(read.at + whole.mul_f64(READ));
                    if seen.replace(read.by) != Some(read.by) {
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

/// Firmware that could not read the CD, since we or the BMC were away, goes on to something else and does not come back to it.
/// What passes is waited for, part by part: this is done once in all the time that an agent has, and half of it leaves the machine
/// off.
async fn boot_cd_again(cx: &Context<'_>) -> Result<(), StepError> {
    let _ours = cx.task.acts();
    over_what_passes(cx, Part::Off).await?;
    // An agent that came at the last moment went with its machine.
    cx.task.agent.hang_up();
    for part in [Part::Eject, Part::Insert, Part::On] {
        over_what_passes(cx, part).await?;
    }
    Ok(())
}

async fn over_what_passes(cx: &Context<'_>, part: Part) -> Result<(), StepError> {
    let mut pause = FIRST_PAUSE;
    while let Err(error) = part.run(cx).await {
        let StepError::Again(why) = error else { return Err(error) };
        tracing::info!(operation.id = %cx.task.id, step = cx.name, error = %why, "boot CD tried again");
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
    On,
}

impl Part {
    async fn run(self, cx: &Context<'_>) -> Result<(), StepError> {
        match self {
            Self::Look => Ok(cx.bmc().await?.power_status(cx.call()).await.map(drop)?),
            Self::Off => power::ensure(cx, PowerState::Off).await,
            Self::Eject => insert_cd::eject(cx).await,
            Self::Insert => insert_cd::insert(cx).await,
            Self::On => power::ensure(cx, PowerState::On).await,
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The next time that somebody reads the boot CD.
async fn next_read(reader: &mut Option<watch::Receiver<Option<Read>>>) -> Read {
    if let Some(reader) = reader
        && reader.changed().await.is_ok()
        && let Some(read) = *reader.borrow_and_update()
    {
        return read;
    }
    std::future::pending().await
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
