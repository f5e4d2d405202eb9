//! The trace that a delivery belongs to (W3C Trace Context, level 1).

use http::{HeaderMap, HeaderName};

static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// `traceparent` and `tracestate`, as they are passed on. Without exactly one valid `traceparent` there is neither
/// (section 4.3); several `tracestate` lines are one list (section 3.3.1).
pub fn trace_context(headers: &HeaderMap) -> (Option<String>, Option<String>) {
    let lines = |name: &HeaderName| -> Option<Vec<&str>> {
        headers.get_all(name).iter().map(|line| line.to_str().ok()).collect()
    };
    let parent = match lines(&TRACEPARENT).as_deref() {
        Some([one]) if is_valid(one.trim()) => one.trim().to_owned(),
        _ => return (None, None),
    };
    let state = lines(&TRACESTATE).unwrap_or_default().join(",");
    (Some(parent), Some(state).filter(|state| !state.trim().is_empty()))
}

/// Version, trace, parent and flags (section 3.2). Versions after 00 may append more; ff is not a version.
fn is_valid(text: &str) -> bool {
    let hex = |part: &str, length| {
        part.len() == length && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let id = |part: &str, length| hex(part, length) && part.bytes().any(|b| b != b'0');
    let mut parts = text.splitn(5, '-');
    let mut next = || parts.next().unwrap_or_default();
    let version = next();
    let known = hex(version, 2) && version != "ff" && id(next(), 32) && id(next(), 16) && hex(next(), 2);
    known && (version != "00" || parts.next().is_none())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn of(lines: &[(&'static str, &str)]) -> (Option<String>, Option<String>) {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let value = HeaderValue::from_bytes(value.as_bytes()).expect("a value");
            headers.append(HeaderName::from_static(name), value);
        }
        trace_context(&headers)
    }

    #[test]
    fn only_a_valid_parent_is_passed_on() {
        for (parent, valid) in [
            (PARENT, true),
            ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true),
            ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-comes", true),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", false),
            ("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false),
            ("00-00000000000000000000000000000000-b7ad6b7169203331-01", false),
            ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", false),
            ("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", false),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331", false),
            ("00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01", false),
            ("", false),
            ("größe", false),
        ] {
            assert_eq!(of(&[("traceparent", parent), ("tracestate", "a=1")]).0.is_some(), valid, "{parent}");
        }
        assert_eq!(of(&[("traceparent", PARENT), ("traceparent", PARENT), ("tracestate", "a=1")]), (None, None));
    }

    #[test]
    fn lines_of_state_are_one_list() {
        let state = |lines: &[&str]| {
            let lines: Vec<_> = lines.iter().map(|line| ("tracestate", *line)).collect();
            of(&[&[("traceparent", PARENT)], &lines[..]].concat()).1
        };
        assert_eq!(state(&["a=1", "b=2,c=3"]).as_deref(), Some("a=1,b=2,c=3"));
        assert_eq!(state(&["a=1"]).as_deref(), Some("a=1"));
        assert_eq!((state(&[]), state(&[""]), state(&["a=größe"])), (None, None, None));
        assert_eq!(of(&[("tracestate", "a=1")]), (None, None));
    }
}
