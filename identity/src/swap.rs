//! Replacing a certificate and its key in a directory, so that a crash at any instant leaves a pair that
//! belongs together: two files cannot be renamed at once, but a directory with both can.

use crate::IdentityError;
use crate::ca::{Issued, write_private, write_public};
use std::fs::{File, create_dir_all, remove_dir_all, rename};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Replaces `key.pem` and `cert.pem` in `dir`. After a crash in the middle, [`complete`] ends it; before
/// anything was moved, the old pair stays.
pub fn replace(dir: &Path, issued: &Issued) -> Result<(), IdentityError> {
    let (draft, next) = (dir.join(DRAFT), dir.join(NEXT));
    complete(dir)?;
    write(&draft, remove_dir_all(&draft).or_else(absent))?;
    write(&draft, create_dir_all(&draft))?;
    write_private(&draft.join("key.pem"), issued.key_pem.as_bytes())?;
    write_public(&draft.join("cert.pem"), issued.cert_pem.as_bytes())?;
    write(&draft, sync(&draft))?;
    write(&next, rename(&draft, &next))?;
    write(dir, sync(dir))?;
    complete(dir)
}

/// Ends a replacement that was cut off. Call it before the directory is loaded; there is nothing to do most of
/// the time.
pub fn complete(dir: &Path) -> Result<(), IdentityError> {
    let next = dir.join(NEXT);
    if !next.is_dir() {
        return Ok(());
    }
    for name in ["key.pem", "cert.pem"] {
        let path: PathBuf = dir.join(name);
        // One that is not there any more was moved before the crash.
        write(&path, rename(next.join(name), &path).or_else(absent))?;
    }
    write(dir, sync(dir))?;
    write(&next, remove_dir_all(&next))
}

/// Written into; a crash leaves it behind, and nobody looks.
const DRAFT: &str = "next.draft";
/// Whole: from here on the new pair is the pair.
const NEXT: &str = "next";

fn sync(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}

fn absent(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

fn write(path: &Path, done: std::io::Result<()>) -> Result<(), IdentityError> {
    done.map_err(|source| IdentityError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::{Authority, write_identity};
    use crate::{Credentials, Identity};
    use std::time::Duration;

    fn issue(authority: &Authority, hours: u64) -> Issued {
        let hosts = ["127.0.0.1".to_owned(), "r1.example".to_owned()];
        authority.issue(&Identity::Rack("r1".into()), &hosts, Duration::from_secs(hours * 3600)).unwrap()
    }

    #[test]
    fn a_replacement_is_whole_wherever_it_is_cut_off() {
        let (authority, _) = Authority::generate("test").unwrap();
        let (old, new) = (issue(&authority, 1), issue(&authority, 100));
        let start = |dir: &Path| write_identity(dir, &old, authority.cert_pem()).unwrap();
        let stage = |dir: &Path, name: &str| {
            create_dir_all(dir.join(name)).unwrap();
            std::fs::write(dir.join(name).join("key.pem"), &new.key_pem).unwrap();
            std::fs::write(dir.join(name).join("cert.pem"), &new.cert_pem).unwrap();
        };
        // Where it was cut off, and whether the new pair is what is left.
        type Cut<'a> = (&'a str, Box<dyn Fn(&Path) + 'a>, bool);
        let cuts: [Cut<'_>; 4] = [
            ("while drafting", Box::new(|dir| stage(dir, DRAFT)), false),
            ("before the first move", Box::new(|dir| stage(dir, NEXT)), true),
            (
                "between the moves",
                Box::new(|dir| {
                    stage(dir, NEXT);
                    rename(dir.join(NEXT).join("key.pem"), dir.join("key.pem")).unwrap();
                }),
                true,
            ),
            (
                "after the moves",
                Box::new(|dir| {
                    replace(dir, &new).unwrap();
                    create_dir_all(dir.join(NEXT)).unwrap();
                }),
                true,
            ),
        ];
        for (when, cut, renewed) in cuts {
            let dir = tempfile::tempdir().unwrap();
            start(dir.path());
            cut(dir.path());
            complete(dir.path()).unwrap();
            let loaded = Credentials::load(dir.path()).unwrap_or_else(|e| panic!("{when}: {e}"));
            let left = loaded.validity().until.duration_since(std::time::SystemTime::now()).unwrap();
            assert_eq!(left > Duration::from_secs(2 * 3600), renewed, "{when}");
            assert!(!dir.path().join(NEXT).exists(), "{when}");
            // And the next one goes through.
            replace(dir.path(), &issue(&authority, 200)).unwrap();
            Credentials::load(dir.path()).unwrap();
        }
    }

    #[test]
    fn what_a_certificate_says_of_itself_is_read_back() {
        let (authority, _) = Authority::generate("test").unwrap();
        let dir = tempfile::tempdir().unwrap();
        write_identity(dir.path(), &issue(&authority, 1), authority.cert_pem()).unwrap();
        let credentials = Credentials::load(dir.path()).unwrap();
        assert_eq!(credentials.hosts(), ["127.0.0.1", "r1.example"]);
        let validity = credentials.validity();
        let now = std::time::SystemTime::now();
        assert!(validity.from < now && now < validity.until);
    }
}
