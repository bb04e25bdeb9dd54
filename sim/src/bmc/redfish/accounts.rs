//! The AccountService (DSP0268: AccountService, ManagerAccount, Role), on the accounts that IPMI has too.

use farrier_ipmi::Secret;
use hyper::StatusCode;
use serde_json::{Value, json};

use super::changes::{Outcome, bad};
use super::personality::{Personality, dress};
use super::resources::{View, collection, link, refusal};
use crate::bmc::accounts::{Account, Accounts, NO_ACCESS, SLOTS};

pub(super) const SERVICE: &str = "/redfish/v1/AccountService";
pub(super) const ACCOUNTS: &str = "/redfish/v1/AccountService/Accounts";
/// Of Dell: what users may do over IPMI (its iDRAC attribute registry, `Users.N.…`). Firmware before 4.40 has it at `Attributes`.
pub(super) const ATTRIBUTES: &str =
    "/redfish/v1/Managers/iDRAC.Embedded.1/Oem/Dell/DellAttributes/iDRAC.Embedded.1";
/// Dell's words for levels.
const LEVELS: &[(&str, u8)] = &[("Administrator", 4), ("Operator", 3), ("User", 2), ("No Access", NO_ACCESS)];
/// Roles and the IPMI privileges that they are.
const ROLES: &[(&str, u8)] = &[("Administrator", 4), ("Operator", 3), ("ReadOnly", 2)];
/// Bytes of a password; IPMI takes no longer ones.
const PASSWORD: std::ops::RangeInclusive<usize> = 6..=20;

/// Something at or below the service.
pub(super) fn get(view: &View<'_>, path: &str) -> Option<Value> {
    let rest = path.strip_prefix(SERVICE)?;
    Some(match rest.split('/').skip(1).collect::<Vec<_>>().as_slice() {
        [] => json!({
            "@odata.id": path, "@odata.type": "#AccountService.v1_10_0.AccountService", "Id": "AccountService",
            "Name": "Account Service", "ServiceEnabled": true, "MinPasswordLength": PASSWORD.start(),
            "MaxPasswordLength": PASSWORD.end(), "Accounts": link(ACCOUNTS), "Roles": link(&format!("{SERVICE}/Roles")),
        }),
        ["Accounts"] => {
            let taken = view.accounts.taken().into_iter();
            let members: Vec<_> = taken.map(|(id, _)| format!("{ACCOUNTS}/{id}")).collect();
            collection(path, "ManagerAccountCollection", &members)
        }
        ["Accounts", id] => {
            let account = view.accounts.slot(id.parse().ok()?)??;
            let mut resource = one(&account, id);
            if view.accounts.must_change().is_some_and(|slot| slot.to_string() == *id) {
                dress(&mut resource, json!({ "PasswordChangeRequired": true }));
            }
            resource
        }
        ["Roles"] => {
            let members: Vec<_> = ROLES.iter().map(|(role, _)| format!("{path}/{role}")).collect();
            collection(path, "RoleCollection", &members)
        }
        ["Roles", id] => {
            let (role, _) = ROLES.iter().find(|(role, _)| role == id)?;
            json!({
                "@odata.id": path, "@odata.type": "#Role.v1_3_1.Role", "Id": role, "Name": role, "RoleId": role,
                "IsPredefined": true, "AssignedPrivileges": ["Login"],
            })
        }
        _ => return None,
    })
}

/// Whether a PATCH there is one of accounts.
pub(super) fn takes(path: &str) -> bool {
    path.starts_with(ACCOUNTS) || path == ATTRIBUTES
}

/// PATCH of an account, or of what Dell keeps apart from it.
pub(super) fn patch(accounts: &Accounts, path: &str, body: &Value) -> Option<Outcome> {
    if path == ATTRIBUTES {
        return Some(change_attributes(accounts, body));
    }
    Some(change(accounts, path.strip_prefix(ACCOUNTS)?.trim_start_matches('/'), body))
}

/// The resource that has them.
pub(super) fn attributes(accounts: &Accounts) -> Value {
    let mut attributes = serde_json::Map::new();
    for (id, account) in accounts.taken() {
        let level = LEVELS.iter().find(|(_, level)| *level == account.over_ipmi).map(|(word, _)| *word);
        attributes.insert(format!("Users.{id}.IpmiLanPrivilege"), json!(level));
    }
    json!({
        "@odata.id": ATTRIBUTES, "@odata.type": "#DellAttributes.v1_0_0.DellAttributes", "Id": "iDRAC.Embedded.1",
        "Name": "OEMAttributeRegistry", "AttributeRegistry": "ManagerAttributeRegistry.v1_0_0", "Attributes": attributes,
    })
}

fn change_attributes(accounts: &Accounts, body: &Value) -> Outcome {
    if accounts.keeps_ipmi() {
        return Err(bad("PropertyNotWritable", "rights over IPMI are not given away"));
    }
    let wanted = body.get("Attributes").and_then(Value::as_object);
    for (name, value) in wanted.ok_or_else(|| bad("PropertyMissing", "Attributes is required"))? {
        let unknown = || bad("PropertyUnknown", &format!("there is no {name}"));
        let (id, what) =
            name.strip_prefix("Users.").and_then(|rest| rest.split_once('.')).ok_or_else(unknown)?;
        let id = id.parse().ok().filter(|id| accounts.slot(*id).flatten().is_some()).ok_or_else(unknown)?;
        match what {
            "IpmiLanPrivilege" => {
                let level = LEVELS.iter().find(|(word, _)| value.as_str() == Some(word));
                let (_, level) = level.ok_or_else(|| bad("PropertyValueNotInList", "no such level"))?;
                let set = |slot: &mut Option<Account>| {
                    if let Some(account) = slot {
                        account.over_ipmi = *level;
                    }
                };
                accounts.change(id, set).ok_or_else(unknown)?;
            }
            "SolEnable" if matches!(value.as_str(), Some("Enabled" | "Disabled")) => {}
            _ => return Err(unknown()),
        }
    }
    Ok(())
}

fn change(accounts: &Accounts, id: &str, body: &Value) -> Outcome {
    let Some(properties) = body.as_object() else { return Err(bad("MalformedJSON", "expected an object")) };
    let missing = || (StatusCode::NOT_FOUND, refusal("ResourceMissingAtURI", "there is no such account"));
    let id: usize = id.parse().map_err(|_| missing())?;
    let mut account = accounts.slot(id).flatten().ok_or_else(missing)?;
    for (name, value) in properties {
        if name == "Password" && accounts.refuses_passwords() {
            return Err(bad("PropertyValueFormatError", "the password's policy refuses it"));
        }
        set(&mut account, name, value)?;
    }
    if properties.contains_key("Password") {
        accounts.has_changed(id);
    }
    accounts.change(id, |slot| *slot = Some(account)).ok_or_else(missing)
}

/// POST of a new one: where it is.
pub(super) fn create(
    accounts: &Accounts,
    of: Personality,
    body: &Value,
) -> Result<(String, Value), (StatusCode, Value)> {
    let (name, password) = (String::new(), Secret::new(""));
    let mut account = Account { name, password, privilege: 2, over_ipmi: NO_ACCESS, enabled: true };
    for name in ["UserName", "Password", "RoleId"] {
        let value = body.get(name).ok_or_else(|| bad("PropertyMissing", &format!("{name} is required")))?;
        set(&mut account, name, value)?;
    }
    if let Some(enabled) = body.get("Enabled") {
        set(&mut account, "Enabled", enabled)?;
    }
    if of != Personality::Idrac && !accounts.keeps_ipmi() {
        account.over_ipmi = account.privilege;
    }
    if accounts.taken().iter().any(|(_, one)| one.name == account.name) {
        return Err(bad("ResourceAlreadyExists", "there is an account of this name"));
    }
    // Slot 1 is the null user's.
    let free = (2..=SLOTS).find(|id| accounts.slot(*id).is_some_and(|slot| slot.is_none()));
    let Some(id) = free else { return Err(bad("CreateLimitReachedForResource", "all slots are taken")) };
    accounts.change(id, |slot| *slot = Some(account.clone()));
    let id = id.to_string();
    Ok((format!("{ACCOUNTS}/{id}"), one(&account, &id)))
}

/// DELETE. Whether there was one.
pub(super) fn delete(accounts: &Accounts, id: &str) -> bool {
    let taken = id.parse().ok().filter(|id| accounts.slot(*id).flatten().is_some());
    taken.and_then(|id| accounts.change(id, |slot| *slot = None)).is_some()
}

fn one(account: &Account, id: &str) -> Value {
    let role = ROLES.iter().find(|(_, privilege)| *privilege == account.privilege).map(|(role, _)| *role);
    json!({
        "@odata.id": format!("{ACCOUNTS}/{id}"), "@odata.type": "#ManagerAccount.v1_8_0.ManagerAccount", "Id": id,
        "Name": "User Account", "UserName": account.name, "Password": null, "Enabled": account.enabled,
        "RoleId": role, "Locked": false, "AccountTypes": ["Redfish", "IPMI"],
        "Links": { "Role": role.map(|role| link(&format!("{SERVICE}/Roles/{role}"))) },
    })
}

fn set(account: &mut Account, name: &str, value: &Value) -> Outcome {
    match (name, value) {
        ("UserName", Value::String(text)) if (1..=16).contains(&text.len()) => account.name.clone_from(text),
        ("Password", Value::String(text)) if PASSWORD.contains(&text.len()) => {
            account.password = Secret::new(text.as_bytes());
        }
        ("Enabled", Value::Bool(enabled)) => account.enabled = *enabled,
        ("RoleId", Value::String(text)) => {
            let known = ROLES.iter().find(|(role, _)| role == text);
            account.privilege = known.ok_or_else(|| bad("PropertyValueNotInList", "no such role"))?.1;
        }
        ("UserName" | "Password" | "Enabled" | "RoleId", _) => {
            // The value is not repeated: it may be a password.
            return Err(bad("PropertyValueFormatError", &format!("{name} cannot be that")));
        }
        _ => return Err(bad("PropertyNotWritable", &format!("{name} cannot be written"))),
    }
    Ok(())
}
