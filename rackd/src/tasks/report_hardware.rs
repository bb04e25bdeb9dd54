use super::context::Context;
use super::step::{Step, StepError};
use farrier_proto::agent::session_response::{Command, Inspect};

/// The agent looks at the machine.
pub(super) struct ReportHardware;

#[async_trait::async_trait]
impl Step for ReportHardware {
    fn name(&self) -> &'static str {
        "report_hardware"
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        let neighbour_seconds = cx.rack.config.inspection.neighbour_seconds.into();
        let done = cx.agent(Command::Inspect(Inspect { neighbour_seconds })).await?;
        let hardware = done.hardware.ok_or_else(|| StepError::fatal("the agent reported no hardware"))?;
        let summary = format!(
            "{} threads, {} MiB, {} disks, {} NICs, {} switch ports",
            hardware.cpu.as_ref().map_or(0, |c| c.thread_count),
            hardware.memory_bytes >> 20,
            hardware.disks.len(),
            hardware.nics.len(),
            hardware.nics.iter().filter(|nic| nic.neighbour.is_some()).count()
        );
        cx.task.edit(|task| task.result.get_or_insert_default().hardware = Some(hardware)).await?;
        cx.note(summary).await
    }
}
