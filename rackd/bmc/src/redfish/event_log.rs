//! The event log of a machine (DSP0268: LogService), wherever the BMC keeps it.

use std::cmp::Ordering;
use std::collections::{HashSet, VecDeque};

use async_trait::async_trait;
use serde_json::json;

use super::document::{Document, Path};
use super::driver::{DRIVER, RedfishBmc, optional};
use super::entry::{self, NO_LOG};
use super::inventory::{foremost, warn};
use super::link::{Ask, Link};
use crate::actor::Call;
use crate::coalesce::{Joined, Turn};
use crate::{BmcError, BmcEvent, BmcEvents, Capability, Deadline, EventLog};

/// Entries of one log that are kept: the newest of them are looked for, and some BMCs begin with the oldest.
const MOST: usize = 10_000;
/// Pages of one log; more is a chain that goes in a circle.
const MOST_PAGES: usize = 1024;
/// Entries of one call that are only linked: between two, others have their turn.
const BATCH: usize = 8;

/// A log, and the names of all of them.
struct Log {
    path: Path,
    service: Document,
    logs: Vec<String>,
}

/// Some of a log.
struct Page {
    events: Vec<BmcEvent>,
    /// Entries that the page only names.
    linked: Vec<Path>,
    next: Option<Path>,
    total: Option<u64>,
}

/// Entries that were read one by one.
struct Linked {
    events: Vec<BmcEvent>,
    /// Why the rest is not; `None`: all are.
    unread: Option<String>,
}

#[async_trait]
impl EventLog for RedfishBmc {
    async fn event_log(&self, log: &str, last: usize, deadline: Deadline) -> Result<BmcEvents, BmcError> {
        self.kept
            .reads
            .log(log, last)
            .ask_in_parts(deadline, |turn| self.log(log, last, turn, deadline))
            .await
    }

    async fn clear_event_log(&self, log: &str, deadline: Deadline) -> Result<(), BmcError> {
        let log = log.to_owned();
        self.call(deadline, move |link, call| Box::pin(link.clear_log(call, log))).await
    }
}

impl RedfishBmc {
    async fn log(
        &self,
        log: &str,
        last: usize,
        turn: Turn<BmcEvents>,
        deadline: Deadline,
    ) -> Result<(Joined<BmcEvents>, BmcEvents), BmcError> {
        let wanted = log.to_owned();
        let first = self.call(deadline, move |link, call| {
            Box::pin(async move {
                let joined = turn.begin();
                Ok((joined, link.log_service(call, wanted).await?))
            })
        });
        let (joined, log) = first.await?;
        let Log { service, logs, .. } = log;
        let log = service.text("Id").unwrap_or_default();
        let (mut events, mut linked, mut total) = (Vec::new(), Vec::new(), None);
        let (mut seen, mut warnings) = (HashSet::new(), Vec::new());
        let mut begins_with_newest = None;
        let mut next = service.link("Entries");
        while let Some(path) = next.filter(|path| seen.insert(path.clone()) && seen.len() <= MOST_PAGES) {
            let place = path.as_str().to_owned();
            let page = self.call(deadline, move |link, call| Box::pin(link.page(call, path))).await;
            // The first is the log; of those behind it one that is broken, or late, ends what can be told.
            let page = match page {
                Err(error) if seen.len() == 1 => return Err(error),
                Err(error) => {
                    let why = cut(error, &place, deadline)?;
                    foremost(&mut warnings, format!("{why}: the pages from there on are not read"));
                    break;
                }
                Ok(page) => page,
            };
            events.extend(page.events);
            linked.extend(page.linked);
            if events.len() > MOST {
                entry::sort(&mut events);
                events.drain(..events.len() - MOST);
            }
            total = total.or(page.total);
            next = page.next;
            // Logs of some are of tens of thousands, and begin with the newest.
            if linked.len() >= last && next.is_some() && begins_with_newest.is_none() {
                begins_with_newest = Some(self.falls(&linked, deadline).await);
            }
            if events.len() >= last && entry::falls(&events) || begins_with_newest == Some(true) {
                break;
            }
            if linked.len() > MOST {
                let why = "the log has more entries, told one by one, than are looked through";
                foremost(&mut warnings, format!("{place}: {why}: the pages from there on are not read"));
                break;
            }
        }
        let count = (events.len() + linked.len()) as u64;
        match self.newest(linked, last, &mut warnings, deadline).await {
            Ok(newest) => events.extend(newest),
            Err(error) if events.is_empty() => return Err(error),
            Err(error) => {
                let why = cut(error, "Entries", deadline)?;
                foremost(&mut warnings, format!("{why}: those that are told one by one are not read"));
            }
        }
        let total = total.unwrap_or(0).max(count);
        entry::sort(&mut events);
        events.drain(..events.len().saturating_sub(last));
        // No BMC says over Redfish that it lost some; a log that wraps does it all the time.
        Ok((joined, BmcEvents { events, total, overflow: false, log, logs, warnings }))
    }

    /// Whether the first of these entries is newer than the last: as far as they say so.
    async fn falls(&self, linked: &[Path], deadline: Deadline) -> bool {
        let ends = linked.first().into_iter().chain(linked.last()).cloned().collect();
        let read = self.linked(ends, &mut Vec::new(), deadline).await;
        read.is_ok_and(|read| match read.events.as_slice() {
            [first, last] => entry::order(first, last) == Ordering::Greater,
            _ => false,
        })
    }

    /// Of entries that are only linked as many of the newest as are wanted: each is a request. The first and the last say at which
    /// end the newest are; where they do not, all are read. What the deadline cuts off is told.
    async fn newest(
        &self,
        linked: Vec<Path>,
        last: usize,
        warnings: &mut Vec<String>,
        deadline: Deadline,
    ) -> Result<Vec<BmcEvent>, BmcError> {
        let mut between = VecDeque::from(linked);
        let ends: Vec<Path> = between.pop_front().into_iter().chain(between.pop_back()).collect();
        if ends.is_empty() {
            return Ok(Vec::new());
        }
        let mut read = self.linked(ends, warnings, deadline).await?.events;
        let order = match read.as_slice() {
            [first, last] => entry::order(first, last),
            _ => Ordering::Equal,
        };
        let (wanted, oldest) = match order {
            Ordering::Equal => (usize::MAX, None),
            Ordering::Greater => (last, read.pop()),
            Ordering::Less => {
                between.make_contiguous().reverse();
                (last, Some(read.remove(0)))
            }
        };
        while read.len() < wanted && !between.is_empty() {
            let room = BATCH.min(between.len()).min(wanted - read.len());
            let batch = self.linked(between.drain(..room).collect(), warnings, deadline).await;
            let unread = match batch {
                Ok(Linked { events, unread: None }) => {
                    read.extend(events);
                    continue;
                }
                Ok(Linked { events, unread: Some(unread) }) => {
                    read.extend(events);
                    unread
                }
                Err(error) => cut(error, "Entries", deadline)?,
            };
            foremost(
                warnings,
                format!("{unread}: of those entries that are told one by one only {} are read", read.len()),
            );
            return Ok(read);
        }
        if between.is_empty() {
            read.extend(oldest);
        }
        Ok(read)
    }

    async fn linked(
        &self,
        paths: Vec<Path>,
        warnings: &mut Vec<String>,
        deadline: Deadline,
    ) -> Result<Linked, BmcError> {
        let read = self.call(deadline, move |link, call| Box::pin(link.entries(call, paths))).await?;
        read.1.into_iter().for_each(|warning| warn(warnings, warning));
        Ok(read.0)
    }
}

/// Why a log is told in part: what is broken behind its beginning, or took longer than anybody waits.
fn cut(error: BmcError, place: &str, deadline: Deadline) -> Result<String, BmcError> {
    let mut broken = Vec::new();
    match optional::<()>(Err(error), &mut broken, place) {
        Ok(_) => Ok(broken.join("; ")),
        Err(error) if deadline.is_past() || error.is_transient() => Ok(format!("{place}: {error}")),
        Err(error) => Err(error),
    }
}

impl Link {
    /// The best log of the system, else of its BMC; or the one of this name.
    async fn log_service(&mut self, call: &mut Call, wanted: String) -> Result<Log, BmcError> {
        let (_, system) = self.system(call).await?;
        let mut places = vec![system.link("LogServices")];
        let manager = self.manager(call, &system).await;
        let manager = optional(manager, &mut Vec::new(), "Managers")?.flatten();
        places.push(manager.and_then(|(_, manager)| manager.link("LogServices")));
        let mut best: Option<(u8, (Path, Document))> = None;
        let mut logs: Vec<String> = Vec::new();
        for place in places.into_iter().flatten() {
            let services = optional(self.get(call, &place).await, &mut Vec::new(), "LogServices")?;
            for path in services.map(|s| s.links("Members", self.tuning.max_members)).unwrap_or_default() {
                let service = optional(self.get(call, &path).await, &mut Vec::new(), "a log")?;
                let Some(service) = service else { continue };
                let name = service.text("Id").unwrap_or_default();
                let rank = match entry::rank(&service) {
                    rank if rank == NO_LOG || wanted.is_empty() => rank,
                    _ if name.eq_ignore_ascii_case(&wanted) => 0,
                    _ => NO_LOG,
                };
                if service.link("Entries").is_some() && !logs.contains(&name) {
                    logs.push(name);
                }
                if rank < best.as_ref().map_or(NO_LOG, |(rank, _)| *rank) {
                    best = Some((rank, (path, service)));
                }
            }
        }
        if let Some((_, (path, service))) = best {
            return Ok(Log { path, service, logs });
        }
        if wanted.is_empty() || logs.is_empty() {
            return Err(BmcError::Unsupported { driver: DRIVER, capability: Capability::EventLog.as_str() });
        }
        Err(BmcError::NotListed { addr: self.address.addr, what: "log", wanted, offered: logs })
    }

    async fn page(&mut self, call: &mut Call, path: Path) -> Result<Page, BmcError> {
        let collection = self.get_long(call, &path).await?;
        let members = collection.parts("Members", MOST);
        // A member is a link, and in logs often all of the entry.
        let (whole, linked): (Vec<_>, Vec<_>) =
            members.into_iter().partition(|member| member.at("Id").is_some());
        let linked = linked.iter().filter_map(|member| Path::of(member.at("@odata.id")?.as_str()?)).collect();
        let next = collection.at("Members@odata.nextLink").and_then(|next| Path::of(next.as_str()?));
        let total = collection.number("Members@odata.count");
        Ok(Page { events: whole.iter().map(entry::event).collect(), linked, next, total })
    }

    /// Some entries, and what could not be read of them.
    async fn entries(
        &mut self,
        call: &mut Call,
        paths: Vec<Path>,
    ) -> Result<(Linked, Vec<String>), BmcError> {
        let (mut events, mut warnings) = (Vec::with_capacity(paths.len()), Vec::new());
        for path in paths {
            match self.get(call, &path).await {
                // Erased while we read.
                Err(BmcError::Http { status: 404, .. }) => {}
                Err(error) if call.deadline.is_past() && !events.is_empty() => {
                    return Ok((Linked { events, unread: Some(error.to_string()) }, warnings));
                }
                read => {
                    let document = optional(read, &mut warnings, path.as_str())?;
                    events.extend(document.as_ref().map(entry::event));
                }
            }
        }
        Ok((Linked { events, unread: None }, warnings))
    }

    async fn clear_log(&mut self, call: &mut Call, log: String) -> Result<(), BmcError> {
        let Log { path, service, .. } = self.log_service(call, log).await?;
        let target = service.at("Actions/#LogService.ClearLog/target").and_then(|t| Path::of(t.as_str()?));
        let target = target.or_else(|| path.member("Actions/LogService.ClearLog")).unwrap_or(path);
        let ask = Ask::post(&target, json!({}));
        let answer = self.send(call, &ask).await?;
        if answer.status.is_success() { Ok(()) } else { Err(self.refused(&ask, &answer)) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::super::scripted;
    use super::*;

    /// A log of `count` entries that are only linked, each of which takes five seconds; the newest is the first, or the last.
    fn linked_log(count: u64, newest_first: bool) -> (crate::redfish::RedfishHub, Arc<Mutex<Vec<u64>>>) {
        let asked: Arc<Mutex<Vec<u64>>> = Arc::default();
        let told = Arc::clone(&asked);
        let hub = scripted::slow_hub(Duration::from_secs(5), move |request| {
            let body = match request {
                "GET /redfish/v1/" => scripted::ROOT.to_owned(),
                "GET /S" => r#"{"Members": [{"@odata.id": "/S/1"}]}"#.to_owned(),
                "GET /S/1" => r#"{"PowerState": "On", "LogServices": {"@odata.id": "/L"}}"#.to_owned(),
                "GET /L" => r#"{"Members": [{"@odata.id": "/L/1"}]}"#.to_owned(),
                "GET /L/1" => {
                    r#"{"Id": "SEL", "LogEntryType": "SEL", "Entries": {"@odata.id": "/E"}}"#.to_owned()
                }
                "GET /E" => {
                    let all = (1..=count).map(|n| if newest_first { count + 1 - n } else { n });
                    let all: Vec<_> = all.map(|n| format!(r#"{{"@odata.id": "/E/{n}"}}"#)).collect();
                    format!(r#"{{"Members": [{}]}}"#, all.join(","))
                }
                entry => {
                    let number: u64 = entry.strip_prefix("GET /E/")?.parse().ok()?;
                    told.lock().unwrap().push(number);
                    let (hour, minute) = (number / 60, number % 60);
                    format!(
                        r#"{{"Id": "{number}", "Message": "m", "Created": "2026-11-30T{hour:02}:{minute:02}:00Z"}}"#
                    )
                }
            };
            Some((200, body))
        });
        (hub, asked)
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_log_of_links_those_are_read_that_are_wanted_and_those_told_that_there_was_time_for() {
        for newest_first in [false, true] {
            for (last, seconds, requests, warns) in [
                (10, 300, Some(11), false),
                (1, 300, Some(2), false),
                // The way to the log takes half a minute, and each entry five seconds.
                (100, 100, None, true),
            ] {
                let (hub, asked) = linked_log(1000, newest_first);
                let deadline = Deadline::after(Duration::from_secs(seconds));
                let log = hub.bmc(scripted::address()).event_log(last, deadline).await.unwrap();
                let ids: Vec<u64> = log.events.iter().map(|event| event.id.parse().unwrap()).collect();
                let asked = asked.lock().unwrap().clone();
                match requests {
                    Some(requests) => assert_eq!((ids.len(), asked.len()), (last, requests), "{asked:?}"),
                    None => assert!((4..last).contains(&ids.len()), "{ids:?}"),
                }
                let newest: Vec<u64> = (1001 - ids.len() as u64..=1000).collect();
                assert_eq!((ids, log.total), (newest, 1000), "{newest_first} {last}");
                assert_eq!(!log.warnings.is_empty(), warns, "{:?}", log.warnings);
                hub.shutdown().await;
            }
        }
    }

    /// Entries that are only linked, and a second page.
    #[tokio::test(start_paused = true)]
    async fn what_of_a_log_cannot_be_read_is_said_and_the_rest_is_told() {
        for (broken, told, warns) in [
            ("", vec!["1", "2", "3"], ""),
            ("GET /L/1/E/2", vec!["1", "3"], "/L/1/E/2: HTTP 500"),
            ("GET /L/1/E?2", vec!["1", "2"], "/L/1/E?2: HTTP 500: the pages from there on are not read"),
        ] {
            let hub = scripted::hub(move |request| {
                let id = |id: &str| format!(r#"{{"Id": "{id}", "Message": "m"}}"#);
                let body = match request {
                    _ if request == broken => return Some((500, "{}".to_owned())),
                    "GET /redfish/v1/" => scripted::ROOT.to_owned(),
                    "GET /S" => r#"{"Members": [{"@odata.id": "/S/1"}]}"#.to_owned(),
                    "GET /S/1" => {
                        r#"{"PowerState": "On", "LogServices": {"@odata.id": "/L"}, "Links": {"ManagedBy": [{"@odata.id": "/M"}]}}"#
                            .to_owned()
                    }
                    "GET /L" => r#"{"Members": [{"@odata.id": "/L/1"}]}"#.to_owned(),
                    "GET /L/1" => {
                        r#"{"Id": "SEL", "LogEntryType": "SEL", "Entries": {"@odata.id": "/L/1/E"}}"#.to_owned()
                    }
                    "GET /L/1/E" => {
                        r#"{"Members": [{"@odata.id": "/L/1/E/1"}, {"@odata.id": "/L/1/E/2"}], "Members@odata.nextLink": "/L/1/E?2"}"#
                            .to_owned()
                    }
                    "GET /L/1/E?2" => r#"{"Members": [{"@odata.id": "/L/1/E/3"}]}"#.to_owned(),
                    "GET /L/1/E/1" => id("1"),
                    "GET /L/1/E/2" => id("2"),
                    "GET /L/1/E/3" => id("3"),
                    _ => return Some((404, "{}".to_owned())),
                };
                Some((200, body))
            });
            let bmc = hub.bmc(scripted::address());
            let log = bmc.event_log(9, Deadline::after(Duration::from_secs(60))).await.unwrap();
            let ids: Vec<_> = log.events.iter().map(|event| event.id.as_str()).collect();
            assert_eq!(ids, told, "{broken}");
            assert_eq!(log.warnings.join("; "), warns);
            hub.shutdown().await;
        }
    }
}
