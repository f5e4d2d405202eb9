//! No message and no `Debug` output contains a secret, and no value becomes structure.

use super::*;

#[test]
fn values_cannot_become_structure() {
    let odd = "x\nack: stored\nlisten: [1]\n\"} , {: y";
    let environment = environment_of([("KEY", KEY), ("ODD", odd), ("TAB", "a: b")]);
    let text = "sources: {videogen: {secrets: \"${KEY}\"}}
destinations: {k: {url: 'kafka://h', properties: {client.id: '${ODD}', client.rack: '${TAB}'}}}\ndata: ${TAB}";
    let settings = load_text(text, Flags::default(), &environment).unwrap().settings;
    let value = |index: usize| settings.destinations[0].properties[index].1.expose();
    assert_eq!((value(0), value(1)), (odd, "a: b"));
    assert_eq!(settings.data, PathBuf::from("a: b"));
    assert_eq!(settings.listen.port(), 8080);
}

#[test]
fn references_in_names_of_settings_are_not_replaced() {
    let environment = environment_of([("KEY", KEY), ("NAME", "listen")]);
    let message = load_text("${NAME}: 1.2.3.4:5", Flags::default(), &environment).unwrap_err();
    assert!(message.starts_with("f:1:1: unknown setting: expected one of"), "{message}");
}

/// Puts a secret in every place where it may be put by mistake.
#[test]
fn messages_contain_no_secret() {
    const SECRET: &str = "whsec_hunter2hunter2hunter2hunter2hunter2";
    let places = [
        "sources: SECRET",
        "sources: {SECRET: {}}",
        "sources: {videogen: SECRET}",
        "sources: {videogen: {SECRET: 1}}",
        "sources: {videogen: {secrets: {SECRET: 1}}}",
        "sources: {videogen: {secrets: [[SECRET]]}}",
        "sources: {videogen: {secrets: {a: SECRET}}}",
        "sources: {videogen: {secrets: SECRET!}}",
        "sources: {videogen: {secrets: SECRET, secrets: SECRET}}",
        "sources: {videogen: {secrets: 'SECRET}}",
        "sources: {videogen: {path: SECRET, uri: '', tolerance: SECRET, legacy_headers: SECRET, payload: SECRET}}",
        "sources: {videogen: {events: [SECRET, 'a b'], in_flight: SECRET, attributes: {SECRET: SECRET}}}",
        "destinations: {d: {url: SECRET}}",
        "destinations: {d: {url: 'nats://SECRET:x@h:y'}}",
        "destinations: {d: {url: 'amqp://u:SECRET,@h'}}",
        "destinations: {d: {url: 'nats://h', properties: {SECRET: SECRET}}}",
        "destinations: {d: {url: 'nats://h', auth: SECRET}}",
        "destinations: {d: {url: 'nats://h', auth: {token: [SECRET]}}}",
        "destinations: {d: {url: 'nats://h', auth: {creds: SECRET}, tls: {cert: SECRET}, mode: SECRET}}",
        "destinations: {d: {url: 'nats://h'}}\nroutes: [{match: SECRET..x, to: [SECRET, {destination: d, topic: '{SECRET}'}]}]",
        "destinations: {d: {url: 'nats://h'}}\nunrouted: {destination: SECRET, topic: SECRET.*}",
        "routes: SECRET",
        "routes: [SECRET]",
        "routes: [{match: [SECRET]}]",
        "ack: SECRET",
        "store: SECRET",
        "store: 'redis://:SECRET@h'",
        "listen: SECRET",
        "admin: {token: [SECRET]}",
        "limits: {body: SECRET}",
        "limits: SECRET",
        "dedup: {window: SECRET}",
        "dead_letters: {to: SECRET}",
        "SECRET",
        "- SECRET",
        "a: *SECRET",
        "a: !SECRET x",
        "%SECRET",
        "? [SECRET]\n: 1",
        "{SECRET",
        "a: \"SECRET\\q\"",
        "when: {SECRET: [}",
        "data: ''\nSECRET: x",
        "\"SECRET",
        "<<: SECRET",
        "a: &SECRET b: c",
        "@SECRET",
        "sources: &a [*a, SECRET]",
    ];
    for place in places {
        let literal = load_file(&place.replace("SECRET", SECRET));
        let environment = environment_of([("S", SECRET)]);
        let filled = load_text(&place.replace("SECRET", "${S}"), Flags::default(), &environment);
        for message in [format!("{literal:?}"), literal.unwrap_err(), format!("{filled:?}"), filled.unwrap_err()] {
            assert!(!message.contains("hunter2"), "{place}: {message}");
        }
    }
}

#[test]
fn settings_print_no_secret() {
    let text = "sources: {videogen: {secrets: [\"${KEY}\", \"${OTHER}\"]}}
destinations:
  n: {url: \"nats://u:${PASSWORD}@h\", auth: {token: \"${BAD}\"}}
  r: {url: \"amqp://u:${PASSWORD}@h,i\"}
  k: {url: 'kafka://h', properties: {client.id: \"${BAD}\"}}
admin: {token: \"hunter2-and-16-more\"}
routes: [{match: '**', to: [n, r, k]}]";
    let Loaded { settings, warnings, .. } = load_file(text).unwrap();
    let shown = format!("{settings:?} {settings:#?} {warnings:?} {}", settings.print());
    for secret in ["hunter2", &KEY[6..14], &OTHER_KEY[6..14]] {
        assert!(!shown.contains(secret), "{shown}");
    }
    let BrokerUrl::Amqp(urls) = &settings.destinations[1].url else { panic!("not AMQP") };
    let urls: Vec<_> = urls.iter().map(Secret::expose).collect();
    assert_eq!(urls, ["amqp://u:hunter2%40x@h", "amqp://u:hunter2%40x@i"]);
}

#[test]
fn keys_that_are_encoded_twice_are_refused() {
    use base64::Engine as _;
    let encode = |text: &[u8]| base64::engine::general_purpose::STANDARD.encode(text);
    let twice = "the secret is base64-encoded twice: decode it once, so that it begins with whsec_ or whpk_";
    for key in [
        encode(KEY.as_bytes()),
        encode(format!("{OTHER_KEY}\n").as_bytes()),
        encode(KEY.as_bytes()).trim_end_matches('=').to_owned(),
        format!("whsec_{}", encode(KEY.as_bytes())),
    ] {
        let text = format!("sources: {{videogen: {{secrets: '{key}'}}}}\ndestinations: {{n: {{url: 'nats://h'}}}}");
        assert_eq!(load_file(&text).unwrap_err(), format!("f:1:31: {twice}"));
        let flags = Flags { secret: vec![Secret::new(key)], ..Flags::default() };
        assert_eq!(keys_given(&flags, &|_| None).unwrap_err().to_string(), format!("--secret: {twice}"));
    }
    // Keys may begin with any bytes, and consist of text.
    for key in [encode(b"whsec_\x00\x01\x02 and further bytes"), encode(b"a key of text, not of a key")] {
        let flags = Flags { secret: vec![Secret::new(key)], ..Flags::default() };
        assert_eq!(keys_given(&flags, &|_| None).unwrap().len(), 1);
    }
}

#[test]
fn admin_token_comes_from_a_flag_a_variable_or_the_file_and_is_no_accident() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "token-from-the-flag\n").unwrap();
    let flag = Flags { admin_token_file: Some(file.path().to_owned()), ..Flags::default() };
    let text = |token: &str| {
        format!(
            "sources: {{videogen: {{secrets: '{KEY}'}}}}\ndestinations: {{n: {{url: 'nats://h'}}}}\nadmin: {{token: {token}}}"
        )
    };
    let path = file.path().display().to_string();
    let token = |flags: &Flags, pairs: &[(&str, &str)]| {
        let loaded = load_text(&text("token-from-the-file"), flags.clone(), &environment_of(pairs.iter().copied()));
        loaded.map(|loaded| loaded.settings.admin_token.unwrap().expose().to_owned())
    };
    let variable = ("HOOKBRIDGE_ADMIN_TOKEN", "token-from-the-variable");
    assert_eq!(token(&Flags::default(), &[]).unwrap(), "token-from-the-file");
    assert_eq!(token(&Flags::default(), &[variable]).unwrap(), "token-from-the-variable");
    assert_eq!(token(&flag, &[variable]).unwrap(), "token-from-the-flag");
    let both = token(&Flags::default(), &[variable, ("HOOKBRIDGE_ADMIN_TOKEN_FILE", &path)]).unwrap_err();
    assert_eq!(both, "HOOKBRIDGE_ADMIN_TOKEN_FILE: give the admin token or its file, not both");
    for (value, expected) in [("''", "is empty"), ("'hunter2 hunter2'", "visible ASCII"), ("hunter2é", "visible ASCII")]
    {
        let message = load_file(&text(value)).unwrap_err();
        assert!(message.starts_with("f:3:") && message.contains(expected) && !message.contains("hunter"), "{message}");
    }
    let short = load_file(&text("hunter2")).unwrap().warnings;
    assert!(short.iter().any(|warning| warning.message.contains("16 random characters")), "{short:?}");
    assert!(!format!("{short:?}").contains("hunter"));
}

#[test]
fn flags_print_no_secret() {
    let flags =
        Flags { to: Some(Secret::new("nats://hunter2@h")), secret: vec![Secret::new("hunter2")], ..Flags::default() };
    assert!(!format!("{flags:?}").contains("hunter2"));
    let raw = raw::read("sources: {videogen: {secrets: hunter2}}").unwrap();
    assert!(!format!("{raw:?}").contains("hunter2"));
}
