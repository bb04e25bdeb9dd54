//! A task's words about a BMC, checked once.

use super::names::NAMES;
use farrier_bmc::ipmi::{BmcAddress, Cipher, RMCP_PORT};
use farrier_bmc::redfish::{DRIVERS, HTTP_PORT, HTTPS_PORT, RedfishAddress, Trust};
use farrier_bmc::seamicro::SEAMICRO;
use farrier_bmc::{FAKE, MANUAL, Secret};
use farrier_identity::device::DeviceTrust;
use farrier_model::bmc_key;
use farrier_model::chassis::is_server;
use farrier_proto::rack::Machine;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use zeroize::Zeroizing;

/// Which driver the node asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DriverChoice {
    Ipmi,
    Redfish,
    Auto,
    /// A server of a SeaMicro chassis.
    SeaMicro,
    /// Somebody presses the buttons.
    Manual,
    /// Nothing is there.
    Fake,
}

/// A BMC as every driver wants to be told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) driver: DriverChoice,
    pub(crate) ipmi: BmcAddress,
    /// Of every API over HTTP.
    pub(crate) redfish: RedfishAddress,
    /// A password that the BMC may have instead: a rotation has not been settled.
    pub(crate) next: Option<Secret>,
    /// The account that has it; empty: the same.
    pub(crate) next_user: String,
}

/// What opens a BMC. Its `Debug` is blank.
#[derive(Default)]
pub(crate) struct Keys {
    pub(crate) password: Zeroizing<String>,
    /// As in [`Access`]; empty: there is none.
    pub(crate) next: Zeroizing<String>,
    /// The BMC's own, as people write it; empty: there is none.
    pub(crate) kg: Zeroizing<String>,
}

impl Keys {
    /// Out of a message, which is then shown without.
    pub(crate) fn take(machine: &mut Machine) -> Self {
        Self {
            password: Zeroizing::new(std::mem::take(&mut machine.bmc_password)),
            next: Zeroizing::new(std::mem::take(&mut machine.bmc_next_password)),
            kg: Zeroizing::new(std::mem::take(&mut machine.bmc_kg)),
        }
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys")
    }
}

/// Why a task's words about a BMC cannot be used. A centre checks them too; an older one may not.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadAccess {
    #[error(
        "the node has no BMC: say which driver, address, user and password it has, with `farrier node update NODE \
         --bmc-driver auto --bmc-address HOST --bmc-user USER --bmc-password-file FILE`"
    )]
    Missing,
    #[error(
        "BMC driver: expected ipmi, redfish, ilo, idrac, seamicro, auto, manual or fake, saw {0:?}: this rackd may be older than the centre"
    )]
    Driver(String),
    #[error("cipher suite: expected 17, 3 or 0, saw {0}")]
    Cipher(i32),
    #[error("BMC scheme: expected https, http or nothing, saw {0:?}")]
    Scheme(String),
    #[error("BMC certificate: expected 64 hexadecimal digits (a SHA-256), saw {0} characters")]
    Fingerprint(usize),
    #[error("BMC authorities: expected certificates in PEM: {0}")]
    Authorities(String),
    #[error("BMC system: expected a server of the chassis, for example 0/0, saw {0:?}; correct --bmc-system")]
    Server(String),
    #[error(
        "BMC key: expected 1 to 20 bytes of text, or 0x and up to 40 hexadecimal digits; correct --bmc-kg-file"
    )]
    Key,
    #[error("BMC address {0}: expected an address or a name that resolves, saw neither")]
    Unresolved(String),
}

impl BadAccess {
    /// A name may resolve later.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self, Self::Unresolved(_))
    }
}

impl Access {
    /// Whether another try would go to the same driver and address, whatever happens meanwhile.
    pub(crate) fn is_settled(&self) -> bool {
        self.next.is_none()
            && self.driver != DriverChoice::Auto
            && self.redfish.host.parse::<IpAddr>().is_ok()
    }

    /// The same at another address. A name stays what the certificate shall be for.
    pub(crate) fn at(&self, ip: IpAddr) -> Self {
        let mut other = self.clone();
        other.ipmi.addr.set_ip(ip);
        other.redfish.addr.set_ip(ip);
        if !self.has_name() {
            other.redfish.host = ip.to_string();
        }
        other
    }

    /// It is said of the same machine, by whatever account: a name is one BMC, to whichever of its addresses it leads now.
    pub(crate) fn is_same_machine(&self, other: &Self) -> bool {
        let said = |access: &Self| (access.driver, access.ipmi.addr.port(), access.redfish.addr.port());
        let host = |access: &Self| access.redfish.host.parse().map(|ip: IpAddr| ip.to_canonical());
        let is_same_host = match (host(self), host(other)) {
            (Ok(one), Ok(other)) => one == other,
            _ => self.redfish.host.eq_ignore_ascii_case(&other.redfish.host),
        };
        is_same_host && said(self) == said(other) && self.redfish.system == other.redfish.system
    }

    /// The same where its name leads now; where nobody says that now, as it is.
    pub(crate) async fn resolved_again(&self) -> Self {
        let found = if self.has_name() { NAMES.resolve(&self.redfish.host).await } else { None };
        let same = self.clone();
        if let Some(found) = found { same.led_to(found) } else { same }
    }

    /// All of the address is taken: the scope of an IPv6 one is only there.
    fn led_to(mut self, found: SocketAddr) -> Self {
        self.ipmi.addr = at(found, self.ipmi.addr.port());
        self.redfish.addr = at(found, self.redfish.addr.port());
        self
    }

    /// The BMC is known by a name, which resolves to its address.
    pub(crate) fn has_name(&self) -> bool {
        self.redfish.host.parse::<IpAddr>().is_err()
    }

    /// The same with the other password, where there is one.
    pub(crate) fn with_next(&self) -> Option<Self> {
        let next = self.next.clone()?;
        let mut other = Self { next: None, next_user: String::new(), ..self.clone() };
        if !self.next_user.is_empty() {
            other.ipmi.user.clone_from(&self.next_user);
            other.redfish.user.clone_from(&self.next_user);
        }
        other.ipmi.password = next.clone();
        other.redfish.password = next;
        Some(other)
    }

    pub(crate) async fn of(machine: &Machine, keys: &Keys) -> Result<Self, BadAccess> {
        let said = Self::said(machine, keys)?;
        // Where there is nothing to reach, nothing is looked for.
        if matches!(said.driver, DriverChoice::Manual | DriverChoice::Fake) || !said.has_name() {
            return Ok(said);
        }
        // Also for `fe80::1%eth0`, whose scope only the resolver understands.
        let found = NAMES.resolve(&said.redfish.host).await;
        Ok(said.led_to(found.ok_or_else(|| BadAccess::Unresolved(machine.bmc_address.clone()))?))
    }

    /// What a name leads to is not known yet.
    fn said(machine: &Machine, keys: &Keys) -> Result<Self, BadAccess> {
        let Keys { password, next, kg } = keys;
        let driver = match machine.bmc_driver.as_str() {
            "ipmi" => DriverChoice::Ipmi,
            driver if DRIVERS.contains(&driver) => DriverChoice::Redfish,
            "auto" => DriverChoice::Auto,
            SEAMICRO if !is_server(&machine.bmc_system) => {
                return Err(BadAccess::Server(machine.bmc_system.clone()));
            }
            SEAMICRO => DriverChoice::SeaMicro,
            MANUAL => DriverChoice::Manual,
            FAKE => DriverChoice::Fake,
            "" => return Err(BadAccess::Missing),
            other => return Err(BadAccess::Driver(other.to_owned())),
        };
        let cipher = match machine.bmc_cipher_suite {
            0 => Cipher::Auto,
            suite => u8::try_from(suite).ok().and_then(Cipher::fixed).ok_or(BadAccess::Cipher(suite))?,
        };
        let kg = match kg.as_str() {
            "" => None,
            text => Some(bmc_key::parse(text).ok_or(BadAccess::Key)?),
        };
        let trust = trust(machine)?;
        let (host, port) = split(&machine.bmc_address);
        let ip = SocketAddr::new(host.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), 0);
        let web = if trust.is_tls() { HTTPS_PORT } else { HTTP_PORT };
        let (user, secret) = (machine.bmc_user.clone(), Secret::new(password.as_str()));
        Ok(Self {
            driver,
            next_user: machine.bmc_next_user.clone(),
            next: (!next.is_empty()).then(|| Secret::new(next.as_str())),
            ipmi: BmcAddress {
                cipher,
                kg: kg.filter(|kg| !kg.is_empty()).map(Secret::new),
                ..BmcAddress::new(at(ip, port.unwrap_or(RMCP_PORT)), user.clone(), secret.clone())
            },
            redfish: RedfishAddress {
                host: host.to_owned(),
                ssh_host_key: machine.bmc_ssh_host_key_sha256.clone(),
                system: machine.bmc_system.clone(),
                driver: match driver {
                    DriverChoice::Redfish => machine.bmc_driver.clone(),
                    _ => DRIVERS.first().copied().unwrap_or_default().to_owned(),
                },
                ..RedfishAddress::new(at(ip, port.unwrap_or(web)), user, secret, trust)
            },
        })
    }
}

fn trust(machine: &Machine) -> Result<Trust, BadAccess> {
    match machine.bmc_scheme.as_str() {
        "" | "https" => {}
        "http" => return Ok(Trust::Plain),
        other => return Err(BadAccess::Scheme(other.to_owned())),
    }
    if !machine.bmc_certificate_sha256.is_empty() {
        let text: String = machine.bmc_certificate_sha256.chars().filter(|c| *c != ':').collect();
        let bytes = hex::decode(&text).ok().and_then(|bytes| bytes.try_into().ok());
        return bytes.map(Trust::Pin).ok_or(BadAccess::Fingerprint(text.len()));
    }
    if machine.bmc_ca_pem.is_empty() {
        return Ok(Trust::Nothing);
    }
    DeviceTrust::authorities(&machine.bmc_ca_pem)
        .map_err(|error| BadAccess::Authorities(error.to_string()))?;
    Ok(Trust::Authorities(machine.bmc_ca_pem.as_str().into()))
}

/// Host and port of `host`, `host:port`, `[v6]:port`, `[v6]` or `v6`.
fn split(address: &str) -> (&str, Option<u16>) {
    if let Some((host, rest)) = address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (host, rest.strip_prefix(':').and_then(|port| port.parse().ok()));
    }
    match address.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host, port.parse().ok()),
        _ => (address, None),
    }
}

fn at(mut addr: SocketAddr, port: u16) -> SocketAddr {
    addr.set_port(port);
    addr
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(driver: &str, address: &str) -> Machine {
        Machine { bmc_driver: driver.into(), bmc_address: address.into(), ..Machine::default() }
    }

    fn keys(kg: &str) -> Keys {
        Keys { password: Zeroizing::new("x".into()), kg: Zeroizing::new(kg.into()), ..Keys::default() }
    }

    #[tokio::test]
    async fn a_key_of_the_bmc_is_for_ipmi_and_none_is_none() {
        let kg = async |text: &str| {
            let access = Access::of(&machine("ipmi", "192.0.2.1"), &keys(text)).await;
            access.map(|access| access.ipmi.kg.map(|kg| kg.expose().to_vec()))
        };
        assert_eq!(kg("").await.unwrap(), None);
        assert_eq!(kg("bmc-key").await.unwrap().unwrap(), b"bmc-key");
        assert_eq!(kg("0x00ff").await.unwrap().unwrap(), [0, 0xFF]);
        assert!(matches!(kg("0xzz").await, Err(BadAccess::Key)));
        assert_eq!(format!("{:?}", keys("bmc-key")), "Keys");
    }

    async fn ports(machine: Machine) -> (String, u16, u16) {
        let access = Access::of(&machine, &keys("")).await.unwrap();
        (access.redfish.host, access.ipmi.addr.port(), access.redfish.addr.port())
    }

    #[tokio::test]
    async fn each_protocol_has_its_own_port_unless_one_is_named() {
        assert_eq!(ports(machine("auto", "192.0.2.1")).await, ("192.0.2.1".into(), 623, 443));
        let plain = Machine { bmc_scheme: "http".into(), ..machine("redfish", "192.0.2.1") };
        assert_eq!(ports(plain).await, ("192.0.2.1".into(), 623, 80));
        assert_eq!(ports(machine("auto", "192.0.2.1:99")).await, ("192.0.2.1".into(), 99, 99));
        assert_eq!(ports(machine("ipmi", "[2001:db8::1]:99")).await, ("2001:db8::1".into(), 99, 99));
        assert_eq!(ports(machine("ipmi", "2001:db8::1")).await, ("2001:db8::1".into(), 623, 443));
    }

    #[tokio::test]
    async fn what_is_trusted_is_what_the_node_says_and_nothing_by_itself() {
        let trust = |change: fn(&mut Machine)| {
            let mut machine = machine("redfish", "192.0.2.1");
            change(&mut machine);
            async move { Access::of(&machine, &keys("")).await.map(|access| access.redfish.trust) }
        };
        assert_eq!(trust(|_| ()).await.unwrap(), Trust::Nothing);
        let pin = trust(|m| m.bmc_certificate_sha256 = "AA:".repeat(31) + "aa").await.unwrap();
        assert_eq!(pin, Trust::Pin([0xAA; 32]));
        assert!(matches!(
            trust(|m| m.bmc_certificate_sha256 = "aa".into()).await,
            Err(BadAccess::Fingerprint(2))
        ));
        assert!(matches!(trust(|m| m.bmc_ca_pem = "x".into()).await, Err(BadAccess::Authorities(_))));
        assert!(matches!(trust(|m| m.bmc_scheme = "ftp".into()).await, Err(BadAccess::Scheme(_))));
        assert!(matches!(trust(|m| m.bmc_driver = "lom".into()).await, Err(BadAccess::Driver(_))));
        let chassis = trust(|m| m.bmc_driver = "seamicro".into()).await;
        assert!(matches!(chassis, Err(BadAccess::Server(_))), "{chassis:?}");
        assert!(matches!(trust(|m| m.bmc_cipher_suite = 8).await, Err(BadAccess::Cipher(8))));
    }

    /// A resolver that goes round the addresses of a name.
    #[test]
    fn a_name_is_one_machine_wherever_it_leads_and_another_name_or_port_is_another() {
        let said = |driver, address, system: &str| {
            let machine = Machine { bmc_system: system.into(), ..machine(driver, address) };
            Access::said(&machine, &keys("")).unwrap()
        };
        let led = |address, last| said("ipmi", address, "").led_to(([192, 0, 2, last], 0).into());
        let ways: Vec<_> = (1..=3).map(|last| led("bmc7.example", last)).collect();
        for way in &ways {
            assert!(ways.iter().all(|other| way.is_same_machine(other)));
            assert!(way.is_same_machine(&led("BMC7.example", 9)));
            assert!(
                !way.is_same_machine(&led("bmc8.example", 1))
                    && !way.is_same_machine(&led("bmc7.example:99", 1))
            );
        }
        assert_ne!(ways[0], ways[1]);
        let (one, other) = (said("redfish", "192.0.2.1", "1"), said("redfish", "192.0.2.1", "2"));
        assert!(one.is_same_machine(&one) && !one.is_same_machine(&other));
        // An address is compared as one, however it is written.
        let (short, long) = ("2001:db8::1", "[2001:0db8:0::1]");
        assert!(said("ipmi", short, "").is_same_machine(&said("ipmi", long, "")));
        assert!(!said("ipmi", short, "").is_same_machine(&said("ipmi", "2001:db8::2", "")));
    }

    #[tokio::test]
    async fn a_name_is_asked_for_again_and_an_address_is_not() {
        let named = Access::said(&machine("redfish", "localhost:99"), &keys("")).unwrap();
        let elsewhere = named.clone().led_to(([192, 0, 2, 1], 0).into());
        let again = elsewhere.resolved_again().await;
        assert!(again.redfish.addr.ip().is_loopback() && again.redfish.addr.port() == 99, "{again:?}");
        assert_eq!(again.redfish.host, "localhost");
        let numbered = Access::said(&machine("ipmi", "192.0.2.7"), &keys("")).unwrap();
        assert_eq!(numbered.resolved_again().await, numbered);
        // Of a name that nobody knows the last answer counts.
        let lost = Access::said(&machine("ipmi", "bmc.invalid"), &keys("")).unwrap();
        let lost = lost.led_to(([192, 0, 2, 8], 0).into());
        assert_eq!(lost.resolved_again().await, lost);
    }
}
