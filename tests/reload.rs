//! Secrets that change while the program runs: as Kubernetes changes them, by SIGHUP, and wrongly.

mod support;

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use standardwebhooks::Webhook;
use support::bridge::Bridge;
use support::brokers::{Broker, Kind};
use support::event::scope;
use support::program::{Program, SECRET};
use support::sender::{Answer, answer, body, client, now};
use support::wait::{SOON, until};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

const OTHER: &str = "whsec_yx0oskn8bFTxPzSrt6gpI3FCn+yeUHeDgYXHmoJBd3A=";

/// A mounted secret: links to files in a directory that a link names, which is replaced as a whole.
struct Mount(TempDir);

impl Mount {
    fn new() -> Mount {
        let mount = Mount(tempfile::tempdir().expect("a directory"));
        for name in ["current", "next"] {
            symlink(format!("..data/{name}"), mount.0.path().join(name)).expect("linked");
        }
        mount
    }

    /// Replaces all values at once.
    fn put(&self, values: &[(&str, &str)]) {
        let version = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos().to_string();
        let directory = self.0.path().join(&version);
        std::fs::create_dir(&directory).expect("created");
        for (name, value) in values {
            std::fs::write(directory.join(name), value).expect("written");
        }
        let link = self.0.path().join("..data_tmp");
        symlink(&version, &link).expect("linked");
        std::fs::rename(&link, self.0.path().join("..data")).expect("replaced");
    }

    fn serve(&self) -> Bridge {
        let path = |name: &str| self.0.path().join(name).display().to_string();
        let secrets = format!("[\"${{file:{}}}\", \"${{file:{}}}\"]", path("current"), path("next"));
        Bridge::serve(&format!("store: memory\nsources: {{videogen: {{secrets: {secrets}}}}}\n"))
    }
}

async fn post(url: &str, secret: &str, id: &str) -> Answer {
    let (body, timestamp) = (body("file.playback_ready", "f"), now());
    let signature = Webhook::new(secret).and_then(|key| key.sign(id, timestamp, body.as_bytes())).expect("signed");
    let request = client().post(url).header("webhook-id", id).header("webhook-timestamp", timestamp);
    answer(request.header("webhook-signature", signature).body(body)).await.expect("an answer")
}

fn accepted_since(
    bridge: &Bridge,
    secret: &'static str,
    prefix: &'static str,
    stop: CancellationToken,
) -> tokio::task::JoinHandle<u32> {
    let url = bridge.url("videogen");
    tokio::spawn(async move {
        let mut count = 0;
        while !stop.is_cancelled() {
            assert_eq!(post(&url, secret, &format!("{prefix}_{count}")).await.word(), "200 accepted");
            count += 1;
        }
        count
    })
}

async fn reloads(program: &Program, result: &str) -> f64 {
    program.metric(&format!("hookbridge_reloads_total{{result=\"{result}\"}}")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_secret_is_taken_up_without_losing_a_delivery() {
    let mount = Mount::new();
    mount.put(&[("current", SECRET)]);
    let bridge = mount.serve();
    let (program, url) = (&bridge.program, bridge.url("videogen"));
    program.logged("is missing or empty: its secret is taken up when it is there");
    assert_eq!(post(&url, OTHER, "early").await.status, 401);
    let stop = CancellationToken::new();
    let sender = accepted_since(&bridge, SECRET, "old", stop.clone());

    mount.put(&[("current", SECRET), ("next", OTHER)]);
    until("the second key", SOON, async || (post(&url, OTHER, "early").await.status == 200).then_some(())).await;
    assert_eq!(program.metric("hookbridge_verified_total{source=\"videogen\",key=\"2\"}").await, 1.0);
    let (_, page) = program.get("/metrics").await;
    assert_eq!(page.lines().filter(|line| line.starts_with("hookbridge_key_in_force{")).count(), 2, "{page}");
    program.logged("\"configuration reloaded\"");

    // A bad set changes nothing, and says so.
    mount.put(&[("current", SECRET), ("next", "whsec_")]);
    until("the refusal", SOON, async || (reloads(program, "refused").await >= 1.0).then_some(())).await;
    program.logged("the new configuration was refused");
    assert_eq!(post(&url, OTHER, "later").await.status, 200);
    stop.cancel();
    assert!(sender.await.expect("every delivery was accepted") > 0);

    // The end of the rotation: the old key is gone.
    mount.put(&[("current", OTHER)]);
    until("the old key is refused", SOON, async || (post(&url, SECRET, "old").await.status == 401).then_some(())).await;
    assert_eq!(post(&url, OTHER, "last").await.status, 200);
    let (_, page) = program.get("/metrics").await;
    assert_eq!(page.lines().filter(|line| line.starts_with("hookbridge_key_in_force{")).count(), 1, "{page}");
    for secret in [SECRET, OTHER] {
        assert!(!program.log().contains(&secret[6..]) && !page.contains(&secret[6..]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_reads_the_settings_again_and_ends_nothing() {
    let mut bridge = Bridge::serve("store: memory\n");
    for count in 1..=2 {
        bridge.program.signal("HUP");
        until("reloaded", SOON, async || (reloads(&bridge.program, "done").await >= f64::from(count)).then_some(()))
            .await;
    }
    assert_eq!(post(&bridge.url("videogen"), SECRET, "a").await.status, 200);
    // What needs a restart is named.
    let path = bridge.configuration();
    let text = std::fs::read_to_string(&path).expect("the configuration");
    std::fs::write(&path, format!("{text}limits: {{requests: 7}}\n")).expect("written");
    bridge
        .program
        .logged("settings other than secrets and brokers' addresses have changed: they are used after a restart");
    assert!(bridge.program.term().success());
}

/// A broker's password is rotated: whatever comes first, the file or the broker, no delivery is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_password_is_used_once_it_works() {
    let (mount, broker, user) = (Mount::new(), Broker::shared(Kind::Rabbitmq), scope());
    broker.tool(&["add_user", &user, "one"]);
    broker.tool(&["set_permissions", &user, ".*", ".*", ".*"]);
    mount.put(&[("current", SECRET), ("password", "one")]);
    let (_, address) = broker.url().split_once('@').expect("a user in the URL");
    let path = |name: &str| format!("${{file:{}}}", mount.0.path().join("..data").join(name).display());
    let events = format!("events: {{url: 'amqp://{user}:{}@{address}', exchange: {user}}}", path("password"));
    let source = format!("sources: {{videogen: {{secrets: [\"{}\"]}}}}\n", path("current"));
    let route = "routes: [{match: \"**\", to: [{destination: events, topic: \"{type}\"}]}]\n";
    let mut bridge = Bridge::serve_with(&format!("store: memory\n{source}{route}"), &events, &[]);
    bridge.program.ready().await;
    let stop = CancellationToken::new();
    let sender = accepted_since(&bridge, SECRET, "one", stop.clone());

    mount.put(&[("current", SECRET), ("password", "wrong")]);
    bridge.program.logged("the new credentials do not work yet");
    mount.put(&[("current", SECRET), ("password", "two")]);
    until("reloaded", SOON, async || (reloads(&bridge.program, "done").await >= 2.0).then_some(())).await;
    broker.tool(&["change_password", &user, "two"]);
    bridge.program.logged("connected with the new credentials");
    stop.cancel();
    assert!(sender.await.expect("every delivery was accepted") > 0);

    // The old password is not used again.
    broker.tool(&["close_all_user_connections", &user, "test"]);
    let connects = "hookbridge_destination_connects_total{destination=\"events\"}";
    until("connected again", SOON, async || (bridge.program.metric(connects).await >= 3.0).then_some(())).await;
    bridge.program.ready().await;
    assert_eq!(post(&bridge.url("videogen"), SECRET, "last").await.status, 200);
    let log = bridge.program.log();
    assert!(!log.contains("used after a restart"), "{log}");
    assert!(bridge.program.term().success());
}

/// A log that is JSON is JSON from the first line to the last.
#[test]
fn mistakes_and_fatal_errors_are_json_lines() {
    let directory = tempfile::tempdir().expect("a directory");
    let run = |to: &str, more: &[&str]| {
        let out = std::process::Command::new(env!("CARGO_BIN_EXE_hookbridge"))
            .args([&["serve", "--secret", SECRET, "--to", to, "--listen", "127.0.0.1:0"], more].concat())
            .env_clear()
            .current_dir(directory.path())
            .output()
            .expect("it runs");
        let log = String::from_utf8(out.stderr).expect("UTF-8");
        let lines: Vec<serde_json::Value> =
            log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{log}"))).collect();
        // A destination may still report meanwhile.
        assert!(lines.iter().any(|line| line["level"] == "ERROR"), "{log}");
        out.status.code()
    };
    assert_eq!(run("natz://h", &[]), Some(2));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    assert_eq!(run("file:events", &["--admin", &address]), Some(1));
    assert!(Path::new(directory.path()).join("hookbridge-data").exists());
}
