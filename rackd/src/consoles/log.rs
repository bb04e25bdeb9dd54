//! A console's log: text files of one line each, with the time it began; the oldest are thrown away.

use super::lines::Line;
use prost_types::Timestamp;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead as _, BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use tokio::io::AsyncWriteExt as _;

/// Bytes of one file, and how many there are beside the one that is written.
const FILE_BYTES: u64 = 1 << 20;
const OLDER: u32 = 3;
/// Most lines of one answer.
pub(crate) const MAX_LINES: usize = 10_000;

/// The log of one console, to be written.
pub(super) struct Log {
    dir: PathBuf,
    file: Option<(tokio::fs::File, u64)>,
    /// A disk that takes nothing is told of once.
    failing: bool,
}

/// What to look for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query {
    /// Empty: everything.
    pub(crate) contains: String,
    /// The last so many.
    pub(crate) last: usize,
}

/// A line of a log.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LogLine {
    pub(crate) time: Option<Timestamp>,
    pub(crate) text: String,
}

impl Log {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir, file: None, failing: false }
    }

    /// Appends lines. A log that cannot be written holds nobody up.
    pub(super) async fn append(&mut self, lines: Vec<Line>) {
        if lines.is_empty() {
            return;
        }
        match self.try_append(&lines).await {
            Ok(()) => self.failing = false,
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(dir = %self.dir.display(), %error, "console log not written");
                }
                self.file = None;
            }
        }
    }

    async fn try_append(&mut self, lines: &[Line]) -> std::io::Result<()> {
        let (mut file, size) = match self.file.take() {
            Some((file, size)) if size < FILE_BYTES => (file, size),
            full => self.open(full.is_some()).await?,
        };
        let mut bytes = Vec::new();
        for (began, line) in lines {
            bytes.extend_from_slice(format!("{} ", milliseconds(*began)).as_bytes());
            bytes.extend_from_slice(line);
            bytes.push(b'\n');
        }
        file.write_all(&bytes).await?;
        file.flush().await?;
        self.file = Some((file, size + bytes.len() as u64));
        Ok(())
    }

    async fn open(&self, full: bool) -> std::io::Result<(tokio::fs::File, u64)> {
        // What a console says may hold secrets of the machine's.
        tokio::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir).await?;
        let newest = path(&self.dir, 0);
        let size = match tokio::fs::metadata(&newest).await {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        let rotate = full || size >= FILE_BYTES;
        if rotate {
            for age in (0..OLDER).rev() {
                match tokio::fs::rename(path(&self.dir, age), path(&self.dir, age + 1)).await {
                    Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        let file = tokio::fs::OpenOptions::new().create(true).append(true).open(&newest).await?;
        Ok((file, if rotate { 0 } else { size }))
    }
}

/// Reads a log, and the line that is not in it yet. Blocking.
pub(super) fn read(
    dir: &Path,
    query: &Query,
    unfinished: Option<Line>,
) -> std::io::Result<Option<Vec<LogLine>>> {
    let last = if query.last == 0 { MAX_LINES } else { query.last.min(MAX_LINES) };
    let mut found = VecDeque::new();
    let mut keep = |line: LogLine| {
        if line.text.contains(&query.contains) {
            if found.len() >= last {
                found.pop_front();
            }
            found.push_back(line);
        }
    };
    let mut exists = unfinished.is_some();
    for age in (0..=OLDER).rev() {
        let mut file = match File::open(path(dir, age)) {
            Ok(file) => BufReader::new(file),
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        exists = true;
        let mut line = Vec::new();
        while file.read_until(b'\n', &mut line)? > 0 {
            keep(parse(&line));
            line.clear();
        }
    }
    if let Some((began, line)) = unfinished {
        keep(LogLine { time: Some(began.into()), text: String::from_utf8_lossy(&line).into_owned() });
    }
    Ok(exists.then(|| found.into()))
}

fn parse(line: &[u8]) -> LogLine {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches('\n');
    match text.split_once(' ').and_then(|(time, rest)| Some((time.parse().ok()?, rest))) {
        Some((time, rest)) => LogLine { time: Some(time), text: rest.to_owned() },
        // Somebody edited it, or a disk that was full has half a line.
        None => LogLine { time: None, text: text.to_owned() },
    }
}

fn path(dir: &Path, age: u32) -> PathBuf {
    match age {
        0 => dir.join("console.log"),
        age => dir.join(format!("console.log.{age}")),
    }
}

fn milliseconds(time: SystemTime) -> Timestamp {
    let mut time = Timestamp::from(time);
    time.nanos -= time.nanos % 1_000_000;
    time
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        (SystemTime::now(), text.as_bytes().to_vec())
    }

    fn texts(dir: &Path, contains: &str, last: usize) -> Vec<String> {
        let query = Query { contains: contains.to_owned(), last };
        let lines = read(dir, &query, Some(line("login: "))).unwrap().unwrap();
        assert!(lines.iter().all(|line| line.time.is_some()));
        lines.into_iter().map(|line| line.text).collect()
    }

    #[tokio::test]
    async fn lines_are_kept_in_order_found_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path(), &Query::default(), None).unwrap(), None);
        let mut log = Log::new(dir.path().join("n1"));
        log.append(vec![line("first"), line(""), line("second \u{fffd}")]).await;
        let dir = dir.path().join("n1");
        assert_eq!(texts(&dir, "", 0), ["first", "", "second \u{fffd}", "login: "]);
        assert_eq!(texts(&dir, "s", 0), ["first", "second \u{fffd}"]);
        assert_eq!(texts(&dir, "", 2), ["second \u{fffd}", "login: "]);
        // Another rackd goes on where this one ended.
        let mut log = Log::new(dir.clone());
        let long = "x".repeat(1000);
        for batch in 0..60 {
            log.append((0..100).map(|n| line(&format!("{batch}/{n} {long}"))).collect()).await;
        }
        let total: u64 = std::fs::read_dir(&dir).unwrap().map(|f| f.unwrap().metadata().unwrap().len()).sum();
        assert!(total < 5 * FILE_BYTES, "{total}");
        let lines = texts(&dir, "", 3);
        assert!(lines[0].starts_with("59/98 ") && lines[1].starts_with("59/99 "), "{lines:?}");
        assert_eq!(texts(&dir, "first", 0), Vec::<String>::new());
        assert_eq!(texts(&dir, "59/7 x", 0).len(), 1);
    }
}
