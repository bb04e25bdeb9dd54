//! Sensors and power draw: by Thermal and Power where the chassis has them, which are two requests, else by the
//! resources that came after them in 2020, which are one for each sensor.

use async_trait::async_trait;

use super::document::{Document, Path};
use super::driver::{DRIVER, RedfishBmc, optional};
use super::link::Link;
use super::{inventory, readings};
use crate::actor::Call;
use crate::coalesce::{Joined, Turn};
use crate::{BmcError, Capability, Deadline, PowerDraw, ReadPowerDraw, ReadSensors, SensorValue, Sensors};

/// Sensors of one call: between two, others have their turn.
const BATCH: usize = 8;
/// Sensors of one chassis.
const MOST: usize = 512;

#[async_trait]
impl ReadSensors for RedfishBmc {
    async fn sensors(&self, deadline: Deadline) -> Result<Sensors, BmcError> {
        self.kept.reads.sensors.ask_in_parts(deadline, |turn| self.all_sensors(turn, deadline)).await
    }
}

impl RedfishBmc {
    async fn all_sensors(
        &self,
        turn: Turn<Sensors>,
        deadline: Deadline,
    ) -> Result<(Joined<Sensors>, Sensors), BmcError> {
        let first = self.call(deadline, |link, call| {
            Box::pin(async move {
                let joined = turn.begin();
                let mut warnings = Vec::new();
                let chassis = link.all_chassis(call, &mut warnings).await?;
                Ok((joined, chassis, warnings))
            })
        });
        let (joined, chassis, warnings) = first.await?;
        let mut read = Sensors { warnings, ..Sensors::default() };
        let mut places = 0;
        for chassis in chassis {
            let lists: Vec<_> = ["Thermal", "Power"].iter().filter_map(|name| chassis.link(name)).collect();
            places += lists.len();
            for path in &lists {
                let asked = path.clone();
                let list = self
                    .call(deadline, move |link, call| Box::pin(async move { link.get(call, &asked).await }))
                    .await;
                if let Some(list) = optional(list, &mut read.warnings, path.as_str())? {
                    read.sensors.extend(readings::lists(&list));
                }
            }
            let Some(path) = chassis.link("Sensors").filter(|_| lists.is_empty()) else { continue };
            places += 1;
            let place = path.as_str().to_owned();
            let members = self.call(deadline, |link, call| Box::pin(link.sensor_list(call, path))).await;
            let members = optional(members, &mut read.warnings, &place)?.unwrap_or_default();
            for batch in members.chunks(BATCH) {
                let batch = batch.to_vec();
                let part = self.call(deadline, |link, call| Box::pin(link.sensors(call, batch))).await?;
                read.sensors.extend(part.sensors);
                part.warnings.into_iter().for_each(|warning| inventory::warn(&mut read.warnings, warning));
            }
        }
        // Also where no chassis could be read: whoever else speaks for the machine is asked then.
        if places == 0 {
            return Err(BmcError::Unsupported { driver: DRIVER, capability: Capability::Sensors.as_str() });
        }
        Ok((joined, read))
    }
}

#[async_trait]
impl ReadPowerDraw for RedfishBmc {
    async fn power_draw(&self, deadline: Deadline) -> Result<PowerDraw, BmcError> {
        self.read(&self.kept.reads.draw, deadline, |link, call| Box::pin(link.draw(call))).await
    }
}

impl Link {
    async fn all_chassis(
        &mut self,
        call: &mut Call,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<Document>, BmcError> {
        let (_, system) = self.system(call).await?;
        let mut found = Vec::new();
        let paths = optional(self.chassis(call, &system).await, warnings, "Chassis")?;
        for path in paths.unwrap_or_default() {
            found.extend(optional(self.get(call, &path).await, warnings, path.as_str())?);
        }
        Ok(found)
    }

    async fn sensor_list(&mut self, call: &mut Call, path: Path) -> Result<Vec<Path>, BmcError> {
        Ok(self.get(call, &path).await?.links("Members", MOST))
    }

    async fn sensors(&mut self, call: &mut Call, paths: Vec<Path>) -> Result<Sensors, BmcError> {
        let mut read = Sensors::default();
        for path in paths {
            let document = self.get(call, &path).await;
            let document = optional(document, &mut read.warnings, path.as_str())?;
            let sensor: Option<SensorValue> = document.as_ref().map(readings::sensor);
            read.sensors.extend(sensor);
        }
        Ok(read)
    }

    /// Of the first chassis that says it: the others are around it, or inside.
    async fn draw(&mut self, call: &mut Call) -> Result<PowerDraw, BmcError> {
        type Read = fn(&Document) -> Option<PowerDraw>;
        let ways: [(&str, Read); 2] =
            [("Power", readings::draw_of_power), ("EnvironmentMetrics", readings::draw_of_environment)];
        for chassis in self.all_chassis(call, &mut Vec::new()).await? {
            for (name, read) in ways {
                let Some(path) = chassis.link(name) else { continue };
                let document = optional(self.get(call, &path).await, &mut Vec::new(), name)?;
                if let Some(draw) = document.as_ref().and_then(read) {
                    return Ok(draw);
                }
            }
        }
        Err(BmcError::Unsupported { driver: DRIVER, capability: Capability::PowerDraw.as_str() })
    }
}
