use super::context::Context;
use super::power::observed;
use super::rotate_to_account;
use super::step::{Step, StepError};
use crate::bmc::Opened;
use farrier_bmc::{Bmc, BmcError, Capability, PowerState};
use farrier_runtime::crash;

/// The BMC's account gets its next password, and is opened with it. Inventory has both, sealed, until this is done: one that
/// dies anywhere in here, or is not told what the BMC made of it, finds out by asking.
pub(super) struct RotateBmcCredentials;

#[async_trait::async_trait]
impl Step for RotateBmcCredentials {
    fn name(&self) -> &'static str {
        "rotate_bmc_credentials"
    }
    fn power_off_after_failure(&self) -> bool {
        false
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        match rotate(cx).await? {
            Rotated::Yes => Ok(()),
            Rotated::Cannot(error) => Err(error.into()),
        }
    }
}

/// What came of it.
pub(super) enum Rotated {
    Yes,
    /// The BMC has no way to change this account's password: it keeps it.
    Cannot(BmcError),
}

pub(super) async fn rotate(cx: &Context<'_>) -> Result<Rotated, StepError> {
    let both = cx.access().await?;
    if both.next.is_some() && !both.next_user.is_empty() {
        return rotate_to_account::rotate(cx, both).await;
    }
    let (Some(next), Some(with_next)) = (both.next.clone(), both.with_next()) else {
        return Err(StepError::fatal("expected a password that the BMC shall get, saw none"));
    };
    let old = crate::bmc::Access { next: None, ..both };
    let bmcs = &cx.rack.bmc;
    let node = &cx.machine()?.name;
    // Said by an earlier try that did not come to its end.
    if cx.task.task().await.result.is_some_and(|result| result.bmc_password_refused) {
        cx.task.edit(|task| task.result.get_or_insert_default().bmc_password_refused = false).await?;
    }
    // Check: the old one first, since a wrong password may count against the account.
    let mut refused = None;
    match lets_in(bmcs.open_with(node, old, cx.call()).await, cx).await {
        Ok(opened) => {
            let set = opened.bmc.set_password(&next, cx.call()).await;
            bmcs.forgive(&with_next);
            crash::point(RotateBmcCredentials.name(), "told");
            match set {
                // The old one is still the right one: another login would only count against the account.
                Err(error) if error.was_not_begun() => {
                    // Another try would come to the same: the new one is nobody's.
                    if error.changes_no_password() {
                        note_refusal(cx).await?;
                        return Ok(Rotated::Cannot(error));
                    }
                    return Err(error.into());
                }
                // What it says is not what counts: a lost answer may mean either.
                Err(error) => refused = Some((opened, error)),
                Ok(()) => {}
            }
        }
        Err(error) if error.is_wrong_password() => {}
        Err(error) => return Err(error.into()),
    }
    // Read back: a handle with the new password has a session of its own.
    match login(bmcs.open_with(node, with_next, cx.call()).await, cx).await {
        Ok((opened, power)) => {
            observed(cx, power).await?;
            let driver = opened.bmc.driver_of(Capability::Accounts).unwrap_or(opened.bmc.driver());
            cx.note(format!("driver {driver}, opened with the new password")).await?;
            Ok(Rotated::Yes)
        }
        Err(wrong) if wrong.is_wrong_password() => Err(match refused {
            Some((old, error)) => {
                settle_refusal(cx, &old.bmc, &error).await?;
                error.into()
            }
            None => StepError::fatal(format!("{wrong}; it took neither the old password nor the new one")),
        }),
        Err(error) => Err(error.into()),
    }
}

/// A BMC that says no, does not take the new password, and takes the old one by a login of its own keeps the old one: the
/// new one is nobody's, and the next rotation makes another.
async fn settle_refusal(cx: &Context<'_>, old: &Bmc, refused: &BmcError) -> Result<(), StepError> {
    if !refused.is_transient() && old.prove_password(cx.call()).await.is_ok() {
        note_refusal(cx).await?;
    }
    Ok(())
}

/// The new password is nobody's.
pub(super) async fn note_refusal(cx: &Context<'_>) -> Result<(), StepError> {
    Ok(cx.task.edit(|task| task.result.get_or_insert_default().bmc_password_refused = true).await?)
}

/// As [`login`], also where the BMC lets us in for nothing but the change itself (DSP0266, "password change required").
async fn lets_in(opened: Result<Opened, BmcError>, cx: &Context<'_>) -> Result<Opened, BmcError> {
    let opened = opened?;
    match opened.bmc.power_status(cx.call()).await {
        Ok(_) | Err(BmcError::PasswordChangeRequired { .. }) => Ok(opened),
        Err(error) => Err(error),
    }
}

/// Proves that the BMC lets us in.
pub(super) async fn login(
    opened: Result<Opened, BmcError>,
    cx: &Context<'_>,
) -> Result<(Opened, PowerState), BmcError> {
    let opened = opened?;
    let power = opened.bmc.power_status(cx.call()).await?;
    Ok((opened, power))
}
