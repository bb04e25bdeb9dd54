//! Commands in what a person is told: whoever wrote the sentence may not have known which node it is about.

/// The same sentence; where a command in it (`` `farrier …` ``) says `NODE`, it says this node.
#[must_use]
pub fn about_node(text: &str, node: &str) -> String {
    let node = node.strip_prefix("nodes/").unwrap_or(node);
    let part = |(at, part): (usize, &str)| {
        // Between the first and the second backtick, the third and the fourth.
        if at % 2 == 1 && part.starts_with("farrier ") {
            let words = part.split(' ').map(|word| if word == "NODE" { node } else { word });
            words.collect::<Vec<_>>().join(" ")
        } else {
            part.to_owned()
        }
    };
    text.split('`').enumerate().map(part).collect::<Vec<_>>().join("`")
}

#[cfg(test)]
mod tests {
    use super::about_node;

    #[test]
    fn a_command_names_the_node_and_nothing_else_changes() {
        for (text, told) in [
            (
                "give it with `farrier node update NODE --bmc-kg-file FILE`",
                "give it with `farrier node update n1 --bmc-kg-file FILE`",
            ),
            (
                "`farrier node explain NODE` or `farrier node list`",
                "`farrier node explain n1` or `farrier node list`",
            ),
            // A BMC's own words, and what is no command of ours.
            ("NODE BUSY; `ipmitool NODE`", "NODE BUSY; `ipmitool NODE`"),
            ("`farrier node update NODENAME`", "`farrier node update NODENAME`"),
            ("an odd ` farrier NODE", "an odd ` farrier NODE"),
            ("", ""),
        ] {
            assert_eq!(about_node(text, "nodes/n1"), told);
            assert_eq!(about_node(text, "n1"), told);
        }
    }
}
