//! The calls about the ledger.

use std::sync::Arc;

use axum::extract::State;
use axum::http::Uri;
use serde_json::{Value, json};

use super::problem::{ApiAnswer, ApiProblem, to_the_end};
use super::query::Query;
use super::shown::{as_json, summary};
use crate::delivery::DeliveryKey;
use crate::ledger::{Forgotten, Remembered};
use crate::management::Management;
use crate::protocol::{End, Target};
use crate::source::VIDEOGEN;

pub(super) async fn show(State(management): State<Arc<Management>>, uri: Uri) -> ApiAnswer {
    let key = key(&uri)?;
    match management.ledger.look_up(&key).await? {
        Some(remembered) => Ok(as_json(&shown(&key, &remembered))),
        None => Err(unknown(&key)),
    }
}

pub(super) async fn forget(State(management): State<Arc<Management>>, uri: Uri) -> ApiAnswer {
    let key = key(&uri)?;
    let work = management.work.clone();
    to_the_end(&work, async move { forget_id(&management, key).await }).await
}

async fn forget_id(management: &Management, key: DeliveryKey) -> ApiAnswer {
    let busy = || ApiProblem::in_flight("its dead letter is being replayed or discarded");
    let _reserved = management.reserved.reserve(key.clone()).ok_or_else(busy)?;
    let letters = management.ledger.look_up(&key).await?.map_or_else(Vec::new, |remembered| remembered.letters);
    match management.ledger.forget(&key).await? {
        Forgotten::Done => {
            tracing::warn!(
                webhook_id = %key.id, source = %key.source, dead_letters = letters.len(),
                "id forgotten: the next delivery with it is published"
            );
            let letters: Vec<u64> = letters.iter().map(|letter| letter.number).collect();
            Ok(as_json(&json!({
                "source": &*key.source, "webhook_id": &*key.id, "forgotten": true, "dead_letters": letters,
            })))
        }
        Forgotten::Unknown => Err(unknown(&key)),
        Forgotten::InFlight => {
            Err(ApiProblem::in_flight("a task publishes it now, or it waits in the spool: it cannot be forgotten"))
        }
    }
}

fn key(uri: &Uri) -> Result<DeliveryKey, ApiProblem> {
    let mut query = Query::new(uri)?;
    let (id, source) = (query.text("id"), query.text("source"));
    query.end()?;
    let id = id.filter(|id| !id.is_empty()).ok_or_else(|| ApiProblem::parameter("id: expected a webhook-id"))?;
    Ok(DeliveryKey { source: source.as_deref().unwrap_or(VIDEOGEN).into(), id: id.into() })
}

fn unknown(key: &DeliveryKey) -> ApiProblem {
    ApiProblem::missing(format!(
        "nothing is known of this id of the source `{}`: it did not arrive, no target has confirmed it yet, or it was \
         forgotten",
        key.source
    ))
}

/// The state in one word.
fn state(remembered: &Remembered) -> &'static str {
    match remembered.end {
        _ if remembered.in_flight => "in-flight",
        Some(End::Stored) if !remembered.waiting.is_empty() => "stored",
        Some(End::Stored | End::Delivered) if !remembered.letters.is_empty() => "dead-lettered",
        // A dead letter of the spool's may have been replayed or discarded since.
        Some(End::Stored) => "resolved",
        Some(End::Delivered) => "delivered",
        // They were replayed or discarded.
        Some(End::DeadLettered) if remembered.letters.is_empty() => "resolved",
        Some(End::DeadLettered) => "dead-lettered",
        Some(End::Ignored) => "ignored",
        None if remembered.known.frozen.is_none() && remembered.known.dead.is_empty() => "forgotten",
        None => "open",
    }
}

fn shown(key: &DeliveryKey, remembered: &Remembered) -> Value {
    let Remembered { known, letters, waiting, body_hash, .. } = remembered;
    let confirmed = known.confirmed.iter().map(|target| json!({"target": target.to_string(), "state": "confirmed"}));
    let dead = letters.iter().map(|letter| {
        let (target, reason) = (letter.target.to_string(), letter.reason.word());
        json!({"target": target, "state": "dead", "reason": reason, "dead_letter": letter.number})
    });
    let dead_by = |target: &Target| letters.iter().any(|letter| letter.target == *target);
    let without_letter = known
        .dead
        .iter()
        .filter(|(target, _)| !dead_by(target))
        .map(|(target, reason)| json!({"target": target.to_string(), "state": "dead", "reason": reason.word()}));
    let settled =
        |target: &Target| known.confirmed.contains(target) || known.dead.contains_key(target) || dead_by(target);
    let open = known.frozen.iter().flatten().filter(|target| !settled(target));
    let open = open.map(|target| json!({"target": target.to_string(), "state": "open"}));
    let waiting = waiting.iter().map(|target| json!({"target": target.to_string(), "state": "waiting"}));
    let targets: Vec<Value> = confirmed.chain(dead).chain(without_letter).chain(open).chain(waiting).collect();
    json!({
        "source": &*key.source, "webhook_id": &*key.id, "state": state(remembered),
        "body_hash": body_hash.map(|hash| format!("{hash:08x}")), "targets": targets,
        "dead_letters": letters.iter().map(summary).collect::<Vec<_>>(),
    })
}
