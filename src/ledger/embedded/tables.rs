//! The ledger's tables, and how facts are written to and read from them.

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use crate::ledger::facts::{Id, Save, Stored};
use crate::ledger::{DeadLetter, LetterCount};
use crate::protocol::{End, Known, Target};
use crate::reason::Reason;
use crate::store::{Batch, Expiring, Schema, Tallies, meta};

/// The tally of closed ids.
pub(super) const IDS: &str = "ids";
/// How the tallies of dead letters begin.
pub(super) const LETTERS: &str = "dead letters: ";

/// All but the window.
///
/// `ids`: a delivery that has ended (`cargo bench --bench ledger` shows its size). `facts`: what is known of the targets of
/// one that is open; `kind` only grows: 0 frozen, 1 dead, 2 confirmed.
pub(super) const SCHEMA: Schema = Schema {
    file: "ledger.sqlite",
    version: 1,
    tables: "
        CREATE TABLE IF NOT EXISTS ids (
            id BLOB PRIMARY KEY, at INTEGER NOT NULL, end INTEGER NOT NULL, body INTEGER NOT NULL
        ) WITHOUT ROWID, STRICT;
        CREATE TABLE IF NOT EXISTS facts (
            id BLOB, target TEXT, kind INTEGER NOT NULL, reason TEXT, frozen INTEGER NOT NULL, at INTEGER NOT NULL,
            PRIMARY KEY (id, target)
        ) WITHOUT ROWID, STRICT;
        CREATE TABLE IF NOT EXISTS dead_letters (
            number INTEGER PRIMARY KEY, id BLOB NOT NULL, target TEXT NOT NULL, source TEXT NOT NULL,
            webhook_id TEXT NOT NULL, event TEXT, reason TEXT NOT NULL, detail TEXT NOT NULL, time INTEGER NOT NULL,
            headers TEXT NOT NULL, body BLOB NOT NULL, UNIQUE (id, target)
        ) STRICT;
    ",
    tallies: &[IDS],
    expiring: &[Expiring { table: "ids", tally: Some(IDS) }, Expiring { table: "facts", tally: None }],
    window: 0,
};

/// Counts the dead letters. Returns the key that ids are hashed with: drawn once for a data directory.
pub(super) fn prepare(transaction: &Transaction<'_>, tallies: &mut Tallies) -> rusqlite::Result<[u8; 16]> {
    let mut select =
        transaction.prepare("SELECT source, reason, count(*) FROM dead_letters GROUP BY source, reason")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let (source, reason): (String, String) = (row.get(0)?, row.get(1)?);
        tallies.insert(letter_tally(&source, &reason).into(), row.get::<_, u32>(2)?.into());
    }
    meta(transaction, "hash_key", rand::random::<[u8; 16]>)
}

/// The tally of the dead letters of a source for a reason. Reasons are single words.
fn letter_tally(source: &str, reason: &str) -> String {
    format!("{LETTERS}{reason} {source}")
}

/// A tally of dead letters.
pub(super) fn letter_count((name, count): &(String, u64)) -> Option<LetterCount> {
    let (reason, source) = name.strip_prefix(LETTERS)?.split_once(' ')?;
    Some(LetterCount { source: source.to_owned(), reason: Reason::from_word(reason)?.word(), count: *count })
}

/// Looks an id up. Ids whose last change is older than `since` are forgotten already.
pub(super) fn load(connection: &Connection, id: Id, since: i64) -> rusqlite::Result<Option<Stored>> {
    let id = id.to_be_bytes();
    let mut ended = connection.prepare_cached("SELECT end, body FROM ids WHERE id = ? AND at >= ?")?;
    let closed = ended.query_row(params![id, since], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    if let Some((end, body_hash)) = closed {
        return Ok(Some(Stored::Closed { end: end_of(end), body_hash }));
    }
    let mut facts = connection.prepare_cached("SELECT target, kind, reason, frozen FROM facts WHERE id = ?")?;
    let mut rows = facts.query([id])?;
    let mut known = Known::default();
    while let Some(row) = rows.next()? {
        let target = Target::parse(row.get_ref(0)?.as_str()?);
        match row.get(1)? {
            2 => drop(known.confirmed.insert(target.clone())),
            1 => {
                let word: Option<String> = row.get(2)?;
                let reason = word.as_deref().and_then(Reason::from_word).unwrap_or(Reason::Failed);
                known.dead.insert(target.clone(), reason);
            }
            _ => {}
        }
        if row.get::<_, i64>(3)? != 0 {
            known.frozen.get_or_insert_default().push(target);
        }
    }
    Ok((known != Known::default()).then_some(Stored::Open(known)))
}

/// Keeps what became known.
pub(super) fn save(batch: &mut Batch<'_>, save: &Save) -> rusqlite::Result<()> {
    let (transaction, now) = (batch.transaction, batch.now);
    let id = save.id.to_be_bytes();
    if let Some(letter) = &save.letter {
        for (target, reason) in &save.dead {
            keep_letter(batch, &id, target, *reason, letter)?;
        }
    }
    match &save.stored {
        Stored::Closed { end, body_hash } => {
            let values = params![id, now, number_of(*end), body_hash];
            let mut insert = transaction.prepare_cached("INSERT OR IGNORE INTO ids VALUES (?, ?, ?, ?)")?;
            if insert.execute(values)? == 1 {
                batch.add(IDS, 1);
            } else {
                // Expired, but not deleted yet.
                let sql = "UPDATE ids SET at = ?2, end = ?3, body = ?4 WHERE id = ?1";
                transaction.prepare_cached(sql)?.execute(values)?;
            }
            transaction.prepare_cached("DELETE FROM facts WHERE id = ?")?.execute([id]).map(drop)
        }
        Stored::Open(known) => keep_facts(transaction, &id, known, now),
    }
}

fn keep_facts(transaction: &Transaction<'_>, id: &[u8; 16], known: &Known, now: i64) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO facts VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id, target) DO UPDATE SET
         kind = max(kind, excluded.kind), frozen = max(frozen, excluded.frozen), reason = excluded.reason",
    )?;
    let frozen = known.frozen.as_deref().unwrap_or_default();
    let others = known.confirmed.iter().chain(known.dead.keys()).filter(|target| !frozen.contains(target));
    for target in frozen.iter().chain(others) {
        let reason = known.dead.get(target).map(|reason| reason.word());
        let kind = if known.confirmed.contains(target) { 2 } else { i64::from(reason.is_some()) };
        insert.execute(params![id, target.to_string(), kind, reason, frozen.contains(target), now])?;
    }
    Ok(())
}

fn keep_letter(
    batch: &mut Batch<'_>,
    id: &[u8; 16],
    target: &Target,
    reason: Reason,
    letter: &DeadLetter,
) -> rusqlite::Result<()> {
    let delivery = &letter.delivery;
    let headers = serde_json::to_string(&delivery.kept_headers()).unwrap_or_default();
    let time = jiff::Timestamp::now().as_second(); // for people; nothing is decided by it
    let sql = "DELETE FROM dead_letters WHERE id = ? AND target = ? RETURNING source, reason";
    let tally = |row: &Row<'_>| Ok(letter_tally(row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?));
    let mut replace = batch.transaction.prepare_cached(sql)?;
    if let Some(replaced) = replace.query_row(params![id, target.to_string()], tally).optional()? {
        batch.add(replaced, -1);
    }
    batch.add(letter_tally(&delivery.key.source, reason.word()), 1);
    let mut insert = batch.transaction.prepare_cached(
        "INSERT INTO dead_letters
         (id, target, source, webhook_id, event, reason, detail, time, headers, body)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    insert.execute(params![
        id,
        target.to_string(),
        &*delivery.key.source,
        &*delivery.key.id,
        letter.event,
        reason.word(),
        letter.failure.detail,
        time,
        headers,
        &delivery.body[..],
    ])?;
    Ok(())
}

fn number_of(end: End) -> i64 {
    match end {
        End::Delivered => 0,
        End::DeadLettered => 1,
        End::Ignored => 2,
    }
}

fn end_of(number: i64) -> End {
    match number {
        1 => End::DeadLettered,
        2 => End::Ignored,
        _ => End::Delivered,
    }
}
