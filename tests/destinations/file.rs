//! Files, read with the standard library. For an outage, the directory is moved away and a file takes its place.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use hookbridge::destination::settings::{BrokerUrl, DestinationSettings};
use hookbridge::event::STRUCTURED_CONTENT_TYPE;
use tempfile::TempDir;

use super::{Differences, Ending, Stored, Subject, subject};

pub struct Files {
    dir: Arc<TempDir>,
}

impl Files {
    /// Files on this disk.
    pub fn on(disk: &Path) -> Self {
        let dir = Arc::new(tempfile::tempdir_in(disk).expect("a directory"));
        fs::create_dir(dir.path().join("events")).expect("a directory");
        Files { dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("events")
    }

    fn moved_path(&self) -> PathBuf {
        self.dir.path().join("away")
    }
}

impl Subject for Files {
    const DIFFERENCES: Differences = Differences {
        always_structured: true,
        keeps_key: false,
        dedups: false,
        largest: None,
        unknown_topic: Ending::Confirmed,
        refused: Ending::Again,
        can_pause: false,
        has_topology: false,
    };

    async fn own() -> Self {
        Files::on(&std::env::temp_dir())
    }

    fn settings(&self, scope: &str) -> DestinationSettings {
        subject::settings(scope, BrokerUrl::File(self.path()))
    }

    async fn stored(&self, _scope: &str, topic: &str) -> Vec<Stored> {
        let text = fs::read(self.path().join(format!("{topic}.ndjson"))).unwrap_or_default();
        assert!(text.is_empty() || text.ends_with(b"\n"), "every line is whole");
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines
            .map(|line| Stored {
                content_type: STRUCTURED_CONTENT_TYPE.to_owned(),
                body: Bytes::copy_from_slice(line),
                ..Stored::default()
            })
            .collect()
    }

    async fn kill(&self) {
        fs::rename(self.path(), self.moved_path()).expect("moved away");
        fs::write(self.path(), "not a directory").expect("a file in its place");
    }

    async fn start_again(&self) {
        fs::remove_file(self.path()).expect("removed");
        fs::rename(self.moved_path(), self.path()).expect("moved back");
    }

    async fn refuse(&self, _scope: &str, topic: &str) {
        let path = self.path().join(format!("{topic}.ndjson"));
        let _ = fs::remove_file(&path); // the file may not exist yet
        fs::create_dir(&path).expect("a directory in its place");
    }

    async fn accept(&self, _scope: &str, topic: &str) {
        fs::remove_dir(self.path().join(format!("{topic}.ndjson"))).expect("removed");
    }
}
