//! A rotation to a second account: made by the first, proven by a login of its own, and then the first is taken away.
//!
//! Inventory has both names and passwords, sealed, until the second is proven: one that dies anywhere in here finds out by
//! asking. At no point does the BMC have neither.

use super::context::Context;
use super::power::observed;
use super::rotate_bmc_credentials::{
    RotateBmcCredentials, Rotated, kept_the_old, login, login_in_time, note_refusal,
};
use super::step::{Step as _, StepError};
use crate::bmc::Access;
use farrier_bmc::{Bmc, BmcError, Capability, Removed};
use farrier_runtime::crash;

pub(super) async fn rotate(cx: &Context<'_>, both: Access) -> Result<Rotated, StepError> {
    let (Some(next), Some(with_next)) = (both.next.clone(), both.with_next()) else {
        return Err(StepError::fatal("expected a password that the new account shall get, saw none"));
    };
    let (old_user, new_user) = (both.redfish.user.clone(), both.next_user.clone());
    let old = Access { next: None, next_user: String::new(), ..both };
    let (bmcs, node) = (&cx.rack.bmc, &cx.machine()?.name);
    // Check: the old one first. Where it is gone already this has been here before.
    let mut by_both = None;
    let made = match login(bmcs.open_with(node, old, cx.call()).await, cx).await {
        Ok((opened, _)) => {
            let bmc = opened.bmc;
            // What it can do now the new one shall: a BMC may give that one its role and nothing of IPMI, which has the console.
            by_both = is_let_in_by_ipmi(cx, &bmc).await.then(|| bmc.clone());
            match make(cx, &bmc, &new_user, &next, &with_next).await? {
                Made::Cannot(error) => return Ok(Rotated::Cannot(error)),
                made => made,
            }
        }
        Err(error) if error.is_wrong_password() => Made::Before,
        // It lets us do nothing but change that password in place, as the error advises: a second name that nothing was begun
        // of must not stay in the way of that.
        Err(error @ BmcError::PasswordChangeRequired { .. }) => {
            if cx.task.task().await.result.is_none_or(|result| !result.bmc_account_begun) {
                note_refusal(cx).await?;
            }
            return Err(error.into());
        }
        Err(error) => return Err(error.into()),
    };
    // Read back: a login as nobody else.
    let proven = match &made {
        Made::Said(_) => login_in_time(cx, node, &with_next, 3).await,
        _ => login(bmcs.open_with(node, with_next.clone(), cx.call()).await, cx).await,
    };
    let (opened, power) = match proven {
        Ok(opened) => opened,
        Err(wrong) if wrong.is_wrong_password() => {
            return Err(match made {
                Made::Perhaps(refused) => {
                    let (old, error) = *refused;
                    if !error.is_transient() {
                        keep_old(cx, &old, &new_user).await?;
                    }
                    error.into()
                }
                // Another try would make the account again, and log in as often again.
                Made::Said(old) => match keep_old(cx, &old, &new_user).await {
                    Ok(true) => kept_the_old(cx, &wrong, "the old account stays as it was: rotate again"),
                    Ok(false) => {
                        let neither = format!("it took neither the account {old_user:?} nor {new_user:?}");
                        StepError::fatal(format!("{wrong}; {neither}"))
                    }
                    Err(error) => StepError::fatal(format!("{}; {wrong}: rotate again", error.message())),
                },
                _ => {
                    let neither = format!("it took neither the account {old_user:?} nor {new_user:?}");
                    StepError::fatal(format!("{wrong}; {neither}"))
                }
            });
        }
        Err(error) => return Err(error.into()),
    };
    observed(cx, power).await?;
    if let Some(old) = by_both {
        prove_by_ipmi(cx, (&opened.bmc, &with_next), &old, &new_user).await?;
    }
    // Inventory believes in another account by this word alone.
    let proven = new_user.clone();
    cx.task.edit(|task| task.result.get_or_insert_default().bmc_account_proven = proven).await?;
    crash::point(RotateBmcCredentials.name(), "proven");
    // The second opens the BMC: nothing that becomes of the first locks anybody out.
    let told = match opened.bmc.delete_account(&old_user, cx.account_call()).await {
        Ok(Removed::Gone) => format!("account {old_user:?} is gone"),
        Ok(Removed::Disabled) => format!("the BMC keeps account {old_user:?}, disabled"),
        Err(error) if error.is_transient() => return Err(error.into()),
        Err(error) => format!("the BMC keeps account {old_user:?} as it was: {error}"),
    };
    crash::point(RotateBmcCredentials.name(), "removed");
    let driver = opened.bmc.driver_of(Capability::Accounts).unwrap_or(opened.bmc.driver());
    cx.note(format!("driver {driver}, opened by the new account {new_user:?}; {told}")).await?;
    Ok(Rotated::Yes)
}

/// Whether the account is let in over IPMI, beside Redfish.
async fn is_let_in_by_ipmi(cx: &Context<'_>, bmc: &Bmc) -> bool {
    match bmc.by_ipmi() {
        Some(ipmi) => ipmi.power_status(cx.call()).await.is_ok(),
        None => false,
    }
}

/// The new account is let in over IPMI, as the old one is; one that is not is taken away again.
async fn prove_by_ipmi(
    cx: &Context<'_>,
    (new, with_next): (&Bmc, &Access),
    old: &Bmc,
    new_user: &str,
) -> Result<(), StepError> {
    let Some(ipmi) = new.by_ipmi() else {
        let gone = "the old account was let in over IPMI, which does not answer now: expected it to prove the new one";
        return Err(StepError::Again(gone.to_owned()));
    };
    let mut proven = ipmi.power_status(cx.call()).await;
    if proven.as_ref().is_err_and(|error| !error.is_transient()) {
        // It may need as long for this as for a password.
        tokio::time::sleep(cx.rack.timeouts.password).await;
        cx.rack.bmc.forgive(with_next);
        proven = ipmi.power_status(cx.call()).await;
    }
    let refused = match proven {
        Ok(_) => return Ok(()),
        Err(error) if error.is_transient() => return Err(error.into()),
        Err(error) => error,
    };
    let what = match keep_old(cx, old, new_user).await? {
        true => "the old account stays as it was",
        false => "the old account is not let in any more either: look at the BMC's accounts",
    };
    Err(StepError::fatal(format!(
        "account {new_user:?} is not let in over IPMI as the old one is: expected the same rights, saw {refused}; have the BMC give \
         new accounts rights over IPMI, or change the password in place, without another name; {what}"
    )))
}

/// How far the second account has come.
enum Made {
    /// By an earlier try, or an earlier rotation.
    Before,
    /// The BMC has just said yes; with who is let in so far.
    Said(Box<Bmc>),
    /// It was asked for; with who is still let in for sure, and what the BMC said against it.
    Perhaps(Box<(Bmc, BmcError)>),
    /// There is none of ours.
    Cannot(BmcError),
}

async fn make(
    cx: &Context<'_>,
    old: &Bmc,
    new_user: &str,
    next: &farrier_bmc::Secret,
    with_next: &Access,
) -> Result<Made, StepError> {
    let result = cx.task.task().await.result.unwrap_or_default();
    // Said by an earlier try that did not come to its end.
    if result.bmc_password_refused {
        cx.task.edit(|task| task.result.get_or_insert_default().bmc_password_refused = false).await?;
    }
    if !result.bmc_account_begun {
        match old.has_account(new_user, cx.account_call()).await {
            Ok(false) => {
                cx.task.edit(|task| task.result.get_or_insert_default().bmc_account_begun = true).await?;
            }
            // An earlier rotation has left it; or it is somebody's, whose password is not written over.
            Ok(true) => {
                let node = &cx.machine()?.name;
                let ours = login(cx.rack.bmc.open_with(node, with_next.clone(), cx.call()).await, cx).await;
                return match ours {
                    Ok(_) => Ok(Made::Before),
                    Err(error) if error.is_wrong_password() => {
                        note_refusal(cx).await?;
                        Err(StepError::fatal(format!(
                            "the BMC has an account {new_user:?} already, with another password: expected none; choose another name, or take that account away"
                        )))
                    }
                    Err(error) => Err(error.into()),
                };
            }
            Err(error) if error.changes_no_password() => {
                note_refusal(cx).await?;
                return Ok(Made::Cannot(error));
            }
            Err(error) => return Err(error.into()),
        }
    }
    let made = old.create_account(new_user, next, cx.account_call()).await;
    cx.rack.bmc.forgive(with_next);
    crash::point(RotateBmcCredentials.name(), "told");
    match made {
        Ok(()) => Ok(Made::Said(Box::new(old.clone()))),
        // What it says is not what counts: a lost answer may mean either. But nobody tries a password for nothing.
        Err(error) if error.was_not_begun() => {
            if !error.is_transient() {
                keep_old(cx, old, new_user).await?;
            }
            Err(error.into())
        }
        Err(error) => Ok(Made::Perhaps(Box::new((old.clone(), error)))),
    }
}

/// A BMC that says no, or says yes and does nothing, and takes the old account by a login of its own, keeps that one: what there
/// is of the new one is taken away, and the next rotation begins anew. Whether it takes the old one.
async fn keep_old(cx: &Context<'_>, old: &Bmc, new_user: &str) -> Result<bool, StepError> {
    match old.prove_password(cx.call()).await {
        Ok(()) => {}
        Err(error) if error.is_transient() => return Err(error.into()),
        Err(_) => return Ok(false),
    }
    if let Err(error) = old.delete_account(new_user, cx.account_call()).await {
        tracing::warn!(%error, "an account that was begun is left at the bmc");
    }
    note_refusal(cx).await?;
    Ok(true)
}
