//! The words that `ssh` is started with (ssh(1), ssh_config(5); OpenSSH 8.5 or later, for KnownHostsCommand).

use std::path::Path;
use std::process::Stdio;

use tokio::process::{Child, Command};

use super::escape::ESCAPE_WORD;
use super::helper::SOCKET_VARIABLE;
use super::{Inner, Target};

/// What is the same for every BMC. Nobody's configuration, keys, agent or known hosts count; nothing is forwarded; a key
/// that was not asked for is no key.
const OPTIONS: &[&str] = &[
    "StrictHostKeyChecking=yes",
    "UserKnownHostsFile=none",
    "GlobalKnownHostsFile=none",
    "UpdateHostKeys=no",
    "CheckHostIP=no",
    "VerifyHostKeyDNS=no",
    "FingerprintHash=sha256",
    "IdentitiesOnly=yes",
    "IdentityFile=none",
    "IdentityAgent=none",
    "PubkeyAuthentication=no",
    "GSSAPIAuthentication=no",
    "PreferredAuthentications=password,keyboard-interactive",
    "NumberOfPasswordPrompts=1",
    "ClearAllForwardings=yes",
    "ForwardAgent=no",
    "ForwardX11=no",
    "ControlPath=none",
    "PermitLocalCommand=no",
    "AddKeysToAgent=no",
    // Until a BMC that is gone is known to be gone: 45 s.
    "ServerAliveInterval=15",
    "ServerAliveCountMax=3",
    "TCPKeepAlive=yes",
    // So that it says when it is in: see `told`.
    "LogLevel=VERBOSE",
];

/// Starts it, with host keys of a family of algorithms; empty: of those that it takes by itself. It ends when the child is
/// dropped.
pub(super) fn start(
    setup: &Inner,
    target: &Target,
    family: &str,
    socket: &str,
    connect_seconds: u64,
) -> std::io::Result<Child> {
    let mut command = Command::new(&setup.program);
    let ip = match target.addr {
        std::net::SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("{}%{}", v6.ip(), v6.scope_id()),
        addr => addr.ip().to_string(),
    };
    command.args(["-F", "none", "-tt"]);
    for option in OPTIONS {
        command.args(["-o", option]);
    }
    if !family.is_empty() {
        command.arg("-o").arg(format!("HostKeyAlgorithms={family}"));
    }
    command
        .arg("-o")
        .arg(format!("EscapeChar={ESCAPE_WORD}"))
        .arg("-o")
        .arg(format!("ConnectTimeout={}", connect_seconds.max(1)))
        .arg("-o")
        .arg(format!("KnownHostsCommand={} %I %H %t %f %K", quoted(&setup.helper)))
        .args(["-p", &target.addr.port().to_string(), "-l", &target.user, "--", &ip]);
    if !target.entry.is_empty() {
        command.arg(&target.entry);
    }
    // The environment is of our making: nothing of the operator's, and a program that shows no windows.
    command.env_clear();
    for kept in ["PATH", "HOME"] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    command
        .envs([
            ("LC_ALL", "C"),
            ("TERM", "vt220"),
            ("SSH_ASKPASS_REQUIRE", "force"),
            (SOCKET_VARIABLE, socket),
        ])
        .env("SSH_ASKPASS", &setup.helper)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // What ends rackd's group at a terminal is not for it.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// One word of KnownHostsCommand, whatever is in it: `ssh` splits at spaces, knows quotes and backslashes, and expands `%`.
fn quoted(path: &Path) -> String {
    let path = path.to_string_lossy();
    let mut quoted = String::with_capacity(path.len() + 2);
    quoted.push('"');
    for char in path.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            '%' => quoted.push_str("%%"),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_whatever_is_in_it() {
        assert_eq!(quoted(Path::new("/usr/bin/rackd")), r#""/usr/bin/rackd""#);
        assert_eq!(quoted(Path::new(r#"/a b/50%/"x"\y"#)), r#""/a b/50%%/\"x\"\\y""#);
    }
}
