//! The Helm chart, without a cluster: what it renders, what it refuses, and its schema. `tests/kubernetes.rs` installs it.
//!
//! `HOOKBRIDGE_BLESS=1` writes the snapshots, and the part of `values.schema.json` that is the schema of the configuration.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const CHART: &str = "deploy/helm/hookbridge";

/// The values files that can be installed.
const VALUES: [&str; 4] = ["minimal", "nats", "kafka", "rabbitmq"];

#[allow(clippy::disallowed_methods, reason = "the environment says whether to write")]
fn blesses() -> bool {
    std::env::var_os("HOOKBRIDGE_BLESS").is_some()
}

fn values(name: &str) -> String {
    format!("{CHART}/values-{name}.yaml")
}

/// Runs Helm. The error is what it printed.
fn helm(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("tests/kube").arg("helm").args(arguments).output().expect("tests/kube");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    match output.status.success() {
        true => Ok(text(output.stdout)),
        false => Err(text(output.stdout) + &text(output.stderr)),
    }
}

fn template(arguments: &[&str]) -> Result<String, String> {
    helm(&[&["template", "hb", CHART, "--namespace", "hooks"], arguments].concat())
}

/// What `values-minimal.yaml` gives with these settings.
fn minimal(settings: &[&str]) -> Result<String, String> {
    let values = values("minimal");
    let settings = settings.iter().flat_map(|setting| ["--set-json", setting]);
    template(&["-f", &values].into_iter().chain(settings).collect::<Vec<_>>())
}

fn documents(rendered: &str) -> Vec<(&str, Value)> {
    let parse = |text| serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let parts = rendered.split("\n---\n").map(|part| part.trim_start_matches("---\n"));
    parts.filter(|part| !part.trim().is_empty()).map(|part| (part, parse(part))).collect()
}

/// The object of this kind and name.
fn object(rendered: &str, kind: &str, name: &str) -> Option<Value> {
    let all = documents(rendered).into_iter().map(|(_, object)| object);
    all.into_iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
}

#[track_caller]
fn assert_same(path: &Path, now: &str) {
    if blesses() {
        std::fs::write(path, now).expect("written");
    }
    let before = std::fs::read_to_string(path).unwrap_or_default();
    let differs = || before.lines().zip(now.lines()).enumerate().find(|(_, (before, now))| before != now);
    assert!(
        before == now,
        "{}: {:?}\nif that is right: HOOKBRIDGE_BLESS=1 cargo test --test helm",
        path.display(),
        differs()
    );
}

#[test]
fn lint_is_clean() {
    let all = VALUES.iter().chain(&["high-availability"]).map(|name| values(name));
    for values in all {
        helm(&["lint", "--strict", CHART, "-f", &values]).unwrap_or_else(|out| panic!("{values}\n{out}"));
    }
}

#[test]
fn each_values_file_renders_as_before() {
    for name in VALUES {
        let rendered = template(&["-f", &values(name)]).unwrap_or_else(|out| panic!("{name}\n{out}"));
        // Alerts and dashboard are files of their own: see below.
        let foreign = |object: &Value| {
            object["kind"] == "PrometheusRule"
                || object["metadata"]["labels"]["app.kubernetes.io/component"] == "dashboard"
        };
        let kept = documents(&rendered).into_iter().filter(|(_, object)| !foreign(object)).map(|(text, _)| text.trim());
        let text = kept.collect::<Vec<_>>().join("\n---\n") + "\n";
        assert_same(&PathBuf::from(format!("tests/helm/snapshots/{name}.yaml")), &text);
    }
}

#[test]
fn the_configuration_is_mounted_unchanged() {
    let rendered = minimal(&[
        r#"config.limits={"bytes": 268435456, "body": "4MiB"}"#,
        r#"config.routes=[{"match": "**", "to": []}]"#,
    ]);
    let rendered = rendered.expect("rendered");
    for name in ["hb-hookbridge", "hb-hookbridge-preflight"] {
        let map = object(&rendered, "ConfigMap", name).expect("a ConfigMap");
        let text = map["data"]["hookbridge.yaml"].as_str().expect("a file");
        assert!(text.contains("bytes: 268435456\n") && text.contains("to: []\n"), "{text}");
        let config: Value = serde_saphyr::from_str(text).expect("YAML");
        assert_eq!(config["sources"]["videogen"]["secrets"], "${file:/run/secrets/hookbridge/signing-secret}");
    }
}

#[test]
fn changed_settings_restart_the_pod_and_changed_secrets_do_not() {
    let checksum = |settings: &[&str]| {
        let rendered = minimal(settings).expect("rendered");
        let set = object(&rendered, "StatefulSet", "hb-hookbridge").expect("a StatefulSet");
        set["spec"]["template"].clone()
    };
    let secret = |value: &str| format!(r#"secrets={{"existing": "", "values": {{"signing-secret": "{value}"}}}}"#);
    assert_eq!(checksum(&[&secret("a")]), checksum(&[&secret("b")]));
    assert_ne!(checksum(&[]), checksum(&[r#"config.dedup={"window": "1d"}"#]));
}

#[test]
fn the_store_decides_the_workload() {
    let embedded = minimal(&[]).expect("rendered");
    let set = object(&embedded, "StatefulSet", "hb-hookbridge").expect("a StatefulSet");
    assert_eq!(set["spec"]["replicas"], 1);
    assert_eq!(set["spec"]["volumeClaimTemplates"][0]["spec"]["accessModes"][0], "ReadWriteOnce");
    assert!(object(&embedded, "Deployment", "hb-hookbridge").is_none());
    let memory = minimal(&[r#"config.store="memory""#]).expect("rendered");
    let deployment = object(&memory, "Deployment", "hb-hookbridge").expect("a Deployment");
    assert_eq!(deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"], 0);
    assert!(object(&memory, "StatefulSet", "hb-hookbridge").is_none());
    // The program does not know these stores yet, so the schema refuses them.
    let shared = |settings: &[&str]| {
        let values = values("minimal");
        let fixed = ["-f", &values, "--skip-schema-validation", "--set-json", r#"config.store="nats://nats:4222""#];
        template(&[&fixed[..], settings].concat()).expect("rendered")
    };
    let three = object(&shared(&["--set", "replicaCount=3"]), "Deployment", "hb-hookbridge").expect("a Deployment");
    assert_eq!(three["spec"]["replicas"], 3);
    let spread = &three["spec"]["template"]["spec"]["topologySpreadConstraints"][0];
    assert_eq!(spread["labelSelector"]["matchLabels"]["app.kubernetes.io/component"], "bridge");
    let scaled = shared(&["--set", "autoscaling.enabled=true"]);
    assert!(object(&scaled, "HorizontalPodAutoscaler", "hb-hookbridge").is_some());
    assert_eq!(object(&scaled, "Deployment", "hb-hookbridge").expect("one")["spec"]["replicas"], Value::Null);
}

#[test]
fn the_grace_period_is_longer_than_the_drain() {
    let grace = |settings: &[&str]| {
        let set = object(&minimal(settings).expect("rendered"), "StatefulSet", "hb-hookbridge").expect("a StatefulSet");
        set["spec"]["template"]["spec"]["terminationGracePeriodSeconds"].as_u64().expect("a number")
    };
    assert_eq!(grace(&[]), 5 + 25 + 10);
    assert_eq!(grace(&[r#"config.shutdown={"timeout": "2 m"}"#, "preStopSleepSeconds=0"]), 120 + 10);
    assert_eq!(grace(&[r#"config.shutdown={"timeout": "1500ms"}"#]), 5 + 2 + 10);
}

#[test]
fn what_cannot_work_is_refused() {
    let memory = r#"config.store="memory""#;
    for (settings, expected) in [
        (&["replicaCount=2"][..], "replicaCount: 2: the store `embedded` allows exactly one replica"),
        (&["autoscaling.enabled=true"], "autoscaling.enabled: the store `embedded` allows exactly one replica"),
        (&[r#"strategy={"type": "RollingUpdate"}"#], "strategy: RollingUpdate: the store `embedded` has a StatefulSet"),
        (&[memory, "replicaCount=2"], "replicaCount: 2: the store `memory` allows exactly one replica"),
        (&[memory, "autoscaling.enabled=true"], "autoscaling.enabled: the store `memory`"),
        (&[r#"config.store="${STORE}""#], "config.store: \"${STORE}\": write `embedded`"),
        (&["config.destinations={}"], "config.destinations: none: name at least one broker"),
        (&[r#"config.listen="0.0.0.0:1""#], "config.listen: the chart sets it"),
        (&[r#"config.admin={"listen": "0.0.0.0:1"}"#], "config.admin.listen: the chart sets it"),
        (&[r#"config.data="/x""#], "config.data: the chart sets it"),
        (&["terminationGracePeriodSeconds=30"], "the pod needs more than 30 s"),
        (
            &[r#"config.shutdown={"timeout": "${DRAIN}"}"#],
            "config.shutdown.timeout: \"${DRAIN}\": write a number and a unit",
        ),
        (&[r#"config.ack="stored""#, memory], "config.ack: `stored` needs a store on disk"),
        (&[r#"config.ack="stored""#, "persistence.enabled=false"], "persistence.enabled: false: with `ack: stored`"),
        (&["ingress.enabled=true"], "ingress.hosts: none"),
        (&["httpRoute.enabled=true"], "httpRoute.parentRefs: none"),
        (&[r#"podDisruptionBudget={"enabled": true, "minAvailable": 1, "maxUnavailable": 0}"#], "not both"),
        (&[r#"test.source="stage""#], "test.source: \"stage\": no such source; there is videogen"),
    ] {
        let out = minimal(settings).expect_err(expected);
        assert!(out.contains(expected), "{settings:?}\n{out}");
    }
}

#[test]
fn typing_errors_are_named_by_the_schema() {
    for (setting, expected) in [
        ("replicaCout=2", "additional properties 'replicaCout' not allowed"),
        ("service.prot=80", "at '/service': additional properties 'prot' not allowed"),
        (r#"image.tag=1.2"#, "at '/image/tag': got number, want string"),
        (
            r#"config.sources.videogen.secret="x""#,
            "at '/config/sources/videogen': additional properties 'secret' not allowed",
        ),
        (r#"config.sorces={}"#, "at '/config': additional properties 'sorces' not allowed"),
        (
            r#"config.destinations.events.urls="x""#,
            "at '/config/destinations/events': additional properties 'urls' not allowed",
        ),
        (r#"persistence.size="lots""#, "at '/persistence/size': 'lots' does not match"),
        (r#"secrets.existing=["a", 1]"#, "at '/secrets/existing"),
    ] {
        let out = minimal(&[setting]).expect_err(expected);
        assert!(out.contains(expected), "{setting}\n{out}");
    }
}

#[test]
fn the_schema_contains_that_of_the_configuration() {
    let path = PathBuf::from(CHART).join("values.schema.json");
    let output =
        Command::new(env!("CARGO_BIN_EXE_hookbridge")).args(["schema", "config"]).output().expect("hookbridge");
    let mut config: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let config = config.as_object_mut().expect("a schema");
    config.remove("$schema");
    let definitions = config.remove("definitions").expect("definitions");
    let mut schema: Value = serde_json::from_str(&std::fs::read_to_string(&path).expect("read")).expect("JSON");
    schema["properties"]["config"] = Value::Object(config.clone());
    for (name, definition) in definitions.as_object().expect("definitions") {
        schema["definitions"][name] = definition.clone();
    }
    assert_same(&path, &(serde_json::to_string_pretty(&schema).expect("JSON") + "\n"));
}

/// A typing error in `values.yaml` itself would become a setting that nothing reads.
#[test]
fn every_value_is_used_by_a_template() {
    let text = std::fs::read_to_string(format!("{CHART}/values.yaml")).expect("read");
    let values: Value = serde_saphyr::from_str(&text).expect("YAML");
    let mut templates = String::new();
    for directory in ["templates", "templates/tests"] {
        for file in std::fs::read_dir(format!("{CHART}/{directory}")).expect("a directory") {
            templates += &std::fs::read_to_string(file.expect("a file").path()).unwrap_or_default();
        }
    }
    for name in values.as_object().expect("values").keys() {
        let uses = [format!(".Values.{name}"), format!("$values.{name}")];
        assert!(uses.iter().any(|used| templates.contains(used)), "no template uses {name}");
    }
}

#[test]
fn versions_are_those_of_the_program() {
    let chart: Value =
        serde_saphyr::from_str(&std::fs::read_to_string(format!("{CHART}/Chart.yaml")).expect("read")).expect("YAML");
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn only_the_paths_of_sources_are_routed_and_only_to_the_webhook_port() {
    let sources = r#"config.sources={"videogen": {"secrets": "x"}, "stage": {"secrets": "x", "path": "/hooks/stage"}}"#;
    let rendered = minimal(&[
        sources,
        r#"ingress={"enabled": true, "hosts": ["a.example"]}"#,
        r#"httpRoute={"enabled": true, "parentRefs": [{"name": "public"}]}"#,
        "serviceMonitor.enabled=true",
    ]);
    let rendered = rendered.expect("rendered");
    let ingress = object(&rendered, "Ingress", "hb-hookbridge").expect("an Ingress");
    let paths = ingress["spec"]["rules"][0]["http"]["paths"].as_array().expect("paths");
    let path = |path: &Value| {
        assert_eq!(path["backend"]["service"]["port"]["name"], "webhooks");
        path["path"].as_str().expect("a path").to_owned()
    };
    assert_eq!(paths.iter().map(path).collect::<Vec<_>>(), ["/hooks/stage", "/webhooks/videogen"]);
    let route = object(&rendered, "HTTPRoute", "hb-hookbridge").expect("an HTTPRoute");
    assert_eq!(route["spec"]["rules"][0]["matches"].as_array().expect("matches").len(), 2);
    assert_eq!(route["spec"]["rules"][0]["backendRefs"][0]["port"], 8080);
    let service = object(&rendered, "Service", "hb-hookbridge").expect("a Service");
    assert_eq!(service["spec"]["ports"].as_array().expect("ports").len(), 1);
    assert_eq!(service["spec"]["ports"][0]["targetPort"], "webhooks");
}

#[test]
fn network_policies_allow_the_ports_of_the_brokers() {
    for (url, expected) in [
        (r#""nats://nats""#, &[4222][..]),
        (r#"["tls://u:p@a:1234", "tls://u:p@b"]"#, &[1234, 4222]),
        (r#""kafka://k1:9094,k2""#, &[9094, 9092]),
        (r#""amqps://u:${file:/run/secrets/hookbridge/p}@rabbit/prod?heartbeat=5""#, &[5671]),
        (r#""amqp://rabbit:5673""#, &[5673]),
        (r#""file:/data/events""#, &[]),
    ] {
        let rendered =
            minimal(&["networkPolicy.enabled=true", &format!(r#"config.destinations={{"d": {{"url": {url}}}}}"#)]);
        let rendered = rendered.expect("rendered");
        for name in ["hb-hookbridge", "hb-hookbridge-preflight"] {
            let policy = object(&rendered, "NetworkPolicy", name).expect("a NetworkPolicy");
            let ports = policy["spec"]["egress"][1]["ports"].as_array().cloned().unwrap_or_default();
            let ports: Vec<_> = ports.iter().filter_map(|port| port["port"].as_u64()).collect();
            assert_eq!(ports, expected, "{url}");
        }
    }
}

#[test]
fn alerts_and_dashboard_are_the_files_of_the_chart() {
    let rendered = minimal(&["prometheusRule.enabled=true", "dashboard.enabled=true"]).expect("rendered");
    let file = |name: &str| std::fs::read_to_string(format!("{CHART}/files/{name}")).expect("read");
    let alerts: Value = serde_saphyr::from_str(&file("alerts.yaml")).expect("YAML");
    let rule = object(&rendered, "PrometheusRule", "hb-hookbridge").expect("a PrometheusRule");
    assert_eq!(rule["spec"]["groups"], alerts["groups"]);
    let dashboard = object(&rendered, "ConfigMap", "hb-hookbridge-dashboard").expect("a ConfigMap");
    let shown: Value =
        serde_json::from_str(dashboard["data"]["hookbridge.json"].as_str().expect("text")).expect("JSON");
    assert_eq!(shown, serde_json::from_str::<Value>(&file("dashboard.json")).expect("JSON"));
}

/// The alerts link to the runbook where the operators read it.
#[test]
fn alerts_link_to_the_runbook_of_the_operators() {
    let url = "https://git.example.com/ops/blob/main/runbook.md";
    let setting = format!(r#"prometheusRule={{"enabled": true, "runbookUrl": "{url}"}}"#);
    let rule = object(&minimal(&[&setting]).expect("rendered"), "PrometheusRule", "hb-hookbridge").expect("a rule");
    let groups = rule["spec"]["groups"].as_array().expect("groups").iter();
    let rules: Vec<&Value> = groups.flat_map(|group| group["rules"].as_array().expect("rules")).collect();
    assert!(rules.len() > 20, "{}", rules.len());
    for rule in rules {
        let section = rule["alert"].as_str().expect("a name").to_lowercase();
        assert_eq!(rule["annotations"]["runbook_url"], format!("{url}#{section}"));
    }
    for wrong in ["deploy/runbook.md", "https://a.example/runbook.md#section"] {
        let out = minimal(&[&format!(r#"prometheusRule.runbookUrl="{wrong}""#)]).expect_err(wrong);
        assert!(out.contains("at '/prometheusRule/runbookUrl'"), "{out}");
    }
}

/// A number of GiB: `8GiB`, as a setting has it, or `16Gi`, as a claim has it.
fn gib(text: &str) -> f64 {
    let number = text.trim_end_matches('B').strip_suffix("Gi").unwrap_or_else(|| panic!("{text}: no GiB"));
    number.parse().unwrap_or_else(|_| panic!("{text}: no number"))
}

/// With the defaults, the spool reaches its own limit before the disk is nearly full.
#[test]
fn the_default_volume_holds_the_default_limits() {
    let read = |path: &str| std::fs::read_to_string(path).expect("read");
    let values: Value = serde_saphyr::from_str(&read(&format!("{CHART}/values.yaml"))).expect("YAML");
    let volume = gib(values["persistence"]["size"].as_str().expect("a size"));
    let schema = hookbridge::config::schema();
    let default = |section: &str, setting: &str| {
        let about =
            schema["properties"][section]["properties"][setting]["description"].as_str().expect("a description");
        gib(about.rsplit("Default: ").next().expect("a default").trim_end_matches('.'))
    };
    let (spool, letters) = (default("spool", "max_bytes"), default("dead_letters", "max_bytes"));
    assert_eq!((spool, letters), (8.0, 1.0));
    // 100 deliveries a second for 7 days, at 35 bytes an id.
    let ids = 100.0 * 7.0 * 86_400.0 * 35.0 / f64::from(1 << 30);
    let source = read("src/spool.rs");
    assert!(source.contains("= 256 << 20..=1 << 30;") && source.contains("FREE_SHARE: u64 = 20;"));
    let left_free = (volume / 20.0).clamp(0.25, 1.0);
    // A file system takes some percent for itself.
    let usable = volume * 0.95;
    let needed = ids + letters + spool + left_free;
    assert!(needed <= usable, "{needed:.1} GiB are needed, {usable:.1} GiB are usable");
    // A full spool alone is not yet the alert about the volume, which begins at 85 %.
    assert!(read(&format!("{CHART}/files/alerts.yaml")).contains("> 0.85"));
    assert!((ids + letters + spool) / usable < 0.85);
}
