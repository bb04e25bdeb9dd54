//! The services that the scheduler asks, and the racks that it tells.

use farrier_identity::client::{Expect, channel, channel_with_deadline};
use farrier_identity::{Credentials, Identity, IdentityError};
use farrier_proto::images::image_service_client::ImageServiceClient;
use farrier_proto::inventory::dispatch_service_client::DispatchServiceClient;
use farrier_proto::inventory::flavor_service_client::FlavorServiceClient;
use farrier_proto::inventory::node_service_client::NodeServiceClient;
use farrier_proto::inventory::rack_registry_service_client::RackRegistryServiceClient;
use farrier_proto::inventory::site_service_client::SiteServiceClient;
use farrier_proto::rack::bmc_service_client::BmcServiceClient;
use farrier_proto::rack::console_service_client::ConsoleServiceClient;
use farrier_proto::rack::rack_service_client::RackServiceClient;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tonic::transport::Channel;

/// Candidates of a large installation come in one message: 10,000 nodes with hardware are about 10 MB.
const MAX_MESSAGE: usize = 256 << 20;

/// Longest wait for an answer of inventory or images: a row or a page of a database, the candidates of a
/// large installation at most.
const CALL: Duration = Duration::from_secs(30);

/// A rack's address and the channel to it.
type Link = (String, Channel);

/// Channels connect when used and again after each break. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Clients {
    credentials: Credentials,
    pub(crate) nodes: NodeServiceClient<Channel>,
    pub(crate) dispatch: DispatchServiceClient<Channel>,
    pub(crate) flavors: FlavorServiceClient<Channel>,
    pub(crate) racks: RackRegistryServiceClient<Channel>,
    pub(crate) sites: SiteServiceClient<Channel>,
    pub(crate) images: ImageServiceClient<Channel>,
    /// One channel a rack, by rack name and address: a moved rack gets a new one.
    links: Arc<Mutex<HashMap<String, Link>>>,
}

impl Clients {
    pub(crate) fn new(
        credentials: &Credentials,
        inventory: &str,
        images: &str,
    ) -> Result<Self, IdentityError> {
        Self::with_deadline(credentials, inventory, images, CALL)
    }

    fn with_deadline(
        credentials: &Credentials,
        inventory: &str,
        images: &str,
        deadline: Duration,
    ) -> Result<Self, IdentityError> {
        let service = |name: &str| Expect::Exactly(Identity::Service(name.to_owned()));
        let inventory = channel_with_deadline(inventory, credentials, service("inventory"), deadline)?;
        let images = channel_with_deadline(images, credentials, service("images"), deadline)?;
        Ok(Self {
            credentials: credentials.clone(),
            nodes: NodeServiceClient::new(inventory.clone()),
            dispatch: DispatchServiceClient::new(inventory.clone()).max_decoding_message_size(MAX_MESSAGE),
            flavors: FlavorServiceClient::new(inventory.clone()),
            racks: RackRegistryServiceClient::new(inventory.clone()),
            sites: SiteServiceClient::new(inventory),
            images: ImageServiceClient::new(images),
            links: Arc::default(),
        })
    }

    /// The rackd of `rack` (`racks/<id>`) at `address`.
    pub(crate) fn rack(
        &self,
        rack: &str,
        address: &str,
    ) -> Result<RackServiceClient<Channel>, IdentityError> {
        self.link(rack, address).map(RackServiceClient::new)
    }

    /// What its machines' BMCs know.
    pub(crate) fn bmcs(&self, rack: &str, address: &str) -> Result<BmcServiceClient<Channel>, IdentityError> {
        self.link(rack, address).map(BmcServiceClient::new)
    }

    /// Its consoles.
    pub(crate) fn consoles(
        &self,
        rack: &str,
        address: &str,
    ) -> Result<ConsoleServiceClient<Channel>, IdentityError> {
        self.link(rack, address).map(ConsoleServiceClient::new)
    }

    fn link(&self, rack: &str, address: &str) -> Result<Channel, IdentityError> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, link)) = links.get(rack)
            && known == address
        {
            return Ok(link.clone());
        }
        let id = rack.rsplit('/').next().unwrap_or_default().to_owned();
        let link = channel(address, &self.credentials, Expect::Exactly(Identity::Rack(id)))?;
        links.insert(rack.to_owned(), (address.to_owned(), link.clone()));
        Ok(link)
    }
}
