//! The directory, its lock, and the database file.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::types::{FromSql, ToSql};
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::disk::{check_local, explained};
use crate::durable::{self, Identity, PRIVATE_FILE};
use crate::fail_point::{Step, fail_point};
use crate::reason::{Failure, Reason};

/// The store's own values and those of its users, by name.
const META: &str = "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value ANY) WITHOUT ROWID, STRICT;";
/// How long a commit waits for look-ups to end, so that the write-ahead log can start anew. Past it, the log grows on.
const BUSY_TIMEOUT: Duration = Duration::from_millis(100);
/// SQLite's page cache of the writer and of each of the two readers, in KiB (negative by SQLite's convention). A spool fills
/// them; larger ones make it no faster.
const WRITER_CACHE: i64 = -8_192;
const READER_CACHE: i64 = -4_096;
/// Most bytes of the write-ahead log's file that are kept when the log starts anew. Under full load it has some 30 MiB.
const LOG_SPACE: i64 = 64 << 20;

/// What becomes of the file of a write-ahead log that was moved into the database.
#[derive(Clone, Copy, Debug)]
pub(super) enum LogSpace {
    /// The next commits overwrite it. Overwriting and syncing takes a third less time than appending, and the checkpoint
    /// does not wait until the file system has freed the blocks.
    Kept,
    /// Others may need it.
    Freed,
}

/// What the users of a store keep in it.
pub struct Schema {
    /// The database's file name.
    pub file: &'static str,
    /// The version of the tables. A store of a newer version is refused.
    pub version: i64,
    /// The oldest version that this one only adds tables to. Older stores are refused.
    pub oldest: i64,
    /// `CREATE TABLE IF NOT EXISTS …` for every table.
    pub tables: &'static [&'static str],
    /// Counts that are kept across restarts.
    pub tallies: &'static [&'static str],
    /// Tables whose rows expire.
    pub expiring: &'static [Expiring],
    /// When they expire, in seconds of elapsed time.
    pub window: i64,
}

/// Counts that writes change, by name.
pub type Tallies = BTreeMap<Cow<'static, str>, u64>;

/// A table whose rows expire. It has a primary key that begins with `id BLOB`, and `at INTEGER`: the elapsed seconds of the
/// row's last change.
pub struct Expiring {
    /// The table's name.
    pub table: &'static str,
    /// The SQL condition of rows that do not expire. It may end at any time: `at` is set anew when half of the window is
    /// over, so that they stay for another half at least.
    pub kept_while: &'static str,
    /// The tally that counts its rows, if one does.
    pub tally: Option<&'static str>,
}

/// The name of the file that is locked.
pub(super) const LOCK: &str = "lock";

/// Whether the data directory still leads to the files that were opened: whatever is written to a file without a path is
/// lost with the process.
pub(super) struct Presence(Vec<(PathBuf, Identity, &'static str)>);

/// What to do about a file that is gone.
const PUT_BACK: &str = "put it back, or restart hookbridge";
/// The writer moves what an open log holds into the database. SQLite would apply an older copy to the newer database.
const LEAVE: &str = "restart hookbridge, and do not put it back: it is older than the database";

impl Presence {
    fn add(&mut self, path: PathBuf, advice: &'static str) -> Result<(), Failure> {
        let identity = durable::identity(&path).map_err(|error| failure(&path.display().to_string(), &error))?;
        self.0.push((path, identity, advice));
        Ok(())
    }

    /// # Errors
    /// Which file was removed or replaced.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let gone = self.0.iter().find(|(path, identity, _)| durable::identity(path).ok() != Some(*identity));
        gone.map_or(Ok(()), |(path, _, advice)| {
            let why = format!("it was removed or replaced while hookbridge runs: {advice}");
            Err(failure(&path.display().to_string(), &why))
        })
    }
}

/// What a store held when it was opened.
pub(super) struct Opened<T> {
    pub presence: Presence,
    pub elapsed: i64,
    pub tallies: Tallies,
    pub prepared: T,
}

/// Takes the directory for this process.
pub(super) fn lock(directory: &Path) -> Result<File, Failure> {
    let named = |error: &dyn Display| failure(&format!("data directory {}", directory.display()), error);
    let locked = durable::create_dir_all(directory).and_then(|()| {
        durable::warn_if_public(directory);
        durable::lock(&directory.join(LOCK))
    });
    let lock = locked.map_err(|error| named(&error))?;
    check_local(directory).map(|()| lock).map_err(|why| named(&why))
}

/// Whether a process has the store of a directory open, as far as the lock tells. Several may ask at the same time.
pub fn is_in_use(directory: &Path) -> bool {
    let lock = File::open(directory.join(LOCK));
    lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Opens the database for writing.
pub(super) fn open<T>(
    directory: &Path,
    schema: &Schema,
    prepare: impl FnOnce(&Transaction<'_>, &mut Tallies) -> rusqlite::Result<T>,
) -> Result<(Connection, Opened<T>), Failure> {
    let path = directory.join(schema.file);
    let named = |error: &dyn Display| failure(&format!("open {}", path.display()), error);
    // Created here, as SQLite gives its files the mode of the database, and that of a new one is not private.
    let exists = path.exists();
    let created = OpenOptions::new().create(true).append(true).mode(PRIVATE_FILE).open(&path);
    created.map_err(|error| named(&error))?;
    if exists {
        durable::warn_if_public(&path);
    }
    let mut presence = Presence(Vec::new());
    presence.add(path.clone(), PUT_BACK)?;
    presence.add(directory.join(LOCK), PUT_BACK)?;
    let create = || {
        let mut connection = Connection::open(&path)?;
        connection.pragma_update(None, "page_size", 4096)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // FULL syncs the log at each commit. NORMAL would lose the latest commits with the power.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "wal_autocheckpoint", 0)?; // upkeep does that
        connection.pragma_update(None, "journal_size_limit", LOG_SPACE)?;
        connection.pragma_update(None, "cache_size", WRITER_CACHE)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_prepared_statement_cache_capacity(64); // more than there are
        // What an earlier process left in the log must not keep a full volume full.
        checkpoint(&connection, LogSpace::Freed)?;
        let transaction = connection.transaction()?;
        let extended = extend(&transaction, schema, prepare)?;
        if extended.is_ok() {
            transaction.commit()?;
        } else {
            drop(transaction);
        }
        Ok(extended.map(|extended| (connection, extended)))
    };
    let opened = create().map_err(|error: rusqlite::Error| named(&explained(&error)))?;
    let (connection, Extended { elapsed, tallies, prepared }) = opened.map_err(|refused| named(&refused))?;
    // The log is there since the first read. SQLite deletes it with the last connection.
    presence.add(log_of(&path), LEAVE)?;
    Ok((connection, Opened { presence, elapsed, tallies, prepared }))
}

/// What a store holds.
struct Extended<T> {
    elapsed: i64,
    tallies: Tallies,
    prepared: T,
}

/// Creates the tables that are missing; or tells why a store of this version is refused.
fn extend<T>(
    transaction: &Transaction<'_>,
    schema: &Schema,
    prepare: impl FnOnce(&Transaction<'_>, &mut Tallies) -> rusqlite::Result<T>,
) -> rusqlite::Result<Result<Extended<T>, String>> {
    transaction.execute_batch(META)?;
    let version = meta(transaction, "version", || schema.version)?;
    if let Some(refused) = refused_version(schema, version) {
        return Ok(Err(refused));
    }
    for tables in schema.tables {
        transaction.execute_batch(tables)?;
    }
    set_meta(transaction, "version", schema.version)?;
    let elapsed = meta(transaction, "elapsed", || 0)?;
    let mut tallies = Tallies::new();
    for name in schema.tallies {
        let value: i64 = meta(transaction, name, || 0)?;
        tallies.insert((*name).into(), u64::try_from(value).unwrap_or(0));
    }
    let prepared = prepare(transaction, &mut tallies)?;
    Ok(Ok(Extended { elapsed, tallies, prepared }))
}

/// The write-ahead log of a database. SQLite follows links to the database, and keeps the log beside the file.
pub(super) fn log_of(database: &Path) -> PathBuf {
    let mut log = fs::canonicalize(database).unwrap_or_else(|_| database.to_owned()).into_os_string();
    log.push("-wal");
    log.into()
}

/// The version of a store.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT value FROM meta WHERE name = 'version'", [], |row| row.get(0))
}

/// Why a store of a version is refused, if it is.
pub(super) fn refused_version(schema: &Schema, found: i64) -> Option<String> {
    let which = match () {
        () if found > schema.version => "a newer",
        () if found < schema.oldest => "an older",
        () => return None,
    };
    Some(format!(
        "made by {which} version of hookbridge (schema {found}, not {}), and left unchanged: use that version, or another \
         directory",
        schema.version
    ))
}

/// Whether the store could be opened in a directory, and how; changes nothing but an absent directory, which is created.
///
/// # Errors
/// What `open` would report.
pub fn inspect(directory: &Path, schema: &Schema) -> Result<&'static str, Failure> {
    let path = directory.join(schema.file);
    let named = |error: &dyn Display| failure(&path.display().to_string(), error);
    let probe = directory.join("probe");
    let write = || {
        durable::create_dir_all(directory)?;
        fs::write(&probe, b"probe\n")?;
        File::open(&probe)?.sync_all()?;
        fs::remove_file(&probe)
    };
    write().map_err(|error| failure(&directory.display().to_string(), &error))?;
    if !path.exists() {
        return check_local(directory).map(|()| "can be created").map_err(|why| named(&why));
    }
    match lock(directory) {
        Ok(_lock) => {
            let extended = || {
                let mut connection = Connection::open(&path)?;
                // Rolled back.
                let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                extend(&transaction, schema, |_, _| Ok(()))
            };
            let extended = extended().map_err(|error: rusqlite::Error| named(&explained(&error)))?;
            extended.map(|_| "can be opened").map_err(|refused| named(&refused))
        }
        Err(failure) if !is_in_use(directory) => Err(failure),
        Err(_) => {
            let version = version(&reader(directory, schema)?).map_err(|error| named(&error))?;
            let refused = refused_version(schema, version).map_or(Ok(()), |refused| Err(named(&refused)));
            refused.map(|()| "can be read; another process has it open")
        }
    }
}

/// Opens the database for reading.
pub(super) fn reader(directory: &Path, schema: &Schema) -> Result<Connection, Failure> {
    let open = || {
        let connection = Connection::open(directory.join(schema.file))?;
        connection.pragma_update(None, "query_only", true)?;
        connection.pragma_update(None, "cache_size", READER_CACHE)?;
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

/// Moves the whole write-ahead log into the database, so that it starts anew, if no look-up is in the way.
pub(super) fn checkpoint(connection: &Connection, space: LogSpace) -> rusqlite::Result<()> {
    let pragma = match space {
        LogSpace::Kept => "PRAGMA wal_checkpoint(RESTART)",
        LogSpace::Freed => "PRAGMA wal_checkpoint(TRUNCATE)",
    };
    connection.query_row(pragma, [], |_| Ok(()))?;
    fail_point(Step::Checkpointed);
    Ok(())
}

/// An error of the store, for the log: SQLite's texts hold no values.
pub(super) fn failure(doing: &str, error: &dyn Display) -> Failure {
    Failure::new(Reason::Store, format!("{doing}: {error}"))
}
