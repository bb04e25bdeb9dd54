//! The values of a configuration profile: some are passwords, and no refusal that repeats one is told whole.

/// Each as it is written and as it is meant, without those that are too short for a secret. Of what is no profile, too.
pub(super) fn of(profile: &str) -> Vec<String> {
    let mut values = Vec::new();
    let mut add = |value: &str| {
        for value in [value, value.trim()] {
            if value.trim().chars().count() >= SHORTEST && values.last().is_none_or(|last| last != value) {
                values.push(value.to_owned());
            }
        }
    };
    // In XML what stands between tags.
    for written in profile.split('>').filter_map(|part| part.split_once('<')).map(|(value, _)| value) {
        add(written);
        if written.contains('&') {
            add(&decoded(written));
        }
    }
    for section in profile.split("<![CDATA[").skip(1) {
        add(section.split_once("]]>").map_or(section, |(value, _)| value));
    }
    // In JSON what is called so.
    for rest in profile.split("\"Value\"").skip(1) {
        let Some(rest) = rest.trim_start().strip_prefix(':') else { continue };
        let Some(written) = rest.trim_start().strip_prefix('"').and_then(literal) else { continue };
        add(written);
        if let Ok(meant) = serde_json::from_str::<String>(&format!("\"{written}\"")) {
            add(&meant);
        }
    }
    values
}

/// Characters. Shorter values are everywhere.
const SHORTEST: usize = 4;

/// A string up to its closing quote.
fn literal(text: &str) -> Option<&str> {
    let mut escaped = false;
    let end = text.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })?;
    text.get(..end)
}

/// Without XML's entities (XML 1.0 §4.1, §4.6). One that is none stays.
fn decoded(text: &str) -> String {
    let mut parts = text.split('&');
    let mut decoded = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let whole = part.split_once(';').and_then(|(name, rest)| Some((entity(name)?, rest)));
        match whole {
            Some((meant, rest)) => {
                decoded.push(meant);
                decoded.push_str(rest);
            }
            None => {
                decoded.push('&');
                decoded.push_str(part);
            }
        }
    }
    decoded
}

fn entity(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_as_they_are_written_and_as_they_are_meant() {
        for (profile, values) in [
            ("<A><Attribute Name=\"Users.2#Password\">calvin99</Attribute><B>No</B></A>", &["calvin99"][..]),
            ("<A>p&amp;ss&#x21;&#33;&nbsp;</A>", &["p&amp;ss&#x21;&#33;&nbsp;", "p&ss!!&nbsp;"]),
            ("<A> wide </A>", &[" wide ", "wide"]),
            ("<A><![CDATA[a<b>c]]></A>", &["a<b>c"]),
            (r#"{"Name": "Users.2#Password", "Value": "calvin99", "Value" : "On"}"#, &["calvin99"]),
            (r#"{"Value":"a\"b\\c\u0021"}"#, &[r#"a\"b\\c\u0021"#, r#"a"b\c!"#]),
            (r#"{"Value": 12345, "Value": "never ends"#, &[]),
            ("", &[]),
        ] {
            assert_eq!(of(profile), values, "{profile}");
        }
    }
}
