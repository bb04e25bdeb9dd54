//! Our client against pyghmi's `fakebmc`: a third author's BMC, which answers no ASF ping.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use farrier_bmc::ipmi::{BmcAddress, IpmiHub, Tuning};
use farrier_bmc::{BmcError, BootMode, BootOverride, Deadline, Device, PowerState, Secret};
use tokio::net::UdpSocket;
use tokio::process::Command;

/// A virtual environment with pyghmi, made once per target directory.
async fn environment() -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pyghmi-1.6.19");
    let fakebmc = directory.join("bin/fakebmc");
    if fakebmc.exists() {
        return fakebmc;
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
    fakebmc
}

/// One test, so that the environment is made by one.
#[tokio::test]
async fn pyghmis_fakebmc_is_driven() {
    let fakebmc = environment().await;
    let port = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let _child = Command::new(fakebmc)
        .args(["--port", &port.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
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
    assert_eq!(bmc.ensure_power(PowerState::Off, soon()).await, Ok(true));
    let wrong = BmcAddress { password: Secret::new("wrong"), ..address };
    let error = hub.bmc(wrong).power_status(soon()).await.unwrap_err();
    assert!(matches!(error, BmcError::WrongPassword { .. }), "{error}");
    hub.shutdown().await;
}
