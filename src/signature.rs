//! Standard Webhooks signatures: pure functions that `serve` and `hookbridge verify` share.
//!
//! The seven rules are at the top of `tests/vectors.json`. Where the specification is silent, they are strict.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD};
use ed25519_dalek::VerifyingKey;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderName};
use sha2::{Digest as _, Sha256};
use std::fmt;

/// Rule 1: the padding of a secret may be missing; everything else is strict.
const SECRET_BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Most `v1a` items that are tried, for all keys together: each costs a curve operation. Senders use at most 11 (Svix).
const MOST_PUBLIC_KEY_TRIES: usize = 32;
/// Most bytes that are hashed for them: Ed25519 hashes the whole body for each. A large body has fewer tries, but never
/// fewer than [`LEAST_PUBLIC_KEY_TRIES`].
const MOST_PUBLIC_KEY_BYTES: usize = 16 << 20;
/// Enough for two keys and two signatures: a rotation on both sides.
const LEAST_PUBLIC_KEY_TRIES: usize = 4;

/// A key that verifies deliveries. `Debug` shows only its kind.
#[derive(Clone)]
pub enum Key {
    /// `v1`: HMAC-SHA256, 24 to 64 bytes.
    Shared(Hmac<Sha256>),
    /// `v1a`: Ed25519.
    Public(VerifyingKey),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Key::Shared(_) => "Key::Shared",
            Key::Public(_) => "Key::Public",
        })
    }
}

/// Why a configured key cannot be used. The words are those of `vectors.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// Nothing follows the prefix: with an empty key anyone can sign.
    #[error("secret_empty")]
    Empty,
    /// Not base64, or not a public key.
    #[error("secret_invalid")]
    Invalid,
    /// A private signing key.
    #[error("secret_invalid")]
    Private,
    /// Under 24 bytes.
    #[error("secret_too_short")]
    TooShort,
    /// Over 64 bytes.
    #[error("secret_too_long")]
    TooLong,
}

impl KeyFault {
    /// What is wrong and what to do.
    pub fn advice(self) -> &'static str {
        match self {
            KeyFault::Empty => "the secret is empty, so anyone could sign: set the endpoint's signing secret (whsec_…)",
            KeyFault::Invalid => {
                "the secret is not usable: expected whsec_ and base64, bare base64, or whpk_ and a 32-byte public key"
            }
            KeyFault::Private => {
                "`whsk_…` is a private signing key, not a secret: give the endpoint's signing secret (whsec_…) or the public \
                 key (whpk_…)"
            }
            KeyFault::TooShort => "the secret is shorter than 24 bytes: copy the whole secret that the sender issued",
            KeyFault::TooLong => "the secret is longer than 64 bytes: copy only the secret that the sender issued",
        }
    }
}

impl Key {
    /// Reads a configured key: `whsec_…`, `whpk_…` or bare base64.
    ///
    /// # Errors
    /// It is anything else. The fault never contains the text.
    pub fn parse(text: &str) -> Result<Key, KeyFault> {
        let text = text.trim();
        let (public, encoded) = match (text.strip_prefix("whpk_"), text.strip_prefix("whsec_")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ if text.starts_with("whsk_") => return Err(KeyFault::Private),
            _ => (false, text),
        };
        if encoded.is_empty() {
            return Err(KeyFault::Empty);
        }
        let bytes = SECRET_BASE64.decode(encoded).map_err(|_| KeyFault::Invalid)?;
        if public {
            let bytes: [u8; 32] = bytes.try_into().map_err(|_| KeyFault::Invalid)?;
            return VerifyingKey::from_bytes(&bytes).map(Key::Public).map_err(|_| KeyFault::Invalid);
        }
        match bytes.len() {
            0 => Err(KeyFault::Empty),
            1..24 => Err(KeyFault::TooShort),
            24..=64 => Hmac::new_from_slice(&bytes).map(Key::Shared).map_err(|_| KeyFault::Invalid),
            _ => Err(KeyFault::TooLong),
        }
    }
}

impl Key {
    /// Tells keys apart, for people: eight hexadecimal digits, from which nothing of the key can be found.
    pub fn fingerprint(&self) -> String {
        let digest: [u8; 32] = match self {
            Key::Shared(hmac) => {
                let mut hmac = hmac.clone();
                hmac.update(b"hookbridge key fingerprint");
                hmac.finalize().into_bytes().into()
            }
            Key::Public(key) => Sha256::digest(key.as_bytes()).into(),
        };
        digest[..4].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Why a delivery is refused. The words are those of `vectors.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// One of the three headers is repeated.
    #[error("duplicate_header")]
    DuplicateHeader,
    /// One of the three headers is absent or empty.
    #[error("missing_header")]
    MissingHeader,
    /// The id is not 1 to 255 bytes of visible ASCII, or contains a full stop.
    #[error("invalid_id")]
    InvalidId,
    /// Not the canonical decimal form of an integer in 0 .. 2^63-1.
    #[error("invalid_timestamp")]
    InvalidTimestamp,
    /// Older than the tolerance.
    #[error("timestamp_too_old")]
    TooOld,
    /// Further in the future than the tolerance.
    #[error("timestamp_too_new")]
    TooNew,
    /// No item of the signature header verifies with any key.
    #[error("no_matching_signature")]
    NoMatch,
}

impl Refusal {
    /// Every refusal there is.
    pub const ALL: [Refusal; 7] = [
        Refusal::DuplicateHeader,
        Refusal::MissingHeader,
        Refusal::InvalidId,
        Refusal::InvalidTimestamp,
        Refusal::TooOld,
        Refusal::TooNew,
        Refusal::NoMatch,
    ];
}

/// The three headers: well-formed, not yet verified.
#[derive(Clone, Debug)]
pub struct Head {
    /// The `webhook-id`.
    pub id: String,
    /// Unix seconds.
    pub timestamp: i64,
    /// The timestamp as received: this text is signed.
    pub timestamp_text: String,
    /// The signature header as received.
    pub signature: String,
}

/// The names of `webhook-id`, `webhook-timestamp` and `webhook-signature`, in this order.
pub static STANDARD_NAMES: [HeaderName; 3] = [
    HeaderName::from_static("webhook-id"),
    HeaderName::from_static("webhook-timestamp"),
    HeaderName::from_static("webhook-signature"),
];
/// Their names at Svix, in the same order.
pub static LEGACY_NAMES: [HeaderName; 3] = [
    HeaderName::from_static("svix-id"),
    HeaderName::from_static("svix-timestamp"),
    HeaderName::from_static("svix-signature"),
];

/// Reads the three headers (rules 2 and 3, without the tolerance).
///
/// # Errors
/// A header is repeated, missing or malformed.
pub fn head(headers: &HeaderMap, legacy: bool) -> Result<Head, Refusal> {
    let has = |name: &HeaderName| headers.contains_key(name);
    let use_legacy = legacy && !STANDARD_NAMES.iter().any(has) && LEGACY_NAMES.iter().all(has);
    let names = if use_legacy { &LEGACY_NAMES } else { &STANDARD_NAMES };
    let mut values = [&[][..]; 3];
    let mut repeated = false;
    for (value, name) in values.iter_mut().zip(names) {
        let mut lines = headers.get_all(name).iter();
        *value = lines.next().map_or(&[], |line| line.as_bytes());
        repeated |= lines.next().is_some();
    }
    if repeated {
        return Err(Refusal::DuplicateHeader);
    }
    if values.iter().any(|value| value.is_empty()) {
        return Err(Refusal::MissingHeader);
    }
    let [id, timestamp, signature] = values;
    if id.len() > 255 || !id.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'.') {
        return Err(Refusal::InvalidId);
    }
    let canonical = timestamp.iter().all(u8::is_ascii_digit) && (timestamp.len() == 1 || timestamp[0] != b'0');
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let timestamp_text = text(timestamp);
    let timestamp = timestamp_text.parse().ok().filter(|_| canonical).ok_or(Refusal::InvalidTimestamp)?;
    Ok(Head { id: text(id), timestamp, timestamp_text, signature: text(signature) })
}

impl Head {
    /// Rule 3: whether the timestamp is within the tolerance, both ways, its ends included.
    ///
    /// # Errors
    /// The timestamp is too old or too new.
    pub fn timely(&self, now: i64, tolerance: u64) -> Result<(), Refusal> {
        let within = now.abs_diff(self.timestamp) <= tolerance;
        match (within, self.timestamp < now) {
            (true, _) => Ok(()),
            (false, true) => Err(Refusal::TooOld),
            (false, false) => Err(Refusal::TooNew),
        }
    }

    /// Rules 4 to 6: whether any item of the signature header verifies with any key. Returns the key's position.
    ///
    /// # Errors
    /// No item does.
    pub fn signed(&self, keys: &[Key], body: &[u8]) -> Result<usize, Refusal> {
        let items = || self.signature.split(' ').filter_map(|item| item.split_once(','));
        let values = |wanted: &'static str| {
            items()
                .filter_map(move |(version, value)| (version == wanted).then(|| STANDARD.decode(value).ok()).flatten())
        };
        let shared = keys.iter().enumerate().filter_map(|(position, key)| match key {
            Key::Shared(hmac) => Some((position, hmac)),
            Key::Public(_) => None,
        });
        for (position, hmac) in shared {
            let mut hmac = hmac.clone();
            for part in [self.id.as_bytes(), b".", self.timestamp_text.as_bytes(), b".", body] {
                hmac.update(part);
            }
            if values("v1").any(|value| hmac.clone().verify_slice(&value).is_ok()) {
                return Ok(position);
            }
        }
        let public = keys.iter().enumerate().filter_map(|(position, key)| match key {
            Key::Public(key) => Some((position, key)),
            Key::Shared(_) => None,
        });
        let public: Vec<_> = public.collect();
        if public.is_empty() {
            return Err(Refusal::NoMatch);
        }
        let signatures: Vec<_> =
            values("v1a").filter_map(|value| ed25519_dalek::Signature::from_slice(&value).ok()).collect();
        if signatures.is_empty() {
            return Err(Refusal::NoMatch);
        }
        let message = [self.id.as_bytes(), b".", self.timestamp_text.as_bytes(), b".", body].concat();
        let tries = (MOST_PUBLIC_KEY_BYTES / message.len()).clamp(LEAST_PUBLIC_KEY_TRIES, MOST_PUBLIC_KEY_TRIES);
        let pairs = signatures.iter().flat_map(|signature| public.iter().map(move |key| (key, signature)));
        let mut verified =
            pairs.take(tries).filter(|((_, key), signature)| key.verify_strict(&message, signature).is_ok());
        verified.next().map(|((position, _), _)| *position).ok_or(Refusal::NoMatch)
    }
}

/// Signs as a sender does: returns the value of a `webhook-signature` header with one `v1` item, or `None` for a public
/// key, which cannot sign. For `send` and `demo`.
pub fn sign(key: &Key, id: &str, timestamp: i64, body: &[u8]) -> Option<String> {
    let Key::Shared(hmac) = key else { return None };
    let mut hmac = hmac.clone();
    for part in [id.as_bytes(), b".", timestamp.to_string().as_bytes(), b".", body] {
        hmac.update(part);
    }
    Some(format!("v1,{}", STANDARD.encode(hmac.finalize().into_bytes())))
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer as _, SigningKey};

    use super::*;

    /// Each try hashes the whole body, before the sender has shown that it has a secret.
    #[test]
    fn a_large_body_has_few_public_key_tries() {
        let signing = SigningKey::from_bytes(&[7; 32]);
        let keys = [Key::Public(signing.verifying_key())];
        let verifies = |bytes: usize, position: usize| {
            let body = vec![b' '; bytes];
            let message = [b"msg_1.1.".as_slice(), &body].concat();
            let item = |signature: [u8; 64]| format!("v1a,{}", STANDARD.encode(signature));
            let mut items = vec![item([0; 64]); position];
            items.push(item(signing.sign(&message).to_bytes()));
            let head =
                Head { id: "msg_1".into(), timestamp: 1, timestamp_text: "1".into(), signature: items.join(" ") };
            head.signed(&keys, &body).is_ok()
        };
        assert!(verifies(100, 0) && verifies(100, 31) && !verifies(100, 32));
        assert!(verifies(8 << 20, 0) && verifies(8 << 20, 3) && !verifies(8 << 20, 4));
    }
}
