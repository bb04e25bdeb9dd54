//! User management over IPMI (IPMI 2.0 sections 22.26 to 22.30), on the accounts that Redfish has too.

use farrier_ipmi::Secret;
use farrier_ipmi::command::user::{IS_LONG, LONG, MAX_USER_ID, NAME_BYTES, SHORT, operation};
use farrier_ipmi::completion;

use super::accounts::{Account, Accounts, NO_ACCESS, SLOTS};

type Answer = (u8, Vec<u8>);

/// Set User Password, test: it is another one, or one of another length.
const MISMATCH: u8 = 0x80;
const WRONG_LENGTH: u8 = 0x81;
/// Get User Access: IPMI messaging, link authentication, and call-in are enabled.
const MESSAGING: u8 = 0x30;
const CHANGES_BITS: u8 = 0x80;

/// One of the commands; `None`: it is none.
pub(super) fn execute(accounts: &Accounts, cmd: u8, data: &[u8]) -> Option<Answer> {
    Some(match (cmd, data) {
        (0x43, [bits, user, limit, ..]) => set_access(accounts, *bits, user & MAX_USER_ID, limit & 0x0F),
        (0x44, [_channel, user]) => access(accounts, user & MAX_USER_ID),
        (0x45, [user, name @ ..]) if name.len() == NAME_BYTES => set_name(accounts, user & MAX_USER_ID, name),
        (0x46, [user]) => name(accounts, user & MAX_USER_ID),
        (0x47, [user, operation, password @ ..]) => set_password(accounts, *user, operation & 0x03, password),
        (0x43..=0x47, _) => (completion::LENGTH_INVALID, Vec::new()),
        _ => return None,
    })
}

fn access(accounts: &Accounts, user: u8) -> Answer {
    let Some(slot) = accounts.slot(usize::from(user)) else { return out_of_range() };
    let enabled = accounts.users().len() as u8;
    let (status, access) = match slot {
        Some(account) if account.enabled => (0x40, MESSAGING | account.over_ipmi),
        Some(account) => (0x80, MESSAGING | account.over_ipmi),
        None => (0x80, NO_ACCESS),
    };
    // Status in the upper bits of the second byte (since errata 3): 01b enabled, 10b disabled. No names are fixed.
    (completion::OK, vec![SLOTS as u8, status | enabled, 0, access])
}

fn set_access(accounts: &Accounts, bits: u8, user: u8, limit: u8) -> Answer {
    let changed = accounts.change(usize::from(user), |slot| {
        let account = slot.get_or_insert_with(nobody);
        if limit != 0 {
            (account.privilege, account.over_ipmi) = (limit, limit);
        }
        // Bit 4: IPMI messaging. Without it the user does not get in.
        if bits & CHANGES_BITS != 0 && bits & 0x10 == 0 {
            account.enabled = false;
        }
    });
    done(changed)
}

fn name(accounts: &Accounts, user: u8) -> Answer {
    let Some(slot) = accounts.slot(usize::from(user)) else { return out_of_range() };
    let mut bytes = slot.map(|account| account.name.into_bytes()).unwrap_or_default();
    bytes.resize(NAME_BYTES, 0);
    (completion::OK, bytes)
}

fn set_name(accounts: &Accounts, user: u8, name: &[u8]) -> Answer {
    let name: Vec<u8> = name.iter().copied().take_while(|byte| *byte != 0).collect();
    let Ok(name) = String::from_utf8(name) else { return (completion::INVALID_FIELD, Vec::new()) };
    let taken = accounts.taken().into_iter().any(|(id, one)| id != usize::from(user) && one.name == name);
    if taken && !name.is_empty() {
        return (completion::INVALID_FIELD, Vec::new());
    }
    done(accounts.change(usize::from(user), |slot| match name.as_str() {
        "" => *slot = None,
        name => slot.get_or_insert_with(nobody).name = name.to_owned(),
    }))
}

fn set_password(accounts: &Accounts, user: u8, what: u8, password: &[u8]) -> Answer {
    let id = usize::from(user & MAX_USER_ID);
    let length = if user & IS_LONG == 0 { SHORT } else { LONG };
    let needs_password = matches!(what, operation::SET | operation::TEST);
    if needs_password && password.len() != length {
        return (completion::LENGTH_INVALID, Vec::new());
    }
    let trimmed = password.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let password = password.get(..trimmed).unwrap_or_default();
    let Some(slot) = accounts.slot(id) else { return out_of_range() };
    match what {
        operation::TEST => match slot {
            Some(account) if account.password.expose() == password => (completion::OK, Vec::new()),
            Some(account) if account.password.expose().len() > length => (WRONG_LENGTH, Vec::new()),
            _ => (MISMATCH, Vec::new()),
        },
        operation::SET if accounts.refuses_passwords() => (completion::INVALID_FIELD, Vec::new()),
        operation::SET => {
            let password = Secret::new(password);
            done(accounts.change(id, |slot| slot.get_or_insert_with(nobody).password = password))
        }
        what => {
            let enabled = what == operation::ENABLE;
            done(accounts.change(id, |slot| slot.get_or_insert_with(nobody).enabled = enabled))
        }
    }
}

/// What a slot holds that somebody begins to fill.
fn nobody() -> Account {
    let password = Secret::new("");
    Account { name: String::new(), password, privilege: NO_ACCESS, over_ipmi: NO_ACCESS, enabled: false }
}

fn done(changed: Option<()>) -> Answer {
    changed.map_or_else(out_of_range, |()| (completion::OK, Vec::new()))
}

fn out_of_range() -> Answer {
    (completion::OUT_OF_RANGE, Vec::new())
}
