//! All members of a collection, over its pages (DSP0266 §7.4: `Members@odata.nextLink`), bounded; in one call, or in several,
//! between which others have their turn.

use std::collections::HashSet;

use super::document::{Document, Path};
use super::driver::{RedfishBmc, optional};
use super::inventory::warn;
use super::link::Link;
use crate::actor::Call;
use crate::{BmcError, Deadline};

/// Pages that are read of one collection: a BMC whose pages go in a circle ends here.
const PAGES: usize = 16;
/// Resources of one call, where others may have their turn between two.
pub(super) const BATCH: usize = 8;

/// What is read of a collection so far.
#[derive(Default)]
pub(super) struct Listed {
    /// Where each member is, with what the collection itself says of it.
    pub(super) members: Vec<(Path, Document)>,
    /// Whether those are not all.
    pub(super) is_cut: bool,
    seen: HashSet<Path>,
    pages: usize,
}

impl Listed {
    /// Takes a page over; where the next one is that is to be read.
    fn take(&mut self, page: &Document, most: usize) -> Option<Path> {
        let room = most.saturating_sub(self.members.len());
        let offered = page.parts("Members", room.saturating_add(1));
        let is_over = offered.len() > room;
        for member in offered.into_iter().take(room) {
            if let Some(path) = member.at("@odata.id").and_then(|id| Path::of(id.as_str()?))
                && self.seen.insert(path.clone())
            {
                self.members.push((path, member));
            }
        }
        self.pages += 1;
        let next = page.at("Members@odata.nextLink").and_then(|next| Path::of(next.as_str()?));
        self.is_cut = is_over || next.is_some() && (self.pages >= PAGES || self.members.len() >= most);
        next.filter(|_| !self.is_cut)
    }
}

impl Link {
    /// All of it in one call.
    pub(super) async fn collection(&mut self, call: &mut Call, path: &Path) -> Result<Listed, BmcError> {
        let (mut listed, mut next) = (Listed::default(), Some(path.clone()));
        while let Some(path) = next {
            let page = self.get(call, &path).await?;
            next = listed.take(&page, self.tuning.max_listed);
        }
        Ok(listed)
    }
}

impl RedfishBmc {
    /// A page a call. A list that is cut is told in the warnings.
    pub(super) async fn listed(
        &self,
        all: Path,
        warnings: &mut Vec<String>,
        deadline: Deadline,
    ) -> Result<Vec<Path>, BmcError> {
        let (mut listed, mut next) = (Listed::default(), Some(all.clone()));
        while let Some(path) = next {
            let read = self.call(deadline, move |link, call| {
                Box::pin(async move { Ok((link.get(call, &path).await?, link.tuning.max_listed)) })
            });
            let (page, most) = read.await?;
            next = listed.take(&page, most);
        }
        if listed.is_cut {
            let read = listed.members.len();
            warn(warnings, format!("{}: there are more members than the {read} that are read", all.as_str()));
        }
        Ok(listed.members.into_iter().map(|(path, _)| path).collect())
    }

    /// Reads some resources in one call, [`BATCH`] at most. One that cannot be read is a warning.
    pub(super) async fn some(
        &self,
        paths: &[Path],
        warnings: &mut Vec<String>,
        deadline: Deadline,
    ) -> Result<Vec<(Path, Document)>, BmcError> {
        let paths = paths.to_vec();
        let (documents, complaints) =
            self.call(deadline, move |link, call| Box::pin(link.some(call, paths))).await?;
        complaints.into_iter().for_each(|complaint| warn(warnings, complaint));
        Ok(documents)
    }
}

/// What was read, and what could not be.
type Batch = (Vec<(Path, Document)>, Vec<String>);

impl Link {
    async fn some(&mut self, call: &mut Call, paths: Vec<Path>) -> Result<Batch, BmcError> {
        let (mut documents, mut warnings) = (Vec::with_capacity(paths.len()), Vec::new());
        for path in paths {
            let document = optional(self.get(call, &path).await, &mut warnings, path.as_str())?;
            documents.extend(document.map(|document| (path, document)));
        }
        Ok((documents, warnings))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::*;
    use crate::PowerState;
    use crate::redfish::scripted;

    /// `count` NICs in pages of fifty.
    fn machine(count: usize) -> (crate::redfish::RedfishHub, Arc<Mutex<Vec<String>>>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let hub = scripted::hub(move |request| {
            log.lock().unwrap().push(request.to_owned());
            let page = |first: usize| {
                let last = (first + 50).min(count);
                let members: Vec<_> =
                    (first..last).map(|n| format!(r#"{{"@odata.id": "/N/{n}"}}"#)).collect();
                let next = format!(r#", "Members@odata.nextLink": "/E?skip={last}""#);
                let next = if last < count { next } else { String::new() };
                format!(r#"{{"Members": [{}]{next}}}"#, members.join(","))
            };
            let body = match request {
                "GET /redfish/v1/" => scripted::ROOT.to_owned(),
                "GET /S" => r#"{"Members": [{"@odata.id": "/S/1"}]}"#.to_owned(),
                "GET /S/1" => r#"{"PowerState": "On", "EthernetInterfaces": {"@odata.id": "/E"}}"#.to_owned(),
                "GET /E" => page(0),
                nic if nic.starts_with("GET /N/") => {
                    let number: u32 = nic["GET /N/".len()..].parse().unwrap();
                    format!(r#"{{"Id": "{number}", "MACAddress": "0200{number:08x}"}}"#)
                }
                page_of if page_of.starts_with("GET /E?skip=") => {
                    page(page_of["GET /E?skip=".len()..].parse().unwrap())
                }
                _ => return Some((404, "{}".to_owned())),
            };
            Some((200, body))
        });
        (hub, asked)
    }

    #[tokio::test(start_paused = true)]
    async fn nics_beyond_a_page_are_read_and_the_power_is_between_them() {
        let (hub, asked) = machine(120);
        let bmc = hub.bmc(scripted::address());
        let deadline = Deadline::after(Duration::from_secs(60));
        let (seen, power) = tokio::join!(bmc.inventory(deadline), async {
            while !asked.lock().unwrap().iter().any(|request| request == "GET /N/0") {
                tokio::task::yield_now().await;
            }
            bmc.power_status(deadline).await
        });
        let seen = seen.unwrap();
        assert_eq!((seen.nics.len(), seen.nics[119].name.as_str(), power), (120, "119", Ok(PowerState::On)));
        let asked = asked.lock().unwrap().clone();
        let last = |request: &str| asked.iter().rposition(|asked| asked == request);
        assert!(last("GET /S/1") < last("GET /N/20"), "power is read between two batches: {asked:?}");
        hub.shutdown().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_is_cut_says_so() {
        let (hub, _) = machine(1100);
        let seen =
            hub.bmc(scripted::address()).inventory(Deadline::after(Duration::from_secs(600))).await.unwrap();
        let cut = "/E: there are more members than the 800 that are read";
        assert!(seen.nics.len() == 800 && seen.warnings.iter().any(|w| w == cut), "{:?}", seen.warnings);
        hub.shutdown().await;
    }

    /// Two who ask while somebody else has the actor: one reads.
    #[tokio::test(start_paused = true)]
    async fn an_inventory_that_waits_is_one_for_all_who_want_it() {
        let (hub, asked) = machine(3);
        let bmc = hub.bmc(scripted::address());
        let deadline = Deadline::after(Duration::from_secs(60));
        let (_, one, two) =
            tokio::join!(bmc.identity(deadline), bmc.inventory(deadline), bmc.inventory(deadline));
        assert_eq!((one.unwrap().nics.len(), two.unwrap().nics.len()), (3, 3));
        let nics = asked.lock().unwrap().iter().filter(|request| *request == "GET /N/0").count();
        assert_eq!(nics, 1);
        hub.shutdown().await;
    }
}
