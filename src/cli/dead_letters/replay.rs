//! `hookbridge dead-letters replay`.

use std::process::ExitCode;

use axum::http::Method;
use serde_json::{Value, json};

use super::selection::{PATH, SelectionArgs};
use crate::cli::args::SettingsArgs;
use crate::cli::bridge_api::{BridgeApi, CallRefused, with_api};
use crate::cli::inputs::{process_environment, wrong};
use crate::cli::output::line;
use crate::config::load_without_secrets;
use crate::printable::{MOST_CHARACTERS, printable};

/// The end of the help.
pub(super) const EXAMPLES: &str = "Examples:\n\
    \x20 hookbridge dead-letters replay 7 8\n\
    \x20 hookbridge dead-letters replay --reason too_large --destination stream\n\
    \x20 hookbridge dead-letters replay --all --config hookbridge.yaml";

/// Arguments of `dead-letters replay`.
#[derive(clap::Args, Debug)]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    selection: SelectionArgs,
    /// Prints a JSON array
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Exit 1 if one of them was not published.
pub(super) fn run(args: &ReplayArgs) -> ExitCode {
    if let Err(why) = args.selection.check() {
        return wrong(why);
    }
    let flags = args.settings.flags();
    // Only the directory's own replays need them: the bridge has its own.
    let loaded = load_without_secrets(&flags, &process_environment);
    let settings = loaded.as_ref().ok().map(|loaded| &loaded.settings);
    with_api(&flags, &mut None, settings, async |api| {
        if let (BridgeApi::Directory(_), Err(mistakes)) = (api, &loaded) {
            anyhow::bail!("a replay without a running bridge needs the configuration of `serve`: {mistakes}");
        }
        let failed = replay(api, args).await?;
        anyhow::ensure!(failed == 0, "{failed} not replayed: see the reasons above");
        Ok(())
    })
}

/// Replays one after the other, in their order. Returns how many failed.
async fn replay(api: &BridgeApi, args: &ReplayArgs) -> anyhow::Result<usize> {
    let (mut failed, mut results, mut ended) = (0, Vec::new(), Ok(()));
    let ids = args.selection.ids(api).await?;
    if ids.is_empty() && !args.json {
        line("no dead letter matches")?;
    }
    for id in ids {
        let result = match api.call(Method::POST, &format!("{PATH}/{id}/replay")).await {
            Ok(report) => report,
            Err(error) if error.is::<CallRefused>() => {
                json!({"id": id, "replayed": false, "detail": error.to_string()})
            }
            Err(error) => {
                // Whether it was published is not known. What happened before it is.
                ended = Err(error.context(format!("dead letter {id}")));
                break;
            }
        };
        failed += usize::from(result["replayed"] != true);
        match args.json {
            true => results.push(result),
            false => line(shown(&result))?,
        }
    }
    if args.json {
        line(Value::Array(results))?;
    }
    ended.map(|()| failed)
}

fn shown(result: &Value) -> String {
    let text = |value: &Value, name: &str| printable(value[name].as_str().unwrap_or_default(), MOST_CHARACTERS);
    let target = |target: &Value| {
        let mut shown = format!("{} {}", text(target, "target"), text(target, "outcome"));
        if target["outcome"] != "confirmed" {
            shown += &format!(" ({}: {})", text(target, "reason"), text(target, "detail"));
        }
        if let Some(letter) = target["dead_letter"].as_u64().filter(|letter| result["id"] != *letter) {
            shown += &format!(", now dead letter {letter}");
        }
        shown
    };
    let targets: Vec<String> = result["targets"].as_array().into_iter().flatten().map(target).collect();
    let how = if result["replayed"] == true { "replayed" } else { "not replayed" };
    let why = if targets.is_empty() { text(result, "detail") } else { targets.join("; ") };
    format!("{:>5}  {how}: {why}", result["id"])
}
