//! `farrier discovered plan …`: rules as a YAML file, expected machines there or as CSV, as a vendor sends them.

use super::Session;
use crate::call;
use crate::csv::{Record, records};
use crate::failure::Failure;
use crate::names::{full_or_empty, mac, short};
use clap::Subcommand;
use farrier_model::Collection::{self, Nodes, Racks};
use farrier_proto::inventory::discovered_service_client::DiscoveredServiceClient;
use farrier_proto::inventory::{
    Bmc, CabledPosition, DiscoveryPlan, DiscoveryRule, ExpectedMachine, GetDiscoveryPlanRequest,
    ReplaceDiscoveryPlanRequest,
};
use serde::Deserialize;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Shows the plan, without its passwords.
    Show,
    /// Writes the plan anew. A password that the file leaves out stays as it is.
    Apply {
        /// YAML with `rules`, `machines` and `positions`; `-`: standard input.
        file: PathBuf,
        /// CSV (RFC 4180) with expected machines, beside those of the file. Its first line names the columns: serial_number,
        /// mac_address, bmc_mac_address, bmc_address, bmc_user, bmc_password, default_password (true: `manage`
        /// replaces it), rack, rack_unit, node.
        #[arg(long, value_name = "CSV")]
        machines: Option<PathBuf>,
        /// Only if the plan still has this etag; otherwise exit code 6.
        #[arg(long)]
        etag: Option<String>,
    },
}

pub(super) async fn run(verb: Verb, session: &Session) -> Result<(), Failure> {
    let link = session.services.inventory()?;
    let plan = match verb {
        Verb::Show => call!(link, DiscoveredServiceClient, get_discovery_plan, GetDiscoveryPlanRequest {})?,
        Verb::Apply { file, machines, etag } => {
            let mut plan = parse(&read(&file)?).map_err(|why| bad(&file, &why))?;
            if let Some(path) = machines {
                let more = csv(&read(&path)?).map_err(|why| bad(&path, &why))?;
                plan.machines.extend(more);
            }
            if plan.rules.is_empty() && plan.machines.is_empty() && plan.positions.is_empty() {
                session.confirm(
                    "the plan would be empty: all its rules, machines, places and passwords are forgotten",
                )?;
            }
            plan.etag = etag.unwrap_or_default();
            let request = ReplaceDiscoveryPlanRequest { plan: Some(plan) };
            call!(link, DiscoveredServiceClient, replace_discovery_plan, request)?
        }
    };
    session.printer.one(&plan)?;
    if let Some(words) = unknown_racks(&plan.unknown_racks) {
        session.say(&words);
    }
    Ok(())
}

/// What a person does about racks that are named and do not exist; among what waits nobody would look for them.
fn unknown_racks(racks: &[String]) -> Option<String> {
    let names: Vec<_> = racks.iter().map(|rack| short(rack)).collect();
    let first = names.first()?;
    Some(format!(
        "the plan names racks that do not exist: {}; what is expected there waits: correct the names, or create them \
         (`farrier rack create {first} --site SITE`)",
        names.join(", ")
    ))
}

fn read(path: &Path) -> Result<String, Failure> {
    let text = match path.to_str() {
        Some("-") => io::read_to_string(io::stdin()),
        _ => std::fs::read_to_string(path),
    };
    text.map_err(|error| bad(path, &error.to_string()))
}

fn bad(path: &Path, why: &str) -> Failure {
    Failure::refused(format!("{}: {why}", path.display()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanText {
    #[serde(default)]
    rules: Vec<RuleText>,
    #[serde(default)]
    machines: Vec<MachineText>,
    #[serde(default)]
    positions: Vec<PositionText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PositionText {
    switch: String,
    port: String,
    #[serde(default)]
    rack: String,
    #[serde(default)]
    rack_unit: i32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    name: String,
    #[serde(default)]
    r#match: MatchText,
    #[serde(default)]
    node_name: String,
    #[serde(default)]
    resource_class: String,
    bmc: Option<BmcText>,
    #[serde(default)]
    bmc_subnet: String,
    #[serde(default)]
    automatic: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct MatchText {
    vendor: String,
    model: String,
    serial_number: String,
    mac_prefix: String,
    subnet: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BmcText {
    driver: String,
    #[serde(default)]
    user: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    default_password: bool,
    #[serde(default)]
    scheme: String,
    #[serde(default)]
    ca_pem: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct MachineText {
    serial_number: String,
    mac_address: String,
    bmc_mac_address: String,
    bmc_address: String,
    bmc_user: String,
    bmc_password: String,
    default_password: bool,
    rack: String,
    rack_unit: i32,
    node: String,
}

fn parse(text: &str) -> Result<DiscoveryPlan, String> {
    let text: PlanText = serde_yaml_ng::from_str(text).map_err(|error| without_values(&error))?;
    let machines = each("machines", text.machines, machine)?;
    let positions = each("positions", text.positions, position)?;
    Ok(DiscoveryPlan {
        rules: text.rules.into_iter().map(rule).collect(),
        machines,
        positions,
        ..DiscoveryPlan::default()
    })
}

/// Of one that is refused its number, counted as the server counts.
fn each<T, U>(list: &str, all: Vec<T>, read: impl Fn(T) -> Result<U, String>) -> Result<Vec<U>, String> {
    let numbered = all.into_iter().enumerate();
    numbered.map(|(number, one)| read(one).map_err(|why| format!("{list}[{number}]: {why}"))).collect()
}

/// What is wrong, and where, without what stands there: that may be a password. Of a field that is not known, those that are.
fn without_values(error: &serde_yaml_ng::Error) -> String {
    let words = error.to_string();
    let what = match words.split_once("expected one of ") {
        Some((_, fields)) if words.contains("unknown field") => {
            format!("unknown field: expected one of {}", fields.split(" at line").next().unwrap_or_default())
        }
        _ if words.contains("missing field") => words.split(" at line").next().unwrap_or_default().to_owned(),
        _ => "expected another value or name here (docs/life-of-a-deployment.md has the shape)".to_owned(),
    };
    match error.location() {
        Some(at) => format!("line {}, column {}: {what}", at.line(), at.column()),
        None => what,
    }
}

fn rule(text: RuleText) -> DiscoveryRule {
    let bmc = text.bmc.map(|bmc| Bmc {
        driver: bmc.driver,
        user: bmc.user,
        password: bmc.password,
        default_password: bmc.default_password,
        scheme: bmc.scheme,
        ca_pem: bmc.ca_pem,
        ..Bmc::default()
    });
    DiscoveryRule {
        name: text.name,
        vendor: text.r#match.vendor,
        model: text.r#match.model,
        serial_number: text.r#match.serial_number,
        mac_prefix: text.r#match.mac_prefix,
        subnet: text.r#match.subnet,
        node_name: text.node_name,
        resource_class: text.resource_class,
        bmc,
        bmc_subnet: text.bmc_subnet,
        automatic: text.automatic,
    }
}

fn name(collection: Collection, text: &str) -> Result<String, String> {
    full_or_empty(collection, Some(text).filter(|t| !t.is_empty()))
        .map_err(|_| "expected the name of a rack or a node: a-z, 0-9 and '-'".to_owned())
}

fn position(text: PositionText) -> Result<CabledPosition, String> {
    let rack = name(Racks, &text.rack)?;
    Ok(CabledPosition { switch_name: text.switch, port: text.port, rack, rack_unit: text.rack_unit })
}

fn machine(text: MachineText) -> Result<ExpectedMachine, String> {
    let plain = |text: &str| match text {
        "" => Ok(String::new()),
        // Not what stands there: columns may have moved, and one has passwords.
        text => mac(text).map_err(|_| "expected a MAC address such as 52:54:00:12:34:56".to_owned()),
    };
    Ok(ExpectedMachine {
        mac_address: plain(&text.mac_address)?,
        bmc_mac_address: plain(&text.bmc_mac_address)?,
        serial_number: text.serial_number,
        bmc_address: text.bmc_address,
        bmc_user: text.bmc_user,
        bmc_password: text.bmc_password,
        default_password: text.default_password,
        bmc_password_set: false,
        rack: name(Racks, &text.rack)?,
        rack_unit: text.rack_unit,
        node: name(Nodes, &text.node)?,
    })
}

/// CSV with the names of its columns.
fn csv(text: &str) -> Result<Vec<ExpectedMachine>, String> {
    let mut records = records(text).map_err(|error| error.to_string())?.into_iter();
    let columns = records.next().ok_or("expected a first line with the names of the columns")?.fields;
    let mut machines = Vec::new();
    for Record { line, fields } in records {
        let at = |why: String| format!("line {line}: {why}");
        if fields.len() != columns.len() {
            // Never the fields: there is a password among them.
            let (seen, expected) = (fields.len(), columns.len());
            return Err(at(format!("expected {expected} fields, saw {seen}")));
        }
        let mut one = MachineText::default();
        for (number, (column, field)) in columns.iter().zip(fields).enumerate() {
            let place = match column.as_str() {
                "serial_number" => &mut one.serial_number,
                "mac_address" => &mut one.mac_address,
                "bmc_mac_address" => &mut one.bmc_mac_address,
                "bmc_address" => &mut one.bmc_address,
                "bmc_user" => &mut one.bmc_user,
                "bmc_password" => &mut one.bmc_password,
                "rack" => &mut one.rack,
                "node" => &mut one.node,
                "rack_unit" => {
                    let number = if field.is_empty() { Ok(0) } else { field.parse() };
                    one.rack_unit = number
                        .map_err(|_| at("rack_unit: expected a number, saw another word".to_owned()))?;
                    continue;
                }
                "default_password" => {
                    one.default_password = match field.to_ascii_lowercase().as_str() {
                        "true" | "yes" | "1" => true,
                        "" | "false" | "no" | "0" => false,
                        // Never the field: it may be a password that stands in the wrong column.
                        _ => return Err(at("default_password: expected true or false".to_owned())),
                    };
                    continue;
                }
                // Not its word: without a header the first line is a machine's, and may have a password there.
                _ => {
                    return Err(format!(
                        "the first line names an unknown column as number {}: is it the names of the columns? \
                         `farrier discovered plan apply --help` lists them",
                        number + 1
                    ));
                }
            };
            *place = field;
        }
        machines.push(machine(one).map_err(at)?);
    }
    Ok(machines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_and_machines_are_read_and_typing_errors_are_not() {
        let text = "rules:\n- name: dell\n  match: { vendor: 'Dell*', subnet: 10.90.0.0/24 }\n  node_name: 'n-{serial}'\n  \
                    bmc: { driver: redfish, user: root }\n  automatic: true\nmachines:\n- { serial_number: A1, rack: r1 }\n\
                    positions:\n- { switch: leaf-*, port: 'Ethernet1/{unit}', rack: r1 }\n";
        let plan = parse(text).unwrap();
        assert_eq!(
            (plan.positions[0].port.as_str(), plan.positions[0].rack.as_str()),
            ("Ethernet1/{unit}", "racks/r1")
        );
        assert_eq!((plan.rules[0].vendor.as_str(), plan.rules[0].automatic), ("Dell*", true));
        assert_eq!(plan.machines[0].rack, "racks/r1");
        for (from, to) in [("vendor", "vender"), ("automatic", "auto"), ("rack: r1", "rack: 'r 1'")] {
            assert!(parse(&text.replace(from, to)).is_err(), "{to}");
        }
        for (from, to, at) in [
            ("rack: r1 }\npositions", "rack: r 1 }\npositions", "machines[0]: expected the name"),
            ("port: 'Ethernet1/{unit}', rack: r1", "port: e1, rack: r 1", "positions[0]: expected the name"),
        ] {
            let error = parse(&text.replace(from, to)).unwrap_err();
            assert!(error.starts_with(at), "{error}");
        }
        // A password that YAML takes for a number, or that stands where none is expected.
        for (from, to) in [
            ("user: root", "user: root, password: [p48151623]"),
            ("user: root", "password:48151623"),
            ("automatic: true", "automatic: 48151623"),
            ("rack: r1", "rack_unit: p48151623"),
            ("rack: r1", "mac_address: p48151623"),
        ] {
            let error = parse(&text.replace(from, to)).unwrap_err();
            assert!(!error.contains("48151623"), "{to}: {error}");
        }
    }

    #[test]
    fn racks_that_do_not_exist_are_named_with_what_to_do() {
        assert_eq!(unknown_racks(&[]), None);
        let said = unknown_racks(&["racks/r9".into(), "racks/rack-1".into()]).unwrap();
        assert!(
            said.contains("do not exist: r9, rack-1;")
                && said.contains("`farrier rack create r9 --site SITE`"),
            "{said}"
        );
    }

    #[test]
    fn a_vendors_list_is_read_line_by_line() {
        let text = "serial_number, bmc_mac_address,bmc_password,default_password,rack,rack_unit\r\nA1,52-54-00-00-00-99,secret,yes,r1,12\n\nA2,,,,,\n";
        let machines = csv(text).unwrap();
        assert_eq!(machines.len(), 2);
        assert_eq!(machines[0].bmc_mac_address, "52:54:00:00:00:99");
        assert_eq!((machines[0].default_password, machines[1].default_password), (true, false));
        assert_eq!((machines[0].rack_unit, machines[1].rack.as_str()), (12, ""));
        let quoted = csv(&text.replace("secret", "\" a,\"\"b\"\" \"")).unwrap();
        assert_eq!(quoted[0].bmc_password, " a,\"b\" ", "a password is taken as it is");
        for (from, to, why) in [
            ("rack_unit\r", "unit\r", "unknown column"),
            (",12", ",x", "line 2: rack_unit"),
            (",12", "", "line 2: expected 6 fields"),
            ("secret", "\"secret", "line 2: a quote that is not closed"),
            ("secret", "se\"cret\"", "line 2: a quote inside"),
            ("52-54-00-00-00-99", "52", "line 2"),
            ("serial_number, bmc_mac_address,bmc_password", "A0,52-54-00-00-00-98,secret", "unknown column"),
            ("secret,yes,r1,12", "p,yes,r1,secret", "line 2: rack_unit"),
            ("secret,yes,r1", "p,yes,s secret", "line 2: expected the name"),
            (",yes", ",secret", "line 2: default_password: expected true or false"),
        ] {
            let error = csv(&text.replace(from, to)).unwrap_err();
            assert!(error.contains(why) && !error.contains("secret"), "{why}: {error}");
        }
    }
}
