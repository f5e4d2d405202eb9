//! The `hookbridge` program: see `hookbridge::cli`.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    hookbridge::tls::install_provider();
    hookbridge::cli::run(hookbridge::cli::Cli::parse())
}
