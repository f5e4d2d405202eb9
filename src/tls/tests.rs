use std::fs;
use std::path::PathBuf;

use super::*;

/// Made by `openssl`: `version1.pem` is what `openssl x509 -req` makes without extensions, with its key; `encrypted.key`
/// is the same key with a password, and `other.key` is the key of `ca.pem`.
fn fixture(name: &str) -> Option<PathBuf> {
    Some(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/tls/fixtures").join(name))
}

fn client(cert: &str, key: &str) -> Tls {
    Tls { ca: fixture("ca.pem"), cert: fixture(cert), key: fixture(key) }
}

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

/// The server judges it: rustls would refuse to parse it as an "invalid peer certificate".
#[test]
fn client_certificate_of_version_1_is_sent() {
    let config = client_config(&client("version1.pem", "version1.key")).unwrap();
    assert!(config.client_auth_cert_resolver.has_certs());
    assert!(client_config(&client("ca.pem", "other.key")).is_ok());
}

#[test]
fn all_faults_of_the_files_are_found() {
    let found = |tls: &Tls| {
        let faults = faults(tls).into_iter().map(|fault| (fault.part, fault.message.chars().take(28).collect()));
        faults.collect::<Vec<(SettingPart, String)>>()
    };
    assert_eq!(found(&client("version1.pem", "version1.key")), []);
    for cert in ["version1.pem", "ca.pem"] {
        let key = if cert == "ca.pem" { "version1.key" } else { "other.key" };
        let tls = client(cert, key);
        assert_eq!(found(&tls), [(SettingPart::Key, "the key does not belong to t".into())], "{cert}");
        assert!(client_config(&tls).unwrap_err().detail.contains("does not belong"), "{cert}");
    }
    let tls = client("version1.pem", "encrypted.key");
    assert_eq!(found(&tls), [(SettingPart::Key, "the key is encrypted: decryp".into())]);
    let tls = Tls { ca: fixture("version1.key"), ..client("other.key", "ca.pem") };
    assert_eq!(
        found(&tls),
        [
            (SettingPart::Ca, "it holds no PEM certificate".into()),
            (SettingPart::Cert, "it holds no PEM certificate".into()),
            (SettingPart::Key, "it holds no PEM private key".into()),
        ]
    );
    // Roots are ours to judge: rustls has to read them.
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let tls = Tls { ca: Some(file.path().into()), ..Tls::default() };
    assert_eq!(found(&tls), [(SettingPart::Ca, "a certificate in it cannot b".into())]);
    let tls = Tls { ca: Some("/dev/zero".into()), ..Tls::default() };
    assert_eq!(found(&tls), [(SettingPart::Ca, "it is larger than 1 MiB".into())]);
}
