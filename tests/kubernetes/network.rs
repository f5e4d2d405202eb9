//! The NetworkPolicy, enforced by kube-router: what it allows works, and what it forbids is refused.

use std::time::Duration;
use tokio::time::Instant;

use serde_json::json;

use crate::rig::{self, IMAGE, Namespace, SOON, inside, run, values};
use crate::suite::Subject;
use crate::support::program::SECRET;
use crate::support::sender::body;
use crate::support::wait::until;

/// A namespace without rules, whose pods try to reach the bridge.
struct Elsewhere(&'static str);

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = run("kubectl", &["delete", "namespace", self.0, "--wait=false"], "");
    }
}

impl Elsewhere {
    fn new(name: &'static str) -> Elsewhere {
        run("kubectl", &["create", "namespace", name], "").expect("a namespace");
        Elsewhere(name)
    }

    /// Runs the program in a pod, and again in the same pod when it fails, as the network of a new pod is let through a moment
    /// after it has started. Returns whether it succeeded; three failures are a refusal.
    async fn runs(&self, arguments: &[&str]) -> bool {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "caller"}, "spec": {
            "restartPolicy": "OnFailure", "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "caller", "image": IMAGE, "args": arguments}]}});
        run("kubectl", &["-n", self.0, "create", "-f", "-"], &pod.to_string()).expect("a pod");
        let state = "jsonpath={.status.phase} {.status.containerStatuses[0].restartCount}";
        let state = ["-n", self.0, "get", "pod", "caller", "-o", state];
        let succeeded = until("the pod's end", SOON, async || {
            let state = run("kubectl", &state, "").ok()?;
            let (phase, restarts) = state.split_once(' ')?;
            let refused = restarts.parse().is_ok_and(|restarts: u32| restarts >= 2);
            (phase == "Succeeded" || refused).then_some(phase == "Succeeded")
        })
        .await;
        println!("{}: {arguments:?}: {succeeded}", self.0);
        run("kubectl", &["-n", self.0, "delete", "pod", "caller"], "").expect("deleted");
        succeeded
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_is_enforced() {
    if !inside() {
        return;
    }
    let (namespace, nats) = (Namespace::new("policy"), rig::nats());
    let (friend, stranger, monitoring) =
        (Elsewhere::new("ingress"), Elsewhere::new("stranger"), Elsewhere::new("scraper"));
    namespace.broker("nats", 4222);
    let file = values("minimal");
    let peer = |name: &str| {
        format!(
            r#"{{"from": [{{"namespaceSelector": {{"matchLabels": {{"kubernetes.io/metadata.name": "{name}"}}}}}}]}}"#
        )
    };
    let allowed =
        [format!("networkPolicy.webhooks={}", peer("ingress")), format!("networkPolicy.metrics={}", peer("scraper"))];
    let policy = ["--set", "networkPolicy.enabled=true", "--set-json", &allowed[0], "--set-json", &allowed[1]];
    // The preflight check and the bridge reach DNS and the broker.
    namespace.install(&file, &policy);
    let pod = namespace.ready_pod(None).await;
    let url = "http://hb-hookbridge.policy:8080/webhooks/videogen";
    let send = ["send", "--url", url, "--secret", SECRET, "-n", "1"];
    let admin = format!("{}:9464", pod.address);
    let scrape = ["check", "--live", "--admin", &admin];
    assert!(friend.runs(&send).await);
    assert!(!stranger.runs(&send).await);
    assert!(monitoring.runs(&scrape).await);
    assert!(!friend.runs(&scrape).await);
    assert!(!stranger.runs(&scrape).await);
    let tested = namespace.helm(&["test", "hb"], &["--logs"]).unwrap_or_else(|out| panic!("{out}"));
    assert!(tested.contains("200 duplicate"), "{tested}");
    // Where the policy does not lead to the broker, the bridge does not connect to it again after a restart of the broker.
    let away = r#"networkPolicy.brokers={"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}"#;
    let closed = [&policy[..], &["--set-json", away, "--set", "preflight.enabled=false"]].concat();
    namespace.upgrade(&file, &closed).unwrap_or_else(|out| panic!("{out}"));
    nats.kill().await;
    let word = async |id: &str| namespace.post(id, &body("file.playback_ready", "f1")).await.word();
    until("the outage", SOON, async || (word("a").await != "200 accepted").then_some(())).await;
    nats.start_again().await;
    let end = Instant::now() + Duration::from_secs(10); // it reconnects within two seconds where it may: see below
    while Instant::now() < end {
        assert_eq!(word("a").await, "503 unreachable");
    }
    namespace.upgrade(&file, &policy).unwrap_or_else(|out| panic!("{out}"));
    until("a connection", SOON, async || (word("a").await == "200 accepted").then_some(())).await;
    assert_eq!(namespace.pod(), pod, "the policy alone changed");
}
