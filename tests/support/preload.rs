//! Libraries for `LD_PRELOAD`, which come between a program and the system.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles a C file of `tests/` into a library in a directory.
pub fn compile(source: &str, directory: &Path) -> PathBuf {
    let (source, library) = (format!("{}/tests/{source}", env!("CARGO_MANIFEST_DIR")), directory.join("preload.so"));
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).status();
    assert!(compiled.expect("cc (Debian: build-essential)").success());
    library
}
