//! What the plan would make of a discovered machine: pure.

use farrier_model::{Collection, is_label};
use farrier_proto::inventory::{
    Bmc, DiscoveredMachine, DiscoveryPlan, DiscoveryRule, ExpectedMachine, GivenAddress, ProposedNode,
};
use farrier_proto::types::{OwnBmc, System};
use std::collections::HashMap;
use std::net::Ipv4Addr;

use super::cabled::{Place, place};
use super::discovered::is_bmc_alone;
use super::pattern::{glob, mac_digits, plain, same_mac, serial, subnet};
use super::same_machine::is_said;

/// `None`: nothing in the plan is about it. The passwords are in it.
pub(super) fn propose(plan: &DiscoveryPlan, machine: &DiscoveredMachine) -> Option<ProposedNode> {
    Matcher::new(plan).propose(machine)
}

/// A plan whose expected machines are found by what they are known by: thousands are expected, and a page has many that
/// are looked for.
pub(super) struct Matcher<'a> {
    plan: &'a DiscoveryPlan,
    by_serial: HashMap<String, usize>,
    by_mac: HashMap<String, usize>,
    by_bmc: HashMap<String, usize>,
}

impl<'a> Matcher<'a> {
    pub(super) fn new(plan: &'a DiscoveryPlan) -> Self {
        let (mut by_serial, mut by_mac, mut by_bmc) = (HashMap::new(), HashMap::new(), HashMap::new());
        // The first of two that are the same is meant.
        for (index, machine) in plan.machines.iter().enumerate() {
            let (serial, mac) = (serial(&machine.serial_number), plain(&machine.mac_address));
            let bmc = plain(&machine.bmc_mac_address);
            for (map, key) in [(&mut by_serial, serial), (&mut by_mac, mac), (&mut by_bmc, bmc)] {
                if !key.is_empty() {
                    map.entry(key).or_insert(index);
                }
            }
        }
        Self { plan, by_serial, by_mac, by_bmc }
    }

    pub(super) fn propose(&self, machine: &DiscoveredMachine) -> Option<ProposedNode> {
        let rule = self.plan.rules.iter().find(|rule| matches(rule, machine));
        proposal(rule, self.expected(machine), place(&self.plan.positions, machine).as_ref(), machine)
    }

    /// Whether somebody ordered it.
    pub(super) fn is_expected(&self, machine: &DiscoveredMachine) -> bool {
        self.expected(machine).is_some()
    }

    /// By serial number first, then by any of its interfaces, then by its BMC.
    pub(super) fn expected(&self, machine: &DiscoveredMachine) -> Option<&'a ExpectedMachine> {
        let number = Some(serial(&system(machine).serial_number)).filter(|number| is_said(number));
        let by_serial = number.and_then(|number| self.by_serial.get(&number));
        let nics = machine.hardware.iter().flat_map(|hardware| &hardware.nics);
        let macs = nics.map(|nic| nic.mac_address.as_str()).chain([machine.boot_mac_address.as_str()]);
        let by_mac = || macs.filter_map(|mac| self.by_mac.get(&plain(mac))).min();
        let by_bmc = || self.by_bmc.get(&plain(&own_bmc(machine)?.mac_address));
        self.plan.machines.get(*by_serial.or_else(by_mac).or_else(by_bmc)?)
    }
}

fn proposal(
    rule: Option<&DiscoveryRule>,
    expected: Option<&ExpectedMachine>,
    place: Option<&Place>,
    machine: &DiscoveredMachine,
) -> Option<ProposedNode> {
    if rule.is_none() && expected.is_none() && place.is_none() {
        return None;
    }
    // The list comes first: it is about this machine.
    let listed = expected.map(|expected| expected.rack_unit).filter(|unit| *unit > 0);
    let here = place.filter(|place| place.rack.is_empty() || place.rack == machine.rack);
    let unit = listed.or(here.map(|place| place.unit)).unwrap_or(0);
    let named = expected.map(|expected| expected.node.clone()).filter(|node| !node.is_empty());
    let by_rule = || rule.and_then(|rule| render(&rule.node_name, machine, unit));
    let node = named.or_else(|| by_rule().map(|label| Collection::Nodes.name(&label))).unwrap_or_default();
    let (bmc, whose) = bmc(rule, expected, machine);
    let wrong_rack = expected.filter(|e| !e.rack.is_empty() && e.rack != machine.rack).map(|e| &e.rack);
    let mut missing = Vec::new();
    if machine.boot_mac_address.is_empty() {
        missing.push("only its BMC was seen: it has not booted here".to_owned());
    }
    if let Some(rack) = wrong_rack {
        missing.push(format!("it is expected in {rack}"));
    }
    if let Some(place) = place.filter(|_| here.is_none()) {
        missing.push(format!("{} is in {}, and not in {}", place.cable, place.rack, machine.rack));
    } else if let (Some(listed), Some(place)) = (listed, here)
        && place.unit != listed
    {
        let (cable, unit) = (&place.cable, place.unit);
        missing.push(format!("it is expected in unit {listed}, and {cable} is unit {unit}"));
    }
    missing.extend(expected.into_iter().flat_map(|expected| contradictions(expected, machine)));
    if node.is_empty() {
        missing.push("no name comes of its rule".to_owned());
    }
    match &bmc {
        None => missing.push("its rule says no BMC".to_owned()),
        Some(bmc) if !super::bmc::has_bmc(bmc) => {}
        Some(bmc) if bmc.address.is_empty() => missing.push("the address of its BMC is not known".to_owned()),
        Some(bmc) if bmc.password.is_empty() => missing.push("there is no password for its BMC".to_owned()),
        // Whoever boots here may say so, to be sent a password.
        Some(bmc) if whose == Word::ItsOwn && !believed(rule, &bmc.address) => missing.push(format!(
            "that its BMC is {} is its own word: name the network of BMCs in its rule (bmc_subnet), or accept it",
            bmc.address
        )),
        Some(_) => {}
    }
    let wants = rule.is_some_and(|rule| rule.automatic);
    Some(ProposedNode {
        node,
        rule: rule.map(|rule| rule.name.clone()).unwrap_or_default(),
        expected: expected.is_some(),
        // The position is of the rack where it was to be.
        rack_unit: if wrong_rack.is_some() { 0 } else { unit },
        resource_class: rule.map(|rule| rule.resource_class.clone()).unwrap_or_default(),
        bmc,
        automatic: wants && missing.is_empty(),
        missing: if wants { missing.join("; ") } else { String::new() },
        cabled_to: place.map(|place| place.cable.clone()).unwrap_or_default(),
    })
}

/// What the list says otherwise than the machine: one of two boards that were swapped, or one that says the serial number of
/// many. A person is to look which it is.
fn contradictions(expected: &ExpectedMachine, machine: &DiscoveredMachine) -> Vec<String> {
    let mut found = Vec::new();
    let nics = machine.hardware.iter().flat_map(|hardware| &hardware.nics);
    let macs = nics.map(|nic| nic.mac_address.as_str()).chain([machine.boot_mac_address.as_str()]);
    let mut macs = macs.filter(|mac| !mac.is_empty()).peekable();
    let listed = &expected.mac_address;
    if !listed.is_empty() && macs.peek().is_some() && !macs.any(|mac| same_mac(mac, listed)) {
        found.push(format!("it is expected with the interface {listed}, and has none of that address"));
    }
    let (listed, said) = (&expected.bmc_mac_address, own_bmc(machine).map(|own| own.mac_address.as_str()));
    if let Some(said) = said.filter(|said| !said.is_empty() && !listed.is_empty() && !same_mac(said, listed))
    {
        found.push(format!("it is expected with the BMC {listed}, and says that its own is {said}"));
    }
    let (listed, said) = (serial(&expected.serial_number), serial(&system(machine).serial_number));
    if is_said(&listed) && is_said(&said) && listed != said {
        found.push(format!(
            "it is expected with the serial number {}, and says {said}",
            expected.serial_number
        ));
    }
    found
}

/// Whose word the address of a BMC is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    /// The plan's, or the rack's of a BMC that the plan names.
    Ours,
    /// The machine's.
    ItsOwn,
}

/// Whether the rule has BMCs there.
fn believed(rule: Option<&DiscoveryRule>, address: &str) -> bool {
    let network = rule.and_then(|rule| subnet(&rule.bmc_subnet));
    let ip = address.parse::<Ipv4Addr>().ok();
    network.zip(ip).is_some_and(|((network, mask), ip)| ip.to_bits() & mask == network)
}

/// The address that the rack gave to the BMC with which this machine is expected, or that it says to have.
pub(super) fn bmc_address(
    plan: &DiscoveryPlan,
    machine: &DiscoveredMachine,
    given: &[GivenAddress],
) -> String {
    let expected = Matcher::new(plan).expected(machine);
    let its = own_bmc(machine).map(|own| own.mac_address.as_str()).filter(|mac| !mac.is_empty());
    let listed = expected.map(|expected| expected.bmc_mac_address.as_str()).filter(|mac| !mac.is_empty());
    // Of a machine with another BMC than the list has, the one on the list is another machine's.
    let mac = its.or(listed).unwrap_or_default();
    let has = |one: &&GivenAddress| !mac.is_empty() && same_mac(&one.mac_address, mac);
    let ip = given.iter().find(has).filter(|one| one.ip_address.parse::<Ipv4Addr>().is_ok());
    ip.map(|one| one.ip_address.clone()).unwrap_or_default()
}

fn matches(rule: &DiscoveryRule, machine: &DiscoveredMachine) -> bool {
    let system = system(machine);
    // Of a machine that has not booted yet its BMC alone is known.
    let alone = machine.bmc.as_ref().filter(|_| is_bmc_alone(machine));
    let vendor = alone.map_or(&system.manufacturer, |bmc| &bmc.maker);
    let ip = if alone.is_some() { &machine.bmc_address } else { &machine.ip_address };
    let has_prefix = || {
        let mac = mac_digits(&machine.boot_mac_address);
        mac_digits(&rule.mac_prefix).zip(mac).is_some_and(|(prefix, mac)| mac.starts_with(&prefix))
    };
    let in_subnet = || {
        let ip = ip.parse::<Ipv4Addr>();
        subnet(&rule.subnet).zip(ip.ok()).is_some_and(|((network, mask), ip)| ip.to_bits() & mask == network)
    };
    [(&rule.vendor, vendor), (&rule.model, &system.product), (&rule.serial_number, &system.serial_number)]
        .into_iter()
        .all(|(pattern, text)| pattern.is_empty() || glob(&serial(pattern), &serial(text)))
        && (rule.mac_prefix.is_empty() || has_prefix())
        && (rule.subnet.is_empty() || in_subnet())
}

fn bmc(
    rule: Option<&DiscoveryRule>,
    expected: Option<&ExpectedMachine>,
    machine: &DiscoveredMachine,
) -> (Option<Bmc>, Word) {
    let bmc = rule.and_then(|rule| rule.bmc.clone()).or_else(|| {
        // An expected machine alone says enough where either protocol will do.
        let knows = expected.is_some_and(|e| !e.bmc_user.is_empty());
        knows.then(|| Bmc { driver: "auto".to_owned(), ..Bmc::default() })
    });
    // The rack asked it what it speaks.
    let asked = || Some(Bmc { driver: expected.and(machine.bmc.as_ref())?.driver.clone(), ..Bmc::default() });
    let Some(mut bmc) = bmc.or_else(asked) else { return (None, Word::Ours) };
    let said = own_bmc(machine);
    // The rack heard of the BMC that the plan names; one that the machine says instead may be anybody's.
    let its = said.map(|own| own.mac_address.as_str()).filter(|mac| !mac.is_empty());
    let planned = expected.map(|e| e.bmc_mac_address.as_str()).filter(|mac| !mac.is_empty());
    let planned = planned.is_some_and(|mac| its.is_none_or(|its| same_mac(its, mac)));
    let heard = if planned { Word::Ours } else { Word::ItsOwn };
    let mut whose = Word::Ours;
    for (address, word) in [
        (expected.map(|e| &e.bmc_address), Word::Ours),
        (Some(&machine.bmc_address), heard),
        (said.map(|own| &own.ip_address).filter(|ip| ip.parse::<Ipv4Addr>().is_ok()), Word::ItsOwn),
    ] {
        if let Some(address) = address.filter(|address| !address.is_empty()) {
            bmc.address.clone_from(address);
            whose = word;
            break;
        }
    }
    if let Some(expected) = expected {
        if !expected.bmc_user.is_empty() {
            bmc.user.clone_from(&expected.bmc_user);
        }
        if !expected.bmc_password.is_empty() {
            bmc.password.clone_from(&expected.bmc_password);
            bmc.default_password = expected.default_password;
        }
        bmc.default_password |= expected.default_password;
    }
    (Some(bmc), whose)
}

/// As it says itself.
fn own_bmc(machine: &DiscoveredMachine) -> Option<&OwnBmc> {
    machine.hardware.as_ref()?.own_bmc.as_ref()
}

/// What stands in a name for what a machine is.
pub(super) const PLACEHOLDERS: [&str; 6] = ["{serial}", "{vendor}", "{model}", "{mac}", "{rack}", "{unit}"];

/// The first word in braces that stands for nothing: it would be in every machine's name as it is.
pub(super) fn unknown_placeholder(template: &str) -> Option<&str> {
    let begins = template.match_indices('{').map(|(begin, _)| begin);
    let words = begins.map(|begin| {
        let word = template.get(begin..).unwrap_or_default();
        word.split_inclusive('}').next().unwrap_or(word)
    });
    words.into_iter().find(|word| !PLACEHOLDERS.contains(word))
}

/// A label; `None` where nothing of one is left.
fn render(template: &str, machine: &DiscoveredMachine, unit: i32) -> Option<String> {
    let system = system(machine);
    let unit_number = unit.to_string();
    let values: [&str; PLACEHOLDERS.len()] = [
        &system.serial_number,
        &system.manufacturer,
        &system.product,
        &machine.boot_mac_address,
        machine.rack.rsplit('/').next().unwrap_or_default(),
        &unit_number,
    ];
    let mut text = template.to_owned();
    for (word, value) in PLACEHOLDERS.into_iter().zip(values) {
        // What a machine says of itself is never a template.
        let plain: String = value.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        // A name that lacks what makes it one machine's would be every machine's.
        let says_nothing = match word {
            "{serial}" => !is_said(&serial(value)),
            "{unit}" => unit == 0,
            _ => value.trim().is_empty(),
        };
        if text.contains(word) && says_nothing {
            return None;
        }
        text = text.replace(word, &plain);
    }
    let mut label = String::new();
    for c in text.to_lowercase().chars() {
        match c {
            'a'..='z' | '0'..='9' => label.push(c),
            _ if !label.ends_with('-') => label.push('-'),
            _ => {}
        }
    }
    let label = label.trim_matches('-').to_owned();
    is_label(&label).then_some(label)
}

fn system(machine: &DiscoveredMachine) -> System {
    machine.hardware.as_ref().and_then(|hardware| hardware.system.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_proto::inventory::{CabledPosition, DiscoveredBmc};
    use farrier_proto::types::{Hardware, Neighbour, Nic};

    fn with_bmc(mac_address: &str, ip_address: &str) -> DiscoveredMachine {
        let mut machine = machine();
        let own =
            OwnBmc { mac_address: mac_address.into(), ip_address: ip_address.into(), ..OwnBmc::default() };
        machine.hardware.as_mut().unwrap().own_bmc = Some(own);
        machine
    }

    #[test]
    fn a_machine_that_says_where_its_bmc_is_is_believed_in_the_network_of_bmcs_alone() {
        let propose = |rule: DiscoveryRule, machine: &DiscoveredMachine| {
            let plan = DiscoveryPlan { rules: vec![rule], ..DiscoveryPlan::default() };
            super::propose(&plan, machine).unwrap()
        };
        let said = with_bmc("52:54:00:00:00:99", "10.0.9.23");
        let waits = propose(rule(), &said);
        assert_eq!(waits.bmc.unwrap().address, "10.0.9.23");
        assert!(!waits.automatic && waits.missing.contains("10.0.9.23 is its own word"), "{}", waits.missing);
        let with_subnet = || DiscoveryRule { bmc_subnet: "10.0.9.0/24".into(), ..rule() };
        assert!(propose(with_subnet(), &said).automatic);
        assert!(!propose(with_subnet(), &with_bmc("", "10.0.8.23")).automatic);
        let none = propose(rule(), &with_bmc("52:54:00:00:00:99", "bmc.example"));
        assert!(none.bmc.unwrap().address.is_empty(), "no address of ours");
        // An address that the rack gave to a MAC address that only the machine says.
        let mut heard = with_bmc("52:54:00:00:00:99", "");
        let given =
            vec![GivenAddress { mac_address: "52:54:00:00:00:99".into(), ip_address: "10.90.0.9".into() }];
        heard.bmc_address = bmc_address(&DiscoveryPlan::default(), &heard, &given);
        assert_eq!(heard.bmc_address, "10.90.0.9");
        assert!(!propose(rule(), &heard).automatic);
    }

    #[test]
    fn who_has_an_expected_serial_number_and_another_bmc_is_sent_no_password() {
        let plan =
            DiscoveryPlan { rules: vec![rule()], machines: vec![expected()], ..DiscoveryPlan::default() };
        let mut liar = with_bmc("52:54:00:00:00:66", "");
        liar.bmc_address = "10.90.0.66".into();
        let proposal = propose(&plan, &liar).unwrap();
        assert!(proposal.expected && !proposal.automatic, "{proposal:?}");
        assert!(proposal.missing.contains("10.90.0.66 is its own word"), "{}", proposal.missing);
        let mut honest = with_bmc("52:54:00:00:00:99", "");
        honest.bmc_address = "10.90.0.9".into();
        assert!(propose(&plan, &honest).unwrap().automatic);
    }

    #[test]
    fn a_machine_that_is_otherwise_than_its_row_waits_for_a_person() {
        let propose = |row: ExpectedMachine, machine: &DiscoveredMachine| {
            let rule = DiscoveryRule { bmc_subnet: "10.0.9.0/24".into(), ..rule() };
            let plan = DiscoveryPlan { rules: vec![rule], machines: vec![row], ..DiscoveryPlan::default() };
            super::propose(&plan, machine).unwrap()
        };
        let row = || ExpectedMachine { mac_address: "52:54:00:00:00:01".into(), ..expected() };
        let machine = with_bmc("52:54:00:00:00:99", "10.0.9.23");
        assert!(propose(row(), &machine).automatic);
        for (row, machine, word) in [
            (
                ExpectedMachine { mac_address: "52:54:00:00:00:07".into(), ..row() },
                machine.clone(),
                "interface",
            ),
            (row(), with_bmc("52:54:00:00:00:66", "10.0.9.23"), "BMC"),
            (ExpectedMachine { serial_number: "XYZ789".into(), ..row() }, machine.clone(), "serial number"),
        ] {
            let waits = propose(row, &machine);
            let said = format!("it is expected with the {word}");
            assert!(waits.expected && !waits.automatic && waits.missing.contains(&said), "{}", waits.missing);
        }
    }

    #[test]
    fn what_boards_say_that_were_never_told_is_no_serial_number() {
        let mut nobody = machine();
        let filled = "To Be Filled By O.E.M.";
        nobody.hardware.as_mut().unwrap().system.as_mut().unwrap().serial_number = filled.into();
        let row = ExpectedMachine { serial_number: filled.into(), ..expected() };
        let plan = DiscoveryPlan { rules: vec![rule()], machines: vec![row], ..DiscoveryPlan::default() };
        assert!(!propose(&plan, &nobody).unwrap().expected);
        assert_eq!(render("n-{serial}", &nobody, 0), None);
        assert_eq!(render("n-{serial}", &machine(), 0).as_deref(), Some("n-abc123"));
    }

    #[test]
    fn an_expected_machine_is_known_by_its_bmc_and_its_password_is_on_that_label() {
        let row = ExpectedMachine { serial_number: String::new(), ..expected() };
        let plan = DiscoveryPlan { rules: vec![rule()], machines: vec![row], ..DiscoveryPlan::default() };
        assert!(!propose(&plan, &machine()).unwrap().expected);
        let mut machine = with_bmc("52-54-00-00-00-99", "10.0.9.23");
        let proposal = propose(&plan, &machine).unwrap();
        assert!(proposal.expected && !proposal.automatic, "{}", proposal.missing);
        assert_eq!(proposal.bmc.unwrap().password, "on-the-label");
        // The rack gave the BMC on the list its address: that is our own word.
        let given =
            vec![GivenAddress { mac_address: "52:54:00:00:00:99".into(), ip_address: "10.90.0.9".into() }];
        machine.bmc_address = bmc_address(&plan, &machine, &given);
        let proposal = propose(&plan, &machine).unwrap();
        assert!(proposal.automatic, "{}", proposal.missing);
        assert_eq!(proposal.bmc.unwrap().address, "10.90.0.9");
    }

    fn machine() -> DiscoveredMachine {
        let system = System {
            manufacturer: "Dell Inc.".into(),
            product: "PowerEdge R650".into(),
            serial_number: "ABC123".into(),
            ..System::default()
        };
        DiscoveredMachine {
            rack: "racks/r1".into(),
            boot_mac_address: "52:54:00:00:00:01".into(),
            ip_address: "10.90.0.100".into(),
            hardware: Some(Hardware { system: Some(system), ..Hardware::default() }),
            ..DiscoveredMachine::default()
        }
    }

    fn rule() -> DiscoveryRule {
        let bmc =
            Bmc { driver: "ipmi".into(), user: "root".into(), password: "calvin".into(), ..Bmc::default() };
        DiscoveryRule {
            name: "dell".into(),
            vendor: "dell*".into(),
            node_name: "{rack}-{serial}".into(),
            resource_class: "r650".into(),
            bmc: Some(bmc),
            automatic: true,
            ..DiscoveryRule::default()
        }
    }

    fn expected() -> ExpectedMachine {
        ExpectedMachine {
            serial_number: " abc123 ".into(),
            bmc_mac_address: "52:54:00:00:00:99".into(),
            bmc_password: "on-the-label".into(),
            rack_unit: 12,
            ..ExpectedMachine::default()
        }
    }

    #[test]
    fn among_thousands_the_first_that_is_meant_is_found() {
        let many = |n: u32| ExpectedMachine { serial_number: format!("S-{n}"), ..ExpectedMachine::default() };
        let mut machines: Vec<_> = (0..4000).map(many).collect();
        let mac = "52-54-00-00-00-01".to_owned();
        machines.insert(70, ExpectedMachine { mac_address: mac, rack_unit: 7, ..ExpectedMachine::default() });
        let plan = |machines| DiscoveryPlan { machines, ..DiscoveryPlan::default() };
        let by_mac = plan(machines.clone());
        assert_eq!(Matcher::new(&by_mac).expected(&machine()).unwrap().rack_unit, 7);
        machines.push(expected());
        let by_serial = plan(machines);
        assert_eq!(
            Matcher::new(&by_serial).expected(&machine()).unwrap().rack_unit,
            12,
            "its serial number first"
        );
    }

    #[test]
    fn a_bmc_whose_machine_has_not_booted_is_matched_by_what_is_known_of_it() {
        let bmc =
            DiscoveredBmc { driver: "idrac".into(), maker: "Dell iDRAC".into(), ..DiscoveredBmc::default() };
        let bmc = DiscoveredMachine {
            rack: "racks/r1".into(),
            bmc_address: "10.0.9.7".into(),
            bmc: Some(bmc),
            ..DiscoveredMachine::default()
        };
        let by = |subnet: &str| DiscoveryRule { subnet: subnet.into(), ..rule() };
        assert!(matches(&by(""), &bmc) && matches(&by("10.0.9.0/24"), &bmc));
        assert!(!matches(&by("10.90.0.0/24"), &bmc));
        assert!(!matches(&DiscoveryRule { vendor: "HPE*".into(), ..rule() }, &bmc));
        let proposed = proposal(Some(&rule()), None, None, &bmc).unwrap();
        assert!(!proposed.automatic && proposed.missing.contains("it has not booted here"), "{proposed:?}");
    }

    #[test]
    fn all_that_a_rule_says_must_match() {
        let all = DiscoveryRule {
            model: "*r650".into(),
            serial_number: "a*12*".into(),
            mac_prefix: "52:54:00".into(),
            subnet: "10.90.0.0/24".into(),
            ..rule()
        };
        assert!(matches(&all, &machine()) && matches(&DiscoveryRule::default(), &machine()));
        for other in [
            DiscoveryRule { vendor: "HPE".into(), ..all.clone() },
            DiscoveryRule { model: "PowerEdge".into(), ..all.clone() },
            DiscoveryRule { serial_number: "*9".into(), ..all.clone() },
            DiscoveryRule { mac_prefix: "52:54:01".into(), ..all.clone() },
            DiscoveryRule { mac_prefix: "525401".into(), ..all.clone() },
            DiscoveryRule { subnet: "10.91.0.0/24".into(), ..all.clone() },
        ] {
            assert!(!matches(&other, &machine()), "{other:?}");
        }
    }

    #[test]
    fn a_rule_and_an_expected_machine_make_a_whole_node() {
        let mut machine = machine();
        let plan = |rules: &[DiscoveryRule], machines: &[ExpectedMachine]| DiscoveryPlan {
            rules: rules.to_vec(),
            machines: machines.to_vec(),
            ..DiscoveryPlan::default()
        };
        assert_eq!(propose(&plan(&[], &[]), &machine), None);
        let one = propose(&plan(&[rule()], &[]), &machine).unwrap();
        assert_eq!((one.node.as_str(), one.automatic), ("nodes/r1-abc123", false));
        assert_eq!(one.missing, "the address of its BMC is not known");

        let both = plan(&[rule()], &[expected()]);
        let given =
            [GivenAddress { mac_address: "52:54:00:00:00:99".into(), ip_address: "10.90.0.230".into() }];
        machine.bmc_address = bmc_address(&both, &machine, &given);
        let whole = propose(&both, &machine).unwrap();
        let bmc = whole.bmc.unwrap();
        assert_eq!((bmc.address.as_str(), bmc.password.as_str()), ("10.90.0.230", "on-the-label"));
        assert!(whole.automatic && whole.missing.is_empty() && whole.expected);
        assert_eq!(whole.rack_unit, 12);
        // Whose password it is says whether it is a default one.
        let mut marked = both.clone();
        marked.rules[0].bmc.as_mut().unwrap().default_password = true;
        let is_default =
            |plan: &DiscoveryPlan| propose(plan, &machine).unwrap().bmc.unwrap().default_password;
        assert!(!is_default(&marked) && !is_default(&both));
        marked.machines[0].bmc_password.clear();
        assert!(is_default(&marked));
        let label = ExpectedMachine { default_password: true, ..expected() };
        assert!(is_default(&plan(&[rule()], &[label])));
        // It stands where it was not to be.
        let elsewhere = ExpectedMachine { rack: "racks/r2".into(), ..expected() };
        let wrong = propose(&plan(&[rule()], &[elsewhere]), &machine).unwrap();
        assert_eq!((wrong.automatic, wrong.rack_unit), (false, 0));
        assert!(wrong.missing.contains("racks/r2"), "{}", wrong.missing);
    }

    fn cabled(switch: &str, port: &str) -> DiscoveredMachine {
        let mut machine = machine();
        let neighbour =
            Neighbour { system_name: switch.into(), port_id: port.into(), ..Neighbour::default() };
        let other = Nic { mac_address: "52:54:00:00:00:02".into(), ..Nic::default() };
        let boot = Nic { mac_address: machine.boot_mac_address.clone(), ..Nic::default() };
        let nics = vec![Nic { neighbour: Some(neighbour), ..other }, boot];
        machine.hardware.as_mut().unwrap().nics = nics;
        machine
    }

    #[test]
    fn a_place_is_known_by_the_switch_port_that_a_machine_is_cabled_to() {
        let position = |port: &str, rack: &str, rack_unit| CabledPosition {
            switch_name: "leaf-*".into(),
            port: port.into(),
            rack: rack.into(),
            rack_unit,
        };
        let positions = vec![position("Ethernet1/{unit}", "racks/r1", 0), position("swp48", "", 42)];
        let plan = |machines: &[ExpectedMachine]| DiscoveryPlan {
            rules: vec![DiscoveryRule { node_name: "{rack}-u{unit}".into(), ..rule() }],
            machines: machines.to_vec(),
            positions: positions.clone(),
            ..DiscoveryPlan::default()
        };
        for (switch, port, unit) in [
            ("Leaf-3", "ethernet1/17", 17),
            ("leaf-3", "swp48", 42),
            ("leaf-3", "Ethernet1/0", 0),
            ("leaf-3", "Ethernet1/+7", 0),
            ("leaf-3", "Ethernet1/7/1", 0),
            ("spine-1", "Ethernet1/17", 0),
            ("", "Ethernet1/17", 0),
        ] {
            let proposal = propose(&plan(&[]), &cabled(switch, port)).unwrap();
            assert_eq!(proposal.rack_unit, unit, "{switch} {port}");
            assert_eq!(proposal.cabled_to.is_empty(), unit == 0, "{switch} {port}");
        }
        let named = propose(&plan(&[]), &cabled("leaf-3", "Ethernet1/17")).unwrap();
        assert_eq!((named.node.as_str(), named.cabled_to.as_str()), ("nodes/r1-u17", "leaf-3 Ethernet1/17"));
        // Nothing but its cable is known: that is a proposal too.
        let cable = DiscoveryPlan { positions: positions.clone(), ..DiscoveryPlan::default() };
        assert_eq!(propose(&cable, &cabled("leaf-3", "Ethernet1/17")).unwrap().rack_unit, 17);
        // The list and the cable do not say the same: nobody is believed by itself.
        let listed = propose(&plan(&[expected()]), &cabled("leaf-3", "Ethernet1/17")).unwrap();
        assert_eq!((listed.rack_unit, listed.automatic), (12, false));
        assert!(
            listed.missing.contains("in unit 12, and leaf-3 Ethernet1/17 is unit 17"),
            "{}",
            listed.missing
        );
        let mut elsewhere = plan(&[]);
        elsewhere.positions[0].rack = "racks/r2".into();
        let elsewhere = propose(&elsewhere, &cabled("leaf-3", "Ethernet1/17")).unwrap();
        assert_eq!((elsewhere.rack_unit, elsewhere.automatic), (0, false));
        assert!(elsewhere.missing.contains("is in racks/r2, and not in racks/r1"), "{}", elsewhere.missing);
    }

    #[test]
    fn a_name_is_a_label_whatever_a_machine_says() {
        let mut odd = machine();
        odd.hardware.as_mut().unwrap().system.as_mut().unwrap().serial_number = "../{mac} Ä/9".into();
        assert_eq!(render("n-{serial}", &odd, 0), Some("n-mac-9".into()));
        assert_eq!(render("n-{unit}", &odd, 0), None, "every machine would be n-0");
        assert_eq!(render("{rack}-u{unit}", &odd, 7), Some("r1-u7".into()));
        odd.hardware = None;
        assert_eq!(render("n-{serial}", &odd, 0), None);
    }
}
