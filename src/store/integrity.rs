//! Whether a database is whole: SQLite's own check, and what the users of a store expect of their rows. And copies of it.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::database::{LOCK, Schema, failure, log_of, refused_version, version};
use super::disk::explained;
use crate::durable::{self, PRIVATE_FILE};
use crate::reason::Failure;

/// Most findings of SQLite that are reported.
const MOST: usize = 20;

/// Something that no row may be.
pub struct IntegrityRule {
    table: &'static str,
    about: &'static str,
    /// Counts the rows that break it.
    sql: String,
}

impl IntegrityRule {
    /// A rule that rows of a table break which meet a condition. `about` goes after the number of rows.
    pub fn rows(table: &'static str, about: &'static str, condition: &str) -> Self {
        IntegrityRule { table, about, sql: format!("SELECT count(*) FROM {table} WHERE {condition}") }
    }
}

/// Checks the store of a directory that no process has open, without changing it. Returns what is wrong.
///
/// # Errors
/// There is no store, a process has it open, a newer version made it, or it cannot be read at all.
pub fn check(directory: &Path, schema: &Schema, rules: &[IntegrityRule]) -> Result<Vec<String>, Failure> {
    exists(directory, schema)?;
    let _lock = lock_unchanged(directory)?;
    check_file(&directory.join(schema.file), schema, rules)
}

/// Whether a store is there.
///
/// # Errors
/// It is not, or the system does not tell.
pub fn exists(directory: &Path, schema: &Schema) -> Result<(), Failure> {
    if is_there(directory, schema)? {
        return Ok(());
    }
    Err(failure(&directory.join(schema.file).display().to_string(), &"there is no store here: check --data"))
}

/// Whether a store is there.
///
/// # Errors
/// The system does not tell.
pub fn is_there(directory: &Path, schema: &Schema) -> Result<bool, Failure> {
    let path = directory.join(schema.file);
    match fs::metadata(&path) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
        Err(error) => Err(failure(&path.display().to_string(), &error)),
    }
}

/// Copies the store of a directory to a new file, whether a process has it open or not, and checks the copy.
///
/// # Errors
/// The file exists, the store cannot be read, the file cannot be written, or the copy is not whole. Then there is no file.
pub fn back_up(directory: &Path, file: &Path, schema: &Schema, rules: &[IntegrityRule]) -> Result<u64, Failure> {
    exists(directory, schema)?;
    let named = |error: &dyn std::fmt::Display| failure(&file.display().to_string(), error);
    if fs::symlink_metadata(file).is_ok() {
        return Err(named(&"it exists, and is not overwritten"));
    }
    let target = std::path::absolute(file).map_err(|error| named(&error))?;
    let parent = target.parent().unwrap_or(Path::new("/"));
    // Under another name until it is whole.
    let partial = parent.join(format!(".hookbridge-backup.{:016x}", rand::random::<u64>()));
    let created = File::options().write(true).create_new(true).mode(PRIVATE_FILE).open(&partial);
    created.map_err(|error| failure(&partial.display().to_string(), &error))?;
    let copied = || {
        let source = read_only(&directory.join(schema.file))?;
        let text = partial.to_str().ok_or_else(|| named(&"the path is not UTF-8"))?;
        source.execute("VACUUM INTO ?", [text]).map_err(|error| named(&explained(&error)))?;
        let found = check_file(&partial, schema, rules)?;
        if let Some(first) = found.first() {
            return Err(named(&format_args!("the copy is not whole, as the store is not: {first}")));
        }
        let copy = File::open(&partial).and_then(|copy| copy.sync_all().and(copy.metadata()));
        let bytes = copy.map_err(|error| named(&error))?.len();
        // Fails where a file of that name has been created meanwhile.
        match fs::hard_link(&partial, &target) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                // A file system without links.
                File::options().write(true).create_new(true).open(&target).map_err(|error| named(&error))?;
                fs::rename(&partial, &target).map_err(|error| named(&error))?;
            }
            linked => linked.map_err(|error| named(&error))?,
        }
        Ok(bytes)
    };
    let result = copied();
    let _ = fs::remove_file(&partial); // the copy has its name by now, or is of no use
    result.and_then(|bytes| durable::sync(parent).map(|()| bytes).map_err(|error| named(&error)))
}

/// Looks rows up in the store of a directory, whether a process has it open or not. Changes nothing that it holds.
///
/// # Errors
/// There is no store, another version made it that is refused, or it cannot be read.
pub fn look_up<T>(
    directory: &Path,
    schema: &Schema,
    look_up: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> Result<T, Failure> {
    let path = directory.join(schema.file);
    let connection = read_only(&path)?;
    let named = |error: &dyn std::fmt::Display| failure(&path.display().to_string(), error);
    let found = || {
        // A process that was killed before its first commit leaves an empty database.
        if connection.table_exists(None, "meta")?
            && let Some(refused) = refused_version(schema, version(&connection)?)
        {
            return Ok(Err(named(&refused)));
        }
        look_up(&connection).map(Ok)
    };
    found().map_err(|error: rusqlite::Error| named(&explained(&error)))?
}

/// The directory's lock, if there is one, without a trace of this process in it.
fn lock_unchanged(directory: &Path) -> Result<Option<File>, Failure> {
    let path = directory.join(LOCK);
    let named = |error: &dyn std::fmt::Display| failure(&format!("data directory {}", directory.display()), error);
    let lock = match File::open(&path) {
        Ok(lock) => lock,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(named(&error)),
    };
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => {
            Err(named(&"in use by another process: stop it, or check a copy that `hookbridge store backup` makes"))
        }
        Err(TryLockError::Error(error)) => Err(named(&error)),
    }
}

fn read_only(path: &Path) -> Result<Connection, Failure> {
    let named = |error: rusqlite::Error| failure(&format!("open {}", path.display()), &explained(&error));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = |path: &Path, flags| -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(Duration::from_secs(10))?;
        // The first read opens the log, too.
        connection.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(()))?;
        Ok(connection)
    };
    match open(path, flags) {
        // On a disk that cannot be written, SQLite cannot create the index of the log. Without a log, none is needed.
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::CannotOpen) && has_no_log(path) => {
            let encode = |byte: &u8| match byte {
                b'%' | b'?' | b'#' => format!("%{byte:02x}"),
                byte => char::from(*byte).to_string(),
            };
            let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
            let Some(text) = absolute.to_str().filter(|text| text.is_ascii()) else { return Err(named(error)) };
            let uri: String = text.as_bytes().iter().map(encode).collect();
            let uri = format!("file:{uri}?immutable=1");
            open(Path::new(&uri), flags | OpenFlags::SQLITE_OPEN_URI).map_err(named)
        }
        opened => opened.map_err(named),
    }
}

/// Whether the database file has everything.
fn has_no_log(path: &Path) -> bool {
    fs::metadata(log_of(path)).map_or_else(|error| error.kind() == ErrorKind::NotFound, |log| log.len() == 0)
}

fn check_file(path: &Path, schema: &Schema, rules: &[IntegrityRule]) -> Result<Vec<String>, Failure> {
    let connection = read_only(path)?;
    let named = |error: rusqlite::Error| failure(&path.display().to_string(), &explained(&error));
    let mut findings = pragma(&connection).map_err(named)?;
    if !findings.is_empty() {
        return Ok(findings);
    }
    let version = version(&connection).map_err(named)?;
    if let Some(refused) = refused_version(schema, version) {
        return Err(failure(&path.display().to_string(), &refused));
    }
    for IntegrityRule { table, about, sql } in rules {
        // An older store may lack tables: they are created when it is opened.
        if version < schema.version && !connection.table_exists(None, *table).map_err(named)? {
            continue;
        }
        match connection.query_row(sql, [], |row| row.get::<_, i64>(0)) {
            Ok(0) => {}
            Ok(rows) => findings.push(format!("{table}: {rows} rows {about}")),
            Err(error) => findings.push(format!("{table}: {error}")),
        }
    }
    Ok(findings)
}

/// What SQLite finds in pages and indexes.
fn pragma(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut check = connection.prepare(&format!("PRAGMA integrity_check({MOST})"))?;
    let found: Vec<String> = check.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    Ok(if found == ["ok"] { Vec::new() } else { found })
}
