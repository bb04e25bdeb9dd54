//! Another password for a node's BMC: made and sealed here before the BMC hears of it, so that whatever dies on the way,
//! both passwords are known, and one of them opens the BMC.

use super::bmc::has_bmc;
use super::node::{bmc_context, next_context};
use farrier_inventory_store::{SecretChange, Secrets};
use farrier_model::lifecycle;
use farrier_proto::inventory::{Bmc, Node, TransitionNodeRequest};
use farrier_runtime::error::{Reason, internal, invalid, refuse};
use farrier_runtime::time;
use farrier_runtime::vault::Vault;
use rand::seq::IndexedRandom as _;
use tonic::{Code, Status};
use zeroize::Zeroizing;

/// The password that the node's BMC shall get: one that an earlier rotation has left without knowing what became of it, or
/// a new one; for the node's account, or for one of another name.
pub(super) fn begin(
    node: &mut Node,
    next: Option<&[u8]>,
    new_user: &str,
    vault: &Vault,
) -> Result<Secrets, Status> {
    let name = node.name.clone();
    let plain = plain(&name);
    if let Some(bmc) = node.bmc.as_ref().filter(|bmc| !has_bmc(bmc)) {
        let why = format!("driver {} of {name} reaches no BMC: there is no password to change", bmc.driver);
        return Err(refuse(Code::FailedPrecondition, Reason::BmcFailed, why));
    }
    let Some(bmc) = &mut node.bmc else {
        return Err(refuse(
            Code::FailedPrecondition,
            Reason::BmcFailed,
            format!(
                "{name} has no BMC: say which with `farrier node update {plain} --bmc-driver auto --bmc-address HOST --bmc-user USER --bmc-password-file FILE`"
            ),
        ));
    };
    if !new_user.is_empty() {
        check_new_user(plain, bmc, next.is_some(), new_user)?;
    }
    bmc.rotation_pending = true;
    if next.is_some() {
        return Ok(Secrets::default());
    }
    bmc.rotation_time = Some(time::now());
    bmc.next_user = new_user.to_owned();
    let sealed = vault.seal(&next_context(&name), generate().as_bytes()).map_err(internal)?;
    Ok(Secrets { next: SecretChange::Store(sealed), ..Secrets::default() })
}

/// The BMC has it: it is the password from now on. `proven`: the account that opened the BMC with it, where it is not the
/// node's own; another account is believed by that alone, since an older rack gives the new password to the node's own.
pub(super) fn settle(
    node: &mut Node,
    next: Option<&[u8]>,
    proven: &str,
    vault: &Vault,
) -> Result<Secrets, Status> {
    // Somebody has given the node another password meanwhile, and that one counts.
    let Some(next) = next else { return Ok(Secrets::default()) };
    let password = vault.open(&next_context(&node.name), next).map_err(internal)?;
    let current = vault.seal(&bmc_context(&node.name), &password).map_err(internal)?;
    if let Some(bmc) = &mut node.bmc {
        bmc.rotation_pending = false;
        bmc.rotation_time = None;
        let next_user = std::mem::take(&mut bmc.next_user);
        if !next_user.is_empty() && next_user == proven {
            bmc.user = next_user;
        }
        bmc.password_set = true;
        bmc.default_password = false;
    }
    Ok(Secrets { current: SecretChange::Store(current), next: SecretChange::Clear, ..Secrets::default() })
}

/// Whether the node's BMC may have an account of this name besides its own.
fn check_new_user(node: &str, bmc: &Bmc, pending: bool, new_user: &str) -> Result<(), Status> {
    if pending && bmc.next_user != new_user {
        let left = if bmc.next_user.is_empty() { &bmc.user } else { &bmc.next_user };
        let why = format!(
            "a rotation to the account {left:?} has not been settled: settle it with `farrier node rotate-bmc-credentials {node}` first"
        );
        return Err(refuse(Code::FailedPrecondition, Reason::BmcFailed, why));
    }
    if new_user == bmc.user {
        return Err(invalid(
            "new_user",
            "expected another account than the node's own, whose password changes without it",
        ));
    }
    super::bmc::check(super::bmc::OF_NODE, &Bmc { user: new_user.to_owned(), ..bmc.clone() })
}

/// As people type it.
fn plain(name: &str) -> &str {
    name.strip_prefix("nodes/").unwrap_or(name)
}

/// What a transition means for the password: a default one is replaced by the first work that opens the BMC.
pub(super) fn in_transition(
    node: &mut Node,
    request: &TransitionNodeRequest,
    next: Option<&[u8]>,
    vault: &Vault,
) -> Result<Secrets, Status> {
    let replaces = node.bmc.as_ref().is_some_and(|bmc| bmc.default_password && has_bmc(bmc));
    match (request.bmc_credentials_rotated, request.bmc_credentials_refused) {
        (true, _) => settle(node, next, &request.bmc_account_proven, vault),
        (false, true) => Ok(forget(node)),
        (false, false) if replaces && request.event == lifecycle::Event::Manage.as_str() => {
            begin(node, next, "", vault)
        }
        (false, false) => Ok(Secrets::default()),
    }
}

/// The BMC refused it, and was seen to have the old one still: the next rotation makes another.
pub(super) fn forget(node: &mut Node) -> Secrets {
    if let Some(bmc) = &mut node.bmc {
        bmc.rotation_pending = false;
        bmc.rotation_time = None;
        bmc.next_user.clear();
    }
    Secrets { next: SecretChange::Clear, ..Secrets::default() }
}

/// One that every BMC takes: 16 bytes, since IPMI's short passwords have so many, with something of each kind that rules
/// ask for, and nothing that one mistakes for something else or a shell minds.
fn generate() -> Zeroizing<String> {
    let mut rng = rand::rng();
    loop {
        let letters = (0..LENGTH).filter_map(|_| ALPHABET.choose(&mut rng));
        let password = Zeroizing::new(letters.map(|letter| char::from(*letter)).collect::<String>());
        if KINDS.iter().all(|kind| password.bytes().any(|byte| kind(&byte))) {
            return password;
        }
    }
}

const LENGTH: usize = 16;
const ALPHABET: &[u8; 60] = b"abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789-_.";
const KINDS: [fn(&u8) -> bool; 4] =
    [u8::is_ascii_lowercase, u8::is_ascii_uppercase, u8::is_ascii_digit, u8::is_ascii_punctuation];

#[cfg(test)]
mod tests {
    use super::*;

    fn vault() -> (tempfile::TempDir, Vault) {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::open_or_create(&dir.path().join("secrets.key")).unwrap();
        (dir, vault)
    }

    fn bmc() -> Bmc {
        let (driver, address, user) = ("ipmi".into(), "192.0.2.1".into(), "admin".into());
        Bmc { driver, address, user, ..Bmc::default() }
    }

    #[test]
    fn another_account_is_the_nodes_when_it_was_proven_and_not_before() {
        let (_dir, vault) = vault();
        let bmc = bmc();
        // The last two: an older rack, which knows of one account, and one that proved somebody else's.
        for (proven, user) in [("farrier", "farrier"), ("", "admin"), ("root", "admin")] {
            let mut node = Node { name: "nodes/n1".into(), bmc: Some(bmc.clone()), ..Node::default() };
            let begun = begin(&mut node, None, "farrier", &vault).unwrap();
            let SecretChange::Store(next) = begun.next else { panic!("no password is made") };
            let settled = settle(&mut node, Some(&next), proven, &vault).unwrap();
            let bmc = node.bmc.unwrap();
            assert_eq!((bmc.user.as_str(), bmc.next_user.as_str()), (user, ""), "{proven:?}");
            assert!(!bmc.rotation_pending && bmc.rotation_time.is_none() && bmc.password_set);
            // Whoever has it, the password is the new one.
            let SecretChange::Store(current) = settled.current else { panic!("no password is kept") };
            let open = |context: String, sealed: &[u8]| vault.open(&context, sealed).unwrap().to_vec();
            assert_eq!(open(bmc_context("nodes/n1"), &current), open(next_context("nodes/n1"), &next));
            assert!(matches!(settled.next, SecretChange::Clear));
        }
    }

    #[test]
    fn a_rotation_that_is_not_settled_names_the_node_to_settle() {
        let (_dir, vault) = vault();
        let bmc = bmc();
        let mut node = Node { name: "nodes/n1".into(), bmc: Some(bmc), ..Node::default() };
        let refused = begin(&mut node, Some(b"sealed".as_slice()), "farrier", &vault).unwrap_err();
        assert!(refused.message().contains("`farrier node rotate-bmc-credentials n1`"), "{refused}");
        node.bmc = None;
        let refused = begin(&mut node, None, "", &vault).unwrap_err();
        assert!(refused.message().contains("`farrier node update n1 --bmc-driver"), "{refused}");
    }

    #[test]
    fn a_password_is_what_bmcs_ask_for_and_never_the_same() {
        let passwords: std::collections::HashSet<String> = (0..200).map(|_| generate().to_string()).collect();
        assert_eq!(passwords.len(), 200);
        for password in passwords {
            assert_eq!(password.len(), LENGTH);
            assert!(KINDS.iter().all(|kind| password.bytes().any(|byte| kind(&byte))), "{password}");
        }
    }
}
