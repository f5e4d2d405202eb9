//! What is beside the workers' programs: generated types, manifests and images.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::TOPIC;
use crate::support::command::run;
use crate::support::packages::{self, examples};

const MANIFESTS: [(&str, &str, &str, &str); 5] = [
    ("rust", "nats", "NATS_URL", ""),
    ("python", "kafka", "KAFKA_BROKERS", "kafka_worker.py"),
    ("python", "rabbitmq", "AMQP_URL", "rabbitmq_worker.py"),
    ("typescript", "nats", "NATS_URL", "nats-worker.ts"),
    ("typescript", "rabbitmq", "AMQP_URL", "rabbitmq-worker.ts"),
];

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Runs a `generate.sh` with these programs, and compares what it writes.
fn generates(script: &Path, programs: &[PathBuf], committed: &Path, package: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    let output = directory.path().join("types");
    let mut command = Command::new(script);
    command.arg(env!("CARGO_BIN_EXE_hookbridge")).arg(&output);
    packages::with_path(&mut command, programs);
    packages::run(&mut command, package);
    assert_eq!(read(output), read(committed), "the schema has changed: run {}", script.display());
}

#[test]
fn python_types_are_generated_from_the_schema() {
    let python = packages::python("generator", &["datamodel-code-generator==0.89.0"]);
    let directory = examples("python");
    let programs = [python.parent().expect("bin").to_owned()];
    generates(&directory.join("generate.sh"), &programs, &directory.join("videogen_events.py"), "python3-venv");
}

#[test]
fn typescript_types_are_generated_from_the_schema_and_used() {
    let (directory, node) = packages::typescript_workers();
    let programs: Vec<PathBuf> = node.parent().filter(|it| it.is_absolute()).map(Path::to_owned).into_iter().collect();
    generates(&directory.join("generate.sh"), &programs, &examples("typescript").join("videogen-events.ts"), "npm");
    packages::run(Command::new(node).arg("node_modules/typescript/bin/tsc").current_dir(directory), "npm");
}

/// The generator takes minutes to build, so the short run compares only the members.
#[test]
fn rust_types_are_generated_from_the_schema() {
    let types = read(examples("rust").join("src/videogen_events.rs"));
    let (_, schema, _) = run(&["schema", "json", "--event", TOPIC], &[], "");
    let mut members = BTreeSet::new();
    collect(&serde_json::from_str(&schema).expect("JSON"), &mut members);
    assert!(members.len() > 30, "{members:?}");
    for member in &members {
        let named = types.contains(&format!("rename = \"{member}\"")) || types.contains(&format!("pub {member}: "));
        assert!(named, "{member}: run examples/workers/rust/generate.sh");
    }
    if packages::long() {
        let root = packages::installed("typify");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["install", "--locked", "cargo-typify@0.8.0", "--root"]).arg(&root);
        packages::run(&mut cargo, "cargo");
        let directory = examples("rust");
        generates(
            &directory.join("generate.sh"),
            &[root.join("bin")],
            &directory.join("src/videogen_events.rs"),
            "cargo",
        );
    }
}

/// The names of all members.
fn collect(schema: &Value, members: &mut BTreeSet<String>) {
    if let Some(properties) = schema["properties"].as_object() {
        members.extend(properties.keys().cloned());
    }
    let all: Vec<&Value> = match schema {
        Value::Object(all) => all.values().collect(),
        Value::Array(all) => all.iter().collect(),
        _ => Vec::new(),
    };
    all.into_iter().for_each(|schema| collect(schema, members));
}

#[test]
fn manifests_run_the_workers_under_their_names() {
    for (language, broker, variable, program) in MANIFESTS {
        let text = read(examples(language).join(format!("{broker}.yaml")));
        let documents: Vec<Value> =
            text.split("\n---\n").map(|part| serde_saphyr::from_str(part).expect("YAML")).collect();
        let [deployment, volume] = &documents[..] else { panic!("{language}/{broker}: two documents") };
        let name = format!("analysis-{broker}");
        assert_eq!(
            (&deployment["kind"], &deployment["metadata"]["name"]),
            (&"Deployment".into(), &name.clone().into())
        );
        assert!(deployment["spec"]["replicas"].is_null(), "an autoscaler sets the replicas");
        let pod = &deployment["spec"]["template"]["spec"];
        let [worker] = &pod["containers"].as_array().expect("containers")[..] else { panic!("one container") };
        let env = worker["env"].as_array().expect("variables");
        let names: BTreeSet<&str> = env.iter().filter_map(|it| it["name"].as_str()).collect();
        assert_eq!(names, BTreeSet::from(["DATABASE", "VIDEOGEN_API_KEY", variable]));
        let source = env.iter().find(|it| it["name"] == variable).expect("the address");
        assert_eq!(source["valueFrom"]["secretKeyRef"]["name"], name.as_str());
        assert!(text.contains(&format!("generic {name} --from-literal={variable}=")));
        // Pod Security, level `restricted`.
        let (own, of_pod) = (&worker["securityContext"], &pod["securityContext"]);
        assert_eq!(of_pod["runAsNonRoot"], true);
        assert_eq!(of_pod["seccompProfile"]["type"], "RuntimeDefault");
        assert_eq!(own["allowPrivilegeEscalation"], false);
        assert_eq!(own["readOnlyRootFilesystem"], true);
        assert_eq!(own["capabilities"]["drop"][0], "ALL");
        assert_eq!(pod["automountServiceAccountToken"], false);
        let claim = &pod["volumes"][0]["persistentVolumeClaim"]["claimName"];
        assert_eq!((claim, &volume["kind"]), (&volume["metadata"]["name"], &"PersistentVolumeClaim".into()));
        assert_eq!(worker["image"], format!("analysis-{language}:local"));
        let dockerfile = read(examples(language).join("Dockerfile"));
        assert!(dockerfile.contains("\nUSER 65532:65532\n") && of_pod["runAsUser"] == 65532);
        let command = worker["command"].as_array().and_then(|it| it.last()).and_then(Value::as_str).unwrap_or_default();
        assert_eq!(command, program);
        assert!(program.is_empty() || examples(language).join(program).is_file());
    }
}

#[test]
fn readme_has_the_names_that_the_workers_use() {
    let readme = read(examples("").join("README.md"));
    for (file, names) in [
        ("rust/src/main.rs", &["EVENTS", "analysis", "ANALYSIS_DEAD", "analysis.dead", "NATS_URL"][..]),
        ("typescript/nats-worker.ts", &["EVENTS", "analysis", "ANALYSIS_DEAD", "analysis.dead", "NATS_URL"]),
        ("python/kafka_worker.py", &["analysis", "analysis.dead", "KAFKA_BROKERS"]),
        ("python/rabbitmq_worker.py", &["analysis.dead", "AMQP_URL"]),
        ("typescript/rabbitmq-worker.ts", &["analysis.dead", "AMQP_URL"]),
    ] {
        let code = read(examples("").join(file));
        for name in names {
            assert!(code.contains(name) && readme.contains(&format!("`{name}`")), "{file}: {name}");
        }
    }
    for file in ["python/work.py", "typescript/work.ts", "rust/src/work.rs"] {
        let code = read(examples("").join(file));
        for name in ["DATABASE", "VIDEOGEN_API_KEY", "VIDEOGEN_API", "ATTEMPTS", "BACKOFF", TOPIC] {
            assert!(code.contains(name) && readme.contains(&format!("`{name}`")), "{file}: {name}");
        }
    }
}
