//! Sizes as people write them.

/// Reads `64GiB`, `100GB`, `512M` (binary, as in coreutils) or a plain number of bytes.
pub fn parse(text: &str) -> Result<i64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let bad = || format!("{text:?} is no size: expected for example 64GiB, 500GB or bytes");
    let number: i64 = number.parse().map_err(|_| bad())?;
    let factor: i64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(bad()),
    };
    number.checked_mul(factor).ok_or_else(bad)
}

/// `1.5 GiB`. Nothing and less than nothing are `-`.
pub fn human(bytes: i64) -> String {
    if bytes <= 0 {
        return "-".to_owned();
    }
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB", "PiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" || value.fract() < 0.05 {
        format!("{value:.0} {unit}")
    } else {
        format!("{value:.1} {unit}")
    }
}

/// For sentences, where the number may be needed as it is: `20000 bytes (19.5 KiB)`; below 1 KiB `243 bytes`.
pub fn exact(bytes: u64) -> String {
    match i64::try_from(bytes) {
        Ok(many) if many >= 1 << 10 => format!("{bytes} bytes ({})", human(many)),
        _ => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written() {
        assert_eq!(parse("64GiB"), Ok(64 << 30));
        assert_eq!(parse("500 GB"), Ok(500_000_000_000));
        assert_eq!(parse("42"), Ok(42));
        for bad in ["", "GiB", "1.5G", "9999999999T", "12 apples", "-1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(human(64 << 30), "64 GiB");
        assert_eq!(human(1536), "1.5 KiB");
        assert_eq!(exact(20_000), "20000 bytes (19.5 KiB)");
        assert_eq!(
            (exact(1023).as_str(), exact(1 << 30).as_str()),
            ("1023 bytes", "1073741824 bytes (1 GiB)")
        );
        assert_eq!(exact(u64::MAX), "18446744073709551615 bytes");
        assert_eq!(human(7), "7 B");
        assert_eq!(human(0), "-");
    }
}
