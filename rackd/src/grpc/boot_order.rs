//! The boot order, and the keys of Secure Boot, in the words of the wire.

use farrier_bmc::{KeyDatabase, KeyReset, Order, SecureBootKeys};
use farrier_proto::rack::{
    BmcBootOption, BmcBootOrder, BmcSecureBootKeys, SecureBootDatabase, SecureBootKeyReset,
};
use farrier_runtime::error::invalid;
use tonic::Status;

pub(super) fn order(read: Order, driver: String) -> BmcBootOrder {
    let options = read.options.into_iter().map(|option| BmcBootOption {
        id: option.id,
        name: option.name,
        device_path: option.device_path,
        enabled: option.enabled,
    });
    BmcBootOrder { options: options.collect(), pending: read.pending, task: read.task, driver }
}

pub(super) fn reset(asked: SecureBootKeyReset) -> Result<KeyReset, Status> {
    match asked {
        SecureBootKeyReset::Default => Ok(KeyReset::Default),
        SecureBootKeyReset::DeleteAll => Ok(KeyReset::DeleteAll),
        SecureBootKeyReset::Unspecified => Err(invalid("reset", "expected default or delete all")),
    }
}

pub(super) fn keys(read: SecureBootKeys, driver: String) -> BmcSecureBootKeys {
    let count = |number: Option<u64>| number.map(|number| i64::try_from(number).unwrap_or(i64::MAX));
    let one = |KeyDatabase { id, certificates, signatures }| SecureBootDatabase {
        id,
        certificate_count: count(certificates),
        signature_count: count(signatures),
    };
    BmcSecureBootKeys {
        databases: read.databases.into_iter().map(one).collect(),
        mode: read.mode,
        warnings: read.warnings,
        driver,
    }
}
