//! Boots from a CD as a machine does that knows ISO 9660 and GRUB's configuration only as far as it must: from the URL that
//! its BMC was told, by ranges.

use std::net::Ipv4Addr;
use std::ops::Range;

use anyhow::{Context as _, Result, ensure};

use super::http;

/// What a CD starts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Started {
    /// The kernel's command line.
    pub(super) args: String,
}

/// Reads the CD as far as a boot does: its directories, GRUB's configuration, kernel and initrd to their ends.
pub(super) async fn boot(source: Ipv4Addr, url: &str) -> Result<Started> {
    let (_, root, _) = record(&part(source, url, at(16, SECTOR)).await?, 156).context("no root directory")?;
    let boot = find(source, url, root.clone(), "BOOT").await?;
    let grub = find(source, url, boot, "GRUB").await?;
    let config = find(source, url, grub, "GRUB.CFG;1").await?;
    let script = String::from_utf8(part(source, url, config).await?).context("GRUB.CFG is no text")?;
    let (kernel, args, initrd) = parse(&script).context("GRUB.CFG starts nothing")?;
    for name in [kernel, initrd] {
        let name = format!("{};1", name.trim_start_matches('/').to_ascii_uppercase());
        let range = find(source, url, root.clone(), &name).await?;
        let answer = http::get_part(source, url, range.clone()).await?;
        ensure!(
            answer.length == range.end - range.start && answer.length > 0,
            "{name}: {} bytes",
            answer.length
        );
    }
    Ok(Started { args })
}

/// Kernel, its arguments and initrd: of `linux 'KERNEL' 'ARG' …; …` and `initrd 'INITRD'; …`, of two architectures an x86 machine's.
fn parse(script: &str) -> Option<(String, String, String)> {
    let others = script.split_once("= 'arm64' ]; then\n");
    let script = others.and_then(|(_, rest)| rest.split_once("\nelse\n")).map_or(script, |(_, own)| own);
    let after = |command: &str| script.lines().find_map(|line| Some(line.split_once(command)?.1.split(' ')));
    let word = |word: &str| word.trim_end_matches(';').trim_matches('\'').to_owned();
    let mut words = after("linux ")?;
    let kernel = word(words.next()?);
    // Quoted arguments may hold what ends a command.
    let args: Vec<String> = words.map_while(|one| one.starts_with('\'').then(|| word(one))).collect();
    Some((kernel, args.join(" "), word(after("initrd ")?.next()?)))
}

async fn find(source: Ipv4Addr, url: &str, directory: Range<u64>, name: &str) -> Result<Range<u64>> {
    let bytes = part(source, url, directory).await?;
    let mut from = 0;
    while let Some((own, extent, len)) = record(&bytes, from) {
        if own == name.as_bytes() {
            return Ok(extent);
        }
        from += len;
    }
    anyhow::bail!("{name} is not on the CD")
}

/// A directory record (ECMA-119 §9.1): name, where, its own length.
fn record(bytes: &[u8], from: usize) -> Option<(Vec<u8>, Range<u64>, usize)> {
    let len = usize::from(*bytes.get(from)?);
    let record = bytes.get(from..from + len).filter(|record| record.len() > 33)?;
    let number = |at: usize| Some(u32::from_le_bytes(record.get(at..at + 4)?.try_into().ok()?).into());
    let name = record.get(33..33 + usize::from(*record.get(32)?))?;
    Some((name.to_vec(), at(number(2)?, number(10)?), len))
}

async fn part(source: Ipv4Addr, url: &str, range: Range<u64>) -> Result<Vec<u8>> {
    let answer = http::get_part(source, url, range.clone()).await?;
    ensure!(answer.status == 206, "status {}", answer.status);
    ensure!(answer.body.len() as u64 == range.end - range.start, "{} bytes", answer.body.len());
    Ok(answer.body)
}

fn at(sector: u64, len: u64) -> Range<u64> {
    sector * SECTOR..sector * SECTOR + len
}

const SECTOR: u64 = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_gives_kernel_arguments_and_initrd() {
        let one = |suffix: &str| {
            format!(
                "if linux '/kernel{suffix}.img' 'console=ttyS0' 'a=b;c'; then\nif initrd '/initrd{suffix}.img'; then\nboot\nfi\nfi\n"
            )
        };
        let begin = "search --set=root --file /farrier/a\n";
        let parsed = ("/kernel.img".to_owned(), "console=ttyS0 a=b;c".to_owned(), "/initrd.img".to_owned());
        assert_eq!(parse(&format!("{begin}{}reboot\n", one(""))), Some(parsed.clone()));
        let (other, own) = (one("-arm64"), one(""));
        let two = format!("{begin}if [ \"$grub_cpu\" = 'arm64' ]; then\n{other}else\n{own}fi\nreboot\n");
        assert_eq!(parse(&two), Some(parsed));
        assert_eq!(parse("reboot\n"), None);
    }
}
