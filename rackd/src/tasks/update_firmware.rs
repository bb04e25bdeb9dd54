use super::context::{Context, Meter};
use super::power::observed;
use super::step::{Step, StepError, Timeouts};
use crate::cache::CachedImage;
use farrier_bmc::{Bmc, BmcError, BmcTask, BmcTaskState, Deadline, FirmwareFile, FirmwarePart};
use farrier_proto::rack::{AskedState, FirmwareImage};
use farrier_runtime::crash;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The BMC fetches firmware, or is sent it, and installs it, once; its own task is followed to its end, over restarts of the BMC too.
pub(super) struct UpdateFirmware;

#[async_trait::async_trait]
impl Step for UpdateFirmware {
    fn name(&self) -> &'static str {
        "update_firmware"
    }
    /// A BMC fetches over a slow link, and writes parts one after the other.
    fn deadline(&self, timeouts: &Timeouts) -> Duration {
        timeouts.write
    }
    /// Whatever it writes would be half of it.
    fn power_off_after_failure(&self) -> bool {
        false
    }
    fn only_waits(&self) -> bool {
        true
    }
    /// There are BMCs that switch the machine off and on to install some of it.
    fn leaves_power(&self) -> bool {
        false
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        let task = cx.task.task().await;
        let asked = cx.asked_once().await.state();
        let node = cx.machine()?.name.trim_start_matches("nodes/");
        let begun = task.result.unwrap_or_default().bmc_task;
        // The rackd of before an upgrade has journaled the BMC's task alone.
        if asked == AskedState::Asked || !begun.is_empty() {
            return follow(cx, &cx.bmc().await?, &begun, &[]).await;
        }
        if asked == AskedState::Asking {
            return Err(StepError::Fatal(format!(
                "rackd ended while it asked for the update, which may have begun: `farrier node firmware list {node}` \
                 says what there is"
            )));
        }
        let bmc = cx.bmc().await?;
        let wanted = cx.firmware()?;
        let url = cx.task.with_secrets(|secrets| secrets.firmware_url.clone()).await;
        let file = match &wanted.push {
            Some(push) => Some(file(cx, push).await?),
            None => None,
        };
        // Told at the end; a BMC without a list may update all the same.
        let before = bmc.firmware(cx.call()).await.unwrap_or_default();
        cx.will_ask_once("asking for the update").await?;
        crash::point(self.name(), "told");
        let parts = wanted.parts.clone();
        let asked = match &file {
            Some((_, file)) => {
                let whole = Deadline::after(cx.rack.timeouts.write);
                bmc.push_firmware(file.clone(), parts, whole).await
            }
            None => bmc.update_firmware(&url, parts, cx.call()).await,
        };
        let begun = match asked {
            Ok(begun) => begun,
            Err(error) if error.was_not_begun() => {
                // Another try asks again.
                cx.asks_once(AskedState::Unspecified, "").await;
                return Err(error.into());
            }
            Err(error) => return Err(StepError::fatal(error)),
        };
        let words = format!("{BEGUN} by driver {}", bmc.driver());
        cx.asks_once_and(AskedState::Asked, &words, |task| {
            task.result.get_or_insert_default().bmc_task.clone_from(&begun);
        })
        .await;
        crash::point(self.name(), "begun");
        follow(cx, &bmc, &begun, &before).await
    }
}

/// What is sent, all of it here; held, it stays.
async fn file(cx: &Context<'_>, push: &FirmwareImage) -> Result<(Arc<CachedImage>, FirmwareFile), StepError> {
    let cache = &cx.rack.cache;
    let held = cache.open(&push.image, &push.manifest_sha256).await?;
    let meter = Meter::new(cx);
    let fetch = cache.ensure(&push.image, &push.manifest_sha256, |done, total| meter.report(done, total, ""));
    meter.beside(fetch).await?;
    let path = cache.path(&push.manifest_sha256);
    let path = path.ok_or_else(|| StepError::Again(format!("{} left the rack's cache", push.image)))?;
    let size = u64::try_from(push.size_bytes).unwrap_or_default();
    Ok((held, FirmwareFile { path, size, name: push.file_name.clone() }))
}

/// Until the BMC's task ends, or waits for a start of the machine that nobody here causes.
async fn follow(cx: &Context<'_>, bmc: &Bmc, task: &str, before: &[FirmwarePart]) -> Result<(), StepError> {
    if task.is_empty() {
        return told(cx, bmc, before, "and its BMC tells nothing of it").await;
    }
    let (mut pause, mut away, mut watched) = (FIRST_PAUSE, false, Watched::since(Instant::now()));
    loop {
        match bmc.task(task, cx.call()).await {
            Ok(seen) => match watched.sees(&seen, Instant::now()) {
                Turn::Done => return told(cx, bmc, before, "done").await,
                Turn::Failed => {
                    return Err(StepError::fatal(format!("the BMC's task {task} failed: {}", seen.message)));
                }
                Turn::ForAStart => return told(cx, bmc, before, "waits for the machine's next start").await,
                Turn::GoesOn => {
                    let percent = seen.percent.map(|percent| format!("{percent} %, ")).unwrap_or_default();
                    cx.note(format!("{BEGUN}: {percent}{}", seen.message)).await?;
                }
            },
            // A BMC whose own firmware is new restarts, and many forget their tasks by it.
            Err(BmcError::Http { status: 404, .. }) if away => {
                return match changed(bmc, before, cx).await {
                    Some(changes) if !changes.is_empty() => told(cx, bmc, before, "done").await,
                    _ => Err(StepError::fatal(format!(
                        "the BMC restarted and forgot its task {task}, and what it has is not known to be other than \
                         before: `farrier node firmware list {}` says it",
                        cx.machine()?.name.trim_start_matches("nodes/")
                    ))),
                };
            }
            Err(error) if error.is_transient() => {
                away = true;
                cx.note(format!("{BEGUN}: its BMC does not answer, perhaps it restarts: {error}")).await?;
            }
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

/// What has been seen of a task: pure.
struct Watched {
    since: Instant,
    /// It was seen at work.
    worked: bool,
    /// Since when it waits, and with which words.
    waits: Option<(Instant, String)>,
}

/// What it has come to.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    Done,
    Failed,
    /// It waits for a start of the machine that nobody here causes.
    ForAStart,
    GoesOn,
}

impl Watched {
    fn since(now: Instant) -> Self {
        Self { since: now, worked: false, waits: None }
    }

    fn sees(&mut self, seen: &BmcTask, now: Instant) -> Turn {
        let may_be_of_before = seen.of_service && !self.worked && now < self.since + STALE;
        match seen.state {
            BmcTaskState::Done | BmcTaskState::Failed if may_be_of_before => Turn::GoesOn,
            BmcTaskState::Done => Turn::Done,
            BmcTaskState::Failed => Turn::Failed,
            BmcTaskState::Running => {
                (self.worked, self.waits) = (true, None);
                Turn::GoesOn
            }
            BmcTaskState::Waiting => match &self.waits {
                Some((since, words)) if *words == seen.message => {
                    if now < *since + TURN {
                        Turn::GoesOn
                    } else {
                        Turn::ForAStart
                    }
                }
                _ => {
                    self.waits = Some((now, seen.message.clone()));
                    Turn::GoesOn
                }
            },
        }
    }
}

/// What came of it, with the versions that changed.
async fn told(cx: &Context<'_>, bmc: &Bmc, before: &[FirmwarePart], how: &str) -> Result<(), StepError> {
    let changes = changed(bmc, before, cx).await.unwrap_or_default();
    let changes = if changes.is_empty() { String::new() } else { format!(": {}", changes.join(", ")) };
    cx.note(format!("{BEGUN} by driver {}, {how}{changes}", bmc.driver())).await?;
    // The power goes into the node, as after every work that holds it.
    match bmc.power_status(cx.call()).await {
        Ok(power) => observed(cx, power).await,
        // It has just been updated: what it is doing now is no failure of that.
        Err(_) => Ok(()),
    }
}

/// `None`: nothing to compare.
async fn changed(bmc: &Bmc, before: &[FirmwarePart], cx: &Context<'_>) -> Option<Vec<String>> {
    let now = bmc.firmware(cx.call()).await.ok().filter(|_| !before.is_empty())?;
    let old = |id: &str| before.iter().find(|part| part.id == id).map(|part| part.version.as_str());
    let other = now.iter().filter(|part| old(&part.id).is_some_and(|old| old != part.version));
    Some(
        other
            .map(|part| format!("{} {} → {}", part.id, old(&part.id).unwrap_or_default(), part.version))
            .collect(),
    )
}

/// What is said of it from then on.
const BEGUN: &str = "begun";
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(15);
/// So long the end of an update is taken for that of the one before, where the service itself tells it and was not seen at work.
const STALE: Duration = Duration::from_secs(60);
/// So long a task waits for its turn behind others, before it is taken for one that waits for a start: the next operation may
/// switch off a machine whose node is free.
const TURN: Duration = Duration::from_secs(180);

#[cfg(test)]
mod tests {
    use super::*;
    use BmcTaskState::{Done, Failed, Running, Waiting};

    fn seen(state: BmcTaskState, message: &str, of_service: bool) -> BmcTask {
        BmcTask { state, message: message.to_owned(), percent: None, of_service }
    }

    /// What a series of looks, each with its second, comes to.
    fn turns<const N: usize>(looks: [(u64, BmcTask); N]) -> Vec<Turn> {
        let begun = Instant::now();
        let mut watched = Watched::since(begun);
        looks.map(|(second, task)| watched.sees(&task, begun + Duration::from_secs(second))).into()
    }

    #[test]
    fn an_end_that_the_service_tells_before_any_work_may_be_that_of_the_update_before() {
        let service = |state| seen(state, "", true);
        use Turn::GoesOn;
        let quick =
            turns([(0, service(Done)), (1, service(Failed)), (3, service(Running)), (5, service(Done))]);
        assert_eq!(quick, [GoesOn, GoesOn, GoesOn, Turn::Done]);
        // Between two looks it may all have happened.
        assert_eq!(turns([(0, service(Failed)), (61, service(Failed))]), [GoesOn, Turn::Failed]);
        assert_eq!(turns([(0, seen(Done, "", false))]), [Turn::Done], "a task is of one update");
    }

    #[test]
    fn a_task_behind_others_does_not_wait_for_a_start() {
        let waits = |words: &str| seen(Waiting, words, false);
        use Turn::GoesOn;
        let queued = [(0, waits("new")), (100, waits("scheduled")), (279, waits("scheduled"))];
        assert_eq!(turns(queued), [GoesOn, GoesOn, GoesOn], "its words changed");
        let for_ever = [(0, waits("scheduled")), (179, waits("scheduled")), (180, waits("scheduled"))];
        assert_eq!(turns(for_ever), [GoesOn, GoesOn, Turn::ForAStart]);
        let worked = [(0, waits("a")), (100, seen(Running, "", false)), (150, waits("a")), (329, waits("a"))];
        assert_eq!(turns(worked), [GoesOn, GoesOn, GoesOn, GoesOn]);
    }
}
