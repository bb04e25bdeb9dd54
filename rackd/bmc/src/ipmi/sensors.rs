//! Sensors: their records once, their readings each time (IPMI 2.0 sections 33, 35.14).

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use farrier_ipmi::command::sdr::{
    FIRST, GetSdr, GetSdrRepositoryInfo, GetSensorReading, HEADER, LAST, ReserveSdrRepository,
    SdrRepositoryInfo, Sensor, SensorReading, WHOLE,
};
use farrier_ipmi::completion::{CompletionCode, RESERVATION_INVALID};
use ipmi_rs_core::storage::sdr::{SensorType, decode_event};
use tokio::time::Instant;

use super::driver::IpmiBmc;
use super::link::Link;
use crate::actor::Call;
use crate::coalesce::{Joined, Turn};
use crate::{BmcError, Deadline, ReadSensors, SensorHealth, SensorValue, Sensors};

/// Records, or readings, of one call: between two, others have their turn. A slow BMC takes seconds for an answer, and a
/// power command waits for a whole call.
const BATCH: usize = 4;
/// Records of one BMC, and sensors, of which several may share one; more is a chain that goes in a circle.
const MOST: usize = 1024;
/// Bytes of a partial read that every BMC can answer (section 33.12 asks for 16 at least).
const PART: u8 = 16;
/// Reservations that may be lost in one record.
const TRIES: u32 = 4;
/// Sensors of the BMC itself.
const BMC: u8 = 0x20;
/// Warnings are for people.
const MOST_WARNINGS: usize = 16;

/// The sensors' records, of when they are, and when they were needed last.
#[derive(Debug)]
pub(super) struct Records {
    info: SdrRepositoryInfo,
    sensors: Arc<[Sensor]>,
    used: Instant,
}

#[async_trait]
impl ReadSensors for IpmiBmc {
    async fn sensors(&self, deadline: Deadline) -> Result<Sensors, BmcError> {
        self.kept.reads.sensors.ask_in_parts(deadline, |turn| self.all_sensors(turn, deadline)).await
    }
}

impl IpmiBmc {
    async fn all_sensors(
        &self,
        turn: Turn<Sensors>,
        deadline: Deadline,
    ) -> Result<(Joined<Sensors>, Sensors), BmcError> {
        let first = self.call(deadline, |link, call| {
            Box::pin(async move {
                let joined = turn.begin();
                Ok((joined, link.known_sensors(call).await?))
            })
        });
        let (joined, (info, known)) = first.await?;
        let known = match known {
            Some(known) => known,
            None => self.sensor_records(info, deadline).await?,
        };
        let mut read = Sensors::default();
        for batch in known.chunks(BATCH) {
            let batch = batch.to_vec();
            let part =
                self.call(deadline, move |link, call| Box::pin(link.read_sensors(call, batch))).await?;
            read.sensors.extend(part.sensors);
            read.warnings.extend(part.warnings);
        }
        read.warnings.truncate(MOST_WARNINGS);
        Ok((joined, read))
    }

    /// All records, which are kept with the repository's times: on a BMC that gives them in parts they are a thousand round
    /// trips.
    async fn sensor_records(
        &self,
        info: Option<SdrRepositoryInfo>,
        deadline: Deadline,
    ) -> Result<Arc<[Sensor]>, BmcError> {
        let mut known = Vec::new();
        let (mut next, mut seen) = (FIRST, 0);
        while next != LAST && seen < MOST && known.len() < MOST {
            let from = next;
            let (batch, after) =
                self.call(deadline, move |link, call| Box::pin(link.sdr_batch(call, from))).await?;
            seen += batch.len().max(1);
            known.extend(batch.iter().flat_map(|record| Sensor::parse(record)));
            next = if after == from { LAST } else { after };
        }
        known.truncate(MOST);
        let known: Arc<[Sensor]> = known.into();
        if let Some(info) = info {
            let kept = Arc::clone(&known);
            self.call(deadline, move |link, _| {
                link.records = Some(Records { info, sensors: kept, used: Instant::now() });
                Box::pin(async { Ok(()) })
            })
            .await?;
        }
        Ok(known)
    }
}

impl Link {
    /// When the records last changed, and those of before if they have not. A BMC that does not tell is read each time.
    async fn known_sensors(
        &mut self,
        call: &mut Call,
    ) -> Result<(Option<SdrRepositoryInfo>, Option<Arc<[Sensor]>>), BmcError> {
        let info = match self.command(call, GetSdrRepositoryInfo).await {
            Ok(info) => info,
            Err(BmcError::Refused { .. } | BmcError::Malformed { .. }) => return Ok((None, None)),
            Err(error) => return Err(error),
        };
        let known = self.records.as_mut().filter(|records| records.info == info).map(|records| {
            records.used = Instant::now();
            Arc::clone(&records.sensors)
        });
        Ok((Some(info), known))
    }

    /// Records that nobody needs are memory: a BMC whose power is read, and nothing else, costs little.
    pub(super) fn forget_old_records(&mut self) {
        let keep = self.tuning().keep_records;
        self.records.take_if(|records| records.used.elapsed() >= keep);
    }

    /// Some records from `next` on, and where to go on.
    async fn sdr_batch(&mut self, call: &mut Call, mut next: u16) -> Result<(Vec<Vec<u8>>, u16), BmcError> {
        let mut records = Vec::with_capacity(BATCH);
        while next != LAST && records.len() < BATCH {
            let (record, after) = self.sdr(call, next).await?;
            records.push(record);
            next = after;
        }
        Ok((records, next))
    }

    /// A whole record: at once where the BMC can, else piece by piece.
    async fn sdr(&mut self, call: &mut Call, record: u16) -> Result<(Vec<u8>, u16), BmcError> {
        match self.command(call, GetSdr { reservation: 0, record, offset: 0, count: WHOLE }).await {
            Ok(part) => return Ok((part.bytes, part.next)),
            // "Cannot return number of requested data bytes", in many words.
            Err(BmcError::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
        let mut tries = 0;
        loop {
            tries += 1;
            match self.sdr_in_parts(call, record).await {
                // Somebody else reserved the repository meanwhile.
                Err(BmcError::Refused { code: CompletionCode(RESERVATION_INVALID), .. }) if tries < TRIES => {
                }
                other => return other,
            }
        }
    }

    async fn sdr_in_parts(&mut self, call: &mut Call, record: u16) -> Result<(Vec<u8>, u16), BmcError> {
        let reservation = self.command(call, ReserveSdrRepository).await?;
        let ask = |offset, count| GetSdr { reservation, record, offset, count };
        let header = self.command(call, ask(0, HEADER)).await?;
        let (mut bytes, next) = (header.bytes, header.next);
        let length = bytes.get(usize::from(HEADER) - 1).copied().unwrap_or(0);
        let whole = usize::from(HEADER) + usize::from(length);
        while let Some(missing) = whole.checked_sub(bytes.len()).filter(|missing| *missing > 0) {
            // A record has at most 260 bytes, and the last offset there is is 255.
            let Ok(offset) = u8::try_from(bytes.len()) else { break };
            let count = u8::try_from(missing).map_or(PART, |missing| missing.min(PART));
            let part = self.command(call, ask(offset, count)).await?.bytes;
            if part.is_empty() {
                break;
            }
            bytes.extend(part);
        }
        Ok((bytes, next))
    }

    async fn read_sensors(&mut self, call: &mut Call, known: Vec<Sensor>) -> Result<Sensors, BmcError> {
        let mut read = Sensors::default();
        for sensor in known {
            if sensor.owner != BMC || sensor.lun != 0 {
                read.warnings.push(format!("{} is not the BMC's own and was not read", sensor.name));
                continue;
            }
            match self.command(call, GetSensorReading(sensor.number)).await {
                Ok(reading) => read.sensors.push(value(&sensor, reading)),
                // A record of what this board does not have.
                Err(BmcError::Refused { code, meaning, .. }) => {
                    read.warnings.push(format!("{}: completion code {code} ({meaning})", sensor.name));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }
}

fn value(sensor: &Sensor, reading: SensorReading) -> SensorValue {
    let thresholds = sensor.has_thresholds();
    let states = if reading.available && !thresholds { words(sensor, reading.states) } else { Vec::new() };
    SensorValue {
        name: sensor.name.clone(),
        kind: SensorType::from(sensor.kind).to_string(),
        value: sensor.scale.filter(|_| reading.available).and_then(|scale| scale.value(reading.raw)),
        unit: sensor.scale.map_or("", |scale| scale.unit()),
        health: if reading.available && thresholds { health(reading.states) } else { SensorHealth::Unknown },
        states,
    }
}

/// Table 35-15, byte 4: crossed thresholds.
fn health(states: u16) -> SensorHealth {
    const NON_CRITICAL: u16 = 0b00_1001;
    const WORSE: u16 = 0b11_0110;
    match states {
        states if states & WORSE != 0 => SensorHealth::Critical,
        states if states & NON_CRITICAL != 0 => SensorHealth::Warning,
        _ => SensorHealth::Ok,
    }
}

/// What the states of a discrete sensor mean (Tables 42-2 and 42-3).
fn words(sensor: &Sensor, states: u16) -> Vec<String> {
    let offsets = (0..15_u8).filter(|offset| states & (1 << offset) != 0);
    offsets.map(|offset| State { sensor, offset }.to_string()).collect()
}

struct State<'a> {
    sensor: &'a Sensor,
    offset: u8,
}

impl fmt::Display for State<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        decode_event(f, self.sensor.event_type, SensorType::from(self.sensor.kind), self.offset)
    }
}
