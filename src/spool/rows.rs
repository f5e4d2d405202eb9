//! The spool's tables. `spool` has the events, `lanes` their open targets: narrow rows, so that a long lane is read quickly.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};
use serde::{Deserialize, Serialize};

use super::accepted::{Accepted, Depth, SpooledTarget};
use crate::dead_letter::DeadLetter;
use crate::delivered::Delivered;
use crate::delivery::{Delivery, DeliveryKey};
use crate::event::{Event, Signed};
use crate::letters;
use crate::protocol::Target;
use crate::store::{Batch, IntegrityRule, Store, Tallies};

/// The tables. No number is given again after its commit, because lanes and the ledger remember it. `topic` is empty where no
/// legal name can be made. `id` has no index, in which each event would change another page: the ledger finds an event by its
/// number.
pub const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS spool (
        number INTEGER PRIMARY KEY AUTOINCREMENT, id BLOB NOT NULL, source TEXT NOT NULL, webhook_id TEXT NOT NULL,
        attributes TEXT NOT NULL, body BLOB NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS lanes (
        destination TEXT, topic TEXT, number INTEGER, key TEXT, bytes INTEGER NOT NULL, at INTEGER NOT NULL,
        PRIMARY KEY (destination, topic, number)
    ) WITHOUT ROWID, STRICT;
";
/// How the tallies begin.
const EVENTS: &str = "spool events: ";
const BYTES: &str = "spool bytes: ";

/// A row of a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneRow {
    /// The event's number.
    pub number: u64,
    /// The ordering key.
    pub key: Option<String>,
    /// Bytes of the event.
    pub bytes: usize,
    /// When it was accepted, in unix seconds. For people; nothing is decided by it.
    pub at: i64,
}

/// All of an event but its body and its id.
#[derive(Deserialize, Serialize)]
struct Attributes<'a> {
    name: Cow<'a, str>,
    known: bool,
    kind: Cow<'a, str>,
    source: Cow<'a, str>,
    subject: Option<Cow<'a, str>>,
    time: Cow<'a, str>,
    partitionkey: Option<Cow<'a, str>>,
    urlexpiry: Option<Cow<'a, str>>,
    traceparent: Option<Cow<'a, str>>,
    tracestate: Option<Cow<'a, str>>,
    attributes: Cow<'a, [(String, String)]>,
    timestamp: i64,
    signature: Cow<'a, str>,
    headers: Vec<(String, String)>,
    /// Destination, topic and the route's record key of each target.
    targets: Vec<(String, Option<String>)>,
}

/// Counts what waits when a store is opened.
///
/// # Errors
/// What SQLite reports.
pub fn count(transaction: &Transaction<'_>, tallies: &mut Tallies) -> rusqlite::Result<()> {
    for Depth { destination, events, bytes } in depths_in(transaction)? {
        tallies.insert(format!("{EVENTS}{destination}").into(), events);
        tallies.insert(format!("{BYTES}{destination}").into(), bytes);
    }
    Ok(())
}

/// What waits for each destination in a database, which may be older than these tables.
///
/// # Errors
/// What SQLite reports.
pub fn depths_in(connection: &Connection) -> rusqlite::Result<Vec<Depth>> {
    if !connection.table_exists(None, "lanes")? {
        return Ok(Vec::new());
    }
    let mut select = connection.prepare("SELECT destination, count(*), sum(bytes) FROM lanes GROUP BY destination")?;
    let depth = |row: &Row<'_>| {
        let count = |column| row.get(column).map(i64::unsigned_abs);
        Ok(Depth { destination: row.get(0)?, events: count(1)?, bytes: count(2)? })
    };
    select.query_map([], depth)?.collect()
}

pub(super) fn depths(store: &Store) -> Vec<Depth> {
    let bytes = store.tallies(BYTES);
    let bytes_of = |destination: &str| {
        let found = bytes.iter().find(|(name, _)| name.strip_prefix(BYTES) == Some(destination));
        found.map_or(0, |(_, bytes)| *bytes)
    };
    let depth = |(name, events): (String, u64)| {
        let destination = name.strip_prefix(EVENTS)?.to_owned();
        Some(Depth { bytes: bytes_of(&destination), events, destination })
    };
    store.tallies(EVENTS).into_iter().filter_map(depth).collect()
}

/// Destination and topic, as they are stored.
fn names(target: &Target) -> (&str, &str) {
    (target.destination.as_deref().unwrap_or_default(), target.topic.as_deref().unwrap_or_default())
}

fn target(destination: &str, topic: &str) -> Target {
    if topic.is_empty() { Target::unnamed(destination) } else { Target::new(destination, topic) }
}

/// Stores an event and a row for each of its targets. Returns the number that it gets.
///
/// # Errors
/// What SQLite reports.
pub fn insert(batch: &mut Batch<'_>, id: &[u8; 16], accepted: &Accepted) -> rusqlite::Result<i64> {
    let (delivery, event) = (&accepted.delivered.delivery, &accepted.event);
    fn shared(text: &Option<String>) -> Option<Cow<'_, str>> {
        text.as_deref().map(Cow::Borrowed)
    }
    let attributes = Attributes {
        name: Cow::Borrowed(&event.name),
        known: event.known,
        kind: Cow::Borrowed(&event.kind),
        source: Cow::Borrowed(&event.source),
        subject: shared(&event.subject),
        time: Cow::Borrowed(&event.time),
        partitionkey: shared(&event.partitionkey),
        urlexpiry: shared(&event.urlexpiry),
        traceparent: shared(&event.traceparent),
        tracestate: shared(&event.tracestate),
        attributes: Cow::Borrowed(&event.attributes),
        timestamp: delivery.timestamp,
        signature: Cow::Borrowed(&delivery.signature),
        headers: delivery.kept_headers(),
        targets: accepted.targets.iter().map(|it| (it.target.to_string(), it.key.clone())).collect(),
    };
    let attributes =
        serde_json::to_string(&attributes).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let mut insert = batch
        .transaction
        .prepare_cached("INSERT INTO spool (id, source, webhook_id, attributes, body) VALUES (?, ?, ?, ?, ?)")?;
    let number = insert.insert(params![id, &*delivery.key.source, &*delivery.key.id, attributes, &event.data[..]])?;
    let at = jiff::Timestamp::now().as_second();
    let bytes = i64::try_from(accepted.bytes()).unwrap_or(i64::MAX);
    let mut insert = batch.transaction.prepare_cached("INSERT INTO lanes VALUES (?, ?, ?, ?, ?, ?)")?;
    for spooled in &accepted.targets {
        let (destination, topic) = names(&spooled.target);
        insert.execute(params![destination, topic, number, accepted.ordering_key(spooled), bytes, at])?;
        batch.add(format!("{EVENTS}{destination}"), 1);
        batch.add(format!("{BYTES}{destination}"), bytes);
    }
    // If the batch is rolled back, its callers get an error and do not use the number, which may be given again.
    let _ = accepted.number.set(number.unsigned_abs());
    Ok(number)
}

/// Each lane by one look-up, however long it is.
pub(super) fn lanes(connection: &Connection) -> rusqlite::Result<Vec<Target>> {
    let sql = "SELECT destination, topic FROM lanes WHERE (destination, topic) > (?, ?)
               ORDER BY destination, topic LIMIT 1";
    let mut select = connection.prepare_cached(sql)?;
    let (mut found, mut last) = (Vec::new(), (String::new(), String::new()));
    loop {
        // Pairs are compared by destination first, so an empty topic is found too.
        let next = select.query_row(params![last.0, last.1], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let Some(next) = next else { return Ok(found) };
        last = next;
        found.push(target(&last.0, &last.1));
    }
}

pub(super) fn lane_rows(
    connection: &Connection,
    lane: &Target,
    after: u64,
    most: usize,
) -> rusqlite::Result<Vec<LaneRow>> {
    let sql = "SELECT number, key, bytes, at FROM lanes WHERE destination = ? AND topic = ? AND number > ?
               ORDER BY number LIMIT ?";
    let (destination, topic) = names(lane);
    let mut select = connection.prepare_cached(sql)?;
    let row = |row: &Row<'_>| {
        Ok(LaneRow {
            number: row.get::<_, i64>(0)?.unsigned_abs(),
            key: row.get(1)?,
            bytes: usize::try_from(row.get::<_, i64>(2)?).unwrap_or(0),
            at: row.get(3)?,
        })
    };
    let (after, most) = (i64::try_from(after).unwrap_or(i64::MAX), i64::try_from(most).unwrap_or(i64::MAX));
    select.query_map(params![destination, topic, after, most], row)?.collect()
}

pub(super) fn load(connection: &Connection, number: u64) -> rusqlite::Result<Option<Accepted>> {
    let sql = "SELECT source, webhook_id, attributes, body FROM spool WHERE number = ?";
    let mut select = connection.prepare_cached(sql)?;
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    let row = select.query_row([number], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?, row.get::<_, Vec<u8>>(3)?))
    });
    let Some((source, webhook_id, attributes, body)) = row.optional()? else { return Ok(None) };
    let it: Attributes<'_> = serde_json::from_str(&attributes)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(2, rusqlite::types::Type::Text, error.into()))?;
    Ok(Some(accepted(source.into(), webhook_id.into(), it, body.into())))
}

fn accepted(source: Arc<str>, webhook_id: Arc<str>, it: Attributes<'_>, body: Bytes) -> Accepted {
    let owned = |text: Option<Cow<'_, str>>| text.map(Cow::into_owned);
    let mut headers = HeaderMap::new();
    for (name, value) in &it.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.append(name, value);
        }
    }
    let delivery = Delivery {
        key: DeliveryKey { source: Arc::clone(&source), id: Arc::clone(&webhook_id) },
        timestamp: it.timestamp,
        signature: it.signature.into_owned(),
        traceparent: owned(it.traceparent),
        tracestate: owned(it.tracestate),
        headers,
        body: body.clone(),
    };
    let event = Event {
        id: webhook_id,
        source_name: source,
        source: it.source.into(),
        name: it.name.into_owned(),
        known: it.known,
        kind: it.kind.into_owned(),
        subject: owned(it.subject),
        time: it.time.into_owned(),
        partitionkey: owned(it.partitionkey),
        traceparent: delivery.traceparent.clone(),
        tracestate: delivery.tracestate.clone(),
        urlexpiry: owned(it.urlexpiry),
        attributes: it.attributes.into_owned().into(),
        signed: Signed { timestamp: it.timestamp.to_string(), signature: delivery.signature.clone() },
        data: body,
    };
    let targets = it.targets.into_iter().map(|(target, key)| SpooledTarget { target: Target::parse(&target), key });
    Accepted {
        delivered: Arc::new(Delivered { delivery, event: Some(event.name.clone()) }),
        event: Arc::new(event),
        targets: targets.collect(),
        number: OnceLock::new(),
    }
}

pub(super) fn settle(
    batch: &mut Batch<'_>,
    number: u64,
    target: &Target,
    accepted: &Accepted,
    letter: Option<&DeadLetter>,
) -> rusqlite::Result<()> {
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    let (destination, topic) = names(target);
    let sql = "DELETE FROM lanes WHERE destination = ? AND topic = ? AND number = ? RETURNING bytes";
    let mut delete = batch.transaction.prepare_cached(sql)?;
    let deleted = delete.query_row(params![destination, topic, number], |row| row.get::<_, i64>(0)).optional()?;
    let Some(bytes) = deleted else { return Ok(()) }; // it was discarded
    batch.add(format!("{EVENTS}{destination}"), -1);
    batch.add(format!("{BYTES}{destination}"), -bytes);
    let id = "SELECT id FROM spool WHERE number = ?";
    let id: [u8; 16] = batch.transaction.prepare_cached(id)?.query_row([number], |row| row.get(0))?;
    match letter {
        Some(letter) => letters::keep(batch, &id, target, letter.failure.reason, letter)?,
        None => letters::withdraw(batch, &id, std::slice::from_ref(target))?,
    }
    let sql = "SELECT EXISTS (SELECT 1 FROM lanes WHERE destination = ? AND topic = ? AND number = ?)";
    let mut exists = batch.transaction.prepare_cached(sql)?;
    for other in accepted.targets.iter().filter(|other| other.target != *target) {
        let (destination, topic) = names(&other.target);
        if exists.query_row(params![destination, topic, number], |row| row.get(0))? {
            return Ok(());
        }
    }
    batch.transaction.prepare_cached("DELETE FROM spool WHERE number = ?")?.execute([number]).map(drop)
}

/// Whether an event waits.
///
/// # Errors
/// What SQLite reports.
pub fn has(connection: &Connection, number: i64) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM spool WHERE number = ?")?.exists([number])
}

/// The targets for which an event waits.
///
/// # Errors
/// What SQLite reports.
pub fn waiting(connection: &Connection, number: i64) -> rusqlite::Result<Vec<Target>> {
    let Some(accepted) = load(connection, number.unsigned_abs())? else { return Ok(Vec::new()) };
    let sql = "SELECT EXISTS (SELECT 1 FROM lanes WHERE destination = ? AND topic = ? AND number = ?)";
    let mut exists = connection.prepare_cached(sql)?;
    let mut waiting = Vec::new();
    for spooled in &accepted.targets {
        let (destination, topic) = names(&spooled.target);
        if exists.query_row(params![destination, topic, number], |row| row.get(0))? {
            waiting.push(spooled.target.clone());
        }
    }
    Ok(waiting)
}

/// What every row satisfies.
pub fn rules() -> Vec<IntegrityRule> {
    vec![
        IntegrityRule::rows("spool", "have an id that is not a hash", "length(id) != 16"),
        IntegrityRule::rows("spool", "have attributes that are no JSON object", "NOT json_valid(attributes)"),
        IntegrityRule::rows("spool", "wait for no target", "number NOT IN (SELECT number FROM lanes)"),
        IntegrityRule::rows("lanes", "have no event", "number NOT IN (SELECT number FROM spool)"),
        IntegrityRule::rows("lanes", "have no size", "bytes <= 0"),
    ]
}

pub(super) fn discard(batch: &mut Batch<'_>, destination: &str) -> rusqlite::Result<u64> {
    let sql = "SELECT count(*), coalesce(sum(bytes), 0) FROM lanes WHERE destination = ?";
    let (events, bytes): (i64, i64) =
        batch.transaction.query_row(sql, [destination], |row| Ok((row.get(0)?, row.get(1)?)))?;
    batch.transaction.execute("DELETE FROM lanes WHERE destination = ?", [destination])?;
    batch.transaction.execute("DELETE FROM spool WHERE number NOT IN (SELECT number FROM lanes)", [])?;
    batch.add(format!("{EVENTS}{destination}"), -events);
    batch.add(format!("{BYTES}{destination}"), -bytes);
    Ok(events.unsigned_abs())
}
