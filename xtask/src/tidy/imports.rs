//! Who may import whom: the table of docs and design, against what cargo says.
//!
//! A new arrow is a line here, and so a line in a review.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::shell::{cargo, output};

/// Every crate, and which of ours its programs and library may use.
const TABLE: &[(&str, &[&str])] = &[
    // Pure: nothing of ours.
    ("farrier-proto", &[]),
    ("farrier-model", &[]),
    ("farrier-bootcd", &[]),
    ("farrier-ipmi", &[]),
    ("farrier-iscsi", &[]),
    ("farrier-lldp", &[]),
    ("farrier-nocloud", &[]),
    ("farrier-tftp", &[]),
    // mTLS for all of them.
    ("farrier-identity", &["farrier-model"]),
    // What services share.
    ("farrier-db", &[]),
    ("farrier-db-testing", &[]),
    ("farrier-runtime", &["farrier-proto", "farrier-identity", "farrier-model"]),
    // A service: its own store, and what services share.
    ("farrier-inventory", SERVICE),
    ("farrier-inventory-store", STORE),
    ("farrier-scheduler", SERVICE),
    ("farrier-scheduler-store", STORE),
    ("farrier-images", SERVICE),
    ("farrier-images-store", STORE),
    // rackd: its parts are siblings that never import each other.
    (
        "farrier-rackd",
        &[
            "farrier-runtime",
            "farrier-proto",
            "farrier-identity",
            "farrier-model",
            "farrier-block",
            "farrier-bootcd",
            "farrier-nocloud",
            "farrier-journal",
            "farrier-netboot",
            "farrier-bmc",
            "farrier-switch",
        ],
    ),
    ("farrier-block", &["farrier-iscsi", "farrier-model"]),
    ("farrier-journal", &["farrier-db", "farrier-proto"]),
    ("farrier-netboot", &["farrier-tftp", "farrier-model"]),
    ("farrier-bmc", &["farrier-ipmi", "farrier-model"]),
    ("farrier-switch", &["farrier-model"]),
    // It copies images over iSCSI too, hears its switches, and writes the NoCloud volume.
    (
        "farrier-agent",
        &[
            "farrier-proto",
            "farrier-identity",
            "farrier-model",
            "farrier-iscsi",
            "farrier-lldp",
            "farrier-nocloud",
        ],
    ),
    ("farrier-cli", &["farrier-proto", "farrier-identity", "farrier-model"]),
    // Test equipment. `lab` is a client of the API like any other.
    (
        "farrier-sim",
        &[
            "farrier-ipmi",
            "farrier-iscsi",
            "farrier-agent",
            "farrier-proto",
            "farrier-identity",
            "farrier-model",
        ],
    ),
    ("farrier-tests", ANYTHING),
    ("farrier-fuzz", ANYTHING),
    ("xtask", &["farrier-sim"]),
];

/// A service also uses its own store, which is checked by name.
const SERVICE: &[&str] = &["farrier-runtime", "farrier-proto", "farrier-identity", "farrier-model"];
const STORE: &[&str] = &["farrier-db", "farrier-proto", "farrier-model"];
const ANYTHING: &[&str] = &["*"];

/// Crates of others that only some of ours may name.
const GUARDED: &[(&str, &[&str])] = &[
    ("rustls", &["farrier-identity"]),
    ("tokio-rustls", &["farrier-identity"]),
    ("rcgen", &["farrier-identity"]),
    ("sea-orm", DATABASE),
    ("sea-orm-migration", DATABASE),
    ("farrier-sim", &["farrier-tests", "xtask"]),
];

const DATABASE: &[&str] = &[
    "farrier-db",
    "farrier-db-testing",
    "farrier-inventory-store",
    "farrier-scheduler-store",
    "farrier-images-store",
    "farrier-journal",
];

/// A dependency of one of our crates.
struct Arrow {
    from: String,
    to: String,
    /// Only for its tests.
    dev: bool,
}

pub(super) fn check() -> Result<Vec<String>> {
    let text = output(cargo().args(["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: Value = serde_json::from_str(&text)?;
    let (crates, arrows) = read(&metadata).context("cargo metadata has another shape than expected")?;
    Ok(complaints(&crates, &arrows))
}

fn read(metadata: &Value) -> Option<(BTreeSet<String>, Vec<Arrow>)> {
    let mut crates = BTreeSet::new();
    let mut arrows = Vec::new();
    for package in metadata.get("packages")?.as_array()? {
        let from = package.get("name")?.as_str()?;
        crates.insert(from.to_owned());
        for dependency in package.get("dependencies")?.as_array()? {
            arrows.push(Arrow {
                from: from.to_owned(),
                to: dependency.get("name")?.as_str()?.to_owned(),
                dev: dependency.get("kind")?.as_str() == Some("dev"),
            });
        }
    }
    Some((crates, arrows))
}

fn complaints(crates: &BTreeSet<String>, arrows: &[Arrow]) -> Vec<String> {
    let table: BTreeMap<&str, &[&str]> = TABLE.iter().copied().collect();
    let mut found = Vec::new();
    for name in crates.iter().filter(|name| !table.contains_key(name.as_str())) {
        found.push(format!("{name} is not in the import table (xtask/src/tidy/imports.rs)"));
    }
    for name in table.keys().filter(|name| !crates.contains(**name)) {
        found.push(format!("{name} is in the import table and not in the workspace"));
    }
    for Arrow { from, to, dev } in arrows {
        if let Some((_, allowed)) = GUARDED.iter().find(|(name, _)| name == to)
            && !allowed.contains(&from.as_str())
        {
            found.push(format!("{from} names {to}: only {} may", allowed.join(", ")));
        }
        // Tests may bring what they test against; what ships may not.
        if *dev || !crates.contains(to) {
            continue;
        }
        let Some(allowed) = table.get(from.as_str()) else { continue };
        let own_store = *allowed == SERVICE && *to == format!("{from}-store");
        if !own_store && *allowed != ANYTHING && !allowed.contains(&to.as_str()) {
            found.push(format!(
                "{from} imports {to}: the import table (xtask/src/tidy/imports.rs) has no such arrow"
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(from: &str, to: &str, dev: bool) -> Vec<String> {
        let crates = TABLE.iter().map(|(name, _)| (*name).to_owned()).collect();
        complaints(&crates, &[Arrow { from: from.into(), to: to.into(), dev }])
    }

    #[test]
    fn arrows_of_the_design_pass_and_others_do_not() {
        for (from, to, dev, good) in [
            ("farrier-inventory", "farrier-inventory-store", false, true),
            ("farrier-inventory", "farrier-scheduler-store", false, false),
            ("farrier-netboot", "farrier-bmc", false, false),
            ("farrier-ipmi", "farrier-model", false, false),
            ("farrier-cli", "rustls", false, false),
            ("farrier-cli", "farrier-sim", true, false),
            ("farrier-scheduler", "sea-orm", true, false),
            ("farrier-images", "farrier-db", true, true),
            ("farrier-tests", "farrier-rackd", false, true),
            ("farrier-cli", "tokio", false, true),
        ] {
            assert_eq!(check(from, to, dev).is_empty(), good, "{from} -> {to}");
        }
    }

    #[test]
    fn a_crate_that_nobody_placed_is_named() {
        let mut crates: BTreeSet<_> = TABLE.iter().map(|(name, _)| (*name).to_owned()).collect();
        crates.insert("farrier-new".to_owned());
        crates.remove("farrier-cli");
        assert_eq!(complaints(&crates, &[]).len(), 2);
    }
}
