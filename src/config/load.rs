//! File, environment and flags, each over the one before. The environment is read here and nowhere else.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::mistake::{Mistake, Mistakes, Place, Report, shown};
use super::raw::{self, Leaf, Named, OneOrMany};
use super::substitute::{Environment, read_file};
use super::{Settings, check, url};
use crate::secret::Secret;

/// What flags may set; `None` and empty where they do not.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--config`: the file.
    pub config: Option<PathBuf>,
    /// `--to`: a destination, named after its kind. May hold a password.
    pub to: Option<Secret>,
    /// `--secret`: keys of the source `videogen`.
    pub secret: Vec<Secret>,
    /// `--secret-file`: files of such keys.
    pub secret_file: Vec<PathBuf>,
    /// `--listen`.
    pub listen: Option<String>,
    /// `--admin`.
    pub admin: Option<String>,
    /// `--store`. May hold a password.
    pub store: Option<Secret>,
    /// `--ack`.
    pub ack: Option<String>,
    /// `--data`.
    pub data: Option<PathBuf>,
}

/// Checked settings, and what is odd about them.
#[derive(Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// What is allowed but surely not meant.
    pub warnings: Vec<Mistake>,
}

/// Name of the source that `--secret` belongs to.
pub const VIDEOGEN: &str = "videogen";

/// Reads and checks everything. Opens no connection, but reads the files that settings name.
///
/// # Errors
/// The first mistake of structure, or all mistakes of meaning.
pub fn load(flags: &Flags, environment: &Environment<'_>) -> Result<Loaded, Mistakes> {
    let (file, mut report) = merged(flags, environment)?;
    let settings = check::check(file, environment, &mut report);
    let warnings = report.finish()?;
    // Without mistakes there are settings: a value that is missing has made one.
    let settings = settings.ok_or_else(|| one("settings", 0, 0, "they are incomplete".into()))?;
    Ok(Loaded { settings, warnings })
}

/// The admin listener's address alone: a health check must not need destinations and secrets to be given again.
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

/// The file with flags and environment over it, nothing of it checked yet.
fn merged(flags: &Flags, environment: &Environment<'_>) -> Result<(raw::File, Report), Mistakes> {
    let mut report = Report::new("settings");
    let layer = from_flags(flags).over(from_environment(environment, &mut report));
    let mut file = raw::File::default();
    let path = match &flags.config {
        Some(path) => Some(path.clone()),
        None => variable(environment, "HOOKBRIDGE_CONFIG", &mut report).map(|leaf| PathBuf::from(leaf.text)),
    };
    report.finish()?;
    let mut report = Report::new("settings");
    if let Some(path) = path {
        let name = path.display().to_string();
        report = Report::new(name.clone());
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => return Err(one(&name, 0, 0, format!("the file cannot be read: {}", error.kind()))),
        };
        file = raw::read(&text).map_err(|(place, message)| {
            let (line, column) = match place {
                Place::File { line, column } => (line, column),
                Place::Named(_) | Place::Nowhere => (1, 1),
            };
            one(&name, line, column, message)
        })?;
    }
    layer.apply(&mut file, &mut report);
    Ok((file, report))
}

/// The keys that flags give, or else those of the environment: what `verify` works with.
///
/// # Errors
/// A file or a variable cannot be read.
pub fn keys_given(flags: &Flags, environment: &Environment<'_>) -> Result<Vec<Secret>, Mistakes> {
    let mut report = Report::new("settings");
    let mut file = raw::File::default();
    let only_keys = Flags { secret: flags.secret.clone(), secret_file: flags.secret_file.clone(), ..Flags::default() };
    let below = from_environment(environment, &mut report);
    let below = Layer { secrets: below.secrets, secret_files: below.secret_files, ..Layer::default() };
    from_flags(&only_keys).over(below).apply(&mut file, &mut report);
    report.finish()?;
    let secrets = file.sources.unwrap_or_default().0.into_iter().filter_map(|(_, source)| source.secrets);
    let texts = secrets.flat_map(|secrets| secrets.all).flat_map(|leaf| check::keys_in(&leaf.text));
    Ok(texts.map(Secret::new).collect())
}

/// What `HOOKBRIDGE_LOG` asks to be logged, such as `debug` or `hookbridge=debug,lapin=info`.
pub fn log_filter(environment: &Environment<'_>) -> Option<String> {
    environment("HOOKBRIDGE_LOG")?.into_string().ok().filter(|filter| !filter.is_empty())
}

fn one(file: &str, line: u64, column: u64, message: String) -> Mistakes {
    Mistakes(vec![Mistake { file: file.into(), line, column, message }])
}

/// What flags or the environment set.
#[derive(Default)]
struct Layer {
    to: Option<Leaf>,
    secrets: Vec<Leaf>,
    secret_files: Vec<Leaf>,
    listen: Option<Leaf>,
    admin: Option<Leaf>,
    store: Option<Leaf>,
    ack: Option<Leaf>,
    data: Option<Leaf>,
}

fn from_environment(environment: &Environment<'_>, report: &mut Report) -> Layer {
    let mut variable = |name| variable(environment, name, report);
    Layer {
        to: variable("HOOKBRIDGE_TO"),
        secrets: variable("HOOKBRIDGE_SECRET").into_iter().collect(),
        secret_files: variable("HOOKBRIDGE_SECRET_FILE").into_iter().collect(),
        listen: variable("HOOKBRIDGE_LISTEN"),
        admin: variable("HOOKBRIDGE_ADMIN"),
        store: variable("HOOKBRIDGE_STORE"),
        ack: variable("HOOKBRIDGE_ACK"),
        data: variable("HOOKBRIDGE_DATA"),
    }
}

/// Empty counts as not set (`NAME=${OTHER}` in a compose file), except for secrets, where that would hide a mistake.
fn variable(environment: &Environment<'_>, name: &'static str, report: &mut Report) -> Option<Leaf> {
    let value = environment(name)?.into_string().map_err(|_| "it is not UTF-8");
    let text = report.ok(&Place::Named(name), value)?;
    (name == "HOOKBRIDGE_SECRET" || !text.is_empty()).then(|| Leaf::named(name, text))
}

fn from_flags(flags: &Flags) -> Layer {
    let text = |name, value: &Option<String>| value.as_ref().map(|value| Leaf::named(name, value));
    let secret = |name, value: &Option<Secret>| value.as_ref().map(|value| Leaf::named(name, value.expose()));
    let path = |name, path: &PathBuf| Leaf::named(name, path.to_string_lossy());
    Layer {
        to: secret("--to", &flags.to),
        secrets: flags.secret.iter().map(|secret| Leaf::named("--secret", secret.expose())).collect(),
        secret_files: flags.secret_file.iter().map(|file| path("--secret-file", file)).collect(),
        listen: text("--listen", &flags.listen),
        admin: text("--admin", &flags.admin),
        store: secret("--store", &flags.store),
        ack: text("--ack", &flags.ack),
        data: flags.data.as_ref().map(|data| path("--data", data)),
    }
}

impl Layer {
    /// This layer, and the one below where this says nothing.
    fn over(self, below: Layer) -> Layer {
        let keys = !self.secrets.is_empty() || !self.secret_files.is_empty();
        let (secrets, secret_files) =
            if keys { (self.secrets, self.secret_files) } else { (below.secrets, below.secret_files) };
        Layer {
            to: self.to.or(below.to),
            secrets,
            secret_files,
            listen: self.listen.or(below.listen),
            admin: self.admin.or(below.admin),
            store: self.store.or(below.store),
            ack: self.ack.or(below.ack),
            data: self.data.or(below.data),
        }
    }

    fn apply(mut self, file: &mut raw::File, report: &mut Report) {
        for path in std::mem::take(&mut self.secret_files) {
            let text = read_file(&path.text).map_err(|fault| format!("the file {} {fault}", shown(&path.text)));
            if let Some(text) = report.ok(&path.place, text) {
                self.secrets.push(Leaf { text, place: path.place });
            }
        }
        for (given, setting) in [
            (self.listen, &mut file.listen),
            (self.admin, &mut file.admin.listen),
            (self.store, &mut file.store),
            (self.ack, &mut file.ack),
            (self.data, &mut file.data),
        ] {
            if given.is_some() {
                *setting = given;
            }
        }
        secrets(self.secrets, file);
        if let Some(to) = self.to {
            destination(to, file, report);
        }
    }
}

/// Adds keys to those in the file.
fn secrets(given: Vec<Leaf>, file: &mut raw::File) {
    let Some(place) = given.first().map(|leaf| leaf.place.clone()) else { return };
    let sources = &mut file.sources.get_or_insert_default().0;
    let index = sources.iter().position(|(name, _)| name.text == VIDEOGEN).unwrap_or_else(|| {
        sources.push((Leaf { text: VIDEOGEN.into(), place: place.clone() }, raw::Source::default()));
        sources.len() - 1
    });
    let secrets = &mut sources[index].1.secrets;
    secrets.get_or_insert_with(|| OneOrMany { all: Vec::new(), place }).all.extend(given);
}

/// Names the destination after its kind. One of that name in the file keeps its other settings.
fn destination(to: Leaf, file: &mut raw::File, report: &mut Report) {
    let parsed = url::parse(std::slice::from_ref(&to.text));
    let Some(url) = report.ok(&to.place, parsed) else { return };
    let name = url.kind().word();
    let destinations = &mut file.destinations.get_or_insert_with(Named::default).0;
    let urls = Some(OneOrMany { place: to.place.clone(), all: vec![to.clone()] });
    match destinations.iter_mut().find(|(key, _)| key.text == name) {
        Some((_, destination)) => destination.url = urls,
        None => {
            let destination = raw::Destination { url: urls, ..raw::Destination::default() };
            destinations.push((Leaf { text: name.into(), place: to.place }, destination));
        }
    }
}
