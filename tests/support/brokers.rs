//! Real brokers for tests, through the script `tests/brokers`.
//!
//! ```ignore
//! let nats = Broker::start(Kind::Nats);         // only for this test, wiped when dropped
//! nats.kill();
//! nats.start_again();                           // same port, same data
//! let shared = Broker::shared(Kind::Nats);      // NATS_URL, or one for all tests of this process
//! ```
//!
//! An instance of its own is in a temporary directory. A guardian process wipes it when the [`Broker`] is dropped, or when
//! the test process dies without dropping it.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/brokers");

/// The kinds of brokers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// NATS with JetStream.
    Nats,
    /// One Kafka node (KRaft).
    Kafka,
    /// RabbitMQ.
    Rabbitmq,
    /// Redis.
    Redis,
}

impl Kind {
    fn name(self) -> &'static str {
        ["nats", "kafka", "rabbitmq", "redis"][self as usize]
    }

    /// The environment variable with its address: `NATS_URL` …
    pub fn variable(self) -> &'static str {
        ["NATS_URL", "KAFKA_BROKERS", "AMQP_URL", "REDIS_URL"][self as usize]
    }
}

/// Changes to the default configuration; `tests/brokers help` lists the variables.
#[derive(Clone, Copy, Debug, Default)]
pub struct With<'a> {
    /// Text that is appended to the generated configuration.
    pub conf: &'a str,
    /// Variables such as `("BROKERS_TLS", "1")`.
    pub env: &'a [(&'a str, &'a str)],
}

/// A running broker.
pub struct Broker {
    kind: Kind,
    exports: BTreeMap<String, String>,
    own: Option<Own>,
}

struct Own {
    dir: TempDir,
    guardian: Child,
    /// For later commands, too: `BROKERS_TIMEOUT` is not among the recorded settings.
    env: Vec<(String, String)>,
}

impl Broker {
    /// Starts a broker for this test only, and returns when it answers.
    pub fn start(kind: Kind) -> Broker {
        Broker::start_with(kind, With::default())
    }

    /// Starts a broker for this test only, with a changed configuration.
    pub fn start_with(kind: Kind, with: With<'_>) -> Broker {
        blocking(|| {
            let dir = tempfile::Builder::new().prefix("hookbridge-").tempdir().expect("a temporary directory");
            let env = with.env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let own = Own { guardian: guardian(&dir), dir, env };
            let mut command = script(&own, "start", kind);
            command.env("BROKERS_PORTS", ports().to_string());
            if !with.conf.is_empty() {
                let path = own.dir.path().join("appended.conf");
                std::fs::write(&path, with.conf).expect("written");
                command.env(format!("{}_CONF", kind.name().to_uppercase()), path);
            }
            let exports = exports(&run(command));
            Broker { kind, exports, own: Some(own) }
        })
    }

    /// Whether the environment names a running broker.
    pub fn is_given(kind: Kind) -> bool {
        std::env::var_os(kind.variable()).is_some_and(|url| !url.is_empty())
    }

    /// The broker that the environment names (`NATS_URL`, `KAFKA_BROKERS`, `AMQP_URL`, `REDIS_URL`), otherwise one for all
    /// tests of this process. Tests must not kill or pause it, and must use names from [`super::event::scope`].
    pub fn shared(kind: Kind) -> &'static Broker {
        static SHARED: [OnceLock<Broker>; 4] = [const { OnceLock::new() }; 4];
        SHARED[kind as usize].get_or_init(|| match std::env::var(kind.variable()) {
            Ok(url) if !url.is_empty() => {
                Broker { kind, exports: [(kind.variable().to_owned(), url)].into(), own: None }
            }
            _ => Broker::start(kind),
        })
    }

    /// Its address: `nats://127.0.0.1:4222`, `127.0.0.1:9092`, `amqp://guest:guest@127.0.0.1:5672/%2f` …
    pub fn url(&self) -> &str {
        self.export(self.kind.variable())
    }

    /// Another variable that `tests/brokers start` exports: `AMQPS_URL`, `BROKERS_CA`, `NATS_MONITOR` …
    pub fn export(&self, variable: &str) -> &str {
        self.exports.get(variable).unwrap_or_else(|| panic!("{:?} exports no {variable}", self.kind))
    }

    /// Sends SIGKILL, and returns when the process has ended.
    pub fn kill(&self) {
        self.control("kill");
    }

    /// Starts it again after [`kill`](Broker::kill) or [`stop`](Broker::stop): same port, same data.
    pub fn start_again(&self) {
        self.control("start");
    }

    /// Shuts it down, and returns when the process has ended.
    pub fn stop(&self) {
        self.control("stop");
    }

    /// Shuts it down and starts it again.
    pub fn restart(&self) {
        self.control("restart");
    }

    /// Shuts it down and starts it again with other text appended to its configuration.
    pub fn restart_with(&self, conf: &str) {
        let path = self.own().dir.path().join("brokers").join(self.kind.name()).join("appended.conf");
        std::fs::write(path, conf).expect("written");
        self.restart();
    }

    /// Sends SIGSTOP: connections stay open, but nothing answers.
    pub fn pause(&self) {
        self.control("pause");
    }

    /// Sends SIGCONT, after [`pause`](Broker::pause).
    pub fn resume(&self) {
        self.control("resume");
    }

    /// Runs `rabbitmqctl`, `redis-cli` or a Kafka tool on it and returns the output:
    /// `kafka.tool(&["TopicCommand", "--list"])`.
    pub fn tool(&self, arguments: &[&str]) -> String {
        blocking(|| {
            let mut command = script(self.own(), "tool", self.kind);
            command.args(arguments);
            run(command)
        })
    }

    fn control(&self, verb: &str) {
        blocking(|| run(script(self.own(), verb, self.kind)));
    }

    fn own(&self) -> &Own {
        self.own.as_ref().expect("a shared broker cannot be controlled")
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        drop(self.guardian.stdin.take());
        // If the guardian has failed, `TempDir` still removes the directory.
        let _ = self.guardian.wait();
    }
}

/// Starts a process that wipes the instance when its standard input ends. It has its own process group, so that Ctrl-C does
/// not end it.
fn guardian(dir: &TempDir) -> Child {
    Command::new("bash")
        .args(["-c", r#"cat >/dev/null; "$1" wipe; rm -rf -- "$2""#, "guardian", SCRIPT])
        .arg(dir.path())
        .env("BROKERS_DIR", dir.path().join("brokers"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("bash")
}

fn script(own: &Own, verb: &str, kind: Kind) -> Command {
    let mut command = Command::new(SCRIPT);
    command.args([verb, kind.name()]).env("BROKERS_DIR", own.dir.path().join("brokers")).stdin(Stdio::null());
    command.envs(own.env.iter().map(|(name, value)| (name, value)));
    command
}

/// # Panics
/// The command fails; the message contains its output.
fn run(mut command: Command) -> String {
    let output = command.output().expect("tests/brokers runs");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}\n{stdout}{stderr}");
    print!("{stderr}"); // shown only if the test fails
    stdout.into_owned()
}

fn exports(printed: &str) -> BTreeMap<String, String> {
    let words = printed.lines().filter_map(|line| line.strip_prefix("export ")).flat_map(|line| line.split(' '));
    words.filter_map(|word| word.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The first of 16 ports that the next broker of this process tries. Concurrent processes try different ports, and the range is
/// below the system's ephemeral ports.
pub fn ports() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    10_000 + (std::process::id() * 640 + NEXT.fetch_add(16, Ordering::Relaxed)) % 20_000
}

/// Runs blocking work; on a multi-threaded runtime, other tasks continue meanwhile.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}
