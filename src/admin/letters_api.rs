//! The calls about dead letters.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::problem::{ApiAnswer, ApiProblem, to_the_end};
use super::query::Query;
use super::shown::{as_json, failure, summary};
use crate::letters::{KeptLetter, Letters};
use crate::management::Management;
use crate::message::Outcome;
use crate::reason::Reason;
use crate::replay::{ReplayReport, TargetReplay};
use crate::urls::shortened_bytes;

/// Dead letters on a page, unless the caller wants another number.
const PAGE: u64 = 100;
/// Most dead letters on a page.
const LARGEST_PAGE: u64 = 1000;

/// The id in the path; an error if it is not UTF-8.
type Id = Result<Path<String>, PathRejection>;

pub(super) async fn list(State(management): State<Arc<Management>>, uri: Uri) -> ApiAnswer {
    let mut query = Query::new(&uri)?;
    let filter = query.filter()?;
    let after = query.number("after")?.unwrap_or(0);
    let limit = query.number("limit")?.unwrap_or(PAGE);
    query.end()?;
    if !(1..=LARGEST_PAGE).contains(&limit) {
        return Err(ApiProblem::parameter(format!("limit: it must be from 1 to {LARGEST_PAGE}")));
    }
    let page = letters(&management)?.page(&filter, after, usize::try_from(limit).unwrap_or(1)).await?;
    let letters: Vec<Value> = page.letters.iter().map(summary).collect();
    Ok(as_json(&json!({"dead_letters": letters, "next": page.next})))
}

pub(super) async fn show(State(management): State<Arc<Management>>, id: Id, uri: Uri) -> ApiAnswer {
    let number = number(id)?;
    let mut query = Query::new(&uri)?;
    let urls = query.parsed("urls", |text| text.parse().map_err(|_| "expected true or false".to_owned()))?;
    query.end()?;
    let letter = letters(&management)?.load(number).await?;
    let letter = letter.ok_or_else(|| ApiProblem::no_dead_letter(number))?;
    Ok(as_json(&whole(&letter, urls.unwrap_or(false))))
}

pub(super) async fn replay(State(management): State<Arc<Management>>, id: Id, uri: Uri) -> ApiAnswer {
    let number = number(id)?;
    Query::new(&uri)?.end()?;
    letters(&management)?;
    let closed = || ApiProblem::new(StatusCode::CONFLICT, "not_configured", "Not configured", "no destination is open");
    let replayer = management.replayer.as_ref().ok_or_else(closed)?;
    let report = replayer.replay(number).await.map_err(|refusal| ApiProblem::refusal(number, refusal))?;
    Ok(as_json(&replayed_as_json(number, &report)))
}

pub(super) async fn discard(State(management): State<Arc<Management>>, id: Id, uri: Uri) -> ApiAnswer {
    let number = number(id)?;
    Query::new(&uri)?.end()?;
    let work = management.work.clone();
    to_the_end(&work, async move { discard_letter(&management, number).await }).await
}

async fn discard_letter(management: &Management, number: u64) -> ApiAnswer {
    let letters = letters(management)?;
    let letter = letters.load(number).await?.ok_or_else(|| ApiProblem::no_dead_letter(number))?;
    let busy = || ApiProblem::in_flight("it is being replayed or discarded");
    let _reserved = management.reserved.reserve(letter.delivery().key).ok_or_else(busy)?;
    if !letters.delete(number).await? {
        return Err(ApiProblem::no_dead_letter(number));
    }
    let kept = &letter.summary;
    tracing::warn!(
        dead_letter = number, webhook_id = %kept.webhook_id, source = %kept.source,
        destination = kept.target.destination.as_deref(), topic = kept.target.topic.as_deref(), event = kept.event,
        reason = %kept.reason, "dead letter discarded"
    );
    Ok(as_json(&json!({"id": number, "discarded": true})))
}

fn letters(management: &Management) -> Result<&Letters, ApiProblem> {
    management.letters.as_deref().ok_or_else(|| {
        let (reason, title) = (Reason::NoDeadLetters, "No dead letters");
        ApiProblem::new(StatusCode::CONFLICT, reason.word(), title, reason.about())
    })
}

fn number(id: Id) -> Result<u64, ApiProblem> {
    let number = id.ok().and_then(|Path(id)| id.parse().ok());
    number.ok_or_else(|| ApiProblem::parameter("the id of a dead letter is a number, as the list shows it"))
}

fn whole(letter: &KeptLetter, urls: bool) -> Value {
    let mut shown = summary(&letter.summary);
    shown["headers"] = letter.headers.iter().map(|(name, value)| json!([name, value])).collect();
    let body = if urls { letter.body.to_vec() } else { shortened_bytes(&letter.body) };
    match String::from_utf8(body) {
        Ok(body) => shown["body"] = body.into(),
        Err(body) => shown["body_base64"] = STANDARD.encode(body.as_bytes()).into(),
    }
    shown
}

fn replayed_as_json(number: u64, report: &ReplayReport) -> Value {
    let target = |it: &TargetReplay| {
        let mut shown = json!({"target": it.target.to_string(), "outcome": it.outcome.word()});
        if let Some(why) = it.outcome.failure() {
            (shown["reason"], shown["detail"]) = failure(why);
        }
        if let Some(letter) = it.letter.filter(|_| it.outcome != Outcome::Confirmed) {
            shown["dead_letter"] = letter.into();
        }
        shown
    };
    json!({
        "id": number, "replayed": report.is_confirmed(), "targets": report.targets.iter().map(target).collect::<Vec<_>>(),
    })
}
