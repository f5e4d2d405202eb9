//! `hookbridge schema config` against the parser: the same keys, and the same answer for what is right and wrong.

mod support;

use std::collections::BTreeSet;

use boon::{Compiler, SchemaIndex, Schemas};
use hookbridge::config::{Flags, environment_of, load, schema};
use serde_json::Value;
use support::command::run;
use support::program::SECRET;

struct Schema {
    schemas: Schemas,
    root: SchemaIndex,
}

impl Schema {
    fn new() -> Schema {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.add_resource("schema.json", schema()).expect("a resource");
        let root = compiler.compile("schema.json", &mut schemas).unwrap_or_else(|error| panic!("{error:#}"));
        Schema { schemas, root }
    }

    fn check(&self, text: &str) -> Result<(), String> {
        let options = serde_saphyr::options! { strict_booleans: true };
        let value: Value = serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())?;
        self.schemas.validate(&value, self.root).map_err(|error| error.to_string())
    }
}

fn parse(text: &str) -> Result<(), String> {
    hookbridge::tls::install_provider();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("hookbridge.yaml");
    std::fs::write(&path, text).expect("written");
    let environment = environment_of([("SECRET", SECRET)]);
    let flags = Flags { config: Some(path), ..Flags::default() };
    load(&flags, &environment).map(|_| ()).map_err(|mistakes| mistakes.to_string())
}

#[test]
fn command_prints_it() {
    let (code, out, err) = run(&["schema", "config"], &[], "");
    assert_eq!(code, 0, "{err}");
    assert_eq!(serde_json::from_str::<Value>(&out).expect("JSON"), schema());
}

/// The parser lists its keys when it finds an unknown one.
fn keys_of_the_parser(mapping: &str) -> BTreeSet<String> {
    let message = parse(&mapping.replace('@', "{unknown-key: 1}")).expect_err("unknown");
    let (_, list) = message.split_once("expected one of ").unwrap_or_else(|| panic!("{mapping}: {message}"));
    list.split(", ").map(|key| key.split('`').nth(1).expect("a key").to_owned()).collect()
}

#[test]
fn keys_are_those_of_the_parser() {
    let schema = schema();
    let at = |pointer: &str| schema.pointer(pointer).unwrap_or_else(|| panic!("{pointer}"));
    let mappings = [
        ("@", ""),
        ("sources: {a: @}", "/definitions/source"),
        ("sources: {a: {fields: @}}", "/definitions/source/properties/fields"),
        ("destinations: {a: @}", "/definitions/destination"),
        ("destinations: {a: {tls: @}}", "/definitions/destination/properties/tls"),
        ("destinations: {a: {auth: @}}", "/definitions/destination/properties/auth"),
        ("routes: [@]", "/definitions/route"),
        ("routes: [{when: @}]", "/definitions/route/properties/when"),
        ("routes: [{to: [@]}]", "/definitions/target/anyOf/1"),
        ("routes: [{to: @}]", "/definitions/target/anyOf/1"),
        ("unrouted: @", "/properties/unrouted/allOf/0/anyOf/1"),
        ("dedup: @", "/properties/dedup"),
        ("dead_letters: @", "/properties/dead_letters"),
        ("admin: @", "/properties/admin"),
        ("limits: @", "/properties/limits"),
        ("publish: @", "/properties/publish"),
        ("shutdown: @", "/properties/shutdown"),
        ("spool: @", "/properties/spool"),
        ("claim_check: @", "/properties/claim_check"),
    ];
    for (text, pointer) in mappings {
        let properties = at(pointer)["properties"].as_object().expect("properties");
        let keys: BTreeSet<String> = properties.keys().cloned().collect();
        assert_eq!(keys, keys_of_the_parser(text), "{text}");
    }
    // No mapping of the schema is left out above.
    let compared: BTreeSet<&str> = mappings.iter().map(|(_, pointer)| *pointer).collect();
    assert_eq!(count_mappings(&schema), compared.len());
}

/// The settings below a key of the schema, as rows of README's table.
fn rows(schema: &Value, name: &str, setting: &Value, table: &mut Vec<String>) {
    let resolve = |value: &Value| match value["$ref"].as_str() {
        Some(reference) => schema.pointer(reference.trim_start_matches('#')).expect("a definition").clone(),
        None => value.clone(),
    };
    let form = resolve(setting.pointer("/allOf/0").unwrap_or(setting));
    if let Some(settings) = form["properties"].as_object() {
        let dot = if name.is_empty() { "" } else { "." };
        return settings.iter().for_each(|(key, setting)| rows(schema, &format!("{name}{dot}{key}"), setting, table));
    }
    let named = resolve(&form["additionalProperties"]);
    if named["properties"].is_object() {
        return rows(schema, &format!("{name}.NAME"), &named, table);
    }
    let text = setting["description"].as_str().unwrap_or_else(|| panic!("{name} has no description"));
    let (meaning, default) = text.split_once(" Default: ").unwrap_or((text, ""));
    table.push(format!("| `{name}` | {} | {meaning} |\n", default.trim_end_matches('.')));
    let items = resolve(&form["items"]);
    if items["properties"].is_object() {
        rows(schema, &format!("{name}[]"), &items, table);
    }
    if let Some(target) = resolve(&form["anyOf"][0]).pointer("/anyOf/1") {
        rows(schema, &format!("{name}[]"), target, table);
    }
}

fn table() -> Vec<String> {
    let (schema, mut table) = (schema(), Vec::new());
    rows(&schema, "", &schema, &mut table);
    table
}

#[test]
fn readme_lists_every_setting() {
    let table = table();
    assert!(table.len() > 50 && table.iter().any(|row| row.starts_with("| `routes[].to[].key` |")), "{table:?}");
    let text = std::fs::read_to_string("README.md").expect("read");
    let table = table.concat();
    assert!(text.contains(&format!("|---|---|---|\n{table}\n")), "README's table of settings should be:\n{table}");
}

/// A default without quotes, and a time in seconds.
fn canonical(text: &str) -> String {
    let text = text.trim_matches('"');
    let minutes = text.strip_suffix('m').and_then(|minutes| minutes.parse::<u64>().ok());
    minutes.map_or_else(|| text.to_owned(), |minutes| format!("{}s", minutes * 60))
}

#[test]
fn documented_defaults_are_those_in_force() {
    let printed = ["nats", "kafka", "amqp"].map(|broker| {
        let to = format!("{broker}://h");
        let (code, out, err) = run(&["check", "--print", "--to", &to], &[("HOOKBRIDGE_SECRET", SECRET)], "");
        assert_eq!(code, 0, "{err}");
        serde_saphyr::from_str::<Value>(&out).unwrap_or_else(|error| panic!("{error}\n{out}"))
    });
    let mut compared = BTreeSet::new();
    for row in table() {
        let cells: Vec<&str> = row.split(" | ").collect();
        let (name, default) = (cells[0].trim_matches(['|', ' ', '`']), cells[1]);
        // Their defaults depend on the payload.
        if matches!(name, "sources.NAME.uri" | "sources.NAME.type_prefix") || name.contains(".fields.") {
            continue;
        }
        for settings in &printed {
            let found = name.split('.').fold(settings, |at, part| match at.as_object() {
                Some(members) if part == "NAME" => members.values().next().expect("one"),
                _ => &at[part],
            });
            if matches!(found, Value::String(_) | Value::Number(_) | Value::Bool(_)) {
                assert_eq!(canonical(&found.to_string()), canonical(&default.replace("NAME", "videogen")), "{name}");
                compared.insert(name.to_owned());
            }
        }
    }
    assert!(compared.len() > 25, "{compared:?}");
}

fn count_mappings(value: &Value) -> usize {
    match value {
        Value::Object(members) => {
            let own = usize::from(value["additionalProperties"] == false);
            own + members.values().map(count_mappings).sum::<usize>()
        }
        Value::Array(items) => items.iter().map(count_mappings).sum(),
        _ => 0,
    }
}

#[test]
fn examples_are_valid() {
    let schema = Schema::new();
    let mut examples = Vec::new();
    for file in ["README.md", "CONTRIBUTING.md"] {
        let text = std::fs::read_to_string(file).expect("read");
        let blocks = text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().expect("an end").to_owned());
        examples.extend(blocks.map(|block| (file.to_owned(), block)));
    }
    for entry in std::fs::read_dir("tests/fuzz/seeds/config").expect("a directory") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("read");
        // librdkafka judges the property, which has no user here.
        let loaded = parse(
            &text.replace("properties: {security.protocol: SASL_SSL}", "partitions: 6").replace("partitions: 12, ", ""),
        );
        assert_eq!(loaded, Ok(()), "{}", path.display());
        examples.push((path.display().to_string(), text));
    }
    assert!(examples.len() >= 3);
    for (name, text) in examples {
        assert_eq!(schema.check(&text), Ok(()), "{name}");
    }
}

const BEGIN: &str = "sources: {videogen: {secrets: '${SECRET}'}}\ndestinations: {a: {url: 'nats://h'}, b: {url: 'kafka://h'}}\nroutes: [{match: '**', to: [a, b]}]\n";

#[test]
fn right_files_pass_both() {
    let schema = Schema::new();
    let with = |more: &str| format!("{BEGIN}{more}");
    for text in [
        BEGIN.to_owned(),
        with("listen: '127.0.0.1:1'\nadmin: {listen: '${ADMIN:-127.0.0.1:2}', token: 0123456789abcdef}\ndata: 7\nack: published\nstore: memory"),
        with("dedup: {window: 2d}\ndead_letters: {to: a, max_bytes: 2GiB, max_age: 30d}\npublish: {timeout: 1 h}\nshutdown: {timeout: '9s'}\nx-anything: [1]"),
        with("limits: {body: 1048576, header_bytes: 64KiB, headers: '90', read_timeout: 500ms, request_timeout: 1s, connections: 9, requests: '${N:-7}', bytes: 1GiB, x-a: 1}"),
        with("unrouted: dead-letter"),
        with("unrouted: {destination: b, topic: rest}"),
        BEGIN.replace("[a, b]", "{destination: b, topic: 'x.{event}', key: '{subject}'}").replace("'**'", "'**', source: videogen, when: {pointer: /a, in: [1, x, null, true]}"),
        BEGIN.replace("[a, b]", "a").replace("'**'", "'**', source: [videogen]"),
        BEGIN.replace("'${SECRET}'", "['${SECRET}'], path: /x, uri: u, tolerance: 1m, legacy_headers: true, attributes: {env: 1}, type_prefix: 'x.', events: [a.b], payload: standard, fields: {event: /e, time: t, subject: [a, b]}, in_flight: 1, rate: 5"),
        BEGIN.replace("'nats://h'", "['nats://h', 'nats://i'], stream: S, mode: structured, topology: verify, forward_signature: 'true', in_flight: 5, in_flight_bytes: 64MiB, auth: {token: t}"),
        BEGIN.replace("'kafka://h'", "'kafka://h', partitions: 3, properties: {linger.ms: 5, socket.keepalive.enable: true}"),
    ] {
        assert_eq!((parse(&text), schema.check(&text)), (Ok(()), Ok(())), "{text}");
    }
}

#[test]
fn wrong_files_fail_both() {
    let schema = Schema::new();
    let with = |more: &str| format!("{BEGIN}{more}");
    for text in [
        with("lisen: x"),
        with("listen: [x]"),
        with("ack: publised"),
        with("store: mongodb://x"),
        with("dedup: {window: 7}"),
        with("dead_letters: {max_age: 7}"),
        with("dead_letters: {max_bytes: much}"),
        with("admin: {tokens: [x]}"),
        with("limits: {body: 8mb}"),
        with("limits: {connections: 0}"),
        with("limits: 7"),
        with("unrouted: [a]"),
        with("unrouted: {topic: a}"),
        with("publish: {timeout: 1w}"),
        BEGIN.replace("'${SECRET}'", "{a: b}"),
        BEGIN.replace("'${SECRET}'", "'${SECRET}', payload: videgen"),
        BEGIN.replace("'${SECRET}'", "'${SECRET}', legacy_headers: maybe"),
        BEGIN.replace("url: 'nats://h'", "stream: S"),
        BEGIN.replace("'nats://h'", "'nats://h', tls: {cafile: x}"),
        BEGIN.replace("'kafka://h'", "'kafka://h', partitions: many"),
        BEGIN.replace("match", "mach"),
        BEGIN.replace(", to: [a, b]", ""),
        BEGIN.replace("[a, b]", "[a, [b]]"),
        BEGIN.replace("[a, b]", "[a, {topic: x}]"),
        BEGIN.replace("'**'", "'**', when: {pointer: /a}"),
        BEGIN.replace("'**'", "'**', when: {pointer: /a, in: [[1]]}"),
    ] {
        assert!(parse(&text).is_err(), "the parser takes {text}");
        assert!(schema.check(&text).is_err(), "the schema takes {text}");
    }
}
