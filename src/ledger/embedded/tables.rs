//! The ledger's tables, and how facts are written to and read from them.

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::recent::{IDS, RecentIds};
use crate::ledger::Forgotten;
use crate::ledger::facts::{Background, Id, Save, Stored};
use crate::letters;
use crate::protocol::{End, Known, Target};
use crate::reason::Reason;
use crate::spool;
use crate::store::{Batch, Expiring, IntegrityRule, meta};

/// Its rows expire.
pub(super) const EXPIRING: &[Expiring] =
    &[Expiring { table: "ids", tally: Some(IDS) }, Expiring { table: "facts", tally: None }];

/// `ids`: a delivery that has ended, once it is no longer `recent` (`cargo bench --bench compare -- growth ids` shows its size).
/// `facts`: what is known of the targets of one that is open; `kind` only grows: 0 frozen, 1 dead, 2 confirmed.
pub(super) const TABLES: &str = "
        CREATE TABLE IF NOT EXISTS ids (
            id BLOB PRIMARY KEY, at INTEGER NOT NULL, end INTEGER NOT NULL, body INTEGER NOT NULL
        ) WITHOUT ROWID, STRICT;
        CREATE TABLE IF NOT EXISTS facts (
            id BLOB, target TEXT, kind INTEGER NOT NULL, reason TEXT, frozen INTEGER NOT NULL, at INTEGER NOT NULL,
            PRIMARY KEY (id, target)
        ) WITHOUT ROWID, STRICT;
    ";

/// The key that ids are hashed with: drawn once for a data directory.
pub(super) fn hash_key(transaction: &Transaction<'_>) -> rusqlite::Result<[u8; 16]> {
    meta(transaction, "hash_key", rand::random::<[u8; 16]>)
}

/// Looks an id up. Ids whose last change is older than `since` are forgotten already.
pub(super) fn load(
    connection: &Connection,
    recent: &RecentIds,
    id: Id,
    since: i64,
) -> rusqlite::Result<Option<Stored>> {
    if let Some(row) = recent.find(connection, id)?.filter(|row| row.at >= since) {
        return Ok(Some(Stored::Closed { end: end_of(row.end), body_hash: row.body }));
    }
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
    Ok((known != Known::default()).then(|| Stored::Open(Box::new(known))))
}

/// Keeps what became known.
pub(super) fn save(batch: &mut Batch<'_>, recent: &RecentIds, save: &Save) -> rusqlite::Result<()> {
    let (transaction, now) = (batch.transaction, batch.now);
    let id = save.id.to_be_bytes();
    letters::withdraw(batch, &id, &save.withdrawn)?;
    if let Some(letter) = &save.letter {
        for (target, reason) in &save.dead {
            letters::keep(batch, &id, target, *reason, letter)?;
        }
    }
    if let Some(accepted) = &save.accepted {
        spool::insert(batch, &id, accepted)?;
    }
    match &save.stored {
        Stored::Closed { end, body_hash } => {
            recent.append(batch, &id, number_of(*end), *body_hash)?;
            if save.has_facts {
                transaction.prepare_cached("DELETE FROM facts WHERE id = ?")?.execute([id])?;
            }
            Ok(())
        }
        Stored::Open(known) => keep_facts(transaction, &id, known, now),
    }
}

/// All that is kept of an id. Ids whose last change is older than `since` are forgotten already.
pub(super) fn background(
    connection: &Connection,
    recent: &RecentIds,
    id: Id,
    since: i64,
) -> rusqlite::Result<Background> {
    let key = id.to_be_bytes();
    Ok(Background {
        stored: load(connection, recent, id, since)?,
        letters: letters::of_id(connection, &key)?,
        waiting: spool::waiting(connection, &key)?,
    })
}

/// Forgets an id, unless the spool has its event.
pub(super) fn forget(batch: &mut Batch<'_>, id: Id) -> rusqlite::Result<Forgotten> {
    let (transaction, id) = (batch.transaction, id.to_be_bytes());
    if !spool::waiting(transaction, &id)?.is_empty() {
        return Ok(Forgotten::InFlight);
    }
    // A row that was moved, and not deleted from `recent` as the move stopped there, was counted once.
    let moved = "SELECT count(*) FROM ids JOIN recent USING (id, at, end, body) WHERE id = ?";
    let moved: i64 = transaction.query_row(moved, [id], |row| row.get(0))?;
    let recent = transaction.execute("DELETE FROM recent WHERE id = ?", [id])?;
    let closed = transaction.execute("DELETE FROM ids WHERE id = ?", [id])? + recent;
    let open = transaction.execute("DELETE FROM facts WHERE id = ?", [id])?;
    batch.add(IDS, moved.min(1) - i64::try_from(closed).unwrap_or(0));
    Ok(if closed + open > 0 { Forgotten::Done } else { Forgotten::Unknown })
}

/// What every row satisfies.
pub(super) fn rules() -> Vec<IntegrityRule> {
    vec![
        IntegrityRule::rows("ids", "have an id that is no hash", "length(id) != 16"),
        IntegrityRule::rows("ids", "have no known end", "end NOT BETWEEN 0 AND 3"),
        IntegrityRule::rows("recent", "have an id that is no hash", "length(id) != 16"),
        IntegrityRule::rows("recent", "have no known end", "end NOT BETWEEN 0 AND 3"),
        IntegrityRule::rows("facts", "have an id that is no hash", "length(id) != 16"),
        IntegrityRule::rows("facts", "have no known kind", "kind NOT BETWEEN 0 AND 2 OR frozen NOT BETWEEN 0 AND 1"),
    ]
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

fn number_of(end: End) -> i64 {
    match end {
        End::Delivered => 0,
        End::DeadLettered => 1,
        End::Ignored => 2,
        End::Stored => 3,
    }
}

fn end_of(number: i64) -> End {
    match number {
        1 => End::DeadLettered,
        2 => End::Ignored,
        3 => End::Stored,
        _ => End::Delivered,
    }
}
