//! Where the object store is.

use std::path::PathBuf;

use crate::secret::Secret;

/// The object store for bodies that are too large for a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectStoreSettings {
    /// `file:DIR`.
    Directory(PathBuf),
    /// `s3://BUCKET/PREFIX`.
    S3(S3Settings),
}

/// An S3-compatible store. What is `None` comes from the environment, as the AWS tools read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Settings {
    /// The bucket.
    pub bucket: String,
    /// What precedes the names of objects; may be empty.
    pub prefix: String,
    /// The URL of the server. Default: Amazon's for the region.
    pub endpoint: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// Access key id and secret access key.
    pub keys: Option<(Secret, Secret)>,
}

impl ObjectStoreSettings {
    /// The setting `url`.
    pub fn url(&self) -> String {
        match self {
            ObjectStoreSettings::Directory(directory) => format!("file:{}", directory.display()),
            ObjectStoreSettings::S3(S3Settings { bucket, prefix, .. }) if prefix.is_empty() => format!("s3://{bucket}"),
            ObjectStoreSettings::S3(S3Settings { bucket, prefix, .. }) => format!("s3://{bucket}/{prefix}"),
        }
    }
}
