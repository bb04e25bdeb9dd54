//! The BMCs of this rack: which driver, where, and whom to believe.

mod access;
mod changes;
mod dial;
mod moves;
mod names;
mod remembered;

pub(crate) use access::{Access, BadAccess, DriverChoice, Keys};
pub(crate) use changes::{Changes, Changing};
pub(crate) use dial::TlsDial;
pub(crate) use moves::{Moves, Moving};

use farrier_bmc::ipmi::{self, BmcAddress, IpmiHub};
use farrier_bmc::redfish::{HTTPS_PORT, RedfishAddress, RedfishHub, Trust, Tuning};
use farrier_bmc::seamicro::SeaMicroHub;
use farrier_bmc::ssh::Ssh;
use farrier_bmc::{Bmc, BmcError, Deadline, Secret, Unmanaged};
use remembered::Remembered;
use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Names of BMCs that were resolved to an address, the last time that they were.
pub(crate) fn names_at(ip: IpAddr) -> Vec<String> {
    names::NAMES.at(ip)
}

/// A BMC that a driver was found for.
#[derive(Debug, Clone)]
pub(crate) struct Opened {
    pub(crate) bmc: Bmc,
    /// Why the driver that was tried first is not it.
    pub(crate) passed_over: Option<BmcError>,
}

/// What a BMC turned out to speak.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Probed {
    pub(crate) driver: &'static str,
    /// Of the certificate that it showed, in hexadecimal digits; empty: none.
    pub(crate) certificate_sha256: String,
}

/// All drivers of one rackd.
pub(crate) struct Bmcs {
    ipmi: IpmiHub,
    redfish: RedfishHub,
    seamicro: SeaMicroHub,
    unmanaged: Unmanaged,
    /// Nodes whose BMC took the next password last, while a rotation is not settled.
    took_next: Mutex<HashSet<String>>,
    remembered: Remembered,
}

impl Bmcs {
    /// What `auto` finds out, and which BMCs speak cipher suite 17, is remembered in files of `data`.
    ///
    /// # Errors
    /// No UDP socket can be had.
    ///
    /// `ssh_helper` is what `ssh` asks for host keys and passwords: [`farrier_bmc::ssh::help`]; without it there are no consoles
    /// over SSH.
    pub(crate) async fn bind(data: &Path, ssh_helper: Option<PathBuf>) -> std::io::Result<Self> {
        let remembered = Remembered::open(data);
        Ok(Self {
            ipmi: IpmiHub::bind_knowing(ipmi::Tuning::default(), Arc::clone(&remembered.pins)).await?,
            redfish: RedfishHub::with_ssh(Arc::new(TlsDial), Tuning::default(), ssh_helper.map(Ssh::new)),
            seamicro: SeaMicroHub::new(Arc::new(TlsDial)),
            unmanaged: Unmanaged::default(),
            took_next: Mutex::default(),
            remembered,
        })
    }

    /// A handle for a node's BMC; only `auto` asks the BMC something for it, and where a rotation has left two passwords,
    /// which of them it has.
    pub(crate) async fn open(
        &self,
        node: &str,
        access: Access,
        deadline: Deadline,
    ) -> Result<Opened, BmcError> {
        let Some(next) = access.with_next() else {
            self.has_next(plain(node), std::mem::take);
            return self.open_with(node, access, deadline).await;
        };
        // The one that it took last comes first: a wrong password may count against the account.
        let had = self.has_next(plain(node), |has| *has);
        let (one, other) = if had { (next, access) } else { (access, next) };
        let first = async {
            let opened = self.open_with(node, one, deadline).await?;
            match opened.bmc.power_status(deadline).await {
                Ok(_) | Err(BmcError::PasswordChangeRequired { .. }) => Ok(opened),
                Err(error) => Err(error),
            }
        };
        match first.await {
            Err(error) if error.is_wrong_password() => {
                // Said, not turned about: two who find it out at a time say the same.
                self.has_next(plain(node), |has| {
                    *has = !had;
                    *has
                });
                self.open_with(node, other, deadline).await
            }
            other => other,
        }
    }

    /// Looks at, or changes, whether a node's BMC took the next password last.
    fn has_next(&self, node: &str, change: impl FnOnce(&mut bool) -> bool) -> bool {
        let mut nodes = self.took_next.lock().unwrap_or_else(PoisonError::into_inner);
        let mut has = nodes.contains(node);
        let told = change(&mut has);
        if has {
            nodes.insert(node.to_owned());
        } else {
            nodes.remove(node);
        }
        told
    }

    /// What answers there, asked without a password: Redfish over https, or else IPMI.
    pub(crate) async fn probe(&self, ip: IpAddr, deadline: Deadline) -> Option<Probed> {
        let nobody = || (String::new(), Secret::new(""));
        let redfish = |trust| {
            let (user, password) = nobody();
            let mut address = RedfishAddress::new(SocketAddr::new(ip, HTTPS_PORT), user, password, trust);
            address.host = ip.to_string();
            self.redfish.bmc(address)
        };
        // The first try learns the certificate, the second believes it: nothing that is secret is said.
        if let Err(BmcError::Certificate { seen, .. }) = redfish(Trust::Nothing).recognised(deadline).await
            && let Some(pin) = hex::decode(&seen).ok().and_then(|sha256| sha256.try_into().ok())
            && let Ok(bmc) = redfish(Trust::Pin(pin)).recognised(deadline).await
        {
            return Some(Probed { driver: bmc.driver(), certificate_sha256: seen });
        }
        let (user, password) = nobody();
        let ipmi = self.ipmi.bmc(BmcAddress::new(SocketAddr::new(ip, RMCP_PORT), user, password));
        let present = ipmi.present(deadline).await.is_ok();
        present.then(|| Probed { driver: ipmi.driver(), certificate_sha256: String::new() })
    }

    /// As [`Bmcs::open`], with the one password.
    pub(crate) async fn open_with(
        &self,
        node: &str,
        access: Access,
        deadline: Deadline,
    ) -> Result<Opened, BmcError> {
        let (bmc, passed_over) = match access.driver {
            DriverChoice::Ipmi => (self.ipmi.bmc(access.ipmi), None),
            DriverChoice::Redfish => (self.redfish.bmc(access.redfish), None),
            DriverChoice::SeaMicro => (self.seamicro.bmc(access.redfish), None),
            DriverChoice::Manual => (self.unmanaged.manual(plain(node)), None),
            DriverChoice::Fake => (self.unmanaged.fake(plain(node)), None),
            DriverChoice::Auto => {
                let node = plain(node);
                let auto = &self.remembered.auto;
                auto.told(node, &access.redfish);
                let (redfish, ipmi) = (self.redfish.bmc(access.redfish), self.ipmi.bmc(access.ipmi));
                let before = auto.worked(node);
                let found = auto.open(node, redfish, ipmi, deadline).await?;
                if auto.worked(node) != before {
                    self.remembered.driver_changed();
                }
                found
            }
        };
        Ok(Opened { bmc, passed_over })
    }

    /// A handle for a node's serial console. Where a rotation has left two passwords, the BMC is asked first which it has: a
    /// wrong one would count against the account.
    pub(crate) async fn console(
        &self,
        node: &str,
        access: Access,
        deadline: Deadline,
    ) -> Result<Bmc, BmcError> {
        let access = match access.with_next() {
            None => access,
            Some(next) => {
                self.open(node, access.clone(), deadline).await?;
                if self.has_next(plain(node), |has| *has) { next } else { access }
            }
        };
        Ok(match access.driver {
            DriverChoice::Ipmi => self.ipmi.bmc(access.ipmi),
            // IPMI's console where IPMI answers, else Redfish's.
            DriverChoice::Auto => {
                let ipmi = self.ipmi.bmc(access.ipmi.clone());
                if self.remembered.auto.worked(plain(node)) == Some(ipmi.driver()) {
                    return Ok(ipmi);
                }
                match self.open_with(node, access, deadline).await {
                    Ok(opened) => opened.bmc,
                    Err(error) if error.is_wrong_password() => return Err(error),
                    // Somebody else may be at the BMC's address: no password goes there by another way either.
                    Err(error @ BmcError::Certificate { pinned: true, .. }) => return Err(error),
                    // What is wrong with Redfish need not be wrong with this.
                    Err(_) => ipmi,
                }
            }
            DriverChoice::Redfish => self.redfish.bmc(access.redfish),
            DriverChoice::SeaMicro => self.seamicro.bmc(access.redfish),
            DriverChoice::Manual => self.unmanaged.manual(plain(node)),
            DriverChoice::Fake => self.unmanaged.fake(plain(node)),
        })
    }

    /// The BMC was given this account with this password, by whichever driver: that it was refused before counts no longer.
    pub(crate) fn forgive(&self, access: &Access) {
        self.redfish.forgive(&access.redfish);
        self.seamicro.forgive(&access.redfish);
        self.ipmi.forgive(&access.ipmi);
    }

    /// Whether `auto` should find its driver anew.
    fn is_due(&self, node: &str) -> bool {
        self.remembered.auto.is_due(plain(node))
    }

    /// Whether a handle that `auto` gave is to be given up for that of another driver: it is time to look for one, or somebody else
    /// has found it.
    pub(crate) fn is_over(&self, node: &str, bmc: &Bmc) -> bool {
        self.is_due(node) || bmc.stands_in() && !self.remembered.auto.stands_in(plain(node))
    }

    /// Somebody may have mended what `auto` did not find.
    pub(crate) fn reconsider(&self, node: &str) {
        self.remembered.auto.reconsider(plain(node));
    }

    /// Closes all sessions and waits for that.
    pub(crate) async fn shutdown(&self) {
        tokio::join!(self.ipmi.shutdown(), self.redfish.shutdown(), self.seamicro.shutdown());
    }
}

/// Where IPMI listens (IPMI 2.0 §13.1.2).
const RMCP_PORT: u16 = 623;

/// Tasks say a node's name in full.
fn plain(node: &str) -> &str {
    node.strip_prefix("nodes/").unwrap_or(node)
}
