//! The box of the machine: temperatures, fans, voltages and power, in the model of before 2020 or the one after it.

use serde_json::{Value, json};

use super::resources::{View, collection, link, power};
use crate::bmc::sensors::{Kind, Reading, draw, readings};

/// The chassis, or something below it.
pub(super) fn get(view: &View<'_>, path: &str, rest: &str) -> Option<Value> {
    let new = view.config.sensor_collection;
    Some(match rest.split('/').collect::<Vec<_>>().as_slice() {
        [""] => chassis(view, path),
        ["Thermal"] if !new => thermal(view, path),
        ["Power"] if !new => of_power(view, path),
        ["Sensors"] if new => {
            let members: Vec<_> = readings(view.power).iter().map(|r| format!("{path}/{}", id(r))).collect();
            collection(path, "SensorCollection", &members)
        }
        ["Sensors", name] if new => {
            let reading = readings(view.power).into_iter().find(|reading| id(reading) == *name)?;
            sensor(&reading, path)
        }
        ["EnvironmentMetrics"] if new => json!({
            "@odata.id": path, "@odata.type": "#EnvironmentMetrics.v1_1_0.EnvironmentMetrics",
            "Id": "EnvironmentMetrics", "Name": "Environment Metrics",
            "PowerWatts": { "Reading": draw(view.power).now },
        }),
        _ => return None,
    })
}

fn chassis(view: &View<'_>, path: &str) -> Value {
    let mut chassis = json!({
        "@odata.id": path, "@odata.type": "#Chassis.v1_17_0.Chassis", "Id": "1", "Name": "Chassis",
        "ChassisType": "RackMount", "Manufacturer": view.config.facts.manufacturer,
        "Model": view.config.facts.model, "PowerState": power(view.power),
        "Status": { "State": "Enabled", "Health": "OK" },
        "Links": { "ManagedBy": [link(&view.config.personality.manager_path())] },
    });
    let names: &[&str] = if view.config.sensor_collection {
        &["Sensors", "EnvironmentMetrics"]
    } else {
        &["Thermal", "Power"]
    };
    if let Some(chassis) = chassis.as_object_mut() {
        chassis.extend(names.iter().map(|name| ((*name).to_owned(), link(&format!("{path}/{name}")))));
    }
    chassis
}

fn thermal(view: &View<'_>, path: &str) -> Value {
    let member = |kind, list: &str, property: &str| members(view, path, kind, list, property);
    json!({
        "@odata.id": path, "@odata.type": "#Thermal.v1_7_0.Thermal", "Id": "Thermal", "Name": "Thermal",
        "Temperatures": member(Kind::Temperature, "Temperatures", "ReadingCelsius"),
        "Fans": member(Kind::Fan, "Fans", "Reading"),
    })
}

fn of_power(view: &View<'_>, path: &str) -> Value {
    let draw = draw(view.power);
    json!({
        "@odata.id": path, "@odata.type": "#Power.v1_7_0.Power", "Id": "Power", "Name": "Power",
        "Voltages": members(view, path, Kind::Voltage, "Voltages", "ReadingVolts"),
        "PowerSupplies": members(view, path, Kind::PowerSupply, "PowerSupplies", "LastPowerOutputWatts"),
        "PowerControl": [{
            "@odata.id": format!("{path}#/PowerControl/0"), "MemberId": "0", "Name": "System Power Control",
            "PowerConsumedWatts": draw.now, "Status": { "State": "Enabled", "Health": "OK" },
            "PowerMetrics": {
                "IntervalInMin": draw.period.as_secs() / 60, "MinConsumedWatts": draw.least,
                "MaxConsumedWatts": draw.most, "AverageConsumedWatts": draw.average,
            },
        }],
    })
}

fn members(view: &View<'_>, path: &str, kind: Kind, list: &str, property: &str) -> Vec<Value> {
    let of_kind = readings(view.power).into_iter().filter(|reading| reading.kind == kind);
    let member = |(number, reading): (usize, Reading)| {
        let mut member = json!({
            "@odata.id": format!("{path}#/{list}/{number}"), "MemberId": number.to_string(),
            "Name": reading.name, "Status": status(&reading), property: reading.value,
        });
        if let Some(member) = member.as_object_mut() {
            match kind {
                Kind::PowerSupply => {}
                Kind::Fan => {
                    member.insert("ReadingUnits".to_owned(), json!("RPM"));
                }
                Kind::Temperature | Kind::Voltage => {
                    member.insert("UpperThresholdCritical".to_owned(), json!(reading.upper_critical));
                }
            }
        }
        member
    };
    of_kind.enumerate().map(member).collect()
}

fn sensor(reading: &Reading, path: &str) -> Value {
    let (kind, unit) = match reading.kind {
        Kind::Temperature => ("Temperature", "Cel"),
        Kind::Voltage => ("Voltage", "V"),
        Kind::Fan => ("Rotational", "RPM"),
        Kind::PowerSupply => ("Power", "W"),
    };
    json!({
        "@odata.id": path, "@odata.type": "#Sensor.v1_2_0.Sensor", "Id": id(reading), "Name": reading.name,
        "ReadingType": kind, "ReadingUnits": unit, "Reading": reading.value, "Status": status(reading),
        "Thresholds": { "UpperCritical": { "Reading": reading.upper_critical } },
    })
}

fn status(reading: &Reading) -> Value {
    match reading.value {
        Some(value) if value >= reading.upper_critical => json!({ "State": "Enabled", "Health": "Critical" }),
        Some(_) => json!({ "State": "Enabled", "Health": "OK" }),
        None => json!({ "State": "UnavailableOffline" }),
    }
}

fn id(reading: &Reading) -> String {
    reading.name.replace(' ', "")
}
