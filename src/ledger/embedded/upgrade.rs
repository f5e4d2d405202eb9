//! What an older version's tables lack.

use rusqlite::{OptionalExtension as _, Transaction, params};

use super::recent::IDS;
use crate::spool;
use crate::store::{Tallies, meta};

/// Up to version 3, an event was found in the spool by an index of the ids, not by the number that its id has here. The ids
/// get their numbers now; the index is left until a start finds the spool empty, as its events may be many.
pub(super) fn upgrade(transaction: &Transaction<'_>, tallies: &mut Tallies) -> rusqlite::Result<()> {
    let is_indexed = "SELECT EXISTS (SELECT 1 FROM pragma_index_list('spool'))";
    if !transaction.query_row(is_indexed, [], |row| row.get(0))? {
        return Ok(());
    }
    // Whatever the end: an id that expired may have ended anew, under other routes, while its event waited.
    for table in ["recent", "ids"] {
        let number = format!("(SELECT number FROM spool WHERE spool.id = {table}.id)");
        let update =
            format!("UPDATE {table} SET end = {number} << 2 | 3 WHERE end <= 3 AND id IN (SELECT id FROM spool)");
        transaction.execute(&update, [])?;
    }
    // Ids that expired although their events wait.
    let insert = "INSERT OR IGNORE INTO ids SELECT id, ?, number << 2 | 3, 0 FROM spool
                  WHERE id NOT IN (SELECT id FROM recent)";
    let now: i64 = meta(transaction, "elapsed", || 0)?;
    let inserted = transaction.execute(insert, [now])?;
    *tallies.entry(IDS.into()).or_default() += inserted as u64;
    if transaction.query_row("SELECT EXISTS (SELECT 1 FROM spool)", [], |row| row.get(0))? {
        return Ok(());
    }
    // Numbers go on after the last one.
    let last = "SELECT seq FROM sqlite_sequence WHERE name = 'spool'";
    let last: Option<i64> = transaction.query_row(last, [], |row| row.get(0)).optional()?;
    transaction.execute("DROP TABLE spool", [])?;
    transaction.execute_batch(spool::TABLES)?;
    transaction.execute("INSERT INTO sqlite_sequence VALUES ('spool', ?)", params![last.unwrap_or(0)]).map(drop)
}
