//! The commands as processes: their output and exit codes.

mod support;

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use support::bridge::Bridge;
use support::command::run;
use support::program::{Program, SECRET};
use support::sender::{now, signature};

#[tokio::test(flavor = "multi_thread")]
async fn send_prints_the_answers() {
    let bridge = Bridge::serve("");
    let url = bridge.url("videogen");
    let send =
        |more: &[&str], input: &str| run(&[&["send", "--url", &url, "--secret", SECRET], more].concat(), &[], input);

    let (code, out, _) = send(&["--id", "s", "--json"], "");
    let report: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &report["sent"], &report["answers"]["200 accepted"]), (0, &18.into(), &18.into()), "{out}");
    let files: usize = hookbridge::source::VIDEOGEN_EVENTS.iter().map(|event| bridge.ids(event).len()).sum();
    assert_eq!(files, 18);

    // The same ids again.
    let (code, out, _) = send(&["--id", "s"], "");
    assert!(code == 0 && out.contains("18  200 duplicate"), "{out}");

    // Own JSON, five times, at a rate, all duplicates of the first.
    let body = r#"{"event":"file.playback_ready","fileId":"mine"}"#;
    let (code, out, _) = send(&["--body", "-", "-n", "5", "--rate", "100", "--duplicates", "1"], body);
    assert!(code == 0 && out.contains("1  200 accepted") && out.contains("4  200 duplicate"), "{out}");
    assert_eq!(bridge.events("file.playback_ready").iter().filter(|event| event["subject"] == "mine").count(), 1);
    let (code, _, _) = send(&["--event", "file.upload.failed", "-n", "3"], "");
    assert_eq!((code, bridge.ids("file.upload.failed").len()), (0, 4));

    // An answer that is expected: a copy is a duplicate, a single delivery is none.
    let copy = [
        "--event",
        "file.upload.failed",
        "-n",
        "2",
        "--duplicates",
        "1",
        "--connections",
        "1",
        "--expect",
        "duplicate",
    ];
    let (code, out, err) = send(&copy, "");
    assert!(code == 0 && out.contains("1  200 duplicate"), "{out}{err}");
    let (code, _, err) = send(&["--event", "file.upload.failed", "--expect", "duplicate"], "");
    assert!(code == 1 && err.contains("no delivery was answered `duplicate`"), "{err}");

    // Another secret: the deliveries are refused, and the command fails.
    let other = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let (code, out, err) = run(&["send", "--url", &url, "--secret", other, "-n", "1"], &[], "");
    assert!(code == 1 && out.contains("401 not_verified"), "{out}{err}");
}

/// A named source of a configuration has its own secret, path, events and payload.
#[tokio::test(flavor = "multi_thread")]
async fn send_sends_as_a_source() {
    const OTHER: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("hookbridge.yaml");
    let at = |name: &str| directory.path().join(name).display().to_string();
    let text = format!(
        "sources:
  videogen: {{secrets: '{SECRET}'}}
  stage: {{secrets: '{OTHER}', uri: 'urn:stage', path: /hooks/second}}
  shop: {{secrets: '{OTHER}', payload: standard, events: [order.paid, order.refunded]}}
  wrong: {{secrets: '{OTHER}', uri: 'urn:wrong', fields: {{event: kind}}}}
destinations: {{files: {{url: 'file:{}'}}}}
routes: [{{match: '**', to: {{destination: files, topic: '{{source}}'}}}}]
data: '{}'
",
        at("events"),
        at("data")
    );
    std::fs::write(&path, &text).expect("written");
    let path = path.to_str().expect("UTF-8");
    let program = Program::serve(&["--config", path]);
    // The address of `serve`, which was started on a free port.
    let sending = text + &format!("listen: {}\n", program.webhooks);
    let config = at("send.yaml");
    std::fs::write(&config, sending).expect("written");
    let send =
        |more: &[&str]| run(&[&["send", "--config", &config], more].concat(), &[("HOOKBRIDGE_SECRET", SECRET)], "");
    for (arguments, count) in [
        (&[][..], 18),
        (&["--source", "stage"], 18),
        (&["--source", "shop"], 2),
        (&["--source", "shop", "--event", "order.paid"], 1),
    ] {
        let arguments = if arguments.is_empty() { &["--source", "videogen"][..] } else { arguments };
        let (code, out, err) = send(arguments);
        assert!(code == 0 && out.contains(&format!("{count}  200 accepted")), "{arguments:?}: {code}\n{out}{err}");
    }
    let url = program.url("videogen");
    let (code, out, err) = run(&["send", "--source", "x", "--url", &url, "--secret", SECRET, "-n", "1"], &[], "");
    assert!(code == 0, "without a configuration, the name is only a part of the URL: {out}{err}");
    let (code, out, err) = send(&["--source", "nope"]);
    assert!(code == 2 && out.is_empty() && err.contains("`videogen` or `stage` or `shop`"), "{err}");
    let (code, _, err) = send(&["--source", "shop", "--event", "order.payd"]);
    assert!(code == 2 && err.contains("did you mean `order.paid`?"), "{err}");

    // Dead letters are no success.
    let body = at("body.json");
    std::fs::write(&body, r#"{"type":"order.paid"}"#).expect("written");
    let (code, out, err) = send(&["--source", "stage", "--body", &body]);
    assert!(code == 1 && out.contains("1  200 dead-lettered") && err.contains("became dead letters"), "{out}{err}");
}

#[test]
fn wrong_usage_exits_2_and_names_what_is_expected() {
    for (arguments, expected) in [
        (&["send", "--rate", "inf"][..], "expected a number from 0.001 to 1000000"),
        (&["send", "--rate", "0"], "expected a number"),
        (&["send", "--duplicates", "2"], "expected a number from 0 to 1"),
        (&["send", "--event", "file.nope"], "file.analysis_completed"),
        (&["send", "--url", "foo"], "expected http://host:port/path"),
        (&["send"], "no secret"),
        (&["serve"], "no destination is configured"),
        (&["serve", "--to", "redis://h", "--secret", SECRET], "--to: "),
        (&["serve", "--to", "file:x", "--secret", ""], "the secret is empty"),
        (&["serve", "--to", "file:x", "--secret", SECRET, "--store", "redis://h"], "not available yet"),
        (
            &["serve", "--to", "file:x", "--secret", SECRET, "--ack", "stored", "--store", "memory"],
            "`stored` needs a store on disk",
        ),
        (
            &["serve", "--to", "file:x", "--secret", SECRET, "--ack", "publised"],
            "--ack: `publised`: expected `published` or `stored`; did you mean `published`?",
        ),
        (&["serve", "--to", "natz://h", "--secret", SECRET], "--to: `natz://`: expected nats://"),
        (
            &["serve", "--to", "file:x", "--secret", SECRET, "--store", "mongodb://x"],
            "unknown store `mongodb://`: expected `embedded` or `memory`",
        ),
        (&["serve", "--to", "file:x", "--secret", "whsk_aGk="], "is a private signing key, not a secret"),
        (&["serve", "--config", "/nowhere.yaml"], "/nowhere.yaml"),
        (&["serve", "--to", "file:x", "--secret", SECRET, "--admin-token-file", "/nowhere"], "/nowhere"),
        (&["check", "--to", "amqp://u:p#a@h", "--secret", SECRET], "`#` as %23"),
        (&["verify", "--header", "webhook-id: a"], "no secret"),
        (&["serv"], "serve"),
        (&[], "Usage"),
    ] {
        let (code, out, err) = run(arguments, &[], "");
        assert!(code == 2 && err.contains(expected) && out.is_empty(), "{arguments:?}: {code}\n{out}{err}");
    }
    let (code, _, err) = run(&["serve", "--to", "file:x", "--secret", SECRET], &[("HOOKBRIDGE_LOG", "loud")], "");
    assert!(code == 2 && err.contains("HOOKBRIDGE_LOG"), "{err}");
}

/// A secret in the wrong argument is not quoted in a message, because messages end up in logs.
#[test]
fn messages_contain_no_secret() {
    let key = SECRET.trim_start_matches("whsec_");
    let with = |name: &'static str| [(name, SECRET)];
    for (arguments, environment) in [
        (&["serve", "--secret", SECRET, SECRET][..], &[][..]),
        (&["serve", "--to", SECRET], &[]),
        (&["serve", "--secret-file", SECRET], &[]),
        (&["serve", "--listen", SECRET, "--secret", SECRET], &[]),
        (&["serve", "--store", SECRET], &[]),
        (&["serve", SECRET], &[]),
        (&[SECRET], &[]),
        (&["serve"], &with("HOOKBRIDGE_TO")),
        (&["serve"], &with("HOOKBRIDGE_SECRET_FILE")),
        (&["serve"], &with("HOOKBRIDGE_LISTEN")),
        (&["serve", "--to", "file:x", "--admin-token-file", SECRET], &[]),
        (&["serve", "--to", "file:x", "--secret", SECRET, "--admin", "x"], &with("HOOKBRIDGE_ADMIN_TOKEN")),
        (&["check", "--print", "--to", "file:x", "--secret", SECRET], &with("HOOKBRIDGE_ADMIN_TOKEN")),
        (&["serve", "amqp://user:C2FVsBQIhrscChlQIMV+b5sSYspob7oD@h"], &[]),
        (&["serve", "--to", "amqp://user:C2FVsBQIhrscChlQIMV+b5sSYspob7oD@h@i", "--secret", SECRET], &[]),
        (&["check", "--print", "--to", "nats://u:C2FVsBQIhrscChlQIMV+b5sSYspob7oD@h", "--secret", SECRET], &[]),
    ] {
        let (code, out, err) = run(arguments, environment, "");
        assert!(!(out.clone() + &err).contains(key), "{arguments:?} {environment:?}: {code}\n{out}{err}");
        assert_eq!(code, if arguments[0] == "check" { 0 } else { 2 }, "{arguments:?}\n{err}");
    }
}

#[test]
fn verify_uses_keys_from_flags_environment_and_configuration() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("hookbridge.yaml");
    std::fs::write(
        &path,
        format!("sources: {{videogen: {{secrets: ['{SECRET}']}}}}\ndestinations: {{files: {{url: 'file:x'}}}}"),
    )
    .expect("written");
    let path = path.to_str().expect("UTF-8");
    let (now, body) = (now(), "{}");
    let headers = [
        "webhook-id: msg_1".to_owned(),
        format!("webhook-timestamp: {now}"),
        format!("webhook-signature: {}", signature("msg_1", now, body.as_bytes())),
    ];
    let mut arguments = vec!["verify", "--body", "-"];
    headers.iter().for_each(|header| arguments.extend(["--header", header]));
    let accept = (0, "{\"outcome\":\"accept\",\"reason\":\"ok\"}\n".to_owned());
    for (more, environment) in [
        (&["--config", path][..], &[][..]),
        (&[], &[("HOOKBRIDGE_CONFIG", path)]),
        (&[], &[("HOOKBRIDGE_SECRET", SECRET)]),
        (&["--secret", SECRET], &[]),
    ] {
        let (code, out, err) = run(&[&arguments, more].concat(), environment, body);
        assert_eq!((code, out), accept, "{more:?} {environment:?} {err}");
    }
    let (code, out, _) = run(&[&arguments, &["--config", path][..]].concat(), &[], "{ }");
    assert_eq!((code, out.trim_end()), (1, r#"{"outcome":"reject","reason":"no_matching_signature"}"#));
}

#[test]
fn demo_shows_the_whole_path() {
    let (code, out, err) = run(&["demo", "--once", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"], &[], "");
    assert_eq!(code, 0, "{out}{err}");
    for expected in ["18 × 200 accepted", "18 × 200 duplicate", "1 × 401 not_verified", "file.analysis_completed"] {
        assert!(out.contains(expected), "{expected}\n{out}");
    }
}

/// What `demo` prints for another terminal works there as it is, whatever PATH holds.
#[test]
fn demo_prints_a_line_that_sends() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_hookbridge"))
        .args(["demo", "--listen", "0.0.0.0:0", "--admin", "127.0.0.1:0"])
        .env_clear()
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("hookbridge starts");
    // Open until the end: `demo` ends when it cannot write.
    let mut lines = BufReader::new(demo.stdout.take().expect("piped")).lines();
    let send = lines.by_ref().map_while(Result::ok).find(|line| line.contains(" send --url"));
    let sent = send.map(|line| Command::new("/bin/sh").args(["-c", &line]).env_clear().output().expect("a shell"));
    demo.kill().expect("it runs");
    demo.wait().expect("it ends");
    let sent = sent.expect("a line");
    let out = String::from_utf8_lossy(&sent.stdout);
    assert!(sent.status.success() && out.contains("200 accepted") && out.contains("100  sent in"), "{sent:?}");
}

#[test]
fn help_is_about_its_command_and_ends_with_examples() {
    for (command, without) in [
        ("serve", &["--url"][..]),
        ("demo", &["--secret", "--to"]),
        ("send", &["--to", "--store", "--data", "--ack", "--listen", "--admin"]),
        ("check", &["--url"]),
        ("endpoints", &["--to", "--secret"]),
        ("verify", &["--to", "--store", "--data", "--ack", "--listen", "--admin"]),
        ("dead-letters", &["--to", "--secret"]),
        ("ledger", &["--to", "--secret"]),
        ("store", &["--to", "--secret", "--admin"]),
        ("schema", &["--config"]),
        ("completions", &["--config"]),
        ("man", &["--config"]),
    ] {
        let (code, out, _) = run(&[command, "--help"], &[], "");
        let (flags, examples) =
            out.split_once("\nExamples:\n").unwrap_or_else(|| panic!("{command}: no examples\n{out}"));
        assert!(code == 0 && examples.contains(&format!("hookbridge {command}")), "{out}");
        for flag in without {
            assert!(!flags.contains(&format!("{flag} ")), "{command}: {flag}\n{out}");
        }
        let (code, page, _) = run(&["man", command], &[], "");
        assert!(code == 0 && page.contains(".SH NAME") && page.contains(command), "{page}");
    }
    for (group, commands) in [
        ("endpoints", &["create", "list", "check", "rotate", "delete"][..]),
        ("dead-letters", &["list", "show", "replay", "discard"]),
        ("ledger", &["show", "forget"]),
        ("store", &["check", "backup"]),
    ] {
        for command in commands {
            let (code, out, _) = run(&[group, command, "--help"], &[], "");
            let (_, examples) = out.split_once("\nExamples").unwrap_or_else(|| panic!("{command}: no examples\n{out}"));
            assert!(code == 0 && examples.contains(&format!("hookbridge {group} {command}")), "{out}");
        }
    }
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, _) = run(&["completions", shell], &[], "");
        assert!(code == 0 && out.contains("hookbridge") && out.contains("source"), "{shell}: {out}");
    }
}

#[test]
fn missing_files_are_named_with_their_directory() {
    let directory = std::env::current_dir().expect("a directory");
    let expected = format!("nope.yaml: the file cannot be read: there is no such file in {}", directory.display());
    let (code, _, err) = run(&["check", "--config", "nope.yaml"], &[], "");
    assert!(code == 2 && err.contains(&expected), "{err}");
    let (code, _, err) = run(&["send", "--secret", SECRET, "--body", "nope.json"], &[], "");
    assert!(code == 2 && err.contains("--body: `nope.json` cannot be read: there is no such file in /"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_live_needs_only_the_admin_address() {
    let directory = tempfile::tempdir().expect("a directory");
    let to = format!("file:{}", directory.path().join("events").display());
    let data = directory.path().join("data").display().to_string();
    let mut program = Program::serve(&["--to", &to, "--secret", SECRET, "--data", &data]);
    let admin = program.admin.clone();
    // As in a container, where the health check does not have the flags of `serve`.
    let (code, out, err) = run(&["check", "--live"], &[("HOOKBRIDGE_ADMIN", &admin)], "");
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
    let (code, ..) = run(&["check", "--live", "--admin", &admin], &[], "");
    assert_eq!(code, 0);
    let everywhere = admin.replace("127.0.0.1", "0.0.0.0");
    assert_eq!(run(&["check", "--live", "--admin", &everywhere], &[], "").0, 0);
    program.term();
    let (code, _, err) = run(&["check", "--live", "--admin", &admin], &[], "");
    assert!(code == 1 && err.contains(&admin), "{err}");
    assert_eq!(run(&["check", "--live", "--admin", "nonsense"], &[], "").0, 2);
}

#[test]
fn check_connect_prints_findings_and_failures() {
    let directory = tempfile::tempdir().expect("a directory");
    let (to, data) =
        (format!("file:{}", directory.path().display()), directory.path().join("data").display().to_string());
    let (code, out, _) = run(&["check", "--connect", "--to", &to, "--secret", SECRET, "--data", &data], &[], "");
    assert!(
        code == 0 && out.starts_with("ok\n") && out.contains("19 topics") && out.contains("can be written"),
        "{out}"
    );
    for url in ["nats://127.0.0.1:1", "kafka://127.0.0.1:1", "amqp://127.0.0.1:1"] {
        let (code, out, _) = run(&["check", "--connect", "--to", url, "--secret", SECRET, "--data", &data], &[], "");
        assert!(code == 1 && out.contains("failed: unreachable"), "{url}: {code}\n{out}");
    }
}

/// `| head` closes standard output, and a full disk refuses it.
#[test]
fn closed_or_full_standard_output_ends_a_command_with_a_message() {
    let directory = tempfile::tempdir().expect("a directory");
    let (to, data) =
        (format!("file:{}", directory.path().display()), directory.path().join("data").display().to_string());
    let settings = ["--to", &to, "--secret", SECRET, "--data", &data];
    for (command, with_settings) in [
        (&["--help"][..], false),
        (&["serve", "--help"], false),
        (&["--version"], false),
        (&["check"], true),
        (&["check", "--print"], true),
        (&["check", "--connect"], true),
        (&["check", "--json"], true),
        (&["check", "--event", "file.upload.failed"], true),
        (&["schema", "config"], false),
        (&["completions", "bash"], false),
        (&["man"], false),
        (&["verify", "--secret", SECRET], false),
        (&["send", "--url", "http://127.0.0.1:1/", "--secret", SECRET], false),
        (&["send", "--url", "http://127.0.0.1:1/", "--secret", SECRET, "--json"], false),
        (&["demo", "--once", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"], false),
    ] {
        let full: Stdio = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full").into();
        let (reader, closed) = std::io::pipe().expect("a pipe");
        drop(reader);
        for (name, stdout) in [("full", full), ("closed", closed.into())] {
            let output = Command::new(env!("CARGO_BIN_EXE_hookbridge"))
                .args(command)
                .args(if with_settings { &settings[..] } else { &[] })
                .env_clear()
                .env("RUST_BACKTRACE", "1")
                .stdin(Stdio::null())
                .stdout(stdout)
                .output()
                .expect("hookbridge starts");
            let err = String::from_utf8(output.stderr).expect("UTF-8");
            assert_eq!(output.status.code(), Some(1), "{command:?}, {name}: {err}");
            assert!(err.contains("cannot write to standard output"), "{command:?}, {name}: {err}");
            assert!(!err.contains("panicked") && !err.contains("backtrace"), "{command:?}, {name}: {err}");
        }
    }
    // With standard error closed too, only the exit code is left.
    let (reader, closed) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookbridge"));
    let status = command.args(["serve", "--to", "nonsense"]).env_clear().stderr(closed).status().expect("it starts");
    assert_eq!(status.code(), Some(2));
}

#[test]
fn second_process_names_the_holder_of_the_directory() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name).display().to_string();
    let (data, to, other) = (at("data"), format!("file:{}", at("events")), format!("file:{}", at("other")));
    let holder = Program::serve(&["--to", &to, "--data", &data, "--secret", SECRET]);
    let expected = format!("in use by another process (pid {})", holder.pid());
    let listeners = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let arguments = [&["serve", "--to", &other, "--data", &data, "--secret", SECRET][..], &listeners].concat();
    let (code, _, err) = run(&arguments, &[], "");
    assert!(code == 1 && err.contains(&expected), "{code}: {err}");
    // A destination that is not usable does not end `serve`.
    let second = Program::serve(&["--to", &to, "--data", &at("more"), "--secret", SECRET]);
    second.logged(&expected);
}

/// Whatever collects the log of `serve` can parse every line, including the last.
#[test]
fn fatal_error_of_serve_is_a_json_log_line() {
    let directory = tempfile::tempdir().expect("a directory");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let (listen, to) = (taken.local_addr().expect("its address").to_string(), directory.path().join("events"));
    let (data, to) = (directory.path().join("data").display().to_string(), format!("file:{}", to.display()));
    let arguments = ["serve", "--to", &to, "--data", &data, "--secret", SECRET, "--listen", &listen];
    let (code, _, err) = run(&arguments, &[("HOOKBRIDGE_ADMIN", "127.0.0.1:0")], "");
    assert_eq!(code, 1, "{err}");
    let lines: Vec<serde_json::Value> =
        err.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect();
    let last = lines.last().expect("a line");
    let message = last["message"].as_str().expect("a message");
    assert!(last["level"] == "ERROR" && message.contains("cannot listen on") && message.contains(&listen), "{last}");
}
