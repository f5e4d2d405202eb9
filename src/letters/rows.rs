//! The table of dead letters, and the tallies of what is in it.

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use super::kept::{KeptLetter, LetterSummary};
use crate::dead_letter::DeadLetter;
use crate::delivery::DeliveryKey;
use crate::protocol::Target;
use crate::reason::{Failure, Reason};
use crate::store::{Batch, IntegrityRule, Store, Tallies, meta};

/// The table. `time` is that of the wall clock, for people; `kept` that of the store's own clock, which dead letters expire by.
pub const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS dead_letters (
        number INTEGER PRIMARY KEY, id BLOB NOT NULL, target TEXT NOT NULL, source TEXT NOT NULL,
        webhook_id TEXT NOT NULL, event TEXT, reason TEXT NOT NULL, detail TEXT NOT NULL, time INTEGER NOT NULL,
        kept INTEGER NOT NULL, headers TEXT NOT NULL, body BLOB NOT NULL, UNIQUE (id, target)
    ) STRICT;
";
/// How the tallies begin.
const TALLIES: &str = "dead letters: ";
/// The tally of the bytes of bodies and headers.
const BYTES: &str = "dead letter bytes";
/// The columns of a summary.
const SUMMARY: &str = "number, target, source, webhook_id, event, reason, detail, time, length(body)";

/// How many dead letters of a source are kept for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LetterCount {
    /// The source's name.
    pub source: String,
    /// The word of the [`Reason`].
    pub reason: &'static str,
    /// How many.
    pub count: u64,
}

/// Adds what tables of earlier builds lack: their dead letters count as kept now. A default rewrites no row.
///
/// # Errors
/// What SQLite reports.
pub fn extend(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let exists = "SELECT EXISTS (SELECT 1 FROM pragma_table_info('dead_letters') WHERE name = 'kept')";
    if transaction.query_row(exists, [], |row| row.get(0))? {
        return Ok(());
    }
    let now: i64 = meta(transaction, "elapsed", || 0)?;
    transaction.execute_batch(&format!("ALTER TABLE dead_letters ADD COLUMN kept INTEGER NOT NULL DEFAULT {now}"))
}

/// Counts the dead letters when a store is opened.
///
/// # Errors
/// What SQLite reports.
pub fn count(transaction: &Transaction<'_>, tallies: &mut Tallies) -> rusqlite::Result<()> {
    let mut select = transaction.prepare(
        "SELECT source, reason, count(*), sum(length(headers) + length(body)) FROM dead_letters GROUP BY source, reason",
    )?;
    let mut rows = select.query([])?;
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let (source, reason): (String, String) = (row.get(0)?, row.get(1)?);
        tallies.insert(tally(&source, &reason).into(), row.get::<_, u32>(2)?.into());
        bytes += row.get::<_, i64>(3)?.unsigned_abs();
    }
    tallies.insert(BYTES.into(), bytes);
    Ok(())
}

/// The tally of the dead letters of a source for a reason. Reasons are single words.
fn tally(source: &str, reason: &str) -> String {
    format!("{TALLIES}{reason} {source}")
}

/// How many dead letters are kept.
pub fn counts(store: &Store) -> Vec<LetterCount> {
    let counted = |(name, count): (String, u64)| {
        let (reason, source) = name.strip_prefix(TALLIES)?.split_once(' ')?;
        Some(LetterCount { source: source.to_owned(), reason: Reason::from_word(reason)?.word(), count })
    };
    store.tallies(TALLIES).into_iter().filter_map(counted).collect()
}

/// Bytes of all bodies and headers.
pub(super) fn bytes(store: &Store) -> u64 {
    store.tallies(BYTES).into_iter().map(|(_, bytes)| bytes).sum()
}

/// Keeps a dead letter of a target, in the place of an earlier one of the same delivery and target.
///
/// # Errors
/// What SQLite reports.
pub fn keep(
    batch: &mut Batch<'_>,
    id: &[u8; 16],
    target: &Target,
    reason: Reason,
    letter: &DeadLetter,
) -> rusqlite::Result<()> {
    let delivery = &letter.delivery;
    let headers = headers(letter);
    let time = jiff::Timestamp::now().as_second();
    remove(batch, "id = ? AND target = ?", params![id, target.to_string()])?;
    let number = next_number(batch)?;
    let mut insert = batch.transaction.prepare_cached(
        "INSERT INTO dead_letters
         (number, id, target, source, webhook_id, event, reason, detail, time, kept, headers, body)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    insert.execute(params![
        number,
        id,
        target.to_string(),
        &*delivery.key.source,
        &*delivery.key.id,
        letter.event,
        reason.word(),
        letter.failure.detail,
        time,
        batch.now,
        headers,
        &delivery.body[..],
    ])?;
    added(batch, number)
}

fn headers(letter: &DeadLetter) -> String {
    serde_json::to_string(&letter.delivery.kept_headers()).unwrap_or_default()
}

/// Bytes that a dead letter takes, as they are counted.
pub(super) fn size(letter: &DeadLetter) -> u64 {
    (headers(letter).chars().count() + letter.delivery.body.len()) as u64
}

/// Deletes the dead letters of targets that took the event after all, if there are any.
///
/// # Errors
/// What SQLite reports.
pub fn withdraw(batch: &mut Batch<'_>, id: &[u8; 16], targets: &[Target]) -> rusqlite::Result<()> {
    let any = "SELECT EXISTS (SELECT 1 FROM dead_letters WHERE id = ?)";
    // Every delivery that ends comes here, and there are few dead letters, or none.
    if targets.is_empty()
        || batch.tally(BYTES) == 0
        || !batch.transaction.prepare_cached(any)?.query_row([id], |row| row.get(0))?
    {
        return Ok(());
    }
    for target in targets {
        remove(batch, "id = ? AND target = ?", params![id, target.to_string()])?;
    }
    Ok(())
}

/// A number that no dead letter had before: an operator may still hold that of one that is gone.
fn next_number(batch: &Batch<'_>) -> rusqlite::Result<i64> {
    let sql = "INSERT INTO meta VALUES ('dead_letter', (SELECT coalesce(max(number), 0) + 1 FROM dead_letters))
               ON CONFLICT (name) DO UPDATE SET value = max(value + 1, excluded.value) RETURNING value";
    batch.transaction.prepare_cached(sql)?.query_row([], |row| row.get(0))
}

/// Counts a row that was inserted.
fn added(batch: &mut Batch<'_>, number: i64) -> rusqlite::Result<()> {
    let sql = "SELECT source, reason, length(headers) + length(body) FROM dead_letters WHERE number = ?";
    let (tally, bytes) = batch.transaction.prepare_cached(sql)?.query_row([number], tallied)?;
    batch.add(tally, 1);
    batch.add(BYTES, bytes);
    Ok(())
}

fn tallied(row: &Row<'_>) -> rusqlite::Result<(String, i64)> {
    Ok((tally(row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?), row.get(2)?))
}

/// Deletes a row, if there is one.
fn remove(batch: &mut Batch<'_>, condition: &str, values: impl rusqlite::Params) -> rusqlite::Result<bool> {
    let sql =
        format!("DELETE FROM dead_letters WHERE {condition} RETURNING source, reason, length(headers) + length(body)");
    let removed = batch.transaction.prepare_cached(&sql)?.query_row(values, tallied).optional()?;
    let Some((tally, bytes)) = removed else { return Ok(false) };
    batch.add(tally, -1);
    batch.add(BYTES, -bytes);
    Ok(true)
}

/// A number as SQLite has it. Larger ones are not given.
fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn delete(batch: &mut Batch<'_>, number: u64) -> rusqlite::Result<bool> {
    remove(batch, "number = ?", [stored(number)])
}

pub(super) fn split(batch: &mut Batch<'_>, number: u64, targets: &[Target]) -> rusqlite::Result<Option<Vec<u64>>> {
    let number = stored(number);
    let exists = "SELECT EXISTS (SELECT 1 FROM dead_letters WHERE number = ?)";
    if !batch.transaction.prepare_cached(exists)?.query_row([number], |row| row.get(0))? {
        return Ok(None);
    }
    let mut numbers = Vec::with_capacity(targets.len());
    for target in targets {
        let target = target.to_string();
        let same = "target = ?1 AND number != ?2 AND id = (SELECT id FROM dead_letters WHERE number = ?2)";
        remove(batch, same, params![target, number])?;
        let next = next_number(batch)?;
        let sql = "INSERT OR IGNORE INTO dead_letters
                   (number, id, target, source, webhook_id, event, reason, detail, time, kept, headers, body)
                   SELECT ?, id, ?, source, webhook_id, event, reason, detail, time, kept, headers, body
                   FROM dead_letters WHERE number = ?";
        if batch.transaction.prepare_cached(sql)?.execute(params![next, target, number])? == 1 {
            added(batch, next)?;
        }
        numbers.push(next.unsigned_abs());
    }
    remove(batch, "number = ?", [number])?;
    Ok(Some(numbers))
}

pub(super) fn set_failure(batch: &mut Batch<'_>, number: u64, failure: &Failure) -> rusqlite::Result<()> {
    let number = stored(number);
    let sql = "SELECT source, reason, 0 FROM dead_letters WHERE number = ?";
    let before = batch.transaction.prepare_cached(sql)?.query_row([number], tallied).optional()?;
    let Some((before, _)) = before else { return Ok(()) };
    let sql = "UPDATE dead_letters SET reason = ?, detail = ? WHERE number = ?";
    batch.transaction.prepare_cached(sql)?.execute(params![failure.reason.word(), failure.detail, number])?;
    let sql = "SELECT source, reason, 0 FROM dead_letters WHERE number = ?";
    let (after, _) = batch.transaction.prepare_cached(sql)?.query_row([number], tallied)?;
    batch.add(before, -1);
    batch.add(after, 1);
    Ok(())
}

fn summary(row: &Row<'_>) -> rusqlite::Result<LetterSummary> {
    Ok(LetterSummary {
        number: row.get::<_, i64>(0)?.unsigned_abs(),
        target: Target::parse(row.get_ref(1)?.as_str()?),
        source: row.get(2)?,
        webhook_id: row.get(3)?,
        event: row.get(4)?,
        reason: Reason::from_word(row.get_ref(5)?.as_str()?).unwrap_or(Reason::Failed),
        detail: row.get(6)?,
        time: row.get(7)?,
        bytes: row.get::<_, i64>(8)?.unsigned_abs(),
    })
}

/// The next rows.
pub(super) fn page(connection: &Connection, after: u64, most: usize) -> rusqlite::Result<Vec<LetterSummary>> {
    let sql = format!("SELECT {SUMMARY} FROM dead_letters WHERE number > ? ORDER BY number LIMIT ?");
    let mut select = connection.prepare_cached(&sql)?;
    select.query_map(params![stored(after), stored(most as u64)], summary)?.collect()
}

pub(super) fn load(connection: &Connection, number: u64) -> rusqlite::Result<Option<KeptLetter>> {
    let sql = format!("SELECT {SUMMARY}, headers, body FROM dead_letters WHERE number = ?");
    let letter = |row: &Row<'_>| {
        let headers = serde_json::from_str(row.get_ref(9)?.as_str()?).unwrap_or_default();
        Ok(KeptLetter { summary: summary(row)?, headers, body: row.get::<_, Vec<u8>>(10)?.into() })
    };
    connection.prepare_cached(&sql)?.query_row([stored(number)], letter).optional()
}

/// The dead letters of a delivery.
///
/// # Errors
/// What SQLite reports.
pub fn of_id(connection: &Connection, id: &[u8; 16]) -> rusqlite::Result<Vec<LetterSummary>> {
    let sql = format!("SELECT {SUMMARY} FROM dead_letters WHERE id = ? ORDER BY number");
    connection.prepare_cached(&sql)?.query_map([id], summary)?.collect()
}

/// Old rows.
pub(super) struct OldLetters {
    /// Their numbers and deliveries.
    pub letters: Vec<(u64, DeliveryKey)>,
    /// The last number that was read, if there may be more behind it.
    pub last: Option<u64>,
}

/// The rows that were kept before a second of the store's own clock, among the next `most` rows.
pub(super) fn older(connection: &Connection, before: i64, after: u64, most: usize) -> rusqlite::Result<OldLetters> {
    let sql = "SELECT number, kept < ?, source, webhook_id FROM dead_letters WHERE number > ? ORDER BY number LIMIT ?";
    let mut select = connection.prepare_cached(sql)?;
    let mut rows = select.query(params![before, stored(after), stored(most as u64)])?;
    let (mut old, mut read, mut last) = (OldLetters { letters: Vec::new(), last: None }, 0, 0);
    while let Some(row) = rows.next()? {
        (read, last) = (read + 1, row.get::<_, i64>(0)?.unsigned_abs());
        if row.get(1)? {
            let key = DeliveryKey { source: row.get_ref(2)?.as_str()?.into(), id: row.get_ref(3)?.as_str()?.into() };
            old.letters.push((last, key));
        }
    }
    old.last = (read == most).then_some(last);
    Ok(old)
}

/// What every row satisfies.
pub fn rules() -> Vec<IntegrityRule> {
    let words: Vec<String> = Reason::ALL.iter().map(|reason| format!("'{}'", reason.word())).collect();
    let rule = |about, condition: &str| IntegrityRule::rows("dead_letters", about, condition);
    vec![
        rule("have an id that is not a hash", "length(id) != 16"),
        rule("have an unknown reason", &format!("reason NOT IN ({})", words.join(", "))),
        rule("have headers that are no JSON list", "NOT json_valid(headers) OR json_type(headers) != 'array'"),
        rule("have a target that is no destination and topic", "target != '*' AND target NOT LIKE '_%/%'"),
    ]
}
