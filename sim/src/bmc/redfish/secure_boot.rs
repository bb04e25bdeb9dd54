//! UEFI Secure Boot and its keys (DSP0268 SecureBoot, SecureBootDatabase, Certificate, Signature).

use hyper::StatusCode;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::changes::{Outcome, bad};
use super::resources::{collection, link};

/// Databases, and how many certificates and signatures the machine was delivered with.
const DATABASES: &[(&str, usize, usize)] = &[("PK", 1, 0), ("KEK", 2, 0), ("db", 3, 0), ("dbx", 0, 77)];
/// Who entered them: Microsoft's signature owner GUID, which is in every machine that is sold with keys.
const OWNER: &str = "77fa9abd-0359-4d32-bd60-28f4e78f784b";
const RESETS: &[&str] = &["ResetAllKeysToDefault", "DeleteAllKeys", "DeletePK"];

/// What the firmware is set to.
#[derive(Debug, Default)]
pub(super) struct SecureBoot {
    /// At the next start.
    next: bool,
    /// At the last.
    current: bool,
    /// The platform key is gone, and perhaps the others.
    setup: bool,
    deleted: bool,
}

impl SecureBoot {
    /// The machine starts.
    pub(super) fn start(&mut self) {
        self.current = self.next && !self.setup;
    }

    /// PATCH of the resource.
    pub(super) fn change(&mut self, body: &Value) -> Outcome {
        match body.as_object().map(|body| body.iter().collect::<Vec<_>>()).as_deref() {
            Some([(name, Value::Bool(on))]) if *name == "SecureBootEnable" => {
                if *on && self.setup {
                    return Err((
                        StatusCode::CONFLICT,
                        super::resources::refusal("ResourceInUse", "no platform key"),
                    ));
                }
                self.next = *on;
                Ok(())
            }
            _ => Err(bad("PropertyValueTypeError", "expected SecureBootEnable as true or false")),
        }
    }

    /// POST to SecureBoot.ResetKeys.
    pub(super) fn reset_keys(&mut self, body: &Value) -> Outcome {
        let kind = body.get("ResetKeysType").and_then(Value::as_str).unwrap_or_default();
        (self.setup, self.deleted) = match kind {
            "ResetAllKeysToDefault" => (false, false),
            "DeleteAllKeys" => (true, true),
            "DeletePK" => (true, self.deleted),
            _ => return Err(bad("ActionParameterNotSupported", "ResetKeysType is none of those listed")),
        };
        self.next &= !self.setup;
        Ok(())
    }

    /// Something at or below the resource.
    pub(super) fn get(&self, path: &str, rest: &[&str]) -> Option<Value> {
        let database = |wanted: &str| {
            let (name, delivered) =
                wanted.strip_suffix("Default").map_or((wanted, false), |name| (name, true));
            let (_, certificates, signatures) = DATABASES.iter().find(|(known, ..)| *known == name)?;
            let gone = !delivered && (self.deleted || self.setup && name == "PK");
            Some(if gone { (0, 0) } else { (*certificates, *signatures) })
        };
        let list = |kind: &str, count: usize| {
            let members: Vec<_> = (1..=count).map(|n| format!("{path}/{n}")).collect();
            collection(path, kind, &members)
        };
        Some(match rest {
            [] => json!({
                "@odata.id": path, "@odata.type": "#SecureBoot.v1_1_0.SecureBoot", "Id": "SecureBoot",
                "Name": "UEFI Secure Boot", "SecureBootEnable": self.next,
                "SecureBootCurrentBoot": if self.current { "Enabled" } else { "Disabled" },
                "SecureBootMode": if self.setup { "SetupMode" } else { "UserMode" },
                "SecureBootDatabases": link(&format!("{path}/SecureBootDatabases")),
                "Actions": { "#SecureBoot.ResetKeys": {
                    "target": format!("{path}/Actions/SecureBoot.ResetKeys"),
                    "ResetKeysType@Redfish.AllowableValues": RESETS,
                }},
            }),
            ["SecureBootDatabases"] => {
                let names = DATABASES.iter().map(|(name, ..)| *name);
                let delivered = DATABASES.iter().map(|(name, ..)| format!("{path}/{name}Default"));
                let members: Vec<_> = names.map(|name| format!("{path}/{name}")).chain(delivered).collect();
                collection(path, "SecureBootDatabaseCollection", &members)
            }
            ["SecureBootDatabases", id] => {
                database(id)?;
                json!({
                    "@odata.id": path, "@odata.type": "#SecureBootDatabase.v1_0_1.SecureBootDatabase", "Id": id,
                    "Name": "Secure Boot Database", "DatabaseId": id,
                    "Certificates": link(&format!("{path}/Certificates")),
                    "Signatures": link(&format!("{path}/Signatures")),
                })
            }
            ["SecureBootDatabases", id, "Certificates"] => list("CertificateCollection", database(id)?.0),
            ["SecureBootDatabases", id, "Signatures"] => list("SignatureCollection", database(id)?.1),
            ["SecureBootDatabases", id, "Certificates", number] => {
                let number = member(number, database(id)?.0)?;
                json!({
                    "@odata.id": path, "@odata.type": "#Certificate.v1_2_0.Certificate", "Id": number.to_string(),
                    "Name": "Certificate", "CertificateType": "PEM", "UefiSignatureOwner": OWNER,
                    "Subject": { "CommonName": format!("Simulated {id} {number}") },
                    "Issuer": { "CommonName": "Simulated authority" },
                })
            }
            ["SecureBootDatabases", id, "Signatures", number] => {
                let number = member(number, database(id)?.1)?;
                json!({
                    "@odata.id": path, "@odata.type": "#Signature.v1_0_0.Signature", "Id": number.to_string(),
                    "Name": "Signature", "SignatureTypeRegistry": "UEFI", "SignatureType": "EFI_CERT_SHA256_GUID",
                    "SignatureString": hex::encode(Sha256::digest(number.to_be_bytes())),
                    "UefiSignatureOwner": OWNER,
                })
            }
            _ => return None,
        })
    }
}

/// A number of those that a list has, which count from one.
fn member(number: &str, count: usize) -> Option<usize> {
    number.parse().ok().filter(|number| (1..=count).contains(number))
}
