//! The whole program with a `file` destination and a configuration for the test.

use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;

use super::program::{Program, SECRET};

/// A running program that publishes to files.
pub struct Bridge {
    /// The program.
    pub program: Program,
    directory: TempDir,
}

impl Bridge {
    /// Starts it with the destination `files`, the shared secret, and further lines of configuration.
    pub fn serve(configuration: &str) -> Bridge {
        Bridge::serve_with(configuration, "", &[])
    }

    /// Starts it with a second destination and environment variables.
    pub fn serve_with(configuration: &str, destination: &str, environment: &[(&str, &str)]) -> Bridge {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("hookbridge.yaml");
        let (events, data) = (directory.path().join("events"), directory.path().join("data"));
        let text = format!(
            "destinations:\n  files: {{url: 'file:{}'}}\n  {destination}\ndata: '{}'\n{configuration}",
            events.display(),
            data.display()
        );
        std::fs::write(&path, text).expect("written");
        // A source whose secrets are in files has no other.
        let secret: &[&str] = if configuration.contains("secrets: [\"${file:") { &[] } else { &["--secret", SECRET] };
        let arguments = [&["--config", path.to_str().expect("UTF-8")], secret].concat();
        let program = Program::serve_with(&arguments, environment);
        Bridge { program, directory }
    }

    /// The configuration file.
    pub fn configuration(&self) -> PathBuf {
        self.directory.path().join("hookbridge.yaml")
    }

    /// The URL of a source.
    pub fn url(&self, source: &str) -> String {
        self.program.url(source)
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// The events in a topic's file.
    pub fn events(&self, topic: &str) -> Vec<Value> {
        let path = self.directory.path().join("events").join(format!("{topic}.ndjson"));
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    /// Their ids.
    pub fn ids(&self, topic: &str) -> Vec<String> {
        self.events(topic).iter().map(|event| event["id"].as_str().expect("an id").to_owned()).collect()
    }
}
