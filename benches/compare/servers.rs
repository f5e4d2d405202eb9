//! Starts the server of a case, loads it, and ends it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use tokio::runtime::Runtime;

use super::case::{Case, Mode, Server, To};
use super::http::Connection;
use super::load::Load;
use super::row::Row;
use super::support::brokers::Broker;
use super::support::program::{Program, SECRET};

/// Runs a case once.
pub fn run(runtime: &Runtime, case: &Case, broker: Option<&Broker>, load: &Load) -> Row {
    let drive = |pid: u32, address: &str| {
        runtime.block_on(load.run(&case.name, pid, Connection::open(load.connections, address)))
    };
    match case.server {
        Server::Floor => {
            let floor = Floor::start();
            drive(floor.0.id(), &floor.1)
        }
        Server::Native => native(case, broker.expect("a broker").url(), load),
        Server::Bridge(mode) => {
            let directory = tempfile::tempdir().expect("a directory");
            let program = bridge(directory.path(), case.to, mode, broker);
            runtime.block_on(program.ready());
            drive(program.pid(), &program.webhooks)
        }
    }
}

/// The bridge as its users run it.
fn bridge(directory: &std::path::Path, to: To, mode: Mode, broker: Option<&Broker>) -> Program {
    let (events, data) = (format!("file:{}/events", directory.display()), format!("{}/data", directory.display()));
    let url = match (to, broker) {
        (To::Kafka, Some(broker)) => format!("kafka://{}", broker.url()),
        (_, Some(broker)) => broker.url().to_owned(),
        (_, None) => events,
    };
    let config = directory.join("hookbridge.yaml").display().to_string();
    let text = format!("destinations: {{unused: {{url: '{url}'}}}}\nroutes: [{{match: '**', to: []}}]\n");
    std::fs::write(&config, text).expect("written");
    let target = if to == To::Nothing { ["--config", &config] } else { ["--to", &url] };
    let mode: &[&str] = match mode {
        Mode::Memory => &["--store", "memory"],
        Mode::Embedded => &["--store", "embedded"],
        Mode::Stored => &["--ack", "stored", "--ephemeral"],
    };
    Program::serve(&[&["--secret", SECRET, "--data", &data], &target[..], mode].concat())
}

/// This program in another role.
fn role(role: &str, names: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a path"));
    command.args(["--role", role]).args(names).stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

fn native(case: &Case, url: &str, load: &Load) -> Row {
    let mut command = role("native", &[case.to.name(), url]);
    for (name, value) in [("--seconds", load.measured), ("--warmup", load.warmup)] {
        command.args([name, &value.as_secs_f64().to_string()]);
    }
    command.args(["--connections", &load.connections.to_string()]);
    if let Some(rate) = load.rate {
        command.args(["--rate", &rate.to_string()]);
    }
    let output = command.stderr(Stdio::inherit()).output().expect("it runs");
    serde_json::from_slice(&output.stdout).expect("a row")
}

/// The floor, with its address.
struct Floor(Child, String);

impl Floor {
    fn start() -> Floor {
        let mut child = role("floor", &[SECRET]).spawn().expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("an address");
        Floor(child, line.trim().to_owned())
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
