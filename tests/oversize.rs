//! Events that are larger than their broker takes: dead letters, compressed, or in the object store. A new broker is one line
//! at the end.

#[path = "destinations/mod.rs"]
mod suite;
mod support;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use suite::place::Place;
use suite::{Stored, Subject};
use support::command::run;
use support::program::{Program, SECRET};
use support::sender::{answer, body, client, deliver, post, request};
use support::wait::until;

const SOON: Duration = Duration::from_secs(90);
const TOPIC: &str = "file.analysis_completed";

/// An event of 1.3 MB: the analysis of two hours of speech.
fn large(key: &str) -> String {
    body(TOPIC, key).replacen('{', &format!("{{\"text\":\"{}\",", "speech ".repeat(190_000)), 1)
}

/// An event that is too large when it is compressed, too.
fn incompressible(key: &str) -> String {
    let random: Vec<u8> = std::iter::repeat_with(rand::random).take(1_200_000).collect();
    body(TOPIC, key).replacen('{', &format!("{{\"text\":\"{}\",", STANDARD.encode(random)), 1)
}

/// A configuration with a policy; `objects` is the object store.
fn configure<S: Subject>(place: &Place<S>, name: &str, policy: &str, more: &str) -> String {
    let path = place.directory().join(format!("{name}.yaml"));
    let objects = match policy {
        "claim-check" => format!("claim_check: {{url: 'file:{}'}}\n", objects(place).display()),
        _ => String::new(),
    };
    let (url, data) = (place.url(), place.directory().join(name));
    let text = format!(
        "destinations: {{broker: {{url: '{url}', oversize: {policy}{more}}}}}\n{objects}data: '{}'\n",
        data.display()
    );
    std::fs::write(&path, text).expect("written");
    path.display().to_string()
}

fn objects<S: Subject>(place: &Place<S>) -> PathBuf {
    place.directory().join("objects")
}

fn serve(configuration: &str, ack: &str) -> Program {
    Program::serve(&["--config", configuration, "--secret", SECRET, "--ack", ack, "--ephemeral"])
}

/// The objects of an id.
fn objects_of(objects: &Path, id: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(objects.join("videogen").join(id)).into_iter().flatten();
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

/// The ids in the topic that begin with a prefix, in their order.
async fn ids<S: Subject>(place: &Place<S>, prefix: &str) -> Vec<String> {
    place.stored(TOPIC).await.iter().map(Stored::id).filter(|id| id.starts_with(prefix)).collect()
}

async fn arrived<S: Subject>(place: &Place<S>, id: &str) -> Stored {
    until(&format!("{id} has arrived"), SOON, async || {
        place.stored(TOPIC).await.into_iter().find(|stored| stored.id() == id)
    })
    .await
}

/// The body as a worker reads it.
fn opened(stored: &Stored) -> String {
    let bytes = match stored.attributes.get("dataref") {
        Some(uri) => {
            assert_eq!(&*stored.body, b"null");
            std::fs::read(uri.strip_prefix("file://").expect("a file")).expect("an object")
        }
        None => stored.body.to_vec(),
    };
    if stored.headers.get("content-encoding").map(String::as_str) == Some("gzip") {
        let mut text = String::new();
        flate2::read::GzDecoder::new(&*bytes).read_to_string(&mut text).expect("gzip");
        return text;
    }
    String::from_utf8(bytes).expect("UTF-8")
}

/// Three events of one key, the second of which is too large.
async fn each_setting_does_what_it_says<S: Subject>(place: Place<S>) {
    for ack in ["published", "stored"] {
        for policy in ["dead-letter", "gzip", "claim-check"] {
            let name = format!("{policy}-{ack}");
            let program = serve(&configure(&place, &name, policy, ""), ack);
            program.ready().await;
            let (url, key) = (program.url("videogen"), format!("f-{name}"));
            let (small, large) = (body(TOPIC, &key), large(&key));
            let id = |number: usize| format!("{name}-{number}");
            assert_eq!(post(&url, &id(1), &small).await.word(), "200 accepted", "{name}");
            let dead = policy == "dead-letter";
            let expected = if dead && ack == "published" { "200 dead-lettered" } else { "200 accepted" };
            assert_eq!(post(&url, &id(2), &large).await.word(), expected, "{name}");
            assert_eq!(post(&url, &id(3), &small).await.word(), "200 accepted", "{name}");
            assert_eq!(post(&url, &id(2), &large).await.word(), "200 duplicate", "{name}");
            let last = arrived(&place, &id(3)).await;
            assert_eq!(opened(&last), small, "{name}");
            let plain = |stored: &Stored| !stored.headers.contains_key("content-encoding");
            assert!(plain(&last) && !last.attributes.contains_key("dataref"), "{name}: {last:?}");
            let letters = "hookbridge_dead_letters{source=\"videogen\",reason=\"too_large\"}";
            if dead {
                assert_eq!(ids(&place, &name).await, [id(1), id(3)]);
                assert_eq!(program.metric(letters).await, 1.0);
                continue;
            }
            assert_eq!(program.metric(letters).await, 0.0);
            assert_eq!(ids(&place, &name).await, [id(1), id(2), id(3)], "the order of the key");
            let second = arrived(&place, &id(2)).await;
            assert!(opened(&second) == large, "{name}: another body");
            assert_eq!(second.content_type, "application/json");
            assert_eq!(second.attributes["subject"], key);
            let counted = format!("hookbridge_oversize_total{{destination=\"broker\",result=\"{policy}\"}}");
            assert_eq!(program.metric(&counted).await, 1.0, "{name}");
            if policy == "gzip" {
                assert!(!plain(&second) && second.body.len() < 100_000, "{name}");
                deliver(&client(), &url, &id(4), &incompressible(&key)).await;
                until("a dead letter", SOON, async || (program.metric(letters).await == 1.0).then_some(())).await;
                program.logged("still too large after `oversize: gzip`");
            } else {
                assert_eq!(second.attributes["datasize"], large.len().to_string());
                assert_eq!(objects_of(&objects(&place), &id(2)).len(), 1);
                assert!(second.attributes["dataref"].ends_with(".json"), "{second:?}");
            }
        }
    }
}

/// In structured mode, the whole CloudEvent is compressed, or has the reference.
async fn structured_events_are_made_smaller<S: Subject>(place: Place<S>) {
    for policy in ["gzip", "claim-check"] {
        let name = format!("structured-{policy}");
        let program = serve(&configure(&place, &name, policy, ", mode: structured"), "published");
        program.ready().await;
        assert_eq!(post(&program.url("videogen"), &name, &large("f")).await.word(), "200 accepted");
        let found = until("stored", SOON, async || {
            let is_wanted = |stored: &Stored| stored.body.len() < 100_000 && structured(stored)["id"] == *name;
            place.stored(TOPIC).await.into_iter().find(is_wanted)
        })
        .await;
        assert_eq!(found.content_type, "application/cloudevents+json");
        let event = structured(&found);
        if policy == "gzip" {
            assert_eq!(event["data"]["fileId"], "f");
            continue;
        }
        assert!(event["data"].is_null(), "{event}");
        assert_eq!(event["datasize"], large("f").len().to_string());
        assert_eq!(event["datacontenttype"], "application/json");
    }
}

fn structured(stored: &Stored) -> serde_json::Value {
    let mut text = String::new();
    match stored.headers.get("content-encoding") {
        Some(_) => drop(flate2::read::GzDecoder::new(&*stored.body).read_to_string(&mut text).expect("gzip")),
        None => text = String::from_utf8(stored.body.to_vec()).expect("UTF-8"),
    }
    serde_json::from_str(&text).expect("JSON")
}

/// `check --connect` says what happens to larger events, and whether the object store can be written.
async fn check_warns_about_a_lower_limit<S: Subject>(place: Place<S>) {
    for (policy, expected) in [
        ("dead-letter", "larger events become dead letters"),
        ("gzip", "larger events are published compressed (gzip), and become dead letters if that is still too large"),
        ("claim-check", "the bodies of larger events go to the object store, and a reference is published"),
    ] {
        let configuration = configure(&place, "check", policy, "");
        let check = ["check", "--connect", "--config", &configuration, "--secret", SECRET];
        let (code, out, err) = run(&check, &[], "");
        let warning = out.lines().find(|line| line.contains("limits.body") && line.contains("104"));
        assert!(code == 0 && warning.is_some_and(|line| line.ends_with(expected)), "{policy}: {out}{err}");
        assert_eq!(out.contains("claim_check: file:"), policy == "claim-check", "{out}");
    }
    assert_eq!(std::fs::read_dir(objects(&place)).expect("it exists").count(), 0, "the probe is removed");
    std::fs::remove_dir(objects(&place)).expect("removed");
    std::fs::write(objects(&place), "no directory").expect("written");
    let configuration = configure(&place, "check", "claim-check", "");
    let (code, out, _) = run(&["check", "--connect", "--config", &configuration, "--secret", SECRET], &[], "");
    assert!(code == 1 && out.contains("claim_check: failed: object_store"), "{code} {out}");
}

/// The object is durable, and the process is killed while the broker has not confirmed the reference.
async fn a_kill_between_object_and_publish_loses_nothing<S: Subject>(place: Place<S>) {
    for ack in ["published", "stored"] {
        let configuration = configure(&place, ack, "claim-check", "");
        let mut program = serve(&configuration, ack);
        program.ready().await;
        // The bridge learns the limit of a broker that does not announce it.
        let warm = format!("warm-{ack}");
        assert_eq!(post(&program.url("videogen"), &warm, &large("f")).await.word(), "200 accepted");
        arrived(&place, &warm).await;
        place.subject.pause().await;
        let (url, id) = (program.url("videogen"), format!("killed-{ack}"));
        let sending = {
            let (url, id) = (url.clone(), id.clone());
            tokio::spawn(async move { answer(request(&client(), &url, &id, large("f").as_bytes())).await })
        };
        let found = until("the object", SOON, async || objects_of(&objects(&place), &id).pop()).await;
        assert_eq!(std::fs::read_to_string(&found).expect("read"), large("f"), "it is whole");
        program.kill();
        let _ = sending.await.expect("no panic");
        place.subject.resume().await;
        let program = serve(&configuration, ack);
        if ack == "published" {
            // The sender has no answer, and sends again.
            deliver(&client(), &program.url("videogen"), &id, &large("f")).await;
        }
        let stored = arrived(&place, &id).await;
        assert!(opened(&stored) == large("f"));
        assert_eq!(objects_of(&objects(&place), &id), [found]);
        if S::DIFFERENCES.dedups {
            assert_eq!(ids(&place, &id).await.len(), 1);
        }
    }
}

/// An outage of the object store: 503 in `published`, a wait in `stored`, and no dead letter in either.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_store_that_is_down_is_an_outage() {
    let place = Place::of(suite::nats::Nats::limited().await);
    for ack in ["published", "stored"] {
        let program = serve(&configure(&place, ack, "claim-check", ""), ack);
        program.ready().await;
        let (here, away) = (objects(&place), place.directory().join("away"));
        std::fs::rename(&here, &away).expect("moved");
        let (url, id) = (program.url("videogen"), format!("large-{ack}"));
        if ack == "published" {
            let answer = post(&url, &id, &large("f")).await;
            assert_eq!(answer.word(), "503 object_store");
            assert!(answer.retry_after.is_some());
        } else {
            assert_eq!(post(&url, &id, &large("f")).await.word(), "200 accepted");
            assert_eq!(post(&url, &format!("behind-{ack}"), &body(TOPIC, "f")).await.word(), "200 accepted");
        }
        let failed = "hookbridge_oversize_total{destination=\"broker\",result=\"failed\"}";
        until("a failure", SOON, async || (program.metric(failed).await >= 1.0).then_some(())).await;
        // Events of other keys do not wait for it.
        assert_eq!(post(&url, &format!("small-{ack}"), &body(TOPIC, "g")).await.word(), "200 accepted");
        arrived(&place, &format!("small-{ack}")).await;
        assert!(ids(&place, "large").await.iter().all(|found| *found != id));
        std::fs::rename(&away, &here).expect("moved back");
        if ack == "published" {
            assert_eq!(post(&url, &id, &large("f")).await.word(), "200 accepted");
        }
        assert!(opened(&arrived(&place, &id).await) == large("f"));
        if ack == "stored" {
            arrived(&place, "behind-stored").await;
            let order: Vec<_> = place.stored(TOPIC).await.iter().map(Stored::id).collect();
            let position = |id: &str| order.iter().position(|other| other == id);
            assert!(position("large-stored") < position("behind-stored"), "the order of the key: {order:?}");
        }
        let letters = "hookbridge_dead_letters{source=\"videogen\",reason=\"too_large\"}";
        assert_eq!(program.metric(letters).await, 0.0);
    }
}

/// moto, an S3-compatible server that keeps its objects in memory.
struct Moto(Child);

impl Moto {
    async fn start(port: u16) -> Moto {
        let python = support::packages::python("moto", &["moto[server]==5.2.5"]);
        let mut command = Command::new(python);
        command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let moto = Moto(command.spawn().expect("python"));
        let bucket = format!("http://127.0.0.1:{port}/bucket");
        until("the bucket", SOON, async || {
            let created = client().put(&bucket).body("").send().await.ok()?;
            created.status().is_success().then_some(())
        })
        .await;
        moto
    }
}

/// moto lets only a request with some signature read an object.
async fn moto_get(url: &str) -> reqwest::Response {
    let signature = "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
    client().get(url).header("authorization", signature).send().await.expect("an answer")
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_go_to_an_s3_bucket() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port").port();
    let moto = Moto::start(free).await;
    let place = Place::of(suite::nats::Nats::limited().await);
    let secret = place.directory().join("secret");
    std::fs::write(&secret, "hunter2-secret-access-key\n").expect("written");
    let path = place.directory().join("s3.yaml");
    let text = format!(
        "destinations: {{broker: {{url: '{}', oversize: claim-check}}}}\ndata: '{}'\n\
         claim_check: {{url: 's3://bucket/events', endpoint: 'http://127.0.0.1:{free}', access_key_id: hunter2-id, \
         secret_access_key: '${{file:{}}}'}}\n",
        place.url(),
        place.data(),
        secret.display()
    );
    std::fs::write(&path, text).expect("written");
    let configuration = path.display().to_string();
    let (code, out, err) = run(&["check", "--connect", "--config", &configuration, "--secret", SECRET], &[], "");
    assert!(code == 0 && out.contains("claim_check: s3://bucket/events can be written"), "{out}{err}");
    let list = async || {
        let url = format!("http://127.0.0.1:{free}/bucket?list-type=2");
        moto_get(&url).await.text().await.expect("text")
    };
    assert!(!list().await.contains("<Key>"), "the probe is removed");

    let program = serve(&configuration, "published");
    program.ready().await;
    let url = program.url("videogen");
    assert_eq!(post(&url, "msg_1", &large("f")).await.word(), "200 accepted");
    let stored = arrived(&place, "msg_1").await;
    let name = stored.attributes["dataref"].strip_prefix("s3://bucket/").expect("in the bucket").to_owned();
    assert!(name.starts_with("events/videogen/msg_1/") && name.ends_with(".json"), "{name}");
    let object = moto_get(&format!("http://127.0.0.1:{free}/bucket/{name}")).await;
    assert_eq!(object.headers()["content-type"], "application/json");
    let object = object.text().await.expect("text");
    assert!(object == large("f"), "another body");
    assert_eq!(stored.attributes["datasize"], object.len().to_string());

    drop(moto);
    assert_eq!(post(&url, "msg_2", &large("f")).await.word(), "503 object_store");
    let (code, out, _) = run(&["check", "--connect", "--config", &configuration, "--secret", SECRET], &[], "");
    assert!(code == 1 && out.contains("claim_check: failed"), "{out}");
    let _moto = Moto::start(free).await;
    until("accepted", SOON, async || (post(&url, "msg_2", &large("f")).await.status == 200).then_some(())).await;
    arrived(&place, "msg_2").await;
    let (_, printed, _) = run(&["check", "--print", "--config", &configuration, "--secret", SECRET], &[], "");
    for shown in [program.log(), printed, out] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

/// Makes each case a test on each broker, started with a limit of about 1 MiB.
macro_rules! limited {
    (@cases $subject:ty; $($name:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            super::$name(suite::place::Place::of(<$subject as suite::Subject>::limited().await)).await;
        })*
    };
    ($($destination:ident: $subject:ty;)*) => {
        $(mod $destination {
            use super::*;
            limited! { @cases $subject;
                each_setting_does_what_it_says structured_events_are_made_smaller check_warns_about_a_lower_limit
                a_kill_between_object_and_publish_loses_nothing
            }
        })*
    };
}

limited! {
    nats: suite::nats::Nats;
    kafka: suite::kafka::Kafka;
    rabbitmq: suite::rabbitmq::Rabbitmq;
}
