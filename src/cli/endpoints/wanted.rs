//! The events that an endpoint must send: those that the routes publish.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::args::KeyArgs;
use crate::cli::exit::mistakes;
use crate::cli::inputs::{find_source, names_file, process_environment, wrong};
use crate::config::{Flags, load_without_secrets};
use crate::source::{VIDEOGEN, VIDEOGEN_EVENTS};

/// The configuration whose routes say which events are wanted.
#[derive(clap::Args, Debug)]
pub(super) struct RoutesArgs {
    /// Configuration file whose routes say which events are wanted; its secrets may be missing yet
    /// [env: HOOKBRIDGE_CONFIG] [default: all known events]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The source that receives the deliveries [default: videogen]
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
}

/// What the configuration says about the endpoint.
pub(super) struct WantedEndpoint {
    /// The events that are published.
    pub(super) events: Vec<String>,
    /// The source's name.
    pub(super) source: String,
    /// The path that the source listens on, if there is a configuration.
    pub(super) path: Option<String>,
}

impl WantedEndpoint {
    /// Whether a configuration says which events are wanted.
    pub(super) fn configured(&self) -> bool {
        self.path.is_some()
    }
}

impl RoutesArgs {
    /// The configuration file that was given.
    pub(super) fn config(&self) -> Option<PathBuf> {
        self.config.clone()
    }

    /// What the endpoint must be like.
    ///
    /// # Errors
    /// The exit code: the configuration has a mistake, or publishes no event of the source.
    pub(super) fn wanted(&self) -> Result<WantedEndpoint, ExitCode> {
        let keys = KeyArgs { config: self.config.clone(), ..KeyArgs::default() };
        if !names_file(&keys) {
            let source = self.source.clone().unwrap_or_else(|| VIDEOGEN.into());
            return Ok(WantedEndpoint { events: VIDEOGEN_EVENTS.map(str::to_owned).into(), source, path: None });
        }
        let flags = Flags { config: self.config.clone(), ..Flags::default() };
        let settings = load_without_secrets(&flags, &process_environment).map_err(|all| mistakes(&all))?.settings;
        let source = find_source(settings.sources, self.source.as_deref())?;
        let published = source.events.iter().filter(|event| settings.routes.publishes(&source.name, event));
        let events: Vec<String> = published.cloned().collect();
        if events.is_empty() {
            let message = format_args!("the routes publish no known event of the source `{}`", source.name);
            return Err(wrong(message));
        }
        Ok(WantedEndpoint { events, source: source.name.to_string(), path: Some(source.path) })
    }
}

/// Accepts the URL of an endpoint.
///
/// # Errors
/// VideoGen would refuse it.
pub(super) fn endpoint_url(text: &str) -> Result<String, String> {
    match reqwest::Url::parse(text) {
        Ok(url) if url.scheme() == "https" && url.has_host() && url.fragment().is_none() => Ok(text.to_owned()),
        _ => Err("expected https://host/path".into()),
    }
}
