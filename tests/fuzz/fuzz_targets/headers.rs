//! Input: header lines, an empty line, and a body. Without the key no delivery verifies; signed with it every delivery
//! does.
#![no_main]

use std::sync::LazyLock;

use hookbridge_fuzz::signature::{Key, head, sign};
use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;

static KEYS: LazyLock<[Key; 2]> = LazyLock::new(|| {
    let parse = |text| Key::parse(text).expect("a key");
    [
        parse("whsec_4Vq5pQnC2yYwqHk1tB8mQF0hXb3sT6uR9wJzLdEa7Gk="),
        parse("whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="),
    ]
});

fn headers(text: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in text.split(|byte| *byte == b'\n').take(64) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii())) {
            headers.append(name, value);
        }
    }
    headers
}

fuzz_target!(|input: &[u8]| {
    let end = input.windows(2).position(|pair| pair == b"\n\n").unwrap_or(input.len());
    let body = input.get(end + 2..).unwrap_or_default();
    let headers = headers(&input[..end]);
    for legacy in [false, true] {
        let Ok(head) = head(&headers, legacy) else { continue };
        assert!((1..=255).contains(&head.id.len()) && head.id.bytes().all(|byte| byte.is_ascii_graphic()));
        assert_eq!(head.timestamp.to_string(), head.timestamp_text);
        assert!(head.timestamp >= 0);
        assert!(head.signed(&*KEYS, body).is_err(), "verified without the key");
        let mut genuine = head.clone();
        genuine.signature =
            format!("{} {}", head.signature, sign(&KEYS[0], &head.id, head.timestamp, body).expect("signs"));
        assert!(genuine.signed(&*KEYS, body).is_ok(), "refused despite a valid signature");
        assert!(genuine.signed(&*KEYS, &[body, b"x"].concat()).is_err(), "verified with another body");
    }
});
