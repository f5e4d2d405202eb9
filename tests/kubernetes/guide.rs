//! `deploy/README.md`, followed line by line as far as a cluster without a way out allows: its broker is beside the cluster,
//! and its image is loaded. `scaling.rs` has the workers.

use std::process::Command;

use serde_json::Value;

use crate::rig::{self, Namespace, SOON, inside, run};
use crate::stub::{self, Stub};
use crate::suite::Subject;
use crate::support::sender::{answer, body, client, request};
use crate::support::wait::eventually;

const TOPIC: &str = "file.analysis_completed";
const GUIDE: &str = "deploy/README.md";

fn guide() -> String {
    std::fs::read_to_string(GUIDE).expect("read")
}

/// The block of code that begins with this text.
fn block(start: &str) -> String {
    let guide = guide();
    let mut blocks = guide.split("\n```").filter_map(|block| block.split_once('\n')).map(|(_, text)| text);
    blocks.find(|text| text.starts_with(start)).unwrap_or_else(|| panic!("no block begins with {start}")).to_owned()
}

/// Runs lines of the guide with `hookbridge` and the variables that they use.
fn follow(lines: &str, directory: &std::path::Path) -> String {
    let path = "PATH=\"$BIN:$PATH\"; set -euo pipefail\n";
    let mut bash = Command::new("bash");
    bash.args(["-c", &format!("{path}{lines}")]).env("BIN", directory).env("VIDEOGEN_API_KEY", stub::KEY);
    let output = bash.output().expect("bash");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{lines}\n{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

#[tokio::test(flavor = "multi_thread")]
async fn its_lines_lead_to_an_event_in_the_topic() {
    if !inside() {
        return;
    }
    let (directory, nats, stub) = (tempfile::tempdir().expect("a directory"), rig::nats(), Stub::start().await);
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_hookbridge"), directory.path().join("hookbridge")).expect("a link");
    let follow = |lines: &str| tokio::task::block_in_place(|| follow(lines, directory.path()));

    // 2. The namespace. Another test may have left its own on its way out.
    let broker = block("kubectl create namespace events");
    let create = broker.lines().next().expect("a line");
    eventually(SOON, || run("kubectl", &["get", "namespace", "events"], "").is_err());
    let since = tokio::time::Instant::now();
    follow(create);
    let namespace = Namespace { name: "events".into() };
    follow("kubectl label namespace events pod-security.kubernetes.io/enforce=restricted");
    namespace.broker("nats", 4222);

    // 3. The endpoint and its secret, at a stub of VideoGen.
    let endpoint = block("export VIDEOGEN_API_KEY=…\n");
    let endpoint = endpoint.replacen("export VIDEOGEN_API_KEY=…\n", "", 1);
    follow(&endpoint.replacen("endpoints create", &format!("endpoints create --api-url {}", stub.url), 1));

    // 4. Its values, with the destination for NATS alone and the image that is loaded.
    let values = block("# my-values.yaml\n");
    let mut values: Value = serde_saphyr::from_str(&values).expect("YAML");
    let destinations = values["config"]["destinations"].as_object_mut().expect("destinations");
    destinations.retain(|name, _| name == "nats");
    values["image"]["repository"] = rig::IMAGE.split(':').next().into();
    let file = directory.path().join("my-values.yaml");
    std::fs::write(&file, values.to_string()).expect("written");
    let install = block("helm install hookbridge ");
    let out = follow(&install.replace("my-values.yaml", &file.display().to_string()));
    println!("{out}");
    assert!(out.contains("200 accepted") && out.contains("200 duplicate"), "{out}");
    println!("from the namespace to a tested release: {:.0} s", since.elapsed().as_secs_f64());

    // The endpoint's deliveries verify with the secret that only the cluster has, and no other.
    let address = namespace.kubectl(&["get", "service", "hookbridge", "-o", "jsonpath={.spec.clusterIP}"]);
    let url = format!("http://{}:8080/webhooks/videogen", address.expect("a Service"));
    let unknown = answer(request(&client(), &url, "another-secret", body(TOPIC, "f1").as_bytes())).await;
    assert_eq!(unknown.expect("an answer").status, 401);
    assert_eq!(nats.stored("EVENTS", TOPIC).await.len(), 1);
}
