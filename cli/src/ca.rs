//! The embedded certificate authority, on the local disk: no service is asked.

use crate::failure::Failure;
use farrier_identity::ca::{Authority, write_identity};
use farrier_identity::{Credentials, Identity, Role, Validity};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Makes an authority in `dir`.
pub fn init(dir: &Path, common_name: &str) -> Result<(), Failure> {
    Authority::init(dir, common_name)?;
    Ok(())
}

/// Issues `identity` into the directory `out`, and proves that it loads.
pub fn issue(
    dir: &Path,
    identity: &Identity,
    hosts: &[String],
    days: u32,
    out: &Path,
) -> Result<Identity, Failure> {
    let authority = Authority::load(dir).map_err(|error| {
        Failure::from(error).next(format!("`farrier ca init {}` makes an authority", dir.display()))
    })?;
    let issued = authority.issue(identity, hosts, Duration::from_secs(u64::from(days) * 86_400))?;
    write_identity(out, &issued, authority.cert_pem())?;
    Ok(Credentials::load(out)?.identity())
}

/// An authority in `dir`/ca and the identities in directories beside it, each where it is missing or is not
/// reached under one of `hosts`. Says what it made.
pub fn bootstrap(
    dir: &Path,
    identities: Vec<(String, Identity)>,
    hosts: &[String],
    days: u32,
) -> Result<Vec<String>, Failure> {
    let mut made = Vec::new();
    let authority = dir.join("ca");
    if !authority.join("ca.pem").exists() && !authority.join("ca.key").exists() {
        init(&authority, "Farrier")?;
        made.push(format!("authority made in {}", authority.display()));
    }
    for (name, identity) in identities {
        let identity = checked(identity)?;
        let out = dir.join(&name);
        let mut reached: Vec<String> = match &identity {
            // Users do not serve: nobody reaches them.
            Identity::User { .. } => Vec::new(),
            _ => std::iter::once(name).chain(hosts.iter().cloned()).collect(),
        };
        // A host more than last time is a new certificate; the hosts of the old one stay. So is one that ends soon:
        // this runs before every start, and nothing else renews a service's.
        let there = Credentials::load(&out).ok().filter(|there| there.identity() == identity);
        let ends = there.as_ref().is_some_and(|there| ends_soon(there.validity(), SystemTime::now()));
        let before = there.as_ref().map(Credentials::hosts).unwrap_or_default();
        let added: Vec<String> = reached.iter().filter(|host| !before.contains(host)).cloned().collect();
        if there.is_some() && added.is_empty() && !ends {
            continue;
        }
        reached.extend(before.into_iter().filter(|host| !added.contains(host)));
        reached.sort();
        reached.dedup();
        issue(&authority, &identity, &reached, days, &out)?;
        let why = match (there.is_some(), added.is_empty()) {
            (false, _) => String::new(),
            (true, false) => format!(", now also as {}", added.join(", ")),
            (true, true) => ", because the old one ends soon".to_owned(),
        };
        made.push(format!("{identity} in {}, valid for {days} days{why}", out.display()));
    }
    Ok(made)
}

/// Less than a third of its life is left.
fn ends_soon(validity: Validity, now: SystemTime) -> bool {
    let life = validity.until.duration_since(validity.from).unwrap_or_default();
    validity.until.duration_since(now).unwrap_or_default() < life / 3
}

/// An identity with a name that an id can carry.
pub fn checked(identity: Identity) -> Result<Identity, Failure> {
    let (role, project): (Option<Role>, &str) = match &identity {
        Identity::User { role, project, .. } => (Some(*role), project),
        _ => (None, ""),
    };
    Identity::parse(&identity.to_string(), role, project).map_err(|error| Failure::usage(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_is_issued_loads() {
        let dir = tempfile::tempdir().unwrap();
        let authority = dir.path().join("ca");
        init(&authority, "test").unwrap();
        for identity in [
            Identity::Service("inventory".into()),
            Identity::Rack("r1".into()),
            Identity::User { name: "ada".into(), role: Role::Operator, project: "p1".into() },
        ] {
            let out = dir.path().join("out");
            let loaded =
                issue(&authority, &checked(identity.clone()).unwrap(), &["127.0.0.1".into()], 1, &out)
                    .unwrap();
            assert_eq!(loaded, identity);
            let mode = std::fs::metadata(out.join("key.pem")).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "the key is its owner's alone");
        }
    }

    #[test]
    fn a_second_init_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        init(dir.path(), "test").unwrap();
        let before = std::fs::read(dir.path().join("ca.key")).unwrap();
        assert!(init(dir.path(), "test").is_err());
        assert_eq!(std::fs::read(dir.path().join("ca.key")).unwrap(), before);
    }

    #[test]
    fn a_bootstrap_makes_what_is_missing_and_keeps_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = || {
            vec![
                ("inventory".to_owned(), Identity::Service("inventory".into())),
                ("r1".to_owned(), Identity::Rack("r1".into())),
            ]
        };
        let hosts = ["127.0.0.1".to_owned()];
        assert_eq!(bootstrap(dir.path(), wanted(), &hosts, 1).unwrap().len(), 3);
        assert_eq!(bootstrap(dir.path(), wanted(), &hosts, 1).unwrap(), Vec::<String>::new());
        let more = ["127.0.0.1".to_owned(), "centre.example".to_owned()];
        let made = bootstrap(dir.path(), wanted(), &more, 1).unwrap();
        assert!(made.len() == 2 && made[0].ends_with("now also as centre.example"), "{made:?}");
        let only = ["centre.example".to_owned()];
        assert_eq!(bootstrap(dir.path(), wanted(), &only, 1).unwrap(), Vec::<String>::new());
        let hosts_of = |name: &str| Credentials::load(&dir.path().join(name)).unwrap().hosts();
        assert_eq!(hosts_of("inventory"), ["127.0.0.1", "centre.example", "inventory"]);
        std::fs::write(dir.path().join("r1/cert.pem"), "broken").unwrap();
        let made = bootstrap(dir.path(), wanted(), &hosts, 1).unwrap();
        assert!(made.len() == 1 && made[0].starts_with("spiffe://farrier/rack/r1"), "{made:?}");
    }

    #[test]
    fn what_ends_soon_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let (authority, out) = (dir.path().join("ca"), dir.path().join("r1"));
        init(&authority, "test").unwrap();
        let rack = Identity::Rack("r1".into());
        // Certificates begin five minutes before they are made: one minute of six is left.
        let authority = Authority::load(&authority).unwrap();
        let short = authority.issue(&rack, &["r1".into()], Duration::from_secs(60)).unwrap();
        write_identity(&out, &short, authority.cert_pem()).unwrap();
        let wanted = || vec![("r1".to_owned(), rack.clone())];
        let made = bootstrap(dir.path(), wanted(), &[], 30).unwrap();
        assert!(made.len() == 1 && made[0].ends_with("because the old one ends soon"), "{made:?}");
        let left =
            Credentials::load(&out).unwrap().validity().until.duration_since(SystemTime::now()).unwrap();
        assert!(left > Duration::from_secs(29 * 86_400), "{left:?}");
        assert_eq!(bootstrap(dir.path(), wanted(), &[], 30).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn names_that_no_id_can_carry_are_usage_errors() {
        assert!(checked(Identity::Rack("a/b".into())).is_err());
        assert!(checked(Identity::Service(String::new())).is_err());
    }
}
