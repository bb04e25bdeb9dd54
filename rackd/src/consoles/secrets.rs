//! What a machine says and nobody is to read: a kernel says its command line, and in ours is a ramdisk's one-time token.

/// Takes it out of a stream, wherever that is cut.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    /// Characters of [`TOKEN`] that were the last ones.
    matched: usize,
    /// Characters of the token itself that were taken out; `None`: none is under way.
    taken: Option<usize>,
}

impl Secrets {
    /// The same without tokens.
    pub(super) fn filter(&mut self, chars: &[u8]) -> Vec<u8> {
        let mut told = Vec::with_capacity(chars.len());
        for char in chars.iter().copied() {
            if let Some(taken) = self.taken {
                self.taken = (!char.is_ascii_whitespace() && taken < LONGEST).then_some(taken + 1);
                if self.taken.is_some() {
                    continue;
                }
            }
            told.push(char);
            self.matched = match TOKEN.get(self.matched) {
                Some(next) if *next == char => self.matched + 1,
                _ => usize::from(TOKEN.first() == Some(&char)),
            };
            if self.matched == TOKEN.len() {
                told.extend(HIDDEN);
                (self.matched, self.taken) = (0, Some(0));
            }
        }
        told
    }
}

/// The kernel argument that has it (`rackd/src/boot.rs`).
const TOKEN: &[u8] = b"farrier.token=";
const HIDDEN: &[u8] = b"(hidden)";
/// Characters of a token; what goes on longer is none, and is shown again.
const LONGEST: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boots_token_is_in_nothing_that_is_told_however_it_is_cut() {
        let said = "Command line: ffarrier.token=s3cr3t console=ttyS0\r\nfarrier.token=s3cr3t\nfarrier.tok farrier.token=s3c";
        let told = "Command line: ffarrier.token=(hidden) console=ttyS0\r\nfarrier.token=(hidden)\nfarrier.tok farrier.token=(hidden)";
        for size in 1..said.len() {
            let mut secrets = Secrets::default();
            let parts = said.as_bytes().chunks(size).flat_map(|part| secrets.filter(part));
            assert_eq!(String::from_utf8(parts.collect()).unwrap(), told, "in parts of {size}");
        }
    }

    #[test]
    fn a_line_that_is_cut_in_two_inside_a_token_tells_none_of_it() {
        let mut lines = super::super::lines::Lines::default();
        let said = format!("{} farrier.token={} x\n", "y".repeat(1000), "s3cr3t".repeat(10));
        let told = Secrets::default().filter(said.as_bytes());
        let ended = lines.push(std::time::SystemTime::now(), &told);
        assert!(ended.len() == 2 && ended.iter().all(|(_, line)| !line.windows(3).any(|w| w == b"s3c")));
    }

    #[test]
    fn a_machine_that_only_begins_to_say_one_is_heard_again() {
        let said = [TOKEN, &[b'a'; LONGEST + 3]].concat();
        let told = Secrets::default().filter(&said);
        assert_eq!(told, [TOKEN, HIDDEN, b"aaa"].concat());
    }
}
