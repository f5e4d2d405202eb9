//! A configuration and a data directory that outlive a process, for programs that are started again and for commands.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use super::command::run;
use super::program::{Program, SECRET};

/// See the module.
pub struct Site(TempDir);

impl Site {
    /// With these lines of configuration. `DIR` stands for the directory.
    pub fn new(configuration: &str) -> Site {
        let site = Site(tempfile::tempdir().expect("a directory"));
        site.configure(configuration);
        site
    }

    /// Replaces the configuration.
    pub fn configure(&self, configuration: &str) {
        let configuration = configuration.replace("DIR", &self.path().display().to_string());
        let text = format!("data: '{}'\n{configuration}\n", self.data().display());
        std::fs::write(self.path().join("hookbridge.yaml"), text).expect("written");
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    /// The configuration file.
    pub fn config(&self) -> String {
        self.path().join("hookbridge.yaml").display().to_string()
    }

    /// Starts the program.
    pub fn serve(&self) -> Program {
        self.serve_with(&[])
    }

    /// Starts the program with further arguments.
    pub fn serve_with(&self, more: &[&str]) -> Program {
        Program::serve(&[&["--config", &self.config(), "--secret", SECRET], more].concat())
    }

    /// Runs a command with the configuration of this site. Without a program, no address answers.
    pub fn command(&self, program: Option<&Program>, arguments: &[&str]) -> (i32, String, String) {
        let admin = program.map_or("127.0.0.1:1", |program| program.admin.as_str());
        run(&[arguments, &["--config", &self.config(), "--admin", admin]].concat(), &[], "")
    }

    /// The same for a command that succeeds and prints JSON.
    pub fn json(&self, program: Option<&Program>, arguments: &[&str]) -> Value {
        let (code, out, err) = self.command(program, &[arguments, &["--json"]].concat());
        assert_eq!(code, 0, "{arguments:?}: {out}{err}");
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {out}"))
    }

    /// The ids in a topic's file in a directory of this site.
    pub fn ids(&self, directory: &str, topic: &str) -> Vec<String> {
        let path = self.path().join(directory).join(format!("{topic}.ndjson"));
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let id = |line: &str| {
            let event: Value = serde_json::from_str(line).expect("a line of JSON");
            event["id"].as_str().expect("an id").to_owned()
        };
        text.lines().map(id).collect()
    }
}
