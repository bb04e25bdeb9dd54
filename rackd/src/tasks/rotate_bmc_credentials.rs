use super::context::Context;
use super::power::observed;
use super::rotate_to_account;
use super::step::{Step, StepError};
use crate::bmc::{Access, Opened};
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
    let with_next = both.with_next();
    let rotated = rotate_with(cx, both).await?;
    if let (Rotated::Yes, Some(access)) = (&rotated, with_next) {
        // Who is at its console has come by the old one.
        let node = &cx.task.node;
        cx.rack.consoles.renew(node.strip_prefix("nodes/").unwrap_or(node), access);
    }
    Ok(rotated)
}

async fn rotate_with(cx: &Context<'_>, both: Access) -> Result<Rotated, StepError> {
    if both.next.is_some() && !both.next_user.is_empty() {
        return rotate_to_account::rotate(cx, both).await;
    }
    let (Some(next), Some(with_next)) = (both.next.clone(), both.with_next()) else {
        return Err(StepError::fatal("expected a password that the BMC shall get, saw none"));
    };
    let old = Access { next: None, ..both };
    let bmcs = &cx.rack.bmc;
    let node = &cx.machine()?.name;
    // Said by an earlier try that did not come to its end.
    if cx.task.task().await.result.is_some_and(|result| result.bmc_password_refused) {
        cx.task.edit(|task| task.result.get_or_insert_default().bmc_password_refused = false).await?;
    }
    // Check: the old one first, since a wrong password may count against the account.
    let (mut refused, mut said_yes) = (None, None);
    match lets_in(bmcs.open_with(node, old, cx.call()).await, cx).await {
        Ok(opened) => {
            let set = opened.bmc.set_password(&next, cx.account_call()).await;
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
                Ok(()) => said_yes = Some(opened),
            }
        }
        Err(error) if error.is_wrong_password() => {}
        Err(error) => return Err(error.into()),
    }
    // Read back: a handle with the new password has a session of its own.
    let mut proven = match &said_yes {
        // The third is for afterwards.
        Some(_) => login_in_time(cx, node, &with_next, 2).await,
        None => login(bmcs.open_with(node, with_next.clone(), cx.call()).await, cx).await,
    };
    if let (Err(wrong), Some(old)) = (&proven, &said_yes)
        && wrong.is_wrong_password()
    {
        match old.bmc.prove_password(cx.call()).await {
            // Perhaps it takes the new one at its next restart: nobody would know that one, were it forgotten now.
            Ok(()) => {
                let then = "both passwords are kept: rotate again, which tries the same one; or say which it has, with \
                            `--bmc-password-file`, which ends the rotation";
                return Err(kept_the_old(cx, wrong, then));
            }
            // It is taken after all, or nobody's is right.
            Err(error) if error.is_wrong_password() => {
                proven = login(bmcs.open_with(node, with_next, cx.call()).await, cx).await;
            }
            // Another try would set the password again, and log in as often again.
            Err(error) => return Err(StepError::fatal(format!("{error}; {wrong}: rotate again"))),
        }
    }
    match proven {
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

/// As [`login`], with a password that the BMC has just said yes to: it may need some seconds for it. Each log-in that it refuses
/// may count against the account, so there are `tries` in all that time, three at most.
pub(super) async fn login_in_time(
    cx: &Context<'_>,
    node: &str,
    with_next: &Access,
    tries: usize,
) -> Result<(Opened, PowerState), BmcError> {
    let bmcs = &cx.rack.bmc;
    let log_in = async || login(bmcs.open_with(node, with_next.clone(), cx.call()).await, cx).await;
    let mut proven = log_in().await;
    for (part, tried) in PAUSES.into_iter().zip(1..) {
        match &proven {
            Err(error) if error.is_wrong_password() => {}
            _ => return proven,
        }
        tokio::time::sleep(cx.rack.timeouts.password.mul_f64(part)).await;
        // It was wrong a moment ago; that it still is nobody knows.
        bmcs.forgive(with_next);
        if tried < tries {
            proven = log_in().await;
        }
    }
    proven
}

/// Parts of the time that a BMC has for a password, behind one log-in each: one that is quick is not waited for.
const PAUSES: [f64; 2] = [0.2, 0.8];

/// The BMC said yes and did nothing, so far.
pub(super) fn kept_the_old(cx: &Context<'_>, wrong: &BmcError, then: &str) -> StepError {
    StepError::fatal(format!(
        "the BMC said yes to the new password, and {}s later it takes the old one and not the new: expected the new one to open \
         it, saw {wrong}; look into the BMC's rules for passwords and its log; {then}",
        cx.rack.timeouts.password.as_secs()
    ))
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
