//! The inventory that a board carries in its FRU information (IPMI 2.0 section 34), and the BMC's firmware.

use async_trait::async_trait;
use farrier_ipmi::fru::{Fru, GetFruArea, ReadFru};
use ipmi_rs_core::app::GetDeviceId;

use super::driver::IpmiBmc;
use super::link::Link;
use crate::actor::Call;
use crate::coalesce::{Joined, Turn};
use crate::{BmcError, Deadline, Inventory, ReadInventory};

/// The board of the BMC itself (section 34.1).
const DEVICE: u8 = 0;
/// Bytes of one read: what every BMC can answer.
const PART: u8 = 16;
/// Inventories are a few hundred bytes; what says more is not read further.
const MOST: usize = 2048;

#[async_trait]
impl ReadInventory for IpmiBmc {
    async fn inventory(&self, deadline: Deadline) -> Result<Inventory, BmcError> {
        self.kept.reads.inventory.ask_in_parts(deadline, |turn| self.board(turn, deadline)).await
    }
}

impl IpmiBmc {
    async fn board(
        &self,
        turn: Turn<Inventory>,
        deadline: Deadline,
    ) -> Result<(Joined<Inventory>, Inventory), BmcError> {
        let first = self.call(deadline, |link, call| {
            Box::pin(async move {
                let joined = turn.begin();
                Ok((joined, link.command(call, GetDeviceId).await?))
            })
        });
        let (joined, device) = first.await?;
        let firmware = format!("{}.{:02}", device.major_fw_revision, device.minor_fw_revision);
        let bytes = self.call(deadline, |link, call| Box::pin(link.fru(call))).await;
        let mut inventory = match bytes.map(|bytes| Fru::parse(&bytes)) {
            Ok(Ok(fru)) => of(fru),
            Ok(Err(error)) => warned(format!("the board's FRU information cannot be read: {error}")),
            // Optional, and often never written.
            Err(BmcError::Refused { code, meaning, .. }) => {
                warned(format!("the board has no FRU information: completion code {code} ({meaning})"))
            }
            Err(error) => return Err(error),
        };
        inventory.firmware.push(("BMC".to_owned(), firmware));
        Ok((joined, inventory))
    }
}

impl Link {
    /// The FRU information of the board, as it is.
    async fn fru(&mut self, call: &mut Call) -> Result<Vec<u8>, BmcError> {
        let area = self.command(call, GetFruArea(DEVICE)).await?;
        // Offsets and counts are in words there.
        let unit = if area.by_words { 2 } else { 1 };
        let size = (usize::from(area.bytes) * unit).min(MOST);
        let mut bytes = Vec::with_capacity(size);
        while let Some(missing) = size.checked_sub(bytes.len()).filter(|missing| *missing > 0) {
            let Ok(offset) = u16::try_from(bytes.len() / unit) else { break };
            let count = u8::try_from(missing).map_or(PART, |missing| missing.min(PART));
            let count = u8::try_from(usize::from(count).div_ceil(unit)).unwrap_or(1);
            let part = self.command(call, ReadFru { device: DEVICE, offset, count }).await?;
            if part.is_empty() {
                break;
            }
            bytes.extend(part);
        }
        bytes.truncate(size);
        Ok(bytes)
    }
}

/// What was sold counts; where that says nothing, its board or its case does.
fn of(fru: Fru) -> Inventory {
    let Fru { chassis, board, product, broken } = fru;
    let (chassis, board, product) =
        (chassis.unwrap_or_default(), board.unwrap_or_default(), product.unwrap_or_default());
    let first = |texts: [String; 3]| texts.into_iter().find(|text| !text.is_empty()).unwrap_or_default();
    Inventory {
        manufacturer: first([product.manufacturer, board.manufacturer, String::new()]),
        model: first([product.name, board.product, String::new()]),
        serial_number: first([product.serial_number, chassis.serial_number, board.serial_number]),
        warnings: broken.iter().map(|error| format!("the board's FRU information: {error}")).collect(),
        ..Inventory::default()
    }
}

fn warned(warning: String) -> Inventory {
    Inventory { warnings: vec![warning], ..Inventory::default() }
}
