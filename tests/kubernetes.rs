//! The Helm chart, and the example workers with KEDA, on a real Kubernetes (`tests/kube`), beside real brokers. Only with
//! `HOOKBRIDGE_LONG=1`, which `tests/run --all` sets; needs root.
//!
//! The first test starts the cluster and runs this program again in the cluster's network namespace, where the other tests
//! take place one after another. `HOOKBRIDGE_KUBE_KEEP=1` leaves the cluster up; `tests/kube down` ends it.
//!
//!     HOOKBRIDGE_LONG=1 cargo test --test kubernetes                  # all
//!     HOOKBRIDGE_LONG=1 HOOKBRIDGE_KUBE_ONLY=upgrade cargo test --test kubernetes -- --nocapture

#[path = "destinations/mod.rs"]
mod suite;
mod support;

#[allow(dead_code, reason = "this binary uses only a part of it")]
#[path = "workers/stub.rs"]
mod downloads;
#[path = "kubernetes/guide.rs"]
mod guide;
#[path = "kubernetes/install.rs"]
mod install;
#[path = "kubernetes/lifetime.rs"]
mod lifetime;
#[path = "kubernetes/network.rs"]
mod network;
#[path = "kubernetes/preflight.rs"]
mod preflight;
#[path = "kubernetes/rig.rs"]
mod rig;
#[path = "kubernetes/scaling.rs"]
mod scaling;
#[path = "kubernetes/strict.rs"]
mod strict;
#[allow(dead_code, reason = "this binary uses only a part of it")]
#[path = "endpoints/stub.rs"]
mod stub;
#[path = "kubernetes/upgrade.rs"]
mod upgrade;

use std::process::Command;

use support::packages;

/// Set for the tests inside.
const INSIDE: &str = "HOOKBRIDGE_KUBE_INSIDE";

#[allow(clippy::disallowed_methods, reason = "the environment says where the test runs")]
fn is_set(variable: &str) -> bool {
    std::env::var_os(variable).is_some()
}

fn kube(arguments: &[&str]) -> std::process::ExitStatus {
    Command::new("tests/kube").args(arguments).status().expect("tests/kube")
}

/// Loads the images that the manifests of the example workers name.
fn load_workers() {
    let path = |path: &std::path::Path| path.display().to_string();
    let (python, scripts) = (path(packages::python_workers()), path(&packages::examples("python")));
    assert!(kube(&["python", "analysis-python:local", &python, &scripts]).success());
    let (project, node) = packages::typescript_workers();
    assert!(kube(&["node", "analysis-typescript:local", &path(node), &path(project)]).success());
}

/// Ends the cluster, also when a test fails.
struct Cluster;

impl Drop for Cluster {
    fn drop(&mut self) {
        if !is_set("HOOKBRIDGE_KUBE_KEEP") {
            kube(&["down"]);
        }
    }
}

#[test]
#[allow(clippy::disallowed_methods, reason = "the environment says what to run")]
fn the_chart_on_a_cluster() {
    if is_set(INSIDE) || !is_set("HOOKBRIDGE_LONG") {
        return;
    }
    let _cluster = Cluster;
    if !(is_set("HOOKBRIDGE_KUBE_KEEP")
        && Command::new("tests/kube").arg("status").output().expect("it runs").status.success())
    {
        assert!(kube(&["up"]).success());
        assert!(kube(&["add", "crds", "policies"]).success());
    }
    let only = std::env::var("HOOKBRIDGE_KUBE_ONLY").unwrap_or_default();
    if only.is_empty() || only.starts_with("scaling") {
        assert!(kube(&["add", "keda"]).success());
        load_workers();
    }
    // For measurements, another build can be named.
    let program = std::env::var("HOOKBRIDGE_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_hookbridge").into());
    assert!(kube(&["program", rig::IMAGE, &program, "/usr/local/bin/hookbridge"]).success());
    let this = std::env::current_exe().expect("a path").display().to_string();
    let mut inside = Command::new("tests/kube");
    inside.args(["do", &this, "--test-threads=1", "--nocapture", &only]).env(INSIDE, "1");
    for given in ["NATS_URL", "KAFKA_BROKERS", "AMQP_URL"] {
        inside.env_remove(given); // those would be outside
    }
    assert!(inside.status().expect("it runs").success());
}
