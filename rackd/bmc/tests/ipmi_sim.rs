//! Our client against OpenIPMI's `ipmi_sim`: another author's BMC, which refuses suite 17.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;

use farrier_bmc::ipmi::{BmcAddress, Cipher, IpmiHub, Tuning};
use farrier_bmc::{BmcError, BootMode, BootOverride, CipherSuite, Deadline, Device, PowerState, Secret};
use tempfile::TempDir;
use tokio::net::UdpSocket;
use tokio::process::{Child, Command};

const USER: &str = "ipmiusr";
const PASSWORD: &str = "test";

struct IpmiSim {
    addr: SocketAddr,
    directory: TempDir,
    /// Ends the process when dropped.
    _child: Child,
}

impl IpmiSim {
    async fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let path = |name: &str| directory.path().join(name);
        // ipmi_sim takes no port 0: borrow a free one from the kernel.
        let addr = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let chassis = path("chassis");
        let state = path("power");
        let boot = path("boot");
        std::fs::write(&state, "0").unwrap();
        std::fs::write(&boot, "default").unwrap();
        // `chassis ADDRESS get|set POWER-OR-BOOT [VALUE]`, several names in one get.
        let script = format!(
            "#!/bin/sh\nshift\nop=$1\nshift\nwhile [ $# -gt 0 ]; do\n  case $op:$1 in\n  \
             get:power) echo \"power:$(cat {s})\"; shift;;\n  \
             set:power) printf %s \"$2\" > {s}; shift 2;;\n  \
             get:boot) echo \"boot:$(cat {b})\"; shift;;\n  \
             set:boot) printf %s \"$2\" > {b}; shift 2;;\n  \
             set:*) shift 2;;\n  *) exit 1;;\n  esac\ndone\n",
            s = state.display(),
            b = boot.display()
        );
        std::fs::write(&chassis, script).unwrap();
        std::fs::set_permissions(&chassis, std::fs::Permissions::from_mode(0o755)).unwrap();
        let lan = format!(
            "name \"farrier\"\nset_working_mc 0x20\nstartlan 1\n addr {} {}\n priv_limit admin\n \
             allowed_auths_admin none md2 md5 straight\n guid a123456789abcdefa123456789abcdef\nendlan\n\
             chassis_control \"{} 0x20\"\nuser 1 true \"\" \"none\" user 10 none md2 md5 straight\n\
             user 2 true \"{USER}\" \"{PASSWORD}\" admin 10 none md2 md5 straight\n",
            addr.ip(),
            addr.port(),
            chassis.display()
        );
        std::fs::write(path("lan.conf"), lan).unwrap();
        let emulation = "mc_setbmc 0x20\n\
                         mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\n\
                         sel_enable 0x20 1000 0x0a\nmc_enable 0x20\n";
        std::fs::write(path("emu"), emulation).unwrap();
        let child = Command::new("ipmi_sim")
            .args(["-n", "-c"])
            .arg(path("lan.conf"))
            .arg("-f")
            .arg(path("emu"))
            .arg("-s")
            .arg(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let child = match child {
            Ok(child) => child,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                panic!("ipmi_sim is not installed: apt-get install openipmi")
            }
            Err(error) => panic!("ipmi_sim: {error}"),
        };
        Self { addr, directory, _child: child }
    }

    fn address(&self) -> BmcAddress {
        BmcAddress::new(self.addr, USER, Secret::new(PASSWORD))
    }

    fn power(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("power")).unwrap()
    }
}

fn quick() -> Tuning {
    Tuning { first_timeout: Duration::from_millis(200), tries: 12, ..Tuning::default() }
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

#[tokio::test]
async fn power_boot_device_and_identity() {
    let sim = IpmiSim::start().await;
    let hub = IpmiHub::bind_with(quick()).await.unwrap();
    let bmc = hub.bmc(sim.address());
    assert_eq!(bmc.power_status(soon()).await, Ok(PowerState::Off));
    assert_eq!(bmc.ensure_power(PowerState::On, soon()).await, Ok(true));
    assert_eq!(sim.power(), "1");
    assert_eq!(bmc.ensure_power(PowerState::Off, soon()).await, Ok(true));
    assert_eq!(sim.power(), "0");
    let identity = bmc.identity(soon()).await.unwrap();
    let names = (identity.manufacturer.as_str(), identity.product.as_str());
    assert_eq!(names, ("4753", "3842"), "1291h and f02h");
    let network = BootOverride { device: Device::Network, persistent: false, mode: BootMode::Bios };
    bmc.set_boot_device(network, soon()).await.unwrap();
    let boot = std::fs::read_to_string(sim.directory.path().join("boot")).unwrap();
    assert_eq!(boot, "pxe");
    hub.shutdown().await;
}

#[tokio::test]
async fn suite_17_is_refused_and_3_is_used() {
    let sim = IpmiSim::start().await;
    let hub = IpmiHub::bind_with(quick()).await.unwrap();
    assert_eq!(hub.bmc(sim.address()).power_status(soon()).await, Ok(PowerState::Off));
    let pinned = BmcAddress { cipher: Cipher::Fixed(CipherSuite::Suite17), ..sim.address() };
    let error = hub.bmc(pinned).power_status(soon()).await.unwrap_err();
    assert!(matches!(error, BmcError::UnsupportedCipher { .. }), "{error}");
    hub.shutdown().await;
}

#[tokio::test]
async fn wrong_password_is_named() {
    let sim = IpmiSim::start().await;
    let hub = IpmiHub::bind_with(quick()).await.unwrap();
    let wrong = BmcAddress { password: Secret::new("wrong"), ..sim.address() };
    let error = hub.bmc(wrong).power_status(soon()).await.unwrap_err();
    assert!(matches!(error, BmcError::WrongPassword { .. }), "{error}");
    hub.shutdown().await;
}

/// It has about 62 session slots: a client that leaked them would be refused before the end.
#[tokio::test]
async fn sessions_are_given_back() {
    let sim = IpmiSim::start().await;
    for _ in 0..100 {
        let hub = IpmiHub::bind_with(quick()).await.unwrap();
        let pinned = BmcAddress { cipher: Cipher::Fixed(CipherSuite::Suite3), ..sim.address() };
        hub.bmc(pinned).power_status(soon()).await.unwrap();
        hub.shutdown().await;
    }
}
