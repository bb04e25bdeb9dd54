//! Virtual media (DSP0268: VirtualMedia), of the system or of its BMC.

use std::time::Duration;

use async_trait::async_trait;
use http::StatusCode;
use serde_json::{Value, json};

use super::document::{Document, Path};
use super::driver::{DRIVER, RedfishBmc, optional};
use super::http::Answer;
use super::link::{Ask, Link};
use crate::actor::Call;
use crate::{BmcError, BootMode, Capability, Deadline, Media, VirtualMedia};

#[async_trait]
impl VirtualMedia for RedfishBmc {
    async fn media(&self, deadline: Deadline) -> Result<Media, BmcError> {
        self.call(deadline, |link, call| Box::pin(link.media(call))).await
    }

    async fn insert_media(&self, url: &str, deadline: Deadline) -> Result<Media, BmcError> {
        let wanted = url.to_owned();
        let before = self.call(deadline, move |link, call| Box::pin(link.other_than(call, wanted))).await?;
        match before {
            Before::Wanted(media) => return Ok(media),
            Before::Empty => {}
            // Most refuse a second CD.
            Before::Another => drop(self.eject_media(deadline).await?),
        }
        let wanted = url.to_owned();
        let asked = self.call(deadline, move |link, call| Box::pin(link.insert(call, wanted))).await?;
        self.settled(asked, Some(url), deadline).await
    }

    async fn eject_media(&self, deadline: Deadline) -> Result<Media, BmcError> {
        match self.call(deadline, |link, call| Box::pin(link.eject(call))).await? {
            Some(asked) => self.settled(asked, None, deadline).await,
            None => Ok(Media::default()),
        }
    }

    async fn boot_media_once(&self, mode: BootMode, deadline: Deadline) -> Result<(), BmcError> {
        let asked = self.call(deadline, move |link, call| Box::pin(link.boot_media_once(call, mode))).await?;
        match asked {
            Some(task) => self.finish(task, deadline).await,
            None => Ok(()),
        }
    }
}

/// What is in the drive before a CD goes in.
enum Before {
    Wanted(Media),
    Another,
    Empty,
}

/// A drive that was asked to change.
struct Asked {
    drive: Path,
    /// What the BMC does it by (DSP0266 §12.2).
    task: Option<Path>,
    /// It said no, perhaps to the repetition of what it has done.
    refused: Option<BmcError>,
}

impl RedfishBmc {
    /// Until the drive is as it was asked to be, with the CD at `url`, or empty: most BMCs answer before they have the image, some
    /// long before, and a BMC at work may not answer for a while. Looked at between the calls of others.
    async fn settled(&self, asked: Asked, url: Option<&str>, deadline: Deadline) -> Result<Media, BmcError> {
        if let Some(task) = asked.task {
            match self.finish(task, deadline).await {
                // It is forgotten as soon as it is done: the drive says what came of it.
                Err(BmcError::Http { status: 404, .. }) => {}
                finished => finished?,
            }
        }
        let patience = match (&asked.refused, url) {
            (Some(_), None) => REFUSED.min(deadline.remaining()),
            _ => deadline.remaining(),
        };
        let until = Deadline::after(patience);
        let mut pause = FIRST_PAUSE;
        loop {
            let path = asked.drive.clone();
            let look =
                self.call(deadline, move |link, call| Box::pin(async move { link.get(call, &path).await }));
            let not_yet = match look.await {
                Ok(drive) => {
                    let seen = media(&drive);
                    let is_so = match url {
                        // What kept a BMC from taking it may be another's CD.
                        Some(url) => seen.inserted && (asked.refused.is_none() || holds(&drive, url)),
                        None => !seen.inserted,
                    };
                    if is_so {
                        return Ok(seen);
                    }
                    let (task, seen) = match url {
                        Some(_) => ("putting virtual media in", "an empty drive"),
                        None => ("taking virtual media out", "something in the drive"),
                    };
                    BmcError::AtWork { addr: self.addr, task: task.to_owned(), seen: seen.to_owned() }
                }
                Err(error) if error.is_transient() => error,
                Err(error) => return Err(error),
            };
            if pause >= until.remaining() {
                return Err(asked.refused.unwrap_or(not_yet));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// So long the drive of a BMC that said no to taking something out is looked at.
const REFUSED: Duration = Duration::from_secs(2);

impl Link {
    async fn media(&mut self, call: &mut Call) -> Result<Media, BmcError> {
        let (_, drive) = self.drive(call).await?;
        Ok(media(&drive))
    }

    async fn other_than(&mut self, call: &mut Call, url: String) -> Result<Before, BmcError> {
        let (_, drive) = self.drive(call).await?;
        let before = media(&drive);
        Ok(match before.inserted {
            true if holds(&drive, &url) => Before::Wanted(before),
            true => Before::Another,
            false => Before::Empty,
        })
    }

    async fn insert(&mut self, call: &mut Call, url: String) -> Result<Asked, BmcError> {
        let (path, drive) = self.drive(call).await?;
        let asked = match action(&path, &drive, "InsertMedia") {
            Some(target) => self.insert_by_action(call, &target, &url).await,
            // Before 2018 the resource itself was written.
            None => {
                let body = json!({ "Image": url, "Inserted": true, "WriteProtected": true });
                let (ask, answer) = self.patch(call, &path, &body, drive.etag).await?;
                if answer.status.is_success() {
                    Ok(self.accepted(&answer))
                } else {
                    Err(self.refused(&ask, &answer))
                }
            }
        };
        let (task, refused) = match asked {
            Ok(task) => (task, None),
            // Many answer when they have the image, which is long after: the drive says whether they have.
            Err(BmcError::AnswerLost { .. }) => (None, None),
            // It may still be putting in what it was asked for before, by who had less time than it needs.
            Err(error @ BmcError::Http { status: 409, .. }) => (None, Some(error)),
            Err(error) => return Err(error),
        };
        Ok(Asked { drive: path, task, refused })
    }

    /// Some BMCs refuse what others require: the least first.
    async fn insert_by_action(
        &mut self,
        call: &mut Call,
        target: &Path,
        url: &str,
    ) -> Result<Option<Path>, BmcError> {
        let bodies = bodies(url);
        let mut refused = None;
        for body in bodies {
            let ask = Ask::post(target, body).once("inserting virtual media");
            let answer = self.send(call, &ask).await?;
            if answer.status.is_success() {
                return Ok(self.accepted(&answer));
            }
            let error = self.refused(&ask, &answer);
            if answer.status.as_u16() != 400 || matches!(error, BmcError::Licence { .. }) {
                return Err(error);
            }
            // The first refusal is of what everybody has to take.
            refused.get_or_insert(error);
        }
        Err(refused.unwrap_or(BmcError::Unsupported { driver: DRIVER, capability: "virtual media" }))
    }

    /// `None`: it is empty.
    async fn eject(&mut self, call: &mut Call) -> Result<Option<Asked>, BmcError> {
        let (path, drive) = self.drive(call).await?;
        if !media(&drive).inserted {
            return Ok(None);
        }
        let (ask, answer) = match action(&path, &drive, "EjectMedia") {
            Some(target) => {
                let ask = Ask::post(&target, json!({}));
                let answer = self.send(call, &ask).await?;
                (ask, answer)
            }
            None => {
                let body = json!({ "Image": null, "Inserted": false });
                self.patch(call, &path, &body, drive.etag).await?
            }
        };
        // Repeated after an answer that was lost, it is refused: there is nothing any more.
        let refused = (!answer.status.is_success()).then(|| self.refused(&ask, &answer));
        Ok(Some(Asked { drive: path, task: self.accepted(&answer), refused }))
    }

    /// The task that does what was asked for, where the BMC says so.
    fn accepted(&self, answer: &Answer) -> Option<Path> {
        (answer.status == StatusCode::ACCEPTED).then(|| self.task_of(answer)).flatten()
    }

    /// The drive for CDs, of the system where it has some (DSP0268 of 2020), else of its BMC.
    pub(super) async fn drive(&mut self, call: &mut Call) -> Result<(Path, Document), BmcError> {
        let (_, system) = self.system(call).await?;
        let manager = self.manager(call, &system).await;
        let manager = optional(manager, &mut Vec::new(), "Managers")?.flatten();
        let places = [system.link("VirtualMedia"), manager.and_then(|(_, m)| m.link("VirtualMedia"))];
        for place in places.into_iter().flatten() {
            let Some(list) = optional(self.get(call, &place).await, &mut Vec::new(), "VirtualMedia")? else {
                continue;
            };
            for path in list.links("Members", self.tuning.max_members) {
                let drive = optional(self.get(call, &path).await, &mut Vec::new(), "a drive")?;
                if let Some(drive) = drive.filter(is_for_cds) {
                    return Ok((path, drive));
                }
            }
        }
        Err(BmcError::Unsupported { driver: DRIVER, capability: Capability::VirtualMedia.as_str() })
    }
}

/// Of [`Media::image`] the end is missing, where an address is long: signed ones are.
fn holds(drive: &Document, url: &str) -> bool {
    drive.at("Image").and_then(Value::as_str) == Some(url)
}

fn is_for_cds(drive: &Document) -> bool {
    drive.words("MediaTypes").iter().any(|kind| matches!(kind.as_str(), "CD" | "DVD"))
}

fn media(drive: &Document) -> Media {
    let image = drive.text("Image").unwrap_or_default();
    let inserted = drive.at("Inserted").and_then(Value::as_bool);
    Media { inserted: inserted.unwrap_or(!image.is_empty()), image }
}

/// `None`: the drive does not offer it.
fn action(path: &Path, drive: &Document, name: &str) -> Option<Path> {
    let action = drive.at(&format!("Actions/#VirtualMedia.{name}"))?;
    let target = action.get("target").and_then(|target| Path::of(target.as_str()?));
    target.or_else(|| path.member(&format!("Actions/VirtualMedia.{name}")))
}

/// What is tried in turn.
fn bodies(url: &str) -> [Value; 3] {
    let protocol = url.split(':').next().unwrap_or_default().to_ascii_uppercase();
    [
        json!({ "Image": url }),
        json!({ "Image": url, "Inserted": true, "WriteProtected": true }),
        json!({ "Image": url, "TransferProtocolType": protocol, "TransferMethod": "Stream" }),
    ]
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use super::*;
    use crate::redfish::scripted;

    fn document(text: &str) -> Document {
        Document::parse(text.as_bytes(), None).unwrap()
    }

    #[test]
    fn a_drive_is_empty_unless_it_says_otherwise() {
        let media = |text: &str| media(&document(text));
        assert_eq!(media("{}"), Media::default());
        assert!(media(r#"{"Image": "http://h/i.iso"}"#).inserted);
        let stale = media(r#"{"Image": "http://h/i.iso", "Inserted": false}"#);
        assert_eq!((stale.inserted, stale.image.as_str()), (false, "http://h/i.iso"));
        assert!(is_for_cds(&document(r#"{"MediaTypes": ["USBStick", "DVD"]}"#)));
        assert!(!is_for_cds(&document(r#"{"MediaTypes": ["Floppy"]}"#)) && !is_for_cds(&document("{}")));
    }

    /// A BMC that fetches the image before it answers, and one that heard nothing.
    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_lost_is_read_back() {
        for arrives in [true, false] {
            let asked = AtomicBool::new(false);
            let hub = scripted::hub(move |request| {
                let drive = |inserted: bool| {
                    let image = if inserted { r#""http://h/i.iso""# } else { "null" };
                    format!(
                        r##"{{"MediaTypes": ["CD"], "Image": {image}, "Inserted": {inserted},
                        "Actions": {{"#VirtualMedia.InsertMedia": {{"target": "/I"}}}}}}"##
                    )
                };
                let body = match request {
                    "GET /redfish/v1/" => scripted::ROOT.to_owned(),
                    "GET /S" => r#"{"Members": [{"@odata.id": "/S/1"}]}"#.to_owned(),
                    "GET /S/1" => r#"{"PowerState": "On", "VirtualMedia": {"@odata.id": "/V"}}"#.to_owned(),
                    "GET /V" => r#"{"Members": [{"@odata.id": "/V/1"}]}"#.to_owned(),
                    "GET /V/1" => drive(arrives && asked.load(Ordering::Relaxed)),
                    "POST /I" => {
                        asked.store(true, Ordering::Relaxed);
                        return None;
                    }
                    _ => return Some((404, "{}".to_owned())),
                };
                Some((200, body))
            });
            let bmc = hub.bmc(scripted::address());
            let inserted = bmc.insert_media("http://h/i.iso", Deadline::after(Duration::from_secs(60))).await;
            match arrives {
                true => assert_eq!(inserted.map(|media| media.inserted), Ok(true)),
                false => assert!(inserted.as_ref().is_err_and(BmcError::is_transient), "{inserted:?}"),
            }
            hub.shutdown().await;
        }
    }

    /// DSP0266 §12.2: a 202 says where it is told how far it is; the drive is as before until then, and a while longer.
    #[tokio::test(start_paused = true)]
    async fn a_task_that_puts_the_cd_in_is_followed_and_the_drive_looked_at_until_it_is_there() {
        for ends_well in [true, false] {
            let looks = AtomicU32::new(0);
            let hub = scripted::hub(move |request| {
                let drive = |inserted: bool| {
                    format!(
                        r##"{{"MediaTypes": ["CD"], "Inserted": {inserted},
                        "Actions": {{"#VirtualMedia.InsertMedia": {{"target": "/I"}}}}}}"##
                    )
                };
                Some(match request {
                    "GET /redfish/v1/" => (200, scripted::ROOT.to_owned()),
                    "GET /S" => (200, r#"{"Members": [{"@odata.id": "/S/1"}]}"#.to_owned()),
                    "GET /S/1" => (200, r#"{"VirtualMedia": {"@odata.id": "/V"}}"#.to_owned()),
                    "GET /V" => (200, r#"{"Members": [{"@odata.id": "/V/1"}]}"#.to_owned()),
                    "POST /I" => (202, "{}".to_owned()),
                    // Each counts: three of the task, and more of the drive than a few.
                    "GET /T/1" => match (looks.fetch_add(1, Ordering::Relaxed), ends_well) {
                        (0 | 1, _) => (202, r#"{"TaskState": "Running"}"#.to_owned()),
                        (_, true) => (200, r#"{"TaskState": "Completed"}"#.to_owned()),
                        (_, false) => {
                            let task = r#"{"TaskState": "Exception", "Messages": [{"Message": "no route"}]}"#;
                            (200, task.to_owned())
                        }
                    },
                    "GET /V/1" => match looks.load(Ordering::Relaxed) {
                        0..3 => (200, drive(false)),
                        _ => (200, drive(looks.fetch_add(1, Ordering::Relaxed) > 12)),
                    },
                    _ => (404, "{}".to_owned()),
                })
            });
            let bmc = hub.bmc(scripted::address());
            let inserted =
                bmc.insert_media("http://h/i.iso", Deadline::after(Duration::from_secs(300))).await;
            match ends_well {
                true => assert_eq!(inserted.map(|media| media.inserted), Ok(true)),
                false => assert!(inserted.unwrap_err().to_string().contains("no route")),
            }
            hub.shutdown().await;
        }
    }

    /// A BMC at work refuses, or does not answer for a while: the drive says what comes of it.
    #[tokio::test(start_paused = true)]
    async fn a_bmc_at_work_is_looked_at_until_the_drive_has_what_was_asked_for() {
        const OURS: &str = "http://h/i.iso";
        for (answer, comes, is_ours) in
            [(200, OURS, true), (202, OURS, true), (409, OURS, true), (409, "http://h/other.iso", false)]
        {
            // Requests from the one that asks for it on.
            let since = AtomicU32::new(0);
            let hub = scripted::hub(move |request| {
                let since = match since.load(Ordering::Relaxed) {
                    0 if request == "POST /I" => since.fetch_add(1, Ordering::Relaxed),
                    0 => 0,
                    _ => since.fetch_add(1, Ordering::Relaxed),
                };
                let drive = |image: &str| {
                    format!(
                        r##"{{"MediaTypes": ["CD"], "Image": {image},
                        "Actions": {{"#VirtualMedia.InsertMedia": {{"target": "/I"}}}}}}"##
                    )
                };
                Some(match request {
                    "GET /redfish/v1/" => (200, scripted::ROOT.to_owned()),
                    "GET /S" => (200, r#"{"Members": [{"@odata.id": "/S/1"}]}"#.to_owned()),
                    "GET /S/1" => (200, r#"{"VirtualMedia": {"@odata.id": "/V"}}"#.to_owned()),
                    "GET /V" => (200, r#"{"Members": [{"@odata.id": "/V/1"}]}"#.to_owned()),
                    "POST /I" => (answer, "{}".to_owned()),
                    // More of them than one call, or two, asks for.
                    "GET /T/1" | "GET /V/1" if (1..12).contains(&since) => (503, "{}".to_owned()),
                    "GET /T/1" => (200, r#"{"TaskState": "Completed"}"#.to_owned()),
                    "GET /V/1" if since < 18 => (200, drive("null")),
                    "GET /V/1" => (200, drive(&format!("{comes:?}"))),
                    _ => (404, "{}".to_owned()),
                })
            });
            let bmc = hub.bmc(scripted::address());
            let inserted = bmc.insert_media(OURS, Deadline::after(Duration::from_secs(300))).await;
            match is_ours {
                true => assert_eq!(inserted.map(|media| media.image).as_deref(), Ok(OURS), "{answer}"),
                false => assert!(matches!(inserted, Err(BmcError::Http { status: 409, .. })), "{inserted:?}"),
            }
            hub.shutdown().await;
        }
    }

    #[test]
    fn actions_are_those_that_are_offered() {
        let path = Path::ours("/m/1");
        let offered = document(
            r##"{"Actions": {"#VirtualMedia.InsertMedia": {"target": "/m/1/insert"},
            "#VirtualMedia.EjectMedia": {}}}"##,
        );
        let at = |name| action(&path, &offered, name).map(|path| path.as_str().to_owned());
        assert_eq!(at("InsertMedia").as_deref(), Some("/m/1/insert"));
        assert_eq!(at("EjectMedia").as_deref(), Some("/m/1/Actions/VirtualMedia.EjectMedia"));
        assert_eq!(action(&path, &document("{}"), "InsertMedia"), None);
        assert_eq!(bodies("https://h/i.iso")[2]["TransferProtocolType"], "HTTPS");
    }
}
