//! The examples as processes, with what they need installed into `target/`.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use rusqlite::Connection;

use super::stub::{KEY, Stub};
use crate::support::packages::{self, examples};
use crate::support::wait::{SOON, eventually};

/// The examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Example {
    RustNats,
    PythonKafka,
    PythonRabbitmq,
    TypescriptNats,
    TypescriptRabbitmq,
}

impl Example {
    fn command(self) -> Command {
        match self {
            Example::RustNats => Command::new(rust()),
            Example::PythonKafka => python("kafka_worker.py"),
            Example::PythonRabbitmq => python("rabbitmq_worker.py"),
            Example::TypescriptNats => typescript("nats-worker.ts"),
            Example::TypescriptRabbitmq => typescript("rabbitmq-worker.ts"),
        }
    }
}

/// Builds the Rust worker once, in the target directory of these tests: it shares their dependencies.
fn rust() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--locked", "--manifest-path"]).arg(examples("rust").join("Cargo.toml"));
        packages::run(cargo.arg("--target-dir").arg(&target), "cargo");
        target.join("debug/analysis-worker")
    })
}

fn python(script: &str) -> Command {
    let mut command = Command::new(packages::python_workers());
    command.arg("-u").arg(examples("python").join(script));
    command
}

fn typescript(script: &str) -> Command {
    let (directory, node) = packages::typescript_workers();
    let mut command = Command::new(node);
    command.arg(directory.join(script));
    command
}

/// A running worker, killed when dropped.
pub struct Worker {
    child: Child,
    output: Arc<Mutex<String>>,
}

impl Worker {
    /// Starts one under a name that it writes beside its results, and returns when it is ready.
    pub fn start(example: Example, name: &str, address: (&str, &str), database: &Path, stub: &Stub) -> Worker {
        let mut command = example.command();
        command
            .env(address.0, address.1)
            .env("DATABASE", database)
            .env("HOSTNAME", name)
            .env("VIDEOGEN_API", &stub.url)
            .env("VIDEOGEN_API_KEY", KEY)
            .env("ATTEMPTS", "3")
            .env("BACKOFF", "0.2")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let output = Arc::new(Mutex::new(String::new()));
        let streams: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(child.stdout.take().expect("piped")), Box::new(child.stderr.take().expect("piped"))];
        for stream in streams {
            let output = Arc::clone(&output);
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    *output.lock() += &(line + "\n");
                }
            });
        }
        let worker = Worker { child, output };
        worker.printed("ready");
        worker
    }

    /// What it has printed.
    pub fn output(&self) -> String {
        self.output.lock().clone()
    }

    /// Waits until it has printed a text.
    pub fn printed(&self, text: &str) {
        eventually(SOON, || self.output().contains(text));
    }

    /// Sends SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// Sends SIGTERM.
    pub fn term(&self) {
        let status = Command::new("kill").args(["-s", "TERM", &self.child.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    /// Whether it goes on for a second.
    pub fn goes_on(&mut self) -> bool {
        (0..100).all(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            self.child.try_wait().expect("its state").is_none()
        })
    }

    /// Waits until it ends.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("it ends")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- worker {}\n{}---", self.child.id(), self.output());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A result: event, file, text, bytes, worker.
pub type Row = (String, String, Option<String>, Option<i64>, String);

/// What the workers have stored, in order.
pub fn results(database: &Path) -> Vec<Row> {
    let Ok(connection) = Connection::open(database) else { return Vec::new() };
    connection.busy_timeout(SOON).expect("set");
    let sql = "SELECT id, file_id, text, bytes, worker FROM results ORDER BY rowid";
    let Ok(mut statement) = connection.prepare(sql) else { return Vec::new() };
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?));
    statement.query_map([], row).expect("rows").collect::<Result<_, _>>().expect("a row")
}

/// The number of attempts at an event.
pub fn attempts(database: &Path, id: &str) -> i64 {
    let connection = Connection::open(database).expect("opened");
    let sql = "SELECT attempts FROM handled WHERE id = ?";
    connection.query_row(sql, [id], |row| row.get(0)).unwrap_or_default()
}
