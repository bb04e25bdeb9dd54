//! Why an answer to a command could not be read, in words.

use farrier_ipmi::command::ResponseError;
use ipmi_rs_core::connection::NotEnoughData;

/// Bytes of an answer that an error's text shows.
const SHOWN: usize = 32;

/// What a command's reader says is wrong: what it expected, and what it saw if it tells.
pub(crate) trait Reason {
    fn reason(&self) -> String;
}

impl Reason for ResponseError {
    fn reason(&self) -> String {
        self.to_string()
    }
}

impl Reason for NotEnoughData {
    fn reason(&self) -> String {
        "more data expected".to_owned()
    }
}

/// The start of an answer, for whoever compares it with the specification's table.
pub(crate) fn excerpt(data: &[u8]) -> String {
    if data.is_empty() {
        return "no data".to_owned();
    }
    let shown = data.iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    let more = if data.len() > SHOWN { " …" } else { "" };
    format!("{} bytes: {shown}{more}", data.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_bounded() {
        assert_eq!(excerpt(&[]), "no data");
        assert_eq!(excerpt(&[0, 0xAB]), "2 bytes: 00 ab");
        assert!(excerpt(&[7; 300]).len() < 120);
        assert!(excerpt(&[7; 300]).ends_with('…'));
    }
}
