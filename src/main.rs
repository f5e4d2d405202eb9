//! The `hookbridge` program. See `hookbridge::cli`.

use std::process::ExitCode;

use clap::Parser as _;

/// A delivery makes about a hundred small allocations, many of which another thread frees. mimalloc is fast at that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    hookbridge::tls::install_provider();
    match hookbridge::cli::Cli::try_parse() {
        Ok(cli) => hookbridge::cli::run(cli),
        Err(error) => hookbridge::cli::wrong_usage(&error),
    }
}
