//! DCMI 1.5 of a simulated BMC: what it can do, what it draws, and what it is called.

use std::time::{SystemTime, UNIX_EPOCH};

use farrier_ipmi::command::dcmi::{GET_POWER_READING, GROUP, PowerReading, SYSTEM_POWER};
use farrier_ipmi::completion;

use super::commands::Answer;
use super::sel::CAPACITY;
use super::sensors::{self, Place};
use super::{BmcConfig, PowerState};

/// Conformance 1.5, parameter revision 2: in every answer about capabilities.
const CONFORMANCE: [u8; 4] = [GROUP, 1, 5, 2];
/// The log begins again from its oldest when it is full.
const ROLLS_OVER: u16 = 0x8000;
/// Bytes of a text at once.
const PART: u8 = 16;

/// One of the commands; `None`: it is none.
pub(super) fn execute(config: &BmcConfig, cmd: u8, data: &[u8], power: PowerState) -> Option<Answer> {
    let [GROUP, asked @ ..] = data else { return None };
    let [.., a, b, c, d] = config.guid;
    Some(match (cmd, asked) {
        (0x01, [selector]) => capabilities(*selector),
        (GET_POWER_READING, [mode, _, _]) => power_reading(*mode, power),
        (0x06, [offset, count]) => part(&format!("asset-{a:02x}{b:02x}{c:02x}{d:02x}"), *offset, *count),
        (0x07, [0x01, entity, _instance, start]) => sensor_records(*entity, *start),
        (0x09, [offset, count]) => part(&format!("bmc-{a:02x}{b:02x}{c:02x}{d:02x}"), *offset, *count),
        (0x01 | GET_POWER_READING | 0x06 | 0x07 | 0x09, _) => (completion::LENGTH_INVALID, Vec::new()),
        _ => return None,
    })
}

/// Table 6-3.
fn capabilities(selector: u8) -> Answer {
    let [low, high] = (u16::try_from(CAPACITY).unwrap_or(0) | ROLLS_OVER).to_le_bytes();
    let value = match selector {
        // Power management; over this LAN and nothing else.
        1 => vec![0, 0x01, 0],
        // The log's size; GUID and asset tag; inlet and processors; sampled every second.
        2 => vec![low, high, 0x05, 0x03, 1],
        3 => vec![0x20, 0],
        // The LAN is channel 1; no second one, no serial one.
        4 => vec![1, 0xFF, 0xFF],
        // Statistics over one hour.
        5 => vec![1, 0x81],
        _ => return (completion::PARAMETER_NOT_SUPPORTED, Vec::new()),
    };
    (completion::OK, [&CONFORMANCE[..], &value].concat())
}

/// What the power supply's sensor says, over an hour in which the machine was on and off.
fn power_reading(mode: u8, power: PowerState) -> Answer {
    if mode != SYSTEM_POWER {
        return (completion::INVALID_FIELD, Vec::new());
    }
    let draw = sensors::draw(power);
    let watts = |watts: f64| watts as u16;
    let reading = PowerReading {
        current: watts(draw.now),
        minimum: watts(draw.least),
        maximum: watts(draw.most),
        average: watts(draw.average),
        period: u32::try_from(draw.period.as_millis()).unwrap_or(u32::MAX),
        active: true,
    };
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (completion::OK, reading.to_bytes(u32::try_from(since.as_secs()).unwrap_or(u32::MAX)))
}

/// Part of a text, and how long it is.
fn part(text: &str, offset: u8, count: u8) -> Answer {
    let bytes = text.as_bytes();
    if usize::from(offset) > bytes.len() || count > PART {
        return (completion::OUT_OF_RANGE, Vec::new());
    }
    let rest = bytes.get(usize::from(offset)..).unwrap_or_default();
    let part = rest.get(..usize::from(count)).unwrap_or(rest);
    (completion::OK, [&[GROUP, u8::try_from(bytes.len()).unwrap_or(0)], part].concat())
}

/// Which records of sensors are about an entity (Table 6-16).
fn sensor_records(entity: u8, start: u8) -> Answer {
    let place = match entity {
        0x37 | 0x40 => Place::Inlet,
        0x03 | 0x41 => Place::Processor,
        0x07 | 0x42 => Place::Board,
        _ => return (completion::INVALID_FIELD, Vec::new()),
    };
    let ids = sensors::temperature_records(place);
    let from = usize::from(start.saturating_sub(1));
    let told: Vec<u16> = ids.iter().copied().skip(from).take(8).collect();
    let count = |count: usize| u8::try_from(count).unwrap_or(u8::MAX);
    let mut answer = vec![GROUP, count(ids.len()), count(told.len())];
    answer.extend(told.iter().flat_map(|id| id.to_le_bytes()));
    (completion::OK, answer)
}
