use super::noun::{Noun, etag, fields};
use super::{App, check};
use farrier_model::{Collection, MacAddress};
use farrier_proto::inventory::{Node, Port};
use farrier_runtime::authz::Caller;
use farrier_runtime::error::{invalid, not_found};
use farrier_runtime::filter::Term;
use prost_types::Timestamp;
use tonic::Status;

impl App {
    /// A port is seen by whoever sees its node.
    pub(crate) async fn get_port(&self, caller: &Caller, name: &str) -> Result<Port, Status> {
        let port: Port = self.get(caller, name).await?;
        self.get::<Node>(caller, &port.node).await.map_err(|_| not_found(name))?;
        Ok(port)
    }
}

impl Noun for Port {
    const COLLECTION: Collection = Collection::Ports;
    const FIELD: &'static str = "port";
    const FILTER: &'static [&'static str] = &["node", "mac_address"];
    fields!(pxe_enabled, switch_name, switch_port);
    etag!();

    fn born(self, uid: String, now: Timestamp) -> Result<Self, Status> {
        check::name("port.node", Collection::Nodes, &self.node)?;
        let mac = mac("port.mac_address", &self.mac_address)?;
        self.check()?;
        Ok(Self {
            name: Collection::Ports.name(&mac.hexhyp()),
            uid,
            mac_address: mac.to_string(),
            etag: String::new(),
            create_time: Some(now),
            ..self
        })
    }

    fn check(&self) -> Result<(), Status> {
        check::text("port.switch_name", &self.switch_name)?;
        check::text("port.switch_port", &self.switch_port)
    }

    fn parent(&self) -> Option<&str> {
        Some(&self.node)
    }

    fn term(term: Term) -> Result<Term, Status> {
        Ok(match term.field.as_str() {
            "node" => Term { value: Collection::Nodes.whole(term.value), ..term },
            _ => Term { value: mac("filter mac_address", &term.value)?.to_string(), ..term },
        })
    }
}

fn mac(field: &str, text: &str) -> Result<MacAddress, Status> {
    text.parse().map_err(|e| invalid(field, e))
}
