//! The directory, its lock, and the database file.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::time::Duration;

use rusqlite::types::{FromSql, ToSql};
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use crate::durable;
use crate::reason::{Failure, Reason};

/// The store's own values and those of its users, by name.
const META: &str = "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value ANY) WITHOUT ROWID, STRICT;";
/// How long a commit waits for look-ups to end, so that the write-ahead log can start anew. Past it, the log grows on.
const BUSY_TIMEOUT: Duration = Duration::from_millis(100);
/// SQLite's page cache of each connection, in KiB (negative by SQLite's convention).
const CACHE_KIB: i64 = -65_536;

/// What the users of a store keep in it.
pub struct Schema {
    /// The database's file name.
    pub file: &'static str,
    /// The version of the tables. A store of another version is refused.
    pub version: i64,
    /// `CREATE TABLE IF NOT EXISTS …` for every table.
    pub tables: &'static str,
    /// Counts that are kept across restarts.
    pub tallies: &'static [&'static str],
    /// Tables whose rows expire.
    pub expiring: &'static [Expiring],
    /// When they expire, in seconds of elapsed time.
    pub window: i64,
}

/// A table whose rows expire. It has a primary key that begins with `id BLOB`, and `at INTEGER`: the elapsed seconds of the
/// row's last change.
pub struct Expiring {
    /// The table's name.
    pub table: &'static str,
    /// The tally that counts its rows, if one does.
    pub tally: Option<&'static str>,
}

/// What a store held when it was opened.
pub(super) struct Opened<T> {
    pub elapsed: i64,
    pub tallies: BTreeMap<&'static str, u64>,
    pub prepared: T,
}

/// Takes the directory for this process.
pub(super) fn lock(directory: &Path) -> Result<File, Failure> {
    let named = |error: &dyn Display| failure(&format!("data directory {}", directory.display()), error);
    let open = || {
        durable::create_dir_all(directory)?;
        OpenOptions::new().create(true).truncate(false).write(true).open(directory.join("lock"))
    };
    let file = open().map_err(|error| named(&error))?;
    file.try_lock()
        .map_err(|error| named(&format_args!("in use by another process, or cannot be locked ({error})")))?;
    Ok(file)
}

/// Opens the database for writing.
pub(super) fn open<T>(
    directory: &Path,
    schema: &Schema,
    prepare: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
) -> Result<(Connection, Opened<T>), Failure> {
    let create = || {
        let mut connection = Connection::open(directory.join(schema.file))?;
        connection.pragma_update(None, "page_size", 4096)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // FULL syncs the log at each commit. NORMAL would lose the latest commits with the power.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "wal_autocheckpoint", 0)?; // upkeep does that
        connection.pragma_update(None, "cache_size", CACHE_KIB)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        let transaction = connection.transaction()?;
        transaction.execute_batch(META)?;
        let version = meta(&transaction, "version", || schema.version)?;
        if version != schema.version {
            return Ok(Err(version));
        }
        transaction.execute_batch(schema.tables)?;
        let elapsed = meta(&transaction, "elapsed", || 0)?;
        let mut tallies = BTreeMap::new();
        for name in schema.tallies {
            let value: i64 = meta(&transaction, name, || 0)?;
            tallies.insert(*name, u64::try_from(value).unwrap_or(0));
        }
        let prepared = prepare(&transaction)?;
        transaction.commit()?;
        Ok(Ok((connection, Opened { elapsed, tallies, prepared })))
    };
    let opened = create().map_err(|error: rusqlite::Error| failure("open", &error))?;
    opened.map_err(|found| {
        let expected = schema.version;
        failure("open", &format!("made by another version of hookbridge (schema {found}, not {expected})"))
    })
}

/// Opens the database for reading.
pub(super) fn reader(directory: &Path, schema: &Schema) -> Result<Connection, Failure> {
    let open = || {
        let connection = Connection::open(directory.join(schema.file))?;
        connection.pragma_update(None, "query_only", true)?;
        connection.pragma_update(None, "cache_size", CACHE_KIB)?;
        Ok(connection)
    };
    open().map_err(|error: rusqlite::Error| failure("open for reading", &error))
}

/// A value that is kept under a name; the default is stored where there is none.
///
/// # Errors
/// What SQLite reports.
pub fn meta<T: FromSql + ToSql>(
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

/// Changes a value that is there.
pub(super) fn set_meta(transaction: &Transaction<'_>, name: &str, value: i64) -> rusqlite::Result<()> {
    transaction.prepare_cached("UPDATE meta SET value = ? WHERE name = ?")?.execute(params![value, name]).map(drop)
}

/// Whether the directory can be written and synced. A store that is open there is not disturbed.
///
/// # Errors
/// It cannot.
pub fn probe(directory: &Path) -> Result<(), Failure> {
    let path = directory.join("probe");
    let write = || {
        fs::create_dir_all(directory)?;
        fs::write(&path, b"probe\n")?;
        File::open(&path)?.sync_all()?;
        fs::remove_file(&path)
    };
    write().map_err(|error| failure(&directory.display().to_string(), &error))
}

/// An error of the store, for the log: SQLite's texts hold no values.
pub(super) fn failure(doing: &str, error: &dyn Display) -> Failure {
    Failure::new(Reason::Store, format!("{doing}: {error}"))
}
