//! The last good snapshot, on disk.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

use super::Snapshot;

/// Written whole or not at all, never replaced by an older generation.
pub(crate) struct Kept {
    path: PathBuf,
    last: Option<Snapshot>,
    /// What is at `path` was read whole, or written: it may take the place of the one before.
    whole: bool,
    /// Whether boot files are served over IPv6 too.
    ipv6: bool,
}

impl Kept {
    /// One that cannot be read is as good as none: it is only ever a copy. Then the one before it is served.
    pub(crate) fn open(path: PathBuf) -> Self {
        match read(&path) {
            Read::Whole(last) => Self { path, last: Some(*last), whole: true, ipv6: true },
            Read::Nothing => Self { path, last: None, whole: false, ipv6: true },
            Read::Damaged => {
                let before = previous(&path);
                let last = match read(&before) {
                    Read::Whole(last) => {
                        let (path, generation) = (before.display(), last.generation);
                        tracing::warn!(%path, generation, "the snapshot that was kept before the last one is served");
                        Some(*last)
                    }
                    Read::Nothing | Read::Damaged => None,
                };
                Self { path, last, whole: false, ipv6: true }
            }
        }
    }

    /// Boot files are served over IPv4 alone: a snapshot that sends machines to an IPv6 address is refused.
    pub(crate) fn ipv4_only(self) -> Self {
        Self { ipv6: false, ..self }
    }

    pub(crate) fn last(&self) -> Option<&Snapshot> {
        self.last.as_ref()
    }

    /// Reads `file`, checks all of it, and keeps it.
    pub(crate) fn take(&mut self, file: &Path) -> anyhow::Result<Snapshot> {
        let name = file.display();
        let len = std::fs::metadata(file).with_context(|| format!("cannot read {name}"))?.len();
        ensure!(len <= MOST, "{name} has {len} bytes: expected at most {MOST}");
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {name}"))?;
        ensure!(
            is_whole(&text),
            "{name} is not whole: expected JSON, or YAML whose last line is `...` (YAML 1.2.2 section 9.1.2), saw another end. \
             Half of a YAML is a YAML too, with machines missing: end it with that line, so that one that is still being written is \
             told from one that says all"
        );
        let new = Snapshot::parse(&text).with_context(|| format!("{name} cannot be used"))?;
        new.check_secrets().with_context(|| format!("{name} cannot be used"))?;
        new.table().with_context(|| format!("{name} cannot be used"))?;
        if let Some(segment) = new.segments.iter().find(|s| s.address6.is_some()).filter(|_| !self.ipv6) {
            bail!(
                "{name} cannot be used: segment {}: address6: expected --http [::]:PORT, which answers IPv6 too, saw an IPv4 address",
                segment.name
            );
        }
        if let Some((artifact, path)) = new.absent().next() {
            bail!(
                "{name} cannot be used: artifact {artifact}: expected a file at {}, saw none",
                path.display()
            );
        }
        if let Some(last) = &self.last {
            let (seen, known) = (new.generation, last.generation);
            ensure!(
                seen >= known,
                "{name} is generation {seen}, {known} was served already: expected a later one"
            );
            ensure!(
                seen > known || new == *last,
                "{name} is generation {seen} with another content than was served under that number: raise `generation`"
            );
        }
        if self.last.as_ref() != Some(&new) {
            self.write(&new).with_context(|| format!("cannot keep it in {}", self.path.display()))?;
            self.last = Some(new.clone());
        }
        Ok(new)
    }

    /// Keeps `new`, under the next number where anything in it is. A machine that cannot be served, such as a second one of an address,
    /// takes the others nothing.
    pub(crate) fn renew(&mut self, mut new: Snapshot) -> anyhow::Result<()> {
        let left_out = new.leave_out_unusable();
        if let Some(last) = &self.last {
            new.generation = last.generation;
            if new == *last {
                return Ok(());
            }
        }
        for error in left_out {
            let error = farrier_runtime::telemetry::chain(error.as_ref());
            tracing::error!(
                error,
                "left out of the snapshot: it will not boot by it while the centre is away"
            );
        }
        new.generation = new.generation.saturating_add(1);
        new.table().context("what is to be kept cannot be used")?;
        self.write(&new).with_context(|| format!("cannot write {}", self.path.display()))?;
        self.last = Some(new);
        Ok(())
    }

    fn write(&mut self, snapshot: &Snapshot) -> anyhow::Result<()> {
        let new = self.path.with_extension("new");
        // Its owner's alone, as what it was read from may be: kernel arguments can have a password in them.
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(&serde_json::to_vec_pretty(snapshot)?)?;
        file.sync_all()?;
        // Without it there is still this one.
        if self.whole
            && let Err(error) = keep_previous(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "the snapshot before this one is not kept");
        }
        std::fs::rename(&new, &self.path)?;
        self.whole = true;
        // The name is on disk with its directory.
        if let Some(parent) = self.path.parent() {
            File::open(parent)?.sync_all()?;
        }
        Ok(())
    }
}

enum Read {
    Whole(Box<Snapshot>),
    Nothing,
    Damaged,
}

fn read(path: &Path) -> Read {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Read::Nothing,
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "the kept snapshot cannot be read");
            return Read::Damaged;
        }
    };
    match Snapshot::parse_copy(&text) {
        Ok(snapshot) => Read::Whole(Box::new(snapshot)),
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "the kept snapshot is damaged");
            Read::Damaged
        }
    }
}

/// Whether somebody has said all that they wanted to say: JSON ends with what it began with, and YAML with the mark of a document's
/// end. Without that the first half of a file, which an editor or a copy has written so far, is a rack with half of its machines.
fn is_whole(text: &str) -> bool {
    let ends = || text.trim_end().lines().next_back() == Some("...");
    text.trim_start().starts_with('{') || ends()
}

/// A second name for what is at `path`, in place of the one before: whenever the power fails, one of the two is whole.
fn keep_previous(path: &Path) -> io::Result<()> {
    let before = previous(path);
    match std::fs::remove_file(&before) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::hard_link(path, before)
}

fn previous(path: &Path) -> PathBuf {
    path.with_extension("previous")
}

/// Ten thousand machines have some four million bytes.
const MOST: u64 = 64 << 20;
