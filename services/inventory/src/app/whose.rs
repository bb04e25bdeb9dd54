//! Whether a machine that boots as nobody's is some node's after all, with another network card, or says two things that do not
//! go together: pure.

use super::same_machine::agree;
use farrier_inventory_store::{KnownNode, MachineKeys};

/// Whose machine it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Whose {
    Nobodys,
    /// This node's, perhaps with another network card.
    Of(String),
    /// Nobody can say without looking: these nodes are told, and nothing is made of it.
    Unclear {
        nodes: Vec<String>,
        why: String,
    },
}

/// `nodes`: all that share an interface (`by_port`), the UUID or the serial number with it.
pub(super) fn whose(nodes: &[KnownNode], by_port: &[String], its: &MachineKeys) -> Whose {
    let shares_port = |node: &KnownNode| by_port.contains(&node.name);
    let (first, others) = match nodes {
        [] => return Whose::Nobodys,
        [first, others @ ..] => (first, others),
    };
    if !others.is_empty() {
        let claims: Vec<String> = nodes.iter().map(|node| claim(node, shares_port(node), its)).collect();
        let nodes = nodes.iter().map(|node| node.name.clone()).collect();
        let why = format!("expected one node that it is, saw several: {}", claims.join("; "));
        return Whose::Unclear { nodes, why };
    }
    let port = shares_port(first);
    let (uuid, serial) = (agree(&its.uuid, &first.system.uuid), agree(&its.serial, &first.system.serial));
    let same = match (uuid, serial) {
        (Some(true), Some(true)) => true,
        // A board that was changed, or a placeholder that we do not know and a whole batch has: its interfaces say which.
        (Some(true), Some(false) | None) | (Some(false) | None, Some(true)) | (None, None) => port,
        // A network card that moved.
        (Some(false), Some(false) | None) | (None, Some(false)) => false,
    };
    if same {
        return Whose::Of(first.name.clone());
    }
    let said = |key: &Option<String>| key.clone().unwrap_or_else(|| "none".to_owned());
    let why = format!(
        "{}, but that node's machine has UUID {} and serial number {}, this one {} and {}",
        claim(first, port, its),
        said(&first.system.uuid),
        said(&first.system.serial),
        said(&its.uuid),
        said(&its.serial),
    );
    Whose::Unclear { nodes: vec![first.name.clone()], why }
}

/// What of it is the node's.
fn claim(node: &KnownNode, port: bool, its: &MachineKeys) -> String {
    let shared = [
        port.then_some("an interface"),
        (agree(&its.uuid, &node.system.uuid) == Some(true)).then_some("its system UUID"),
        (agree(&its.serial, &node.system.serial) == Some(true)).then_some("its serial number"),
    ];
    let shared: Vec<_> = shared.into_iter().flatten().collect();
    format!("{} is {}'s", shared.join(" and "), node.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_inventory_store::SystemKeys;

    fn keys(uuid: &str, serial: &str) -> MachineKeys {
        let said = |text: &str| Some(text.to_owned()).filter(|t| !t.is_empty());
        MachineKeys { uuid: said(uuid), serial: said(serial), macs: Vec::new() }
    }

    fn node(name: &str, uuid: &str, serial: &str) -> KnownNode {
        let MachineKeys { uuid, serial, .. } = keys(uuid, serial);
        let system = SystemKeys { uuid, serial, bmc: None };
        KnownNode { name: name.into(), rack: "racks/r1".into(), system }
    }

    #[test]
    fn one_node_is_known_by_what_its_machine_says_and_a_card_alone_proves_little() {
        for (what, known, port, its, is_its) in [
            ("as it was", ("u", "s"), true, ("u", "s"), true),
            ("another network card", ("u", "s"), false, ("u", "s"), true),
            ("another card, and it says no serial", ("u", "s"), false, ("u", ""), false),
            ("another card, and it says no UUID", ("u", "s"), false, ("", "s"), false),
            ("its own card, and it says no serial", ("u", "s"), true, ("u", ""), true),
            ("another board", ("u", "s"), true, ("v", "s"), true),
            ("another board and other cards", ("u", "s"), false, ("v", "s"), false),
            ("never inspected", ("", ""), true, ("u", "s"), true),
            ("it says nothing of itself", ("u", "s"), true, ("", ""), true),
            ("a card that moved into another machine", ("u", "s"), true, ("v", "t"), false),
            ("a card that moved, and it says no serial", ("u", "s"), true, ("v", ""), false),
        ] {
            let by_port: Vec<String> = port.then(|| "nodes/a".to_owned()).into_iter().collect();
            let said = whose(&[node("nodes/a", known.0, known.1)], &by_port, &keys(its.0, its.1));
            match (&said, is_its) {
                (Whose::Of(node), true) => assert_eq!(node, "nodes/a", "{what}"),
                (Whose::Unclear { nodes, .. }, false) => assert_eq!(nodes, &["nodes/a"], "{what}"),
                _ => panic!("{what}: {said:?}"),
            }
        }
        assert_eq!(whose(&[], &[], &keys("u", "s")), Whose::Nobodys);
    }

    #[test]
    fn two_nodes_that_it_may_be_are_both_named() {
        let nodes = [node("nodes/a", "u", "s"), node("nodes/b", "v", "t")];
        let Whose::Unclear { nodes, why } = whose(&nodes, &["nodes/a".to_owned()], &keys("v", "t")) else {
            panic!("merged silently")
        };
        assert_eq!(nodes, ["nodes/a", "nodes/b"]);
        assert!(why.contains("an interface is nodes/a's"), "{why}");
        assert!(why.contains("its system UUID and its serial number is nodes/b's"), "{why}");
    }
}
