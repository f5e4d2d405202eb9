//! The files that librdkafka reads only when a client is created: after a renewal, only a new client uses them.

use std::path::PathBuf;

use rdkafka::ClientConfig;

use crate::watched_files::WatchedFiles;

/// The properties that name such a file.
const PROPERTIES: [&str; 5] =
    ["ssl.ca.location", "ssl.certificate.location", "ssl.key.location", "ssl.keystore.location", "ssl.crl.location"];

/// The TLS files of a configuration.
pub(super) fn tls_files(config: &ClientConfig) -> WatchedFiles {
    // librdkafka searches the usual places for `probe`.
    let named = PROPERTIES.iter().filter_map(|name| config.get(name)).filter(|path| *path != "probe");
    WatchedFiles::new(named.map(PathBuf::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_are_watched() {
        let mut config = ClientConfig::new();
        assert!(tls_files(&config).is_empty());
        config.set("ssl.key.location", "probe");
        assert!(tls_files(&config).is_empty());
        config.set("ssl.ca.location", "/ca.pem");
        assert!(!tls_files(&config).is_empty());
    }
}
