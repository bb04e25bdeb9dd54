//! The serial console over the BMC's SSH (DSP0268: ComputerSystem `SerialConsole/SSH`, since 1.13 of 2020; before that Manager
//! `SerialConsole`, which says that there is one and not where).

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use tokio::time::Instant;

use super::address::RedfishAddress;
use super::console_login::ConsoleLogin;
use super::document::Document;
use super::driver::{DRIVER, RedfishBmc};
use super::link::Link;
use super::vendor::Vendor;
use crate::actor::Call;
use crate::ssh::{self, Ssh, Target};
use crate::{BmcError, Capability, Console, ConsoleLine, Deadline};

/// A BMC, and what opens its consoles.
pub(super) struct RedfishConsole {
    pub(super) bmc: Arc<RedfishBmc>,
    pub(super) address: Arc<RedfishAddress>,
    pub(super) ssh: Ssh,
    /// Of the console's own log-ins: the BMC counts them too, and what it says to them it need not say to Redfish.
    pub(super) login: Arc<ConsoleLogin>,
}

#[async_trait]
impl Console for RedfishConsole {
    /// `take_over` changes nothing: no command of SSH takes a console from somebody, and BMCs that give it to one at a time
    /// end the new line with a word about it.
    async fn open_console(&self, _take_over: bool, deadline: Deadline) -> Result<ConsoleLine, BmcError> {
        // Nothing is sent where the same password was refused not long ago, by whoever asked.
        self.login.breaker().check(self.address.addr, Instant::now())?;
        let way = self.bmc.call(deadline, |link, call| Box::pin(link.console(call))).await?;
        let mut addr = self.address.addr;
        addr.set_port(way.port);
        let target = Target {
            addr,
            user: self.address.user.clone(),
            password: self.address.password.clone(),
            host_key: self.address.ssh_host_key.clone(),
            entry: way.entry,
        };
        // A task of its own: a caller who goes away does not know what he was answered, and the BMC has counted it.
        let (ssh, login, addr) = (self.ssh.clone(), Arc::clone(&self.login), self.address.addr);
        let opened =
            tokio::spawn(
                async move { login.try_it(addr, deadline, ssh::open(&ssh, target, deadline)).await },
            );
        opened.await.unwrap_or(Err(BmcError::ShuttingDown))
    }
}

/// How the console is reached.
#[derive(Debug, PartialEq, Eq)]
struct Way {
    port: u16,
    entry: String,
}

/// Why it is not.
#[derive(Debug, PartialEq, Eq)]
enum NoWay {
    /// There is none.
    None,
    /// Somebody has switched it off.
    Off,
    /// What leads to it is not fit to be said.
    Entry(String),
}

impl Link {
    async fn console(&mut self, call: &mut Call) -> Result<Way, BmcError> {
        let (_, system) = self.system(call).await?;
        let vendor = self.vendor(call).await?;
        let of_system = of_system(&system, vendor);
        let way = match of_system {
            Err(NoWay::None) => match self.manager(call, &system).await? {
                Some((_, manager)) => of_manager(&manager, vendor),
                None => Err(NoWay::None),
            },
            other => other,
        };
        way.map_err(|why| match why {
            NoWay::None => BmcError::Unsupported { driver: DRIVER, capability: Capability::Console.as_str() },
            NoWay::Off => BmcError::NotOffered {
                addr: self.address.addr,
                wanted: "its console over SSH, which is switched off",
                expected: vec!["SerialConsole with SSH enabled"],
                offered: Vec::new(),
            },
            NoWay::Entry(seen) => BmcError::NotOffered {
                addr: self.address.addr,
                wanted: "a console that can be entered",
                expected: vec!["a ConsoleEntryCommand of printable characters"],
                offered: vec![seen],
            },
        })
    }
}

fn of_system(system: &Document, vendor: &Vendor) -> Result<Way, NoWay> {
    if system.at("SerialConsole/SSH").is_none() {
        return Err(NoWay::None);
    }
    if system.at("SerialConsole/SSH/ServiceEnabled").and_then(Value::as_bool) == Some(false) {
        return Err(NoWay::Off);
    }
    let port = system.number("SerialConsole/SSH/Port");
    let port = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0).unwrap_or(PORT);
    let entry = match system.at("SerialConsole/SSH/ConsoleEntryCommand").and_then(Value::as_str) {
        Some(said) if is_entry(said) => said.to_owned(),
        Some(said) => return Err(NoWay::Entry(said.chars().filter(|c| !c.is_control()).take(64).collect())),
        // The console has a port of its own, or the vendor's command line leads to it.
        None => vendor.console_entry.to_owned(),
    };
    Ok(Way { port, entry })
}

fn of_manager(manager: &Document, vendor: &Vendor) -> Result<Way, NoWay> {
    let has =
        |kind: &str| manager.words("SerialConsole/ConnectTypesSupported").iter().any(|seen| seen == kind);
    // Without a word about what leads to it, a login leads to the BMC's own command line, which is no console.
    if !has("SSH") || vendor.console_entry.is_empty() {
        return Err(NoWay::None);
    }
    if manager.at("SerialConsole/ServiceEnabled").and_then(Value::as_bool) == Some(false) {
        return Err(NoWay::Off);
    }
    Ok(Way { port: PORT, entry: vendor.console_entry.to_owned() })
}

/// It is said to the BMC itself, which has chosen it; here it must only be a line.
fn is_entry(said: &str) -> bool {
    said.len() <= LONGEST_ENTRY && said.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
}

/// Of SSH (RFC 4253 §4.1).
const PORT: u16 = 22;
/// BMCs have words like `console com2`.
const LONGEST_ENTRY: usize = 128;

#[cfg(test)]
mod tests {
    use super::super::vendor::of_driver;
    use super::*;

    fn document(text: &str) -> Document {
        Document::parse(text.as_bytes(), None).unwrap()
    }

    #[test]
    fn a_console_is_where_the_system_says_and_is_entered_as_it_says() {
        let way = |driver: &str, text: &str| of_system(&document(text), of_driver(driver));
        let ssh = |inside: &str| format!(r#"{{"SerialConsole": {{"SSH": {{{inside}}}}}}}"#);
        let is = |port, entry: &str| Ok(Way { port, entry: entry.to_owned() });
        assert_eq!(way("redfish", &ssh(r#""ServiceEnabled": true, "Port": 2200"#)), is(2200, ""));
        assert_eq!(way("redfish", &ssh("")), is(22, ""));
        assert_eq!(way("idrac", &ssh("")), is(22, "console com2"));
        assert_eq!(way("ilo", &ssh(r#""ConsoleEntryCommand": "go host", "Port": 70000"#)), is(22, "go host"));
        assert_eq!(way("ilo", &ssh(r#""ServiceEnabled": false"#)), Err(NoWay::Off));
        let odd = way("ilo", &ssh(r#""ConsoleEntryCommand": "a\nb""#));
        assert_eq!(odd, Err(NoWay::Entry("ab".into())));
        assert_eq!(way("ilo", "{}"), Err(NoWay::None));
    }

    #[test]
    fn what_a_manager_says_is_enough_where_the_vendors_command_is_known() {
        let way = |driver: &str, text: &str| of_manager(&document(text), of_driver(driver));
        let console =
            r#"{"SerialConsole": {"ServiceEnabled": true, "ConnectTypesSupported": ["SSH", "IPMI"]}}"#;
        assert_eq!(way("ilo", console), Ok(Way { port: 22, entry: "vsp".into() }));
        assert_eq!(way("redfish", console), Err(NoWay::None), "a login leads who knows where");
        assert_eq!(way("ilo", &console.replace("true", "false")), Err(NoWay::Off));
        assert_eq!(way("ilo", &console.replace("SSH", "Telnet")), Err(NoWay::None));
    }
}
