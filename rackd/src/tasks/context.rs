use super::handle::{HandleError, TaskHandle};
use super::step::StepError;
use crate::agents::Outcome;
use crate::bmc::{Access, Opened};
use crate::cache::CachedImage;
use crate::rack::Rack;
use crate::secrets::{random_chap_secret, random_media_key};
use farrier_bmc::{Bmc, BootMode, Deadline};
use farrier_proto::agent::{session_request, session_response};
use farrier_proto::rack::{Deploy, Fence, Machine, Snapshot, UpdateFirmware, task_spec};
use farrier_proto::types::{self, BootInterface, RootDeviceHints};
use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Progress is journaled at most this often.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// What a step works with.
pub(crate) struct Context<'a> {
    pub(crate) rack: &'a Arc<Rack>,
    pub(crate) task: &'a Arc<TaskHandle>,
    /// Which step of the task this is.
    pub(crate) index: usize,
    pub(crate) name: &'static str,
}

impl From<HandleError> for StepError {
    fn from(e: HandleError) -> Self {
        StepError::Again(farrier_runtime::telemetry::chain(&e))
    }
}

impl Context<'_> {
    pub(crate) fn machine(&self) -> Result<&Machine, StepError> {
        self.task.spec.machine.as_ref().ok_or_else(|| StepError::fatal("the task names no machine"))
    }

    pub(crate) fn deploy(&self) -> Result<&Deploy, StepError> {
        match &self.task.spec.work {
            Some(task_spec::Work::Deploy(deploy)) => Ok(deploy),
            _ => Err(StepError::fatal("this step belongs to a deployment")),
        }
    }

    /// Which disk takes the operating system: the node's hints, and large enough.
    pub(crate) fn root_device(&self) -> Result<Option<RootDeviceHints>, StepError> {
        Ok(Some(root_device(self.machine()?, self.deploy()?)))
    }

    pub(crate) fn snapshot(&self) -> Result<&Snapshot, StepError> {
        match &self.task.spec.work {
            Some(task_spec::Work::Snapshot(snapshot)) => Ok(snapshot),
            _ => Err(StepError::fatal("this step belongs to a snapshot")),
        }
    }

    pub(crate) fn firmware(&self) -> Result<&UpdateFirmware, StepError> {
        match &self.task.spec.work {
            Some(task_spec::Work::UpdateFirmware(update)) => Ok(update),
            _ => Err(StepError::fatal("this step belongs to an update of firmware")),
        }
    }

    /// Whether the BMC's password, which it came with, is replaced next.
    pub(crate) fn replaces_password(&self) -> bool {
        matches!(&self.task.spec.work, Some(task_spec::Work::Verify(verify)) if verify.replace_default_password)
    }

    pub(crate) fn fence(&self) -> Result<&Fence, StepError> {
        match &self.task.spec.work {
            Some(task_spec::Work::Fence(fence)) => Ok(fence),
            _ => Err(StepError::fatal("this step belongs to a fence")),
        }
    }

    /// The machine's BMC. One handle a task: its actor lives as long as a handle does, and with it the session
    /// and the memory of failures.
    pub(crate) async fn bmc(&self) -> Result<Bmc, StepError> {
        Ok(self.opened_bmc().await?.bmc)
    }

    /// The same, with how it was found. While there are two passwords the BMC may take the other from one step to the next, by the
    /// rotation of a node that shares its account: it is asked each time.
    pub(crate) async fn opened_bmc(&self) -> Result<Opened, StepError> {
        if let Some(kept) = self.task.bmc.get()
            && !self.has_two_passwords().await
        {
            return Ok(kept.clone());
        }
        let opened = self.open_bmc().await?;
        // One that stands in for another is of this moment: the next step asks the other again.
        if !opened.bmc.stands_in() {
            let _first = self.task.bmc.set(opened.clone());
        }
        Ok(opened)
    }

    /// Whether the BMC may have either of two passwords.
    pub(crate) async fn has_two_passwords(&self) -> bool {
        self.task.with_secrets(|secrets| !secrets.bmc_next_password.is_empty()).await
    }

    async fn open_bmc(&self) -> Result<Opened, StepError> {
        let machine = self.machine()?;
        let access = self.access().await?;
        // A log-in is six answers over IPMI: a BMC that takes five seconds for each has told its driver then.
        let deadline = Deadline::after(self.rack.timeouts.bmc_call.mul_f64(1.5));
        let opened = self.rack.bmc.open(&machine.name, access, deadline).await?;
        if let Some(error) = &opened.passed_over {
            let driver = opened.bmc.driver();
            tracing::info!(node.id = %self.task.node, driver, %error, "another bmc driver does not work");
        }
        Ok(opened)
    }

    /// Whether the step has not been tried before: what went wrong is in its detail until the next note.
    pub(crate) async fn is_first_try(&self) -> bool {
        self.task.task().await.steps.get(self.index).is_none_or(|step| step.detail.is_empty())
    }

    /// The way to the BMC, with both passwords where there are two.
    pub(crate) async fn access(&self) -> Result<Access, StepError> {
        let keys = self.task.with_secrets(crate::secrets::Secrets::bmc_keys).await;
        Access::of(self.machine()?, &keys).await.map_err(|error| {
            if error.is_transient() { StepError::Again(error.to_string()) } else { StepError::fatal(error) }
        })
    }

    /// The image to deploy, however much of it is here. One handle a task, as for the BMC.
    pub(crate) async fn image(&self) -> Result<Arc<CachedImage>, StepError> {
        let deploy = self.deploy()?;
        let open = || self.rack.cache.open(&deploy.image, &deploy.manifest_sha256);
        Ok(self.task.image.get_or_try_init(open).await?.clone())
    }

    /// What this operation's machine proves itself with to the iSCSI target.
    pub(crate) async fn chap_secret(&self) -> Result<String, StepError> {
        // Read first: what is there needs no journal, which a full disk may refuse.
        let known = self.task.with_secrets(|s| s.chap_secret.clone()).await;
        if !known.is_empty() {
            return Ok(known);
        }
        let secret = self.task.edit_secrets(|s| {
            if s.chap_secret.is_empty() {
                s.chap_secret = random_chap_secret();
            }
            s.chap_secret.clone()
        });
        Ok(secret.await?)
    }

    /// What the URL of the machine's boot CD ends with.
    pub(crate) async fn media_key(&self) -> Result<String, StepError> {
        let known = self.task.with_secrets(|s| s.media_key.clone()).await;
        if !known.is_empty() {
            return Ok(known);
        }
        let key = self.task.edit_secrets(|s| {
            if s.media_key.is_empty() {
                s.media_key = random_media_key();
            }
            s.media_key.clone()
        });
        Ok(key.await?)
    }

    /// Serves no boot CD any more.
    pub(crate) async fn withdraw_cd(&self) {
        let key = self.task.with_secrets(|s| s.media_key.clone()).await;
        self.rack.boot_cds.withdraw(&key);
    }

    /// Whether the ramdisk comes from a CD that the BMC pretends.
    pub(crate) fn boots_from_media(&self) -> Result<bool, StepError> {
        Ok(self.machine()?.boot_interface() == BootInterface::VirtualMedia)
    }

    /// Deadline of one BMC call.
    pub(crate) fn call(&self) -> Deadline {
        Deadline::after(self.rack.timeouts.bmc_call)
    }

    /// Deadline of what is done to an account, which is looked for first: a BMC of five seconds an answer has sixteen places.
    pub(crate) fn account_call(&self) -> Deadline {
        Deadline::after(self.rack.timeouts.bmc_call.max(self.rack.timeouts.bmc / 2))
    }

    pub(crate) fn boot_mode(&self) -> Result<BootMode, StepError> {
        Ok(match self.machine()?.boot_mode() {
            types::BootMode::Bios => BootMode::Bios,
            // Machines sold today are UEFI unless somebody says otherwise.
            types::BootMode::Uefi | types::BootMode::Unspecified => BootMode::Uefi,
        })
    }

    /// Says what the step does or waits for.
    pub(crate) async fn note(&self, detail: impl Into<String> + Send) -> Result<(), StepError> {
        let detail = detail.into();
        Ok(self.task.edit_step(self.index, |step| step.detail = detail).await?)
    }

    /// Lets the agent do something, reporting its progress as this step's. The outcome is the agent's.
    pub(crate) async fn agent(
        &self,
        command: session_response::Command,
    ) -> Result<session_request::Done, StepError> {
        self.agent_again(0, command).await?.map_err(refused_by_agent)
    }

    /// The same after `tries` that failed: the agent answers what it has been asked before from memory.
    pub(crate) async fn agent_again(
        &self,
        tries: u32,
        command: session_response::Command,
    ) -> Result<Outcome, StepError> {
        let again = if tries == 0 { String::new() } else { format!("/{tries}") };
        let id = format!("{}/{}{again}", self.task.id, self.name);
        let meter = Meter::new(self);
        let silence = self.rack.timeouts.silence;
        let gone_since: Mutex<Option<Instant>> = Mutex::new(None);
        let command = self.task.agent.command(
            &id,
            command,
            |p| meter.report(p.done_bytes, p.total_bytes, &p.detail),
            |connected| {
                let mut gone = gone_since.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                *gone = if connected { None } else { gone.or_else(|| Some(Instant::now())) };
            },
        );
        tokio::pin!(command);
        let mut told = false;
        loop {
            tokio::select! {
                outcome = &mut command => {
                    meter.finish().await;
                    return Ok(outcome);
                }
                () = tokio::time::sleep(PROGRESS_EVERY) => {
                    meter.flush().await;
                    let gone = *gone_since.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    // What was written stays to be seen in numbers; that nobody writes now is said.
                    if gone.is_some() != told {
                        told = gone.is_some();
                        let detail = match told {
                            true => format!(
                                "the agent is gone: it has {}s to come back; the machine may have crashed or lost its \
                                 network or power",
                                silence.as_secs()
                            ),
                            false => "the agent is back".to_owned(),
                        };
                        self.note(detail).await?;
                    }
                    if gone.is_some_and(|since| since.elapsed() > silence) {
                        return Err(StepError::Fatal(format!(
                            "no agent for {}s: expected it to reconnect; look at the machine's console, it may have crashed or lost its network",
                            silence.as_secs()
                        )));
                    }
                }
            }
        }
    }
}

fn root_device(machine: &Machine, deploy: &Deploy) -> RootDeviceHints {
    let mut hints = machine.root_device.clone().unwrap_or_default();
    hints.min_size_bytes = hints.min_size_bytes.max(deploy.root_disk_bytes);
    hints
}

pub(crate) fn refused_by_agent(failure: session_request::Failure) -> StepError {
    StepError::Fatal(format!("agent: {}", failure.message))
}

/// Keeps the newest progress and journals it now and then.
pub(crate) struct Meter<'a> {
    task: &'a Arc<TaskHandle>,
    index: usize,
    /// Shared with threads that report after the step was stopped.
    pub(super) newest: Arc<Mutex<Option<(i64, i64, String)>>>,
}

impl<'a> Meter<'a> {
    pub(crate) fn new(cx: &Context<'a>) -> Self {
        Self { task: cx.task, index: cx.index, newest: Arc::default() }
    }

    pub(crate) fn report(&self, done: i64, total: i64, detail: &str) {
        *self.newest.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
            Some((done, total, detail.chars().take(200).collect()));
    }

    /// Journals what is new.
    pub(crate) async fn flush(&self) {
        let newest = self.newest.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some((done, total, detail)) = newest {
            let saved = self
                .task
                .edit_step(self.index, |step| {
                    step.done_bytes = done;
                    step.total_bytes = total;
                    step.detail = detail;
                })
                .await;
            if let Err(error) = saved {
                tracing::warn!(%error, "progress not journaled");
            }
        }
    }

    async fn finish(&self) {
        self.flush().await;
    }

    /// Runs `work`, journaling progress beside it.
    pub(crate) async fn beside<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                out = &mut work => {
                    self.finish().await;
                    return out;
                }
                () = tokio::time::sleep(PROGRESS_EVERY) => self.flush().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The agent picks the smallest disk that matches: what is too small for the image or the flavor must not.
    #[test]
    fn a_root_disk_is_as_large_as_hints_and_deployment_want() {
        let hinted = |min_size_bytes| Machine {
            root_device: Some(RootDeviceHints { min_size_bytes, model: "nvme".into(), ..Default::default() }),
            ..Machine::default()
        };
        let wanted = |root_disk_bytes| Deploy { root_disk_bytes, ..Deploy::default() };
        for (hint, asked, least) in [(0, 20, 20), (30, 20, 30), (0, 0, 0)] {
            let hints = root_device(&hinted(hint), &wanted(asked));
            assert_eq!((hints.min_size_bytes, hints.model.as_str()), (least, "nvme"));
        }
        assert_eq!(root_device(&Machine::default(), &wanted(20)).min_size_bytes, 20);
    }
}
