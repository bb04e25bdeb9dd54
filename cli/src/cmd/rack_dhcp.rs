//! `farrier rack dhcp …`: the addresses of a rack's machines.

use super::rack::daemon;
use super::{Session, boot_events};
use crate::call;
use crate::client::pages;
use crate::failure::Failure;
use crate::names::full;
use clap::{Args, Subcommand};
use farrier_model::Collection::Racks;
use farrier_proto::rack::rack_service_client::RackServiceClient;
use farrier_proto::rack::{ListLeasesRequest, ListReservationsRequest, WatchBootEventsRequest};

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Lists the addresses that machines hold now, those reserved for ports and those of pools.
    Leases(Which),
    /// Shows what DHCP machines asked for and got, oldest first, and what was decided.
    Log {
        /// The rack, by its name.
        rack: String,
        /// Only of this interface; repeat for more.
        #[arg(long)]
        mac: Vec<String>,
        /// And then what happens, until it is interrupted.
        #[arg(long, short)]
        follow: bool,
        /// rackd's address, instead of the one that inventory has.
        #[arg(long, value_name = "URL")]
        address: Option<String>,
    },
    /// Lists what is reserved for ports now, and what each is told to boot.
    Reservations(Which),
}

#[derive(Debug, Args)]
pub struct Which {
    /// The rack, by its name.
    rack: String,
    /// Only of this network (a segment's name).
    #[arg(long, value_name = "SEGMENT")]
    network: Option<String>,
    /// At most so many.
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
    /// rackd's address, instead of the one that inventory has.
    #[arg(long, value_name = "URL")]
    address: Option<String>,
}

pub async fn run(verb: Verb, session: &Session) -> Result<(), Failure> {
    match verb {
        Verb::Leases(Which { rack, network, limit, address }) => {
            let link = &daemon(session, &full(Racks, &rack)?, address).await?;
            let network = network.unwrap_or_default();
            let leases = pages(limit, |page_size, page_token| {
                let request = ListLeasesRequest { page_size, page_token, network: network.clone() };
                async move {
                    let page = call!(link, RackServiceClient, list_leases, request)?;
                    Ok((page.leases, page.next_page_token))
                }
            });
            session.printer.list(&leases.await?)
        }
        Verb::Log { rack, mac, follow, address } => {
            let link = daemon(session, &full(Racks, &rack)?, address).await?;
            let mac_addresses = mac.iter().map(|text| crate::names::mac(text)).collect::<Result<_, _>>()?;
            let request = WatchBootEventsRequest { mac_addresses, dhcp_only: true, past_only: !follow };
            boot_events::watch(session, &link, request).await
        }
        Verb::Reservations(Which { rack, network, limit, address }) => {
            let link = &daemon(session, &full(Racks, &rack)?, address).await?;
            let network = network.unwrap_or_default();
            let reservations = pages(limit, |page_size, page_token| {
                let request = ListReservationsRequest { page_size, page_token, network: network.clone() };
                async move {
                    let page = call!(link, RackServiceClient, list_reservations, request)?;
                    Ok((page.reservations, page.next_page_token))
                }
            });
            session.printer.list(&reservations.await?)
        }
    }
}
