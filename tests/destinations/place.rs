//! A destination for tests of the whole program: a URL for `--to`, and what is stored there.

use std::collections::BTreeMap;
use std::path::Path;

use hookbridge::destination::settings::BrokerUrl;
use tempfile::TempDir;

use super::{Stored, Subject};
use crate::support::program::{Program, SECRET};

/// The default stream, which `--to nats://…` uses.
pub const SCOPE: &str = "EVENTS";

/// A destination that only this test uses, and a directory for the program.
pub struct Place<S> {
    /// The destination.
    pub subject: S,
    directory: TempDir,
}

impl<S: Subject> Place<S> {
    /// Starts the destination.
    pub async fn new() -> Self {
        Place::of(S::own().await)
    }

    /// A destination that is running.
    pub fn of(subject: S) -> Self {
        Place { subject, directory: tempfile::tempdir().expect("a directory") }
    }

    /// The value for `--to`.
    pub fn url(&self) -> String {
        match self.subject.settings(SCOPE).url {
            BrokerUrl::Nats(urls) | BrokerUrl::Amqp(urls) => urls[0].expose().to_owned(),
            BrokerUrl::Kafka(servers) => format!("kafka://{}", servers.join(",")),
            BrokerUrl::File(directory) => format!("file:{}", directory.display()),
        }
    }

    /// The program's data directory.
    pub fn data(&self) -> String {
        self.directory().join("data").display().to_string()
    }

    /// A temporary directory of this test.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Starts the program, which publishes to the destination. Each call uses the same data directory.
    pub fn serve(&self) -> Program {
        self.serve_with(&[])
    }

    /// The same with `--ack stored`.
    pub fn serve_stored(&self) -> Program {
        let more = ["--ack", "stored", "--ephemeral"];
        Program::serve(&[&["--to", &self.url(), "--secret", SECRET, "--data", &self.data()][..], &more].concat())
    }

    /// The same with these environment variables.
    pub fn serve_with(&self, environment: &[(&str, &str)]) -> Program {
        Program::serve_with(&["--to", &self.url(), "--secret", SECRET, "--data", &self.data()], environment)
    }

    /// Starts the program with routes, in which the destination has the name `broker`, and waits until it is ready.
    pub async fn serve_routes(&self, routes: &str) -> Program {
        let path = self.directory().join("hookbridge.yaml");
        let text =
            format!("destinations: {{broker: {{url: '{}'}}}}\nroutes: {routes}\ndata: '{}'\n", self.url(), self.data());
        std::fs::write(&path, text).expect("written");
        let program = Program::serve(&["--config", path.to_str().expect("UTF-8"), "--secret", SECRET]);
        program.ready().await;
        program
    }

    /// What is stored in a topic, oldest first.
    pub async fn stored(&self, topic: &str) -> Vec<Stored> {
        self.subject.stored(SCOPE, topic).await
    }

    /// How often each id is stored in a topic.
    pub async fn counts(&self, topic: &str) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for stored in self.stored(topic).await {
            *counts.entry(stored.id()).or_default() += 1;
        }
        counts
    }
}

/// Makes each case a test on each destination.
macro_rules! whole_program {
    (@cases $subject:ty; $($name:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            super::$name(suite::place::Place::<$subject>::new().await).await;
        })*
    };
    ($cases:tt; $($destination:ident: $subject:ty;)*) => {
        $(mod $destination {
            use super::*;
            suite::place::whole_program! { @all $subject; $cases }
        })*
    };
    (@all $subject:ty; { $($name:ident)* }) => { suite::place::whole_program! { @cases $subject; $($name)* } };
}
pub(crate) use whole_program;
