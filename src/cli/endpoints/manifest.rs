//! Signing secrets as a Kubernetes Secret, for `kubectl apply -f -`.

use std::fmt::Write as _;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::secret::Secret;

/// The key of the signing secret in use.
const CURRENT: &str = "current";
/// The key of the second secret during a rotation.
pub(super) const NEXT: &str = "next";

/// `NAME[/KEY]`: a Secret, and the key in it.
#[derive(Clone, Debug)]
pub(super) struct KubernetesSecret {
    name: String,
    pub(super) key: String,
}

impl FromStr for KubernetesSecret {
    type Err = String;

    /// By the rules of Kubernetes for names of objects (RFC 1123 subdomains) and for keys.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, key) = text.split_once('/').unwrap_or((text, CURRENT));
        let part = |part: &str| {
            let inner = part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
            inner && !part.is_empty() && !part.starts_with('-') && !part.ends_with('-')
        };
        let name_fits = name.len() <= 253 && name.split('.').all(part);
        let key_fits = (1..=253).contains(&key.len())
            && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
            && !matches!(key, "." | ".." | NEXT);
        match name_fits && key_fits {
            true => Ok(KubernetesSecret { name: name.into(), key: key.into() }),
            false => Err("expected NAME or NAME/KEY, where `next` is no KEY: it is for the second secret".into()),
        }
    }
}

impl KubernetesSecret {
    /// The manifest. `data` and not `stringData`: `kubectl apply` removes keys that are gone only from `data`.
    pub(super) fn manifest(&self, secrets: &[(&str, &Secret)]) -> String {
        let mut text =
            format!("apiVersion: v1\nkind: Secret\nmetadata:\n  name: \"{}\"\ntype: Opaque\ndata:\n", self.name);
        for (key, secret) in secrets {
            let _ = writeln!(text, "  \"{key}\": \"{}\"", STANDARD.encode(secret.expose()));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules_of_kubernetes() {
        let parsed = |text: &str| text.parse::<KubernetesSecret>().map(|secret| (secret.name, secret.key));
        assert_eq!(parsed("hookbridge"), Ok(("hookbridge".into(), "current".into())));
        assert_eq!(parsed("a.b-1/SECRET_1.x"), Ok(("a.b-1".into(), "SECRET_1.x".into())));
        for bad in
            ["", "A", "a_b", "-a", "a-", "a..b", "a/", "a/b/c", "a/..", "a/next", "a\n", "a/b\"", &"a".repeat(254)]
        {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }
}
