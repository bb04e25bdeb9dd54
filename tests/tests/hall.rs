//! A hall of pretend machines, each with a network card on the bridges of a rack: it has no address but by DHCP.

use farrier_sim::net::Netns;
use farrier_sim::pretend::{self, Lan, Rom};
use farrier_sim::rack::Rack;
use std::net::Ipv4Addr;
use tokio::runtime::{Handle, Runtime};

/// The rack's wires, and where each machine is.
pub(crate) struct Hall {
    pub(crate) cards: Vec<Card>,
    pub(crate) rack: Rack,
}

/// One machine's place.
pub(crate) struct Card {
    pub(crate) mac: [u8; 6],
    pub(crate) lan: Lan,
    /// The other end of its cable: an interface in the rack's namespace, which its switch moves between bridges.
    pub(crate) switch_port: String,
    /// Where its BMC listens, in the network of BMCs.
    pub(crate) bmc: Ipv4Addr,
    /// Whose threads are in its namespace.
    pub(crate) runtime: Handle,
}

/// Runs `work` in the rack's namespace, with so many machines in the provisioning network.
pub(crate) fn in_a_hall<W, F>(machines: u8, work: W)
where
    W: FnOnce(Hall) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    farrier_sim::cleanup::on_signals();
    let rack = Rack::build().unwrap();
    let runtime = rack.netns().runtime(2).unwrap();
    let (mut homes, mut cards) = (Homes::default(), Vec::new());
    for index in 0..machines {
        let netns = Netns::create().unwrap();
        // The first are those of the rack's bridges.
        let mac = pretend::mac(0x100 + u16::from(index));
        let (address, bridge) = (mac.map(|byte| format!("{byte:02x}")).join(":"), rack.provisioning().name());
        rack.netns()
            .ip(&format!(
                "link add m{index} type veth peer name eth0 address {address} netns {}\n\
                 link set m{index} master {bridge} up\n",
                netns.name()
            ))
            .unwrap();
        netns.ip("link set eth0 up\n").unwrap();
        let own = netns.runtime(1).unwrap();
        cards.push(Card {
            mac,
            // Half of them have to fetch iPXE.
            lan: Lan { interface: "eth0".to_owned(), rom: if index % 2 == 0 { Rom::Pxe } else { Rom::Ipxe } },
            switch_port: format!("m{index}"),
            bmc: rack.bmc_address(index).unwrap(),
            runtime: own.handle().clone(),
        });
        homes.0.push((own, netns));
    }
    farrier_sim::lab::run_on(runtime, work(Hall { cards, rack }));
}

/// Ended, whatever becomes of the test.
#[derive(Default)]
struct Homes(Vec<(Runtime, Netns)>);

impl Drop for Homes {
    fn drop(&mut self) {
        for (runtime, netns) in self.0.drain(..) {
            runtime.shutdown_background();
            drop(netns);
        }
    }
}
