//! A Python with the clients of others.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

/// A virtual environment with the clients, made once per target directory.
pub(crate) async fn with_redfish_clients() -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("redfish-clients-5");
    let python = directory.join("bin/python");
    let imports = |python: PathBuf| async move {
        let mut import = Command::new(python);
        import
            .args(["-c", "import sushy, redfish_utilities, sushy_oem_idrac, proliantutils, sseclient, redfish_service_validator"])
            .stderr(Stdio::null())
            .status()
            .await
            .is_ok_and(|s| s.success())
    };
    if imports(python.clone()).await {
        return python;
    }
    // One test binary makes it, the others wait.
    let lock = std::fs::File::create(directory.with_extension("lock")).unwrap();
    let _held = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await.unwrap().unwrap();
    if imports(python.clone()).await {
        return python;
    }
    let status = Command::new("python3").args(["-m", "venv"]).arg(&directory).status().await;
    let made = status.is_ok_and(|status| status.success());
    assert!(made, "python3 -m venv failed: apt-get install python3-venv");
    let pip = Command::new(directory.join("bin/pip"))
        .args([
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "sushy==5.14.0",
            "redfish-utilities==3.5.2",
            "sushy-oem-idrac==6.0.0",
            "proliantutils==2.16.3",
            "sseclient-py==1.9.0",
            "redfish-service-validator==3.1.8",
        ])
        .status()
        .await
        .unwrap();
    assert!(
        pip.success(),
        "pip install of the Redfish clients failed: the package index must be reachable once"
    );
    python
}
