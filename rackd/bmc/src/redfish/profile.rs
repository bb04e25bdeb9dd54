//! Dell's Server Configuration Profile (OemManager: ExportSystemConfiguration, ImportSystemConfiguration): a job that ends with
//! the profile itself in place of its task, or that begins with one.

use std::time::Duration;

use async_trait::async_trait;
use http::StatusCode;
use serde_json::json;

use super::document::{Document, Path};
use super::driver::{DRIVER, RedfishBmc};
use super::link::{Ask, Link};
use super::task;
use crate::actor::Call;
use crate::{BmcError, BmcTask, BmcTaskState, Capability, Deadline, Profile, ProfileFormat, ProfileShutdown};

/// All of a full server is some hundreds of KiB of XML.
const MAX_PROFILE: usize = 3 << 20;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// It is there for some seconds after its end only.
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// How far an export is.
enum Export {
    Under(BmcTask),
    Written(String),
}

#[async_trait]
impl Profile for RedfishBmc {
    async fn export_profile(
        &self,
        format: ProfileFormat,
        target: &str,
        deadline: Deadline,
    ) -> Result<String, BmcError> {
        let target = whole_or(target);
        let begun =
            self.call(deadline, move |link, call| Box::pin(link.export(call, format, target))).await?;
        let mut pause = FIRST_PAUSE;
        loop {
            let asked = begun.clone();
            match self.call(deadline, |link, call| Box::pin(link.exported(call, asked))).await? {
                Export::Written(profile) => return Ok(profile),
                Export::Under(task)
                    if task.state == BmcTaskState::Failed || pause >= deadline.remaining() =>
                {
                    return Err(self.unfinished(&begun, &task));
                }
                // Others have their turn meanwhile.
                Export::Under(_) => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    async fn import_profile(
        &self,
        profile: String,
        target: &str,
        shutdown: ProfileShutdown,
        deadline: Deadline,
    ) -> Result<String, BmcError> {
        let target = whole_or(target);
        let task =
            self.call(deadline, move |link, call| Box::pin(link.import(call, profile, target, shutdown)));
        Ok(task.await?.as_str().to_owned())
    }
}

impl Link {
    async fn export(
        &mut self,
        call: &mut Call,
        format: ProfileFormat,
        target: String,
    ) -> Result<Path, BmcError> {
        let format = match format {
            ProfileFormat::Xml => "XML",
            ProfileFormat::Json => "JSON",
        };
        let body = json!({ "ExportFormat": format, "ShareParameters": { "Target": target } });
        self.begin(call, EXPORT, body, "exporting a profile").await
    }

    /// Also what import a profile may ask for by itself.
    async fn import(
        &mut self,
        call: &mut Call,
        profile: String,
        target: String,
        shutdown: ProfileShutdown,
    ) -> Result<Path, BmcError> {
        let shutdown = match shutdown {
            ProfileShutdown::None => "NoReboot",
            ProfileShutdown::Graceful => "Graceful",
            ProfileShutdown::Forced => "Forced",
        };
        let body = json!({
            "ImportBuffer": profile,
            "ShareParameters": { "Target": target },
            "ShutdownType": shutdown,
        });
        self.begin(call, IMPORT, body, "importing a profile").await
    }

    /// An action of the BMC's own that answers with the job that does it.
    async fn begin(
        &mut self,
        call: &mut Call,
        action: &str,
        body: serde_json::Value,
        event: &'static str,
    ) -> Result<Path, BmcError> {
        let absent = BmcError::Unsupported { driver: DRIVER, capability: Capability::Profile.as_str() };
        let (_, system) = self.system(call).await?;
        let Some((_, manager)) = self.manager(call, &system).await? else { return Err(absent) };
        let target = action_of(&manager, action).ok_or(absent)?;
        let ask = Ask::post(&target, body).once(event);
        let answer = self.send(call, &ask).await?;
        if !answer.status.is_success() {
            return Err(self.refused(&ask, &answer));
        }
        self.task_of(&answer).ok_or_else(|| self.bad_answer(&ask, "the job that does it", "no Location"))
    }

    async fn exported(&mut self, call: &mut Call, path: Path) -> Result<Export, BmcError> {
        let ask = Ask { max_body: MAX_PROFILE, ..Ask::get(&path) };
        let answer = self.send(call, &ask).await?;
        if answer.status == StatusCode::NOT_FOUND && self.job_of(call, &path).await?.is_some() {
            let expected =
                "the profile that was exported, which a BMC forgets soon after its end: export it again";
            return Err(self.bad_answer(&ask, expected, &answer.describe()));
        }
        if answer.status == StatusCode::OK && is_profile(&answer.body) {
            let text = String::from_utf8(answer.body.to_vec());
            return text
                .map(Export::Written)
                .map_err(|_| self.bad_answer(&ask, "a profile in UTF-8", &answer.describe()));
        }
        let accepted = answer.status == StatusCode::ACCEPTED;
        if accepted && answer.body.is_empty() {
            return Ok(Export::Under(BmcTask::in_state(BmcTaskState::Running)));
        }
        let task = task::task(&self.document(&ask, &answer)?, accepted);
        if task.state == BmcTaskState::Done {
            return Err(self.bad_answer(&ask, "the profile that was exported", &answer.describe()));
        }
        Ok(Export::Under(task))
    }
}

/// Where an action of Dell's is; the type's version is in its name.
pub(super) fn action_of(manager: &Document, action: &str) -> Option<Path> {
    let actions = manager.at("Actions/Oem")?.as_object()?;
    let name = format!("#OemManager.{action}");
    let action = actions.iter().find(|(known, _)| known.ends_with(&name))?.1;
    Path::of(action.get("target")?.as_str()?)
}

const EXPORT: &str = "ExportSystemConfiguration";
pub(super) const IMPORT: &str = "ImportSystemConfiguration";

fn whole_or(target: &str) -> String {
    if target.is_empty() { "ALL".to_owned() } else { target.to_owned() }
}

/// By how it begins: as XML, or as JSON.
fn is_profile(body: &[u8]) -> bool {
    let text = body.trim_ascii_start();
    if text.starts_with(b"<") {
        let start = text.get(..text.len().min(4096)).unwrap_or_default();
        return start.windows(PROFILE.len()).any(|word| word == PROFILE);
    }
    Document::parse(body, None).is_some_and(|document| document.at("SystemConfiguration").is_some())
}

const PROFILE: &[u8] = b"<SystemConfiguration";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redfish::scripted;

    #[test]
    fn a_profile_is_told_from_the_task_that_writes_it() {
        for whole in [
            "<SystemConfiguration Model=\"R640\"></SystemConfiguration>",
            "\n<?xml version=\"1.0\"?>\n<!-- x --><SystemConfiguration/>",
            r#"{"SystemConfiguration": {"Components": []}}"#,
        ] {
            assert!(is_profile(whole.as_bytes()), "{whole}");
        }
        for other in [r#"{"TaskState": "Completed"}"#, "<html>", "", r#"{"SystemConfiguration": null}"#] {
            assert!(!is_profile(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn an_action_is_found_in_any_version_of_its_type() {
        let manager = r##"{"Actions": {"Oem": {"OemManager.v1_4_0#OemManager.ImportSystemConfiguration": {"target": "/m/i"}}}}"##;
        let manager = Document::parse(manager.as_bytes(), None).unwrap();
        assert_eq!(action_of(&manager, IMPORT).as_ref().map(Path::as_str), Some("/m/i"));
        assert_eq!((action_of(&manager, EXPORT), action_of(&Document::default(), IMPORT)), (None, None));
    }

    /// However an iDRAC quotes a value, and wherever a text is cut.
    #[tokio::test]
    async fn a_refusal_repeats_no_value() {
        let message = format!("{} p&ss-word, p&amp;ss-word, calvin99-calvin99", "x".repeat(170));
        for (id, is_licence) in [("IDRAC.2.8.SYS403", false), ("Base.1.8.LicenseKeyRequired", true)] {
            let messages = json!([{ "MessageId": id, "Message": message }]);
            let refusal = json!({ "error": { "@Message.ExtendedInfo": messages } }).to_string();
            let hub = scripted::hub(move |request| {
                let body = match request {
                    "GET /redfish/v1/" => {
                        r#"{"RedfishVersion": "1.15.0", "Vendor": "Dell", "Systems": {"@odata.id": "/S"}}"#
                    }
                    "GET /S" => r#"{"Members": [{"@odata.id": "/S/1"}]}"#,
                    "GET /S/1" => r#"{"PowerState": "On", "Links": {"ManagedBy": [{"@odata.id": "/M"}]}}"#,
                    "GET /M" => {
                        r##"{"Actions": {"Oem": {"OemManager.v1_4_0#OemManager.ImportSystemConfiguration": {"target": "/I"}}}}"##
                    }
                    "POST /I" => return Some((400, refusal.clone())),
                    _ => return Some((404, "{}".to_owned())),
                };
                Some((200, body.to_owned()))
            });
            let soon = || Deadline::after(Duration::from_secs(60));
            let bmc = hub.bmc(scripted::address()).recognised(soon()).await.unwrap();
            for profile in [
                "<A><B>p&amp;ss-word</B><B>calvin99-calvin99</B></A>",
                r#"{"A": [{"Value": "p&ss-word"}, {"Value": "p&amp;ss-word"}, {"Value": "calvin99\u002dcalvin99"}]}"#,
            ] {
                let asked = bmc.import_profile(profile.to_owned(), "", ProfileShutdown::None, soon());
                let refused = asked.await.unwrap_err();
                assert_eq!(matches!(refused, BmcError::Licence { .. }), is_licence, "{refused}");
                let told = refused.to_string();
                assert!(told.contains("xxx (the"), "{told}");
                assert!(!told.contains("p&") && !told.contains("calvin"), "{told}");
            }
            hub.shutdown().await;
        }
    }
}
