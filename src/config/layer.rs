//! What flags and environment set, and how that overrides the file.

use std::path::PathBuf;

use super::mistake::{Place, Report, quoted};
use super::raw::{Leaf, Named, OneOrMany, RawDestination, RawFile, RawSource};
use super::substitute::{Environment, read_file, text_of};
use super::url;
use crate::secret::Secret;
use crate::source::VIDEOGEN;

/// What flags may set; `None` and empty where they do not.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--config`: the file.
    pub config: Option<PathBuf>,
    /// `--to`: a destination, named after its kind. May contain a password.
    pub to: Option<Secret>,
    /// `--secret`: keys of the source `videogen`.
    pub secret: Vec<Secret>,
    /// `--secret-file`: files with such keys.
    pub secret_file: Vec<PathBuf>,
    /// `--listen`.
    pub listen: Option<String>,
    /// `--admin`.
    pub admin: Option<String>,
    /// `--admin-token-file`: the file with the token of the admin API.
    pub admin_token_file: Option<PathBuf>,
    /// `--store`. Hidden in messages, as a URL given here may contain a password.
    pub store: Option<Secret>,
    /// `--ack`.
    pub ack: Option<String>,
    /// `--data`.
    pub data: Option<PathBuf>,
}

/// Settings from flags or environment, which override those of the layer below.
#[derive(Default)]
pub(super) struct Layer {
    to: Option<Leaf>,
    secrets: Vec<Leaf>,
    secret_files: Vec<Leaf>,
    listen: Option<Leaf>,
    admin: Option<Leaf>,
    admin_token: Option<Leaf>,
    admin_token_file: Option<Leaf>,
    store: Option<Leaf>,
    ack: Option<Leaf>,
    data: Option<Leaf>,
}

/// The value of a variable. An empty one counts as not set (`NAME=${OTHER}` in a compose file), except for secrets, where
/// that would hide a mistake.
pub(super) fn variable(environment: &Environment<'_>, name: &'static str, report: &mut Report) -> Option<Leaf> {
    let text = text_of(environment(name)?).map_err(|why| format!("it {why}"));
    let text = report.ok(&Place::Named(name), text)?;
    (name == "HOOKBRIDGE_SECRET" || !text.is_empty()).then(|| Leaf::named(name, text))
}

impl Layer {
    pub(super) fn from_environment(environment: &Environment<'_>, report: &mut Report) -> Layer {
        let mut variable = |name| variable(environment, name, report);
        Layer {
            to: variable("HOOKBRIDGE_TO"),
            secrets: variable("HOOKBRIDGE_SECRET").into_iter().collect(),
            secret_files: variable("HOOKBRIDGE_SECRET_FILE").into_iter().collect(),
            listen: variable("HOOKBRIDGE_LISTEN"),
            admin: variable("HOOKBRIDGE_ADMIN"),
            admin_token: variable("HOOKBRIDGE_ADMIN_TOKEN"),
            admin_token_file: variable("HOOKBRIDGE_ADMIN_TOKEN_FILE"),
            store: variable("HOOKBRIDGE_STORE"),
            ack: variable("HOOKBRIDGE_ACK"),
            data: variable("HOOKBRIDGE_DATA"),
        }
    }

    pub(super) fn from_flags(flags: &Flags) -> Layer {
        let text = |name, value: &Option<String>| value.as_ref().map(|value| Leaf::named(name, value));
        let secret = |name, value: &Option<Secret>| value.as_ref().map(|value| Leaf::named(name, value.expose()));
        let path = |name, path: &PathBuf| Leaf::named(name, path.to_string_lossy());
        Layer {
            to: secret("--to", &flags.to),
            secrets: flags.secret.iter().map(|secret| Leaf::named("--secret", secret.expose())).collect(),
            secret_files: flags.secret_file.iter().map(|file| path("--secret-file", file)).collect(),
            listen: text("--listen", &flags.listen),
            admin: text("--admin", &flags.admin),
            admin_token: None,
            admin_token_file: flags.admin_token_file.as_ref().map(|file| path("--admin-token-file", file)),
            store: secret("--store", &flags.store),
            ack: text("--ack", &flags.ack),
            data: flags.data.as_ref().map(|data| path("--data", data)),
        }
    }

    /// Only the secrets of this layer.
    pub(super) fn only_secrets(self) -> Layer {
        Layer { secrets: self.secrets, secret_files: self.secret_files, ..Layer::default() }
    }

    /// This layer, with the values of the one below where this one has none.
    pub(super) fn over(self, below: Layer) -> Layer {
        let keys = !self.secrets.is_empty() || !self.secret_files.is_empty();
        let (secrets, secret_files) =
            if keys { (self.secrets, self.secret_files) } else { (below.secrets, below.secret_files) };
        let token = self.admin_token.is_some() || self.admin_token_file.is_some();
        let (admin_token, admin_token_file) =
            if token { (self.admin_token, self.admin_token_file) } else { (below.admin_token, below.admin_token_file) };
        Layer {
            to: self.to.or(below.to),
            secrets,
            secret_files,
            listen: self.listen.or(below.listen),
            admin: self.admin.or(below.admin),
            admin_token,
            admin_token_file,
            store: self.store.or(below.store),
            ack: self.ack.or(below.ack),
            data: self.data.or(below.data),
        }
    }

    /// Overrides the settings of the file. Secrets are added to those in the file.
    pub(super) fn apply(mut self, file: &mut RawFile, report: &mut Report) {
        for path in std::mem::take(&mut self.secret_files) {
            report.files.push(PathBuf::from(&path.text));
            let text = read_file(&path.text).map_err(|fault| format!("the file {} {fault}", quoted(&path.text)));
            if let Some(text) = report.ok(&path.place, text) {
                self.secrets.push(Leaf { text, place: path.place });
            }
        }
        if let Some(path) = self.admin_token_file {
            report.files.push(PathBuf::from(&path.text));
            let text = read_file(&path.text).map_err(|fault| format!("the file {} {fault}", quoted(&path.text)));
            if self.admin_token.is_some() {
                report.mistake(&path.place, "give the admin token or its file, not both");
            } else if let Some(text) = report.ok(&path.place, text) {
                self.admin_token = Some(Leaf { text, place: path.place });
            }
        }
        for (given, setting) in [
            (self.admin_token, &mut file.admin.token),
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
        add_secrets(self.secrets, file);
        if let Some(to) = self.to {
            set_destination(to, file, report);
        }
    }
}

fn add_secrets(given: Vec<Leaf>, file: &mut RawFile) {
    let Some(place) = given.first().map(|leaf| leaf.place.clone()) else { return };
    let sources = &mut file.sources.get_or_insert_default().0;
    let index = sources.iter().position(|(name, _)| name.text == VIDEOGEN).unwrap_or_else(|| {
        sources.push((Leaf { text: VIDEOGEN.into(), place: place.clone() }, RawSource::default()));
        sources.len() - 1
    });
    let secrets = &mut sources[index].1.secrets;
    secrets.get_or_insert_with(|| OneOrMany { all: Vec::new(), place }).all.extend(given);
}

/// Names the destination after its kind. A destination of that name in the file keeps its other settings.
fn set_destination(to: Leaf, file: &mut RawFile, report: &mut Report) {
    let parsed = url::parse(std::slice::from_ref(&to.text));
    let Some(url) = report.ok(&to.place, parsed) else { return };
    let name = url.kind().word();
    let destinations = &mut file.destinations.get_or_insert_with(Named::default).0;
    let urls = Some(OneOrMany { place: to.place.clone(), all: vec![to.clone()] });
    match destinations.iter_mut().find(|(key, _)| key.text == name) {
        Some((_, destination)) => destination.url = urls,
        None => {
            let destination = RawDestination { url: urls, ..RawDestination::default() };
            destinations.push((Leaf { text: name.into(), place: to.place }, destination));
        }
    }
}
