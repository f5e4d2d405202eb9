//! The flags of `serve`, which other commands take too.
//!
//! clap does not read the environment: `[env: …]` is only text in the help. [`crate::config`] reads the variables, and
//! decides which of flag, variable and file counts.

use std::convert::Infallible;
use std::path::PathBuf;

use crate::config::Flags;
use crate::secret::Secret;

/// Where signing secrets come from: also for commands that only sign or verify.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct KeyArgs {
    /// Configuration file, YAML [env: HOOKBRIDGE_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Signing secret, whsec_… or whpk_…; repeatable. Other users of this machine can see flags: prefer the environment
    /// or a file [env: HOOKBRIDGE_SECRET]
    #[arg(long, value_name = "S", value_parser = secret, allow_hyphen_values = true)]
    pub(super) secret: Vec<Secret>,
    /// File that contains signing secrets; repeatable [env: HOOKBRIDGE_SECRET_FILE]
    #[arg(long, value_name = "FILE")]
    pub(super) secret_file: Vec<PathBuf>,
}

impl KeyArgs {
    /// The flags in the form that [`crate::config`] takes.
    pub(super) fn flags(&self) -> Flags {
        let KeyArgs { config, secret, secret_file } = self.clone();
        Flags { config, secret, secret_file, ..Flags::default() }
    }
}

/// The settings that can be given as flags.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct SettingsArgs {
    #[command(flatten)]
    pub(super) keys: KeyArgs,
    /// Where events go: nats://, tls://, kafka://h:p,h:p, amqp://, amqps:// or file:DIR [env: HOOKBRIDGE_TO]
    #[arg(long, value_name = "URL", value_parser = secret)]
    pub(super) to: Option<Secret>,
    /// Address for webhooks [env: HOOKBRIDGE_LISTEN] [default: 0.0.0.0:8080]
    #[arg(long, value_name = "ADDR")]
    pub(super) listen: Option<String>,
    /// Address for health, metrics and the API [env: HOOKBRIDGE_ADMIN] [default: 127.0.0.1:9464]
    #[arg(long, value_name = "ADDR")]
    pub(super) admin: Option<String>,
    /// File that contains the token of the API; off loopback, the API needs one [env: HOOKBRIDGE_ADMIN_TOKEN,
    /// HOOKBRIDGE_ADMIN_TOKEN_FILE]
    #[arg(long, value_name = "FILE")]
    pub(super) admin_token_file: Option<PathBuf>,
    /// Where ids are stored: memory or embedded [env: HOOKBRIDGE_STORE] [default: embedded]
    #[arg(long, value_name = "STORE", value_parser = secret)]
    pub(super) store: Option<Secret>,
    /// When the sender is answered: `published`, when every broker has confirmed, or `stored`, when the event is on
    /// disk [env: HOOKBRIDGE_ACK] [default: published]
    #[arg(long, value_name = "MODE")]
    pub(super) ack: Option<String>,
    /// Directory of the embedded store [env: HOOKBRIDGE_DATA] [default: hookbridge-data]
    #[arg(long, value_name = "DIR")]
    pub(super) data: Option<PathBuf>,
}

impl SettingsArgs {
    /// The flags in the form that [`crate::config`] takes.
    pub(super) fn flags(&self) -> Flags {
        let SettingsArgs { keys, to, listen, admin, admin_token_file, store, ack, data } = self.clone();
        Flags { to, listen, admin, admin_token_file, store, ack, data, ..keys.flags() }
    }
}

/// How a command reaches a running bridge, or its store where none runs.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct AccessArgs {
    /// Configuration file, YAML [env: HOOKBRIDGE_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address of the bridge's admin listener [env: HOOKBRIDGE_ADMIN] [default: 127.0.0.1:9464]
    #[arg(long, value_name = "ADDR")]
    admin: Option<String>,
    /// File that contains the token of the bridge's API [env: HOOKBRIDGE_ADMIN_TOKEN, HOOKBRIDGE_ADMIN_TOKEN_FILE]
    #[arg(long, value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
    /// The bridge's store: memory or embedded [env: HOOKBRIDGE_STORE] [default: embedded]
    #[arg(long, value_name = "STORE", value_parser = secret)]
    store: Option<Secret>,
    /// Directory of the embedded store, which is opened if no bridge runs [env: HOOKBRIDGE_DATA] [default: hookbridge-data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl AccessArgs {
    /// The flags in the form that [`crate::config`] takes.
    pub(super) fn flags(&self) -> Flags {
        let AccessArgs { config, admin, admin_token_file, store, data } = self.clone();
        Flags { config, admin, admin_token_file, store, data, ..Flags::default() }
    }
}

/// Where the embedded store is.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct StoreArgs {
    /// Configuration file, YAML [env: HOOKBRIDGE_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory of the embedded store [env: HOOKBRIDGE_DATA] [default: hookbridge-data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl StoreArgs {
    /// The flags in the form that [`crate::config`] takes.
    pub(super) fn flags(&self) -> Flags {
        let StoreArgs { config, data } = self.clone();
        Flags { config, data, ..Flags::default() }
    }
}

/// Accepts any value, so that clap never quotes a secret in an error.
fn secret(text: &str) -> Result<Secret, Infallible> {
    Ok(Secret::new(text))
}
