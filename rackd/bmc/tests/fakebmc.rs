//! Our client against pyghmi's `fakebmc`: a third author's BMC, which answers no ASF ping and tells what it was
//! sent, so that our boot flags are compared with those of `ipmitool`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use farrier_bmc::ipmi::{BmcAddress, IpmiHub, Tuning};
use farrier_bmc::{BmcError, BootMode, BootOverride, Deadline, Device, PowerState, Secret};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::net::UdpSocket;
use tokio::process::{ChildStdout, Command};

/// A virtual environment with pyghmi, made once per target directory.
async fn environment() -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pyghmi-1.6.19");
    let python = directory.join("bin/python");
    if directory.join("bin/fakebmc").exists() {
        return python;
    }
    let status = Command::new("python3").args(["-m", "venv"]).arg(&directory).status().await;
    let made = status.is_ok_and(|status| status.success());
    assert!(made, "python3 -m venv failed: apt-get install python3-venv");
    let pip = Command::new(directory.join("bin/pip"))
        .args(["install", "--quiet", "--disable-pip-version-check", "pyghmi==1.6.19"])
        .status()
        .await
        .unwrap();
    assert!(pip.success(), "pip install pyghmi==1.6.19 failed: the package index must be reachable once");
    python
}

/// `fakebmc` that writes down the data of each Set System Boot Options (IPMI 2.0 section 28.12).
const RECORDER: &str = "
import sys
from pyghmi.cmd import fakebmc
obey = fakebmc.FakeBmc.set_system_boot_options
def tell(self, request, session):
    print(bytes(request['data']).hex(), flush=True)
    return obey(self, request, session)
fakebmc.FakeBmc.set_system_boot_options = tell
sys.argv[0] = 'fakebmc'
fakebmc.main()
";

/// The boot flags (parameter 5) that came since this was asked last.
async fn flags_seen(told: &mut Lines<BufReader<ChildStdout>>) -> String {
    loop {
        let line = tokio::time::timeout(Duration::from_secs(60), told.next_line());
        let line = line.await.expect("it is told in time").unwrap().expect("fakebmc runs");
        if line.starts_with("05") {
            return line;
        }
    }
}

/// One test, so that the environment is made by one.
#[tokio::test]
async fn pyghmis_fakebmc_is_driven() {
    let python = environment().await;
    let port = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let mut child = Command::new(python)
        .args(["-c", RECORDER, "--port", &port.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut told = BufReader::new(child.stdout.take().unwrap()).lines();
    let soon = || Deadline::after(Duration::from_secs(30));
    // Python takes a second or two to start: the tries cover it.
    let tuning = Tuning { first_timeout: Duration::from_millis(200), tries: 20, ..Tuning::default() };
    let hub = IpmiHub::bind_with(tuning).await.unwrap();
    let address = BmcAddress::new(([127, 0, 0, 1], port).into(), "admin", Secret::new("password"));
    let bmc = hub.bmc(address.clone());
    assert_eq!(bmc.power_status(soon()).await, Ok(PowerState::Off));
    assert_eq!(bmc.ensure_power(PowerState::On, soon()).await, Ok(true));
    let network = BootOverride { device: Device::Network, persistent: false, mode: BootMode::Bios };
    assert_eq!(bmc.set_boot_device(network, soon()).await, Ok(network));
    flags_seen(&mut told).await;
    // This BMC keeps the device only, so the flags are judged by the bytes that another client sends for the same.
    for (device, name) in [
        (Device::Network, "pxe"),
        (Device::Disk, "disk"),
        (Device::Cdrom, "cdrom"),
        (Device::BiosSetup, "bios"),
    ] {
        for (persistent, mode, options) in [
            (false, BootMode::Bios, ""),
            (true, BootMode::Bios, "options=persistent"),
            (false, BootMode::Uefi, "options=efiboot"),
            (true, BootMode::Uefi, "options=persistent,efiboot"),
        ] {
            bmc.set_boot_device(BootOverride { device, persistent, mode }, soon()).await.unwrap();
            let ours = flags_seen(&mut told).await;
            let mut ipmitool = Command::new("ipmitool");
            ipmitool.args(["-I", "lanplus", "-U", "admin", "-P", "password", "-H", "127.0.0.1", "-p"]);
            ipmitool.args([&port.to_string(), "chassis", "bootdev", name]);
            if !options.is_empty() {
                ipmitool.arg(options);
            }
            let done = ipmitool.output().await.expect("ipmitool is installed: apt-get install ipmitool");
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            assert_eq!(ours, flags_seen(&mut told).await, "{name} {options}");
        }
    }
    assert_eq!(bmc.ensure_power(PowerState::Off, soon()).await, Ok(true));
    let wrong = BmcAddress { password: Secret::new("wrong"), ..address };
    let error = hub.bmc(wrong).power_status(soon()).await.unwrap_err();
    assert!(matches!(error, BmcError::WrongPassword { .. }), "{error}");
    hub.shutdown().await;
}
