//! The boots of machines that are being discovered, on disk: a ramdisk that runs is known after a restart of rackd too, which
//! nobody else would ever switch off.

use super::files::Files;
use super::found::{Boot, Found};
use farrier_netboot::MacAddr;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

const KIND: &str = "boot";

#[derive(Debug)]
pub(super) struct Boots {
    files: Files,
    /// Whoever writes last has what is so now.
    writing: Mutex<()>,
}

impl Boots {
    pub(super) fn new(data: &Path) -> Self {
        Self { files: Files::new(data, KIND), writing: Mutex::default() }
    }

    /// The disk has of a machine what `found` has. Blocking.
    pub(super) fn keep(&self, found: &Found, mac: MacAddr) -> io::Result<()> {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        match found.boot(mac) {
            Some(boot) => self.files.write(mac, &serde_json::to_vec(&boot).map_err(io::Error::other)?),
            None => self.files.remove(mac),
        }
    }

    /// All that there are. One that cannot be read is forgotten: its machine starts again after a while. Blocking.
    pub(super) fn all(&self) -> Vec<(MacAddr, Boot)> {
        let ports = self.files.ports().unwrap_or_else(|error| {
            tracing::error!(%error, "machines that are being discovered are not known any more, and start again");
            Vec::new()
        });
        let read = |mac: MacAddr| {
            let boot = self.files.read(mac);
            match boot.and_then(|bytes| serde_json::from_slice(&bytes).map_err(io::Error::other)) {
                Ok(boot) => Some((mac, boot)),
                Err(error) => {
                    tracing::warn!(%mac, %error, "a machine that is being discovered is not known any more, and starts again");
                    // It would be read again at the next start, and no more.
                    let _ = self.files.remove(mac);
                    None
                }
            }
        };
        ports.into_iter().filter_map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::TokenUse;
    use std::time::Instant;

    const ROW: (&str, u32) = ("row-1", 5000);

    fn mac(n: u8) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, n])
    }

    #[test]
    fn after_a_restart_tokens_are_whose_they_were_and_whoever_only_asked_begins_anew() {
        let (dir, now) = (tempfile::tempdir().unwrap(), Instant::now());
        let (found, boots) = (Found::default(), Boots::new(dir.path()));
        let mut tokens = Vec::new();
        for n in 1..=4 {
            found.begin(mac(n), ROW, now);
            tokens.push(found.new_token(mac(n)).unwrap());
            if n != 3 {
                found.fetched(mac(n), now);
            }
            boots.keep(&found, mac(n)).unwrap();
        }
        assert_eq!(found.use_token(&tokens[0], "key"), Some((mac(1), TokenUse::First)));
        found.end(mac(4));
        [1, 4].iter().for_each(|n| boots.keep(&found, mac(*n)).unwrap());
        let on_disk = String::from_utf8(boots.files.read(mac(1)).unwrap()).unwrap();
        assert!(on_disk.contains("key") && !on_disk.contains(&tokens[0]), "by its digest alone: {on_disk}");

        let (found, boots) = (Found::default(), Boots::new(dir.path()));
        found.load(boots.all(), now);
        assert_eq!(found.ports(), [mac(1), mac(2)]);
        assert_eq!(found.networks(mac(1)), ["row-1"]);
        for (token, key, expected) in [
            (&tokens[0], "another", Some((mac(1), TokenUse::UsedByAnother))),
            (&tokens[0], "key", Some((mac(1), TokenUse::Again))),
            (&tokens[1], "its", Some((mac(2), TokenUse::First))),
            (&tokens[2], "its", None),
            (&tokens[3], "its", None),
        ] {
            assert_eq!(found.use_token(token, key), expected);
        }
    }

    #[test]
    fn what_is_damaged_is_forgotten_and_the_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let (found, boots) = (Found::default(), Boots::new(dir.path()));
        for n in 1..=2 {
            found.begin(mac(n), ROW, Instant::now());
            found.fetched(mac(n), Instant::now());
            boots.keep(&found, mac(n)).unwrap();
        }
        boots.files.write(mac(1), b"what a lost power left").unwrap();
        for _ in 0..2 {
            assert_eq!(boots.all().into_iter().map(|(mac, _)| mac).collect::<Vec<_>>(), [mac(2)]);
        }
        assert_eq!(boots.files.ports().unwrap(), [mac(2)]);
    }
}
