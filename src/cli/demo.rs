//! `hookbridge demo`: the whole way of a delivery with nothing installed. Makes a secret, serves, sends itself signed
//! samples, shows what was published, and goes on serving.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::ServeArgs;
use crate::config::{Settings, load};
use crate::samples;
use crate::secret::Secret;
use crate::sender::{Delivery, Plan, send};
use crate::signature::Key;
use crate::telemetry;

/// Arguments of `demo`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Where to listen for webhooks [env: HOOKBRIDGE_LISTEN] [default: 127.0.0.1:8080]
    #[arg(long)]
    listen: Option<String>,
    /// Where to listen for health and metrics [env: HOOKBRIDGE_ADMIN] [default: 127.0.0.1:9464]
    #[arg(long)]
    admin: Option<String>,
    /// Ends after the show instead of serving on.
    #[arg(long)]
    once: bool,
}

/// Exit 1 if a sample was not published.
pub fn run(args: &Args) -> ExitCode {
    let directory = std::env::temp_dir().join(format!("hookbridge-demo-{}", std::process::id()));
    let secret = format!("whsec_{}", STANDARD.encode(rand::random::<[u8; 32]>()));
    let serve = ServeArgs {
        to: Some(Secret::new(format!("file:{}", directory.join("events").display()))),
        secret: vec![Secret::new(secret.clone())],
        listen: args.listen.clone(),
        admin: args.admin.clone(),
        data: Some(directory.clone()),
        ..ServeArgs::default()
    };
    // Nothing else from the environment: the demo is the same everywhere.
    let environment = |name: &str| match name {
        "HOOKBRIDGE_LISTEN" => Some(std::env::var_os(name).unwrap_or("127.0.0.1:8080".into())),
        "HOOKBRIDGE_ADMIN" => std::env::var_os(name),
        _ => None,
    };
    let settings = match load(&serve.flags(), &environment) {
        Ok(loaded) => loaded.settings,
        Err(all) => return super::mistakes(&all),
    };
    if let Err(mistake) = telemetry::logs::init(Some("warn")) {
        eprintln!("{mistake}");
    }
    super::block_on(async {
        let shown = show_then_serve(args, settings, &directory, &secret).await;
        let _ = std::fs::remove_dir_all(&directory); // it was only a show
        shown
    })
}

async fn show_then_serve(args: &Args, settings: Settings, directory: &Path, secret: &str) -> anyhow::Result<()> {
    let (tell, told) = tokio::sync::oneshot::channel();
    let shown = async {
        let Ok(address) = told.await else { return std::future::pending().await }; // what `serve` says is shown
        let url = format!("http://{address}/webhooks/videogen");
        let result = show(&url, directory, secret).await;
        if args.once || result.is_err() {
            return result;
        }
        println!("\nServing on. Send more in another terminal, then press Ctrl-C here:\n");
        println!("  hookbridge send --url {url} --secret {secret} --count 100 --duplicates 0.2\n");
        std::future::pending().await
    };
    let listening = |address| {
        let _ = tell.send(address); // it is waited for
        std::future::pending()
    };
    tokio::select! {
        served = super::serve::serve(settings, listening) => served,
        shown = shown => shown,
    }
}

async fn show(url: &str, directory: &Path, secret: &str) -> anyhow::Result<()> {
    let key = Key::parse(secret).context("the secret")?;
    println!("hookbridge listens on {url}, and publishes to files below {}", directory.display());
    let all = samples::samples(1, jiff::Timestamp::now().as_second());
    let plan = Plan { url: url.to_owned(), connections: 1, rate: None };
    println!("\n1. Each of VideoGen's {} events, signed and posted:\n", all.len());
    let deliveries = || {
        all.iter()
            .enumerate()
            .map(|(number, sample)| Delivery { id: format!("msg_demo_{number}"), body: sample.body.clone() })
    };
    tell(&send(&plan, &key, deliveries()).await?.counts);
    println!("\n2. All of them once more, as a sender that missed our answers would:\n");
    tell(&send(&plan, &key, deliveries()).await?.counts);
    let forger = Key::parse(&format!("whsec_{}", STANDARD.encode([0_u8; 32]))).context("the secret")?;
    println!("\n3. One signed by somebody else:\n");
    tell(&send(&plan, &forger, deliveries().take(1)).await?.counts);
    println!("\n4. What workers read, each event once (id, topic, subject):\n");
    let published = published(&directory.join("events"))?;
    for (topic, event) in &published {
        let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or("-").to_owned();
        println!("  {:<12} {topic:<28} {}", text("id"), text("subject"));
    }
    anyhow::ensure!(published.len() == all.len(), "{} events were published, not {}", published.len(), all.len());
    Ok(())
}

fn tell(counts: &std::collections::BTreeMap<String, u64>) {
    for (said, count) in counts {
        println!("  {count:>3} × {said}");
    }
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
        for line in text.lines() {
            events.push((topic.clone(), serde_json::from_str(line)?));
        }
    }
    Ok(events)
}
