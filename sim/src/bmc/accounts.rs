//! The accounts of a simulated BMC: what IPMI and Redfish of one BMC both let in and change.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use farrier_ipmi::Secret;
use farrier_ipmi::server::User;

/// Slots, as IPMI numbers them: from 1 on.
pub(super) const SLOTS: usize = 10;

/// Over IPMI (IPMI 2.0 table 22-34).
pub(super) const NO_ACCESS: u8 = 0x0F;

/// One account.
#[derive(Debug, Clone)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) password: Secret,
    /// 2 user, 3 operator, 4 administrator.
    pub(super) privilege: u8,
    /// The same over IPMI, which some BMCs keep apart, and [`NO_ACCESS`].
    pub(super) over_ipmi: u8,
    pub(super) enabled: bool,
}

/// All accounts. Cheap to clone; clones are the same accounts.
#[derive(Debug, Clone)]
pub struct Accounts(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    slots: [Option<Account>; SLOTS],
    /// Grows with every change.
    version: u64,
    /// Whether a policy refuses every password.
    refuses: bool,
    /// Nobody is given rights over IPMI by Redfish.
    keeps_ipmi: bool,
    /// The account that may do nothing but change its password.
    must_change: Option<usize>,
    /// Names with passwords that were not let in over Redfish.
    refused: u32,
    /// What becomes of a new password that it says yes to.
    takes: Takes,
    /// Taken, and not yet so: the slot, the password, and requests until then.
    later: Option<(usize, Secret, u32)>,
}

/// What becomes of a new password that a BMC says yes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Takes {
    /// It is the account's.
    #[default]
    AtOnce,
    /// It is the account's after so many more requests to the BMC, whatever they are and come to.
    After(u32),
    /// The account keeps the one that it has; a new account has one that nobody knows.
    Never,
}

impl Accounts {
    /// One account, in slot 2: slot 1 is the null user's, and nobody's here.
    #[must_use]
    pub fn new(user: &str, password: &Secret, privilege: u8) -> Self {
        let mut slots = [const { None }; SLOTS];
        if let Some(slot) = slots.get_mut(1) {
            let (name, password) = (user.to_owned(), password.clone());
            *slot = Some(Account { name, password, privilege, over_ipmi: privilege, enabled: true });
        }
        Self(Arc::new(Mutex::new(State {
            slots,
            version: 0,
            refuses: false,
            keeps_ipmi: false,
            must_change: None,
            refused: 0,
            takes: Takes::AtOnce,
            later: None,
        })))
    }

    /// Whether an account is let in.
    #[must_use]
    pub fn knows(&self, user: &str, password: &[u8]) -> bool {
        let state = self.state();
        let mut all = state.slots.iter().flatten();
        all.any(|one| one.enabled && one.name == user && one.password.expose() == password)
    }

    /// The same of somebody at the door: a BMC counts those whom it sends away.
    pub(super) fn lets_in(&self, user: &str, password: &[u8]) -> bool {
        let known = self.knows(user, password);
        if !known {
            self.state().refused += 1;
        }
        known
    }

    /// How many log-ins were refused over Redfish: real BMCs lock an account after three to five.
    #[must_use]
    pub fn refused_log_ins(&self) -> u32 {
        self.state().refused
    }

    /// Whether IPMI lets an account have an administrator's session.
    #[must_use]
    pub fn administers_over_ipmi(&self, user: &str) -> bool {
        self.users().iter().any(|one| one.name == user && one.max_privilege >= 4)
    }

    /// The password of an account, for a test that logs in with it.
    #[must_use]
    pub fn password(&self, user: &str) -> Option<Secret> {
        let state = self.state();
        state.slots.iter().flatten().find(|one| one.name == user).map(|one| one.password.clone())
    }

    /// Makes an account of an administrator, as somebody at the BMC's own pages does; where there is no room it makes none.
    pub fn add(&self, user: &str, password: &Secret) {
        let mut state = self.state();
        // Slot 1 is the null user's.
        if let Some(slot) = state.slots.iter_mut().skip(1).find(|slot| slot.is_none()) {
            let (name, password) = (user.to_owned(), password.clone());
            *slot = Some(Account { name, password, privilege: 4, over_ipmi: 4, enabled: true });
        }
        state.version += 1;
    }

    /// Sets whether a policy refuses every new password.
    pub fn refuse_passwords(&self, refuse: bool) {
        self.state().refuses = refuse;
    }

    /// From now on Redfish gives nobody rights over IPMI, as a BMC whose administrator wants it so.
    pub fn keep_ipmi(&self) {
        self.state().keeps_ipmi = true;
    }

    pub(super) fn keeps_ipmi(&self) -> bool {
        self.state().keeps_ipmi
    }

    /// Sets what becomes of new passwords.
    pub fn take_passwords(&self, takes: Takes) {
        self.state().takes = takes;
    }

    /// The BMC was asked something.
    pub(super) fn asked(&self) {
        let mut state = self.state();
        let Some((id, password, left)) = state.later.take() else { return };
        if left > 1 {
            state.later = Some((id, password, left - 1));
            return;
        }
        if let Some(account) = state.slots.get_mut(id.wrapping_sub(1)).and_then(Option::as_mut) {
            account.password = password;
        }
        state.version += 1;
    }

    /// From now on the first account may do nothing over Redfish but change its password, as one that a BMC came with.
    pub fn require_change(&self) {
        self.state().must_change = Some(2);
    }

    /// The slot of an account that must change its password first.
    pub(super) fn must_change(&self) -> Option<usize> {
        self.state().must_change
    }

    /// It has.
    pub(super) fn has_changed(&self, id: usize) {
        self.state().must_change.take_if(|one| *one == id);
    }

    pub(super) fn refuses_passwords(&self) -> bool {
        self.state().refuses
    }

    /// Those that may log in, as the protocol core wants them.
    pub(super) fn users(&self) -> Vec<User> {
        let state = self.state();
        let enabled = state.slots.iter().flatten().filter(|account| account.enabled);
        let user = |account: &Account| User {
            name: account.name.clone(),
            password: account.password.clone(),
            // No level at all is asked for with zero.
            max_privilege: if account.over_ipmi == NO_ACCESS { 0 } else { account.over_ipmi },
        };
        enabled.map(user).collect()
    }

    pub(super) fn version(&self) -> u64 {
        self.state().version
    }

    /// The account in a slot, from 1 on; `None`: there is no such slot.
    pub(super) fn slot(&self, id: usize) -> Option<Option<Account>> {
        self.state().slots.get(id.checked_sub(1)?).cloned()
    }

    /// Slots that are taken, with their accounts.
    pub(super) fn taken(&self) -> Vec<(usize, Account)> {
        let state = self.state();
        let slots = state.slots.iter().zip(1..);
        slots.filter_map(|(slot, id)| Some((id, slot.clone()?))).collect()
    }

    /// Changes what is in a slot; `None`: there is no such slot.
    pub(super) fn change<T>(&self, id: usize, change: impl FnOnce(&mut Option<Account>) -> T) -> Option<T> {
        let mut state = self.state();
        let takes = state.takes;
        let slot = state.slots.get_mut(id.checked_sub(1)?)?;
        let before = slot.as_ref().map(|account| account.password.clone());
        let changed = change(slot);
        let asked = slot.as_mut().filter(|account| before.as_ref() != Some(&account.password));
        if let (Some(account), true) = (asked, takes != Takes::AtOnce) {
            let nobodys = || Secret::new(rand::random::<[u8; 16]>());
            let asked = std::mem::replace(&mut account.password, before.unwrap_or_else(nobodys));
            if let Takes::After(requests) = takes {
                state.later = Some((id, asked, requests));
            }
        }
        state.version += 1;
        Some(changed)
    }

    /// Never held across an await.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
