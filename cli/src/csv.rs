//! Comma separated values as RFC 4180 has them: a field in quotes may hold commas, quotes (doubled) and ends of lines.
//!
//! Errors say where, and never what stands there: it may be a password.

use std::fmt;

/// One record, and the line that it begins on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) line: usize,
    pub(crate) fields: Vec<String>,
}

/// Why a text is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CsvError {
    pub(crate) line: usize,
    why: &'static str,
}

impl fmt::Display for CsvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

/// Every record that is not blank. Blanks around a field that has no quotes are not of it.
pub(crate) fn records(text: &str) -> Result<Vec<Record>, CsvError> {
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut records, mut line) = (Vec::new(), 1);
    while !rest.is_empty() {
        let begin = line;
        let mut fields = Vec::new();
        loop {
            let (field, after) = field(rest, &mut line)?;
            fields.push(field);
            match after.strip_prefix(',') {
                Some(more) => rest = more,
                None => {
                    rest =
                        after.strip_prefix("\r\n").or_else(|| after.strip_prefix('\n')).unwrap_or_default();
                    line += 1;
                    break;
                }
            }
        }
        if fields.iter().any(|field| !field.is_empty()) {
            records.push(Record { line: begin, fields });
        }
    }
    Ok(records)
}

/// The next field, and what is behind it: a comma, the end of the line, or nothing.
fn field<'a>(text: &'a str, line: &mut usize) -> Result<(String, &'a str), CsvError> {
    let Some(mut rest) = text.trim_start_matches([' ', '\t']).strip_prefix('"') else {
        let end = text.find([',', '\n']).unwrap_or(text.len());
        let (field, _) = text.split_at(end);
        let plain = field.strip_suffix('\r').filter(|_| !text.get(end..).is_some_and(|r| r.starts_with(',')));
        let plain = plain.unwrap_or(field);
        if plain.contains('"') {
            return Err(CsvError { line: *line, why: "a quote inside a field that does not begin with one" });
        }
        return Ok((plain.trim().to_owned(), text.get(plain.len()..).unwrap_or_default()));
    };
    let (begin, mut out) = (*line, String::new());
    loop {
        let unclosed = CsvError { line: begin, why: "a quote that is not closed" };
        let (part, after) = rest.split_once('"').ok_or(unclosed)?;
        out.push_str(part);
        *line += part.matches('\n').count();
        match after.strip_prefix('"') {
            Some(more) => {
                out.push('"');
                rest = more;
            }
            None => {
                let after = after.trim_start_matches([' ', '\t']);
                let ends = after.is_empty() || [",", "\n", "\r\n"].iter().any(|end| after.starts_with(end));
                let why = "more after the quote that closes a field";
                return if ends { Ok((out, after)) } else { Err(CsvError { line: *line, why }) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &[(usize, &[&str])]) {
        let seen = records(text).unwrap();
        let seen: Vec<_> =
            seen.iter().map(|r| (r.line, r.fields.iter().map(String::as_str).collect::<Vec<_>>())).collect();
        let expect: Vec<_> = expect.iter().map(|(line, fields)| (*line, fields.to_vec())).collect();
        assert_eq!(seen, expect, "{text:?}");
    }

    /// RFC 4180 §2, its seven rules.
    #[test]
    fn rfc_4180_section_2() {
        check("aaa,bbb,ccc\r\nzzz,yyy,xxx\r\n", &[(1, &["aaa", "bbb", "ccc"]), (2, &["zzz", "yyy", "xxx"])]);
        check("aaa,bbb,ccc\r\nzzz,yyy,xxx", &[(1, &["aaa", "bbb", "ccc"]), (2, &["zzz", "yyy", "xxx"])]);
        check("\"aaa\",\"bbb\"\r\nzzz,yyy", &[(1, &["aaa", "bbb"]), (2, &["zzz", "yyy"])]);
        check("\"aaa\",\"b\r\nbb\"\r\nzzz,yyy", &[(1, &["aaa", "b\r\nbb"]), (3, &["zzz", "yyy"])]);
        check("\"aaa\",\"b\"\"bb\",\"c,c\"", &[(1, &["aaa", "b\"bb", "c,c"])]);
        check("a,,\n", &[(1, &["a", "", ""])]);
        check("a,\"\"", &[(1, &["a", ""])]);
    }

    #[test]
    fn what_vendors_make_of_it() {
        // A mark of UTF-8, blank lines, rows of a spreadsheet with nothing in them, blanks around fields.
        check("\u{feff}a, b \n\n,,\r\n \" c \" ,d", &[(1, &["a", "b"]), (4, &[" c ", "d"])]);
        check("", &[]);
        check("\n", &[]);
    }

    #[test]
    fn what_is_none_is_told_by_its_line() {
        for (text, line) in
            [("a\n\"b", 2), ("a\nb\"c\"", 2), ("\"a\"b", 1), ("\"x\ny\"z", 2), ("a\n\n\"secret\nword", 3)]
        {
            let error = records(text).unwrap_err();
            assert_eq!(error.line, line, "{text:?}: {error}");
            assert!(!error.to_string().contains("secret"));
        }
    }
}
