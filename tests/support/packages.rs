//! Packages of other languages that tests install into `target/`, never for the whole system.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A directory below `target/` for what tests install; it stays for the next run.
pub fn installed(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-packages").join(name);
    std::fs::create_dir_all(&directory).expect("a directory");
    directory
}

/// Runs a command to its end.
///
/// # Panics
/// It fails or is missing; the message has its output, and the Debian package that brings it.
pub fn run(command: &mut Command, package: &str) -> String {
    let output = match command.stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(error) => panic!("{command:?}: {error}. Install Debian's package {package}, or run tests/run"),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?} (Debian's package {package}):\n{stdout}{stderr}");
    stdout
}

/// Installs npm packages with exact versions, without running their scripts. Returns the directory, from which Node
/// resolves them.
pub fn npm(name: &str, packages: &[&str]) -> PathBuf {
    let directory = installed(name);
    let mark = directory.join("installed");
    if std::fs::read_to_string(&mark).is_ok_and(|text| text == packages.join(" ")) {
        return directory;
    }
    let mut npm = Command::new("npm");
    npm.args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix"]).arg(&directory).args(packages);
    run(&mut npm, "npm");
    std::fs::write(mark, packages.join(" ")).expect("written");
    directory
}
