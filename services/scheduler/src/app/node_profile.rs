//! All that a node and its BMC are set to, as one text of its vendor's: who may is a rule, the rack asks the BMC.

use super::App;
use farrier_proto::rack::{
    BmcProfile, BmcProfileImport, ExportProfileRequest, ImportProfileRequest, ProfileShutdown,
};
use farrier_proto::scheduler::{ExportNodeProfileRequest, ImportNodeProfileRequest};
use farrier_runtime::authz::Caller;
use farrier_runtime::error::invalid;
use tonic::Status;

impl App {
    pub(crate) async fn export_profile(
        &self,
        caller: &Caller,
        request: ExportNodeProfileRequest,
    ) -> Result<BmcProfile, Status> {
        let ExportNodeProfileRequest { name, format, target } = request;
        check_target(&target)?;
        let (machine, mut rack) = self.bmc_of(&name).await?;
        let audit = self.audit(caller, name);
        audit.record("export profile", &target).await?;
        let answer =
            rack.export_profile(ExportProfileRequest { machine: Some(machine), format, target }).await;
        audit.outcome("export profile", answer).await
    }

    pub(crate) async fn import_profile(
        &self,
        caller: &Caller,
        request: ImportNodeProfileRequest,
    ) -> Result<BmcProfileImport, Status> {
        let shutdown = match request.shutdown() {
            ProfileShutdown::Unspecified | ProfileShutdown::None => "",
            ProfileShutdown::Graceful => "may shut the machine down",
            ProfileShutdown::Forced => "may switch the machine off",
        };
        let ImportNodeProfileRequest { name, profile, target, shutdown: asked_for } = request;
        check_target(&target)?;
        if !(1..=PROFILE).contains(&profile.len()) {
            let expected = format!("expected 1 to {PROFILE} bytes, saw {}", profile.len());
            return Err(invalid("profile", expected));
        }
        self.not_held(&name).await?;
        let (machine, mut rack) = self.bmc_of(&name).await?;
        let words: Vec<_> = [target.as_str(), shutdown].into_iter().filter(|word| !word.is_empty()).collect();
        let audit = self.audit(caller, name);
        audit.record("import profile", &words.join(", ")).await?;
        let request = ImportProfileRequest { machine: Some(machine), profile, target, shutdown: asked_for };
        let answer = rack.import_profile(request).await;
        audit.outcome("import profile", answer).await
    }
}

/// It goes to the BMC, and into the history.
fn check_target(target: &str) -> Result<(), Status> {
    if target.len() > TARGET || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(invalid("target", format!("expected a word of the vendor's of at most {TARGET} bytes")));
    }
    Ok(())
}

const TARGET: usize = 128;
/// As long as rackd takes; all of a full server is some hundreds of KiB.
const PROFILE: usize = 1 << 20;
