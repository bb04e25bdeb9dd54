//! What may be said about a BMC.

use super::check;
use farrier_identity::device::DeviceTrust;
use farrier_model::bmc_key;
use farrier_model::chassis::is_server;
use farrier_proto::inventory::Bmc;
use farrier_runtime::error::invalid;
use tonic::Status;

/// BMC drivers that racks have.
const DRIVERS: &[&str] = &["ipmi", "redfish", "ilo", "idrac", "seamicro", "auto", "manual", "fake"];
/// Those of them that reach nothing.
const WITHOUT: &[&str] = &["manual", "fake"];
/// Those of them that speak HTTP, and nothing else.
const HTTP: &[&str] = &["redfish", "ilo", "idrac", SEAMICRO];
/// A chassis that drives its servers.
const SEAMICRO: &str = "seamicro";
/// Cipher suites of IPMI that a node may be pinned to; 0: the best that the BMC offers.
const CIPHER_SUITES: &[i32] = &[0, 3, 17];
/// RMCP+ user names and passwords (IPMI 2.0, 13.20 and 22.30): where IPMI may be spoken, nothing longer helps.
const IPMI_BYTES: (usize, usize) = (16, 20);
/// User names and passwords over HTTP: BMCs take less.
const HTTP_BYTES: (usize, usize) = (64, 128);
/// Some authorities with their comments.
const CA_BYTES: usize = 64 << 10;
/// An id or a path.
const SYSTEM_BYTES: usize = 256;

/// Whether there is a BMC to reach.
pub(super) fn has_bmc(bmc: &Bmc) -> bool {
    !WITHOUT.contains(&bmc.driver.as_str())
}

/// Whether HTTP alone is spoken.
pub(super) fn speaks_http(bmc: &Bmc) -> bool {
    HTTP.contains(&bmc.driver.as_str())
}

/// Where a node's BMC stands in a request.
pub(super) const OF_NODE: &str = "node.bmc";

/// `at`: where it stands in the request.
pub(super) fn check(at: &str, bmc: &Bmc) -> Result<(), Status> {
    let field = |name: &str| format!("{at}.{name}");
    if !DRIVERS.contains(&bmc.driver.as_str()) {
        return Err(invalid(
            &field("driver"),
            format!("expected one of {}, saw {:?}", DRIVERS.join(", "), bmc.driver),
        ));
    }
    if has_bmc(bmc) {
        check::host_port(&field("address"), &bmc.address)?;
    } else if !bmc.address.is_empty() {
        return Err(invalid(
            &field("address"),
            format!("expected nothing: driver {} reaches no BMC", bmc.driver),
        ));
    }
    let (user, password) = if speaks_http(bmc) { HTTP_BYTES } else { IPMI_BYTES };
    if bmc.user.len() > user {
        return Err(invalid(&field("user"), format!("expected at most {user} bytes")));
    }
    if bmc.password.len() > password {
        return Err(invalid(&field("password"), format!("expected at most {password} bytes")));
    }
    if !bmc.kg.is_empty() && (speaks_http(bmc) || bmc_key::parse(&bmc.kg).is_none()) {
        return Err(invalid(
            &field("kg"),
            "expected a key of IPMI: 1 to 20 bytes of text, or 0x and up to 40 hexadecimal digits (0x alone: none any more)",
        ));
    }
    if !CIPHER_SUITES.contains(&bmc.cipher_suite) {
        return Err(invalid(&field("cipher_suite"), "expected 17, 3 or 0 (the best that the BMC offers)"));
    }
    check_trust(at, bmc)?;
    let system = &bmc.system;
    if bmc.driver == SEAMICRO && !is_server(system) {
        return Err(invalid(
            &field("system"),
            format!("expected a server of the chassis, two numbers such as 0/0, saw {system:?}"),
        ));
    }
    if system.len() > SYSTEM_BYTES || !system.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(invalid(
            &field("system"),
            "expected the id or the path of a system, for example /redfish/v1/Systems/1, or nothing",
        ));
    }
    Ok(())
}

/// Which BMC this is, so that no other node is given the same: racks may use the same addresses, and one
/// Redfish service may have many systems.
pub(super) fn place(rack: &str, bmc: &Bmc) -> String {
    format!("{}{}", place_of_host(rack, &bmc.address), bmc.system.trim_end_matches('/'))
}

/// What all places at an address begin with.
pub(super) fn place_of_host(rack: &str, address: &str) -> String {
    let address = address.to_ascii_lowercase();
    // The ports of IPMI, https and http go without saying; the BMC is one.
    // An IPv6 address without brackets has no port.
    let has_port = address.starts_with('[') || address.matches(':').count() == 1;
    let port =
        [":623", ":443", ":80"].iter().find_map(|port| address.strip_suffix(port)).filter(|_| has_port);
    let host = port.unwrap_or(&address);
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    format!("{rack} {host} ")
}

fn check_trust(at: &str, bmc: &Bmc) -> Result<(), Status> {
    let field = |name: &str| format!("{at}.{name}");
    match bmc.scheme.as_str() {
        "" | "https" => {}
        "http" if bmc.certificate_sha256.is_empty() && bmc.ca_pem.is_empty() => {}
        "http" => {
            return Err(invalid(&field("scheme"), "http has no certificate to compare: expected https"));
        }
        other => {
            return Err(invalid(&field("scheme"), format!("expected https, http or nothing, saw {other:?}")));
        }
    }
    if !bmc.certificate_sha256.is_empty() && !is_sha256(&bmc.certificate_sha256) {
        return Err(invalid(
            &field("certificate_sha256"),
            format!("expected 64 hexadecimal digits (a SHA-256), saw {}", bmc.certificate_sha256.len()),
        ));
    }
    if !bmc.ssh_host_key_sha256.is_empty() && !is_fingerprint(&bmc.ssh_host_key_sha256) {
        return Err(invalid(
            &field("ssh_host_key_sha256"),
            "expected a fingerprint as `ssh-keygen -l` says it: SHA256: and 43 letters of base64",
        ));
    }
    if bmc.ca_pem.is_empty() {
        return Ok(());
    }
    if bmc.ca_pem.len() > CA_BYTES || DeviceTrust::authorities(&bmc.ca_pem).is_err() {
        return Err(invalid(
            &field("ca_pem"),
            format!("expected certificates in PEM, at most {CA_BYTES} bytes, saw something else"),
        ));
    }
    Ok(())
}

/// As OpenSSH says the SHA-256 of a key; with base64's padding or without.
fn is_fingerprint(text: &str) -> bool {
    let Some(base64) = text.strip_prefix("SHA256:") else { return false };
    let base64 = base64.strip_suffix('=').unwrap_or(base64);
    base64.len() == 43 && base64.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
}

/// With or without colons.
fn is_sha256(text: &str) -> bool {
    let digits = text.bytes().filter(|byte| *byte != b':');
    digits.clone().count() == 64 && digits.clone().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_of_a_chassis_is_named_in_one_way() {
        let chassis = |system: &str| {
            check(
                OF_NODE,
                &Bmc {
                    driver: SEAMICRO.into(),
                    address: "10.0.0.1".into(),
                    scheme: "http".into(),
                    system: system.into(),
                    password: "a password longer than any of IPMI's".into(),
                    ..Bmc::default()
                },
            )
        };
        assert!(chassis("0/0").is_ok() && chassis("63/7").is_ok());
        for bad in ["", "0", "00/0", "0/0/0", "a/0", "-1/0"] {
            let error = chassis(bad).unwrap_err();
            assert!(error.message().contains("such as 0/0"), "{bad} {error}");
        }
    }

    #[test]
    fn a_key_is_ipmis_and_what_is_refused_is_not_repeated() {
        let with = |driver: &str, kg: &str| {
            check(
                OF_NODE,
                &Bmc { driver: driver.into(), address: "10.0.0.1".into(), kg: kg.into(), ..Bmc::default() },
            )
        };
        assert!(
            with("ipmi", "bmc-key").is_ok() && with("auto", "0x00ff").is_ok() && with("ipmi", "0x").is_ok()
        );
        for (driver, kg) in [("redfish", "bmc-key"), ("ipmi", "one-and-twenty-bytes!"), ("ipmi", "0xzz")] {
            let error = with(driver, kg).unwrap_err();
            assert!(!error.message().contains(kg) && error.message().contains("20 bytes"), "{error}");
        }
    }

    #[test]
    fn one_bmc_has_one_place_however_it_is_written() {
        let at = |address: &str, system: &str| {
            place("racks/r", &Bmc { address: address.into(), system: system.into(), ..Bmc::default() })
        };
        for (one, other) in [
            ("10.0.0.1", "10.0.0.1:623"),
            ("10.0.0.1:623", "10.0.0.1:443"),
            ("10.0.0.1", "10.0.0.1:80"),
            ("BMC1.example", "bmc1.example"),
            ("fe80::1", "[fe80::1]:623"),
        ] {
            assert_eq!(at(one, ""), at(other, ""), "{one} {other}");
        }
        assert_ne!(at("2001:db8::1:623", ""), at("2001:db8::1", ""), "a port has brackets");
        assert_ne!(at("10.0.0.1:6230", ""), at("10.0.0.1:6231", ""), "simulators");
        assert_ne!(at("10.0.0.1", "1"), at("10.0.0.1", "2"), "blades");
        let elsewhere = Bmc { address: "10.0.0.1".into(), ..Bmc::default() };
        assert_ne!(at("10.0.0.1", ""), place("racks/other", &elsewhere));
        assert!(
            at("10.0.0.1", "1").starts_with(&place_of_host("racks/r", "10.0.0.1")),
            "blades of one chassis"
        );
        assert!(!at("10.0.0.11", "1").starts_with(&place_of_host("racks/r", "10.0.0.1")));
    }
}
