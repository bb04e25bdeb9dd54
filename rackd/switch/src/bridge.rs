use crate::{Switch, SwitchError, SwitchPort};
use futures::TryStreamExt as _;
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::{Handle, LinkUnspec};
use std::collections::BTreeMap;

/// Driver `bridge`: one Linux bridge a segment on this machine; a switch port is the name of an interface
/// (the tap of a virtual machine, or a NIC that a server is cabled to).
#[derive(Debug)]
pub struct Bridges {
    /// Bridge interface by segment.
    bridges: BTreeMap<String, String>,
}

impl Bridges {
    pub fn new(bridges: BTreeMap<String, String>) -> Self {
        Self { bridges }
    }
}

#[async_trait::async_trait]
impl Switch for Bridges {
    fn driver(&self) -> &'static str {
        "bridge"
    }

    async fn plug(&self, port: &SwitchPort, segment: &str) -> Result<(), SwitchError> {
        let bridge = self.bridges.get(segment).ok_or_else(|| SwitchError::UnknownSegment {
            segment: segment.to_owned(),
            known: self.bridges.keys().cloned().collect::<Vec<_>>().join(", "),
        })?;
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(|e| SwitchError::Refused(e.to_string()))?;
        // The connection's task ends when the handle is dropped.
        tokio::spawn(connection);
        let wanted = link(&handle, bridge).await?;
        let member = link(&handle, &port.port).await?;
        if member.controller == Some(wanted.index) {
            return Ok(());
        }
        let change = LinkUnspec::new_with_index(member.index).controller(wanted.index).up().build();
        handle.link().set(change).execute().await.map_err(|e| SwitchError::Refused(e.to_string()))?;
        let seen = link(&handle, &port.port).await?.controller;
        if seen != Some(wanted.index) {
            return Err(SwitchError::NotApplied {
                port: port.port.clone(),
                expected: bridge.clone(),
                seen: seen.map_or_else(|| "no bridge".to_owned(), |i| format!("interface {i}")),
            });
        }
        tracing::info!(port = %port.port, segment, bridge = %bridge, "port plugged");
        Ok(())
    }
}

struct Link {
    index: u32,
    controller: Option<u32>,
}

async fn link(handle: &Handle, name: &str) -> Result<Link, SwitchError> {
    let unknown = || SwitchError::UnknownPort { name: name.to_owned() };
    // IFNAMSIZ: a longer name cannot exist, and netlink would refuse it in worse words.
    if name.is_empty() || name.len() > 15 {
        return Err(unknown());
    }
    let message = handle
        .link()
        .get()
        .match_name(name.to_owned())
        .execute()
        .try_next()
        .await
        .map_err(|_| unknown())?
        .ok_or_else(unknown)?;
    let controller = message.attributes.iter().find_map(|a| match a {
        LinkAttribute::Controller(index) => Some(*index),
        _ => None,
    });
    Ok(Link { index: message.header.index, controller })
}
