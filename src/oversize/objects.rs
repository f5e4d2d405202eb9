//! Puts objects into the object store, each within a time limit.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::directory::ObjectDirectory;
use super::s3::Bucket;
use super::settings::ObjectStoreSettings;
use crate::reason::{Failure, Reason};

/// Time limit for an object.
const PUT: Duration = Duration::from_secs(30);

/// An open object store.
pub struct ObjectStorage {
    url: String,
    kind: StorageKind,
}

enum StorageKind {
    Directory(Arc<ObjectDirectory>),
    S3(Bucket),
}

impl ObjectStorage {
    /// Opens it. A directory is created if it is missing; a bucket is reached only when an object is put.
    ///
    /// # Errors
    /// The directory cannot be used, or the settings can never work.
    pub fn open(settings: &ObjectStoreSettings) -> Result<ObjectStorage, Failure> {
        let url = settings.url();
        let kind = match settings {
            ObjectStoreSettings::Directory(path) => {
                let opened = ObjectDirectory::open(path);
                StorageKind::Directory(Arc::new(opened.map_err(|error| unusable(&url, &error))?))
            }
            ObjectStoreSettings::S3(settings) => StorageKind::S3(Bucket::open(settings, url.clone())?),
        };
        Ok(ObjectStorage { url, kind })
    }

    /// Puts an object, and returns its URI once it is durable. `room` is released when the work ends, which may be after the
    /// time limit.
    ///
    /// # Errors
    /// It may not be durable. It can be put again.
    pub(super) async fn put(&self, name: &str, content: Bytes, room: OwnedSemaphorePermit) -> Result<String, Failure> {
        let put = async {
            match &self.kind {
                StorageKind::Directory(directory) => {
                    let (opened, path) = (Arc::clone(directory), name.to_owned());
                    let work = move || (opened.put(&path, &content), room).0;
                    let ended = tokio::task::spawn_blocking(work).await;
                    ended.map_err(|_| Failure::from(Reason::Failed))?.map_err(|error| unusable(&self.url, &error))?;
                    Ok(directory.uri(name))
                }
                StorageKind::S3(bucket) => {
                    let _room = room;
                    bucket.put(name, content).await?;
                    Ok(bucket.uri(name))
                }
            }
        };
        let late = || Failure::new(Reason::ObjectStore, format!("{}: no answer within {} s", self.url, PUT.as_secs()));
        timeout(PUT, put).await.unwrap_or_else(|_| Err(late()))
    }

    /// Puts a small object and deletes it. Returns lines for the operator.
    ///
    /// # Errors
    /// It cannot be written.
    pub async fn probe(&self) -> Result<Vec<String>, Failure> {
        let name = format!("hookbridge-probe/{:016x}.json", rand::random::<u64>());
        let room = Arc::new(tokio::sync::Semaphore::new(1)).acquire_owned().await;
        self.put(&name, Bytes::from_static(b"null"), room.map_err(|_| Failure::from(Reason::Failed))?).await?;
        let deleted = match &self.kind {
            StorageKind::Directory(directory) => directory.delete(&name).map_err(|error| unusable(&self.url, &error)),
            StorageKind::S3(bucket) => {
                timeout(PUT, bucket.delete(&name)).await.unwrap_or_else(|_| Err(Reason::Timeout.into()))
            }
        };
        let mut lines = vec![format!("{} can be written", self.url)];
        if let Err(failure) = deleted {
            lines.push(format!("warning: the probe {name} cannot be deleted: {}", failure.detail));
        }
        Ok(lines)
    }
}

fn unusable(url: &str, error: &std::io::Error) -> Failure {
    Failure::new(Reason::ObjectStore, format!("{url}: {error}"))
}
