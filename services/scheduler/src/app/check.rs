//! What an instance may ask for.

use farrier_model::{Collection, is_label, parse_name};
use farrier_proto::rack::ReadyGate;
use farrier_proto::scheduler::Instance;
use farrier_proto::types::DeployMethod;
use farrier_runtime::error::invalid;
use tonic::Status;

/// cloud-init takes more, but a config drive is small and a database row should be.
const MAX_USER_DATA: usize = 64 * 1024;
const MAX_KEYS: usize = 32;
const MAX_KEY: usize = 16 * 1024;
/// A day: longer waits are a mistake in units.
const MAX_READY_SECONDS: i32 = 86_400;

/// Checks every field that a caller may set and fills the defaults in.
pub(super) fn instance(mut instance: Instance) -> Result<Instance, Status> {
    let id = parse_name(Collection::Instances, &instance.name)
        .map_err(|e| invalid("instance.name", e))?
        .to_owned();
    parse_name(Collection::Flavors, &instance.flavor).map_err(|e| invalid("instance.flavor", e))?;
    parse_name(Collection::Images, &instance.image).map_err(|e| invalid("instance.image", e))?;
    for (field, collection, name) in [
        ("instance.site", Collection::Sites, &instance.site),
        ("instance.rack", Collection::Racks, &instance.rack),
        ("instance.node", Collection::Nodes, &instance.node),
    ] {
        if !name.is_empty() {
            parse_name(collection, name).map_err(|e| invalid(field, e))?;
        }
    }
    if instance.hostname.is_empty() {
        instance.hostname = id;
    }
    if !is_label(&instance.hostname) {
        return Err(invalid(
            "instance.hostname",
            format!("expected an RFC 1123 label (a-z, 0-9, '-', at most 63), saw {:?}", instance.hostname),
        ));
    }
    if !instance.network.is_empty() && !is_label(&instance.network) {
        return Err(invalid("instance.network", "expected the name of a segment of the rack"));
    }
    if instance.user_data.len() > MAX_USER_DATA {
        return Err(invalid(
            "instance.user_data",
            format!("expected at most {MAX_USER_DATA} bytes, saw {}", instance.user_data.len()),
        ));
    }
    if instance.ssh_keys.len() > MAX_KEYS {
        return Err(invalid("instance.ssh_keys", format!("expected at most {MAX_KEYS} keys")));
    }
    for key in &mut instance.ssh_keys {
        *key = key.trim().to_owned();
        let words = key.split(' ').filter(|w| !w.is_empty()).count();
        let plain = key.chars().all(|c| !c.is_control());
        if words < 2 || !plain || key.len() > MAX_KEY {
            return Err(invalid(
                "instance.ssh_keys",
                format!(
                    "expected one OpenSSH public key a line (type, base64, comment), saw one of {words} words and {} \
                     bytes",
                    key.len()
                ),
            ));
        }
    }
    if instance.method() == DeployMethod::Unspecified {
        instance.set_method(DeployMethod::Direct);
    }
    if instance.ready() == ReadyGate::Unspecified {
        instance.set_ready(ReadyGate::PhoneHome);
    }
    if !(0..=MAX_READY_SECONDS).contains(&instance.ready_seconds) {
        return Err(invalid("instance.ready_seconds", format!("expected 0 to {MAX_READY_SECONDS}")));
    }
    Ok(instance)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Instance {
        Instance {
            name: "instances/web".into(),
            flavor: "flavors/f".into(),
            image: "images/i".into(),
            ssh_keys: vec!["ssh-ed25519 AAAA me".into()],
            ..Instance::default()
        }
    }

    #[test]
    fn defaults_are_filled_in() {
        let checked = instance(good()).unwrap();
        assert_eq!(checked.hostname, "web");
        assert_eq!(checked.method(), DeployMethod::Direct);
        assert_eq!(checked.ready(), ReadyGate::PhoneHome);
    }

    #[test]
    fn each_mistake_names_its_field() {
        type Change = fn(&mut Instance);
        let rows: &[(&str, Change)] = &[
            ("instance.name", |i| i.name = "web".into()),
            ("instance.flavor", |i| i.flavor.clear()),
            ("instance.image", |i| i.image = "flavors/x".into()),
            ("instance.rack", |i| i.rack = "r1".into()),
            ("instance.hostname", |i| i.hostname = "a.b\nc".into()),
            ("instance.user_data", |i| i.user_data = vec![0; MAX_USER_DATA + 1]),
            ("instance.ssh_keys", |i| i.ssh_keys = vec!["ssh-ed25519 AAAA\nroot: evil".into()]),
            ("instance.ready_seconds", |i| i.ready_seconds = -1),
            ("instance.network", |i| i.network = "../x".into()),
        ];
        for (field, change) in rows {
            let mut bad = good();
            change(&mut bad);
            let status = instance(bad).unwrap_err();
            assert!(status.message().starts_with(field), "{field}: {}", status.message());
        }
    }
}
