//! What rackd tells the ramdisk on the kernel command line.
//!
//! | argument | meaning |
//! |---|---|
//! | `farrier.url=https://10.90.0.1:8443` | rackd's agent service |
//! | `farrier.ca=<64 hex digits>` | SHA-256 of the certificate authority's DER; nothing else is trusted |
//! | `farrier.token=<text>` | one-time token that proves this boot; never printed |
//! | `farrier.node=<name>` | what people call this machine; `discovered/<MAC with hyphens>`: nobody has described it |
//! | `farrier.ip=<address>/<prefix>,<gateway or empty>` | address on the provisioning network, so that no DHCP client is needed |
//! | `farrier.time=<unix seconds>` | rackd's clock: firmware clocks lie, and TLS needs the time |
//! | `BOOTIF=01-aa-bb-cc-dd-ee-ff` | the interface that booted (PXELINUX's form: hardware type, then the MAC) |
use std::fmt;
use std::net::IpAddr;

/// The kernel arguments meant for the agent, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelArgs {
    pub url: http::Uri,
    /// SHA-256 of the certificate authority, lower-case hex.
    pub ca_hex: String,
    pub token: Token,
    /// Its name, or `discovered/` and an interface.
    pub node: String,
    pub address: Option<Address>,
    /// Seconds since 1970.
    pub time: Option<i64>,
    /// EUI-48 of the interface that booted.
    pub boot_mac: Option<[u8; 6]>,
}

/// The interface's address on the provisioning network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    pub ip: IpAddr,
    pub prefix_len: u8,
    pub gateway: Option<IpAddr>,
}

/// The one-time token. Debug is blank on purpose.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// For the Register call, and nothing else.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The kernel command line does not say what the agent needs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgsError {
    #[error("kernel argument {name} is missing; rackd's boot script must give it")]
    Missing { name: &'static str },
    /// The value is not shown for the token.
    #[error("kernel argument {name}: expected {expected}, seen {seen:?}")]
    Malformed { name: &'static str, expected: &'static str, seen: String },
}

const TOKEN: &str = "farrier.token";
const DISCOVERED: &str = "discovered/";
/// Longest argument shown in an error; the console is 80 columns.
const SEEN_MAX: usize = 64;

impl KernelArgs {
    /// Whether nobody has described this machine: rackd looks at it, and nobody else works on it.
    pub fn is_discovery(&self) -> bool {
        self.node.starts_with(DISCOVERED)
    }

    /// Parses the text of `/proc/cmdline`. The first of two equal arguments wins: what a boot script
    /// wrote stands before what somebody may have appended.
    pub fn parse(cmdline: &str) -> Result<Self, ArgsError> {
        let find = |name: &'static str| {
            cmdline
                .split_ascii_whitespace()
                .filter_map(|word| word.split_once('='))
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value)
        };
        let need = |name| find(name).filter(|v| !v.is_empty()).ok_or(ArgsError::Missing { name });

        Ok(Self {
            url: parse_url(need("farrier.url")?)?,
            ca_hex: parse_ca(need("farrier.ca")?)?,
            token: parse_token(need(TOKEN)?)?,
            node: need("farrier.node")?.chars().take(SEEN_MAX).collect(),
            address: find("farrier.ip").map(parse_address).transpose()?,
            time: find("farrier.time").map(parse_time).transpose()?,
            boot_mac: find("BOOTIF").map(parse_bootif).transpose()?,
        })
    }
}

fn malformed(name: &'static str, expected: &'static str, seen: &str) -> ArgsError {
    ArgsError::Malformed { name, expected, seen: seen.chars().take(SEEN_MAX).collect() }
}

fn parse_url(text: &str) -> Result<http::Uri, ArgsError> {
    let bad = || malformed("farrier.url", "https://address:port", text);
    let uri: http::Uri = text.parse().map_err(|_| bad())?;
    let https = uri.scheme_str() == Some("https");
    let plain = uri.query().is_none() && matches!(uri.path(), "" | "/");
    // RFC 9110 §4.2.4: a userinfo in an http URI is an error; here it could hide a host.
    let host = uri.authority().is_some_and(|a| !a.host().is_empty() && !a.as_str().contains('@'));
    if https && plain && host { Ok(uri) } else { Err(bad()) }
}

fn parse_ca(text: &str) -> Result<String, ArgsError> {
    if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(malformed("farrier.ca", "64 hex digits (SHA-256 of the CA certificate's DER)", text))
}

fn parse_token(text: &str) -> Result<Token, ArgsError> {
    let legal = |b: u8| b.is_ascii_graphic();
    if text.len() <= 512 && text.bytes().all(legal) {
        return Ok(Token::new(text));
    }
    Err(malformed(TOKEN, "at most 512 printable characters", "(not shown)"))
}

fn parse_address(text: &str) -> Result<Address, ArgsError> {
    let bad = || malformed("farrier.ip", "address/prefix,gateway or address/prefix,", text);
    let (address, gateway) = text.split_once(',').unwrap_or((text, ""));
    let (ip, prefix) = address.split_once('/').ok_or_else(bad)?;
    let ip: IpAddr = ip.parse().map_err(|_| bad())?;
    let prefix_len: u8 = prefix.parse().map_err(|_| bad())?;
    let longest = if ip.is_ipv4() { 32 } else { 128 };
    let gateway: Option<IpAddr> = match gateway {
        "" => None,
        text => Some(text.parse().map_err(|_| bad())?),
    };
    let same_family = gateway.is_none_or(|g| g.is_ipv4() == ip.is_ipv4());
    if prefix_len == 0 || prefix_len > longest || !same_family || ip.is_unspecified() || ip.is_multicast() {
        return Err(bad());
    }
    Ok(Address { ip, prefix_len, gateway })
}

fn parse_time(text: &str) -> Result<i64, ArgsError> {
    // 2020 to 2100: anything else is a broken clock on the other side, which must not become ours.
    let plausible = 1_577_836_800..4_102_444_800;
    text.parse()
        .ok()
        .filter(|t| plausible.contains(t))
        .ok_or_else(|| malformed("farrier.time", "unix seconds between 2020 and 2100", text))
}

/// `01-` is the ARP hardware type of Ethernet (RFC 1700), prefixed by PXELINUX and iPXE alike.
fn parse_bootif(text: &str) -> Result<[u8; 6], ArgsError> {
    let bad = || malformed("BOOTIF", "01-aa-bb-cc-dd-ee-ff", text);
    text.strip_prefix("01-").and_then(parse_mac).ok_or_else(bad)
}

/// EUI-48 with colons or dashes.
pub fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut mac {
        let part = parts.next().filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

#[cfg(test)]
mod tests;
