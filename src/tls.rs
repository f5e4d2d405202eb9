//! TLS for every client that takes a rustls configuration: one explicit crypto provider, and root certificates that also
//! work in an image without any.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};

use crate::destination::settings::{SettingFault, SettingPart, Tls};
use crate::reason::{Failure, Reason};
use crate::settings_file;

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
        for certificate in root_certificates(path).map_err(|why| bad(path, why))? {
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
            let chain = certificates(cert).map_err(|why| bad(cert, why))?;
            let key = private_key(key).map_err(|why| bad(key, why))?;
            let pair = pair(chain, key).map_err(|why| bad(cert, why))?;
            Ok(builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair))))
        }
        (Some(path), None) => Err(bad(path, "a client certificate needs its key")),
        (None, Some(path)) => Err(bad(path, "a client key needs its certificate")),
    }
}

/// What is wrong with the files, all at once. A certificate without a key is no fault here.
pub fn faults(tls: &Tls) -> Vec<SettingFault> {
    let mut faults = Vec::new();
    let mut fault = |part, message| faults.push(SettingFault { part, message });
    if let Some(Err(why)) = tls.ca.as_deref().map(root_certificates) {
        fault(SettingPart::Ca, why);
    }
    let chain = tls.cert.as_deref().map(certificates);
    let key = tls.key.as_deref().map(private_key);
    if let Some(Err(why)) = &chain {
        fault(SettingPart::Cert, why.clone());
    }
    if let Some(Err(why)) = &key {
        fault(SettingPart::Key, why.clone());
    }
    if let (Some(Ok(chain)), Some(Ok(key))) = (chain, key)
        && let Err(why) = pair(chain, key)
    {
        fault(SettingPart::Key, why);
    }
    faults
}

/// Whether a private key in PEM needs a password.
pub fn is_encrypted(pem: &[u8]) -> bool {
    // PKCS #8 (RFC 7468, section 11), and the older form of OpenSSL (RFC 1421, section 4.6.1.1).
    [&b"-----BEGIN ENCRYPTED PRIVATE KEY-----"[..], b"Proc-Type: 4,ENCRYPTED"]
        .iter()
        .any(|mark| pem.windows(mark.len()).any(|window| window == *mark))
}

fn root_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = certificates(path)?;
    let mut roots = RootCertStore::empty();
    found
        .iter()
        .try_for_each(|certificate| roots.add(certificate.clone()))
        .map_err(|error| format!("a certificate in it cannot be used as a root: {error}"))?;
    Ok(found)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = settings_file::read(path).map_err(|error| error.to_string())?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err("it holds no PEM certificate".into()),
        Err(error) => Err(format!("it is not well-formed PEM: {error}")),
    }
}

fn private_key(path: &Path) -> Result<Arc<dyn SigningKey>, String> {
    let pem = settings_file::read(path).map_err(|error| error.to_string())?;
    if is_encrypted(&pem) {
        return Err("the key is encrypted: decrypt it, for example with `openssl pkey -in FILE -out FILE`".into());
    }
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| "it holds no PEM private key")?;
    any_supported_type(&key).map_err(|_| "this kind of private key is not supported".into())
}

/// A certificate with its key. Only the server judges the certificate: rustls would parse it, and refuse one of X.509
/// version 1, which `openssl x509 -req` creates and brokers accept.
fn pair(chain: Vec<CertificateDer<'static>>, key: Arc<dyn SigningKey>) -> Result<CertifiedKey, String> {
    let pair = CertifiedKey::new(chain, key);
    // A certificate contains its public key in the form that the key has by itself.
    if let (Some(certificate), Some(public)) = (pair.cert.first(), pair.key.public_key())
        && !certificate.windows(public.len()).any(|window| window == &*public)
    {
        return Err("the key does not belong to the certificate".into());
    }
    Ok(pair)
}

fn bad(path: &Path, why: impl std::fmt::Display) -> Failure {
    Failure::new(Reason::Io, format!("TLS: {}: {why}", path.display()))
}

#[cfg(test)]
mod tests;
