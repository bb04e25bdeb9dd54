//! Power, the boot device, identity and inventory of a server.
//!
//! The chassis has an order of boot devices for all boots, and `using-pxe`, which makes one boot a network boot. Booting from
//! the network once is both: the order is written, since that survives us and reads back, each start says `using-pxe`
//! while the network is first, and after that start the old order is given back.

use std::net::SocketAddr;

use async_trait::async_trait;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::SEAMICRO;
use super::link::{Ask, Link};
use super::words::{self, DISK, PXE};
use crate::actor::{self, Call, Job};
use crate::redfish::inventory::mac_address;
use crate::{
    BmcError, BmcIdentity, BootDevice, BootMode, BootOverride, Deadline, Device, Identity, Inventory,
    InventoryNic, Power, PowerState, ReadInventory,
};

/// One server: a mailbox to its actor.
#[derive(Clone)]
pub(super) struct SeaMicro {
    pub(super) addr: SocketAddr,
    mailbox: mpsc::Sender<Job<Link>>,
}

impl SeaMicro {
    pub(super) fn new(addr: SocketAddr, mailbox: mpsc::Sender<Job<Link>>) -> Self {
        Self { addr, mailbox }
    }

    pub(super) async fn call<T, F>(&self, deadline: Deadline, operation: F) -> Result<T, BmcError>
    where
        T: Send + 'static,
        F: for<'a> FnOnce(&'a mut Link, &'a mut Call) -> BoxFuture<'a, Result<T, BmcError>> + Send + 'static,
    {
        actor::call(self.addr, &self.mailbox, deadline, operation).await
    }
}

#[async_trait]
impl Power for SeaMicro {
    async fn power_status(&self, deadline: Deadline) -> Result<PowerState, BmcError> {
        self.call(deadline, |link, call| Box::pin(link.power(call))).await
    }

    async fn power_on(&self, deadline: Deadline) -> Result<(), BmcError> {
        self.call(deadline, |link, call| Box::pin(link.power_on(call))).await
    }

    async fn power_off(&self, deadline: Deadline) -> Result<(), BmcError> {
        self.call(deadline, |link, call| Box::pin(link.power_off(call, FORCED))).await
    }

    async fn power_soft(&self, deadline: Deadline) -> Result<(), BmcError> {
        self.call(deadline, |link, call| Box::pin(link.power_off(call, ASKED))).await
    }

    /// The chassis has no such action: off, seen to be off, on.
    async fn power_cycle(&self, deadline: Deadline) -> Result<(), BmcError> {
        self.call(deadline, |link, call| Box::pin(link.power_cycle(call))).await
    }

    async fn power_reset(&self, deadline: Deadline) -> Result<(), BmcError> {
        self.call(deadline, |link, call| Box::pin(link.power_reset(call))).await
    }
}

#[async_trait]
impl BootDevice for SeaMicro {
    async fn set_boot_device(
        &self,
        wanted: BootOverride,
        deadline: Deadline,
    ) -> Result<BootOverride, BmcError> {
        self.call(deadline, move |link, call| Box::pin(link.set_boot_device(call, wanted))).await
    }

    async fn boot_device(&self, deadline: Deadline) -> Result<BootOverride, BmcError> {
        self.call(deadline, |link, call| Box::pin(link.boot_device(call))).await
    }
}

#[async_trait]
impl Identity for SeaMicro {
    async fn identity(&self, deadline: Deadline) -> Result<BmcIdentity, BmcError> {
        self.call(deadline, |link, call| Box::pin(link.identity(call))).await
    }
}

#[async_trait]
impl ReadInventory for SeaMicro {
    async fn inventory(&self, deadline: Deadline) -> Result<Inventory, BmcError> {
        self.call(deadline, |link, call| Box::pin(link.inventory(call))).await
    }
}

const ASKED: &str = "?action=power-off";
const FORCED: &str = "?action=power-off&force=true";
const RESET: &str = "power reset";

impl Link {
    async fn power(&mut self, call: &mut Call) -> Result<PowerState, BmcError> {
        let server = self.server(call).await?;
        words::power(&server).ok_or_else(|| {
            let seen = server.at("active").map_or("none".to_owned(), Value::to_string);
            self.bad_answer(&Ask::get(self.of_server("")), "active as true or false", &seen)
        })
    }

    async fn power_on(&mut self, call: &mut Call) -> Result<(), BmcError> {
        // What is on does not start, and would use up a boot from the network.
        if self.power(call).await? == PowerState::On {
            return Ok(());
        }
        self.start(call, "power-on", None).await
    }

    async fn power_off(&mut self, call: &mut Call, how: &'static str) -> Result<(), BmcError> {
        let ask = Ask::put(self.of_server(how), json!({}));
        match self.change(call, &ask).await {
            Err(refused @ BmcError::Http { .. }) => match self.power(call).await? {
                PowerState::Off => Ok(()),
                PowerState::On => Err(refused),
            },
            other => other.map(drop),
        }
    }

    async fn power_cycle(&mut self, call: &mut Call) -> Result<(), BmcError> {
        self.power_off(call, FORCED).await?;
        let mut attempt = 0;
        while self.power(call).await? != PowerState::Off {
            let pause = self.tuning.busy(attempt);
            if pause >= call.deadline.remaining() {
                let (expected, seen) = ("off".to_owned(), "on".to_owned());
                return Err(BmcError::NotApplied {
                    addr: self.address.addr,
                    what: "power off",
                    expected,
                    seen,
                });
            }
            attempt += 1;
            tokio::time::sleep(pause).await;
        }
        self.start(call, "power-on", None).await
    }

    async fn power_reset(&mut self, call: &mut Call) -> Result<(), BmcError> {
        match self.start(call, "reset", Some(RESET)).await {
            Err(BmcError::AnswerLost { addr, command, .. }) => {
                Err(BmcError::AnswerLost { addr, command, power_now: self.power(call).await.ok() })
            }
            other => other,
        }
    }

    /// Starts the server, from the network where that is first.
    async fn start(
        &mut self,
        call: &mut Call,
        action: &'static str,
        event: Option<&'static str>,
    ) -> Result<(), BmcError> {
        let order = match self.boot_order(call).await {
            Ok(order) => order,
            // Without an order to read there is none that says network.
            Err(BmcError::Http { status: 404 | 405 | 501, .. }) => String::new(),
            Err(error) => return Err(error),
        };
        let mut body = json!({ "action": action });
        if words::is_pxe(&order)
            && let Some(body) = body.as_object_mut()
        {
            body.insert("using-pxe".to_owned(), true.into());
        }
        let ask = Ask::put(self.of_server(""), body);
        let ask = match event {
            Some(event) => ask.once(event),
            None => ask,
        };
        self.change(call, &ask).await?;
        let before = self.undo.with(&self.address, |order| order.clone());
        if let Some(before) = before.filter(|_| words::is_pxe(&order)) {
            match self.order(call, &before).await {
                Ok(()) => self.undo.with(&self.address, |order| *order = None),
                // It has started, which is what was asked for.
                Err(error) => {
                    let (addr, server) = (self.address.addr, &self.address.system);
                    tracing::warn!(bmc.addr = %addr, server, %error, "the boot order still has the network first");
                }
            }
        }
        Ok(())
    }

    async fn boot_order(&mut self, call: &mut Call) -> Result<String, BmcError> {
        // So it is: `server` here, `servers` everywhere else.
        let ask = Ask::get(format!("/server/{}/bios/bootOrder", self.address.system));
        let answer = self.change(call, &ask).await?;
        words::boot_order(&answer.body)
            .ok_or_else(|| self.bad_answer(&ask, "a boot order such as \"pxe,hd0\"", &answer.describe()))
    }

    async fn order(&mut self, call: &mut Call, order: &str) -> Result<(), BmcError> {
        let body = json!({ "action": "set-bios-boot-order", "boot-order": order });
        self.change(call, &Ask::put(self.of_server(""), body)).await.map(drop)
    }

    async fn set_boot_device(
        &mut self,
        call: &mut Call,
        wanted: BootOverride,
    ) -> Result<BootOverride, BmcError> {
        let order = match wanted.device {
            Device::Network => PXE,
            Device::Disk | Device::None => DISK,
            Device::Cdrom | Device::BiosSetup | Device::Other(_) => {
                return Err(BmcError::Unsupported {
                    driver: SEAMICRO,
                    capability: "setting this boot device",
                });
            }
        };
        let before = self.boot_order(call).await?;
        let once = wanted.device == Device::Network && !wanted.persistent;
        // Before anything changes: a try that does not come to its end leaves the order changed, too.
        if once && !words::is_pxe(&before) {
            self.undo.with(&self.address, |undo| *undo = Some(before));
        }
        self.order(call, order).await?;
        let (mut attempt, mut seen) = (0, self.boot_order(call).await?);
        while words::is_pxe(&seen) != words::is_pxe(order) {
            // The chassis answers before its cards have stored it.
            let pause = self.tuning.busy(attempt);
            attempt += 1;
            if attempt >= self.tuning.tries || pause >= call.deadline.remaining() {
                let (addr, what) = (self.address.addr, "the boot order");
                return Err(BmcError::NotApplied { addr, what, expected: order.to_owned(), seen });
            }
            tokio::time::sleep(pause).await;
            seen = self.boot_order(call).await?;
        }
        let persistent = self.undo.with(&self.address, |undo| {
            if !once {
                *undo = None;
            }
            undo.is_none()
        });
        Ok(BootOverride { persistent, ..wanted })
    }

    async fn boot_device(&mut self, call: &mut Call) -> Result<BootOverride, BmcError> {
        let order = self.boot_order(call).await?;
        let device = if words::is_pxe(&order) { Device::Network } else { Device::Disk };
        let persistent = self.undo.with(&self.address, |undo| undo.is_none());
        Ok(BootOverride { device, persistent, mode: BootMode::Bios })
    }

    async fn identity(&mut self, call: &mut Call) -> Result<BmcIdentity, BmcError> {
        self.server(call).await?;
        Ok(BmcIdentity {
            manufacturer: "SeaMicro".to_owned(),
            product: format!("server {}", self.address.system),
            firmware: String::new(),
            protocol: "SeaMicro REST API 2.0".to_owned(),
            guid: None,
            serial: String::new(),
        })
    }

    async fn inventory(&mut self, call: &mut Call) -> Result<Inventory, BmcError> {
        let server = self.server(call).await?;
        let mut seen = Inventory { manufacturer: "SeaMicro".to_owned(), ..Inventory::default() };
        let nics = server.at("nic").and_then(Value::as_object);
        for (id, nic) in nics.into_iter().flatten().take(self.tuning.max_members) {
            let name = format!("nic{id}").chars().filter(|c| !c.is_control()).take(32).collect();
            let mac = nic.get("macAddr").and_then(Value::as_str).unwrap_or_default();
            match mac_address(mac) {
                Some(mac_address) => seen.nics.push(InventoryNic { name, mac_address, link_up: None }),
                None => seen.warnings.push(format!("{name}: no MAC address")),
            }
        }
        if nics.is_none() {
            seen.warnings.push("there are no NICs".to_owned());
        }
        seen.warnings.push("the chassis says nothing of processors and memory".to_owned());
        Ok(seen)
    }
}
