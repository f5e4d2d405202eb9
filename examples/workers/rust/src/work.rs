//! What a worker does with one event, whatever broker it came from: once per id, in one transaction with its result.

use std::env::var;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures_util::TryStreamExt as _;
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};

use crate::videogen_events::{FileAnalysisCompleted, FileInfo};

pub const TOPIC: &str = "file.analysis_completed";

pub enum Outcome {
    /// Done, now or earlier.
    Done,
    /// The attempt failed: the next one may begin after this time.
    Retry(Duration),
    /// No further attempt can help, or there were enough. The reason holds nothing of the body.
    Dead(String),
}

pub struct Worker {
    database: Connection,
    http: reqwest::Client,
    api: String,
    attempts: u32,
    backoff: f64,
    name: String,
}

impl Worker {
    /// SQLite stands for the database that your workers share. Each statement here works on PostgreSQL too.
    pub fn open() -> anyhow::Result<Worker> {
        let database = Connection::open(var("DATABASE").unwrap_or("worker.sqlite".into()))?;
        database.busy_timeout(Duration::from_secs(30))?;
        database.execute_batch(
            "PRAGMA journal_mode = WAL;
             CREATE TABLE IF NOT EXISTS handled (id TEXT PRIMARY KEY, attempts INT NOT NULL, done INT NOT NULL);
             CREATE TABLE IF NOT EXISTS results (id TEXT, file_id TEXT, text TEXT, bytes INT, worker TEXT)",
        )?;
        let http = reqwest::Client::builder().timeout(Duration::from_secs(60)).build()?;
        let api = var("VIDEOGEN_API").unwrap_or("https://api.videogen.io".into());
        let attempts = var("ATTEMPTS").map_or(Ok(5), |text| text.parse()).context("ATTEMPTS")?;
        let backoff = var("BACKOFF").map_or(Ok(2.0), |text| text.parse()).context("BACKOFF")?;
        Ok(Worker { database, http, api, attempts, backoff, name: var("HOSTNAME").unwrap_or_default() })
    }

    /// One attempt.
    pub async fn handle(&mut self, id: &str, body: &[u8], urlexpiry: Option<&str>) -> anyhow::Result<Outcome> {
        let begin = "INSERT INTO handled VALUES (?, 1, 0)
            ON CONFLICT (id) DO UPDATE SET attempts = attempts + 1 WHERE done = 0 RETURNING attempts";
        let attempt: Option<u32> = self.database.query_row(begin, [id], |row| row.get(0)).optional()?;
        let Some(attempt) = attempt else { return Ok(Outcome::Done) }; // done before
        if attempt > self.attempts {
            // Each of them took the process with it.
            return Ok(Outcome::Dead(format!("{} attempts did not end", self.attempts)));
        }
        let event: FileAnalysisCompleted = match serde_json::from_slice(body) {
            Ok(event) => event,
            Err(error) => return Ok(Outcome::Dead(format!("not a {TOPIC}, column {}", error.column()))),
        };
        let file_id = event.file_id;
        let worked = async { self.work(self.renewed(event.file, urlexpiry).await?).await };
        match worked.await {
            Ok((text, bytes)) => self.finish(id, &file_id, text, bytes).map(|()| Outcome::Done),
            Err(_) if attempt < self.attempts => {
                Ok(Outcome::Retry(Duration::from_secs_f64(self.backoff * f64::from(1 << (attempt - 1)))))
            }
            Err(error) => Ok(Outcome::Dead(format!("{error:#}"))),
        }
    }

    /// The result and its id together: a crash leaves both or none.
    fn finish(&mut self, id: &str, file_id: &str, text: Option<String>, bytes: Option<u64>) -> anyhow::Result<()> {
        let transaction = self.database.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if transaction.execute("UPDATE handled SET done = 1 WHERE id = ? AND done = 0", [id])? == 1 {
            let result = params![id, file_id, text, bytes.map(|it| it as i64), self.name];
            transaction.execute("INSERT INTO results VALUES (?, ?, ?, ?, ?)", result)?;
        }
        Ok(transaction.commit()?)
    }

    /// The file with links that work: those of the event, or new ones if the first of them expires within a minute.
    async fn renewed(&self, file: FileInfo, urlexpiry: Option<&str>) -> anyhow::Result<FileInfo> {
        let expiry: Option<jiff::Timestamp> = urlexpiry.map(str::parse).transpose()?;
        if expiry.is_none_or(|expiry| expiry > jiff::Timestamp::now() + Duration::from_secs(60)) {
            return Ok(file);
        }
        let mut url = reqwest::Url::parse(&self.api)?;
        url.path_segments_mut().ok().context("VIDEOGEN_API")?.extend(["v1", "files", &file.file_id, "hydrate"]);
        let request = self.http.post(url).bearer_auth(var("VIDEOGEN_API_KEY").unwrap_or_default());
        let answer = request.send().await.map_err(reqwest::Error::without_url)?;
        if !answer.status().is_success() {
            bail!("hydrate: HTTP {}", answer.status());
        }
        Ok(answer.json().await.map_err(reqwest::Error::without_url)?)
    }

    /// The work itself, to be replaced by yours: keeps the transcript, and counts the bytes of the file.
    async fn work(&self, file: FileInfo) -> anyhow::Result<(Option<String>, Option<u64>)> {
        let url = file.download_source.and_then(|source| source.url).or(file.download_url);
        let Some(url) = url else { return Ok((file.transcript_text, None)) };
        let answer = self.http.get(url).send().await.map_err(reqwest::Error::without_url)?;
        if !answer.status().is_success() {
            bail!("download: HTTP {}", answer.status());
        }
        let mut parts = answer.bytes_stream().map_err(reqwest::Error::without_url);
        let mut bytes = 0;
        while let Some(part) = parts.try_next().await? {
            bytes += part.len() as u64;
        }
        Ok((file.transcript_text, Some(bytes)))
    }
}
