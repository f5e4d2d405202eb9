"""What a worker does with one event, whatever broker it came from: once per id, in one transaction with its result."""

import gzip
import os
import sqlite3
import socket
import urllib.parse
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError

from videogen_events import FileAnalysisCompleted, FileInfo

TOPIC = "file.analysis_completed"
API = os.environ.get("VIDEOGEN_API", "https://api.videogen.io")
ATTEMPTS = int(os.environ.get("ATTEMPTS", "5"))
BACKOFF = float(os.environ.get("BACKOFF", "2"))
WORKER = os.environ.get("HOSTNAME", socket.gethostname())


@dataclass
class Retry:
    """The attempt failed: the next one may begin after this many seconds."""

    after: float


@dataclass
class Dead:
    """No further attempt can help, or there were enough. The reason holds nothing of the body."""

    reason: str


def open_database() -> sqlite3.Connection:
    """SQLite stands for the database that your workers share. Each statement here works on PostgreSQL too."""
    path = os.environ.get("DATABASE", "worker.sqlite")
    database = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("CREATE TABLE IF NOT EXISTS handled (id TEXT PRIMARY KEY, attempts INT NOT NULL, done INT NOT NULL)")
    database.execute("CREATE TABLE IF NOT EXISTS results (id TEXT, file_id TEXT, text TEXT, bytes INT, worker TEXT)")
    return database


def handle(
    database: sqlite3.Connection,
    id: str,
    body: bytes,
    urlexpiry: str | None,
    encoding: str | None = None,
    dataref: str | None = None,
) -> None | Retry | Dead:
    """One attempt. Returns None when the work is done, now or earlier."""
    begin = """INSERT INTO handled VALUES (?, 1, 0)
               ON CONFLICT (id) DO UPDATE SET attempts = attempts + 1 WHERE done = 0 RETURNING attempts"""
    row = database.execute(begin, (id,)).fetchone()
    if row is None:
        return None  # done before
    attempt = row[0]
    if attempt > ATTEMPTS:
        return Dead(f"{ATTEMPTS} attempts did not end")  # each of them took the process with it
    try:
        event = FileAnalysisCompleted.model_validate_json(opened(body, encoding, dataref))
        text, size = work(renewed(event.file, urlexpiry))
    except ValidationError as error:
        return Dead(f"not a {TOPIC}: {error.errors(include_input=False, include_url=False)[0]}")
    except Exception as error:  # whatever it was: another attempt may succeed
        return Retry(BACKOFF * 2 ** (attempt - 1)) if attempt < ATTEMPTS else Dead(f"{type(error).__name__}: {error}")
    with database:  # the result and its id together: a crash leaves both or none
        database.execute("BEGIN IMMEDIATE")
        if database.execute("UPDATE handled SET done = 1 WHERE id = ? AND done = 0", (id,)).rowcount == 1:
            database.execute("INSERT INTO results VALUES (?, ?, ?, ?, ?)", (id, event.fileId, text, size, WORKER))
    return None


def opened(body: bytes, encoding: str | None, dataref: str | None) -> bytes:
    """The signed bytes of an event that was too large for the broker (`oversize` of hookbridge): they are compressed, or in
    the object store. For s3://, use your client of S3."""
    if dataref is not None:
        with urllib.request.urlopen(dataref, timeout=60) as stored:
            return stored.read()
    return gzip.decompress(body) if encoding == "gzip" else body


def renewed(file: FileInfo, urlexpiry: str | None) -> FileInfo:
    """The file with links that work: those of the event, or new ones if the first of them expires within a minute."""
    if urlexpiry is None or datetime.fromisoformat(urlexpiry) > datetime.now(UTC) + timedelta(minutes=1):
        return file
    url = f"{API}/v1/files/{urllib.parse.quote(file.fileId, safe='')}/hydrate"
    headers = {"authorization": f"Bearer {os.environ.get('VIDEOGEN_API_KEY', '')}"}
    with urllib.request.urlopen(urllib.request.Request(url, method="POST", headers=headers), timeout=30) as answer:
        return FileInfo.model_validate_json(answer.read())


def work(file: FileInfo) -> tuple[str | None, int | None]:
    """The work itself, to be replaced by yours: keeps the transcript, and counts the bytes of the file."""
    url = (file.downloadSource and file.downloadSource.url) or file.downloadUrl
    if url is None:
        return file.transcriptText, None
    with urllib.request.urlopen(url, timeout=60) as download:
        return file.transcriptText, sum(len(part) for part in iter(lambda: download.read(65536), b""))
