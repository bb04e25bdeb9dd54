//! FreeIPMI's programs, unchanged.

use super::*;

fn command(program: &Program, tool: &str, number: usize, suite: u8, arguments: &str) -> Command {
    let mut command = Command::new(tool);
    command.args(["-h", &program.bmcs[number].ipmi.to_string(), "-u", USER, "-p", PASSWORD]);
    command.args(["-D", "LAN_2_0", "-I", &suite.to_string(), "-l", "ADMIN"]);
    command.args(arguments.split_whitespace());
    // Records of sensors that it keeps are those of this run.
    if ["ipmi-sensors", "ipmi-sel", "ipmi-fru"].contains(&tool) {
        let cache = program.dir.path().join(format!("sdr-{number}"));
        std::fs::create_dir_all(&cache).unwrap();
        command.arg("--sdr-cache-directory").arg(cache);
    }
    command
}

/// Program, arguments, and what it must say of a machine that is on.
const ASKED: &[(&str, &str, &[&str])] = &[
    ("ipmipower", "--stat", &["off"]),
    ("ipmipower", "--on", &["ok"]),
    ("ipmipower", "--stat", &[": on"]),
    ("ipmi-chassis", "--get-chassis-status", &["System Power                        : on"]),
    ("ipmi-chassis", "--get-chassis-capabilities", &["FRU Info Device Address : 20h"]),
    ("ipmi-chassis", "--chassis-identify=9", &[]),
    (
        "ipmi-sensors",
        "",
        &["1  | CPU Temp   | Temperature  | 47.00      | C", "5400.00    | RPM", "'Presence detected'"],
    ),
    // It puts a blank of its own before the modifier.
    ("ipmi-sensors", "--shared-sensors", &["DIMM 1 ", "DIMM 2 ", "DIMM 3 "]),
    ("ipmi-sensors", "--sensor-types=Temperature --output-sensor-thresholds", &["Inlet Temp", "42.00"]),
    ("ipmi-sel", "", &["Power Unit   | Power Off/Power Down"]),
    (
        "ipmi-sel",
        "--info",
        &["Number of log entries                  : 1", "Delete SEL Command                     : supported"],
    ),
    ("ipmi-sel", "--delete=1", &[]),
    ("ipmi-sel", "--info", &["Number of log entries                  : 0"]),
    ("ipmipower", "--cycle", &["ok"]),
    ("ipmi-sel", "--clear", &[]),
    ("ipmi-fru", "", &["FRU Board Product Name: SIM-1", "FRU Product Name"]),
    ("bmc-info", "", &["SEL Device            : supported", "Medium Type          : 802.3 LAN"]),
    ("bmc-device", "--get-self-test-results", &["No Error"]),
    ("bmc-device", "--get-sdr-repository-time", &["SDR Repository Time"]),
    (
        "ipmi-dcmi",
        "--get-dcmi-capability-info",
        &["Power Management / Monitoring Support              : Available"],
    ),
    ("ipmi-dcmi", "--get-system-power-statistics", &["Current Power                        : 180 Watts"]),
    ("ipmi-dcmi", "--get-dcmi-sensor-info", &["CPU Temperature SDR Record IDs"]),
    ("ipmi-dcmi", "--get-management-controller-identifier-string", &["bmc-0000000"]),
    (
        "ipmi-config",
        "--checkout --category=core --section=Lan_Conf",
        &["Subnet_Mask                                   255.0.0.0"],
    ),
    ("ipmi-config", "--checkout --category=core --section=User2", &["admin"]),
    ("ipmipower", "--off", &["ok"]),
];

#[tokio::test]
async fn freeipmi_drives_the_program_with_both_suites() {
    let program = Program::start(2, "", &["--personality", "plain,supermicro"]).await;
    let all = [17, 3].into_iter().enumerate().map(async |(number, suite)| {
        let program = &program;
        for (tool, arguments, said) in ASKED {
            let output = run(command(program, tool, number, suite, arguments), "freeipmi-tools").await;
            for words in *said {
                assert!(output.text.contains(words), "{tool} {arguments}: {words:?}\n{}", output.text);
            }
            assert!(output.ok, "{tool} {arguments}\n{}", output.text);
        }
    });
    futures::future::join_all(all).await;
    program.stop().await;
}

#[tokio::test]
async fn ipmiconsole_has_the_console() {
    // It takes no port above 32767, and a free one is.
    let program = Program::start_at("6623", 1, "", &[]).await;
    let address = program.bmcs[0].ipmi;
    let mut terminal =
        Terminal::start(&format!("ipmiconsole -h {address} -u {USER} -p '{PASSWORD}' -I 17 -l ADMIN"));
    terminal.shows("SOL established").await;
    let on = run(command(&program, "ipmipower", 0, 17, "--on"), "freeipmi-tools").await;
    on.says("ok");
    terminal.shows("pretend login:").await;
    terminal.types("root\r").await;
    terminal.shows("root").await;
    terminal.types("&.").await;
    terminal.ends().await;
    program.stop().await;
}
