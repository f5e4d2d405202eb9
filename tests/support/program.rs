//! The whole program as a process: `hookbridge serve`, killed when dropped.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// The signing secret of all tests.
pub const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// A running `hookbridge`.
pub struct Program {
    child: Child,
    log: Arc<Log>,
    /// `127.0.0.1:port` of the webhook listener.
    pub webhooks: String,
    /// `127.0.0.1:port` of the admin listener.
    pub admin: String,
}

#[derive(Default)]
struct Log {
    text: Mutex<String>,
    grown: Condvar,
}

impl Program {
    /// Starts `serve` with these arguments on free ports, and returns when it listens.
    pub fn serve(arguments: &[&str]) -> Program {
        Program::serve_on("127.0.0.1:0", "127.0.0.1:0", arguments)
    }

    /// Starts `serve` on these addresses.
    pub fn serve_on(webhooks: &str, admin: &str, arguments: &[&str]) -> Program {
        Program::start(&[&["serve", "--listen", webhooks, "--admin", admin], arguments].concat())
    }

    /// Starts `serve` on free ports with these environment variables.
    pub fn serve_with(arguments: &[&str], environment: &[(&str, &str)]) -> Program {
        let free = ["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        Program::start_with(&[&free[..], arguments].concat(), environment)
    }

    /// Starts any command that serves, and returns when it listens.
    pub fn start(arguments: &[&str]) -> Program {
        Program::start_with(arguments, &[])
    }

    /// Starts `serve` on free ports with this as its standard error, and returns at once.
    pub fn serve_into(stderr: Stdio, arguments: &[&str], environment: &[(&str, &str)]) -> Program {
        let free = || std::net::TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port");
        let (webhooks, admin) = (free().to_string(), free().to_string());
        let listeners = ["serve", "--listen", &webhooks, "--admin", &admin];
        let child = Program::spawn(&[&listeners[..], arguments].concat(), environment, stderr);
        Program { child, log: Arc::default(), webhooks, admin }
    }

    /// Starts `serve` on these addresses, with its log in a file, and returns at once: it may not live to listen.
    pub fn serve_for_a_moment(
        webhooks: &str,
        admin: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
        log: &Path,
    ) -> Program {
        let listeners = ["serve", "--listen", webhooks, "--admin", admin];
        let log = File::options().create(true).append(true).open(log).expect("a log file");
        let child = Program::spawn(&[&listeners[..], arguments].concat(), environment, log.into());
        Program { child, log: Arc::default(), webhooks: webhooks.to_owned(), admin: admin.to_owned() }
    }

    fn spawn(arguments: &[&str], environment: &[(&str, &str)], stderr: Stdio) -> Child {
        Command::new(env!("CARGO_BIN_EXE_hookbridge"))
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .expect("hookbridge starts")
    }

    fn start_with(arguments: &[&str], environment: &[(&str, &str)]) -> Program {
        let mut child = Program::spawn(arguments, environment, Stdio::piped());
        let log = Arc::new(Log::default());
        let (stderr, writing) = (child.stderr.take().expect("piped"), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                let Ok(line) = line else { break };
                *writing.text.lock().expect("no panic") += &(line + "\n");
                writing.grown.notify_all();
            }
            *writing.text.lock().expect("no panic") += "(end)\n";
            writing.grown.notify_all();
        });
        let mut program = Program { child, log, webhooks: String::new(), admin: String::new() };
        program.webhooks = program.logged_address("webhooks");
        program.admin = program.logged_address("admin");
        program
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The URL of a source.
    pub fn url(&self, source: &str) -> String {
        format!("http://{}/webhooks/{source}", self.webhooks)
    }

    /// The log so far.
    pub fn log(&self) -> String {
        self.log.text.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Waits until the log contains a text, and returns its line.
    pub fn logged(&self, text: &str) -> String {
        let deadline = Duration::from_secs(60);
        let find = |log: &str| log.lines().find(|line| line.contains(text)).map(str::to_owned);
        let log = self.log.text.lock().expect("no panic");
        let more = |log: &mut String| find(log).is_none() && !log.ends_with("(end)\n");
        let (log, _) = self.log.grown.wait_timeout_while(log, deadline, more).expect("no panic");
        find(&log).unwrap_or_else(|| panic!("not logged: {text}\n{log}"))
    }

    fn logged_address(&self, listener: &str) -> String {
        let line = self.logged(&format!("\"listener\":\"{listener}\""));
        let line: serde_json::Value = serde_json::from_str(&line).expect("a line of JSON");
        line["address"].as_str().expect("an address").to_owned()
    }

    /// Sends SIGTERM, and waits until the process ends.
    pub fn term(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.child.wait().expect("it ends")
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let kill = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status();
        assert!(kill.expect("kill runs").success());
    }

    /// Sends SIGKILL, and waits until the process has ended.
    pub fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// Resident bytes of the process.
    pub fn resident(&self) -> usize {
        let pages = std::fs::read_to_string(format!("/proc/{}/statm", self.pid())).expect("the process's memory");
        4096 * pages.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("a count of pages")
    }

    /// Open descriptors of the process.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("the process's descriptors").count()
    }

    /// How the process has ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("its state")
    }

    /// Waits until the process ends.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("it ends")
    }

    /// Requests a path of the admin listener. Returns status and body.
    pub async fn get(&self, path: &str) -> (u16, String) {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::TcpStream::connect(&self.admin).await.expect("connects");
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        (head.split(' ').nth(1).expect("a status").parse().expect("a number"), body.to_owned())
    }

    /// Waits until `/readyz` answers 200.
    pub async fn ready(&self) {
        super::wait::until("ready", Duration::from_secs(60), async || {
            (self.get("/readyz").await.0 == 200).then_some(())
        })
        .await;
    }

    /// How many publishes of the program had an unknown outcome.
    pub async fn unknown_outcomes(&self) -> usize {
        let (_, page) = self.get("/metrics").await;
        let lines = page.lines().filter(|line| line.starts_with("hookbridge_publishes_total"));
        let unknown = lines.filter(|line| line.contains("outcome=\"unknown\""));
        unknown.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as usize
    }

    /// The sum of a metric over all its labels.
    pub async fn sum(&self, name: &str) -> f64 {
        let (_, page) = self.get("/metrics").await;
        let value = |line: &str| {
            let rest = line.strip_prefix(name)?;
            if rest.starts_with(['{', ' ']) { rest.rsplit(' ').next()?.parse::<f64>().ok() } else { None }
        };
        page.lines().filter_map(value).sum()
    }

    /// The value of a metric, by its full name with labels; 0 if there is none.
    pub async fn metric(&self, name: &str) -> f64 {
        let (_, page) = self.get("/metrics").await;
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or(0.0)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of hookbridge {}\n{}---", self.pid(), self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
