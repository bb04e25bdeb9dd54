//! The binary against fake services: exit codes, streams, what goes where.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod fake;
mod fake_rack;

use fake::{World, farrier, stderr, stdout};
use tokio::io::AsyncReadExt as _;

async fn inventory() -> World {
    World::start("inventory").await
}

async fn scheduler() -> World {
    World::start("scheduler").await
}

#[tokio::test]
async fn lists_go_through_all_pages_or_to_the_limit() {
    let world = inventory().await;
    let all =
        world.farrier(&["node", "list", "-o", "json", "--state", "deploy-failed", "--rack", "r1"]).await;
    assert_eq!(all.status.code(), Some(0), "{}", stderr(&all));
    assert_eq!(stdout(&all).matches("\"name\"").count(), 5);
    assert_eq!(world.seen.filters.lock().unwrap()[0], "state=\"deploy failed\" AND rack=racks/r1");
    let some = world.farrier(&["node", "list", "--limit", "3"]).await;
    assert_eq!(stdout(&some).lines().count(), 4);
    assert_eq!(stderr(&some), "");
}

#[tokio::test]
async fn not_found_is_3() {
    let world = inventory().await;
    let output = world.farrier(&["node", "get", "n9"]).await;
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(stdout(&output), "");
    assert!(stderr(&output).starts_with("error: nodes/n9 is not here"), "{}", stderr(&output));
    assert!(stderr(&output).contains("(NOT_FOUND)"));
}

#[tokio::test]
async fn unreachable_is_4_and_says_where() {
    let world = inventory().await;
    let me = world.dir.path().join("me");
    // A port that was free a moment ago and that nobody listens on.
    let url = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("https://{}", listener.local_addr().unwrap())
    };
    let set = world.bare(&["context", "set", "lab", "--inventory", &url], &me).await;
    assert_eq!(set.status.code(), Some(0), "{}", stderr(&set));
    let output = world.bare(&["node", "list"], &me).await;
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains(&url) && said.contains("context lab"), "{said}");
}

#[tokio::test]
async fn another_service_at_the_address_is_not_believed() {
    let world = World::start("images").await;
    let output = world.farrier(&["node", "list"]).await;
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    assert!(stderr(&output).contains("TLS"), "{}", stderr(&output));
}

#[tokio::test]
async fn conflicts_are_6() {
    let world = inventory().await;
    let stale = world.farrier(&["node", "update", "n1", "--owner", "p", "--etag", "old"]).await;
    assert_eq!(stale.status.code(), Some(6), "{}", stderr(&stale));
    assert!(stderr(&stale).contains("STALE_ETAG"));
    let taken = world.farrier(&["node", "create", "n1", "--rack", "r1"]).await;
    assert_eq!(taken.status.code(), Some(6), "{}", stderr(&taken));
}

#[tokio::test]
async fn usage_is_2_without_a_call() {
    let world = inventory().await;
    let me = world.dir.path().join("me");
    for args in [
        vec!["node", "list"],
        vec!["node", "update", "n1", "--inventory", &world.url],
        vec!["node", "get", "racks/r1", "--inventory", &world.url],
        vec!["node", "list", "--context", "moon"],
        vec!["image", "import", "u", "--file", "f", "--sha256", "abc"],
        vec!["nonsense"],
    ] {
        let output = world.bare(&args, &me).await;
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "");
    }
}

#[tokio::test]
async fn nothing_is_destroyed_without_a_yes() {
    let world = inventory().await;
    let asked = world.farrier(&["node", "delete", "n1"]).await;
    assert_eq!(asked.status.code(), Some(2));
    assert!(stderr(&asked).contains("--yes"), "{}", stderr(&asked));
    let done = world.farrier(&["node", "delete", "n1", "--yes"]).await;
    assert_eq!((done.status.code(), stdout(&done)), (Some(0), String::new()));
}

#[tokio::test]
async fn an_update_of_labels_keeps_the_others_and_is_conditional() {
    let world = inventory().await;
    let output =
        world.farrier(&["node", "update", "n1", "--label", "new=2", "--bmc-address", "10.0.0.1"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let update = world.seen.updates.lock().unwrap()[0].clone();
    let node = update.node.unwrap();
    assert_eq!(node.labels.len(), 2);
    assert_eq!(node.etag, "now");
    assert_eq!(node.bmc.unwrap().address, "10.0.0.1");
    assert_eq!(update.update_mask.unwrap().paths, ["bmc", "labels"]);
}

#[tokio::test]
async fn the_bmc_password_comes_from_a_file_and_is_not_echoed() {
    let world = inventory().await;
    let file = world.dir.path().join("pw");
    std::fs::write(&file, "s3cret\n").unwrap();
    let output = world
        .farrier(&["node", "update", "n1", "--bmc-password-file", file.to_str().unwrap(), "-o", "json"])
        .await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(
        world.seen.updates.lock().unwrap()[0].node.as_ref().unwrap().bmc.as_ref().unwrap().password,
        "s3cret"
    );
    assert!(!stdout(&output).contains("s3cret") && !stderr(&output).contains("s3cret"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_is_asked_for_on_a_terminal_and_not_shown_while_it_is_typed() {
    let world = inventory().await;
    let (terminal, end) = terminal();
    let args = ["node", "update", "n1", "--bmc-password-file", "-", "-o", "json", "--inventory", &world.url];
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_farrier"))
        .args(args)
        .env_clear()
        .env("HOME", world.dir.path())
        .env("FARRIER_IDENTITY", world.dir.path().join("me"))
        .stdin(end)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut asked = [0; 10];
    child.stderr.as_mut().unwrap().read_exact(&mut asked).await.unwrap();
    assert_eq!(&asked, b"password: ");
    rustix::io::write(&terminal, b"s3cret\n").unwrap();
    let output = child.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let update = world.seen.updates.lock().unwrap()[0].node.clone().unwrap();
    assert_eq!(update.bmc.unwrap().password, "s3cret");
    // What the terminal showed: nothing, and now its other end is gone.
    let mut shown = [0; 64];
    assert_eq!(rustix::io::read(&terminal, &mut shown), Err(rustix::io::Errno::IO), "{shown:?}");
}

#[tokio::test]
async fn nobody_who_reads_what_is_told_is_no_panic() {
    let world = inventory().await;
    let url = world.url.as_str();
    for args in [&["node", "get", "nope", "--inventory", url][..], &["ca", "bootstrap", "--dir", "ca"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let ended = tokio::process::Command::new(env!("CARGO_BIN_EXE_farrier"))
            .args(args)
            .current_dir(world.dir.path())
            .env_clear()
            .env("HOME", world.dir.path())
            .env("FARRIER_IDENTITY", world.dir.path().join("me"))
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(full)
            .status()
            .await
            .unwrap();
        // 101 is Rust's for a panic; all of ours are below (docs/errors.md).
        assert!(ended.code().is_some_and(|code| code < 100), "{args:?}: {ended}");
    }
}

/// A terminal, and the end that a program has.
fn terminal() -> (std::os::fd::OwnedFd, std::fs::File) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let path = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    (terminal, std::fs::File::options().read(true).write(true).open(path).unwrap())
}

#[tokio::test]
async fn a_wait_survives_a_broken_stream() {
    let world = scheduler().await;
    let output = world
        .farrier(&["instance", "create", "web", "--flavor", "f", "--image", "u", "--wait", "-o", "json"])
        .await;
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(world.seen.watches.load(std::sync::atomic::Ordering::SeqCst), 2);
    assert!(stdout(&output).contains("\"done\": true"));
    assert!(said.contains("trying again"), "{said}");
    assert!(said.contains("n1  1/2 fetch_image") && said.contains("n1  2/2 write_image"), "{said}");
    assert!(said.contains("fetch_image  5.0"), "{said}");
    let request = world.seen.instances.lock().unwrap()[0].clone();
    assert_eq!(request.instance.unwrap().flavor, "flavors/f");
    assert_eq!(request.request_id.len(), 36);
}

#[tokio::test]
async fn a_failed_operation_is_5_only_when_waited_for() {
    let world = scheduler().await;
    let started = world.farrier(&["instance", "delete", "bad", "--yes"]).await;
    assert_eq!(started.status.code(), Some(0), "{}", stderr(&started));
    let output = world.farrier(&["instance", "delete", "bad", "--yes", "--wait"]).await;
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(said.contains("write_image: expected a disk, saw none (TASK_FAILED)"), "{said}");
    assert!(said.contains("farrier node explain n1"), "{said}");
}

#[tokio::test]
async fn snapshot_and_recover_say_what_was_typed() {
    let world = scheduler().await;
    let line = ["instance", "snapshot", "web", "--image", "golden", "--description", "after setup", "--wait"];
    let output = world.farrier(&line).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let asked = world.seen.snapshot.lock().unwrap().take().unwrap();
    assert_eq!((asked.name.as_str(), asked.image.as_str()), ("instances/web", "images/golden"));
    assert_eq!((asked.description.as_str(), asked.request_id.len()), ("after setup", 36));
    assert_eq!(world.farrier(&["instance", "snapshot", "web"]).await.status.code(), Some(2));

    // It switches a machine off: not without a yes.
    let asked = world.farrier(&["instance", "recover", "web", "--onto", "n2"]).await;
    assert_eq!(asked.status.code(), Some(2));
    assert!(stderr(&asked).contains("--yes"), "{}", stderr(&asked));
    assert!(world.seen.recovery.lock().unwrap().is_none());
    for force in [false, true] {
        let mut line = vec!["instance", "recover", "web", "--onto", "n2", "--wait", "--yes"];
        line.extend(force.then_some("--force"));
        let output = world.farrier(&line).await;
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let asked = world.seen.recovery.lock().unwrap().take().unwrap();
        assert_eq!((asked.name.as_str(), asked.onto.as_str()), ("instances/web", "nodes/n2"));
        assert_eq!((asked.force, asked.request_id.len()), (force, 36));
    }
}

#[tokio::test]
async fn a_watch_of_nothing_is_3() {
    let world = scheduler().await;
    let output = world.farrier(&["operation", "watch", "00000000-0000-0000-0000-000000000000"]).await;
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
}

#[tokio::test]
async fn a_dry_run_shows_why_nothing_fits() {
    let world = scheduler().await;
    let output =
        world.farrier(&["instance", "create", "web", "--flavor", "f", "--image", "u", "--dry-run"]).await;
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("nodes/n1  has 4 CPUs, needs 64"), "{said}");
    assert!(world.seen.instances.lock().unwrap()[0].validate_only);
}

#[tokio::test]
async fn an_image_arrives_whole() {
    let world = World::start("images").await;
    let file = world.dir.path().join("u.qcow2");
    let mut bytes = b"QFI\xfb".to_vec();
    bytes.resize((1 << 20) + 77, 3);
    std::fs::write(&file, &bytes).unwrap();
    let digest = "AB".repeat(32);
    let output =
        world.farrier(&["image", "import", "u", "--file", file.to_str().unwrap(), "--sha256", &digest]).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let (header, sent) = world.seen.upload.lock().unwrap().take().unwrap();
    assert!(sent == bytes, "the bytes differ");
    let image = header.image.unwrap();
    assert_eq!((image.name.as_str(), image.sha256.clone()), ("images/u", "ab".repeat(32)));
    assert_eq!(image.format(), farrier_proto::images::ImageFormat::Qcow2);
    assert_eq!(header.file_bytes, bytes.len() as i64);
}

#[tokio::test]
async fn the_disks_of_a_rack_are_shown_with_what_of_their_images_is_there() {
    let world = World::start_as(farrier_identity::Identity::Rack("r1".into())).await;
    let shown = world.farrier(&["rack", "volumes", "r1", "--address", &world.url]).await;
    assert!(stdout(&shown).contains("1 GiB of 2 GiB"), "{} {}", stdout(&shown), stderr(&shown));
    let other = world.farrier(&["rack", "volumes", "r1", "--node", "n2", "--address", &world.url]).await;
    assert!(other.status.success() && !stdout(&other).contains("web"), "{}", stdout(&other));
    let usage = world.farrier(&["instance", "resize", "web"]).await;
    assert_eq!(usage.status.code(), Some(2), "{}", stderr(&usage));
}

#[tokio::test]
async fn the_addresses_of_a_rack_are_shown() {
    let world = World::start_as(farrier_identity::Identity::Rack("r1".into())).await;
    let leases = world.farrier(&["rack", "dhcp", "leases", "r1", "--address", &world.url]).await;
    let shown = stdout(&leases);
    let kinds = |row: &str| row.split_whitespace().nth(3).map(str::to_owned);
    assert_eq!(
        shown.lines().map(kinds).collect::<Vec<_>>(),
        ["KIND", "reserved", "pool"].map(|k| Some(k.to_owned())),
        "{shown} {}",
        stderr(&leases)
    );
    // A line each, as it comes: a program reads them one by one.
    let kinds_of =
        |line: &str| line.get(45..).and_then(|rest| rest.split("  ").next()).unwrap_or_default().to_owned();
    let log = world.farrier(&["rack", "dhcp", "log", "r1", "--follow", "--address", &world.url]).await;
    let lines = stdout(&log);
    let kinds: Vec<_> = lines.lines().map(kinds_of).collect();
    assert_eq!(kinds, ["KIND", "DHCPDISCOVER", "DHCPOFFER"], "{lines} {}", stderr(&log));
    let args = ["rack", "dhcp", "log", "r1", "--address", &world.url, "-o", "json"];
    let log = stdout(&world.farrier(&args).await);
    let events: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        (events.len(), &events[1]["kind"], &events[1]["type"]),
        (2, &"DHCPOFFER".into(), &"dhcp offer".into())
    );
    let args = ["rack", "dhcp", "reservations", "r1", "--network", "lab", "--address", &world.url];
    let reservations = world.farrier(&[&args[..], &["-o", "json"]].concat()).await;
    let shown: serde_json::Value = serde_json::from_str(&stdout(&reservations)).unwrap();
    assert_eq!(shown[0]["network"], "lab");
    assert_eq!(shown[0]["boot"], "local disk");
}

#[tokio::test]
async fn only_the_rack_itself_speaks_for_a_rack() {
    let world = World::start_as(farrier_identity::Identity::Rack("r1".into())).await;
    let right = world.farrier(&["rack", "status", "racks/r1", "--address", &world.url, "-o", "yaml"]).await;
    assert_eq!(right.status.code(), Some(0), "{}", stderr(&right));
    assert!(stdout(&right).contains("version: '9.9'"), "{}", stdout(&right));
    let wrong = world.farrier(&["rack", "status", "r2", "--address", &world.url]).await;
    assert_eq!(wrong.status.code(), Some(4), "{}", stderr(&wrong));
}

#[tokio::test]
async fn certificates_are_made_and_load() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    let (ca, out) = (path("ca"), path("me"));
    let init = farrier(home.path(), &["ca", "init", &ca], home.path()).await;
    assert_eq!(init.status.code(), Some(0), "{}", stderr(&init));
    let issue = ["ca", "issue", &ca, "--user", "ada", "--role", "member", "--project", "p", "--out", &out];
    let issued = farrier(home.path(), &issue, home.path()).await;
    assert_eq!(issued.status.code(), Some(0), "{}", stderr(&issued));
    let identity = farrier_identity::Credentials::load(&home.path().join("me")).unwrap().identity();
    assert_eq!(identity.to_string(), "spiffe://farrier/user/ada");
    let again = farrier(home.path(), &issue, home.path()).await;
    assert_eq!(again.status.code(), Some(2), "an identity is not replaced unasked");
    let show = farrier(home.path(), &["context", "show", "-o", "json"], &home.path().join("me")).await;
    assert!(stdout(&show).contains("spiffe://farrier/user/ada"), "{}", stdout(&show));
}

#[tokio::test]
async fn help_lists_the_exit_codes() {
    let home = tempfile::tempdir().unwrap();
    let output = farrier(home.path(), &["--help"], home.path()).await;
    assert_eq!(output.status.code(), Some(0));
    for line in ["3    not found", "5    the operation failed", "6    conflict"] {
        assert!(stdout(&output).contains(line));
    }
}
