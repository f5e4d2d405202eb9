//! Creates an endpoint exactly once. A create cannot be repeated blindly: when its answer is lost, an endpoint may exist whose
//! secret can no longer be known, and which would double every event.
//!
//! 1. The caller lists the endpoints before.
//! 2. Create. If the answer is lost, list again: a new endpoint with the same URL and events is the lost one. Delete it, and
//!    create once more.
//! 3. After a second attempt, look again: the first request may have been carried out late.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;

use crate::cli::output::note;
use crate::printable::{MOST_CHARACTERS, printable};
use crate::secret::Secret;
use crate::signature::Key;
use crate::videogen_api::{ApiFailure, NewEndpoint, VideoGenApi, WebhookEndpoint, same_url};

/// Before the second attempt, where the API does not ask for another pause.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause that the API can ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// An endpoint that was created, with its signing secret.
pub(super) struct CreatedEndpoint {
    pub(super) id: String,
    pub(super) secret: Secret,
}

/// Creates an endpoint. `before` lists the account's endpoints.
///
/// # Errors
/// No endpoint was created, or it was deleted again, unless the message says otherwise.
pub(super) async fn make(
    api: &VideoGenApi,
    wanted: &NewEndpoint,
    before: &[WebhookEndpoint],
) -> anyhow::Result<CreatedEndpoint> {
    let before: BTreeSet<&str> = before.iter().map(|endpoint| endpoint.endpoint_id.as_str()).collect();
    let lost = match api.create(wanted).await {
        Ok(created) => return usable(api, created).await,
        Err(failure) if failure.may_have_acted() => failure,
        Err(failure) => return Err(failure.into()),
    };
    note(format_args!("{lost}\nthe endpoint may have been created nevertheless, and its secret cannot be known"));
    sweep(api, wanted, &before, None).await?;
    tokio::time::sleep(lost.retry_after.unwrap_or(PAUSE).min(LONGEST_PAUSE)).await;
    let again = api.create(wanted).await;
    let ours = again.as_ref().ok().map(|created| created.endpoint_id.as_str());
    let swept = sweep(api, wanted, &before, ours).await;
    match again {
        Ok(created) => {
            if let Err(error) = swept {
                note(format_args!("warning: {error:#}"));
            }
            usable(api, created).await
        }
        Err(failure) => {
            swept?;
            let late = if failure.may_have_acted() { LATE } else { "" };
            Err(anyhow::Error::new(failure)
                .context(format!("the endpoint could not be created, in two attempts{late}")))
        }
    }
}

const LATE: &str = "; the last one may still be carried out late: look at `hookbridge endpoints list` in a minute";

/// Deletes the endpoints that a lost create has left.
async fn sweep(
    api: &VideoGenApi,
    wanted: &NewEndpoint,
    before: &BTreeSet<&str>,
    ours: Option<&str>,
) -> anyhow::Result<()> {
    let advice = || {
        format!(
            "an endpoint with the URL {} may be left: look at `hookbridge endpoints list`",
            printable(&wanted.url, MOST_CHARACTERS)
        )
    };
    let events = |events: &[String]| events.iter().cloned().collect::<BTreeSet<String>>();
    let expected = events(&wanted.events);
    for endpoint in api.list().await.with_context(advice)? {
        let id = endpoint.endpoint_id.as_str();
        let is_new = !before.contains(id) && Some(id) != ours;
        if is_new && same_url(&endpoint.url, &wanted.url) && events(&endpoint.events) == expected {
            api.delete(id).await.with_context(advice)?;
            note(format_args!(
                "deleted {}: it was created, and its secret was lost with the answer",
                printable(id, MOST_CHARACTERS)
            ));
        }
    }
    Ok(())
}

/// The endpoint, if its secret can verify deliveries; otherwise it is deleted.
async fn usable(api: &VideoGenApi, created: WebhookEndpoint) -> anyhow::Result<CreatedEndpoint> {
    let id = created.endpoint_id;
    let why = match &created.signing_secret {
        None => "the answer has no signing secret",
        Some(secret) => match Key::parse(secret.expose()) {
            Ok(_) => return Ok(CreatedEndpoint { id, secret: secret.clone() }),
            Err(fault) => fault.advice(),
        },
    };
    Err(undo(api, &id, anyhow::anyhow!("{why}")).await)
}

/// Deletes an endpoint whose secret cannot be kept. Returns the error with what became of the endpoint.
pub(super) async fn undo(api: &VideoGenApi, id: &str, error: anyhow::Error) -> anyhow::Error {
    let shown = printable(id, MOST_CHARACTERS);
    match api.delete(id).await {
        Ok(()) => error.context(format!("{shown} was deleted again, as its secret could not be kept")),
        Err(failure) => error.context(left(&shown, &failure)),
    }
}

fn left(id: &str, failure: &ApiFailure) -> String {
    format!(
        "{id} was created, its secret could not be kept, and it could not be deleted ({failure}): run `hookbridge endpoints \
         delete {id}`"
    )
}
