//! Packages of other languages that tests install into `target/`, never for the whole system.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

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

/// Puts directories before those of `PATH`.
pub fn with_path(command: &mut Command, directories: &[PathBuf]) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = directories.iter().cloned().chain(std::env::split_paths(&path));
    command.env("PATH", std::env::join_paths(all).expect("a path"));
}

/// Whether the longer tests run too.
pub fn long() -> bool {
    std::env::var_os("HOOKBRIDGE_LONG").is_some()
}

/// Whether the directory holds what this text describes; if not, `install` puts it there.
fn once(directory: &Path, description: &str, install: impl FnOnce()) {
    let mark = directory.join("installed.txt");
    if !std::fs::read_to_string(&mark).is_ok_and(|text| text == description) {
        install();
        std::fs::write(mark, description).expect("written");
    }
}

/// Installs npm packages with exact versions, without running their scripts. Returns the directory, from which Node
/// resolves them.
pub fn npm(name: &str, packages: &[&str]) -> PathBuf {
    let directory = installed(name);
    once(&directory, &packages.join(" "), || {
        let mut npm = Command::new("npm");
        npm.args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix"]).arg(&directory).args(packages);
        run(&mut npm, "npm");
    });
    directory
}

/// Copies a project of Node, and installs what its lock file names. Returns the copy.
pub fn npm_project(name: &str, project: &Path) -> PathBuf {
    let directory = installed(name);
    let mut lock = String::new();
    for entry in std::fs::read_dir(project).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            let file = path.file_name().expect("a name");
            std::fs::copy(&path, directory.join(file)).expect("copied");
            if file == "package-lock.json" {
                lock = std::fs::read_to_string(&path).expect("read");
            }
        }
    }
    once(&directory, &lock, || {
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&directory);
        run(&mut npm, "npm");
    });
    directory
}

/// Node 24 or later: that of this system, or one from npm.
pub fn node24() -> PathBuf {
    let version = Command::new("node").arg("--version").output();
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let major = version.trim_start_matches('v').split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major >= 24) {
        return "node".into();
    }
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
    let package = format!("node-linux-{architecture}");
    npm("node24", &[&format!("{package}@24.21.0")]).join("node_modules").join(package).join("bin/node")
}

/// A virtual environment with these packages. Returns its Python.
pub fn python(name: &str, packages: &[&str]) -> PathBuf {
    let directory = installed(name);
    let python = directory.join("bin/python");
    once(&directory, &packages.join(" "), || {
        run(Command::new("python3").args(["-m", "venv"]).arg(&directory), "python3-venv");
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(packages), "python3-venv");
    });
    python
}

/// The directory of the example workers in a language.
pub fn examples(language: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/workers").join(language)
}

/// A Python with the packages of the Python workers, in a virtual environment.
pub fn python_workers() -> &'static Path {
    static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let list = examples("python").join("requirements.txt");
        python("workers", &std::fs::read_to_string(list).expect("read").lines().collect::<Vec<_>>())
    })
}

/// The directory with the TypeScript workers and their packages, and a Node that runs TypeScript.
pub fn typescript_workers() -> &'static (PathBuf, PathBuf) {
    static INSTALLED: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    INSTALLED.get_or_init(|| (npm_project("workers-ts", &examples("typescript")), node24()))
}
