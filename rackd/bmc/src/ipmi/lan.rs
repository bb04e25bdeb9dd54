//! Changes of the BMC's LAN channel (IPMI 2.0 §23.1, Table 23-4), mostly of the one that the session goes through: what the session
//! may end with is written last, and what a refusal leaves is put back.

use std::net::{Ipv4Addr, SocketAddr};

use async_trait::async_trait;
use farrier_ipmi::completion::{CompletionCode, NODE_BUSY};
use ipmi_rs_core::connection::Channel;
use ipmi_rs_core::transport::{GetLanConfigParameters, LanConfigParameter, SetLanConfigParameters};

use super::driver::IpmiBmc;
use super::link::Link;
use crate::actor::Call;
use crate::{BmcError, Capability, Deadline, NetworkInterface, NetworkSettings, NewAddress, SetNetwork};

#[async_trait]
impl SetNetwork for IpmiBmc {
    async fn set_network(&self, wanted: &NetworkSettings, deadline: Deadline) -> Result<(), BmcError> {
        let wanted = wanted.clone();
        self.call(deadline, move |link, call| {
            Box::pin(async move {
                // There is but the channel that the session goes through.
                if !wanted.interface.is_empty() && wanted.interface != NAME {
                    return Err(BmcError::NotListed {
                        addr: link.address.addr,
                        what: "network interface",
                        wanted: wanted.interface,
                        offered: vec![NAME.to_owned()],
                    });
                }
                change(&mut Asked { link, call }, &wanted).await
            })
        })
        .await
    }

    async fn settle_network(
        &self,
        wanted: &NetworkSettings,
        deadline: Deadline,
    ) -> Result<NetworkInterface, BmcError> {
        let wanted = wanted.clone();
        self.call(deadline, move |link, call| {
            Box::pin(async move {
                // Nobody could say it where the session ended with the last parameter.
                let ends = SetLanConfigParameters::new(Channel::Current, IN_PROGRESS, vec![COMPLETE]);
                match link.command(call, ends).await {
                    Ok(()) | Err(BmcError::Refused { .. }) => {}
                    Err(error) => return Err(error),
                }
                let seen = link.network(call).await?.interfaces.pop().unwrap_or_default();
                seen.settled(link.address.addr, &wanted)
            })
        })
        .await
    }
}

/// What the only interface is called.
pub(super) const NAME: &str = "LAN";

const IN_PROGRESS: LanConfigParameter = LanConfigParameter::SetInProgress;
/// Values of parameter 0: changes are made, they are all made, and those so far shall be kept (which a BMC need not know).
const BEGUN: u8 = 1;
const COMPLETE: u8 = 0;
const COMMIT: u8 = 2;
/// Completion code of parameter 0: somebody else makes changes, or has not said that they are all made.
const ALREADY_BEGUN: u8 = 0x81;
/// Addresses come from (parameter 4).
const STATIC: u8 = 1;
const DHCP: u8 = 2;
/// Of parameter 20: it is in force.
const TAGGED: u8 = 0x80;
/// Tries of a BMC that is busy, where a lost answer means something.
const TRIES: u32 = 5;

/// The parameters that are written, in the words of the error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parameter {
    Source,
    SubnetMask,
    Gateway,
    Vlan,
    Address,
}

impl Parameter {
    fn selector(self) -> LanConfigParameter {
        match self {
            Self::Source => LanConfigParameter::IpAddressSource,
            Self::SubnetMask => LanConfigParameter::SubnetMask,
            Self::Gateway => LanConfigParameter::DefaultGatewayAddress,
            Self::Vlan => LanConfigParameter::Other(20),
            Self::Address => LanConfigParameter::IpAddress,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Source => "the BMC's address source",
            Self::SubnetMask => "the BMC's subnet mask",
            Self::Gateway => "the BMC's gateway",
            Self::Vlan => "the BMC's VLAN",
            Self::Address => "the BMC's address",
        }
    }

    /// Whether two values mean the same: reserved bits do not count, nor the number of a VLAN that is not in force.
    fn is_same(self, one: &[u8], other: &[u8]) -> bool {
        let vlan = |data: &[u8]| match data {
            [low, high, ..] if high & TAGGED != 0 => Some((*low, high & 0x0F)),
            _ => None,
        };
        match self {
            Self::Source => one.first().map(|byte| byte & 0x0F) == other.first().map(|byte| byte & 0x0F),
            Self::Vlan => vlan(one) == vlan(other),
            Self::SubnetMask | Self::Gateway | Self::Address => one.get(..4) == other.get(..4),
        }
    }

    fn told(self, data: &[u8]) -> String {
        match (self, data) {
            (Self::Source, [source, ..]) => match source & 0x0F {
                STATIC => "static".to_owned(),
                DHCP => "dhcp".to_owned(),
                other => format!("{other}"),
            },
            (Self::Vlan, [low, high, ..]) if high & TAGGED != 0 => {
                u16::from_le_bytes([*low, high & 0x0F]).to_string()
            }
            (Self::Vlan, _) => "none".to_owned(),
            (_, [a, b, c, d, ..]) => Ipv4Addr::new(*a, *b, *c, *d).to_string(),
            _ => "unknown".to_owned(),
        }
    }
}

/// One parameter that shall be something else.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Write {
    parameter: Parameter,
    before: Vec<u8>,
    data: Vec<u8>,
}

/// What a change needs of a BMC.
trait Lan: Send {
    fn addr(&self) -> SocketAddr;

    /// `None`: the BMC has no such parameter.
    fn get(
        &mut self,
        selector: LanConfigParameter,
    ) -> impl Future<Output = Result<Option<Vec<u8>>, BmcError>> + Send;

    /// Until it is answered.
    fn set(
        &mut self,
        selector: LanConfigParameter,
        data: &[u8],
    ) -> impl Future<Output = Result<(), BmcError>> + Send;

    /// Once: its answer may not come, and that is no error.
    fn set_last(
        &mut self,
        selector: LanConfigParameter,
        data: &[u8],
    ) -> impl Future<Output = Result<(), BmcError>> + Send;
}

/// By the session that is open.
struct Asked<'a> {
    link: &'a mut Link,
    call: &'a mut Call,
}

impl Lan for Asked<'_> {
    fn addr(&self) -> SocketAddr {
        self.link.address.addr
    }

    async fn get(&mut self, selector: LanConfigParameter) -> Result<Option<Vec<u8>>, BmcError> {
        let command = GetLanConfigParameters::new(Channel::Current, selector);
        match self.link.command(self.call, command).await {
            Ok(answer) => Ok(Some(answer.data)),
            Err(BmcError::Refused { code, .. }) if !code.is_transient() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn set(&mut self, selector: LanConfigParameter, data: &[u8]) -> Result<(), BmcError> {
        let command = SetLanConfigParameters::new(Channel::Current, selector, data.to_vec());
        self.link.command(self.call, command).await
    }

    async fn set_last(&mut self, selector: LanConfigParameter, data: &[u8]) -> Result<(), BmcError> {
        for attempt in 0..TRIES {
            let command = SetLanConfigParameters::new(Channel::Current, selector, data.to_vec());
            match self.link.command_once(self.call, command).await {
                // It was not begun.
                Err(BmcError::Refused { code: CompletionCode(NODE_BUSY), .. }) if attempt + 1 < TRIES => {
                    tokio::time::sleep(self.link.tuning().busy(attempt)).await;
                }
                answer => return answer.map(drop),
            }
        }
        Ok(())
    }
}

/// What is to be written, in the order in which it is: what ends the session last, and an address before anything of its network is
/// never in force. A BMC that takes its address by DHCP refuses another until it does so no more.
async fn plan<L: Lan>(lan: &mut L, wanted: &NetworkSettings) -> Result<Vec<Write>, BmcError> {
    let mut all = Vec::new();
    if let Some(NewAddress::Static(address)) = wanted.address {
        all.push((Parameter::Source, vec![STATIC]));
        all.push((Parameter::SubnetMask, address.subnet_mask().octets().to_vec()));
        match address.gateway() {
            Some(gateway) => all.push((Parameter::Gateway, gateway.octets().to_vec())),
            // One of another network leads nowhere.
            None => {
                let own = lan.get(Parameter::Gateway.selector()).await?.unwrap_or_default();
                let own = own.first_chunk().map_or(Ipv4Addr::UNSPECIFIED, |bytes: &[u8; 4]| (*bytes).into());
                if !own.is_unspecified() && !address.takes_gateway(own) {
                    all.push((Parameter::Gateway, Ipv4Addr::UNSPECIFIED.octets().to_vec()));
                }
            }
        }
    }
    all.extend(wanted.vlan.map(|vlan| (Parameter::Vlan, vlan_data(vlan))));
    match wanted.address {
        Some(NewAddress::Static(address)) => {
            all.push((Parameter::Address, address.address().octets().to_vec()));
        }
        Some(NewAddress::Dhcp) => all.push((Parameter::Source, vec![DHCP])),
        None => {}
    }
    let mut writes = Vec::new();
    for (parameter, data) in all {
        let Some(before) = lan.get(parameter.selector()).await? else {
            let capability = match parameter {
                Parameter::Vlan => "VLAN of the BMC itself",
                Parameter::Gateway => "gateway of the BMC itself",
                _ => Capability::SetNetwork.as_str(),
            };
            return Err(BmcError::Unsupported { driver: "ipmi", capability });
        };
        if !parameter.is_same(&before, &data) {
            writes.push(Write { parameter, before, data });
        }
    }
    Ok(writes)
}

fn vlan_data(vlan: Option<u16>) -> Vec<u8> {
    let [low, high] = vlan.unwrap_or_default().to_le_bytes();
    vec![low, if vlan.is_some() { high | TAGGED } else { 0 }]
}

async fn change<L: Lan>(lan: &mut L, wanted: &NetworkSettings) -> Result<(), BmcError> {
    let writes = plan(lan, wanted).await?;
    let Some((last, others)) = writes.split_last() else { return Ok(()) };
    begin(lan).await?;
    for (done, write) in others.iter().enumerate() {
        if let Err(reason) = write_and_read(lan, write).await {
            let done = others.get(..done).unwrap_or_default();
            return Err(put_back(lan, write, reason, done).await);
        }
    }
    if let Err(reason) = lan.set_last(last.parameter.selector(), &last.data).await {
        return Err(put_back(lan, last, reason, others).await);
    }
    // The BMC may be elsewhere already; where it is not, it may have waited for this.
    for value in [COMMIT, COMPLETE] {
        if let Err(error) = lan.set_last(IN_PROGRESS, &[value]).await {
            tracing::debug!(bmc.addr = %lan.addr(), %error, value, "the end of a change is not taken");
        }
    }
    Ok(())
}

/// Tells other programs that parameters are being changed. It locks nothing (Table 23-4), and many BMCs do not know it.
async fn begin<L: Lan>(lan: &mut L) -> Result<(), BmcError> {
    match lan.set(IN_PROGRESS, &[BEGUN]).await {
        // Mostly a change that was cut off, since the session goes with the address: nobody else could end it.
        Err(BmcError::Refused { code: CompletionCode(ALREADY_BEGUN), .. }) => {
            tracing::warn!(bmc.addr = %lan.addr(), "an earlier change of the BMC's network was not ended: ended now");
            for value in [COMPLETE, BEGUN] {
                unless_refused(lan.set(IN_PROGRESS, &[value]).await)?;
            }
            Ok(())
        }
        other => unless_refused(other),
    }
}

fn unless_refused(answer: Result<(), BmcError>) -> Result<(), BmcError> {
    match answer {
        Err(BmcError::Refused { .. }) => Ok(()),
        other => other,
    }
}

async fn write_and_read<L: Lan>(lan: &mut L, write: &Write) -> Result<(), BmcError> {
    let Write { parameter, data, .. } = write;
    lan.set(parameter.selector(), data).await?;
    let seen = lan.get(parameter.selector()).await?.unwrap_or_default();
    if parameter.is_same(&seen, data) {
        return Ok(());
    }
    Err(BmcError::NotApplied {
        addr: lan.addr(),
        what: parameter.name(),
        expected: parameter.told(data),
        seen: parameter.told(&seen),
    })
}

/// Undoes what was written, the last first, and says what it could not undo.
async fn put_back<L: Lan>(lan: &mut L, at: &Write, reason: BmcError, done: &[Write]) -> BmcError {
    // Where nothing is answered, nothing is gained by asking further.
    let mut answers = matches!(reason, BmcError::Refused { .. } | BmcError::NotApplied { .. });
    let mut left = Vec::new();
    for write in std::iter::once(at).chain(done.iter().rev()) {
        let Write { parameter, before, .. } = write;
        let tried = answers || std::ptr::eq(write, at);
        let seen = if answers { restore(lan, write).await } else { None };
        answers &= seen.is_some();
        if seen.as_deref().is_some_and(|seen| parameter.is_same(seen, before)) {
            continue;
        }
        let now = match seen {
            Some(seen) => parameter.told(&seen),
            None if !tried => parameter.told(&write.data),
            None => format!("{} or {}", parameter.told(before), parameter.told(&write.data)),
        };
        left.push(format!("{} is {now}, and was {}", parameter.name(), parameter.told(before)));
    }
    if answers && let Err(error) = lan.set(IN_PROGRESS, &[COMPLETE]).await {
        tracing::debug!(bmc.addr = %lan.addr(), %error, "the end of a change is not taken");
    }
    let left = if left.is_empty() { "all is as it was".to_owned() } else { left.join("; ") };
    BmcError::NetworkPart { addr: lan.addr(), what: at.parameter.name(), reason: Box::new(reason), left }
}

/// What a parameter is after it was put back; `None`: nobody says.
async fn restore<L: Lan>(lan: &mut L, write: &Write) -> Option<Vec<u8>> {
    let selector = write.parameter.selector();
    let seen = lan.get(selector).await.ok()??;
    if write.parameter.is_same(&seen, &write.before) {
        return Some(seen);
    }
    match lan.set(selector, &write.before).await {
        Ok(()) => lan.get(selector).await.ok()?,
        Err(BmcError::Refused { .. }) => Some(seen),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use farrier_model::StaticAddress;

    use super::*;

    /// What goes wrong with the nth command that changes something.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Wrong {
        Refused,
        /// It says yes, and does nothing.
        Ignored,
        /// It is carried out, and from then on nobody answers.
        Gone,
        /// It is not carried out, and from then on nobody answers.
        Lost,
    }

    /// A BMC that takes changes at once, and is gone for us with its address, its VLAN, or a server's address.
    struct Fake {
        kept: BTreeMap<u8, Vec<u8>>,
        wrong: Option<(usize, Wrong)>,
        written: Vec<u8>,
        away: bool,
        /// Its address is a server's, which gives it the same again.
        leased: bool,
    }

    const ADDR: ([u8; 4], u16) = ([192, 0, 2, 9], 623);

    impl Fake {
        fn new(source: u8, wrong: Option<(usize, Wrong)>) -> Self {
            let kept = [
                (0, vec![0]),
                (3, vec![192, 0, 2, 9]),
                (4, vec![source]),
                (6, vec![255, 255, 0, 0]),
                (12, vec![0; 4]),
                (20, vec![5, 0]),
            ];
            Self { kept: kept.into(), wrong, written: Vec::new(), away: false, leased: source == DHCP }
        }

        fn silence() -> BmcError {
            let elapsed = std::time::Duration::ZERO;
            BmcError::Unreachable { addr: ADDR.into(), tried: 3, elapsed, waiting_for: "an answer" }
        }

        fn refusal(code: u8) -> BmcError {
            let command = "Set LAN Configuration Parameters";
            BmcError::Refused { addr: ADDR.into(), command, code: CompletionCode(code), meaning: "x" }
        }

        fn write(&mut self, parameter: u8, data: &[u8]) -> Result<(), BmcError> {
            if self.away {
                return Err(Self::silence());
            }
            self.written.push(parameter);
            let wrong = self.wrong.filter(|(nth, _)| nth + 1 == self.written.len()).map(|(_, wrong)| wrong);
            match wrong {
                Some(Wrong::Refused) => return Err(Self::refusal(0xD5)),
                Some(Wrong::Ignored) => return Ok(()),
                Some(Wrong::Lost) => {
                    self.away = true;
                    return Err(Self::silence());
                }
                Some(Wrong::Gone) => self.away = true,
                None => {}
            }
            if parameter == 0 && data == [BEGUN] && self.kept[&0] == [BEGUN] {
                return Err(Self::refusal(ALREADY_BEGUN));
            }
            let old = self.kept.insert(parameter, data.to_vec());
            self.away |= matches!(parameter, 3 | 20) && old.as_deref() != Some(data);
            self.away |= parameter == 4 && data == [DHCP] && !self.leased;
            if wrong.is_some() || self.away { Err(Self::silence()) } else { Ok(()) }
        }
    }

    impl Lan for Fake {
        fn addr(&self) -> SocketAddr {
            ADDR.into()
        }

        async fn get(&mut self, selector: LanConfigParameter) -> Result<Option<Vec<u8>>, BmcError> {
            if self.away { Err(Self::silence()) } else { Ok(self.kept.get(&selector.value()).cloned()) }
        }

        async fn set(&mut self, selector: LanConfigParameter, data: &[u8]) -> Result<(), BmcError> {
            self.write(selector.value(), data)
        }

        async fn set_last(&mut self, selector: LanConfigParameter, data: &[u8]) -> Result<(), BmcError> {
            match self.write(selector.value(), data) {
                Err(BmcError::Unreachable { .. }) => Ok(()),
                other => other,
            }
        }
    }

    fn to_static(vlan: Option<Option<u16>>) -> NetworkSettings {
        let (ip, mask) = ([192, 0, 2, 7].into(), [255, 255, 255, 0].into());
        let address = StaticAddress::new(ip, mask, Some([192, 0, 2, 1].into())).unwrap();
        NetworkSettings { address: Some(NewAddress::Static(address)), vlan, ..NetworkSettings::default() }
    }

    #[tokio::test]
    async fn the_address_is_written_last_and_what_is_as_it_should_be_is_not_written() {
        let mut bmc = Fake::new(DHCP, None);
        change(&mut bmc, &to_static(None)).await.unwrap();
        assert_eq!(bmc.written, [0, 4, 6, 12, 3]);
        assert_eq!(
            (bmc.kept[&3].as_slice(), bmc.kept[&6].as_slice()),
            (&[192, 0, 2, 7][..], &[255, 255, 255, 0][..])
        );
        // The session is gone with the address: a second change finds the first not ended.
        (bmc.away, bmc.leased) = (false, false);
        bmc.written.clear();
        let dhcp = NetworkSettings { address: Some(NewAddress::Dhcp), ..NetworkSettings::default() };
        change(&mut bmc, &dhcp).await.unwrap();
        assert_eq!(bmc.written, [0, 0, 0, 4]);
        let mut bmc = Fake::new(STATIC, None);
        let untagged = NetworkSettings { vlan: Some(None), ..NetworkSettings::default() };
        change(&mut bmc, &untagged).await.unwrap();
        assert_eq!(bmc.written, [0_u8; 0]);
    }

    /// Each command of a change goes wrong in each way: the address that the BMC had works still and all is as it was, or the
    /// error says of each parameter that is not; or the last of them was taken, and what follows looks for the BMC.
    #[tokio::test]
    async fn whatever_goes_wrong_the_old_address_works_or_is_told_what_became_of_it() {
        for source in [STATIC, DHCP] {
            let whole = Fake::new(source, None);
            let steps = if source == DHCP { 5 } else { 4 };
            for nth in 0..steps {
                for wrong in [Wrong::Refused, Wrong::Ignored, Wrong::Gone, Wrong::Lost] {
                    let mut bmc = Fake::new(source, Some((nth, wrong)));
                    let outcome = change(&mut bmc, &to_static(None)).await;
                    let what = format!("source {source}, command {nth} {wrong:?}: {outcome:?}");
                    let is_last = nth + 1 == steps;
                    let tolerated = nth == 0 && matches!(wrong, Wrong::Refused | Wrong::Ignored);
                    let Err(error) = outcome else {
                        assert!(tolerated || is_last && wrong != Wrong::Refused, "{what}");
                        continue;
                    };
                    assert_eq!(bmc.kept[&3], whole.kept[&3], "{what}");
                    let text = error.to_string();
                    for (parameter, name) in
                        [(4, "address source is"), (6, "subnet mask is"), (12, "gateway is")]
                    {
                        let is_changed = bmc.kept[&parameter] != whole.kept[&parameter];
                        assert!(!is_changed || text.contains(name), "{what}: {text}");
                    }
                    let answered = matches!(wrong, Wrong::Refused | Wrong::Ignored);
                    assert_eq!(answered, text.contains("all is as it was"), "{what}: {text}");
                    assert!(!answered || bmc.kept[&0] == [COMPLETE], "{what}");
                }
            }
        }
    }

    /// Of two that end the session the first is lost with it: it is said that the address was not written.
    #[tokio::test]
    async fn a_vlan_that_ends_the_session_leaves_the_address_and_says_so() {
        let mut bmc = Fake::new(STATIC, None);
        let error = change(&mut bmc, &to_static(Some(Some(100)))).await.unwrap_err();
        assert_eq!(bmc.written, [0, 6, 12, 20]);
        let text = error.to_string();
        for part in ["VLAN is none or 100", "gateway is 192.0.2.1, and was 0.0.0.0", "subnet mask is"] {
            assert!(text.contains(part), "{text}");
        }
        // A BMC that waits for the end of the change takes both.
        assert_eq!(vlan_data(Some(0x0123)), [0x23, 0x81]);
        assert!(Parameter::Vlan.is_same(&[5, 0], &vlan_data(None)));
    }

    #[tokio::test]
    async fn a_bmc_without_a_vlan_says_so_before_anything_is_written() {
        let mut bmc = Fake::new(STATIC, None);
        bmc.kept.remove(&20);
        let error = change(&mut bmc, &to_static(Some(Some(100)))).await.unwrap_err();
        assert!(
            matches!(error, BmcError::Unsupported { capability: "VLAN of the BMC itself", .. }),
            "{error}"
        );
        assert_eq!(bmc.written, [0_u8; 0]);
    }

    #[tokio::test]
    async fn a_gateway_of_another_network_is_taken_away() {
        for (before, written) in [([10, 0, 0, 1], vec![0, 6, 12, 3]), ([192, 0, 2, 1], vec![0, 6, 3])] {
            let mut bmc = Fake::new(STATIC, None);
            bmc.kept.insert(12, before.to_vec());
            let address = StaticAddress::new([192, 0, 2, 7].into(), [255, 255, 255, 0].into(), None).unwrap();
            let wanted =
                NetworkSettings { address: Some(NewAddress::Static(address)), ..NetworkSettings::default() };
            change(&mut bmc, &wanted).await.unwrap();
            assert_eq!(bmc.written, written);
        }
    }
}
