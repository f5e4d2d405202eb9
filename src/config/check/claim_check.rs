//! Checks where the object store is, and which destinations need it.

use std::path::PathBuf;

use super::checker::Checker;
use super::destination::NamedDestination;
use crate::config::mistake::hint;
use crate::config::raw::{Leaf, RawClaimCheck};
use crate::destination::settings::OversizePolicy;
use crate::oversize::settings::{ObjectStoreSettings, S3Settings};
use crate::secret::Secret;

const EXPECTED: &str = "expected s3://BUCKET, s3://BUCKET/PREFIX or file:DIR";

impl Checker<'_, '_> {
    /// The object store.
    pub(super) fn claim_check(
        &mut self,
        raw: &RawClaimCheck,
        destinations: &[NamedDestination],
    ) -> Option<ObjectStoreSettings> {
        let given = [&raw.endpoint, &raw.region, &raw.access_key_id, &raw.secret_access_key];
        let given = given.into_iter().flatten().next();
        let Some(leaf) = &raw.url else {
            if given.is_some() {
                self.mistake(given, "`claim_check.url` is missing: set it to s3://BUCKET or file:DIR");
            }
            for named in destinations.iter().filter(|named| uses(named)) {
                let message = "`oversize: claim-check` needs an object store: set `claim_check.url` to s3://BUCKET or \
                               file:DIR";
                self.report.mistake(named.oversize.as_ref().unwrap_or(&named.place), message);
            }
            return None;
        };
        if !destinations.iter().any(uses) {
            let message = "no destination has `oversize: claim-check`: nothing goes to this object store";
            self.report.warning(&leaf.place, message);
        }
        let url = self.url(leaf)?;
        if let Some(path) = url.strip_prefix("file:") {
            if given.is_some() {
                self.mistake(given, "this setting applies only to s3://, and claim_check.url is a directory");
            }
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() {
                self.mistake(Some(leaf), "expected `file:` and a directory, such as file:/var/lib/hookbridge/objects");
            }
            return Some(ObjectStoreSettings::Directory(PathBuf::from(path)));
        }
        let Some(place) = url.strip_prefix("s3://") else {
            let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
            let near = hint(scheme, ["s3", "file"]);
            self.mistake(Some(leaf), format!("{EXPECTED}{near}"));
            return None;
        };
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        if let Err(message) = bucket_and_prefix(bucket, prefix) {
            self.mistake(Some(leaf), message);
        }
        let endpoint = raw.endpoint.as_ref().and_then(|leaf| self.endpoint(leaf));
        let region = raw.region.as_ref().and_then(|leaf| self.text(leaf));
        let keys = match (&raw.access_key_id, &raw.secret_access_key) {
            (Some(id), Some(secret)) => self.access_key(id).zip(self.access_key(secret)),
            (None, None) => None,
            (Some(id), None) => {
                self.mistake(Some(id), "`access_key_id` requires `secret_access_key`");
                None
            }
            (None, Some(secret)) => {
                self.mistake(Some(secret), "`secret_access_key` requires `access_key_id`");
                None
            }
        };
        let prefix = prefix.trim_end_matches('/').to_owned();
        Some(ObjectStoreSettings::S3(S3Settings { bucket: bucket.to_owned(), prefix, endpoint, region, keys }))
    }

    fn endpoint(&mut self, leaf: &Leaf) -> Option<String> {
        let text = self.url(leaf)?;
        let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let valid = host.is_some_and(|host| !host.is_empty() && !host.contains('@'));
        if !valid {
            // It may contain a password.
            self.mistake(Some(leaf), "expected http:// or https:// and a host, without a user");
        }
        valid.then(|| text.trim_end_matches('/').to_owned())
    }

    fn access_key(&mut self, leaf: &Leaf) -> Option<Secret> {
        let text = self.text(leaf)?.trim().to_owned();
        if text.is_empty() {
            self.mistake(Some(leaf), "the value is empty");
        }
        Some(Secret::new(text))
    }
}

fn uses(named: &NamedDestination) -> bool {
    named.settings.as_ref().is_some_and(|settings| settings.oversize == OversizePolicy::ClaimCheck)
}

fn bucket_and_prefix(bucket: &str, prefix: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if !(3..=255).contains(&bucket.len()) || !bucket.chars().all(legal) {
        return Err(format!("the bucket must be 3 to 255 letters, digits, `.`, `-` and `_`: {EXPECTED}"));
    }
    let parts = || prefix.trim_end_matches('/').split('/');
    let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && part.chars().all(legal);
    match prefix.is_empty() || parts().all(plain) {
        true => Ok(()),
        false => Err("the prefix must be letters, digits, `.`, `-` and `_`, in parts between `/`".into()),
    }
}
