//! User data, and the URLs of firmware: sealed from the request until the rack has them.

use super::drive::Broken;
use farrier_proto::rack::TaskSpec;
use farrier_proto::rack::task_spec::Work;
use farrier_runtime::vault::{Vault, VaultError};
use farrier_scheduler_store::OperationRow;

/// Moves what is secret out of an operation's work and seals it for that operation.
pub(crate) fn seal(vault: &Vault, row: &mut OperationRow) -> Result<(), VaultError> {
    let secret = match &mut row.work.work {
        Some(Work::Deploy(deploy)) => std::mem::take(&mut deploy.user_data),
        Some(Work::UpdateFirmware(update)) => std::mem::take(&mut update.image_url).into_bytes(),
        _ => return Ok(()),
    };
    let secret = zeroize::Zeroizing::new(secret);
    if !secret.is_empty() {
        row.sealed = Some(vault.seal(&context(&row.operation.name), &secret)?);
    }
    Ok(())
}

/// The work with what is secret, for the rack.
pub(super) fn open(vault: &Vault, row: &OperationRow) -> Result<TaskSpec, Broken> {
    let mut work = row.work.clone();
    let Some(sealed) = &row.sealed else { return Ok(work) };
    let secret = vault.open(&context(&row.operation.name), sealed)?;
    match &mut work.work {
        Some(Work::Deploy(deploy)) => deploy.user_data = secret.to_vec(),
        Some(Work::UpdateFirmware(update)) => {
            update.image_url = String::from_utf8_lossy(&secret).into_owned()
        }
        _ => {}
    }
    Ok(work)
}

pub(crate) fn context(operation: &str) -> String {
    format!("{operation}/user_data")
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_proto::rack::{Deploy, UpdateFirmware};
    use farrier_proto::scheduler::Operation;

    #[test]
    fn a_url_of_firmware_is_sealed_and_what_may_be_told_of_it_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::open_or_create(&dir.path().join("key")).unwrap();
        let update = UpdateFirmware {
            image_url: "http://h/nic.bin?token=s3cret".into(),
            image: "http://h/nic.bin".into(),
            ..UpdateFirmware::default()
        };
        let mut row = OperationRow {
            operation: Operation { name: "operations/1".into(), ..Operation::default() },
            owner: String::new(),
            work: TaskSpec { machine: None, work: Some(Work::UpdateFirmware(update)) },
            sealed: None,
            cancel: String::new(),
        };
        let given = row.work.clone();
        seal(&vault, &mut row).unwrap();
        let kept = format!("{:?}", row.work.work);
        assert!(kept.contains("http://h/nic.bin") && row.sealed.is_some() && row.work != given);
        assert!(matches!(&row.work.work, Some(Work::UpdateFirmware(kept)) if kept.image_url.is_empty()));
        assert_eq!(open(&vault, &row).unwrap(), given);
    }

    #[test]
    fn user_data_is_sealed_for_its_operation_and_comes_back_whole() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::open_or_create(&dir.path().join("key")).unwrap();
        let deploy = Deploy { user_data: b"#cloud-config".to_vec(), ..Deploy::default() };
        let mut row = OperationRow {
            operation: Operation { name: "operations/1".into(), ..Operation::default() },
            owner: String::new(),
            work: TaskSpec { machine: None, work: Some(Work::Deploy(deploy)) },
            sealed: None,
            cancel: String::new(),
        };
        let given = row.work.clone();
        seal(&vault, &mut row).unwrap();
        assert!(!format!("{row:?}").contains("cloud-config") && row.work != given);
        assert_eq!(open(&vault, &row).unwrap(), given);
        row.operation.name = "operations/2".into();
        assert!(open(&vault, &row).is_err(), "moved to another row");
    }
}
