//! What the network serves to the machine.

use super::context::Context;
use super::plug::tenant;
use super::step::{Step, StepError};
use crate::boot::{Place, Serve};
use crate::config::Role;
use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;

/// An address and the ramdisk's boot script, with a one-time token for each boot.
pub(super) struct Ramdisk;
/// An address, and for firmware that still asks the network: go on to the disk.
pub(super) struct LocalDisk;
/// An address, and the way to the machine's volume.
pub(super) struct San;
/// Nothing in any segment.
pub(super) struct Nothing;

#[async_trait::async_trait]
impl Step for Ramdisk {
    fn name(&self) -> &'static str {
        "publish_ramdisk"
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        let media = cx.boots_from_media()?;
        let home = |mac| cx.rack.home(mac).map(|home| home.name.as_str());
        cx.rack.take_back(cx.machine()?, |mac, segment| !media && home(mac) == Some(&segment.name));
        let addresses = serve_ramdisk(cx).await?;
        cx.task.serves_ramdisk.store(true, Ordering::Release);
        cx.note(format!("reserved {}", list(&addresses))).await
    }
    async fn restore(&self, cx: &Context<'_>) -> Result<(), StepError> {
        self.run(cx).await
    }
}

/// Publishes the boot script or the boot CD with a new token. Also called after each script given out, and after each token
/// that was used while it was still served, so that every boot has a token of its own.
pub(crate) async fn serve_ramdisk(cx: &Context<'_>) -> Result<Vec<Ipv4Addr>, StepError> {
    let machine = cx.machine()?;
    let token = cx.task.edit_secrets(|s| s.new_boot_token()).await?;
    if cx.boots_from_media()? {
        let key = cx.media_key().await?;
        let home = cx.rack.home_of(machine);
        let segment = home.ok_or_else(|| StepError::fatal("this rack has no provisioning segment"))?;
        return Ok(vec![cx.rack.publish_cd(machine, segment, &key, &token).await?]);
    }
    let serve = Serve::Ramdisk { token: &token };
    let hostname = machine.name.rsplit('/').next().unwrap_or_default();
    Ok(cx.rack.publish(machine, hostname, Place::Home, &serve).await?)
}

#[async_trait::async_trait]
impl Step for LocalDisk {
    fn name(&self) -> &'static str {
        "publish_local_disk"
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        let addresses = serve_system(cx, &Serve::LocalDisk).await?;
        tell(cx, &addresses).await
    }
    /// A deployed machine keeps its address as long as it is deployed.
    fn lasts(&self) -> bool {
        true
    }
    async fn hold(&self, cx: &Context<'_>) -> Result<(), StepError> {
        self.restore(cx).await
    }
    async fn restore(&self, cx: &Context<'_>) -> Result<(), StepError> {
        serve_system(cx, &Serve::LocalDisk).await.map(|_| ())
    }
}

#[async_trait::async_trait]
impl Step for San {
    fn name(&self) -> &'static str {
        "publish_san"
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        let addresses = serve_san(cx).await?;
        tell(cx, &addresses).await
    }
    fn lasts(&self) -> bool {
        true
    }
    /// Its disk may be away, or hang: its machine waits for it, and is no stranger meanwhile.
    async fn hold(&self, cx: &Context<'_>) -> Result<(), StepError> {
        serve_system(cx, &Serve::Wait).await.map(|_| ())
    }
    async fn restore(&self, cx: &Context<'_>) -> Result<(), StepError> {
        serve_san(cx).await.map(|_| ())
    }
}

async fn serve_san(cx: &Context<'_>) -> Result<Vec<Ipv4Addr>, StepError> {
    let (instance, node) = (&cx.deploy()?.instance, &cx.machine()?.name);
    let (access, account) = cx.rack.volumes.next_boot(instance, node, &cx.task.id).await?;
    serve_system(cx, &Serve::San { access: &access, account: &account }).await
}

/// What the finished system finds in the network where it lives.
async fn serve_system(cx: &Context<'_>, serve: &Serve<'_>) -> Result<Vec<Ipv4Addr>, StepError> {
    cx.task.ramdisk_ends().await;
    let segment = tenant(cx)?;
    let place = match segment.role {
        Role::Provisioning => Place::Home,
        Role::Tenant | Role::Management => Place::In(segment),
    };
    cx.rack.take_back(cx.machine()?, |mac, other| match place {
        Place::In(segment) => segment.name == other.name,
        Place::Home => cx.rack.home(mac).is_some_and(|home| home.name == other.name),
    });
    Ok(cx.rack.publish(cx.machine()?, &cx.deploy()?.hostname, place, serve).await?)
}

/// The addresses into the task's result.
async fn tell(cx: &Context<'_>, addresses: &[Ipv4Addr]) -> Result<(), StepError> {
    let texts: Vec<String> = addresses.iter().map(Ipv4Addr::to_string).collect();
    cx.task.edit(|task| task.result.get_or_insert_default().addresses = texts).await?;
    cx.note(format!("reserved {} in {}", list(addresses), tenant(cx)?.name)).await
}

#[async_trait::async_trait]
impl Step for Nothing {
    fn name(&self) -> &'static str {
        "unpublish"
    }
    async fn run(&self, cx: &Context<'_>) -> Result<(), StepError> {
        cx.task.ramdisk_ends().await;
        cx.rack.take_back(cx.machine()?, |_, _| false);
        Ok(())
    }
    async fn restore(&self, cx: &Context<'_>) -> Result<(), StepError> {
        self.run(cx).await
    }
}

fn list(addresses: &[Ipv4Addr]) -> String {
    addresses.iter().map(Ipv4Addr::to_string).collect::<Vec<_>>().join(", ")
}
