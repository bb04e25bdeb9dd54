//! What documents say about temperatures, fans, voltages and power (DSP0268: Thermal, Power, Sensor,
//! EnvironmentMetrics). Nothing in here fails.

use std::time::Duration;

use super::document::Document;
use crate::{PowerDraw, SensorHealth, SensorValue};

/// Sensors of one list.
const MOST: usize = 256;

/// Lists in a Thermal or a Power resource: what their members are, where their readings are, and of which unit.
struct List {
    property: &'static str,
    kind: &'static str,
    readings: &'static [(&'static str, &'static str)],
}

const LISTS: &[List] = &[
    List { property: "Temperatures", kind: "Temperature", readings: &[("ReadingCelsius", "°C")] },
    // The second is how it was named before 2016. The unit is in the member.
    List { property: "Fans", kind: "Fan", readings: &[("Reading", ""), ("CurrentReading", "")] },
    List { property: "Voltages", kind: "Voltage", readings: &[("ReadingVolts", "V")] },
    List {
        property: "PowerSupplies",
        kind: "Power Supply",
        readings: &[("PowerInputWatts", "W"), ("LastPowerOutputWatts", "W")],
    },
    List { property: "PowerControl", kind: "Power", readings: &[("PowerConsumedWatts", "W")] },
];

/// Thresholds, worst last, and what it means to be beyond one.
const THRESHOLDS: &[(&str, &str, SensorHealth)] = &[
    ("LowerThresholdNonCritical", "UpperThresholdNonCritical", SensorHealth::Warning),
    ("LowerThresholdCritical", "UpperThresholdCritical", SensorHealth::Critical),
    ("LowerThresholdFatal", "UpperThresholdFatal", SensorHealth::Critical),
];

/// Units of DSP0268 and how they are shown.
const UNITS: &[(&str, &str)] = &[
    ("Cel", "°C"),
    ("RPM", "rpm"),
    ("{rev}/min", "rpm"),
    ("Percent", "%"),
    ("%", "%"),
    ("V", "V"),
    ("A", "A"),
    ("W", "W"),
    ("J", "J"),
    ("kW.h", "kWh"),
    ("Hz", "Hz"),
    ("Pa", "Pa"),
];

/// All members of the lists of a Thermal or Power resource.
pub(super) fn lists(document: &Document) -> Vec<SensorValue> {
    let of = |list: &'static List| {
        let members = document.parts(list.property, MOST).into_iter();
        members.map(move |member| value(&member, list))
    };
    LISTS.iter().flat_map(of).collect()
}

/// One Sensor.
pub(super) fn sensor(document: &Document) -> SensorValue {
    let kind = document.text("ReadingType").unwrap_or_default();
    let reading = document.float("Reading");
    SensorValue {
        name: name(document),
        kind,
        value: reading.filter(|_| measures(document)),
        unit: unit(document),
        health: health(document, None),
        states: states(document, reading),
    }
}

/// From a PowerControl of a Power resource.
pub(super) fn draw_of_power(document: &Document) -> Option<PowerDraw> {
    let control = document.parts("PowerControl", 1).pop()?;
    let minutes = control.number("PowerMetrics/IntervalInMin").filter(|minutes| *minutes > 0);
    let metric = |name: &str| control.float(&format!("PowerMetrics/{name}"));
    let now = control.float("PowerConsumedWatts");
    (now.is_some() || minutes.is_some()).then(|| PowerDraw {
        now,
        average: metric("AverageConsumedWatts"),
        least: metric("MinConsumedWatts"),
        most: metric("MaxConsumedWatts"),
        // More than a year is no interval.
        period: minutes.filter(|m| *m <= 525_600).map(|m| Duration::from_secs(m * 60)),
    })
}

/// From an EnvironmentMetrics resource.
pub(super) fn draw_of_environment(document: &Document) -> Option<PowerDraw> {
    let now = document.float("PowerWatts/Reading")?;
    Some(PowerDraw { now: Some(now), ..PowerDraw::default() })
}

fn value(member: &Document, list: &List) -> SensorValue {
    let read = list.readings.iter().find_map(|(name, unit)| Some((member.float(name)?, *unit)));
    let value = read.map(|(value, _)| value).filter(|_| measures(member));
    let fixed = read.map_or("", |(_, unit)| unit);
    SensorValue {
        name: name(member),
        kind: list.kind.to_owned(),
        value,
        unit: if fixed.is_empty() { unit(member) } else { fixed },
        health: health(member, value),
        states: states(member, value),
    }
}

fn name(document: &Document) -> String {
    let names = ["Name", "FanName", "MemberId", "Id"];
    names.iter().find_map(|name| document.text(name)).unwrap_or_else(|| "unnamed".to_owned())
}

fn unit(document: &Document) -> &'static str {
    let text = document.text("ReadingUnits").unwrap_or_default();
    UNITS.iter().find(|(theirs, _)| *theirs == text).map_or("", |(_, ours)| ours)
}

/// Whether what is measured is there and switched on.
fn measures(document: &Document) -> bool {
    document.text("Status/State").is_none_or(|state| matches!(state.as_str(), "Enabled" | "StandbySpare"))
}

/// In words, where there is no number.
fn states(document: &Document, value: Option<f64>) -> Vec<String> {
    if value.is_some() && measures(document) {
        return Vec::new();
    }
    document.text("Status/State").into_iter().collect()
}

/// The BMC's own word, else what its thresholds say.
fn health(document: &Document, value: Option<f64>) -> SensorHealth {
    if !measures(document) {
        return SensorHealth::Unknown;
    }
    match document.text("Status/Health").as_deref() {
        Some("OK") => SensorHealth::Ok,
        Some("Warning") => SensorHealth::Warning,
        Some("Critical") => SensorHealth::Critical,
        _ => value.map_or(SensorHealth::Unknown, |value| by_thresholds(document, value)),
    }
}

fn by_thresholds(document: &Document, value: f64) -> SensorHealth {
    let mut health = SensorHealth::Unknown;
    for (lower, upper, beyond) in THRESHOLDS {
        let (lower, upper) = (document.float(lower), document.float(upper));
        if lower.is_some_and(|lower| value <= lower) || upper.is_some_and(|upper| value >= upper) {
            health = *beyond;
        } else if (lower.is_some() || upper.is_some()) && health == SensorHealth::Unknown {
            health = SensorHealth::Ok;
        }
    }
    health
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> Document {
        Document::parse(text.as_bytes(), None).unwrap()
    }

    #[test]
    fn lists_of_every_kind_are_read_and_what_is_missing_is_no_end() {
        let read = lists(&document(
            r#"{"Temperatures": [
                {"Name": "CPU", "ReadingCelsius": 47.5, "Status": {"State": "Enabled", "Health": "OK"}},
                {"Name": "CPU 2", "ReadingCelsius": 0, "Status": {"State": "Absent"}}, 7],
              "Fans": [{"FanName": "F1", "CurrentReading": 40, "ReadingUnits": "Percent"}],
              "PowerSupplies": [{"MemberId": "0", "Status": {"State": "Enabled", "Health": "Critical"}}],
              "Voltages": "none"}"#,
        ));
        let shown: Vec<_> = read.iter().map(|s| (s.name.as_str(), s.value, s.unit, s.health)).collect();
        let expected = [
            ("CPU", Some(47.5), "°C", SensorHealth::Ok),
            ("CPU 2", None, "°C", SensorHealth::Unknown),
            ("F1", Some(40.0), "%", SensorHealth::Unknown),
            ("0", None, "", SensorHealth::Critical),
        ];
        assert_eq!(shown, expected);
        assert_eq!(read[1].states, ["Absent"]);
    }

    #[test]
    fn thresholds_speak_where_the_bmc_does_not() {
        let at = |value: &str| {
            lists(&document(&format!(
                r#"{{"Temperatures": [{{"ReadingCelsius": {value}, "UpperThresholdNonCritical": 40,
                    "UpperThresholdCritical": 50, "LowerThresholdCritical": 0}}]}}"#
            )))[0]
                .health
        };
        assert_eq!((at("20"), at("40")), (SensorHealth::Ok, SensorHealth::Warning));
        assert_eq!(
            (at("50"), at("0"), at("null")),
            (SensorHealth::Critical, SensorHealth::Critical, SensorHealth::Unknown)
        );
    }

    #[test]
    fn the_draw_is_read_from_either_model() {
        let old = document(
            r#"{"PowerControl": [{"PowerConsumedWatts": 180, "PowerMetrics": {"IntervalInMin": 60,
                "MinConsumedWatts": 12, "MaxConsumedWatts": 340, "AverageConsumedWatts": 170.5}}]}"#,
        );
        let draw = draw_of_power(&old).unwrap();
        assert_eq!((draw.now, draw.average, draw.least), (Some(180.0), Some(170.5), Some(12.0)));
        assert_eq!(draw.period, Some(Duration::from_secs(3600)));
        assert_eq!(draw_of_power(&document(r#"{"PowerControl": [{}]}"#)), None);
        let new = document(r#"{"PowerWatts": {"Reading": 99.5}}"#);
        assert_eq!(draw_of_environment(&new).unwrap().now, Some(99.5));
    }
}
