//! `hookbridge completions` and `hookbridge man`: what clap's own crates make of the command line.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Command as ClapCommand;
use clap_complete::Shell;

use super::exit::failed;
use super::inputs::wrong;
use super::output::text;

/// The end of the help.
pub(super) const COMPLETIONS_EXAMPLES: &str = "Examples:\n\
    \x20 hookbridge completions bash > /etc/bash_completion.d/hookbridge\n\
    \x20 hookbridge completions zsh > ~/.zfunc/_hookbridge\n\
    \x20 hookbridge completions fish > ~/.config/fish/completions/hookbridge.fish";

/// Arguments of `completions`.
#[derive(clap::Args, Debug)]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// The end of the help.
pub(super) const MAN_EXAMPLES: &str = "Examples:\n\
    \x20 hookbridge man | man -l -\n\
    \x20 hookbridge man send > hookbridge-send.1";

/// Arguments of `man`.
#[derive(clap::Args, Debug)]
pub struct ManArgs {
    /// The command whose page is printed [default: that of hookbridge]
    command: Option<String>,
}

/// Exit 1 if standard output is closed.
pub(super) fn completions(args: &CompletionsArgs, mut command: ClapCommand) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "hookbridge", &mut script);
    print(&script)
}

/// Exit 2 if there is no such command.
pub(super) fn man(args: &ManArgs, mut command: ClapCommand) -> ExitCode {
    command.build();
    let names: Vec<String> = command.get_subcommands().map(|known| known.get_name().to_owned()).collect();
    let page = match &args.command {
        None => Some(command),
        Some(name) => command.find_subcommand(name).cloned(),
    };
    let Some(page) = page else {
        return wrong(format_args!("there is no such command: expected one of {}", names.join(", ")));
    };
    let mut roff = Vec::new();
    match clap_mangen::Man::new(page).render(&mut roff).context("cannot make the page") {
        Ok(()) => print(&roff),
        Err(error) => failed(&error),
    }
}

fn print(output: &[u8]) -> ExitCode {
    text(String::from_utf8_lossy(output)).map_or_else(|error| failed(&error), |()| ExitCode::SUCCESS)
}
