//! A machine's health in the words of Redfish (DSP0268, Resource: Status).

use super::document::Document;
use crate::Health;

/// The worse of the system's own health and what is rolled up from its parts, and what the service says of it.
pub(super) fn of(system: &Document) -> (Health, String) {
    let own = system.text("Status/Health");
    // The schema of 2014 had the other capital, and so have services that were written to it.
    let rollup = system.text("Status/HealthRollup").or_else(|| system.text("Status/HealthRollUp"));
    let health = word(own.as_deref()).max(word(rollup.as_deref()));
    if health <= Health::Ok {
        return (health, String::new());
    }
    // Since Resource 1.11: what is behind it. Who is older says only that there is something.
    let said = system.parts("Status/Conditions", MOST);
    let said: Vec<_> = said.iter().filter_map(|condition| condition.text("Message")).collect();
    if said.is_empty() {
        let told = |name: &str, word: Option<String>| word.map(|word| format!("{name} {word}"));
        let words = [told("Health", own), told("HealthRollup", rollup)];
        return (health, words.into_iter().flatten().collect::<Vec<_>>().join(", "));
    }
    (health, said.join("; "))
}

fn word(health: Option<&str>) -> Health {
    match health {
        Some("OK") => Health::Ok,
        Some("Warning") => Health::Warning,
        Some("Critical") => Health::Critical,
        _ => Health::Unknown,
    }
}

/// Conditions that are told.
const MOST: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worse_of_both_counts_and_the_services_words_come_first() {
        let told = |status: &str| {
            of(&Document::parse(format!(r#"{{"Status": {status}}}"#).as_bytes(), None).unwrap())
        };
        assert_eq!(told(r#"{"Health": "OK", "HealthRollup": "OK"}"#), (Health::Ok, String::new()));
        assert_eq!(told("{}"), (Health::Unknown, String::new()));
        assert_eq!(told(r#"{"Health": "Fine"}"#), (Health::Unknown, String::new()));
        let part = r#"{"Health": "OK", "HealthRollup": "Critical"}"#;
        assert_eq!(told(part), (Health::Critical, "Health OK, HealthRollup Critical".to_owned()));
        assert_eq!(told(r#"{"HealthRollUp": "Warning"}"#).0, Health::Warning);
        let words = r#"{"Health": "Warning", "Conditions": [{"Message": "Fan 3 is slow.\n"}, {"Severity": "OK"}, 7]}"#;
        assert_eq!(told(words), (Health::Warning, "Fan 3 is slow.".to_owned()));
    }
}
