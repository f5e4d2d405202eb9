//! The `hookbridge` program: see `hookbridge::cli`.

use std::process::ExitCode;

use clap::Parser as _;

/// A delivery is some hundred small allocations that are freed on other threads than those that made them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    hookbridge::tls::install_provider();
    match hookbridge::cli::Cli::try_parse() {
        Ok(cli) => hookbridge::cli::run(cli),
        Err(error) => hookbridge::cli::wrong_usage(&error),
    }
}
