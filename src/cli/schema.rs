//! `hookbridge schema`: prints the schema of a form that users write or workers read.

use std::process::ExitCode;

use super::args::SettingsArgs;
use super::exit::{failed, mistakes};
use super::inputs::{process_environment, warnings, wrong};
use super::output::line;
use crate::asyncapi::document;
use crate::config::{load_without_secrets, nearest, quoted, schema};
use crate::payloads;
use crate::source::VIDEOGEN_EVENTS;

/// The end of the help.
pub(super) const EXAMPLES: &str = "Examples:\n\
    \x20 hookbridge schema config > hookbridge.schema.json\n\
    \x20 and in hookbridge.yaml: # yaml-language-server: $schema=hookbridge.schema.json\n\
    \x20 hookbridge schema json --event file.analysis_completed > file.analysis_completed.json\n\
    \x20 hookbridge schema asyncapi --config hookbridge.yaml > asyncapi.json";

/// Arguments of `schema`.
#[derive(clap::Args, Debug)]
pub struct SchemaArgs {
    #[command(subcommand)]
    of: Form,
}

#[derive(clap::Subcommand, Debug)]
enum Form {
    /// The configuration file, as JSON Schema, for editors
    Config,
    /// VideoGen's events, as JSON Schema (2020-12)
    Json(JsonArgs),
    /// The topics that a configuration makes and the messages in them, as an AsyncAPI 3.0 document; signing secrets may
    /// be missing
    Asyncapi(Box<SettingsArgs>),
}

/// Arguments of `schema json`.
#[derive(clap::Args, Debug)]
struct JsonArgs {
    /// Only this event [default: all known events]
    #[arg(long, value_name = "NAME")]
    event: Option<String>,
    /// The CloudEvent in structured mode, with the event as its `data`
    #[arg(long)]
    structured: bool,
}

/// Exit 1 if standard output is closed; exit 2 for an unknown event or a wrong configuration.
pub(super) fn run(args: &SchemaArgs) -> ExitCode {
    let schema = match &args.of {
        Form::Config => schema(),
        Form::Json(args) => match payloads::schema(args.event.as_deref(), args.structured) {
            Some(schema) => schema,
            None => return unknown(args.event.as_deref().unwrap_or_default()),
        },
        Form::Asyncapi(args) => match load_without_secrets(&args.flags(), &process_environment) {
            Ok(loaded) => {
                warnings(&loaded);
                document(&loaded.settings)
            }
            Err(all) => return mistakes(&all),
        },
    };
    line(format_args!("{schema:#}")).map_or_else(|error| failed(&error), |()| ExitCode::SUCCESS)
}

fn unknown(event: &str) -> ExitCode {
    let hint = nearest(event, VIDEOGEN_EVENTS).map(|name| format!(": did you mean `{name}`?")).unwrap_or_default();
    wrong(format_args!("--event: {} is not a known event{hint}", quoted(event)))
}
