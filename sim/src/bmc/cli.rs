//! `farrier-sim bmc`: BMCs of pretend machines, or of a QEMU, for programs that speak IPMI and Redfish. `docs/simulator.md` is
//! its page.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::ValueEnum as _;
use farrier_ipmi::Secret;
use tokio::signal::unix::{SignalKind, signal};

use super::fleet::{Fleet, FleetOptions, Kind, One, Protocol, Script};
use super::qemu::Qemu;

/// Options of `farrier-sim bmc`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// BMCs, each with an address of its own
    #[arg(long, default_value_t = 1)]
    count: usize,
    /// Address of the first; each next one has the next. All of 127.0.0.0/8 is this host's
    #[arg(long, default_value = "127.0.0.1")]
    address: Ipv4Addr,
    /// What they speak, both for the same machine
    #[arg(long, value_delimiter = ',', default_values_t = [Protocol::Ipmi, Protocol::Redfish])]
    speaks: Vec<Protocol>,
    /// UDP port of IPMI; 0 takes a free one for each
    #[arg(long, default_value_t = 623)]
    ipmi_port: u16,
    /// TCP port of Redfish (https); 0 takes a free one for each
    #[arg(long, default_value_t = 443)]
    redfish_port: u16,
    /// Whose BMC each pretends to be: plain, ilo, idrac, supermicro, openbmc. Several are dealt out in turn
    #[arg(long, value_delimiter = ',', default_value = "plain")]
    personality: Vec<Kind>,
    /// User name of the one account, an administrator
    #[arg(long, default_value = "admin")]
    user: String,
    /// File that holds its password, at most 20 bytes; a final newline is not part of it
    #[arg(long)]
    password_file: PathBuf,
    /// File that holds the BMC key (Kg) for two-key login over IPMI
    #[arg(long)]
    kg_file: Option<PathBuf>,
    /// What goes wrong, where and when: a fault script (TOML)
    #[arg(long)]
    faults: Option<PathBuf>,
    /// Directory into which each BMC's certificate is written as ADDRESS.pem
    #[arg(long)]
    certificates: Option<PathBuf>,
    /// Stands before a QEMU that runs already: the Unix socket at which it serves QMP
    #[arg(long, value_name = "SOCKET", conflicts_with = "qemu")]
    qmp: Option<PathBuf>,
    /// Unix socket at which that QEMU serves its serial port: the console over SOL
    #[arg(long, value_name = "SOCKET", requires = "qmp")]
    serial: Option<PathBuf>,
    /// Stands before a QEMU that it starts when the machine is switched on, and ends when it is switched off: the command line,
    /// without QMP and serial port
    #[arg(last = true, value_name = "QEMU")]
    qemu: Vec<String>,
}

const EXAMPLES: &str = "\
Once all of them listen, standard output has a line for each, with tabs between: number, personality, IPMI's address \
and port, Redfish's URL, SHA-256 of its certificate; `-` for what it does not speak. It runs until interrupted.

Examples:
  farrier-sim bmc --password-file pw
  ipmitool -I lanplus -H 127.0.0.1 -U admin -f pw power status

  farrier-sim bmc --password-file pw -- qemu-system-x86_64 -m 1G -display none -drive if=virtio,format=raw,file=disk.raw
  ipmitool -I lanplus -H 127.0.0.1 -U admin -f pw power on

  farrier-sim bmc --count 1000 --address 127.1.0.1 --personality plain,ilo,idrac --password-file pw --faults faults.toml

docs/simulator.md says what a fault script may say.";

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.to_possible_value().map_or(Ok(()), |value| f.write_str(value.get_name()))
    }
}

/// What IPMI 2.0 has room for (table 22-31).
const IPMI_PASSWORD: usize = 20;

/// Runs until SIGINT or SIGTERM. Prints a line for each BMC on standard output once all of them listen.
///
/// # Errors
/// A file cannot be read or an address cannot be bound.
pub async fn run(args: Args) -> Result<()> {
    let script = match &args.faults {
        Some(path) => {
            let text = tokio::fs::read_to_string(path).await;
            let text = text.with_context(|| format!("cannot read {}", path.display()))?;
            Script::parse(&text).with_context(|| format!("in {}", path.display()))?
        }
        None => Script::default(),
    };
    let kg = match &args.kg_file {
        Some(path) => Some(secret(path).await?),
        None => None,
    };
    let password = secret(&args.password_file).await?;
    let most = if args.speaks.contains(&Protocol::Ipmi) { IPMI_PASSWORD } else { usize::MAX };
    let length = password.expose().len();
    anyhow::ensure!(
        (1..=most).contains(&length),
        "expected a password of 1 to {IPMI_PASSWORD} bytes in {} (more with --speaks redfish alone), saw {length}",
        args.password_file.display()
    );
    anyhow::ensure!(args.count > 0, "expected a --count of 1 at least, saw 0");
    let speaks = |protocol, port| args.speaks.contains(&protocol).then_some(port);
    let qemu = match (args.qmp, args.qemu.is_empty()) {
        (Some(qmp), _) => Some(Arc::new(Qemu::running(qmp, args.serial).await?)),
        (None, false) => Some(Arc::new(Qemu::command(args.qemu).await?)),
        (None, true) => None,
    };
    let options = FleetOptions {
        count: args.count,
        first: args.address,
        ipmi_port: speaks(Protocol::Ipmi, args.ipmi_port),
        redfish_port: speaks(Protocol::Redfish, args.redfish_port),
        kinds: args.personality,
        user: args.user,
        password,
        kg,
        script,
    };
    let fleet = match &qemu {
        Some(qemu) => Fleet::before(options, Arc::clone(qemu)).await?,
        None => Fleet::start(options).await?,
    };
    if let Some(dir) = &args.certificates {
        write_certificates(dir, fleet.bmcs())?;
    }
    tell(fleet.bmcs())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    fleet.shutdown().await;
    if let Some(qemu) = qemu {
        qemu.end().await;
    }
    Ok(())
}

fn tell(bmcs: &[One]) -> Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for (number, bmc) in bmcs.iter().enumerate() {
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let ipmi = or_none(bmc.ipmi_address().map(|address| address.to_string()));
        let redfish = or_none(bmc.redfish_address().map(|address| format!("https://{address}")));
        let sha256 = or_none(bmc.tls.as_ref().map(|tls| hex::encode(tls.fingerprint())));
        writeln!(out, "{number}\t{}\t{ipmi}\t{redfish}\t{sha256}", bmc.kind)?;
    }
    Ok(out.flush()?)
}

fn write_certificates(dir: &Path, bmcs: &[One]) -> Result<()> {
    let cannot = || format!("cannot write certificates to {}", dir.display());
    std::fs::create_dir_all(dir).with_context(cannot)?;
    for bmc in bmcs {
        if let (Some(tls), Some(address)) = (&bmc.tls, bmc.redfish_address()) {
            std::fs::write(dir.join(format!("{}.pem", address.ip())), tls.cert_pem()).with_context(cannot)?;
        }
    }
    Ok(())
}

async fn secret(path: &Path) -> Result<Secret> {
    let mut bytes = tokio::fs::read(path).await.with_context(|| format!("cannot read {}", path.display()))?;
    while bytes.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        bytes.pop();
    }
    Ok(Secret::new(bytes))
}
