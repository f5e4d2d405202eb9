//! `hookbridge verify`: one delivery, offline, with the reasons of `tests/vectors.json`.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{FAILED, ServeArgs, USAGE};
use crate::config::{Flags, keys_given, load};
use crate::signature::{self, Key};

/// Arguments of `verify`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Where secrets come from: --secret, --secret-file, their variables, or else the sources of the configuration
    #[command(flatten)]
    serve: ServeArgs,
    /// A header as received, `Name: value`; repeatable
    #[arg(long, value_name = "HEADER")]
    header: Vec<String>,
    /// The receiver's clock, unix seconds [default: now]
    #[arg(long, value_name = "UNIX", allow_negative_numbers = true)]
    now: Option<i64>,
    /// Allowed age and allowed lead, in seconds
    #[arg(long, value_name = "S", default_value_t = 300)]
    tolerance: u64,
    /// Takes svix-* headers where there are no webhook-* headers
    #[arg(long)]
    legacy_headers: bool,
    /// File with the raw body, `-` for standard input [default: an empty body]
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
}

/// Runs it.
pub fn run(args: &Args) -> ExitCode {
    match reason(args) {
        Ok(reason) => {
            let outcome = if reason == "ok" { "accept" } else { "reject" };
            println!("{}", serde_json::json!({"outcome": outcome, "reason": reason}));
            if reason == "ok" { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
        }
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(USAGE)
        }
    }
}

fn reason(args: &Args) -> Result<String, String> {
    let flags = args.serve.flags();
    let given = keys_given(&flags, &|name| std::env::var_os(name)).map_err(|mistakes| mistakes.to_string())?;
    let headers = headers(&args.header)?;
    let body = body(args.body.as_ref())?;
    let now = match args.now {
        Some(now) => now,
        None => unix_now()?,
    };
    let keys: Result<Vec<Key>, _> = given.iter().map(|secret| Key::parse(secret.expose())).collect();
    let keys = match keys {
        Ok(keys) if keys.is_empty() => configured(&flags)?,
        Ok(keys) => keys,
        Err(fault) => return Ok(fault.to_string()),
    };
    let verified = signature::head(&headers, args.legacy_headers).and_then(|head| {
        head.timely(now, args.tolerance)?;
        head.signed(&keys, &body)
    });
    Ok(verified.map_or_else(|refusal| refusal.to_string(), |()| "ok".into()))
}

/// The keys of the configuration's sources.
fn configured(flags: &Flags) -> Result<Vec<Key>, String> {
    let loaded = load(flags, &|name| std::env::var_os(name)).map_err(|mistakes| {
        format!("no secret: give --secret, --secret-file, HOOKBRIDGE_SECRET, or a configuration that holds it (--config)\n{mistakes}")
    })?;
    Ok(loaded.settings.sources.into_iter().flat_map(|source| source.keys).collect())
}

fn headers(given: &[String]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (index, header) in given.iter().enumerate() {
        let wrong = || format!("--header {}: expected `Name: value`", index + 1);
        let (name, value) = header.split_once(':').ok_or_else(wrong)?;
        let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| wrong())?;
        // HTTP takes the spaces around a value away.
        let value = HeaderValue::from_bytes(value.trim_matches([' ', '\t']).as_bytes()).map_err(|_| wrong())?;
        headers.try_append(name, value).map_err(|_| "too many headers")?;
    }
    Ok(headers)
}

fn body(path: Option<&PathBuf>) -> Result<Vec<u8>, String> {
    let Some(path) = path else { return Ok(Vec::new()) };
    let mut bytes = Vec::new();
    let read = match path.to_str() {
        Some("-") => std::io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes),
        _ => std::fs::read(path),
    };
    read.map_err(|error| format!("{}: the body cannot be read: {}", path.display(), error.kind()))
}

fn unix_now() -> Result<i64, String> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| "the system clock is before 1970")?;
    i64::try_from(since.as_secs()).map_err(|_| "the system clock is absurd".into())
}
