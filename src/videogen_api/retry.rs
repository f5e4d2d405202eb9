//! When a call is repeated: a few times, after a pause that grows or that the API asks for. Pure, except for the random part.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;

use crate::backoff::Backoff;

/// Attempts of one call, the first included.
const ATTEMPTS: u32 = 4;
/// A command does not wait longer than this for the API.
const LONGEST: Duration = Duration::from_secs(60);
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(5));

/// The pause before the next attempt; `None`: there is none.
pub(super) fn pause(attempts: u32, asked: Option<Duration>) -> Option<Duration> {
    if attempts >= ATTEMPTS {
        return None;
    }
    match asked {
        Some(asked) => (asked <= LONGEST).then_some(asked),
        None => Some(BACKOFF.after(attempts)),
    }
}

/// The value of `Retry-After`: seconds or a date (RFC 9110, section 10.2.3).
pub(super) fn parse(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = rfc2822::parse(value).ok()?.timestamp();
    Some(Duration::from_secs(u64::try_from(date.as_second() - now.as_second()).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_attempts_and_bounded_pauses() {
        assert!(pause(1, None).is_some_and(|pause| pause <= Duration::from_millis(500)));
        assert_eq!(pause(3, Some(Duration::from_secs(60))), Some(Duration::from_secs(60)));
        assert_eq!(pause(1, Some(Duration::from_secs(61))), None);
        assert_eq!(pause(4, None), None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: Timestamp = "1994-11-06T08:49:00Z".parse().unwrap();
        assert_eq!(parse(" 7 ", now), Some(Duration::from_secs(7)));
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(Duration::from_secs(37)));
        assert_eq!(parse("Sun, 06 Nov 1994 08:48:37 GMT", now), Some(Duration::ZERO));
        assert_eq!(parse("99999999999999999999999", now), Some(Duration::from_secs(u64::MAX)));
        for bad in ["", "-1", "soon", "1.5"] {
            assert_eq!(parse(bad, now), None, "{bad}");
        }
    }
}
