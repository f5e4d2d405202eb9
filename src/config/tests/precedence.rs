//! Flags override the environment, which overrides the file.

use super::*;

fn flags() -> Flags {
    Flags::default()
}

fn only(pairs: &[(&str, &str)], flags: &Flags) -> Result<Settings, String> {
    let loaded = load(flags, &environment_of(pairs.iter().copied()));
    loaded.map(|loaded| loaded.settings).map_err(|mistakes| mistakes.to_string())
}

#[test]
fn flags_alone_are_enough() {
    let given = Flags { to: Some(Secret::new("nats://127.0.0.1:4222")), secret: vec![Secret::new(KEY)], ..flags() };
    let settings = only(&[], &given).unwrap();
    assert_eq!(&*settings.destinations[0].name, "nats");
    assert_eq!(&*settings.sources[0].name, "videogen");
    assert_eq!(settings.store, StoreKind::Embedded);
}

#[test]
fn the_environment_alone_is_enough() {
    let both = format!("{KEY}  {OTHER_KEY}");
    let pairs = [
        ("HOOKBRIDGE_SECRET", both.as_str()),
        ("HOOKBRIDGE_TO", "kafka://h"),
        ("HOOKBRIDGE_STORE", "memory"),
        ("HOOKBRIDGE_DATA", "d"),
        ("HOOKBRIDGE_ADMIN", "127.0.0.1:1"),
        ("HOOKBRIDGE_LISTEN", ""),
        ("HOOKBRIDGE_ACK", "published"),
    ];
    let settings = only(&pairs, &flags()).unwrap();
    assert_eq!(settings.sources[0].keys.len(), 2);
    assert_eq!(settings.destinations[0].url.kind(), Kind::Kafka);
    assert_eq!((settings.store, settings.data), (StoreKind::Memory, "d".into()));
    assert_eq!((settings.admin.port(), settings.listen.port()), (1, 8080));
}

#[test]
fn flags_override_variables_override_the_file() {
    let text = "sources: {videogen: {secrets: \"${KEY}\", tolerance: 60s}}
destinations: {nats: {url: 'nats://file', stream: S}}
listen: 127.0.0.1:1
admin: {listen: 127.0.0.1:11}
data: file";
    let environment = environment_of([
        ("KEY", KEY),
        ("HOOKBRIDGE_TO", "nats://variable"),
        ("HOOKBRIDGE_LISTEN", "127.0.0.1:2"),
        ("HOOKBRIDGE_ADMIN", "127.0.0.1:12"),
        ("HOOKBRIDGE_SECRET", OTHER_KEY),
    ]);
    let given = Flags { to: Some(Secret::new("nats://flag")), listen: Some("127.0.0.1:3".into()), ..flags() };
    let settings = load_text(text, given, &environment).unwrap().settings;
    assert_eq!(settings.listen.port(), 3);
    assert_eq!(settings.admin.port(), 12);
    assert_eq!(settings.data, PathBuf::from("file"));
    assert_eq!(settings.destinations.len(), 1);
    assert_eq!(settings.destinations[0].url, BrokerUrl::Nats(vec![Secret::new("nats://flag")]));
    assert_eq!(settings.destinations[0].stream, "S");
    assert_eq!(settings.sources[0].keys.len(), 2, "the variable's key is added to that of the file");
    assert_eq!(settings.sources[0].tolerance, Duration::from_secs(60));
}

#[test]
fn keys_from_flags_replace_those_from_the_environment() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{KEY}\n{OTHER_KEY}\n")).unwrap();
    let given = Flags { secret_file: vec![file.path().to_owned()], secret: vec![Secret::new(KEY)], ..flags() };
    let environment = environment_of([("HOOKBRIDGE_SECRET", OTHER_KEY)]);
    assert_eq!(keys_given(&given, &environment).unwrap().len(), 3);
    assert_eq!(keys_given(&flags(), &environment).unwrap(), [Secret::new(OTHER_KEY)]);
    assert_eq!(keys_given(&flags(), &|_| None).unwrap(), []);
}

#[test]
fn environment_can_name_the_file() {
    let missing = only(&[("HOOKBRIDGE_CONFIG", "/nowhere/f.yaml")], &flags()).unwrap_err();
    assert_eq!(missing, "/nowhere/f.yaml: the file cannot be read: there is no such file");
}

#[test]
fn tls_roots_can_be_named_by_the_environment() {
    for (variable, named) in [("SSL_CERT_FILE", true), ("SSL_CERT_DIR", true), ("SSL_CERT", false)] {
        let pairs = [("HOOKBRIDGE_TO", "kafka://h"), ("HOOKBRIDGE_SECRET", KEY), (variable, "/roots")];
        assert_eq!(only(&pairs, &flags()).unwrap().destinations[0].roots_from_environment, named, "{variable}");
    }
}

#[test]
fn missing_settings_are_named() {
    assert_eq!(
        only(&[], &flags()).unwrap_err(),
        "settings: the source `videogen` has no secret, so no delivery can be verified: give --secret, HOOKBRIDGE_SECRET, \
         or `secrets` in the file (--config)\n\
         settings: no destination is configured: give --to, HOOKBRIDGE_TO, or `destinations` in the file (--config)"
    );
}

#[test]
fn mistakes_name_the_flag_or_variable() {
    let given = Flags { listen: Some("8080".into()), to: Some(Secret::new("htp://h")), ..flags() };
    assert_eq!(
        only(&[("HOOKBRIDGE_SECRET", ""), ("HOOKBRIDGE_ACK", "store")], &given).unwrap_err(),
        "--to: `htp://`: expected nats://, tls://, kafka://, amqp:// or amqps:// and host:port, or file:DIR\n\
         HOOKBRIDGE_SECRET: the secret is empty, so anyone could sign: set the endpoint's signing secret (whsec_…)\n\
         settings: no destination is configured: give --to, HOOKBRIDGE_TO, or `destinations` in the file (--config)\n\
         --listen: `8080`: expected an IP address and a port, such as 0.0.0.0:8080 or [::]:8080\n\
         HOOKBRIDGE_ACK: `store`: expected `published` or `stored`; did you mean `stored`?"
    );
}

/// Files of variables with Windows line ends leave a carriage return at the end of every value.
#[test]
fn carriage_returns_of_variables_are_removed() {
    let key = format!("{KEY}\r");
    let pairs = [
        ("HOOKBRIDGE_SECRET", key.as_str()),
        ("HOOKBRIDGE_TO", "nats://h\r"),
        ("HOOKBRIDGE_DATA", "data\r"),
        ("HOOKBRIDGE_LISTEN", "\r"),
        ("HOOKBRIDGE_STORE", "memory\r"),
    ];
    let settings = only(&pairs, &flags()).unwrap();
    assert_eq!((settings.data, settings.store), ("data".into(), StoreKind::Memory));
    assert_eq!(log_filter(&environment_of([("HOOKBRIDGE_LOG", "debug\r")])).as_deref(), Some("debug"));
}

#[test]
fn settings_files_have_a_bound() {
    for (given, expected) in [
        (
            Flags { config: Some("/dev/zero".into()), ..flags() },
            "/dev/zero: the file cannot be read: it is larger than 1 MiB",
        ),
        (
            Flags {
                to: Some(Secret::new("nats://h")),
                secret: vec![Secret::new(KEY)],
                secret_file: vec!["/dev/zero".into()],
                ..flags()
            },
            "--secret-file: the file `/dev/zero` is larger than 1 MiB",
        ),
    ] {
        assert_eq!(only(&[], &given).unwrap_err(), expected);
    }
}
