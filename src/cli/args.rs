//! The flags of `serve`, which other commands take too. The environment is not clap's to read: see `config`.

use std::convert::Infallible;
use std::path::PathBuf;

use crate::config::Flags;
use crate::secret::Secret;

/// What `serve` can be told, and every command that needs its settings.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct ServeArgs {
    /// Configuration file, YAML [env: HOOKBRIDGE_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where events go: nats://, tls://, kafka://h:p,h:p, amqp://, amqps:// or file:DIR [env: HOOKBRIDGE_TO]
    #[arg(long, value_name = "URL", value_parser = secret)]
    pub to: Option<Secret>,
    /// Signing secret, whsec_… or whpk_…; repeatable. Other users of this machine can see flags: prefer the environment
    /// or a file [env: HOOKBRIDGE_SECRET]
    #[arg(long, value_name = "S", value_parser = secret, allow_hyphen_values = true)]
    pub secret: Vec<Secret>,
    /// File that holds signing secrets; repeatable [env: HOOKBRIDGE_SECRET_FILE]
    #[arg(long, value_name = "FILE")]
    pub secret_file: Vec<PathBuf>,
    /// Address for webhooks [env: HOOKBRIDGE_LISTEN] [default: 0.0.0.0:8080]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Address for health and metrics [env: HOOKBRIDGE_ADMIN] [default: 127.0.0.1:9464]
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<String>,
    /// Where ids are kept: memory or embedded [env: HOOKBRIDGE_STORE] [default: embedded]
    #[arg(long, value_name = "URL", value_parser = secret)]
    pub store: Option<Secret>,
    /// When the sender is answered [env: HOOKBRIDGE_ACK] [default: published]
    #[arg(long, value_name = "MODE")]
    pub ack: Option<String>,
    /// Directory of the embedded store [env: HOOKBRIDGE_DATA] [default: hookbridge-data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

impl ServeArgs {
    /// As `config` takes them.
    pub fn flags(&self) -> Flags {
        let ServeArgs { config, to, secret, secret_file, listen, admin, store, ack, data } = self.clone();
        Flags { config, to, secret, secret_file, listen, admin, store, ack, data }
    }
}

/// A value that clap neither refuses nor shows.
fn secret(text: &str) -> Result<Secret, Infallible> {
    Ok(Secret::new(text))
}
