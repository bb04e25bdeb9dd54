//! What an operator does, over the public API: one function a thing to do.

use anyhow::{Context as _, Result};
use farrier_identity::client::{Expect, channel};
use farrier_identity::{Credentials, Identity};
use farrier_proto::images::image_service_client::ImageServiceClient;
use farrier_proto::images::{GetImageRequest, Image};
use farrier_proto::inventory::event_service_client::EventServiceClient;
use farrier_proto::inventory::flavor_service_client::FlavorServiceClient;
use farrier_proto::inventory::node_service_client::NodeServiceClient;
use farrier_proto::inventory::port_service_client::PortServiceClient;
use farrier_proto::inventory::rack_registry_service_client::RackRegistryServiceClient;
use farrier_proto::inventory::site_service_client::SiteServiceClient;
use farrier_proto::inventory::{
    Bmc, CreateFlavorRequest, CreateNodeRequest, CreatePortRequest, CreateRackRequest, CreateSiteRequest,
    Event, ExplainNodeRequest, Explanation, Flavor, GetNodeRequest, ListEventsRequest, Node, Port, Rack,
    Site,
};
use farrier_proto::rack::rack_service_client::RackServiceClient;
use farrier_proto::rack::{BootEvent, GetBootTraceRequest, PowerAction};
use farrier_proto::scheduler::instance_service_client::InstanceServiceClient;
use farrier_proto::scheduler::node_action_service_client::NodeActionServiceClient;
use farrier_proto::scheduler::operation_service_client::OperationServiceClient;
use farrier_proto::scheduler::{
    ActOnNodeRequest, CreateInstanceRequest, DeleteInstanceRequest, GetInstanceRequest, GetOperationRequest,
    Instance, Operation, RecoverInstanceRequest, RotateNodeBmcCredentialsRequest, SetNodePowerRequest,
    SnapshotInstanceRequest,
};
use farrier_proto::types::{BootInterface, BootMode, NodeVerb};
use tonic::transport::Channel;

use super::installation::Endpoints;
use super::operation;
use super::upload::ImageFile;
use crate::machine::Firmware;
use crate::virtual_server::VirtualServer;

/// Channels to every service, as one user. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    pub inventory: Channel,
    pub scheduler: Channel,
    pub images: Channel,
    rack: String,
    credentials: Credentials,
}

/// A server to enrol, with one bootable port.
#[derive(Debug, Clone)]
pub struct NewNode {
    /// Without `nodes/`.
    pub name: String,
    /// Without `racks/`.
    pub rack: String,
    /// `host` or `host:port`.
    pub bmc_address: String,
    pub bmc_user: String,
    pub bmc_password: String,
    /// SHA-256 of the BMC's certificate, where it is driven over Redfish; empty: Redfish over http.
    pub redfish: Option<String>,
    pub boot_mode: BootMode,
    pub boot_interface: BootInterface,
    pub mac: String,
    pub switch_port: String,
}

impl NewNode {
    /// Node `n1` for server `m1` and so on, with its first NIC.
    pub fn of(server: &VirtualServer, rack: &str, bmc_user: &str, bmc_password: &str) -> Result<Self> {
        Ok(Self {
            name: server.name.replace('m', "n"),
            rack: rack.to_owned(),
            bmc_address: server.bmc_address.to_string(),
            bmc_user: bmc_user.to_owned(),
            bmc_password: bmc_password.to_owned(),
            redfish: None,
            boot_interface: BootInterface::Unspecified,
            boot_mode: match server.firmware {
                Firmware::Bios => BootMode::Bios,
                Firmware::Uefi => BootMode::Uefi,
            },
            mac: server.macs.first().context("a server without a NIC")?.clone(),
            switch_port: server.tap.name().to_owned(),
        })
    }
}

impl Client {
    pub(super) fn new(endpoints: &Endpoints, credentials: &Credentials) -> Result<Self> {
        let service = |url: &str, name: &str| {
            channel(url, credentials, Expect::Exactly(Identity::Service(name.to_owned())))
        };
        Ok(Self {
            inventory: service(&endpoints.inventory, "inventory")?,
            scheduler: service(&endpoints.scheduler, "scheduler")?,
            images: service(&endpoints.images, "images")?,
            rack: endpoints.rack.clone(),
            credentials: credentials.clone(),
        })
    }

    pub async fn create_site(&self, name: &str) -> Result<Site> {
        let site = Site { name: format!("sites/{name}"), ..Site::default() };
        let request =
            CreateSiteRequest { site: Some(site), request_id: request_id(), ..CreateSiteRequest::default() };
        let answer = SiteServiceClient::new(self.inventory.clone()).create_site(request).await;
        Ok(answer.with_context(|| format!("site {name}"))?.into_inner())
    }

    /// Registers the installation's rack.
    pub async fn create_rack(&self, name: &str, site: &str) -> Result<Rack> {
        let rack = Rack {
            name: format!("racks/{name}"),
            site: format!("sites/{site}"),
            address: self.rack.clone(),
            ..Rack::default()
        };
        let request =
            CreateRackRequest { rack: Some(rack), request_id: request_id(), ..CreateRackRequest::default() };
        let answer = RackRegistryServiceClient::new(self.inventory.clone()).create_rack(request).await;
        Ok(answer.with_context(|| format!("rack {name}"))?.into_inner())
    }

    /// Enrols a server with its BMC and its port.
    pub async fn create_node(&self, new: &NewNode) -> Result<Node> {
        let node = Node {
            name: format!("nodes/{}", new.name),
            rack: format!("racks/{}", new.rack),
            bmc: Some(Bmc {
                driver: if new.redfish.is_some() { "redfish" } else { "ipmi" }.to_owned(),
                scheme: if new.redfish.as_deref() == Some("") { "http" } else { "" }.to_owned(),
                certificate_sha256: new.redfish.clone().unwrap_or_default(),
                address: new.bmc_address.clone(),
                user: new.bmc_user.clone(),
                password: new.bmc_password.clone(),
                ..Bmc::default()
            }),
            boot_mode: new.boot_mode.into(),
            boot_interface: new.boot_interface.into(),
            architecture: "x86_64".to_owned(),
            ..Node::default()
        };
        let name = node.name.clone();
        let request =
            CreateNodeRequest { node: Some(node), request_id: request_id(), ..CreateNodeRequest::default() };
        let answer = NodeServiceClient::new(self.inventory.clone()).create_node(request).await;
        let node = answer.with_context(|| name.clone())?.into_inner();
        let port = Port {
            node: name,
            mac_address: new.mac.clone(),
            pxe_enabled: true,
            switch_port: new.switch_port.clone(),
            ..Port::default()
        };
        let request =
            CreatePortRequest { port: Some(port), request_id: request_id(), ..CreatePortRequest::default() };
        let answer = PortServiceClient::new(self.inventory.clone()).create_port(request).await;
        answer.with_context(|| format!("port {}", new.mac))?;
        Ok(node)
    }

    pub async fn node(&self, name: &str) -> Result<Node> {
        let request = GetNodeRequest { name: format!("nodes/{name}") };
        Ok(NodeServiceClient::new(self.inventory.clone()).get_node(request).await?.into_inner())
    }

    /// Why a node is where it is.
    pub async fn explain(&self, name: &str) -> Result<Explanation> {
        let request = ExplainNodeRequest { name: format!("nodes/{name}") };
        Ok(NodeServiceClient::new(self.inventory.clone()).explain_node(request).await?.into_inner())
    }

    /// A flavor; its `name` without `flavors/`.
    pub async fn create_flavor(&self, mut flavor: Flavor) -> Result<Flavor> {
        flavor.name = format!("flavors/{}", flavor.name);
        let request = CreateFlavorRequest {
            flavor: Some(flavor),
            request_id: request_id(),
            ..CreateFlavorRequest::default()
        };
        let answer = FlavorServiceClient::new(self.inventory.clone()).create_flavor(request).await;
        Ok(answer.context("flavor")?.into_inner())
    }

    /// Uploads a file; `sent` hears the bytes so far and of all.
    pub async fn import_image(
        &self,
        name: &str,
        file: &ImageFile,
        sent: impl FnMut(u64, u64) + Send + 'static,
    ) -> Result<Image> {
        let messages = file.messages(name, sent)?;
        let answer = ImageServiceClient::new(self.images.clone()).upload_image(messages).await;
        Ok(answer.with_context(|| format!("image {name}"))?.into_inner())
    }

    /// Asks for a verb; see [`Client::wait`].
    /// As the images service knows it.
    pub async fn image(&self, name: &str) -> Result<Image> {
        let request = GetImageRequest { name: format!("images/{name}") };
        let answer = ImageServiceClient::new(self.images.clone()).get_image(request).await;
        Ok(answer.with_context(|| format!("image {name}"))?.into_inner())
    }

    pub async fn act(&self, node: &str, verb: NodeVerb) -> Result<Operation> {
        let request = ActOnNodeRequest {
            name: format!("nodes/{node}"),
            verb: verb.into(),
            request_id: request_id(),
            full_erase: false,
        };
        let answer = NodeActionServiceClient::new(self.scheduler.clone()).act_on_node(request).await;
        Ok(answer.with_context(|| format!("{} of {node}", verb.as_str_name()))?.into_inner())
    }

    /// The power button of a node.
    pub async fn power(&self, node: &str, action: PowerAction) -> Result<Operation> {
        let request = SetNodePowerRequest {
            name: format!("nodes/{node}"),
            action: action.into(),
            request_id: request_id(),
        };
        let answer = NodeActionServiceClient::new(self.scheduler.clone()).set_node_power(request).await;
        Ok(answer.with_context(|| format!("{} of {node}", action.as_str_name()))?.into_inner())
    }

    /// Asks for a new BMC password.
    pub async fn rotate_bmc_credentials(&self, node: &str) -> Result<Operation> {
        self.rotate_bmc_credentials_to(node, "").await
    }

    /// The same for another account; empty: for the one that there is.
    pub async fn rotate_bmc_credentials_to(&self, node: &str, user: &str) -> Result<Operation> {
        let request = RotateNodeBmcCredentialsRequest {
            name: format!("nodes/{node}"),
            request_id: request_id(),
            new_user: user.to_owned(),
        };
        let mut client = NodeActionServiceClient::new(self.scheduler.clone());
        let answer = client.rotate_node_bmc_credentials(request).await;
        Ok(answer.with_context(|| format!("another BMC password for {node}"))?.into_inner())
    }

    /// Asks for an instance; its names whole (`flavors/…`), its own without `instances/`.
    pub async fn create_instance(&self, mut instance: Instance) -> Result<Operation> {
        instance.name = format!("instances/{}", instance.name);
        let request = CreateInstanceRequest {
            instance: Some(instance),
            request_id: request_id(),
            ..CreateInstanceRequest::default()
        };
        let answer = InstanceServiceClient::new(self.scheduler.clone()).create_instance(request).await;
        Ok(answer.context("instance")?.into_inner())
    }

    pub async fn instance(&self, name: &str) -> Result<Instance> {
        let request = GetInstanceRequest { name: format!("instances/{name}") };
        Ok(InstanceServiceClient::new(self.scheduler.clone()).get_instance(request).await?.into_inner())
    }

    /// Gives an instance back.
    pub async fn delete_instance(&self, name: &str) -> Result<Operation> {
        let request = DeleteInstanceRequest {
            name: format!("instances/{name}"),
            request_id: request_id(),
            ..DeleteInstanceRequest::default()
        };
        let answer = InstanceServiceClient::new(self.scheduler.clone()).delete_instance(request).await;
        Ok(answer.with_context(|| format!("instance {name}"))?.into_inner())
    }

    /// An operation by its whole name.
    pub async fn operation(&self, name: &str) -> Result<Operation> {
        let request = GetOperationRequest { name: name.to_owned() };
        Ok(OperationServiceClient::new(self.scheduler.clone()).get_operation(request).await?.into_inner())
    }

    /// The first thousand events that `filter` lets through, oldest first.
    pub async fn events(&self, filter: &str) -> Result<Vec<Event>> {
        let request =
            ListEventsRequest { page_size: 1000, filter: filter.to_owned(), ..ListEventsRequest::default() };
        Ok(EventServiceClient::new(self.inventory.clone()).list_events(request).await?.into_inner().events)
    }

    /// Makes an image of a diskless instance's disk.
    pub async fn snapshot_instance(&self, name: &str, image: &str) -> Result<Operation> {
        let request = SnapshotInstanceRequest {
            name: format!("instances/{name}"),
            image: format!("images/{image}"),
            request_id: request_id(),
            ..SnapshotInstanceRequest::default()
        };
        let answer = InstanceServiceClient::new(self.scheduler.clone()).snapshot_instance(request).await;
        Ok(answer.with_context(|| format!("a snapshot of {name}"))?.into_inner())
    }

    /// Moves a diskless instance onto another node.
    pub async fn recover_instance(&self, name: &str, onto: &str, force: bool) -> Result<Operation> {
        let request = RecoverInstanceRequest {
            name: format!("instances/{name}"),
            onto: format!("nodes/{onto}"),
            force,
            request_id: request_id(),
        };
        let answer = InstanceServiceClient::new(self.scheduler.clone()).recover_instance(request).await;
        Ok(answer.with_context(|| format!("a recovery of {name} onto {onto}"))?.into_inner())
    }

    /// Waits until an operation is done; a failed one is an [`operation::OperationFailed`].
    pub async fn wait(&self, operation: Operation, progress: impl FnMut(&Operation)) -> Result<Operation> {
        operation::wait(&self.scheduler, operation, progress).await
    }

    /// Packets that rackd saw from a machine.
    pub async fn boot_trace(&self, mac: &str) -> Result<Vec<BootEvent>> {
        let channel = channel(&self.rack, &self.credentials, Expect::AnyRack)?;
        let request = GetBootTraceRequest { mac_address: mac.to_owned() };
        Ok(RackServiceClient::new(channel).get_boot_trace(request).await?.into_inner().events)
    }
}

/// A fresh id: a request that is sent twice is done once.
fn request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}
