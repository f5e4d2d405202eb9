//! The life of the pod: new secrets, `kill -9`, evictions, a spool.

use std::time::Duration;

use crate::rig::{self, Namespace, Pod, SOON, client, inside, run, values};
use crate::suite::Subject;
use crate::support::program::SECRET;
use crate::support::sender::{answer, body, now};
use crate::support::wait::until;

const TOPIC: &str = "file.playback_ready";

/// Another signing secret.
const NEXT: &str = "whsec_bmV4dC1zZWNyZXQtb2YtdGhlLWVuZHBvaW50LTAwMDE=";

/// Posts with this secret, and returns the status.
async fn post_with(namespace: &Namespace, secret: &str, id: &str) -> u16 {
    let (body, now) = (body(TOPIC, "f1"), now());
    let signature =
        standardwebhooks::Webhook::new(secret).expect("a secret").sign(id, now, body.as_bytes()).expect("signs");
    let request = client().post(namespace.url()).header("webhook-id", id).header("webhook-timestamp", now);
    answer(request.header("webhook-signature", signature).body(body)).await.expect("an answer").status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_secret_is_taken_up_without_a_restart() {
    if !inside() {
        return;
    }
    let (namespace, _nats) = (Namespace::new("secret"), rig::nats());
    namespace.broker("nats", 4222);
    namespace.install(&values("minimal"), &[]);
    let before = namespace.ready_pod(None).await;
    assert_eq!(post_with(&namespace, SECRET, "old-1").await, 200);
    assert_eq!(post_with(&namespace, NEXT, "new-1").await, 401);
    let since = tokio::time::Instant::now();
    namespace.secret("hookbridge", &[("signing-secret", NEXT)]);
    until("the new secret", SOON, async || {
        tokio::time::sleep(Duration::from_millis(200)).await; // only paces the attempts
        (post_with(&namespace, NEXT, "new-2").await == 200).then_some(())
    })
    .await;
    println!("a changed Secret was in force after {:.1} s", since.elapsed().as_secs_f64());
    assert_eq!(post_with(&namespace, SECRET, "old-2").await, 401);
    assert_eq!(namespace.pod(), before);
}

/// The process id of the program in the pod, as this machine counts.
fn process_of(pod: &Pod) -> u32 {
    let processes = std::fs::read_dir("/proc").expect("processes").flatten();
    let text =
        |path: std::path::PathBuf| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    let mut found = processes.filter(|process| {
        text(process.path().join("cmdline")) == "/usr/local/bin/hookbridge\0serve\0"
            && text(process.path().join("cgroup")).contains(&pod.uid)
    });
    found.next().and_then(|process| process.file_name().to_str()?.parse().ok()).expect("the process of the pod")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_program_comes_back_with_its_ledger() {
    if !inside() {
        return;
    }
    let (namespace, rabbitmq) = (Namespace::new("killed"), rig::rabbitmq());
    namespace.secret("rabbitmq-default-user", &[("username", "guest"), ("password", "guest")]);
    namespace.broker("rabbitmq", 5672);
    namespace.install(&values("rabbitmq"), &[]);
    let before = namespace.ready_pod(None).await;
    assert_eq!(namespace.post("before", &body(TOPIC, "f1")).await.word(), "200 accepted");
    let since = tokio::time::Instant::now();
    run("kill", &["-KILL", &process_of(&before).to_string()], "").expect("killed");
    let after = namespace.ready_pod(Some(&before)).await;
    println!("ready again {:.1} s after kill -9", since.elapsed().as_secs_f64());
    assert_eq!((&after.uid, after.restarts), (&before.uid, before.restarts + 1));
    until("a duplicate", SOON, async || {
        let answer = answer(crate::support::sender::request(
            &client(),
            &namespace.url(),
            "before",
            body(TOPIC, "f1").as_bytes(),
        ))
        .await
        .ok()?;
        (answer.word() == "200 duplicate").then_some(())
    })
    .await;
    // The pod itself is deleted: the next one has the same volume.
    namespace.kubectl(&["delete", "pod", &after.name]).expect("deleted");
    namespace.ready_pod(Some(&after)).await;
    assert_eq!(namespace.post("before", &body(TOPIC, "f1")).await.word(), "200 duplicate");
    assert_eq!(rabbitmq.stored("EVENTS", TOPIC).await.len(), 1);
}

fn evict(namespace: &Namespace, pod: &Pod) -> Result<String, String> {
    let eviction = serde_json::json!({"apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": pod.name, "namespace": namespace.name}});
    let path = format!("/api/v1/namespaces/{}/pods/{}/eviction", namespace.name, pod.name);
    run("kubectl", &["create", "--raw", &path, "-f", "-"], &eviction.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn evictions_respect_the_budget() {
    if !inside() {
        return;
    }
    let (namespace, _nats) = (Namespace::new("eviction"), rig::nats());
    namespace.broker("nats", 4222);
    let file = values("minimal");
    let budget = ["--set", "podDisruptionBudget.enabled=true"];
    namespace.install(&file, &[&budget[..], &["--set", "podDisruptionBudget.minAvailable=1"]].concat());
    let before = namespace.ready_pod(None).await;
    let seen = "jsonpath={.status.currentHealthy}";
    until("the budget", SOON, async || {
        (namespace.kubectl(&["get", "pdb", "hb-hookbridge", "-o", seen]).ok()? == "1").then_some(())
    })
    .await;
    let refused = evict(&namespace, &before).expect_err("refused");
    assert!(refused.contains("disruption budget"), "{refused}");
    assert_eq!(namespace.pod(), before);
    // The default budget allows a drain: the sender repeats what came in the gap.
    namespace.upgrade(&file, &budget).unwrap_or_else(|out| panic!("{out}"));
    let allowed = "jsonpath={.status.disruptionsAllowed}";
    until("the new budget", SOON, async || {
        (namespace.kubectl(&["get", "pdb", "hb-hookbridge", "-o", allowed]).ok()? == "1").then_some(())
    })
    .await;
    evict(&namespace, &before).expect("evicted");
    let after = namespace.ready_pod(Some(&before)).await;
    assert_ne!(after.uid, before.uid);
}

/// With `ack: stored`, what was answered 200 during an outage waits on the volume, also for the next pod.
#[tokio::test(flavor = "multi_thread")]
async fn stored_events_survive_the_pod() {
    if !inside() {
        return;
    }
    let (namespace, nats) = (Namespace::new("stored"), rig::nats());
    namespace.broker("nats", 4222);
    namespace.install(&values("minimal"), &["--set", "config.ack=stored"]);
    let before = namespace.ready_pod(None).await;
    nats.kill().await;
    assert_eq!(namespace.post("kept", &body(TOPIC, "f1")).await.word(), "200 accepted");
    namespace.kubectl(&["delete", "pod", &before.name]).expect("deleted");
    namespace.ready_pod(Some(&before)).await;
    assert_eq!(namespace.post("kept", &body(TOPIC, "f1")).await.word(), "200 duplicate");
    nats.start_again().await;
    until("the event", SOON, async || (nats.stored("EVENTS", TOPIC).await.len() == 1).then_some(())).await;
}
