//! What commands print. `println!` would panic when standard output is closed (`| head`) or full.

use std::fmt::Display;
use std::io::{Write as _, stderr, stdout};

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
