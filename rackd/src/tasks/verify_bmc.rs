use super::context::Context;
use super::power::observed;
use super::step::{Step, StepError, Timeouts};
use farrier_bmc::{BmcError, Inventory};
use std::time::Duration;

/// The BMC answers with these credentials, says what it is and whether the machine is on.
pub(super) struct VerifyBmc;

#[async_trait::async_trait]
impl Step for VerifyBmc {
    fn name(&self) -> &'static str {
        "verify_bmc"
    }
    /// A person waits for it, and what is wrong is mostly a word of theirs: a BMC that restarts is not waited for.
    fn deadline(&self, timeouts: &Timeouts) -> Duration {
        timeouts.bmc.min(timeouts.bmc_call * 3)
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        // Somebody may have mended a driver, or given the BMC the password that it refused. Once: each try that it refuses may
        // count against the account.
        if cx.is_first_try().await {
            cx.rack.bmc.reconsider(&cx.machine()?.name);
            cx.rack.bmc.forgive(&cx.access().await?);
        }
        let opened = cx.opened_bmc().await?;
        let bmc = opened.bmc;
        let identity = match bmc.identity(cx.call()).await {
            // The next step gives it another, and then proves it.
            Err(error @ BmcError::PasswordChangeRequired { .. }) if cx.replaces_password() => {
                return cx.note(format!("driver {}: {error}", bmc.driver())).await;
            }
            identity => identity?,
        };
        let power = bmc.power_status(cx.call()).await?;
        observed(cx, power).await?;
        let mut told = format!(
            "driver {}, manufacturer {}, product {}, firmware {}, {}, power {}",
            bmc.driver(),
            identity.manufacturer,
            identity.product,
            identity.firmware,
            identity.protocol,
            power.as_str()
        );
        match bmc.inventory(cx.call()).await {
            Ok(inventory) => told.push_str(&hardware(&inventory, &macs(cx)?)),
            Err(BmcError::Unsupported { .. }) => {}
            // The ramdisk will look for itself.
            Err(error) => told.push_str(&format!("; no inventory: {error}")),
        }
        if let Some(error) = opened.passed_over {
            told.push_str(&format!("; another driver does not work: {error}"));
        }
        cx.note(told).await
    }
}

fn macs(cx: &Context<'_>) -> Result<Vec<String>, StepError> {
    Ok(cx.machine()?.ports.iter().map(|port| port.mac_address.to_ascii_lowercase()).collect())
}

/// What the BMC knows of its machine, and where it contradicts the node's ports.
fn hardware(seen: &Inventory, ports: &[String]) -> String {
    let mut told = String::new();
    for (what, text) in [("model", &seen.model), ("serial number", &seen.serial_number)] {
        if !text.is_empty() {
            told.push_str(&format!("; {what} {text}"));
        }
    }
    // Over IPMI a BMC knows nothing of these.
    if seen.thread_count > 0 || seen.memory_bytes > 0 || !seen.nics.is_empty() {
        told.push_str(&format!(
            "; the BMC sees {} threads, {} MiB, {} NICs, {} firmware versions",
            seen.thread_count,
            seen.memory_bytes >> 20,
            seen.nics.len(),
            seen.firmware.len()
        ));
    }
    // A BMC that lists some NICs need not list those on cards: a hint, no failure.
    let strangers = ports.iter().filter(|port| seen.nics.iter().all(|nic| nic.mac_address != **port));
    for port in strangers.filter(|_| !seen.nics.is_empty()) {
        told.push_str(&format!("; port {port} is none of them"));
    }
    if !seen.warnings.is_empty() {
        told.push_str(&format!("; warnings: {}", seen.warnings.join(", ")));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::hardware;
    use farrier_bmc::{Inventory, InventoryNic};

    #[test]
    fn a_port_that_the_bmc_does_not_know_is_told() {
        let nic = |mac: &str| InventoryNic { name: "1".into(), mac_address: mac.into(), link_up: None };
        let seen = Inventory { nics: vec![nic("02:00:00:00:00:01")], ..Inventory::default() };
        let ports = ["02:00:00:00:00:01".to_owned(), "02:00:00:00:00:02".to_owned()];
        let told = hardware(&seen, &ports);
        assert!(told.ends_with("port 02:00:00:00:00:02 is none of them"), "{told}");
        assert!(!hardware(&Inventory::default(), &ports).contains("none of them"));
    }
}
