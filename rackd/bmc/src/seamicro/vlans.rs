//! In which VLANs a server's NICs are: the chassis is its switch.

use std::collections::BTreeSet;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::driver::SeaMicro;
use super::link::{Ask, Link};
use super::words;
use crate::actor::Call;
use crate::redfish::document::Document;
use crate::{BmcError, Deadline, NicVlans, Vlans};

#[async_trait]
impl Vlans for SeaMicro {
    async fn vlans(&self, deadline: Deadline) -> Result<Vec<NicVlans>, BmcError> {
        self.call(deadline, |link, call| {
            Box::pin(async { Ok(read(&link.server(call).await?, link.tuning.max_members)) })
        })
        .await
    }

    async fn set_vlans(&self, wanted: NicVlans, deadline: Deadline) -> Result<NicVlans, BmcError> {
        self.call(deadline, |link, call| Box::pin(link.set_vlans(call, wanted))).await
    }
}

impl Link {
    async fn set_vlans(&mut self, call: &mut Call, wanted: NicVlans) -> Result<NicVlans, BmcError> {
        let mut attempt = 0;
        loop {
            let server = self.server(call).await?;
            let all = read(&server, self.tuning.max_members);
            let Some(seen) = all.iter().find(|one| one.nic == wanted.nic) else {
                let offered = all.into_iter().map(|one| one.nic).collect();
                let (addr, what) = (self.address.addr, "a NIC of this name");
                return Err(BmcError::NotOffered { addr, wanted: what, expected: vec!["nic0"], offered });
            };
            let asks = self.steps(seen, &wanted);
            if asks.is_empty() {
                return Ok(wanted);
            }
            let pause = self.tuning.busy(attempt);
            if attempt >= self.tuning.tries || pause >= call.deadline.remaining() {
                return Err(BmcError::NotApplied {
                    addr: self.address.addr,
                    what: "VLANs",
                    expected: told(&wanted),
                    seen: told(seen),
                });
            }
            if attempt > 0 {
                tokio::time::sleep(pause).await;
            }
            attempt += 1;
            for ask in asks {
                self.change(call, &ask).await?;
            }
        }
    }

    /// What is too much goes first: a NIC has one VLAN without a tag.
    fn steps(&self, seen: &NicVlans, wanted: &NicVlans) -> Vec<Ask> {
        let id = wanted.nic.trim_start_matches("nic");
        let change = |kind: &str, verb: &str, from: &BTreeSet<u16>, to: &BTreeSet<u16>| {
            let path = self.of_server(&format!("/nic/{id}/{kind}"));
            // VLANs are texts on the wire, each in a request of its own.
            to.difference(from)
                .map(|vlan| Ask::put(path.as_str(), json!({ verb: vlan.to_string() })))
                .collect()
        };
        let asks: [Vec<Ask>; 4] = [
            change(UNTAGGED, "remove", &wanted.untagged, &seen.untagged),
            change(TAGGED, "remove", &wanted.tagged, &seen.tagged),
            change(UNTAGGED, "add", &seen.untagged, &wanted.untagged),
            change(TAGGED, "add", &seen.tagged, &wanted.tagged),
        ];
        asks.into_iter().flatten().collect()
    }
}

/// Changes; their names are no mistake of ours.
const UNTAGGED: &str = "untaggedVlan";
const TAGGED: &str = "taggedVlans";

fn read(server: &Document, most: usize) -> Vec<NicVlans> {
    let nics = server.at("nic").and_then(Value::as_object).into_iter().flatten();
    let good = nics.filter(|(id, _)| id.len() <= 4 && id.bytes().all(|b| b.is_ascii_digit()));
    let nic = |(id, nic): (&String, &Value)| NicVlans {
        nic: format!("nic{id}"),
        untagged: words::vlans(nic.get("untaggedVlan")),
        tagged: words::vlans(nic.get("taggedVlan")),
    };
    good.take(most).map(nic).collect()
}

fn told(vlans: &NicVlans) -> String {
    format!("untagged {:?}, tagged {:?}", vlans.untagged, vlans.tagged)
}
