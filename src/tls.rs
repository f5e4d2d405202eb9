//! TLS for every client that takes a rustls configuration: one explicit crypto provider, and root certificates that also
//! work in an image without any.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::destination::settings::Tls;
use crate::reason::{Failure, Reason};

/// Makes aws-lc-rs the process's crypto provider. Called first in `main`: a library that picks a provider by itself panics
/// at its first connection if two are compiled in.
pub fn install_provider() {
    // An error means that a provider is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// A client's TLS: the system's roots (the bundled ones where it has none) and the configured CA, and the client
/// certificate where one is configured.
///
/// # Errors
/// A file cannot be read, holds no certificate or key, or the key does not belong to the certificate.
pub fn client_config(tls: &Tls) -> Result<ClientConfig, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    if let Some(path) = &tls.ca {
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(|error| bad(path, error))?;
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::new(Reason::Io, format!("TLS: {error}")))?
        .with_root_certificates(roots);
    match (&tls.cert, &tls.key) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(cert), Some(key)) => {
            builder.with_client_auth_cert(certificates(cert)?, private_key(key)?).map_err(|error| bad(cert, error))
        }
        (Some(path), None) => Err(bad(path, "a client certificate needs its key")),
        (None, Some(path)) => Err(bad(path, "a client key needs its certificate")),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let pem = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(bad(path, "it holds no PEM certificate")),
        Err(error) => Err(bad(path, error)),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Failure> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| bad(path, error))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| bad(path, error))
}

fn bad(path: &Path, error: impl std::fmt::Display) -> Failure {
    Failure::new(Reason::Io, format!("TLS: {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_need_no_files() {
        assert!(client_config(&Tls::default()).is_ok());
    }

    #[test]
    fn a_bad_file_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let empty = directory.path().join("empty.pem");
        fs::write(&empty, "").unwrap();
        for tls in [
            Tls { ca: Some(empty.clone()), ..Tls::default() },
            Tls { ca: Some(directory.path().join("missing.pem")), ..Tls::default() },
            Tls { cert: Some(empty.clone()), ..Tls::default() },
            Tls { key: Some(empty.clone()), ..Tls::default() },
        ] {
            let failure = client_config(&tls).unwrap_err();
            assert_eq!(failure.reason, Reason::Io);
            assert!(failure.detail.contains(".pem"), "{failure}");
        }
    }
}
