//! The verification vectors, with the functions and with the program, and properties that hold for any delivery.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hookbridge::signature::{Key, Refusal, head, sign};
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct File {
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    name: String,
    secrets: Vec<String>,
    headers: Vec<(String, String)>,
    body_b64: String,
    now: i64,
    tolerance: u64,
    accept_legacy_headers: bool,
    expect: String,
    reason: String,
}

fn vectors() -> Vec<Vector> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors.json")).unwrap();
    let vectors = serde_json::from_str::<File>(&text).unwrap().vectors;
    assert!(vectors.len() >= 81);
    vectors
}

fn map<'a>(headers: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::try_from(name).unwrap(), HeaderValue::from_bytes(value).unwrap());
    }
    map
}

fn verify(
    keys: &[Key],
    headers: &HeaderMap,
    body: &[u8],
    now: i64,
    tolerance: u64,
    legacy: bool,
) -> Result<(), Refusal> {
    let head = head(headers, legacy)?;
    head.timely(now, tolerance)?;
    head.signed(keys, body).map(drop)
}

#[test]
fn functions_agree_with_the_vectors() {
    for vector in vectors() {
        let keys: Result<Vec<Key>, _> = vector.secrets.iter().map(|secret| Key::parse(secret)).collect();
        let headers = map(vector.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())));
        let body = STANDARD.decode(&vector.body_b64).unwrap();
        let reason = match keys {
            Err(fault) => fault.to_string(),
            Ok(keys) => {
                let verified =
                    verify(&keys, &headers, &body, vector.now, vector.tolerance, vector.accept_legacy_headers);
                verified.map_or_else(|refusal| refusal.to_string(), |()| "ok".into())
            }
        };
        assert_eq!(reason, vector.reason, "{}", vector.name);
        assert_eq!(reason == "ok", vector.expect == "accept", "{}", vector.name);
    }
}

fn program(arguments: &[String], body: &[u8]) -> (Option<i32>, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_hookbridge"))
        .args(arguments)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The program may exit before it reads the body.
    let _ = child.stdin.take().unwrap().write_all(body);
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn the_program_agrees_with_the_vectors() {
    for vector in vectors() {
        let mut arguments: Vec<String> = vec!["verify".into(), "--body".into(), "-".into()];
        arguments.extend(vector.secrets.iter().flat_map(|secret| ["--secret".into(), secret.clone()]));
        arguments
            .extend(vector.headers.iter().flat_map(|(name, value)| ["--header".into(), format!("{name}: {value}")]));
        arguments.extend([format!("--now={}", vector.now), format!("--tolerance={}", vector.tolerance)]);
        arguments.extend(vector.accept_legacy_headers.then(|| "--legacy-headers".into()));
        let (code, output) = program(&arguments, &STANDARD.decode(&vector.body_b64).unwrap());
        let expected = serde_json::json!({"outcome": vector.expect, "reason": vector.reason});
        let output: serde_json::Value = serde_json::from_str(&output).unwrap();
        assert_eq!(output, expected, "{}", vector.name);
        assert_eq!(code, Some(i32::from(vector.expect != "accept")), "{}", vector.name);
    }
}

#[test]
fn wrong_usage_exits_2() {
    assert_eq!(program(&["verify".into()], b"").0, Some(2));
    assert_eq!(program(&["verify".into(), "--secret=x".into(), "--header=x".into()], b"").0, Some(2));
    assert_eq!(program(&["check".into()], b"").0, Some(2));
    assert_eq!(program(&["nothing".into()], b"").0, Some(2));
}

const NOW: i64 = 1_745_409_600;

fn flip(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let bit = at % (bytes.len() * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes
}

/// The headers, or `None` if the bytes are not legal in a header value.
fn headers_of(id: &[u8], timestamp: &[u8], signature: &[u8]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    let values = [("webhook-id", id), ("webhook-timestamp", timestamp), ("webhook-signature", signature)];
    for (name, value) in values {
        headers.append(name, HeaderValue::from_bytes(value).ok()?);
    }
    Some(headers)
}

proptest! {
    #[test]
    fn any_flipped_bit_is_refused(
        key in prop::collection::vec(any::<u8>(), 24..=64),
        id in "[!-\\-/-~]{1,60}",
        body in prop::collection::vec(any::<u8>(), 1..200),
        at: usize,
    ) {
        let parse = |bytes: &[u8]| Key::parse(&format!("whsec_{}", STANDARD.encode(bytes))).unwrap();
        let keys = [parse(&key)];
        let timestamp = NOW.to_string();
        let signature = sign(&keys[0], &id, NOW, &body).unwrap();
        let (id, timestamp, signature) = (id.as_bytes(), timestamp.as_bytes(), signature.as_bytes());
        let check = |keys: &[Key], headers: Option<HeaderMap>, body: &[u8]| {
            headers.is_some_and(|headers| verify(keys, &headers, body, NOW, u64::MAX, false).is_ok())
        };
        prop_assert!(check(&keys, headers_of(id, timestamp, signature), &body));
        prop_assert!(!check(&keys, headers_of(&flip(id, at), timestamp, signature), &body), "id");
        prop_assert!(!check(&keys, headers_of(id, &flip(timestamp, at), signature), &body), "timestamp");
        prop_assert!(!check(&keys, headers_of(id, timestamp, &flip(signature, at)), &body), "signature");
        prop_assert!(!check(&keys, headers_of(id, timestamp, signature), &flip(&body, at)), "body");
        prop_assert!(!check(&[parse(&flip(&key, at))], headers_of(id, timestamp, signature), &body), "key");
    }

    /// On the deliveries where both must agree: the crate does not know `v1a`, requires UTF-8 bodies, and accepts several
    /// things that hookbridge refuses.
    #[test]
    fn the_standardwebhooks_crate_agrees(
        key in prop::collection::vec(any::<u8>(), 24..=64),
        id in "[!-\\-/-~]{1,60}",
        body in "\\PC{0,200}",
        damage in 0..4_usize,
        at: usize,
    ) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
        let ours = Key::parse(&format!("whsec_{}", STANDARD.encode(&key))).unwrap();
        let theirs = standardwebhooks::Webhook::from_bytes(key).unwrap();
        let signature = sign(&ours, &id, now, body.as_bytes()).unwrap();
        prop_assert_eq!(&signature, &theirs.sign(&id, now, body.as_bytes()).unwrap());
        let (mut id, mut signed, mut seen) = (id.into_bytes(), signature.into_bytes(), body.into_bytes());
        match damage {
            0 => {}
            1 => id.push(b'x'),
            2 => signed = flip(&signed, at),
            _ => seen.push(b' '),
        }
        if let Some(headers) = headers_of(&id, now.to_string().as_bytes(), &signed) {
            let ours = verify(&[ours], &headers, &seen, now, 300, false).is_ok();
            prop_assert_eq!(ours, theirs.verify(&seen, &headers).is_ok());
            prop_assert_eq!(ours, damage == 0);
        }
    }
}
