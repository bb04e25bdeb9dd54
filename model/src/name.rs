/// Collections of the API: the first word of a resource name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Collection {
    Sites,
    Racks,
    Nodes,
    Ports,
    Flavors,
    Images,
    Instances,
    Operations,
    /// Machines that nobody described yet.
    Discovered,
}

impl Collection {
    pub fn as_str(self) -> &'static str {
        match self {
            Collection::Sites => "sites",
            Collection::Racks => "racks",
            Collection::Nodes => "nodes",
            Collection::Ports => "ports",
            Collection::Flavors => "flavors",
            Collection::Images => "images",
            Collection::Instances => "instances",
            Collection::Operations => "operations",
            Collection::Discovered => "discovered",
        }
    }

    /// The resource name of `id` in this collection.
    pub fn name(self, id: &str) -> String {
        format!("{}/{id}", self.as_str())
    }

    /// As people type it in filters, `n1` or whole, as a whole name; nothing stays nothing.
    pub fn whole(self, typed: String) -> String {
        if typed.is_empty() || typed.contains('/') { typed } else { self.name(&typed) }
    }
}

/// A string that is not the name of such a resource.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected {collection}/<id> with an id of 1 to 63 of a-z, 0-9 and '-', not starting or ending with '-'; saw {seen:?}"
)]
pub struct NameError {
    pub collection: &'static str,
    pub seen: String,
}

/// The id in `nodes/<id>`.
pub fn parse_name(collection: Collection, name: &str) -> Result<&str, NameError> {
    name.strip_prefix(collection.as_str())
        .and_then(|rest| rest.strip_prefix('/'))
        .filter(|id| is_label(id))
        .ok_or_else(|| NameError { collection: collection.as_str(), seen: name.chars().take(100).collect() })
}

/// RFC 1123 label: what a host name may be.
pub fn is_label(text: &str) -> bool {
    let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(ok) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        assert_eq!(parse_name(Collection::Nodes, &Collection::Nodes.name("n-1")), Ok("n-1"));
    }

    #[test]
    fn foreign_collections_and_paths_are_refused() {
        for bad in
            ["", "n1", "nodes/", "nodes/a/b", "racks/n1", "nodes/-a", "nodes/A", "nodes/../x", "nodesn1"]
        {
            assert!(parse_name(Collection::Nodes, bad).is_err(), "{bad}");
        }
    }
}
