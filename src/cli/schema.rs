//! `hookbridge schema`: prints the schema of a form that users write.

use std::process::ExitCode;

use super::exit::failed;
use super::output::line;
use crate::config::schema;

/// The end of the help.
pub(super) const EXAMPLES: &str = "Examples:\n\
    \x20 hookbridge schema config > hookbridge.schema.json\n\
    \x20 and in hookbridge.yaml: # yaml-language-server: $schema=hookbridge.schema.json";

/// Arguments of `schema`.
#[derive(clap::Args, Debug)]
pub struct SchemaArgs {
    /// What to print the schema of
    #[arg(value_enum)]
    of: Form,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum Form {
    /// The configuration file, as JSON Schema
    Config,
}

/// Exit 1 if standard output is closed.
pub(super) fn run(args: &SchemaArgs) -> ExitCode {
    let Form::Config = args.of;
    line(format_args!("{:#}", schema())).map_or_else(|error| failed(&error), |()| ExitCode::SUCCESS)
}
