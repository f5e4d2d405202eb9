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

/// Its rows expire, except the ids of events that wait.
pub(super) const EXPIRING: &[Expiring] = &[
    Expiring { table: "ids", kept_while: "EXISTS (SELECT 1 FROM spool WHERE number = end >> 2)", tally: Some(IDS) },
    Expiring { table: "facts", kept_while: "FALSE", tally: None },
];

/// `ids`: a delivery that has ended, once it is no longer `recent` (`cargo bench --bench compare -- growth ids` shows its size).
/// `end` has a number for how it ended, and above its lowest two bits the number of the event that was stored in the spool.
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
    if let Some((end, body_hash)) = closed(connection, recent, id, since)? {
        return Ok(Some(Stored::Closed { end: end_of(end), body_hash }));
    }
    let id = id.to_be_bytes();
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

/// `end` and `body` of an id that has ended.
fn closed(connection: &Connection, recent: &RecentIds, id: Id, since: i64) -> rusqlite::Result<Option<(i64, u32)>> {
    let row = match recent.find(connection, id)? {
        Some(row) => Some((row.at, row.end, row.body)),
        None => {
            let mut ended = connection.prepare_cached("SELECT at, end, body FROM ids WHERE id = ?")?;
            ended.query_row([id.to_be_bytes()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?
        }
    };
    match row {
        Some((at, end, body)) if at >= since || spool::has(connection, event_of(end))? => Ok(Some((end, body))),
        _ => Ok(None),
    }
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
    let event = save.accepted.as_ref().map(|accepted| spool::insert(batch, &id, accepted)).transpose()?;
    match &save.stored {
        Stored::Closed { end, body_hash } => {
            // An event that was accepted before has its row, which has its number.
            if *end != End::Stored || event.is_some() {
                recent.append(batch, &id, number_of(*end, event), *body_hash)?;
            }
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
    let closed = closed(connection, recent, id, since)?;
    Ok(Background {
        stored: load(connection, recent, id, since)?,
        letters: letters::of_id(connection, &key)?,
        waiting: closed.map_or(Ok(Vec::new()), |(end, _)| spool::waiting(connection, event_of(end)))?,
    })
}

/// Forgets an id, unless the spool has its event.
pub(super) fn forget(batch: &mut Batch<'_>, id: Id) -> rusqlite::Result<Forgotten> {
    let (transaction, id) = (batch.transaction, id.to_be_bytes());
    let waiting = "SELECT EXISTS (SELECT 1 FROM spool WHERE number IN
                   (SELECT end >> 2 FROM recent WHERE id = ?1 UNION SELECT end >> 2 FROM ids WHERE id = ?1))";
    if transaction.query_row(waiting, [id], |row| row.get(0))? {
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
        IntegrityRule::rows("ids", "have an id that is not a hash", "length(id) != 16"),
        IntegrityRule::rows("ids", "have an unknown end", UNKNOWN_END),
        IntegrityRule::rows("recent", "have an id that is not a hash", "length(id) != 16"),
        IntegrityRule::rows("recent", "have an unknown end", UNKNOWN_END),
        IntegrityRule::rows("facts", "have an id that is not a hash", "length(id) != 16"),
        IntegrityRule::rows("facts", "have an unknown kind", "kind NOT BETWEEN 0 AND 2 OR frozen NOT BETWEEN 0 AND 1"),
    ]
}

fn keep_facts(transaction: &Transaction<'_>, id: &[u8; 16], known: &Known, now: i64) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO facts VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id, target) DO UPDATE SET
         kind = max(kind, excluded.kind), frozen = max(frozen, excluded.frozen), reason = excluded.reason,
         at = excluded.at",
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

/// The condition of rows whose end no version writes.
const UNKNOWN_END: &str = "end < 0 OR (end > 3 AND end & 3 != 3)";

/// What is written for an end, and for the event that the spool took.
fn number_of(end: End, event: Option<i64>) -> i64 {
    let kind = match end {
        End::Delivered => 0,
        End::DeadLettered => 1,
        End::Ignored => 2,
        End::Stored => 3,
    };
    event.unwrap_or(0) << 2 | kind
}

/// The number of the event; 0, which none has, if the spool took none.
fn event_of(number: i64) -> i64 {
    number >> 2
}

fn end_of(number: i64) -> End {
    match number & 3 {
        1 => End::DeadLettered,
        2 => End::Ignored,
        3 => End::Stored,
        _ => End::Delivered,
    }
}
