//! What racks look at, and what comes of what they see.

use super::node::{bmc_context, kg_context, next_context};
use super::resource::{event, one_more};
use super::shared_account::{self, Rotating, account};
use super::{App, check, error, observe};
use farrier_identity::Identity;
use farrier_inventory_store::Watchable;
use farrier_model::Collection;
use farrier_model::lifecycle::State;
use farrier_proto::inventory::{BmcHealth, Node, ReportedObservation, WatchedNode};
use farrier_runtime::authz::Caller;
use farrier_runtime::error::{internal, invalid};
use farrier_runtime::page::Page;
use farrier_runtime::time;
use std::collections::HashMap;
use tonic::Status;

impl App {
    pub(crate) async fn watched(
        &self,
        caller: &Caller,
        page_size: i32,
        page_token: &str,
    ) -> Result<(Vec<WatchedNode>, String), Status> {
        let rack = rack(caller)?;
        let page = Page::parse(page_size, page_token)?;
        let states: Vec<&str> = UNVERIFIED.iter().map(|state| state.as_str()).collect();
        let rows = self.store.watchable(&rack, &states, page.after.as_deref(), one_more(&page)).await;
        let (rows, next) = page.finish(rows.map_err(error::store)?, |row| row.node.name.clone());
        // Whoever rotates an account may be on another page, or not looked at at all.
        let rotating = self.store.rotating(Some(&rack)).await.map_err(error::store)?;
        let rotating = shared_account::by_account(&rotating);
        // One node whose password cannot be opened keeps nobody from looking at the others.
        let watched = rows.into_iter().filter_map(|row| {
            let node = row.node.name.clone();
            self.watched_node(row, &rotating).unwrap_or_else(|status| {
                tracing::error!(node.id = %node, why = status.message(), "its BMC is not looked at");
                None
            })
        });
        Ok((watched.collect(), next))
    }

    pub(crate) async fn report_observations(
        &self,
        caller: &Caller,
        reported: Vec<ReportedObservation>,
    ) -> Result<(), Status> {
        let rack = rack(caller)?;
        if reported.len() > OBSERVATIONS {
            let seen = reported.len();
            return Err(invalid("observations", format!("expected at most {OBSERVATIONS}, saw {seen}")));
        }
        for one in &reported {
            check::name("observations.node", Collection::Nodes, &one.node)?;
            check::text("observations.bmc_problem", &one.bmc_problem)?;
            check::word("observations.driver", &one.driver)?;
            check::text("observations.machine_problem", &one.machine_problem)?;
            check::text("observations.passed_over", &one.passed_over)?;
            if let Some(waiting) = &one.waiting {
                check::word("observations.waiting.step", &waiting.step)?;
            }
            if let Some(machine) = &one.machine {
                check::text("observations.machine.uuid", &machine.uuid)?;
                check::text("observations.machine.serial_number", &machine.serial_number)?;
                check::word("observations.machine.driver", &machine.driver)?;
            }
            if one.bmc_health() == BmcHealth::Unspecified {
                return Err(invalid("observations.bmc_health", "expected how the BMC took it"));
            }
        }
        let by_name: HashMap<String, ReportedObservation> =
            reported.into_iter().map(|one| (one.node.clone(), one)).collect();
        let names: Vec<String> = by_name.keys().cloned().collect();
        let now_ms = time::now_ms();
        let judge = |node: &Node, before: Option<&_>| {
            let judged = observe::judge(node, before, by_name.get(&node.name)?, now_ms);
            let whole = |happened: observe::Happened| farrier_proto::inventory::Event {
                before: happened.before,
                after: happened.after,
                detail: happened.detail,
                ..event(caller, &node.name, happened.action)
            };
            Some((judged.observation, judged.happened.into_iter().map(whole).collect()))
        };
        self.store.observe(&rack, &names, judge).await.map_err(error::store)
    }

    /// Adds what is seen of nodes to what is known of them.
    pub(crate) async fn with_observations(&self, mut nodes: Vec<Node>) -> Result<Vec<Node>, Status> {
        let names: Vec<String> = nodes.iter().map(|node| node.name.clone()).collect();
        let mut seen = self.store.observations(&names).await.map_err(error::store)?;
        for node in &mut nodes {
            node.observation = seen.remove(&node.name);
        }
        Ok(nodes)
    }

    pub(crate) async fn with_observation(&self, node: Node) -> Result<Node, Status> {
        let mut nodes = self.with_observations(vec![node]).await?;
        nodes.pop().ok_or_else(|| internal("a node was lost"))
    }

    /// Nothing, where there is no BMC to look at.
    fn watched_node(&self, row: Watchable, rotating: &Rotating) -> Result<Option<WatchedNode>, Status> {
        let by_another = rotating.get(&account(&row.node)).filter(|_| row.next_secret.is_none());
        let Some(mut bmc) = row.node.bmc.filter(super::bmc::has_bmc) else { return Ok(None) };
        let node = row.node.name;
        let bmc_password = self.bmc_password(&node, row.secret.as_deref())?;
        let mut bmc_next_password = self.bmc_next_password(&node, row.next_secret.as_deref())?;
        if let Some(by) = by_another {
            bmc_next_password = self.bmc_next_password(&by.node, Some(&by.next))?;
            bmc.next_user.clone_from(&by.user);
        }
        let bmc_kg = self.bmc_key(&node, row.kg_secret.as_deref())?;
        Ok(Some(WatchedNode { node, bmc: Some(bmc), bmc_password, bmc_next_password, bmc_kg }))
    }

    /// The password that is sealed for a node's BMC.
    pub(super) fn bmc_password(&self, node: &str, sealed: Option<&[u8]>) -> Result<String, Status> {
        self.opened(&bmc_context(node), sealed)
    }

    /// The one that a rotation gives to it.
    pub(super) fn bmc_next_password(&self, node: &str, sealed: Option<&[u8]>) -> Result<String, Status> {
        self.opened(&next_context(node), sealed)
    }

    /// The BMC's own.
    pub(super) fn bmc_key(&self, node: &str, sealed: Option<&[u8]>) -> Result<String, Status> {
        self.opened(&kg_context(node), sealed)
    }

    fn opened(&self, context: &str, sealed: Option<&[u8]>) -> Result<String, Status> {
        let Some(sealed) = sealed else { return Ok(String::new()) };
        let opened = self.vault.open(context, sealed).map_err(internal)?;
        String::from_utf8(opened.to_vec()).map_err(|_| internal("a BMC password that is not UTF-8"))
    }
}

pub(super) fn rack(caller: &Caller) -> Result<String, Status> {
    match caller.identity() {
        Some(Identity::Rack(id)) => Ok(Collection::Racks.name(id)),
        _ => Err(internal("only racks ask this")),
    }
}

/// Nobody knows yet that these words open the BMC: a wrong password, said every minute, locks accounts.
const UNVERIFIED: &[State] = &[State::Enroll, State::Verifying, State::VerifyFailed];
/// Observations of one report.
const OBSERVATIONS: usize = 100;
