//! User data: sealed from the request until the rack has it.

use super::drive::Broken;
use farrier_proto::rack::TaskSpec;
use farrier_proto::rack::task_spec::Work;
use farrier_runtime::vault::{Vault, VaultError};
use farrier_scheduler_store::OperationRow;

/// Moves the user data out of an operation's work and seals it for that operation.
pub(crate) fn seal(vault: &Vault, row: &mut OperationRow) -> Result<(), VaultError> {
    if let Some(Work::Deploy(deploy)) = &mut row.work.work
        && !deploy.user_data.is_empty()
    {
        let secret = zeroize::Zeroizing::new(std::mem::take(&mut deploy.user_data));
        row.sealed = Some(vault.seal(&context(&row.operation.name), &secret)?);
    }
    Ok(())
}

/// The work with its user data, for the rack.
pub(super) fn open(vault: &Vault, row: &OperationRow) -> Result<TaskSpec, Broken> {
    let mut work = row.work.clone();
    if let (Some(Work::Deploy(deploy)), Some(sealed)) = (&mut work.work, &row.sealed) {
        deploy.user_data = vault.open(&context(&row.operation.name), sealed)?.to_vec();
    }
    Ok(work)
}

pub(crate) fn context(operation: &str) -> String {
    format!("{operation}/user_data")
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_proto::rack::Deploy;
    use farrier_proto::scheduler::Operation;

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
