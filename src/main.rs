//! The `hookbridge` program: see `hookbridge::cli`.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    hookbridge::tls::install_provider();
    match hookbridge::cli::Cli::try_parse() {
        Ok(cli) => hookbridge::cli::run(cli),
        Err(error) => hookbridge::cli::wrong_usage(&error),
    }
}
