//! Servers that share a chassis.

/// Whether this names a server of a SeaMicro chassis: the card and the place on it, `0/0`. Each number is written in one way
/// only, or a server would have two names.
#[must_use]
pub fn is_server(id: &str) -> bool {
    let is_number = |part: &str| {
        let digits = (1..=4).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
        digits && (part == "0" || !part.starts_with('0'))
    };
    id.split_once('/').is_some_and(|(card, place)| is_number(card) && is_number(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_has_one_name_and_stays_in_its_path() {
        for good in ["0/0", "63/7", "10/0"] {
            assert!(is_server(good), "{good}");
        }
        for bad in ["", "0", "0/", "/0", "00/0", "0/01", "0/0/0", "a/0", "0/0?x", "../0", "-1/0", "12345/0"] {
            assert!(!is_server(bad), "{bad}");
        }
    }
}
