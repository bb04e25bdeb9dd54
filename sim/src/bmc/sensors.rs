//! The sensors of a simulated machine, and their records (IPMI 2.0 sections 33, 35.14, 43).

use std::time::Duration;

use farrier_ipmi::command::sdr::{FIRST, LAST, WHOLE};
use farrier_ipmi::completion;

use super::PowerState;

type Answer = (u8, Vec<u8>);

/// A sensor with a number.
struct Analog {
    name: &'static str,
    number: u8,
    /// Tables 42-3 and 43-15.
    kind: u8,
    unit: u8,
    m: u8,
    /// K2, four bits.
    result_exponent: u8,
    /// Raw readings with power on and off; `None`: it does not measure then.
    on: u8,
    off: Option<u8>,
    /// Raw.
    upper_critical: u8,
}

const ANALOG: &[Analog] = &[
    Analog {
        name: "CPU Temp",
        number: 0x30,
        kind: 0x01,
        unit: 1,
        m: 1,
        result_exponent: 0,
        on: 47,
        off: None,
        upper_critical: 95,
    },
    Analog {
        name: "Inlet Temp",
        number: 0x31,
        kind: 0x01,
        unit: 1,
        m: 1,
        result_exponent: 0,
        on: 24,
        off: Some(22),
        upper_critical: 42,
    },
    Analog {
        name: "12V",
        number: 0x32,
        kind: 0x02,
        unit: 4,
        m: 63,
        result_exponent: 0xD,
        on: 191,
        off: None,
        upper_critical: 210,
    },
    Analog {
        name: "FAN1",
        number: 0x33,
        kind: 0x04,
        unit: 18,
        m: 100,
        result_exponent: 0,
        on: 54,
        off: None,
        upper_critical: 250,
    },
    Analog {
        name: "PSU Power",
        number: 0x34,
        kind: 0x08,
        unit: 6,
        m: 4,
        result_exponent: 0,
        on: 45,
        off: Some(3),
        upper_critical: 200,
    },
];
/// A discrete one: PS1 Status, presence detected (Table 42-3, 08h offset 0).
const SUPPLY: u8 = 0x40;
const SUPPLY_STATES: [u8; 2] = [0x01, 0x80];
/// Discrete ones that share a record: DIMM1 to DIMM3, presence detected (Table 42-3, 0Ch offset 6).
const DIMMS: std::ops::RangeInclusive<u8> = 0x50..=0x52;
const DIMM_STATES: [u8; 2] = [0x40, 0x80];

const BMC: u8 = 0x20;
const EVENTS_AND_SCANNING: u8 = 0xC0;
const UNAVAILABLE: u8 = 0x20;
const ABOVE_UPPER_CRITICAL: u8 = 0x10;
/// The reservation of all: the records never change.
const RESERVATION: [u8; 2] = [1, 0];

/// One of the commands; `None`: it is none.
pub(super) fn storage(cmd: u8, data: &[u8], largest_part: u8) -> Option<Answer> {
    Some(match cmd {
        0x20 => {
            let [low, high] = u16::try_from(records().len()).unwrap_or(0).to_le_bytes();
            // Version 1.5, no room, never changed, can be reserved.
            (completion::OK, vec![0x51, low, high, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02])
        }
        0x22 => (completion::OK, RESERVATION.to_vec()),
        0x28 => (completion::OK, super::sel::now().to_le_bytes().to_vec()),
        0x23 => record(data, largest_part),
        _ => return None,
    })
}

/// Where a temperature is taken (DCMI).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Inlet,
    Processor,
    Board,
}

/// The records of the temperatures taken there.
pub(super) fn temperature_records(place: Place) -> Vec<u16> {
    let name = match place {
        Place::Inlet => "Inlet Temp",
        Place::Processor => "CPU Temp",
        Place::Board => return Vec::new(),
    };
    let numbered = ANALOG.iter().zip(1_u16..);
    numbered.filter(|(sensor, _)| sensor.name == name).map(|(_, id)| id).collect()
}

/// What a sensor says, for whoever speaks another protocol.
pub(super) struct Reading {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// `None`: it does not measure now.
    pub(super) value: Option<f64>,
    pub(super) upper_critical: f64,
}

/// Of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Temperature,
    Voltage,
    Fan,
    PowerSupply,
}

/// The sensors with a number.
pub(super) fn readings(power: PowerState) -> Vec<Reading> {
    let scaled = |sensor: &Analog, raw: u8| {
        // Four bits, two's complement.
        let exponent = i32::from(sensor.result_exponent) - if sensor.result_exponent > 7 { 16 } else { 0 };
        f64::from(sensor.m) * f64::from(raw) * 10_f64.powi(exponent)
    };
    let read = |sensor: &Analog| Reading {
        name: sensor.name,
        kind: match sensor.kind {
            0x01 => Kind::Temperature,
            0x02 => Kind::Voltage,
            0x04 => Kind::Fan,
            _ => Kind::PowerSupply,
        },
        value: raw(sensor, power).map(|raw| scaled(sensor, raw)),
        upper_critical: scaled(sensor, sensor.upper_critical),
    };
    ANALOG.iter().map(read).collect()
}

/// Watts of the whole machine.
pub(super) struct Draw {
    pub(super) now: f64,
    pub(super) least: f64,
    pub(super) most: f64,
    pub(super) average: f64,
    pub(super) period: Duration,
}

/// The power supply's sensor, over an hour.
pub(super) fn draw(power: PowerState) -> Draw {
    let watts = |power| {
        let mut all = readings(power).into_iter();
        all.find(|r| r.kind == Kind::PowerSupply).and_then(|r| r.value).unwrap_or_default()
    };
    let (on, off) = (watts(PowerState::On), watts(PowerState::Off));
    let average = (on + off) / 2.0;
    Draw { now: watts(power), least: off, most: on, average, period: Duration::from_secs(3600) }
}

fn raw(sensor: &Analog, power: PowerState) -> Option<u8> {
    if power == PowerState::On { Some(sensor.on) } else { sensor.off }
}

/// Get Sensor Reading.
pub(super) fn reading(data: &[u8], power: PowerState) -> Answer {
    let [number] = data else { return (completion::LENGTH_INVALID, Vec::new()) };
    let discrete = match *number {
        SUPPLY => Some(SUPPLY_STATES),
        number if DIMMS.contains(&number) => Some(DIMM_STATES),
        _ => None,
    };
    if let Some([low, high]) = discrete {
        return (completion::OK, vec![0, EVENTS_AND_SCANNING, low, high]);
    }
    let Some(sensor) = ANALOG.iter().find(|sensor| sensor.number == *number) else {
        return (completion::NOT_PRESENT, Vec::new());
    };
    let Some(raw) = raw(sensor, power) else {
        return (completion::OK, vec![0, EVENTS_AND_SCANNING | UNAVAILABLE, 0xC0]);
    };
    let crossed = if raw >= sensor.upper_critical { ABOVE_UPPER_CRITICAL } else { 0 };
    (completion::OK, vec![raw, EVENTS_AND_SCANNING, 0xC0 | crossed])
}

/// Get Sensor Thresholds (section 35.9): of those with a number, the upper critical one.
pub(super) fn thresholds(data: &[u8]) -> Answer {
    let [number] = data else { return (completion::LENGTH_INVALID, Vec::new()) };
    match ANALOG.iter().find(|sensor| sensor.number == *number) {
        Some(sensor) => (completion::OK, vec![ABOVE_UPPER_CRITICAL, 0, 0, 0, 0, sensor.upper_critical, 0]),
        None => (completion::NOT_PRESENT, Vec::new()),
    }
}

/// Get SDR. Ids are one, two, and so on.
fn record(data: &[u8], largest_part: u8) -> Answer {
    let [r0, r1, low, high, offset, count] = data else {
        return (completion::LENGTH_INVALID, Vec::new());
    };
    let records = records();
    let place = match u16::from_le_bytes([*low, *high]) {
        FIRST => 0,
        LAST => records.len() - 1,
        id => usize::from(id) - 1,
    };
    let Some(record) = records.get(place) else { return (completion::NOT_PRESENT, Vec::new()) };
    let rest = record.get(usize::from(*offset)..).unwrap_or_default();
    let count = if *count == WHOLE { rest.len() } else { usize::from(*count) };
    if count > usize::from(largest_part) {
        return (completion::CANNOT_RETURN_SO_MANY, Vec::new());
    }
    // Partial reads need the reservation (section 33.12).
    if *offset > 0 && [*r0, *r1] != RESERVATION {
        return (completion::RESERVATION_INVALID, Vec::new());
    }
    let next = if place + 1 < records.len() { u16::try_from(place + 2).unwrap_or(LAST) } else { LAST };
    (completion::OK, [&next.to_le_bytes()[..], rest.get(..count).unwrap_or(rest)].concat())
}

fn records() -> Vec<Vec<u8>> {
    let analog = ANALOG.iter().map(full);
    // One is alone; three share a record, and are numbered from 1 on.
    let supply = compact("PS1 Status", SUPPLY, (0x0A, 0x08), [1, 0]);
    let dimms = compact("DIMM", *DIMMS.start(), (0x20, 0x0C), [3, 1]);
    let records = analog.chain([supply, dimms]).chain([inventory()]).zip(1_u16..);
    records.map(|(body, id)| [&id.to_le_bytes()[..], &body].concat()).collect()
}

/// Table 43-1 without the id.
fn full(sensor: &Analog) -> Vec<u8> {
    let mut record = vec![0x51, 0x01, 0];
    record.extend([BMC, 0, sensor.number, 0x07, 0x01, 0x7F, 0x68, sensor.kind, 0x01]);
    // Events and readable thresholds: upper critical.
    record.extend([0x00, 0x02, 0x00, 0x02, 0x10, 0x10]);
    record.extend([0, sensor.unit, 0, 0, sensor.m, 0, 0, 0, 0, sensor.result_exponent << 4]);
    // No nominal readings; the largest and the smallest there are.
    record.extend([0, sensor.on, 0, 0, 0xFF, 0]);
    record.extend([0, sensor.upper_critical, 0, 0, 0, 0, 1, 1, 0, 0, 0]);
    name(record, sensor.name)
}

/// Table 43-2 without the id; `sharing` are its bytes 24 and 25.
fn compact(text: &str, number: u8, (entity, kind): (u8, u8), sharing: [u8; 2]) -> Vec<u8> {
    let mut record = vec![0x51, 0x02, 0];
    record.extend([BMC, 0, number, entity, 0x01, 0x67, 0x40, kind, 0x6F]);
    record.extend([0x01, 0, 0x01, 0, 0x01, 0]);
    // No unit, no hysteresis.
    record.extend([0xC0, 0, 0]);
    record.extend(sharing);
    record.extend([0; 6]);
    name(record, text)
}

/// Table 43-6 without the id: the FRU inventory in the BMC, device 0.
fn inventory() -> Vec<u8> {
    // A logical device, of which the system board (entity 7) says what it is.
    name(vec![0x51, 0x11, 0, BMC, 0, 0x80, 0, 0, 0x10, 0, 0x07, 0x01, 0], "Board")
}

/// Adds the name, and the length at its place.
fn name(mut record: Vec<u8>, text: &str) -> Vec<u8> {
    record.push(0xC0 | u8::try_from(text.len()).unwrap_or(0));
    record.extend(text.as_bytes());
    let length = u8::try_from(record.len() - 3).unwrap_or(0);
    if let Some(place) = record.get_mut(2) {
        *place = length;
    }
    record
}
