//! Dead letters in the store of the data directory.

use rusqlite::{OptionalExtension as _, Row, Transaction, params};

use crate::dead_letter::DeadLetter;
use crate::protocol::Target;
use crate::reason::Reason;
use crate::store::{Batch, Store, Tallies};

/// The table.
pub const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS dead_letters (
        number INTEGER PRIMARY KEY, id BLOB NOT NULL, target TEXT NOT NULL, source TEXT NOT NULL,
        webhook_id TEXT NOT NULL, event TEXT, reason TEXT NOT NULL, detail TEXT NOT NULL, time INTEGER NOT NULL,
        headers TEXT NOT NULL, body BLOB NOT NULL, UNIQUE (id, target)
    ) STRICT;
";
/// How the tallies begin.
const TALLIES: &str = "dead letters: ";

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

/// Counts the dead letters when a store is opened.
///
/// # Errors
/// What SQLite reports.
pub fn count(transaction: &Transaction<'_>, tallies: &mut Tallies) -> rusqlite::Result<()> {
    let mut select =
        transaction.prepare("SELECT source, reason, count(*) FROM dead_letters GROUP BY source, reason")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let (source, reason): (String, String) = (row.get(0)?, row.get(1)?);
        tallies.insert(tally(&source, &reason).into(), row.get::<_, u32>(2)?.into());
    }
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
    let headers = serde_json::to_string(&delivery.kept_headers()).unwrap_or_default();
    let time = jiff::Timestamp::now().as_second(); // for people; nothing is decided by it
    let sql = "DELETE FROM dead_letters WHERE id = ? AND target = ? RETURNING source, reason";
    let tally_of = |row: &Row<'_>| Ok(tally(row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?));
    let mut replace = batch.transaction.prepare_cached(sql)?;
    if let Some(replaced) = replace.query_row(params![id, target.to_string()], tally_of).optional()? {
        batch.add(replaced, -1);
    }
    batch.add(tally(&delivery.key.source, reason.word()), 1);
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
