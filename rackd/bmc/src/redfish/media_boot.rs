//! Booting once from virtual media, which vendors do in ways of their own: HPE by a property of the drive
//! (HpeiLOVirtualMedia), Dell by a configuration profile (OemManager.ImportSystemConfiguration).

use serde_json::{Value, json};

use super::document::{Document, Path};
use super::link::{Ask, Link};
use super::profile::{IMPORT, action_of};
use super::vendor::MediaBoot;
use crate::actor::Call;
use crate::{BmcError, BootMode, BootOverride, Device};

impl Link {
    /// Asks for it, by the vendor's way where the BMC has that, else by the boot override. A task comes back where it is
    /// done when that is.
    pub(super) async fn boot_media_once(
        &mut self,
        call: &mut Call,
        mode: BootMode,
    ) -> Result<Option<Path>, BmcError> {
        match self.vendor(call).await?.media_boot {
            MediaBoot::Override => {}
            MediaBoot::Drive(keys) => {
                let (path, drive) = self.drive(call).await?;
                let property = |key: &&&str| drive.at(&format!("Oem/{key}/{PROPERTY}")).is_some();
                if let Some(key) = keys.iter().find(property) {
                    self.boot_drive_once(call, &path, &drive, key).await?;
                    return Ok(None);
                }
            }
            MediaBoot::Profile => {
                let (_, system) = self.system(call).await?;
                if let Some((_, manager)) = self.manager(call, &system).await?
                    && let Some(action) = action_of(&manager, IMPORT)
                {
                    return self.import_boot_once(call, action, &manager).await.map(Some);
                }
            }
        }
        let cd = BootOverride { device: Device::Cdrom, persistent: false, mode };
        self.set_boot_device(call, cd).await?;
        Ok(None)
    }

    async fn boot_drive_once(
        &mut self,
        call: &mut Call,
        path: &Path,
        drive: &Document,
        key: &str,
    ) -> Result<(), BmcError> {
        let body = json!({ "Oem": { key: { PROPERTY: true } } });
        let (ask, answer) = self.patch(call, path, &body, drive.etag.clone()).await?;
        if !answer.status.is_success() {
            return Err(self.refused(&ask, &answer));
        }
        let seen = self.get(call, path).await?.at(&format!("Oem/{key}/{PROPERTY}")).cloned();
        if seen == Some(Value::Bool(true)) {
            return Ok(());
        }
        Err(BmcError::NotApplied {
            addr: self.address.addr,
            what: "booting once from virtual media",
            expected: format!("{PROPERTY} = true"),
            seen: seen.map_or("nothing".to_owned(), |seen| seen.to_string()),
        })
    }

    async fn import_boot_once(
        &mut self,
        call: &mut Call,
        action: Path,
        manager: &Document,
    ) -> Result<Path, BmcError> {
        let id = manager.text("Id").unwrap_or_default();
        // The machine goes on as it is: the setting is the BMC's own.
        let body = json!({
            "ShareParameters": { "Target": "ALL" },
            "ShutdownType": "NoReboot",
            "ImportBuffer": profile(&id),
        });
        // Twice is as good as once: the second is refused while the first is under way, and sets the same after it.
        let ask = Ask::post(&action, body);
        let answer = self.send(call, &ask).await?;
        if !answer.status.is_success() {
            return Err(self.refused(&ask, &answer));
        }
        self.task_of(&answer).ok_or_else(|| self.bad_answer(&ask, "the job that does it", "no Location"))
    }
}

const PROPERTY: &str = "BootOnNextServerReset";

/// Dell's Server Configuration Profile with two attributes; without a space between elements, which its reader refuses.
fn profile(manager: &str) -> String {
    let mut id = String::new();
    for letter in manager.chars() {
        match letter {
            '&' => id.push_str("&amp;"),
            '<' => id.push_str("&lt;"),
            '"' => id.push_str("&quot;"),
            letter => id.push(letter),
        }
    }
    format!(
        "<SystemConfiguration><Component FQDD=\"{id}\">\
         <Attribute Name=\"ServerBoot.1#BootOnce\">Enabled</Attribute>\
         <Attribute Name=\"ServerBoot.1#FirstBootDevice\">VCD-DVD</Attribute>\
         </Component></SystemConfiguration>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_xml_whatever_the_manager_is_called() {
        assert!(profile("iDRAC.Embedded.1").starts_with(
            "<SystemConfiguration><Component FQDD=\"iDRAC.Embedded.1\"><Attribute Name=\"ServerBoot.1#BootOnce\">Enabled<"
        ));
        assert!(profile("a\"<&").contains("FQDD=\"a&quot;&lt;&amp;\""));
    }
}
