//! Whether the user may publish to each topic. The server does not list permissions, so it is sent a message that it must
//! refuse to store: a user without the permission gets another error.

use std::time::Duration;

use async_nats::{HeaderMap, Request, header};
use futures_util::StreamExt as _;
use futures_util::stream::iter;
use tokio::time::sleep;

use super::Wanted;
use crate::destination::nats::api::{RequestError, send};
use crate::destination::nats::connection::Connection;
use crate::destination::permission::{self, sample};
use crate::reason::Failure;

/// The name of a stream that cannot exist, because names have no dots. Every stream refuses a message that expects it, before
/// its replicas are asked. The expected id of the last message would not do: the replicas have to agree on the refusal, and
/// a stream of three replicas then confirms nothing more (seen with server 2.15).
const NO_STREAM: &str = "hookbridge.may-we-publish";
/// How long the server may take to answer. It reports a missing permission at once; only the stream may be slow.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How long all answers together may take.
const TOTAL: Duration = Duration::from_secs(5);
/// Subjects that are asked about at the same time.
const AT_ONCE: usize = 64;

/// A problem for each topic that the user may not publish to, and for each other subject that was refused on this
/// connection. What the server has permitted is not asked about again: clients that subscribe to the subject without
/// JetStream receive the message.
pub(super) async fn denied(wanted: &Wanted, connection: &Connection) -> Vec<Failure> {
    let topics = wanted.topics.iter().map(|topic| (topic.clone(), sample(topic)));
    // Subjects can contain a part of the event.
    let others = connection.denied.subjects().into_iter().filter(|subject| {
        !subject.starts_with("$JS.API.") && !subject.starts_with("_INBOX.") && !wanted.asks_about(subject)
    });
    let unknown: Vec<_> = topics
        .chain(others.map(|subject| (subject.clone(), subject)))
        .filter(|(_, subject)| !connection.permitted.lock().contains(subject))
        .collect();
    let ask = |(topic, subject): (String, String)| async move {
        let allowed = is_permitted(connection, &subject).await;
        if allowed == Some(true) {
            connection.denied.remove(&subject);
            connection.permitted.lock().insert(subject);
        }
        (allowed == Some(false)).then(|| permission::denied(&topic, &"the server's permissions deny it"))
    };
    iter(unknown).map(ask).buffered(AT_ONCE).take_until(sleep(TOTAL)).filter_map(std::future::ready).collect().await
}

/// `None` if the server does not answer.
async fn is_permitted(connection: &Connection, subject: &str) -> Option<bool> {
    let mut headers = HeaderMap::new();
    headers.insert(header::NATS_EXPECTED_STREAM, NO_STREAM);
    let request = Request::new().headers(headers).timeout(Some(TIMEOUT));
    match send(connection, subject, request).await {
        Ok(_) => Some(true),
        Err(RequestError::Denied(_)) => Some(false),
        // The inbox may be denied, and then the connection ends.
        Err(_) => None,
    }
}
