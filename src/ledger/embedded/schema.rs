//! Tables, and what opening a directory checks.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::store;
use crate::durable;
use crate::ledger::DeadLetter;
use crate::ledger::local::{Id, Save, Stored};
use crate::protocol::{End, Known, Target};
use crate::reason::{Failure, Reason};

/// `ids`: a delivery that is done (`cargo bench --bench ledger` tells its size). `facts`: what is known of the targets of one that is not.
/// `kind` grows: 0 frozen, 1 dead, 2 confirmed.
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value ANY) WITHOUT ROWID, STRICT;
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
";

/// How long the writer waits for look-ups to end, so that the write-ahead log can start anew; else it grows on.
const LOOK_UPS_END: Duration = Duration::from_millis(100);
const VERSION: i64 = 1;
const FILE: &str = "ledger.sqlite";

/// What the store held when it was opened.
pub(super) struct Opened {
    pub hash_key: [u8; 16],
    pub elapsed: i64,
    pub ids: u64,
}

/// Takes the directory for this process.
pub(super) fn lock(directory: &Path) -> Result<File, Failure> {
    durable::make(directory)
        .and_then(|()| {
            let mut options = OpenOptions::new();
            options.create(true).truncate(false).write(true).open(directory.join("lock"))
        })
        .map_err(|error| Failure::new(Reason::Store, format!("data directory {}: {error}", directory.display())))
        .and_then(|file| match file.try_lock() {
            Ok(()) => Ok(file),
            Err(error) => Err(Failure::new(
                Reason::Store,
                format!("data directory {}: in use by another process, or not lockable ({error})", directory.display()),
            )),
        })
}

/// Opens the database for writing.
pub(super) fn open(directory: &Path) -> Result<(Connection, Opened), Failure> {
    let (connection, version, key, elapsed, ids) = tables(directory).map_err(|error| store("open", &error))?;
    if version != VERSION {
        return Err(store("open", &format!("made by another version of hookbridge (schema {version}, not {VERSION})")));
    }
    let hash_key = key.try_into().map_err(|_| store("open", &"the hash key is damaged"))?;
    Ok((connection, Opened { hash_key, elapsed, ids: u64::try_from(ids).unwrap_or(0) }))
}

fn tables(directory: &Path) -> rusqlite::Result<(Connection, i64, Vec<u8>, i64, i64)> {
    let mut connection = Connection::open(directory.join(FILE))?;
    connection.pragma_update(None, "page_size", 4096)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // FULL syncs the log at each commit; NORMAL would lose recent ones with the power.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?; // upkeep does that
    connection.pragma_update(None, "cache_size", -65_536)?; // KiB
    connection.busy_timeout(LOOK_UPS_END)?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(TABLES)?;
    let version = meta(&transaction, "version", || VERSION)?;
    let key = meta(&transaction, "hash_key", || rand::random::<[u8; 16]>().to_vec())?;
    let elapsed = meta(&transaction, "elapsed", || 0)?;
    let ids = meta(&transaction, "ids", || 0)?;
    transaction.commit()?;
    Ok((connection, version, key, elapsed, ids))
}

/// Opens the database for reading.
pub(super) fn reader(directory: &Path) -> Result<Connection, Failure> {
    let open = || {
        let connection = Connection::open(directory.join(FILE))?;
        connection.pragma_update(None, "query_only", true)?;
        connection.pragma_update(None, "cache_size", -65_536)?;
        Ok(connection)
    };
    open().map_err(|error: rusqlite::Error| store("open for reading", &error))
}

fn meta<T: rusqlite::types::FromSql + rusqlite::ToSql>(
    transaction: &Transaction<'_>,
    name: &str,
    default: impl FnOnce() -> T,
) -> rusqlite::Result<T> {
    let found = transaction.query_row("SELECT value FROM meta WHERE name = ?", [name], |row| row.get(0)).optional()?;
    if let Some(value) = found {
        return Ok(value);
    }
    let value = default();
    transaction.execute("INSERT INTO meta VALUES (?, ?)", params![name, value])?;
    Ok(value)
}

/// Keeps the store's own counts, in the commit of whatever else is written.
pub(super) fn note(transaction: &Transaction<'_>, elapsed: i64, ids: u64) -> rusqlite::Result<()> {
    let mut update = transaction.prepare_cached("UPDATE meta SET value = ? WHERE name = ?")?;
    update.execute(params![elapsed, "elapsed"])?;
    update.execute(params![i64::try_from(ids).unwrap_or(i64::MAX), "ids"])?;
    Ok(())
}

/// Looks an id up; ids older than `since` are forgotten already.
pub(super) fn load(connection: &Connection, id: Id, since: i64) -> rusqlite::Result<Option<Stored>> {
    let id = id.to_be_bytes();
    let mut done = connection.prepare_cached("SELECT end, body FROM ids WHERE id = ? AND at >= ?")?;
    let closed = done.query_row(params![id, since], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    if let Some((end, body_hash)) = closed {
        return Ok(Some(Stored::Closed { end: end_of(end), body_hash }));
    }
    let mut facts = connection.prepare_cached("SELECT target, kind, reason, frozen FROM facts WHERE id = ?")?;
    let mut rows = facts.query([id])?;
    let mut known = Known::default();
    while let Some(row) = rows.next()? {
        let target = Target(row.get::<_, String>(0)?.into());
        match row.get(1)? {
            2 => drop(known.confirmed.insert(target.clone())),
            1 => {
                let reason =
                    row.get::<_, Option<String>>(2)?.as_deref().and_then(Reason::from_word).unwrap_or(Reason::Failed);
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

/// Keeps what became known; returns by how much the number of ids changed.
pub(super) fn save(transaction: &Transaction<'_>, save: &Save, now: i64) -> rusqlite::Result<i64> {
    let id = save.id.to_be_bytes();
    if let Some(letter) = &save.letter {
        for (target, reason) in &save.dead {
            keep_letter(transaction, &id, target, *reason, letter)?;
        }
    }
    match &save.stored {
        Stored::Closed { end, body_hash } => {
            let values = params![id, now, number_of(*end), body_hash];
            let mut insert = transaction.prepare_cached("INSERT OR IGNORE INTO ids VALUES (?, ?, ?, ?)")?;
            let new = insert.execute(values)?;
            if new == 0 {
                // Expired, but not forgotten yet.
                let mut renew =
                    transaction.prepare_cached("UPDATE ids SET at = ?2, end = ?3, body = ?4 WHERE id = ?1")?;
                renew.execute(values)?;
            }
            transaction.prepare_cached("DELETE FROM facts WHERE id = ?")?.execute([id])?;
            Ok(i64::from(new == 1))
        }
        Stored::Open(known) => {
            keep_facts(transaction, &id, known, now)?;
            Ok(0)
        }
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
        insert.execute(params![id, &*target.0, kind, reason, frozen.contains(target), now])?;
    }
    Ok(())
}

fn keep_letter(
    transaction: &Transaction<'_>,
    id: &[u8; 16],
    target: &Target,
    reason: Reason,
    letter: &DeadLetter,
) -> rusqlite::Result<()> {
    let delivery = &letter.delivery;
    let headers = serde_json::to_string(&delivery.kept_headers()).unwrap_or_default();
    let time = jiff::Timestamp::now().as_second(); // for people; nothing is decided by it
    let mut insert = transaction.prepare_cached(
        "INSERT OR REPLACE INTO dead_letters
         (id, target, source, webhook_id, event, reason, detail, time, headers, body)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    insert.execute(params![
        id,
        &*target.0,
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
