//! `hookbridge verify`: verifies one delivery offline. The reasons are those of `tests/vectors.json`.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::args::KeyArgs;
use super::exit::{FAILED, USAGE, failed};
use super::inputs::{process_environment, read_body};
use super::output::{line, note};
use crate::config::{Flags, keys_given, load};
use crate::signature::{self, Key};

/// The end of the help.
pub(super) const EXAMPLES: &str = "Examples:\n\
    \x20 hookbridge verify --secret whsec_… --header 'webhook-id: msg_1' --header 'webhook-timestamp: 1795435200' \\\n\
    \x20     --header 'webhook-signature: v1,…' --body delivery.json";

/// Arguments of `verify`.
#[derive(clap::Args, Debug)]
pub struct VerifyArgs {
    /// Where secrets come from: --secret, --secret-file, their variables, or else the sources of the configuration
    #[command(flatten)]
    keys: KeyArgs,
    /// A received header, `Name: value`; repeatable
    #[arg(long, value_name = "HEADER")]
    header: Vec<String>,
    /// The receiver's time, in unix seconds [default: now]
    #[arg(long, value_name = "UNIX", allow_negative_numbers = true)]
    now: Option<i64>,
    /// How far the timestamp may be from the receiver's time, in seconds, both ways
    #[arg(long, value_name = "S", default_value_t = 300)]
    tolerance: u64,
    /// Accepts svix-* headers where there are no webhook-* headers
    #[arg(long)]
    legacy_headers: bool,
    /// File with the raw body, `-` for standard input [default: an empty body]
    #[arg(long, value_name = "FILE")]
    body: Option<String>,
}

/// Exit 1 if the delivery is rejected.
pub(super) fn run(args: &VerifyArgs) -> ExitCode {
    match reason(args) {
        Ok(reason) => {
            let outcome = if reason == "ok" { "accept" } else { "reject" };
            if let Err(error) = line(serde_json::json!({"outcome": outcome, "reason": reason})) {
                return failed(&error);
            }
            if reason == "ok" { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
        }
        Err(message) => {
            note(message);
            ExitCode::from(USAGE)
        }
    }
}

fn reason(args: &VerifyArgs) -> Result<String, String> {
    let flags = args.keys.flags();
    let given = keys_given(&flags, &process_environment).map_err(|mistakes| mistakes.to_string())?;
    let headers = headers(&args.header)?;
    let body = args.body.as_deref().map_or(Ok(Vec::new()), read_body)?;
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
        head.signed(&keys, &body).map(drop)
    });
    Ok(verified.map_or_else(|refusal| refusal.to_string(), |()| "ok".into()))
}

/// The keys of the configuration's sources.
fn configured(flags: &Flags) -> Result<Vec<Key>, String> {
    let loaded = load(flags, &process_environment).map_err(|mistakes| {
        format!("no secret: give --secret, --secret-file, HOOKBRIDGE_SECRET, or a configuration that contains one (--config)\n{mistakes}")
    })?;
    Ok(loaded.settings.sources.into_iter().flat_map(|source| source.keys).collect())
}

fn headers(given: &[String]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (index, header) in given.iter().enumerate() {
        let malformed = || format!("--header {}: expected `Name: value`", index + 1);
        let (name, value) = header.split_once(':').ok_or_else(malformed)?;
        let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| malformed())?;
        // HTTP excludes spaces and tabs around a value (RFC 9110, section 5.5).
        let value = HeaderValue::from_bytes(value.trim_matches([' ', '\t']).as_bytes()).map_err(|_| malformed())?;
        headers.try_append(name, value).map_err(|_| "too many headers")?;
    }
    Ok(headers)
}

fn unix_now() -> Result<i64, String> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| "the system clock is before 1970")?;
    i64::try_from(since.as_secs()).map_err(|_| "the system clock is out of range".into())
}
