//! What a rack keeps for the time when nobody here answers.

use super::resource::one_more;
use super::watch::rack;
use super::{App, error};
use farrier_proto::inventory::BootPort;
use farrier_runtime::authz::Caller;
use farrier_runtime::page::Page;
use tonic::Status;

impl App {
    pub(crate) async fn boot_ports(
        &self,
        caller: &Caller,
        page_size: i32,
        page_token: &str,
    ) -> Result<(Vec<BootPort>, String), Status> {
        let rack = rack(caller)?;
        let page = Page::parse(page_size, page_token)?;
        let rows = self.store.ports_of_rack(&rack, page.after.as_deref(), one_more(&page)).await;
        let (rows, next) = page.finish(rows.map_err(error::store)?, |port| port.name.clone());
        let boot = rows.into_iter().filter(|port| port.pxe_enabled);
        let boot = boot.map(|p| BootPort { port: p.name, node: p.node, mac_address: p.mac_address });
        Ok((boot.collect(), next))
    }
}
