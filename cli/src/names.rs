//! Resource names as people type them: `n1` or `nodes/n1`.

use crate::failure::Failure;
use farrier_model::{Collection, MacAddress, is_label};

/// The whole name of what was typed.
pub fn full(collection: Collection, typed: &str) -> Result<String, Failure> {
    let prefix = collection.as_str();
    let id = typed.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/')).unwrap_or(typed);
    // An operation's id is a UUID, which is a label too; a port's is its MAC address, a discovered machine's too.
    let id = if matches!(collection, Collection::Ports | Collection::Discovered) {
        port_id(id)
    } else {
        id.to_owned()
    };
    if is_label(&id) {
        return Ok(collection.name(&id));
    }
    Err(Failure::usage(format!(
        "{typed:?} is no name of {prefix}: expected ID or {prefix}/ID, the ID 1 to 63 of a-z, 0-9 and '-'"
    )))
}

/// The whole name, where one was given.
pub fn full_or_empty(collection: Collection, typed: Option<&str>) -> Result<String, Failure> {
    typed.map_or_else(|| Ok(String::new()), |typed| full(collection, typed))
}

/// The id in a whole name; what is no name stays as it is.
pub fn short(name: &str) -> &str {
    name.rsplit_once('/').map_or(name, |(_, id)| id)
}

/// A MAC address in any usual spelling, as the API wants it.
pub fn mac(typed: &str) -> Result<String, Failure> {
    typed
        .replace('-', ":")
        .parse::<MacAddress>()
        .map(|mac| mac.to_string())
        .map_err(|error| Failure::usage(error.to_string()))
}

fn port_id(typed: &str) -> String {
    typed.to_ascii_lowercase().replace(':', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_whole_names_mean_the_same() {
        assert_eq!(full(Collection::Nodes, "n1").unwrap(), "nodes/n1");
        assert_eq!(full(Collection::Nodes, "nodes/n1").unwrap(), "nodes/n1");
        assert_eq!(full(Collection::Ports, "52:54:00:AA:00:01").unwrap(), "ports/52-54-00-aa-00-01");
        assert_eq!(short("nodes/n1"), "n1");
    }

    #[test]
    fn foreign_names_are_usage_errors() {
        for bad in ["racks/r1", "", "N1", "nodes/", "a/b"] {
            assert_eq!(full(Collection::Nodes, bad).unwrap_err().exit.code(), 2, "{bad}");
        }
    }

    #[test]
    fn addresses_are_spelled_the_api_way() {
        assert_eq!(mac("52-54-00-AA-00-01").unwrap(), "52:54:00:aa:00:01");
        assert!(mac("52:54").is_err());
    }
}
