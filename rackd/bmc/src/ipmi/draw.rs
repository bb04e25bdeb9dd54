//! The power draw by DCMI (1.5, section 6.6.1).

use std::time::Duration;

use async_trait::async_trait;
use farrier_ipmi::command::dcmi::{GetPowerReading, PowerReading};

use super::driver::IpmiBmc;
use crate::{BmcError, Deadline, PowerDraw, ReadPowerDraw};

#[async_trait]
impl ReadPowerDraw for IpmiBmc {
    async fn power_draw(&self, deadline: Deadline) -> Result<PowerDraw, BmcError> {
        let read = self.read(&self.kept.reads.draw, deadline, |link, call| {
            Box::pin(async move { link.command(call, GetPowerReading).await.map(draw) })
        });
        read.await
    }
}

fn draw(reading: PowerReading) -> PowerDraw {
    if !reading.active {
        return PowerDraw::default();
    }
    PowerDraw {
        now: Some(reading.current.into()),
        average: Some(reading.average.into()),
        least: Some(reading.minimum.into()),
        most: Some(reading.maximum.into()),
        // Some BMCs measure and do not count.
        period: (reading.period > 0).then(|| Duration::from_millis(reading.period.into())),
    }
}
