//! `buf curl`, which stands for every generic gRPC client: `grpcurl` is in no registry that we can reach.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The program, fetched once.
pub(crate) fn buf() -> &'static Path {
    static BUF_PATH: OnceLock<PathBuf> = OnceLock::new();
    BUF_PATH.get_or_init(|| {
        let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let program = tmp.join(format!("buf-{BUF}"));
        if !program.exists() {
            let dir = tempfile::tempdir_in(tmp).unwrap();
            let python = |args: &[&str]| {
                let output = Command::new("python3").args(args).current_dir(dir.path()).output();
                let output =
                    output.expect("no python3 here: install the Debian packages python3 and python3-pip");
                assert!(
                    output.status.success(),
                    "cannot get buf {BUF} from PyPI: python3 {args:?}: {}",
                    String::from_utf8_lossy(&output.stderr)
                );
            };
            let wanted = format!("buf-bin=={BUF}");
            python(&["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", &wanted]);
            let wheel = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
            python(&["-m", "zipfile", "-e", wheel.to_str().unwrap(), "wheel"]);
            let inside = dir.path().join(format!("wheel/buf_bin-{BUF}.data/scripts/buf"));
            make_executable(&inside);
            // Another process may have been as quick: either file is as good.
            std::fs::rename(&inside, &program).unwrap();
        }
        program
    })
}

fn make_executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let entry = std::fs::metadata(path).expect("the wheel has buf where it always had it");
    let mut permissions = entry.permissions();
    permissions.set_mode(0o755);
    std::fs::set_permissions(path, permissions).unwrap();
}

const BUF: &str = "1.75.0";
