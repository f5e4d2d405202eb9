//! Reads the file, puts environment and then flags over it, and has the result checked.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::layer::{Flags, Layer, variable};
use super::mistake::{Mistake, Mistakes, Place, Report};
use super::raw::{Leaf, OneOrMany, RawFile, RawSource, read};
use super::substitute::{Environment, text_of};
use super::{BridgeAccess, Settings, check};
use crate::secret::Secret;
use crate::settings_file::{read_text, why};
use crate::source::VIDEOGEN;

/// A well-formed secret that nothing is verified with: 32 zero bytes.
const PLACEHOLDER: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

/// Checked settings, and warnings about them.
#[derive(Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// Settings that are allowed, but probably not intended.
    pub warnings: Vec<Mistake>,
    /// The files that they come from: the configuration, and those that it or flags name.
    pub files: Vec<PathBuf>,
}

/// Loads and checks all settings. Reads the files that settings name, but opens no connection.
///
/// # Errors
/// The first mistake of structure, or all mistakes of meaning.
pub fn load(flags: &Flags, environment: &Environment<'_>) -> Result<Loaded, Mistakes> {
    let (file, report) = merged(flags, environment)?;
    checked(file, environment, report)
}

fn checked(file: RawFile, environment: &Environment<'_>, mut report: Report) -> Result<Loaded, Mistakes> {
    let settings = check::check(file, environment, &mut report);
    let files = std::mem::take(&mut report.files);
    let warnings = report.finish()?;
    // `check` returns no settings only if it has reported a mistake.
    let settings = settings.ok_or_else(|| single("settings", 0, 0, "they are incomplete".into()))?;
    Ok(Loaded { settings, warnings, files })
}

/// The same before the signing secrets exist, for `endpoints`, which obtains them. The keys of the sources are placeholders.
///
/// # Errors
/// Those of [`load`], except for secrets.
pub fn load_without_secrets(flags: &Flags, environment: &Environment<'_>) -> Result<Loaded, Mistakes> {
    let flags = Flags { secret: Vec::new(), secret_file: Vec::new(), ..flags.clone() };
    let others = |name: &str| environment(name).filter(|_| !name.starts_with("HOOKBRIDGE_SECRET"));
    let (mut file, report) = merged(&flags, &others)?;
    let sources = &mut file.sources.get_or_insert_default().0;
    if sources.is_empty() {
        sources.push((Leaf { text: VIDEOGEN.into(), place: Place::Nowhere }, RawSource::default()));
    }
    for (_, source) in sources {
        let placeholder = Leaf { text: PLACEHOLDER.into(), place: Place::Nowhere };
        source.secrets = Some(OneOrMany { all: vec![placeholder], place: Place::Nowhere });
    }
    checked(file, environment, report)
}

/// Loads only the admin listener's address. A health check needs no destinations and secrets, so their absence is no
/// mistake here.
///
/// # Errors
/// The file cannot be read, or the address is mistaken.
pub fn admin_address(flags: &Flags, environment: &Environment<'_>) -> Result<SocketAddr, Mistakes> {
    let only = Flags { config: flags.config.clone(), admin: flags.admin.clone(), ..Flags::default() };
    let admin = |name: &str| environment(name).filter(|_| matches!(name, "HOOKBRIDGE_CONFIG" | "HOOKBRIDGE_ADMIN"));
    let (file, mut report) = merged(&only, &admin)?;
    let address = check::admin_address(&file, environment, &mut report);
    report.finish().map(|_| address)
}

/// Loads only how a command reaches a bridge or its store. That needs no destinations and secrets, so their absence is no
/// mistake here.
///
/// # Errors
/// The file cannot be read, or one of these settings is mistaken.
pub fn bridge_access(flags: &Flags, environment: &Environment<'_>) -> Result<BridgeAccess, Mistakes> {
    let flags = Flags { to: None, secret: Vec::new(), secret_file: Vec::new(), ..flags.clone() };
    let others = |name: &str| {
        environment(name).filter(|_| !matches!(name, "HOOKBRIDGE_TO" | "HOOKBRIDGE_SECRET" | "HOOKBRIDGE_SECRET_FILE"))
    };
    let (file, mut report) = merged(&flags, &others)?;
    let access = check::bridge_access(&file, environment, &mut report);
    report.finish().map(|_| access)
}

/// The keys that flags give, or else those that the environment gives, for `verify` and `send`.
///
/// # Errors
/// A file or a variable cannot be read.
pub fn keys_given(flags: &Flags, environment: &Environment<'_>) -> Result<Vec<Secret>, Mistakes> {
    let mut report = Report::new("settings");
    let mut file = RawFile::default();
    let below = Layer::from_environment(environment, &mut report);
    Layer::from_flags(flags).over(below).only_secrets().apply(&mut file, &mut report);
    let secrets = file.sources.unwrap_or_default().0.into_iter().filter_map(|(_, source)| source.secrets);
    let mut keys = Vec::new();
    for leaf in secrets.flat_map(|secrets| secrets.all) {
        for key in check::keys_in(&leaf.text) {
            report.ok(&leaf.place, check::encoded_once(&key));
            keys.push(Secret::new(key));
        }
    }
    report.finish()?;
    Ok(keys)
}

/// The log filter in `HOOKBRIDGE_LOG`, such as `debug` or `hookbridge=debug,lapin=info`.
pub fn log_filter(environment: &Environment<'_>) -> Option<String> {
    text_of(environment("HOOKBRIDGE_LOG")?).ok().filter(|filter| !filter.is_empty())
}

/// The file with environment and flags over it, unchecked.
fn merged(flags: &Flags, environment: &Environment<'_>) -> Result<(RawFile, Report), Mistakes> {
    let mut report = Report::new("settings");
    let layer = Layer::from_flags(flags).over(Layer::from_environment(environment, &mut report));
    let path = match &flags.config {
        Some(path) => Some(path.clone()),
        None => variable(environment, "HOOKBRIDGE_CONFIG", &mut report).map(|leaf| PathBuf::from(leaf.text)),
    };
    report.finish()?;
    let mut report = Report::new("settings");
    let mut file = RawFile::default();
    if let Some(path) = path {
        let name = path.display().to_string();
        report = Report::new(name.clone());
        report.files.push(path.clone());
        let text = read_text(&path)
            .map_err(|error| single(&name, 0, 0, format!("the file cannot be read: {}", why(&path, &error))))?;
        file = read(&text).map_err(|(place, message)| match place {
            Place::File { line, column } => single(&name, line, column, message),
            Place::Named(_) | Place::Nowhere => single(&name, 1, 1, message),
        })?;
    }
    layer.apply(&mut file, &mut report);
    Ok((file, report))
}

fn single(file: &str, line: u64, column: u64, message: String) -> Mistakes {
    Mistakes(vec![Mistake { file: file.into(), line, column, message }])
}
