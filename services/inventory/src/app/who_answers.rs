//! Whether who answers at a node's BMC address is who answered there first: pure. A difference is told, never corrected:
//! a board was swapped, or a cable, or an address leads elsewhere.

use super::observe::Happened;
use super::same_machine::{is_serial, is_uuid};
use farrier_proto::inventory::{MachineIdentity, Node, Observation};

/// Writes down who answered, and says what of it is news.
pub(super) fn judge(node: &Node, now: &mut Observation, seen: Option<&MachineIdentity>) -> Option<Happened> {
    let said = seen?;
    let seen = known(node, said);
    // The node's BMC had another address when the rack was told where to look.
    if !said.address.is_empty() && said.address != seen.address {
        return None;
    }
    if seen.uuid.is_empty() && seen.serial_number.is_empty() {
        return None;
    }
    let Some(first) = now.machine.clone().filter(|first| first.address == seen.address) else {
        // Nobody yet, or the node's BMC is another one by now.
        (now.machine, now.other_machine) = (Some(seen), None);
        return None;
    };
    // The other driver need not say the same of the same machine: what it says itself is compared from now on.
    if first.driver != seen.driver {
        now.machine = Some(seen.clone());
        let detail = format!(
            "the driver is {} now and was {}, and need not say the same of the same machine",
            seen.driver, first.driver
        );
        return now.other_machine.take().map(|other| happened("machine accepted", &other, &seen, detail));
    }
    if agrees(&first, &seen) {
        let was_other = now.other_machine.take();
        now.machine = Some(filled(first, &seen));
        return was_other.map(|other| happened("same machine", &other, &seen, String::new()));
    }
    if inspected(node, &seen) {
        now.other_machine = None;
        now.machine = Some(seen.clone());
        return Some(happened("machine accepted", &first, &seen, "an inspection saw it".to_owned()));
    }
    if now.other_machine.as_ref().is_some_and(|other| agrees(other, &seen)) {
        return None;
    }
    now.other_machine = Some(seen.clone());
    let detail = format!(
        "expected who answered first at {}; a board was swapped, or a cable or an address leads elsewhere: look at it \
         before anything is written to its disks; an inspection that sees the new machine accepts it, and so does \
         another BMC address",
        seen.address
    );
    Some(happened("another machine", &first, &seen, detail))
}

/// For people.
pub(super) fn told(machine: &MachineIdentity) -> String {
    let words = [("uuid", &machine.uuid), ("serial", &machine.serial_number)];
    let words =
        words.iter().filter(|(_, word)| !word.is_empty()).map(|(name, word)| format!("{name} {word}"));
    words.collect::<Vec<_>>().join(", ")
}

/// What tells one machine from another: what a thousand boards say that were never told who they are does not.
fn known(node: &Node, seen: &MachineIdentity) -> MachineIdentity {
    let uuid = seen.uuid.trim().to_ascii_lowercase();
    let serial = seen.serial_number.trim();
    let serial_number =
        if is_serial(&serial.to_ascii_lowercase()) { serial.to_owned() } else { String::new() };
    let bmc = node.bmc.clone().unwrap_or_default();
    let address = if bmc.system.is_empty() { bmc.address } else { format!("{} {}", bmc.address, bmc.system) };
    MachineIdentity {
        uuid: if is_uuid(&uuid) { uuid } else { String::new() },
        serial_number,
        driver: seen.driver.clone(),
        address,
    }
}

/// What both say is the same.
fn agrees(one: &MachineIdentity, other: &MachineIdentity) -> bool {
    let same = |one: &str, other: &str| one.is_empty() || other.is_empty() || one == other;
    same(&one.uuid, &other.uuid) && same(&one.serial_number, &other.serial_number)
}

/// With what it said earlier and does not say now.
fn filled(first: MachineIdentity, seen: &MachineIdentity) -> MachineIdentity {
    let or = |one: String, other: &String| if one.is_empty() { other.clone() } else { one };
    MachineIdentity {
        uuid: or(first.uuid, &seen.uuid),
        serial_number: or(first.serial_number, &seen.serial_number),
        ..first
    }
}

/// Whether the node's last inspection was of this machine. Which bytes of a UUID come first is told in three ways
/// (RFC 4122, SMBIOS 2.6, IPMI 2.0 §20.8).
fn inspected(node: &Node, seen: &MachineIdentity) -> bool {
    let inspected = node.hardware.as_ref().and_then(|hardware| hardware.system.as_ref());
    let uuid = inspected.and_then(|system| bytes(&system.uuid));
    let (Some(inspected), Some(seen)) = (uuid, bytes(&seen.uuid)) else { return false };
    let [a, b, c, d, e, f, g, h, rest @ ..] = inspected;
    let mut smbios = [d, c, b, a, f, e, h, g, 0, 0, 0, 0, 0, 0, 0, 0];
    smbios.iter_mut().skip(8).zip(rest).for_each(|(to, from)| *to = from);
    let reversed = |mut uuid: [u8; 16]| {
        uuid.reverse();
        uuid
    };
    [inspected, smbios, reversed(inspected), reversed(smbios)].contains(&seen)
}

fn bytes(uuid: &str) -> Option<[u8; 16]> {
    let uuid = uuid.trim().to_ascii_lowercase();
    let digits: String = uuid.chars().filter(|c| *c != '-').collect();
    (is_uuid(&uuid)).then(|| u128::from_str_radix(&digits, 16).ok()).flatten().map(u128::to_be_bytes)
}

fn happened(
    action: &'static str,
    before: &MachineIdentity,
    after: &MachineIdentity,
    detail: String,
) -> Happened {
    Happened { action, before: told(before), after: told(after), detail }
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_proto::inventory::Bmc;
    use farrier_proto::types::{Hardware, System};

    const FIRST: &str = "00112233-4455-6677-8899-aabbccddeeff";
    const OTHER: &str = "10112233-4455-6677-8899-aabbccddeeff";

    fn node(address: &str) -> Node {
        Node { bmc: Some(Bmc { address: address.into(), ..Bmc::default() }), ..Node::default() }
    }

    fn machine(uuid: &str, serial: &str) -> MachineIdentity {
        let (uuid, serial_number) = (uuid.to_owned(), serial.to_owned());
        MachineIdentity { uuid, serial_number, driver: "ipmi".into(), address: String::new() }
    }

    fn actions(node: &Node, now: &mut Observation, seen: &[MachineIdentity]) -> Vec<&'static str> {
        seen.iter().filter_map(|seen| judge(node, now, Some(seen)).map(|told| told.action)).collect()
    }

    #[test]
    fn another_machine_is_told_once_and_so_is_the_first_when_it_is_back() {
        let mut now = Observation::default();
        let node = node("10.0.0.9");
        let (first, other) = (machine(FIRST, ""), machine(OTHER, ""));
        let seen = [first.clone(), first.clone(), other.clone(), other, first.clone()];
        assert_eq!(actions(&node, &mut now, &seen), ["another machine", "same machine"]);
        assert_eq!((now.machine.unwrap().uuid.as_str(), now.other_machine), (FIRST, None));
    }

    #[test]
    fn what_is_not_said_or_said_by_all_or_by_another_driver_is_no_difference() {
        let mut now = Observation::default();
        let redfish = MachineIdentity { driver: "redfish".into(), ..machine(OTHER, "B2") };
        let none = machine("00000000-0000-0000-0000-000000000000", "To be filled by O.E.M.");
        let seen = [machine(FIRST, ""), none, redfish, machine("", "A17"), machine(FIRST, "A17")];
        assert_eq!(actions(&node("h"), &mut now, &seen), [""; 0]);
        // The serial number was learnt meanwhile.
        assert_eq!(actions(&node("h"), &mut now, &[machine("", "A18")]), ["another machine"]);
        assert_eq!(judge(&node("h"), &mut now, None), None);
    }

    #[test]
    fn another_driver_is_compared_with_what_it_says_itself() {
        let mut now = Observation::default();
        let redfish = |uuid: &str| MachineIdentity { driver: "redfish".into(), ..machine(uuid, "") };
        let seen = [machine(FIRST, ""), redfish(OTHER), redfish(OTHER)];
        assert_eq!(actions(&node("h"), &mut now, &seen), [""; 0]);
        assert_eq!(now.machine, Some(MachineIdentity { address: "h".into(), ..redfish(OTHER) }));
        assert_eq!(actions(&node("h"), &mut now, &[redfish(FIRST)]), ["another machine"]);
        // What was told of the one driver's words does not stay for ever.
        assert_eq!(actions(&node("h"), &mut now, &[machine(FIRST, "")]), ["machine accepted"]);
        assert_eq!(now.other_machine, None);
        assert_eq!(actions(&node("h"), &mut now, &[machine(OTHER, "")]), ["another machine"]);
    }

    #[test]
    fn what_was_read_at_another_address_is_nobody_who_answers_here() {
        let mut now = Observation::default();
        let at = |address: &str, uuid: &str| MachineIdentity { address: address.into(), ..machine(uuid, "") };
        assert_eq!(actions(&node("h2"), &mut now, &[at("h", OTHER)]), [""; 0]);
        assert_eq!(now, Observation::default());
        assert_eq!(actions(&node("h2"), &mut now, &[at("h2", FIRST), at("h", OTHER)]), [""; 0]);
        assert_eq!(now.machine, Some(at("h2", FIRST)));
        let bmc = Some(Bmc { address: "h2".into(), system: "2".into(), ..Bmc::default() });
        let blade = Node { bmc, ..Node::default() };
        assert_eq!(actions(&blade, &mut now, &[at("h2", OTHER), at("h2 2", OTHER)]), [""; 0]);
        assert_eq!(now.machine, Some(at("h2 2", OTHER)));
    }

    #[test]
    fn another_address_and_an_inspection_make_it_the_one() {
        let mut now = Observation::default();
        assert_eq!(actions(&node("h"), &mut now, &[machine(FIRST, "")]), [""; 0]);
        assert_eq!(actions(&node("h2"), &mut now, &[machine(OTHER, "")]), [""; 0]);
        assert_eq!(now.machine.as_ref().unwrap().address, "h2");
        let reversed = "ffeeddcc-bbaa-9988-7766-554433221100";
        let smbios = "33221100-5544-7766-8899-aabbccddeeff";
        for seen in [FIRST, reversed, smbios] {
            let mut now = now.clone();
            assert_eq!(actions(&node("h2"), &mut now, &[machine(seen, "")]), ["another machine"]);
            let system = Some(System { uuid: FIRST.to_uppercase(), ..System::default() });
            let inspected = Node { hardware: Some(Hardware { system, ..Hardware::default() }), ..node("h2") };
            assert_eq!(actions(&inspected, &mut now, &[machine(seen, "")]), ["machine accepted"], "{seen}");
            assert_eq!((now.machine.unwrap().uuid.as_str(), now.other_machine), (seen, None));
        }
    }
}
