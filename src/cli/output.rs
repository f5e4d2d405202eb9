//! What commands print. `println!` would panic when standard output is closed (`| head`) or full.

use std::fmt::Display;
use std::io::{BufRead as _, Read as _, Write as _, stderr, stdin, stdout};

use anyhow::Context as _;

/// Writes a line to standard output.
///
/// # Errors
/// It is closed or full: the command ends with this error.
pub(super) fn line(line: impl Display) -> anyhow::Result<()> {
    text(format_args!("{line}\n"))
}

/// Writes a text to standard output.
///
/// # Errors
/// Same as [`line`].
pub(super) fn text(text: impl Display) -> anyhow::Result<()> {
    let mut out = stdout().lock();
    write!(out, "{text}").and_then(|()| out.flush()).context("cannot write to standard output")
}

/// Writes a line to standard error. There is no place to report that this fails.
pub(super) fn note(line: impl Display) {
    let _ = writeln!(stderr(), "{line}");
}

/// Asks on standard error whether to go on. Only `y` and `yes` are a yes.
///
/// # Errors
/// Standard input cannot be read.
pub(super) fn confirmed(question: impl Display) -> anyhow::Result<bool> {
    let _ = write!(stderr(), "{question} [y/N] ").and_then(|()| stderr().flush());
    let mut answer = String::new();
    stdin().lock().take(100).read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
