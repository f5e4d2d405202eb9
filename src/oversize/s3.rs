//! An S3-compatible store.

use std::time::Duration;

use bytes::Bytes;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::client::{ClientOptions, HttpClient, HttpConnector};
use object_store::path::Path;
use object_store::{Attribute, Attributes, ObjectStore as _, ObjectStoreExt as _, PutOptions, RetryConfig};

use super::settings::S3Settings;
use crate::destination::settings::Tls;
use crate::event::DATA_CONTENT_TYPE;
use crate::reason::{Failure, Reason};
use crate::tls::client_config;

/// Time limit for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// A request is repeated within this time; afterwards, the delivery is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// A bucket.
pub(super) struct Bucket {
    store: AmazonS3,
    url: String,
    prefix: Path,
}

/// Gives the library our HTTP client, with the roots and the crypto provider of every other client.
#[derive(Debug)]
struct OwnClient(reqwest::Client);

impl HttpConnector for OwnClient {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}

impl Bucket {
    /// Opens no connection.
    ///
    /// # Errors
    /// The settings, or those in the environment, can never work.
    pub(super) fn open(settings: &S3Settings, url: String) -> Result<Bucket, Failure> {
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .tls_backend_preconfigured(client_config(&Tls::default())?)
            .build()
            .map_err(|error| Failure::new(Reason::ObjectStore, format!("cannot create an HTTP client: {error}")))?;
        let retry = RetryConfig { max_retries: 2, retry_timeout: RETRY, ..RetryConfig::default() };
        // The environment has what the settings leave out: keys, region, web identity, container credentials.
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(&settings.bucket)
            .with_retry(retry)
            .with_http_connector(OwnClient(client));
        if let Some(endpoint) = &settings.endpoint {
            builder = builder.with_allow_http(endpoint.starts_with("http://")).with_endpoint(endpoint);
        }
        if let Some(region) = &settings.region {
            builder = builder.with_region(region);
        }
        if let Some((id, secret)) = &settings.keys {
            builder = builder.with_access_key_id(id.expose()).with_secret_access_key(secret.expose());
        }
        let store = builder.build().map_err(|error| failure(&error))?;
        let prefix = Path::parse(&settings.prefix)
            .map_err(|_| Failure::new(Reason::ObjectStore, "the prefix in claim_check.url is not a plain path"))?;
        Ok(Bucket { store, url, prefix })
    }

    /// Writes an object. It is durable when this returns.
    pub(super) async fn put(&self, name: &str, content: Bytes) -> Result<(), Failure> {
        let attributes = Attributes::from_iter([(Attribute::ContentType, DATA_CONTENT_TYPE)]);
        let options = PutOptions { attributes, ..PutOptions::default() };
        let path = self.path(name);
        self.store.put_opts(&path, content.into(), options).await.map(drop).map_err(|error| failure(&error))
    }

    /// Deletes an object.
    pub(super) async fn delete(&self, name: &str) -> Result<(), Failure> {
        self.store.delete(&self.path(name)).await.map_err(|error| failure(&error))
    }

    /// The URI of an object.
    pub(super) fn uri(&self, name: &str) -> String {
        format!("{}/{name}", self.url)
    }

    fn path(&self, name: &str) -> Path {
        name.split('/').fold(self.prefix.clone(), |path, part| path.join(part))
    }
}

/// The error without what the server repeats of the request.
fn failure(error: &object_store::Error) -> Failure {
    let (mut text, mut cause) = (error.to_string(), std::error::Error::source(error));
    if let Some((_, code)) = text.split_once("<Code>") {
        let code = code.split('<').next().unwrap_or_default();
        return Failure::new(Reason::ObjectStore, format!("the object store answers {code}"));
    }
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    Failure::new(Reason::ObjectStore, text)
}
