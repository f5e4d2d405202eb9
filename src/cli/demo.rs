//! `hookbridge demo`: the whole path of a delivery with nothing installed. Creates a secret, serves, sends itself signed
//! samples, shows the published events, and continues to serve.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::args::{KeyArgs, SettingsArgs};
use super::exit::{block_on, mistakes};
use super::inputs::{local, process_environment};
use super::output::{line, note};
use super::serve::serve;
use crate::app::StartOptions;
use crate::config::{Settings, load};
use crate::reload::Reloader;
use crate::samples;
use crate::secret::Secret;
use crate::sender::{SendOptions, UnsignedDelivery, send};
use crate::signature::Key;
use crate::telemetry;

/// The end of the help.
pub(super) const EXAMPLES: &str = "Examples:\n\
    \x20 hookbridge demo\n\
    \x20 hookbridge demo --once --listen 127.0.0.1:0 --admin 127.0.0.1:0";

/// Arguments of `demo`.
#[derive(clap::Args, Debug)]
pub struct DemoArgs {
    /// Address for webhooks [env: HOOKBRIDGE_LISTEN] [default: 127.0.0.1:8080]
    #[arg(long)]
    listen: Option<String>,
    /// Address for health and metrics [env: HOOKBRIDGE_ADMIN] [default: 127.0.0.1:9464]
    #[arg(long)]
    admin: Option<String>,
    /// Exits after the demonstration instead of continuing to serve
    #[arg(long)]
    once: bool,
}

/// Exit 1 if a sample was not published.
pub(super) fn run(args: &DemoArgs) -> ExitCode {
    let directory = std::env::temp_dir().join(format!("hookbridge-demo-{}", std::process::id()));
    let secret = format!("whsec_{}", STANDARD.encode(rand::random::<[u8; 32]>()));
    let serve_args = SettingsArgs {
        to: Some(Secret::new(format!("file:{}", directory.join("events").display()))),
        keys: KeyArgs { secret: vec![Secret::new(secret.clone())], ..KeyArgs::default() },
        listen: args.listen.clone(),
        admin: args.admin.clone(),
        data: Some(directory.clone()),
        ..SettingsArgs::default()
    };
    // Ignores the other variables, so that the demonstration is the same everywhere.
    let environment = |name: &str| match name {
        "HOOKBRIDGE_LISTEN" => Some(process_environment(name).unwrap_or("127.0.0.1:8080".into())),
        "HOOKBRIDGE_ADMIN" => process_environment(name),
        _ => None,
    };
    let flags = serve_args.flags();
    let (loaded, reloader) = match Reloader::load(move || load(&flags, &environment)) {
        Ok(loaded) => loaded,
        Err(all) => return mistakes(&all),
    };
    let _logs = telemetry::logs::init(Some("warn")).map_err(note);
    block_on(async {
        let result = serve_and_demonstrate(args, loaded.settings, reloader, &directory, &secret).await;
        let _ = std::fs::remove_dir_all(&directory); // a temporary directory: leaving it behind is no failure
        result
    })
}

async fn serve_and_demonstrate(
    args: &DemoArgs,
    settings: Settings,
    reloader: Reloader,
    directory: &Path,
    secret: &str,
) -> anyhow::Result<()> {
    let (bound, address) = tokio::sync::oneshot::channel();
    let demonstration = async {
        // Without an address, `serve` has failed, and its error ends the command.
        let Ok(address) = address.await else { return std::future::pending().await };
        let url = format!("http://{}/webhooks/videogen", local(address));
        let result = demonstrate(&url, directory, secret).await;
        if args.once || result.is_err() {
            return result;
        }
        line(format_args!("\nStill serving. Send more from another terminal, then press Ctrl-C here:\n"))?;
        let program = program();
        line(format_args!("  {program} send --url {url} --secret {secret} --count 100 --duplicates 0.2\n"))?;
        std::future::pending().await
    };
    let listening = |address| {
        let _ = bound.send(address); // fails only after the demonstration has ended
        std::future::pending()
    };
    tokio::select! {
        served = serve(settings, StartOptions::default(), reloader, listening) => served,
        demonstrated = demonstration => demonstrated,
    }
}

/// How this program can be started from another terminal.
fn program() -> String {
    let called_by_name = std::env::args_os().next().is_some_and(|name| !name.to_string_lossy().contains('/'));
    match std::env::current_exe() {
        Ok(path) if !called_by_name => format!("'{}'", path.display().to_string().replace('\'', "'\\''")),
        _ => "hookbridge".into(),
    }
}

async fn demonstrate(url: &str, directory: &Path, secret: &str) -> anyhow::Result<()> {
    let key = Key::parse(secret).context("the generated secret is not valid")?;
    line(format_args!("hookbridge listens on {url} and publishes to files in {}", directory.display()))?;
    let all = samples::samples(1, jiff::Timestamp::now().as_second());
    let options = SendOptions { url: url.to_owned(), connections: 1, rate: None };
    line(format_args!("\n1. Each of VideoGen's {} events, signed and posted:\n", all.len()))?;
    let deliveries = || {
        all.iter()
            .enumerate()
            .map(|(number, sample)| UnsignedDelivery { id: format!("msg_demo_{number}"), body: sample.body.clone() })
    };
    print_counts(&send(&options, &key, deliveries(), |_| ()).await?.counts)?;
    line(format_args!("\n2. The same deliveries again, as from a sender that missed the answers:\n"))?;
    print_counts(&send(&options, &key, deliveries(), |_| ()).await?.counts)?;
    let other_key =
        Key::parse(&format!("whsec_{}", STANDARD.encode([0_u8; 32]))).context("the generated secret is not valid")?;
    line(format_args!("\n3. One delivery signed with another secret:\n"))?;
    print_counts(&send(&options, &other_key, deliveries().take(1), |_| ()).await?.counts)?;
    line(format_args!("\n4. The published events, each once (id, topic, subject):\n"))?;
    let published = published(&directory.join("events"))?;
    for (topic, event) in &published {
        let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or("-").to_owned();
        line(format_args!("  {:<12} {topic:<28} {}", text("id"), text("subject")))?;
    }
    anyhow::ensure!(published.len() == all.len(), "{} events were published, not {}", published.len(), all.len());
    Ok(())
}

fn print_counts(counts: &BTreeMap<String, u64>) -> anyhow::Result<()> {
    counts.iter().try_for_each(|(answer, count)| line(format_args!("  {count:>3} × {answer}")))
}

fn published(directory: &Path) -> anyhow::Result<Vec<(String, Value)>> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
        .with_context(|| format!("cannot read {}", directory.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "ndjson"))
        .collect();
    files.sort();
    let mut events = Vec::new();
    for path in files {
        let topic = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        for event in text.lines() {
            events.push((topic.clone(), serde_json::from_str(event)?));
        }
    }
    Ok(events)
}
