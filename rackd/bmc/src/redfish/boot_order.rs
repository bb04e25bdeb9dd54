//! The boot order (DSP0268 ComputerSystem `Boot`, BootOption), HPE's (HpeServerBootSettings), and Dell's of firmware before the
//! standard's (DellBootSources).

use async_trait::async_trait;
use serde_json::{Value, json};

use super::document::{Document, Path};
use super::driver::{DRIVER, RedfishBmc, optional};
use super::link::Link;
use crate::actor::Call;
use crate::{BmcError, BootOption, BootOrder, Capability, Deadline, Order};

/// Entries of an order that are read; servers have a dozen.
const MOST: usize = 128;

/// How an order is told: by the resource that has it, as that is read and as it is written.
#[derive(Debug, Clone, Copy)]
struct Words {
    read: fn(&Document) -> Option<Vec<String>>,
    /// What a PATCH of the resource says.
    body: fn(&Document, &[String]) -> Value,
    /// Whether changes always wait beside what is now, also where that says nothing yet.
    waits: bool,
}

const STANDARD: Words = Words {
    read: |system| texts(system, "Boot/BootOrder"),
    body: |_, ids| json!({ "Boot": { "BootOrder": ids } }),
    waits: false,
};
const HPE: Words = Words {
    read: |settings| texts(settings, "PersistentBootConfigOrder"),
    body: |_, ids| json!({ "PersistentBootConfigOrder": ids }),
    waits: false,
};
const DELL: Words = Words { read: names_of_sources, body: sources_in_order, waits: true };

/// What a BMC says of it.
struct Seen {
    words: Words,
    now: Vec<String>,
    /// Where that is told.
    resource: Document,
    /// Where a change is written, and what that says of applying it.
    write: (Path, Document),
    /// Changes are written beside what is now (DSP0266 §9.10).
    waits: bool,
    /// Of what can be started from.
    options: Vec<BootOption>,
}

#[async_trait]
impl BootOrder for RedfishBmc {
    async fn boot_order(&self, deadline: Deadline) -> Result<Order, BmcError> {
        self.call(deadline, |link, call| {
            Box::pin(async move { Ok(link.read_order(call).await?.told(None, String::new())) })
        })
        .await
    }

    async fn set_boot_order(&self, first: Vec<String>, deadline: Deadline) -> Result<Order, BmcError> {
        self.call(deadline, move |link, call| Box::pin(link.set_order(call, first))).await
    }
}

impl Link {
    async fn read_order(&mut self, call: &mut Call) -> Result<Seen, BmcError> {
        let (path, system) = self.system(call).await?;
        let keys = self.vendor(call).await?.boot_settings;
        if !keys.is_empty()
            && let Some(bios) = system.link("Bios")
            && let Some(bios) = optional(self.get(call, &bios).await, &mut Vec::new(), "Bios")?
            && let Some(path) = keys.iter().find_map(|key| bios.link(&format!("Oem/{key}/Links/Boot")))
        {
            let settings = self.get(call, &path).await?;
            let options = settings.parts("BootSources", MOST).iter().filter_map(of_hpe).collect();
            return self.seen(call, HPE, path, settings, options).await;
        }
        let keys = self.vendor(call).await?.boot_sources;
        if (STANDARD.read)(&system).is_none()
            && let Some(path) = keys.iter().find_map(|key| system.link(&format!("Links/Oem/{key}/BootOrder")))
        {
            let sources = self.get(call, &path).await?;
            let options = list_of_sources(&sources).map(|(_, list)| list.iter().map(of_dell).collect());
            return self.seen(call, DELL, path, sources, options.unwrap_or_default()).await;
        }
        let options = match system.link("Boot/BootOptions") {
            Some(all) => self.boot_options(call, &all).await?,
            None => Vec::new(),
        };
        self.seen(call, STANDARD, path, system, options).await
    }

    async fn seen(
        &mut self,
        call: &mut Call,
        words: Words,
        path: Path,
        resource: Document,
        options: Vec<BootOption>,
    ) -> Result<Seen, BmcError> {
        let absent = BmcError::Unsupported { driver: DRIVER, capability: Capability::BootOrder.as_str() };
        let now = (words.read)(&resource).ok_or(absent)?;
        let of_its_own = words.waits.then(|| path.member("Settings")).flatten();
        let settings = resource.link("@Redfish.Settings/SettingsObject").or(of_its_own);
        let (write, waits) = match settings {
            Some(settings) => {
                let later = optional(self.get(call, &settings).await, &mut Vec::new(), "settings")?;
                let later = later.unwrap_or_default();
                // Settings of a system may be about other things alone.
                if words.waits || (words.read)(&later).is_some() {
                    ((settings, later), true)
                } else {
                    ((path, resource.clone()), false)
                }
            }
            None => ((path, resource.clone()), false),
        };
        Ok(Seen { words, now, resource, write, waits, options })
    }

    async fn boot_options(&mut self, call: &mut Call, all: &Path) -> Result<Vec<BootOption>, BmcError> {
        let mut options = Vec::new();
        let list = optional(self.collection(call, all).await, &mut Vec::new(), "BootOptions")?;
        let members = list.map(|list| list.members).unwrap_or_default();
        for (path, member) in members.into_iter().take(self.tuning.max_members) {
            let whole = match member.at("BootOptionReference") {
                Some(_) => Some(member),
                None => optional(self.get(call, &path).await, &mut Vec::new(), "a boot option")?,
            };
            options.extend(whole.as_ref().and_then(of_standard));
        }
        Ok(options)
    }

    async fn set_order(&mut self, call: &mut Call, first: Vec<String>) -> Result<Order, BmcError> {
        let seen = self.read_order(call).await?;
        if let Some(unknown) = first.iter().find(|id| !seen.knows(id)) {
            return Err(BmcError::NotListed {
                addr: self.address.addr,
                what: "boot option",
                wanted: unknown.clone(),
                offered: seen.ids().collect(),
            });
        }
        let wanted = first_of(&seen.later(), &first);
        let mut task = None;
        if seen.later() != wanted {
            let (path, resource) = &seen.write;
            let body = (seen.words.body)(&seen.resource, &wanted);
            let (ask, answer) = self.patch(call, path, &body, resource.etag.clone()).await?;
            if !answer.status.is_success() {
                return Err(self.refused(&ask, &answer));
            }
            task = self.task_of(&answer);
        }
        // Also where nothing was to be written: an earlier job may have failed, or was never queued.
        if task.is_none() && seen.waits && seen.now != wanted && self.vendor(call).await?.queues_jobs {
            let path = seen.write.0.clone();
            task = self.ensure_job(call, &path).await?;
        }
        let mut attempt = 0;
        loop {
            let seen = self.read_order(call).await?;
            let told = task.as_ref().map(|task| task.as_str().to_owned()).unwrap_or_default();
            // A job that has it is as good as seeing it wait.
            if seen.later() == wanted || task.is_some() {
                return Ok(seen.told(Some(&wanted), told));
            }
            // Several BMCs answer before they have stored it.
            let pause = self.tuning.busy(attempt);
            attempt += 1;
            if attempt >= self.tuning.tries || pause >= call.deadline.remaining() {
                return Err(BmcError::NotApplied {
                    addr: self.address.addr,
                    what: "the boot order",
                    expected: wanted.join(", "),
                    seen: seen.later().join(", "),
                });
            }
            tokio::time::sleep(pause).await;
        }
    }
}

impl Seen {
    /// Of the next start.
    fn later(&self) -> Vec<String> {
        let written = if self.waits { (self.words.read)(&self.write.1) } else { None };
        written.unwrap_or_else(|| self.now.clone())
    }

    fn ids(&self) -> impl Iterator<Item = String> {
        let others = self.options.iter().map(|option| &option.id).filter(|id| !self.now.contains(id));
        self.now.iter().chain(others).cloned()
    }

    fn knows(&self, id: &str) -> bool {
        self.ids().any(|known| known == id)
    }

    /// `wanted`: what is known to come, also where it is not shown yet.
    fn told(self, wanted: Option<&[String]>, task: String) -> Order {
        let order = wanted.map_or_else(|| self.later(), <[String]>::to_vec);
        let pending = order != self.now;
        let mut options = self.options;
        let mut told = Vec::with_capacity(order.len());
        for id in order {
            match options.iter().position(|option| option.id == id) {
                Some(at) => told.push(options.remove(at)),
                None => told.push(BootOption { id, ..BootOption::default() }),
            }
        }
        told.extend(options);
        Order { options: told, pending, task }
    }
}

/// These first, in this order; all others keep theirs behind them.
fn first_of(order: &[String], first: &[String]) -> Vec<String> {
    let others = order.iter().filter(|id| !first.contains(id));
    first.iter().chain(others).cloned().collect()
}

/// As it came: it is written back. `None`: there is none.
fn texts(resource: &Document, place: &str) -> Option<Vec<String>> {
    let list = resource.at(place)?.as_array()?;
    Some(list.iter().filter_map(Value::as_str).take(MOST).map(str::to_owned).collect())
}

/// The list of the mode that the firmware is in, and that list's name; BMCs show one of the two.
fn list_of_sources(resource: &Document) -> Option<(&'static str, &Vec<Value>)> {
    ["UefiBootSeq", "BootSeq"].into_iter().find_map(|name| {
        let list = resource.at(&format!("Attributes/{name}"))?.as_array()?;
        Some((name, list))
    })
}

fn name_of_source(source: &Value) -> Option<&str> {
    source.get("Name")?.as_str()
}

/// By their index, whatever their place in the list.
fn names_of_sources(resource: &Document) -> Option<Vec<String>> {
    let (_, list) = list_of_sources(resource)?;
    let mut sources: Vec<_> = list.iter().take(MOST).collect();
    sources.sort_by_key(|source| source.get("Index").and_then(Value::as_u64));
    Some(sources.into_iter().filter_map(name_of_source).map(str::to_owned).collect())
}

/// All of them, whole, with the index that each is to have.
fn sources_in_order(resource: &Document, ids: &[String]) -> Value {
    let Some((name, list)) = list_of_sources(resource) else { return Value::Null };
    let find = |id: &String| list.iter().find(|source| name_of_source(source) == Some(id));
    let ordered = ids.iter().filter_map(find).cloned().zip(0_u64..).map(|(mut source, index)| {
        if let Some(source) = source.as_object_mut() {
            source.insert("Index".to_owned(), index.into());
        }
        source
    });
    json!({ "Attributes": { name: ordered.collect::<Vec<_>>() } })
}

fn of_dell(source: &Value) -> BootOption {
    let text = |name: &str| source.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let enabled = source.get("Enabled").and_then(Value::as_bool);
    BootOption { id: text("Name"), name: text("Id"), device_path: String::new(), enabled }
}

fn of_standard(option: &Document) -> Option<BootOption> {
    Some(BootOption {
        id: option.text("BootOptionReference")?,
        name: option.text("DisplayName").or_else(|| option.text("Name")).unwrap_or_default(),
        device_path: option.text("UefiDevicePath").unwrap_or_default(),
        enabled: option.at("BootOptionEnabled").and_then(Value::as_bool),
    })
}

fn of_hpe(source: &Document) -> Option<BootOption> {
    Some(BootOption {
        id: source.text("StructuredBootString")?,
        name: source.text("BootString").unwrap_or_default(),
        device_path: source.text("UEFIDevicePath").unwrap_or_default(),
        enabled: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(ids: &[&str]) -> Vec<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    #[test]
    fn what_is_put_first_leaves_the_others_as_they_were() {
        let order = words(&["a", "b", "c", "d"]);
        assert_eq!(first_of(&order, &words(&["d", "b"])), words(&["d", "b", "a", "c"]));
        assert_eq!(first_of(&order, &words(&["x"])), words(&["x", "a", "b", "c", "d"]));
        assert_eq!(first_of(&order, &[]), order);
    }

    #[test]
    fn an_order_is_told_with_what_is_known_of_each_and_what_no_start_tries_comes_last() {
        let option =
            |id: &str| BootOption { id: id.into(), name: format!("disk {id}"), ..BootOption::default() };
        let seen = |waits, later: &str| Seen {
            words: STANDARD,
            now: words(&["b", "a"]),
            resource: Document::default(),
            write: (Path::ours("/s"), Document::parse(later.as_bytes(), None).unwrap()),
            waits,
            options: vec![option("off"), option("a")],
        };
        let told = seen(false, "{}").told(None, String::new());
        let shown: Vec<_> = told.options.iter().map(|o| (o.id.as_str(), o.name.as_str())).collect();
        assert_eq!((shown, told.pending), (vec![("b", ""), ("a", "disk a"), ("off", "disk off")], false));
        let waiting = seen(true, r#"{"Boot": {"BootOrder": ["a", "b"]}}"#).told(None, String::new());
        assert!(waiting.pending && waiting.options[0].id == "a");
    }
}
