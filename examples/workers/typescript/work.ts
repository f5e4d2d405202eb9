// What a worker does with one event, whatever broker it came from: once per id, in one transaction with its result.

import { readFile } from "node:fs/promises";
import { hostname } from "node:os";
import { DatabaseSync } from "node:sqlite";
import { gunzipSync } from "node:zlib";
import type { FileAnalysisCompleted, FileInfo } from "./videogen-events.ts";

export const TOPIC = "file.analysis_completed";
const API = process.env.VIDEOGEN_API ?? "https://api.videogen.io";
const ATTEMPTS = Number(process.env.ATTEMPTS ?? 5);
const BACKOFF = Number(process.env.BACKOFF ?? 2);
const WORKER = process.env.HOSTNAME ?? hostname();

/** Done now or earlier; to be tried again after some seconds; or dead, for a reason that holds nothing of the body. */
export type Outcome = { kind: "done" } | { kind: "retry"; after: number } | { kind: "dead"; reason: string };

/** SQLite stands for the database that your workers share. Each statement here works on PostgreSQL too. */
const database = new DatabaseSync(process.env.DATABASE ?? "worker.sqlite", { timeout: 30_000 });
database.exec("PRAGMA journal_mode = WAL");
database.exec("CREATE TABLE IF NOT EXISTS handled (id TEXT PRIMARY KEY, attempts INT NOT NULL, done INT NOT NULL)");
database.exec("CREATE TABLE IF NOT EXISTS results (id TEXT, file_id TEXT, text TEXT, bytes INT, worker TEXT)");
const begin = database.prepare(`INSERT INTO handled VALUES (?, 1, 0)
  ON CONFLICT (id) DO UPDATE SET attempts = attempts + 1 WHERE done = 0 RETURNING attempts`);
const finish = database.prepare("UPDATE handled SET done = 1 WHERE id = ? AND done = 0");
const keep = database.prepare("INSERT INTO results VALUES (?, ?, ?, ?, ?)");

/** What an event has beside its id and body. */
export type More = { urlexpiry?: string; encoding?: string; dataref?: string };

/** One attempt. */
export async function handle(id: string, body: Uint8Array, more: More): Promise<Outcome> {
  const row = begin.get(id);
  if (row === undefined) return { kind: "done" }; // done before
  const attempt = Number(row.attempts);
  // Each of them took the process with it.
  if (attempt > ATTEMPTS) return { kind: "dead", reason: `${ATTEMPTS} attempts did not end` };
  try {
    const event = parsed(await opened(body, more));
    if (event === undefined) return { kind: "dead", reason: `not a ${TOPIC}` };
    const { text, bytes } = await work(await renewed(event.file, more.urlexpiry));
    database.exec("BEGIN IMMEDIATE"); // the result and its id together: a crash leaves both or none
    try {
      if (finish.run(id).changes === 1) keep.run(id, event.fileId, text, bytes, WORKER);
      database.exec("COMMIT");
    } catch (error) {
      database.exec("ROLLBACK");
      throw error;
    }
    return { kind: "done" };
  } catch (error) {
    if (attempt < ATTEMPTS) return { kind: "retry", after: BACKOFF * 2 ** (attempt - 1) };
    return { kind: "dead", reason: String(error) };
  }
}

/**
 * The signed bytes of an event that was too large for the broker (`oversize` of hookbridge): they are compressed, or in the
 * object store. For s3://, use your client of S3.
 */
async function opened(body: Uint8Array, { encoding, dataref }: More): Promise<Uint8Array> {
  if (dataref) return await readFile(new URL(dataref));
  return encoding === "gzip" ? gunzipSync(body) : body;
}

function parsed(body: Uint8Array): FileAnalysisCompleted | undefined {
  try {
    const event: FileAnalysisCompleted = JSON.parse(Buffer.from(body).toString());
    return event.event === TOPIC && typeof event.file?.fileId === "string" ? event : undefined;
  } catch {
    return undefined;
  }
}

/** The file with links that work: those of the event, or new ones if the first of them expires within a minute. */
async function renewed(file: FileInfo, urlexpiry?: string): Promise<FileInfo> {
  if (urlexpiry === undefined || Date.parse(urlexpiry) > Date.now() + 60_000) return file;
  const answer = await fetch(`${API}/v1/files/${encodeURIComponent(file.fileId)}/hydrate`, {
    method: "POST",
    headers: { authorization: `Bearer ${process.env.VIDEOGEN_API_KEY ?? ""}` },
    signal: AbortSignal.timeout(30_000),
  });
  if (!answer.ok) throw new Error(`hydrate: HTTP ${answer.status}`);
  return (await answer.json()) as FileInfo;
}

/** The work itself, to be replaced by yours: keeps the transcript, and counts the bytes of the file. */
async function work(file: FileInfo): Promise<{ text: string | null; bytes: number | null }> {
  const text = file.transcriptText ?? null;
  const url = file.downloadSource?.url ?? file.downloadUrl;
  if (!url) return { text, bytes: null };
  const answer = await fetch(url, { signal: AbortSignal.timeout(60_000) });
  if (!answer.ok || !answer.body) throw new Error(`download: HTTP ${answer.status}`);
  let bytes = 0;
  for await (const part of answer.body) bytes += part.length;
  return { text, bytes };
}
