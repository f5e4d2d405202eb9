//! `hookbridge endpoints` against a stub of VideoGen's API: secrets are kept or endpoints are removed, whatever fails.

mod support;

#[path = "endpoints/rotate.rs"]
mod rotate;
#[path = "endpoints/stub.rs"]
mod stub;

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use axum::http::Method;
use base64::Engine as _;
use hookbridge::source::VIDEOGEN_EVENTS;
use serde_json::Value;
use stub::{Fault, KEY, Stub};
use tempfile::TempDir;
use tokio::sync::Notify;

const URL: &str = "https://hooks.example.com/webhooks/videogen";

/// Runs `endpoints`; its output never contains the key, nor a secret unless it is for a manifest.
async fn endpoints(stub: &Stub, arguments: &[&str], input: &str) -> (i32, String, String) {
    let all = [&["endpoints"], arguments, &["--api-url", &stub.url]].concat();
    let all: Vec<String> = all.into_iter().map(str::to_owned).collect();
    let (shown, input) = (all.join(" "), input.to_owned());
    let run = move || {
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        support::command::run(&all, &[("VIDEOGEN_API_KEY", KEY), ("HOOKBRIDGE_LOG", "trace")], &input)
    };
    let (code, out, err) = tokio::task::spawn_blocking(run).await.expect("it runs");
    for text in [&out, &err] {
        assert!(!text.contains(KEY) && !text.contains('\u{1b}'), "{shown}\n{text}");
        assert!(!stub.endpoints().iter().any(|it| text.contains(&it["signingSecret"].as_str().expect("text")[6..])));
        // Advice names the prefix alone.
        let mut prefixes = text.split("whsec_").skip(1);
        assert!(prefixes.all(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric())), "{shown}\n{text}");
    }
    (code, out, err)
}

fn path(directory: &TempDir, name: &str) -> String {
    directory.path().join(name).display().to_string()
}

fn secret_of(stub: &Stub, id: &str) -> String {
    let all = stub.endpoints();
    let found = all.iter().find(|endpoint| endpoint["endpointId"] == id).expect("it exists");
    found["signingSecret"].as_str().expect("text").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn list_reads_every_page_and_shows_no_secret() {
    let stub = Stub::start().await;
    assert_eq!(endpoints(&stub, &["list"], "").await.1, "there are no endpoints\n");
    for number in 0..5 {
        stub.add(&format!("https://h/{number}"), &["file.upload.failed"]);
    }
    let (code, out, err) = endpoints(&stub, &["list", "--json"], "").await;
    let list: Vec<Value> = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, list.len()), (0, 5), "{err}");
    assert_eq!((&list[4]["endpointId"], &list[4]["url"]), (&"ep_5".into(), &"https://h/4".into()));
    let last4 = list[0]["signingSecretLast4"].as_str().expect("text");
    assert!(secret_of(&stub, "ep_1").ends_with(last4));
    let (code, out, _) = endpoints(&stub, &["list"], "").await;
    assert!(code == 0 && out.contains("ep_5  https://h/4") && out.contains("1 events"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_are_repeated_a_few_times_and_refusals_are_not() {
    let stub = Stub::start().await;
    for fault in [Fault::Status(429, Some("0")), Fault::Status(503, None), Fault::Lost] {
        stub.fail(Method::GET, fault);
    }
    let (code, _, err) = endpoints(&stub, &["list"], "").await;
    assert_eq!((code, stub.count("GET")), (0, 4), "{err}");
    for _ in 0..4 {
        stub.fail(Method::GET, Fault::Status(500, Some("0")));
    }
    let (code, _, err) = endpoints(&stub, &["list"], "").await;
    assert_eq!((code, stub.count("GET")), (1, 8));
    assert!(err.contains(&stub.url) && err.contains(r"500: Please come\nback later. (some_code)"), "{err}");

    // It asks for more patience than a command has.
    stub.fail(Method::GET, Fault::Status(429, Some("3600")));
    let (code, _, err) = endpoints(&stub, &["list"], "").await;
    assert!(code == 1 && err.contains("429") && err.contains("try again in 3600 s"), "{err}");
    assert_eq!(stub.count("GET"), 9);

    stub.fail(Method::GET, Fault::Garbled);
    let (code, _, err) = endpoints(&stub, &["list"], "").await;
    assert!(code == 1 && err.contains("does not have the expected form"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn key_comes_from_the_environment_or_a_file_and_is_never_shown() {
    let (stub, directory) = (Stub::start().await, tempfile::tempdir().expect("a directory"));
    let file = path(&directory, "key");
    std::fs::write(&file, format!("{KEY}\n")).expect("written");
    assert_eq!(endpoints(&stub, &["list", "--api-key-file", &file], "").await.0, 0);
    let wrong = path(&directory, "wrong");
    std::fs::write(&wrong, "vg_other").expect("written");
    let (code, _, err) = endpoints(&stub, &["list", "--api-key-file", &wrong], "").await;
    assert!(code == 1 && err.contains("401") && err.contains("check the API key"), "{err}");
    assert!(!err.contains("vg_other"), "{err}");

    let empty = path(&directory, "empty");
    std::fs::write(&empty, "\n").expect("written");
    let two = path(&directory, "two");
    std::fs::write(&two, "a b").expect("written");
    for (arguments, expected) in [
        (&["--api-key-file", &path(&directory, "nope")][..], "there is no such file"),
        (&["--api-key-file", &empty], "the file is empty"),
        (&["--api-key-file", &two], "a header cannot carry"),
    ] {
        let (code, _, err) = endpoints(&stub, &[&["list"], arguments].concat(), "").await;
        assert!(code == 2 && err.contains(expected), "{arguments:?}: {err}");
    }
    let (code, _, err) = support::command::run(&["endpoints", "list"], &[], "");
    assert!(code == 2 && err.contains("there is no API key"), "{err}");
    let plain = ["endpoints", "list", "--api-url", "http://api.videogen.io"];
    let (code, _, err) = support::command::run(&plain, &[("VIDEOGEN_API_KEY", KEY)], "");
    assert!(code == 2 && err.contains("use https://"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn create_keeps_the_secret_in_a_private_new_file() {
    let (stub, directory) = (Stub::start().await, tempfile::tempdir().expect("a directory"));
    let file = path(&directory, "secret");
    let (code, out, err) = endpoints(&stub, &["create", "--url", URL, "--secret-out", &file], "").await;
    assert!(code == 0 && out.contains("ep_1 created: 18 events"), "{out}{err}");
    assert_eq!(std::fs::read_to_string(&file).expect("a file"), secret_of(&stub, "ep_1") + "\n");
    assert_eq!(std::fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
    let events = stub.endpoints()[0]["events"].clone();
    assert_eq!(events, serde_json::to_value(VIDEOGEN_EVENTS).expect("JSON"));

    // Nothing is overwritten, and nothing is created when the secret has no place.
    let (code, _, err) = endpoints(&stub, &["create", "--url", URL, "--secret-out", &file], "").await;
    assert!(code == 1 && err.contains("exists") && err.contains(&file), "{err}");
    let nowhere = path(&directory, "no/such/directory");
    let (code, _, err) = endpoints(&stub, &["create", "--url", URL, "--secret-out", &nowhere], "").await;
    assert!(code == 1 && err.contains(&nowhere), "{err}");
    assert_eq!(stub.count("POST"), 1);

    // A refusal leaves no file; a second endpoint with the same URL is a warning.
    let second = path(&directory, "second");
    stub.fail(Method::POST, Fault::Status(422, None));
    let (code, _, err) = endpoints(&stub, &["create", "--url", URL, "--secret-out", &second], "").await;
    assert!(code == 1 && err.contains("422") && !Path::new(&second).exists(), "{err}");
    assert_eq!(stub.count("POST"), 2, "a refusal is final");
    stub.fail(Method::POST, Fault::Status(429, Some("0")));
    let create = ["create", "--url", URL, "--event", "file.upload.failed", "--secret-out", &second];
    let (code, _, err) = endpoints(&stub, &create, "").await;
    assert!(code == 0 && err.contains("warning: ep_1 has this URL already"), "{err}");
    assert_eq!(stub.endpoints()[1]["events"], serde_json::json!(["file.upload.failed"]));
    for (arguments, expected) in
        [(&["--url", URL][..], "--secret-out"), (&["--url", "http://h/", "--secret-out", "x"], "expected https://")]
    {
        let (code, _, err) = endpoints(&stub, &[&["create"], arguments].concat(), "").await;
        assert!(code == 2 && err.contains(expected), "{err}");
    }
}

/// The routes say which events are wanted, before there is a secret to configure.
#[tokio::test(flavor = "multi_thread")]
async fn events_are_those_that_the_routes_publish() {
    let (stub, directory) = (Stub::start().await, tempfile::tempdir().expect("a directory"));
    let (config, secret) = (path(&directory, "hookbridge.yaml"), path(&directory, "secret"));
    let text = format!(
        "sources: {{videogen: {{secrets: '${{file:{secret}}}'}}, stage: {{secrets: '${{NOT_SET}}', uri: 'urn:s'}}}}
destinations: {{files: {{url: 'file:x'}}}}
routes:
  - {{match: 'file.upload.failed', to: []}}
  - {{match: 'file.playback_ready', source: stage, to: files}}
  - {{match: 'file.upload.*', to: files}}
  - {{match: 'tool_execution.*', when: {{pointer: /toolType, in: [X]}}, to: files}}
"
    );
    std::fs::write(&config, text).expect("written");
    let create = ["create", "--url", URL, "--config", &config, "--secret-out", &secret];
    let (code, _, err) = endpoints(&stub, &create, "").await;
    assert_eq!(code, 0, "{err}");
    let mut events: Vec<String> = serde_json::from_value(stub.endpoints()[0]["events"].clone()).expect("names");
    events.sort();
    let tools = ["tool_execution.cancelled", "tool_execution.failed", "tool_execution.succeeded"];
    assert_eq!(events, [&["file.upload.completed"], &tools[..]].concat());

    let check = ["check", "ep_1", "--config", &config];
    let (code, out, err) = endpoints(&stub, &check, "").await;
    assert!(code == 0 && out.ends_with("ok\n"), "{out}{err}");
    let (code, out, err) = endpoints(&stub, &[&check[..], &["--source", "stage"]].concat(), "").await;
    assert!(code == 1 && out.contains("+ event file.playback_ready\n"), "{out}{err}");
    assert!(out.contains("+ url with the path /webhooks/stage of the source `stage`"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_compares_url_and_events() {
    let stub = Stub::start().await;
    stub.add("https://h/first", &["file.upload.failed"]);
    stub.add("https://h/second", &["file.upload.failed"]);
    let all = [&VIDEOGEN_EVENTS[..], &["file.new"]].concat();
    let (id, _) = stub.add(URL, &all);
    let (code, out, err) =
        endpoints(&stub, &["check", "--url", "https://HOOKS.example.com:443/webhooks/videogen"], "").await;
    assert!(code == 0 && out.contains("- event file.new (sent") && out.ends_with("ok\n"), "{out}{err}");
    assert_eq!(endpoints(&stub, &["check", &id, "--url", URL], "").await.0, 0);
    let (code, out, err) = endpoints(&stub, &["check", &id, "--url", "https://h/first"], "").await;
    assert!(code == 1 && out.contains(&format!("- url {URL}\n+ url https://h/first\n")), "{out}{err}");
    let (code, out, _) = endpoints(&stub, &["check", "--url", "https://h/first"], "").await;
    assert!(code == 1 && out.contains("+ event file.analysis_completed\n") && !out.contains("upload.failed"), "{out}");
    for which in [&["ep_9"][..], &["--url", "https://h/"]] {
        let (code, _, err) = endpoints(&stub, &[&["check"], which].concat(), "").await;
        assert!(code == 1 && err.contains("there is no such endpoint") && err.contains(&id), "{err}");
    }
    assert_eq!(endpoints(&stub, &["check"], "").await.0, 2);
    assert_eq!(stub.count("POST") + stub.count("DELETE"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_asks_and_never_takes_the_last_one_unasked() {
    let stub = Stub::start().await;
    stub.add(URL, &["file.upload.failed"]);
    stub.add(URL, &["file.upload.failed"]);
    for no in ["", "n\n", "yess\n"] {
        let (code, _, err) = endpoints(&stub, &["delete", "ep_1"], no).await;
        assert!(code == 1 && err.contains("delete ep_1 (") && err.contains("not deleted"), "{err}");
    }
    let (code, _, err) = endpoints(&stub, &["delete", "ep_9", "--yes"], "").await;
    assert!(code == 1 && err.contains("ep_1, ep_2"), "{err}");
    assert_eq!(stub.count("DELETE"), 0);
    // The answer is lost: the second attempt finds it gone.
    stub.fail(Method::DELETE, Fault::Lost);
    stub.fail(Method::DELETE, Fault::Status(503, Some("0")));
    let (code, out, err) = endpoints(&stub, &["delete", "ep_1"], "y\n").await;
    assert_eq!((code, stub.ids()), (0, vec!["ep_2".to_owned()]), "{out}{err}");
    let (code, _, err) = endpoints(&stub, &["delete", "ep_2"], "y\n").await;
    assert!(code == 1 && err.contains("the last endpoint") && err.contains("--yes"), "{err}");
    assert_eq!(endpoints(&stub, &["delete", "ep_2", "--yes"], "").await.0, 0);
    assert!(stub.ids().is_empty());
}

/// A lost answer leaves an endpoint whose secret is lost too: it is removed, and the second create counts.
#[tokio::test(flavor = "multi_thread")]
async fn create_whose_answer_is_lost_leaves_one_endpoint() {
    for fault in [Fault::Lost, Fault::BadGateway, Fault::Late, Fault::Garbled, Fault::Silent] {
        let (stub, directory) = (Stub::start().await, tempfile::tempdir().expect("a directory"));
        // The same URL, from before: not ours to delete.
        let (foreign, _) = stub.add(URL, &VIDEOGEN_EVENTS);
        stub.fail(Method::POST, fault.clone());
        let file = path(&directory, "secret");
        let (code, _, err) = endpoints(&stub, &["create", "--url", URL, "--secret-out", &file], "").await;
        assert_eq!(code, 0, "{fault:?}: {err}");
        let ids = stub.ids();
        assert!(ids.len() == 2 && ids.contains(&foreign), "{fault:?}: {ids:?} {err}");
        let ours = ids.iter().find(|id| **id != foreign).expect("ours");
        assert_eq!(std::fs::read_to_string(&file).expect("a file").trim_end(), secret_of(&stub, ours));
        assert_eq!(err.contains("deleted ep_2"), !matches!(fault, Fault::Silent), "{fault:?}: {err}");
        assert_eq!(stub.count("POST"), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn create_that_never_succeeds_leaves_nothing() {
    let (stub, directory) = (Stub::start().await, tempfile::tempdir().expect("a directory"));
    stub.fail(Method::POST, Fault::Lost);
    stub.fail(Method::POST, Fault::BadGateway);
    let file = path(&directory, "secret");
    let (code, _, err) = endpoints(&stub, &["create", "--url", URL, "--secret-out", &file], "").await;
    assert!(code == 1 && err.contains("in two attempts") && err.contains("endpoints list"), "{err}");
    assert!(stub.ids().is_empty() && !Path::new(&file).exists());
    assert_eq!(stub.count("POST"), 2);
}

/// The disk refuses the secret after the create.
#[tokio::test(flavor = "multi_thread")]
async fn endpoint_is_deleted_when_its_secret_cannot_be_written() {
    let (stub, directory) = (Stub::start().await, tempfile::tempdir().expect("a directory"));
    let file = path(&directory, "secret");
    let script = "trap '' XFSZ; ulimit -f 0; exec \"$@\"";
    let program = env!("CARGO_BIN_EXE_hookbridge");
    let run = |url: String| {
        let create = ["endpoints", "create", "--url", URL, "--secret-out", &file, "--api-url", &url];
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script, "sh", program]).args(create).env_clear().env("VIDEOGEN_API_KEY", KEY);
        command.output().expect("it runs")
    };
    for undeletable in [false, true] {
        if undeletable {
            stub.fail(Method::DELETE, Fault::Status(403, None));
        }
        let out = run(stub.url.clone());
        let err = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{err}");
        assert!(err.contains("cannot be written") && err.contains(&file) && !err.contains("whsec_"), "{err}");
        assert!(!Path::new(&file).exists());
        match undeletable {
            false => assert!(err.contains("ep_1 was deleted again") && stub.ids().is_empty(), "{err}"),
            true => assert!(err.contains("run `hookbridge endpoints delete ep_2`") && stub.ids().len() == 1, "{err}"),
        }
    }
}

fn create_manifest(stub: &Stub) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookbridge"));
    let create =
        ["endpoints", "create", "--url", URL, "--kubernetes-secret", "hookbridge/videogen", "--api-url", &stub.url];
    command.args(create).env_clear().env("VIDEOGEN_API_KEY", KEY).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The secret in a manifest that `kubectl apply -f -` takes.
fn in_manifest(manifest: &str, key: &str) -> Option<String> {
    let line = manifest.lines().find_map(|line| line.strip_prefix(&format!("  \"{key}\": \"")))?;
    let bytes = base64::engine::general_purpose::STANDARD.decode(line.trim_end_matches('"')).expect("base64");
    Some(String::from_utf8(bytes).expect("UTF-8"))
}

#[tokio::test(flavor = "multi_thread")]
async fn manifest_holds_the_secret_and_a_lost_manifest_no_endpoint() {
    let stub = Stub::start().await;
    let out = create_manifest(&stub).output().expect("it runs");
    let (manifest, err) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success() && err.contains("ep_1 created") && !err.contains("whsec_"), "{err}");
    assert!(manifest.contains("kind: Secret\nmetadata:\n  name: \"hookbridge\"\n"), "{manifest}");
    assert_eq!(in_manifest(&manifest, "videogen").as_deref(), Some(&*secret_of(&stub, "ep_1")));

    // Standard output is closed from the start: nothing is created.
    let (reader, closed) = std::io::pipe().expect("a pipe");
    drop(reader);
    let out = create_manifest(&stub).stdout(closed).output().expect("it runs");
    assert_eq!((out.status.code(), stub.count("POST")), (Some(1), 1));

    // It is closed while the endpoint is created: the endpoint is deleted.
    let (reached, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    stub.fail(Method::POST, Fault::Held(Arc::clone(&reached), Arc::clone(&go_on)));
    let mut child = create_manifest(&stub).spawn().expect("it starts");
    reached.notified().await;
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    stdout.read_line(&mut String::new()).expect("the first line");
    drop(stdout);
    go_on.notify_one();
    let mut err = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut err).expect("UTF-8");
    assert_eq!(child.wait().expect("it ends").code(), Some(1));
    assert!(err.contains("ep_2 was deleted again") && !err.contains("whsec_"), "{err}");
    assert_eq!(stub.ids(), ["ep_1"]);
}

/// A signal during the create does not lose the secret.
#[tokio::test(flavor = "multi_thread")]
async fn signal_waits_for_the_secret() {
    let (stub, directory) = (Stub::start().await, tempfile::tempdir().expect("a directory"));
    let file = path(&directory, "secret");
    let (reached, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    stub.fail(Method::POST, Fault::Held(Arc::clone(&reached), Arc::clone(&go_on)));
    let create = ["endpoints", "create", "--url", URL, "--secret-out", &file, "--api-url", &stub.url];
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookbridge"));
    command.args(create).env_clear().env("VIDEOGEN_API_KEY", KEY).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    reached.notified().await;
    let kill = Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status();
    assert!(kill.expect("kill runs").success());
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let first = lines.next().expect("a line").expect("UTF-8");
    assert!(first.contains("a second signal stops at once"), "{first}");
    go_on.notify_one();
    assert!(child.wait().expect("it ends").success());
    assert_eq!(std::fs::read_to_string(&file).expect("a file").trim_end(), secret_of(&stub, "ep_1"));
}
