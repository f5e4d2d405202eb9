//! Starts the server of a case, loads it, and ends it.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tokio::runtime::Runtime;

use super::case::{Case, Mode, Server, To};
use super::http::Connection;
use super::load::Load;
use super::row::Row;
use super::support::brokers::{Broker, Kind, With};
use super::support::program::{Program, SECRET};

/// Starts a broker. Beside a compiler, Kafka takes minutes.
pub fn broker(kind: Kind) -> Broker {
    Broker::start_with(kind, With { env: &[("BROKERS_TIMEOUT", "300")], ..With::default() })
}

/// Runs a case once. `configuration`: further settings of the bridge.
pub fn run(runtime: &Runtime, case: &Case, broker: Option<&Broker>, configuration: &str, load: &Load) -> Row {
    let drive = |pid: u32, address: &str| runtime.block_on(load.run(&case.name, pid, Connection::open(load, address)));
    match case.server {
        Server::Floor => {
            let floor = Floor::start();
            drive(floor.0.id(), &floor.1)
        }
        Server::Native => native(case, broker.expect("a broker").url(), load),
        Server::Bridge(mode) => {
            let directory = tempfile::tempdir().expect("a directory");
            let program = bridge(directory.path(), case.to, mode, broker, configuration);
            runtime.block_on(program.ready());
            let down = broker.filter(|_| mode == Mode::Down);
            down.inspect(|broker| broker.kill());
            let row = drive(program.pid(), &program.webhooks);
            drop(program);
            down.inspect(|broker| broker.start_again());
            row
        }
    }
}

/// The bridge as its users run it, with its data in a directory.
pub fn bridge(directory: &Path, to: To, mode: Mode, broker: Option<&Broker>, configuration: &str) -> Program {
    let (events, data) = (format!("file:{}/events", directory.display()), format!("{}/data", directory.display()));
    let url = match (to, broker) {
        (To::Kafka, Some(broker)) => format!("kafka://{}", broker.url()),
        (_, Some(broker)) => broker.url().to_owned(),
        (_, None) => events,
    };
    let mut arguments = vec!["--secret", SECRET, "--data", &data, "--to", &url];
    arguments.extend_from_slice(match mode {
        Mode::Memory => &["--store", "memory"],
        Mode::Embedded => &["--store", "embedded"],
        Mode::Stored | Mode::Down => &["--ack", "stored", "--ephemeral"],
    });
    let routes = if to == To::Nothing { "routes: [{match: '**', to: []}]\n" } else { "" };
    let (path, text) = (directory.join("hookbridge.yaml").display().to_string(), format!("{routes}{configuration}"));
    if !text.is_empty() {
        std::fs::write(&path, text).expect("written");
        arguments.extend(["--config", &path]);
    }
    Program::serve(&arguments)
}

/// This program in another role.
fn role(role: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a path"));
    command.arg(role).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

fn native(case: &Case, url: &str, load: &Load) -> Row {
    let mut command = role("run-native", &[case.to.name(), url]);
    let output = command.args(load.arguments()).stderr(Stdio::inherit()).output().expect("it runs");
    serde_json::from_slice(&output.stdout).expect("a row")
}

/// The floor, with its address.
struct Floor(Child, String);

impl Floor {
    fn start() -> Floor {
        let mut child = role("serve-floor", &[]).spawn().expect("it starts");
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
