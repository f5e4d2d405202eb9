//! The next step of a rotation, from what the API lists and what the files hold. Pure.

use crate::printable::{MOST_CHARACTERS, printable};
use crate::secret::Secret;
use crate::videogen_api::WebhookEndpoint;

/// Before the id of the endpoint that is replaced, at the end of a description.
const MARK: &str = "replaces ";

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RotationStep {
    /// Delete what an interrupted run has left, and create the new endpoint.
    Create {
        /// The endpoint in use.
        old: String,
        /// Endpoints whose secrets are lost.
        orphans: Vec<String>,
    },
    /// Both endpoints deliver.
    Overlap {
        /// The endpoint to delete.
        old: String,
        /// The endpoint that stays.
        new: String,
        /// Endpoints whose secrets are lost.
        orphans: Vec<String>,
    },
    /// The old endpoint is gone.
    Finish,
}

/// The description of the endpoint that replaces another.
pub(super) fn marked(description: Option<&str>, old: &str) -> String {
    let text = description.unwrap_or_default();
    let before = mark(text).map_or(text, |(before, _)| before).trim_end();
    format!("{before}{}{MARK}{old}", if before.is_empty() { "" } else { " " })
}

/// The endpoint that this one replaces.
fn replaces(endpoint: &WebhookEndpoint) -> Option<&str> {
    mark(endpoint.description.as_deref()?).map(|(_, old)| old)
}

/// The text before the mark, and the id in it.
fn mark(text: &str) -> Option<(&str, &str)> {
    text.rsplit_once(MARK).filter(|(_, old)| !old.is_empty() && !old.contains(char::is_whitespace))
}

/// The next step. `endpoints` are those with our URL; `next` is `None` if its file is missing or empty.
///
/// # Errors
/// The files do not belong to the endpoints: what to do.
pub(super) fn next_step(
    endpoints: &[WebhookEndpoint],
    current: &Secret,
    next: Option<&Secret>,
) -> Result<RotationStep, String> {
    let id = |endpoint: &WebhookEndpoint| endpoint.endpoint_id.clone();
    let Some(next) = next else {
        let old = one(endpoints, current, |endpoint| replaces(endpoint).is_none())?;
        let Some(old) = old else { return Err(unknown(endpoints, "--secret-file")) };
        return Ok(RotationStep::Create { old: id(old), orphans: marked_for(old, endpoints) });
    };
    let Some(new) = one(endpoints, next, |endpoint| replaces(endpoint).is_some())? else {
        return Err(unknown(endpoints, "--secret-out"));
    };
    if current == next {
        return Ok(RotationStep::Finish);
    }
    let others: Vec<WebhookEndpoint> =
        endpoints.iter().filter(|endpoint| endpoint.endpoint_id != new.endpoint_id).cloned().collect();
    let old = one(&others, current, |endpoint| replaces(new) == Some(&endpoint.endpoint_id))?;
    match (old, replaces(new)) {
        (Some(old), _) => Ok(RotationStep::Overlap { old: id(old), new: id(new), orphans: marked_for(old, &others) }),
        (None, Some(old)) if others.iter().all(|endpoint| endpoint.endpoint_id != old) => Ok(RotationStep::Finish),
        (None, _) => Err(unknown(&others, "--secret-file")),
    }
}

fn marked_for(old: &WebhookEndpoint, endpoints: &[WebhookEndpoint]) -> Vec<String> {
    let marked = endpoints.iter().filter(|endpoint| replaces(endpoint) == Some(&old.endpoint_id));
    marked.map(|endpoint| endpoint.endpoint_id.clone()).collect()
}

/// The endpoint with this secret. `likely` decides about endpoints of whose secret the API shows nothing.
fn one<'a>(
    endpoints: &'a [WebhookEndpoint],
    secret: &Secret,
    likely: impl Fn(&WebhookEndpoint) -> bool,
) -> Result<Option<&'a WebhookEndpoint>, String> {
    let last = |endpoint: &WebhookEndpoint| {
        endpoint
            .signing_secret_last4
            .as_deref()
            .filter(|last| !last.is_empty())
            .map(|last| secret.expose().ends_with(last))
    };
    let mut found: Vec<&WebhookEndpoint> = endpoints.iter().filter(|endpoint| last(endpoint) == Some(true)).collect();
    if found.is_empty() {
        found = endpoints.iter().filter(|endpoint| last(endpoint).is_none() && likely(endpoint)).collect();
    }
    match found.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        several => Err(format!(
            "the secret cannot be attributed to one endpoint: {} may have it",
            ids(several.iter().copied())
        )),
    }
}

fn unknown(endpoints: &[WebhookEndpoint], flag: &str) -> String {
    match (endpoints.is_empty(), flag) {
        (true, _) => "there is no endpoint with this URL: use `hookbridge endpoints create`".into(),
        (false, "--secret-out") => format!(
            "--secret-out: its secret belongs to no endpoint with this URL ({}): remove the file if it is left from another \
             rotation",
            ids(endpoints.iter())
        ),
        (false, _) => {
            format!("{flag}: its secret belongs to none of the endpoints with this URL ({})", ids(endpoints.iter()))
        }
    }
}

fn ids<'a>(endpoints: impl Iterator<Item = &'a WebhookEndpoint>) -> String {
    endpoints.map(|endpoint| printable(&endpoint.endpoint_id, MOST_CHARACTERS)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(id: &str, last4: Option<&str>, description: Option<&str>) -> WebhookEndpoint {
        WebhookEndpoint {
            endpoint_id: id.into(),
            url: "https://h/".into(),
            events: Vec::new(),
            created_at: 0,
            description: description.map(str::to_owned),
            signing_secret: None,
            signing_secret_last4: last4.map(str::to_owned),
        }
    }

    #[test]
    fn every_interruption_has_a_next_step() {
        let (current, next) = (Secret::new("whsec_aaaa1111"), Secret::new("whsec_bbbb2222"));
        let create = |orphans: &[&str]| {
            Ok(RotationStep::Create { old: "o".into(), orphans: orphans.iter().map(|id| (*id).into()).collect() })
        };
        let overlap = |orphans: &[&str]| {
            let orphans = orphans.iter().map(|id| (*id).into()).collect();
            Ok(RotationStep::Overlap { old: "o".into(), new: "n".into(), orphans })
        };
        for shown in [true, false] {
            let last = |last4| shown.then_some(last4);
            let old = endpoint("o", last("1111"), Some("mine"));
            let new = endpoint("n", last("2222"), Some("mine replaces o"));
            let lost = endpoint("l", last("3333"), Some("mine replaces o"));
            let both = [old.clone(), new.clone()];
            assert_eq!(next_step(std::slice::from_ref(&old), &current, None), create(&[]));
            assert_eq!(next_step(&[lost.clone(), old.clone()], &current, None), create(&["l"]));
            if shown {
                assert_eq!(next_step(&[lost, old, new.clone()], &current, Some(&next)), overlap(&["l"]));
            }
            assert_eq!(next_step(&both, &current, Some(&next)), overlap(&[]));
            let alone = std::slice::from_ref(&new);
            assert_eq!(next_step(alone, &current, Some(&next)), Ok(RotationStep::Finish));
            assert_eq!(next_step(alone, &next, Some(&next)), Ok(RotationStep::Finish));
            // The next rotation begins with the endpoint that this one has left.
            if shown {
                assert!(matches!(next_step(alone, &next, None), Ok(RotationStep::Create { old, .. }) if old == "n"));
            }
        }
    }

    #[test]
    fn foreign_endpoints_and_files_change_nothing() {
        let (current, next) = (Secret::new("whsec_aaaa1111"), Secret::new("whsec_bbbb2222"));
        let old = endpoint("o", Some("1111"), None);
        let foreign = endpoint("f", Some("9999"), Some("another team's"));
        let step = next_step(&[old.clone(), foreign.clone()], &current, None);
        assert_eq!(step, Ok(RotationStep::Create { old: "o".into(), orphans: Vec::new() }));
        let new = endpoint("n", Some("2222"), Some("replaces o"));
        // A wrong --secret-file must not be overwritten.
        let wrong = Secret::new("whsec_cccc7777");
        assert!(next_step(&[old.clone(), new], &wrong, Some(&next)).is_err());
        assert!(next_step(&[foreign], &current, None).is_err());
        assert!(next_step(&[old], &current, Some(&next)).is_err());
        assert!(next_step(&[], &current, None).is_err());
    }

    #[test]
    fn mark_is_replaced_and_not_added() {
        assert_eq!(marked(None, "a"), "replaces a");
        assert_eq!(marked(Some("mine"), "a"), "mine replaces a");
        assert_eq!(marked(Some("mine replaces a"), "b"), "mine replaces b");
        assert_eq!(marked(Some("it replaces the old one"), "b"), "it replaces the old one replaces b");
    }
}
