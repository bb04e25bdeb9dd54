//! Bridges (one per network of the rack) and taps (one per NIC of a machine).

use super::{NetError, Netns};

/// A Linux bridge inside a rack's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    name: String,
}

/// A persistent tap device: QEMU opens it by name, from inside the namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tap {
    name: String,
}

impl Bridge {
    /// At most 15 characters, unique in its namespace.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Tap {
    /// At most 15 characters, unique in its namespace.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Netns {
    /// Makes a bridge that forwards at once (no spanning tree, no learning delay), with `address`
    /// as `ip/prefix` for the host's own end.
    ///
    /// `number` pins its MAC to `02:fa:00:00:00:<number>`: a bridge otherwise takes the lowest MAC
    /// of its ports, and changes it, and every ARP cache with it, whenever a tap comes or goes.
    pub fn bridge(&self, name: &str, number: u8, address: &str) -> Result<Bridge, NetError> {
        self.ip(&format!(
            "link add {name} address 02:fa:00:00:00:{number:02x} type bridge forward_delay 0 \
             stp_state 0 mcast_snooping 0\n\
             address add {address} dev {name}\n\
             link set {name} up\n"
        ))?;
        Ok(Bridge { name: name.to_owned() })
    }

    /// Gives the host's end of `bridge` one more address (`ip/prefix`): a BMC simulator's.
    pub fn add_address(&self, bridge: &Bridge, address: &str) -> Result<(), NetError> {
        self.ip(&format!("address add {address} dev {}\n", bridge.name))?;
        Ok(())
    }

    /// Makes a tap and plugs it into `bridge`.
    pub fn tap(&self, name: &str, bridge: &Bridge) -> Result<Tap, NetError> {
        self.ip(&format!(
            "tuntap add dev {name} mode tap vnet_hdr\n\
             link set {name} master {} up\n",
            bridge.name
        ))?;
        Ok(Tap { name: name.to_owned() })
    }

    /// Moves a machine's port to another network while it runs; milliseconds.
    pub fn plug(&self, tap: &Tap, bridge: &Bridge) -> Result<(), NetError> {
        self.ip(&format!("link set {} master {}\n", tap.name, bridge.name))?;
        Ok(())
    }

    /// Pulls a machine's cable: its port is in no network.
    pub fn unplug(&self, tap: &Tap) -> Result<(), NetError> {
        self.ip(&format!("link set {} nomaster\n", tap.name))?;
        Ok(())
    }
}
