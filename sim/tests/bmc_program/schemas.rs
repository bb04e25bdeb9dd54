//! What the simulator says over Redfish against the published schemas: DMTF's own service validator walks every link of every
//! personality, and judges by DMTF's CSDL and by what HPE, Dell and Supermicro publish of theirs.

use std::os::unix::fs::symlink;
use std::path::Path;

use serde::Deserialize;

use super::{PERSONALITIES, Program, python};

/// As its command line, without the spreadsheet, which takes longer than everything else.
const VALIDATOR: &str = r#"
import json, os, sys, tempfile
from redfish_service_validator import console_scripts, report
report.html_report = report.xlsx_report = lambda *_: None
url, ca, password = sys.argv[1:4]
walked = []
class Watched(console_scripts.SystemUnderTest):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        walked.append(self)
console_scripts.SystemUnderTest = Watched
with tempfile.TemporaryDirectory() as logs:
    console_scripts.run_validator(dict(
        rhost=url, user="admin", password=password, authtype="Session", timeout=None, ext_http_proxy=None,
        ext_https_proxy=None, serv_http_proxy=None, serv_https_proxy=None, mockup=None, payload=None,
        collectionlimit=["LogEntry", "5", "Signature", "3"], nooemcheck=False, skipschema=True, debugging=False,
        schema_directory=os.path.join(os.path.dirname(os.path.dirname(ca)), "schemas"), logdir=logs))
    [log] = [os.path.join(root, name) for root, _, names in os.walk(logs) for name in names if name.endswith(".log")]
    faults = [line.strip() for line in open(log) if " FAIL - " in line]
[one] = walked
print(json.dumps(dict(passed=one.pass_count, failed=one.fail_count, faults=faults)))
print("all of it")
"#;

/// What the validator counted.
#[derive(Deserialize)]
struct Verdict {
    passed: u32,
    failed: u32,
    faults: Vec<String>,
}

#[tokio::test]
async fn every_personality_is_as_the_published_schemas_say() {
    let python = python::with_redfish_clients().await;
    let program = Program::start(5, "", &["--personality", PERSONALITIES]).await;
    lay_out(&program.dir.path().join("schemas"));
    let all = program.bmcs.iter().enumerate().map(async |(number, bmc)| {
        // There is something in its log.
        program.ipmitool(number, "power off").await.succeeds();
        let output = program.python(&python, number, VALIDATOR).await;
        let line = output.text.lines().find(|line| line.starts_with("{\"passed\"")).unwrap();
        let verdict: Verdict = serde_json::from_str(line).unwrap();
        assert!(verdict.failed == 0, "{}: {:#?}", bmc.personality, verdict.faults);
        // A walk that ended early has nothing to complain of either.
        assert!(verdict.passed > 600, "{}: {}", bmc.personality, verdict.passed);
    });
    futures::future::join_all(all).await;
    program.stop().await;
}

/// One directory, as the validator wants it.
fn lay_out(directory: &Path) {
    std::fs::create_dir(directory).unwrap();
    let vendors =
        ["dell", "hpe", "supermicro"].map(|vendor| Path::new(nv_redfish_schema::OEM_DIR).join(vendor));
    let published = [Path::new(nv_redfish_schema::REDFISH_CSDL_DIR).to_owned()].into_iter().chain(vendors);
    for file in published.flat_map(|from| std::fs::read_dir(from).unwrap()) {
        let file = file.unwrap().path();
        symlink(&file, directory.join(file.file_name().unwrap())).unwrap();
    }
}
