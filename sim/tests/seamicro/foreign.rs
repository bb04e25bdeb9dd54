//! python-seamicroclient against the simulated chassis. It is from the time of Python 2, so Python's own 2to3 brings it to
//! Python 3: what is on the wire stays its authors'.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use farrier_sim::bmc::{BootDeviceSelector, PowerAction};
use tokio::process::Command;

use crate::Lab;

/// Everything that OpenStack's driver did with it, and the client's functional tests.
const CLIENT: &str = r#"
import sys
from seamicroclient import client, exceptions
url = sys.argv[1]
chassis = client.Client("2", "admin", "S3cret", url)
assert sorted(s.id for s in chassis.servers.list()) == ["0/0", "1/0"]
server = chassis.servers.get("0/0")
assert server.id == "0/0" and server.active is False, server
assert server.nic["0"]["macAddr"] == "02:00:00:00:00:00", server.nic
server.power_on(using_pxe=True)
assert server.refresh().active is True
server.reset()
server.reset(using_pxe=True)
server.power_off()
server.power_on()
server.power_off(force=True)
assert server.refresh().active is False
assert chassis.servers.get_boot_order(server)[1] == "hd0"
server.set_boot_order("pxe")
assert chassis.servers.get_boot_order(server)[1] == "pxe,hd0"
server.power_on()
server.set_boot_order("hd0")
server.power_off(force=True)
server.set_untagged_vlan("7", nics=["nic1"])
server.set_tagged_vlan("17")
nic = server.refresh().nic
assert (nic["0"]["untaggedVlan"], nic["1"]["untaggedVlan"]) == ("", "7"), nic
assert [nic[n]["taggedVlan"] for n in ("0", "1")] == ["17", "17"], nic
server.unset_untagged_vlan("7", nics=["nic1"])
server.unset_tagged_vlan("17")
assert server.refresh().nic["1"]["untaggedVlan"] == ""
assert "17" not in server.refresh().nic["0"]["taggedVlan"]
[pool] = chassis.pools.list()
assert (pool.id, pool.freeSize, chassis.pools.get(pool).freeSize) == ("0/ironic-p6-6", 100, 100)
volume = chassis.volumes.create(2, pool, "v1")
assert volume == "0/ironic-p6-6/v1", volume
assert chassis.volumes.get(volume).actualSize == 2
assert [v.id for v in chassis.volumes.list()] == [volume]
server.attach_volume(volume)
assert server.refresh().vdisk["0"] == volume
server.detach_volume()
chassis.volumes.delete(volume)
assert chassis.volumes.get(volume).actualSize == 0
chassis.chassis.list()
chassis.system.writemem(None)
for wrong in (lambda: chassis.servers.get("9/9"), lambda: chassis.volumes.delete("0/ironic-p6-6/none")):
    try:
        wrong()
        raise SystemExit("there is something that is not there")
    except exceptions.NotFound as error:
        assert "there is no" in error.message, error.message
try:
    client.Client("2", "admin", "wrong", url).servers.list()
    raise SystemExit("a wrong password is right")
except exceptions.Unauthorized:
    pass
print("all of it")
"#;

#[tokio::test]
async fn the_public_client_drives_the_simulated_chassis() {
    let python = python().await;
    // The client puts a password into a query as it is.
    let lab = Lab::start_with("S3cret").await;
    let url = format!("http://{}/v2.0", lab.service.address());
    let mut command = Command::new(python);
    command.args(["-W", "ignore", "-c", CLIENT, &url]).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(120), command.output()).await;
    let output = output.expect("it is done in two minutes").unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("all of it"), "{out}\n{err}");
    use PowerAction::{Off, On, Reset, Soft};
    assert_eq!(lab.machines[0].actions(), [On, Reset, Reset, Soft, On, Off, On, Off]);
    let devices: Vec<_> = lab.machines[0].boots().iter().map(|flags| flags.device).collect();
    let (pxe, disk) = (BootDeviceSelector::PXE, BootDeviceSelector::DISK);
    assert_eq!(devices, [pxe, disk, pxe, disk, pxe]);
    lab.stop().await;
}

/// A virtual environment with the client, made once per target directory. One of its own: the client wants a pbr that
/// others do not.
async fn python() -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("seamicro-client-1");
    let python = directory.join("bin/python");
    let done = directory.join("is-python-3");
    if done.exists() {
        return python;
    }
    let run = async |program: &Path, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).arg(&directory).stdout(Stdio::null());
        command.status().await.is_ok_and(|status| status.success())
    };
    let made = run(Path::new("python3"), &["-m", "venv", "--clear"]).await;
    assert!(made, "python3 -m venv failed: apt-get install python3-venv");
    let mut pip = Command::new(directory.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check", "python-seamicroclient==0.4.0"]);
    let installed = pip.status().await.unwrap().success();
    assert!(
        installed,
        "pip install of python-seamicroclient failed: the package index must be reachable once"
    );
    let find =
        "import importlib.util as u; print(u.find_spec('seamicroclient').submodule_search_locations[0])";
    let found = Command::new(&python).args(["-c", find]).output().await.unwrap();
    let package = String::from_utf8(found.stdout).unwrap();
    let converted = Command::new(&python)
        .args(["-W", "ignore", "-m", "lib2to3", "--write", "--nobackups", "--no-diffs", package.trim()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .await;
    let converted = converted.is_ok_and(|status| status.success());
    assert!(
        converted,
        "python3 -m lib2to3 failed: apt-get install python3-lib2to3 (Python 3.12 is the last that has it)"
    );
    std::fs::write(done, "").unwrap();
    python
}
