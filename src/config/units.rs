//! Durations (`300s`, `7d`, `500ms`) and sizes (`8MiB`, `1000`).

use std::time::Duration;

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const HOUR: Duration = Duration::from_secs(3600);
pub(super) const DAY: Duration = Duration::from_secs(86_400);

/// Parses a duration.
///
/// # Errors
/// What is expected.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str = "expected a whole number and a unit: ms, s, m, h or d, such as 300s";
    let (number, unit) = split(text).ok_or(EXPECTED)?;
    let milliseconds: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(EXPECTED.into()),
    };
    number.checked_mul(milliseconds).map(Duration::from_millis).ok_or_else(|| "it is too long".into())
}

/// Parses a size in bytes.
///
/// # Errors
/// What is expected.
pub(super) fn size(text: &str) -> Result<u64, String> {
    const EXPECTED: &str =
        "expected a number of bytes, or a number and a unit: KiB, MiB or GiB (kB, MB, GB), such as 8MiB";
    let (number, unit) = split(text).ok_or(EXPECTED)?;
    let bytes: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return Err(EXPECTED.into()),
    };
    number.checked_mul(bytes).ok_or_else(|| "it is too large".into())
}

/// Parses a count.
///
/// # Errors
/// What is expected.
pub(super) fn count(text: &str) -> Result<u64, String> {
    match split(text) {
        Some((number, "")) => Ok(number),
        _ => Err("expected a whole number".into()),
    }
}

fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim_start()))
}

/// Formats a duration in the form that [`duration`] parses.
pub(super) fn write_duration(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    for (unit, length) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)] {
        if milliseconds > 0 && milliseconds.is_multiple_of(length) {
            return format!("{}{unit}", milliseconds / length);
        }
    }
    format!("{milliseconds}ms")
}

/// Formats a size in the form that [`size`] parses.
pub(super) fn write_size(bytes: usize) -> String {
    for (unit, length) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes > 0 && bytes.is_multiple_of(length) {
            return format!("{}{unit}", bytes / length);
        }
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_parsed() {
        for (text, milliseconds) in
            [("300s", 300_000), ("500ms", 500), ("7d", 604_800_000), ("2 h", 7_200_000), ("1m", 60_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["300", "", "s", "-1s", "1.5s", "1w", "99999999999999999999s", "300000000000000d", "１s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_parsed() {
        for (text, bytes) in [("8MiB", 8 << 20), ("64KiB", 65_536), ("1000", 1000), ("1 GB", 1_000_000_000), ("7B", 7)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "8mib", "-1", "1.5MiB", "99999999999GiB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn formatted_values_can_be_parsed() {
        for milliseconds in [0, 1, 999, 1000, 90_000, 3_600_000, 604_800_000] {
            let duration = Duration::from_millis(milliseconds);
            assert_eq!(super::duration(&write_duration(duration)), Ok(duration));
        }
        for bytes in [0, 1, 1024, 1000, 8 << 20, 3 << 30] {
            assert_eq!(size(&write_size(bytes)), Ok(bytes as u64));
        }
    }
}
