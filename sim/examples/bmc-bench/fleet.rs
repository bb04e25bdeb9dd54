//! The BMCs: which are bad, and how; which machines are on, and what may be seen of them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use farrier_bmc::PowerState;
use farrier_sim::bmc::fleet::{Fleet as Pretended, FleetOptions, KINDS, Script};
use farrier_sim::bmc::{Chassis as _, PowerAction, Secret};

pub(crate) const USER: &str = "admin";
pub(crate) const PASSWORD: &str = "pretend";
pub(crate) const PORT: u16 = 6230;
pub(crate) const REDFISH_PORT: u16 = 6443;
/// Of the first that speaks IPMI, and of the first that speaks Redfish.
const FIRST: Ipv4Addr = Ipv4Addr::new(127, 32, 0, 1);
const FIRST_REDFISH: Ipv4Addr = Ipv4Addr::new(127, 96, 0, 1);

/// How a BMC behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Healthy,
    /// Says nothing.
    Dead,
    /// Does what it is asked, and does not answer: not even who opens a session.
    Hanging,
    /// Says that the power is what it is not.
    Lying,
    /// Answers after five seconds.
    Slow,
    /// Loses one datagram in twenty.
    Lossy,
    /// Answers every datagram with bytes that nobody can read.
    Garbage,
}

impl Kind {
    pub(crate) const BAD: [Self; 6] =
        [Self::Dead, Self::Hanging, Self::Lying, Self::Slow, Self::Lossy, Self::Garbage];

    /// In a fault script.
    fn what(self) -> &'static str {
        match self {
            Self::Healthy => "\"mute\"",
            Self::Dead => "{ drop = 1 }",
            Self::Hanging => "\"mute\"",
            Self::Lying => "{ says = \"opposite\" }",
            Self::Slow => "{ delay = \"5s\" }",
            Self::Lossy => "{ drop = 20 }",
            Self::Garbage => "\"garbage\"",
        }
    }

    /// What is wrong with what was seen of a BMC's machine; `None` seen: it was not answered in time.
    ///
    /// How soon those answer that are slow or lose datagrams is a matter of speed, and told; what they say is not.
    fn wrong(self, index: usize, seen: Option<PowerState>) -> Option<String> {
        let (on, off) = (PowerState::On, PowerState::Off);
        let (truth, opposite) = if is_on(index) { (on, off) } else { (off, on) };
        let expected = match (self, seen) {
            (Self::Slow | Self::Lossy | Self::Dead | Self::Hanging | Self::Garbage, None) => return None,
            (Self::Dead | Self::Hanging | Self::Garbage, Some(_)) => "no answer",
            (Self::Lying, _) => opposite.as_str(),
            (Self::Healthy | Self::Slow | Self::Lossy, _) => truth.as_str(),
        };
        let seen = seen.map_or("no answer", PowerState::as_str);
        (seen != expected).then(|| format!("number {index} ({self:?}): expected {expected}, saw {seen}"))
    }
}

/// The truth of each machine, over either protocol: of each kind some are on.
fn is_on(index: usize) -> bool {
    index % 7 < 3
}

/// Fails where anything that was seen is wrong: a bench that is quick and reads nonsense measures nothing.
pub(crate) fn check(seen: impl IntoIterator<Item = (usize, Kind, Option<PowerState>)>) -> Result<()> {
    let wrong: Vec<_> = seen.into_iter().filter_map(|(index, kind, seen)| kind.wrong(index, seen)).collect();
    let some: Vec<_> = wrong.iter().take(5).map(String::as_str).collect();
    ensure!(wrong.is_empty(), "{} BMCs were not read as they are: {}", wrong.len(), some.join("; "));
    Ok(())
}

/// Who is bad: the first of each kind, and how many numbers on the next is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mix {
    /// One in ten, a sixth of those each: dead, hanging, slow, lying, lossy, garbage
    Tenth,
    /// Half of them, a tenth of all each: hanging, lying, slow, lossy, garbage
    Half,
}

impl Mix {
    fn bad(self) -> &'static [(Kind, usize, usize)] {
        match self {
            Self::Tenth => &[
                (Kind::Dead, 9, 60),
                (Kind::Hanging, 19, 60),
                (Kind::Slow, 29, 60),
                (Kind::Lying, 39, 60),
                (Kind::Lossy, 49, 60),
                (Kind::Garbage, 59, 60),
            ],
            Self::Half => &[
                (Kind::Hanging, 5, 10),
                (Kind::Lying, 6, 10),
                (Kind::Slow, 7, 10),
                (Kind::Lossy, 8, 10),
                (Kind::Garbage, 9, 10),
            ],
        }
    }

    pub(crate) fn of(self, index: usize) -> Kind {
        let bad = self.bad().iter().find(|(_, from, step)| index % step == *from);
        bad.map_or(Kind::Healthy, |(kind, ..)| *kind)
    }

    fn script(self) -> String {
        let rule = |(kind, from, step): &(Kind, usize, usize)| {
            format!("[[fault]]\nbmcs = {{ from = {from}, step = {step} }}\nwhat = {}\n", kind.what())
        };
        self.bad().iter().map(rule).collect()
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Tenth => "tenth",
            Self::Half => "half",
        }
    }
}

pub(crate) fn address(index: usize) -> SocketAddr {
    nth(FIRST, index, PORT)
}

pub(crate) fn redfish_address(index: usize) -> SocketAddr {
    nth(FIRST_REDFISH, index, REDFISH_PORT)
}

fn nth(first: Ipv4Addr, index: usize, port: u16) -> SocketAddr {
    let index = u32::try_from(index).unwrap_or(u32::MAX);
    (Ipv4Addr::from_bits(first.to_bits().saturating_add(index)), port).into()
}

/// The process that is all BMCs.
pub(crate) struct Fleet {
    child: Child,
    /// SHA-256 of the certificates of those that speak Redfish.
    pub(crate) pins: Vec<[u8; 32]>,
}

impl Fleet {
    pub(crate) fn start(count: usize, redfish: usize, mix: Mix) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--mix", mix.word(), "serve", &count.to_string(), &redfish.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the BMCs do not start")?;
        let said = BufReader::new(child.stdout.take().context("no output of the BMCs")?);
        let mut fleet = Self { child, pins: Vec::new() };
        for line in said.lines() {
            let line = line?;
            if line == READY {
                ensure!(fleet.pins.len() == redfish, "a certificate of each is told");
                return Ok(fleet);
            }
            let pin = hex::decode(&line)?.try_into().ok().context("a SHA-256 has 32 bytes")?;
            fleet.pins.push(pin);
        }
        bail!("the BMCs ended before they were ready")
    }

    pub(crate) fn stop(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let status = self.child.wait()?;
        ensure!(status.success(), "the BMCs: {status}");
        Ok(())
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // After `stop` there is nothing left to kill.
        let _ended = self.child.kill();
    }
}

pub(crate) fn serve(count: usize, redfish: usize, mix: Mix) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let options = FleetOptions {
            count,
            first: FIRST,
            ipmi_port: Some(PORT),
            redfish_port: None,
            kinds: KINDS.first().copied().into_iter().collect(),
            user: USER.to_owned(),
            password: Secret::new(PASSWORD),
            kg: None,
            script: Script::parse(&mix.script())?,
        };
        let web = FleetOptions {
            count: redfish,
            first: FIRST_REDFISH,
            ipmi_port: None,
            redfish_port: Some(REDFISH_PORT),
            script: Script::default(),
            ..options.clone()
        };
        let (ipmi, web) = (Pretended::start(options).await?, Pretended::start(web).await?);
        for bmcs in [ipmi.bmcs(), web.bmcs()] {
            for (_, bmc) in bmcs.iter().enumerate().filter(|(index, _)| is_on(*index)) {
                bmc.machine.set_power(PowerAction::On).await?;
            }
        }
        let mut out = std::io::stdout().lock();
        for bmc in web.bmcs() {
            let tls = bmc.tls.as_ref().context("it speaks https")?;
            writeln!(out, "{}", hex::encode(tls.fingerprint()))?;
        }
        writeln!(out, "{READY}")?;
        out.flush()?;
        drop(out);
        let ends = || std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        tokio::task::spawn_blocking(ends).await??;
        ipmi.shutdown().await;
        web.shutdown().await;
        Ok(())
    })
}

const READY: &str = "ready";
