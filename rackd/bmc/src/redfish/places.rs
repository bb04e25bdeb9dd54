//! Where on this BMC things are: every path but the first is the BMC's to choose (DSP0266 §6.1).

use super::document::{Document, Path};
use super::link::{Ask, Link};
use super::vendor::{self, Vendor};
use crate::BmcError;
use crate::actor::Call;

/// The service root (DSP0266 §7.2.2).
pub(super) const ROOT: &str = "/redfish/v1/";

/// A node, its box, and the power shelf behind it.
const MOST_CHASSIS: usize = 4;

/// The service root, as far as we need it.
#[derive(Debug, Clone)]
pub(super) struct Root {
    /// Version of the protocol.
    pub(super) version: String,
    /// Where sessions are opened; `None`: there are none.
    pub(super) sessions: Option<Path>,
    systems: Path,
    managers: Option<Path>,
    chassis: Option<Path>,
    pub(super) accounts: Option<Path>,
    update: Option<Path>,
    pub(super) events: Option<Path>,
    pub(super) vendor: &'static Vendor,
}

impl Link {
    /// The service root; it is there for everybody.
    pub(super) async fn root(&mut self, call: &mut Call) -> Result<&Root, BmcError> {
        let root = match self.root.take() {
            Some(root) => root,
            None => self.read_root(call).await.map_err(|error| match error {
                no @ BmcError::NoRedfish { .. } => self.unless_it_starts(no),
                other => other,
            })?,
        };
        Ok(self.root.insert(root))
    }

    async fn read_root(&mut self, call: &mut Call) -> Result<Root, BmcError> {
        let ask = Ask::get(&Path::ours(ROOT));
        let answer = self.follow(call, &ask).await?;
        let no_redfish = |seen| BmcError::NoRedfish { addr: self.address.addr, seen };
        let document = match self.document(&ask, &answer) {
            Ok(document) => document,
            Err(error) if error.is_transient() => return Err(error),
            Err(BmcError::BadAnswer { seen, .. }) => return Err(no_redfish(seen)),
            Err(BmcError::Http { status, detail, .. }) => {
                return Err(no_redfish(format!("HTTP {status}{detail}")));
            }
            Err(error) => return Err(error),
        };
        let typed = document.text("@odata.type").is_some_and(|t| t.contains("ServiceRoot"));
        let version = document.text("RedfishVersion");
        if version.is_none() && !typed {
            return Err(no_redfish("a JSON object that is no service root".to_owned()));
        }
        let vendor = self.whose(&document)?;
        // Links are what the specification says; the paths are where everybody has them.
        let default = |path: &str| Path::ours(&format!("{ROOT}{path}"));
        Ok(Root {
            version: version.unwrap_or_else(|| "of an unknown version".to_owned()),
            sessions: document
                .link("Links/Sessions")
                .or_else(|| document.link("SessionService").map(|_| default("SessionService/Sessions"))),
            systems: document.link("Systems").unwrap_or_else(|| default("Systems")),
            managers: document.link("Managers"),
            chassis: document.link("Chassis"),
            accounts: document.link("AccountService"),
            update: document.link("UpdateService"),
            events: document.link("EventService"),
            vendor,
        })
    }

    /// Whose BMC it is. One that the node takes for another vendor's is not worked on: it is not the one that is meant.
    fn whose(&self, root: &Document) -> Result<&'static Vendor, BmcError> {
        let named = vendor::of_driver(&self.address.driver);
        match vendor::recognise(root) {
            Some(seen) if named.driver != vendor::DRIVER && seen != named => Err(BmcError::OtherVendor {
                addr: self.address.addr,
                expected: named.driver,
                seen: seen.driver,
            }),
            Some(seen) => Ok(seen),
            // It says whose it is, and that is nobody whose driver there is.
            None if named.driver != vendor::DRIVER
                && root.text("Vendor").is_some_and(|seen| !seen.is_empty()) =>
            {
                Err(BmcError::OtherVendor {
                    addr: self.address.addr,
                    expected: named.driver,
                    seen: vendor::DRIVER,
                })
            }
            None => Ok(named),
        }
    }

    /// The system to work on.
    pub(super) async fn system(&mut self, call: &mut Call) -> Result<(Path, Document), BmcError> {
        self.present_system(call).await.map_err(|error| match error {
            BmcError::Http { status: 404, .. } | BmcError::BadAnswer { .. } => self.unless_it_starts(error),
            BmcError::NoSystem { has_none: true, .. } => self.unless_it_starts(error),
            other => other,
        })
    }

    async fn present_system(&mut self, call: &mut Call) -> Result<(Path, Document), BmcError> {
        if let Some(path) = self.system.clone() {
            match self.get(call, &path).await {
                Ok(document) => return Ok((self.system.clone().unwrap_or(path), document)),
                // It was renumbered: look again.
                Err(BmcError::Http { status: 404, .. }) => self.system = None,
                Err(error) => return Err(error),
            }
        }
        let path = self.find_system(call).await?;
        // Before it is asked: where that is redirected to is where it is.
        self.system = Some(path.clone());
        let read = self.get(call, &path).await;
        let there = if read.is_ok() { self.system.clone() } else { self.system.take() };
        match read {
            Ok(document) => Ok((there.unwrap_or(path), document)),
            Err(BmcError::Http { status: 404, .. }) => {
                let members = self.systems(call).await.unwrap_or_default();
                Err(self.no_system(path.as_str().to_owned(), &members))
            }
            Err(error) => Err(error),
        }
    }

    async fn find_system(&mut self, call: &mut Call) -> Result<Path, BmcError> {
        let named = self.address.system.clone();
        if named.is_empty() {
            let mut members = self.systems(call).await?;
            return match (members.pop(), members.as_slice()) {
                (Some(only), []) => Ok(only),
                (last, _) => {
                    members.extend(last);
                    Err(self.no_system("exactly one where the node names none".to_owned(), &members))
                }
            };
        }
        let path = match named.starts_with('/') {
            true => Path::of(&named),
            false => self.root(call).await?.systems.member(&named),
        };
        path.ok_or_else(|| BmcError::NoSystem {
            addr: self.address.addr,
            expected: "an id or a path".to_owned(),
            seen: format!("{named:?}"),
            has_none: false,
        })
    }

    async fn systems(&mut self, call: &mut Call) -> Result<Vec<Path>, BmcError> {
        let systems = self.root(call).await?.systems.clone();
        let most = self.tuning.max_members;
        Ok(self.get(call, &systems).await?.links("Members", most))
    }

    fn no_system(&self, expected: String, members: &[Path]) -> BmcError {
        let seen: Vec<_> = members.iter().take(16).map(Path::as_str).collect();
        let has_none = seen.is_empty();
        let seen = if has_none { "none".to_owned() } else { seen.join(", ") };
        BmcError::NoSystem { addr: self.address.addr, expected, seen, has_none }
    }

    /// The BMC itself, where it can be told.
    pub(super) async fn manager(
        &mut self,
        call: &mut Call,
        system: &Document,
    ) -> Result<Option<(Path, Document)>, BmcError> {
        let path = match system.links("Links/ManagedBy", 1).pop() {
            Some(path) => path,
            None => {
                let Some(managers) = self.root(call).await?.managers.clone() else { return Ok(None) };
                let members = self.get(call, &managers).await?.links("Members", 2);
                let [only] = members.as_slice() else { return Ok(None) };
                only.clone()
            }
        };
        let manager = self.get(call, &path).await?;
        Ok(Some((path, manager)))
    }

    /// What the system is in: as many as it names, else the only one there is.
    pub(super) async fn chassis(
        &mut self,
        call: &mut Call,
        system: &Document,
    ) -> Result<Vec<Path>, BmcError> {
        let named = system.links("Links/Chassis", MOST_CHASSIS);
        if !named.is_empty() {
            return Ok(named);
        }
        let Some(all) = self.root(call).await?.chassis.clone() else { return Ok(Vec::new()) };
        let members = self.get(call, &all).await?.links("Members", 2);
        Ok(if members.len() == 1 { members } else { Vec::new() })
    }

    /// What updates firmware, where there is something.
    pub(super) async fn update_service(
        &mut self,
        call: &mut Call,
    ) -> Result<Option<(Path, Document)>, BmcError> {
        let Some(path) = self.root(call).await?.update.clone() else { return Ok(None) };
        let service = self.get(call, &path).await?;
        Ok(Some((path, service)))
    }

    /// The list of everything that has firmware, where there is one.
    pub(super) async fn firmware_list(&mut self, call: &mut Call) -> Result<Option<Path>, BmcError> {
        Ok(self.update_service(call).await?.and_then(|(_, service)| service.link("FirmwareInventory")))
    }
}
