//! The scripts under `deploy/release/`, and with `HOOKBRIDGE_LONG` the image itself, built and run.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

const WORKFLOW: &str = ".github/workflows/release.yml";

fn run(program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> (bool, String) {
    let output = Command::new(program)
        .args(arguments)
        .envs(environment.iter().copied())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; tests/tools install installs what is missing"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if !output.status.success() {
        return (false, text(&output.stderr));
    }
    (true, text(&output.stdout))
}

fn done(program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let (success, text) = run(program, arguments, environment);
    assert!(success, "{program} {arguments:?}: {text}");
    text.trim().to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn one_version_is_released_and_only_under_its_tag() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(done("deploy/release/version", &[], &[]), version);
    let (success, problem) = run("deploy/release/version", &["v99.0.0"], &[]);
    assert!(!success && problem.contains("the tag is v99.0.0"), "{problem}");
    let (success, text) = run("deploy/release/version", &[&format!("v{version}")], &[]);
    let has_section = read("CHANGELOG.md").contains(&format!("\n## [{version}]"));
    assert_eq!(success, has_section, "{text}");
}

#[test]
fn the_workflow_runs_each_script_and_no_other() {
    let workflow = read(WORKFLOW);
    let _: Value = serde_saphyr::from_str(&workflow).expect("YAML");
    let is_name = |letter: char| letter.is_ascii_lowercase();
    let named = workflow.split("deploy/release/").skip(1).map(|rest| rest.split(|it| !is_name(it)).next());
    let named: BTreeSet<String> = named.flatten().filter(|name| !name.is_empty()).map(str::to_owned).collect();
    let scripts = std::fs::read_dir("deploy/release").expect("a directory").map(|entry| entry.expect("an entry"));
    let scripts: BTreeSet<String> = scripts.map(|entry| entry.file_name().into_string().expect("UTF-8")).collect();
    assert_eq!(named, scripts);
    let image = read("deploy/Dockerfile");
    let builder = image.lines().find_map(|line| line.strip_prefix("FROM rust:")).expect("a builder");
    let builder = builder.split(' ').next().expect("a tag");
    assert!(workflow.contains(&format!("container: rust:{builder}\n")), "one builder for image and release");
}

/// A released chart links to the runbook of that release.
#[test]
fn the_chart_links_to_the_runbook_of_its_release() {
    let bin = tempfile::tempdir().expect("a directory");
    let kube = std::path::absolute("tests/kube").expect("a path");
    let script = format!("#!/bin/sh\nexec '{}' helm \"$@\"\n", kube.display());
    std::fs::write(bin.path().join("helm"), script).expect("written");
    done("chmod", &["+x", &bin.path().join("helm").display().to_string()], &[]);
    let pack = format!("PATH='{}':$PATH exec deploy/release/chart", bin.path().display());
    let packed = done("bash", &["-c", &pack], &[("SOURCE_URL", "https://git.example.com/o/hookbridge")]);
    let values = "deploy/helm/hookbridge/values-nats.yaml";
    let rendered = done("tests/kube", &["helm", "template", "hb", &packed, "-f", values], &[]);
    let version = env!("CARGO_PKG_VERSION");
    let link = format!("https://git.example.com/o/hookbridge/blob/v{version}/deploy/runbook.md#hookbridgedown");
    assert!(rendered.contains(&format!("runbook_url: {link}\n")), "{rendered}");
}

/// Name and version of each package in `Cargo.lock`, with its checksum.
fn locked() -> Vec<(String, String)> {
    let lock = read("Cargo.lock");
    let packages = lock.split("\n[[package]]\n").skip(1).map(|package| {
        let value = |key: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \""));
            line.map(|value| value.trim_end_matches('"').to_owned())
        };
        let (name, version) = (value("name").expect("a name"), value("version").expect("a version"));
        (format!("pkg:cargo/{name}@{version}"), value("checksum").unwrap_or_default())
    });
    packages.collect()
}

#[test]
fn the_bill_of_materials_names_what_is_linked() {
    let path = done("deploy/release/sbom", &[], &[]);
    let sbom: Value = serde_json::from_str(&read(&path)).expect("JSON");
    assert_eq!((&sbom["bomFormat"], &sbom["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
    assert_eq!(sbom["metadata"]["component"]["version"], env!("CARGO_PKG_VERSION"));
    let locked = locked();
    let mut purls = BTreeSet::new();
    for component in sbom["components"].as_array().expect("components") {
        let purl = component["purl"].as_str().expect("a purl");
        let sum = component["hashes"][0]["content"].as_str().expect("a checksum");
        assert!(locked.contains(&(purl.to_owned(), sum.to_owned())), "{purl} is not in Cargo.lock with this checksum");
        assert!(component["licenses"][0]["expression"].is_string(), "{purl} has no licence");
        assert!(purls.insert(purl.to_owned()), "{purl} comes twice");
    }
    let has = |name: &str| purls.iter().any(|purl| purl.starts_with(&format!("pkg:cargo/{name}@")));
    for name in ["async-nats", "lapin", "rdkafka", "rdkafka-sys", "openssl-src", "libsqlite3-sys", "aws-lc-sys"] {
        assert!(has(name), "{name} is linked and not listed");
    }
    for name in ["proptest", "boon", "standardwebhooks"] {
        assert!(!has(name), "{name} is only for tests");
    }
    let reference = |value: &Value| value.as_str().expect("a reference").to_owned();
    purls.insert(reference(&sbom["metadata"]["component"]["bom-ref"]));
    for dependency in sbom["dependencies"].as_array().expect("dependencies") {
        let on = dependency["dependsOn"].as_array().expect("a list").iter().map(reference);
        for one in on.chain([reference(&dependency["ref"])]) {
            assert!(purls.contains(&one), "{one} is not a component");
        }
    }
}

/// buildah with a storage of its own, that needs no engine and no kernel module and ends with the test.
struct Buildah {
    flags: String,
    _storage: tempfile::TempDir,
}

impl Buildah {
    fn new() -> Buildah {
        let storage = tempfile::tempdir().expect("a directory");
        let at = storage.path().display();
        Buildah { flags: format!("--storage-driver vfs --root {at}/root --runroot {at}/run"), _storage: storage }
    }

    fn done(&self, arguments: &[&str]) -> String {
        let flags: Vec<&str> = self.flags.split(' ').collect();
        done("buildah", &[&flags[..], arguments].concat(), &[])
    }
}

/// Every file below a directory, as its path below it.
fn files(root: &Path, below: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(below).expect("a directory").map(|entry| entry.expect("an entry")) {
        let path = entry.path();
        if entry.file_type().expect("a type").is_dir() {
            files(root, &path, found);
        } else {
            found.push(path.strip_prefix(root).expect("below it").display().to_string());
        }
    }
}

/// The same inputs give the same archive, and its checksum is what `sha256sum` computes.
fn archives_are_reproducible(binary: &str) {
    let arch = binary.split(['-', '/']).nth(2).expect("dist/linux-ARCH/hookbridge");
    let archive = done("deploy/release/archive", &[arch], &[]);
    let first = std::fs::read(&archive).expect("an archive");
    assert_eq!(done("deploy/release/archive", &[arch], &[]), archive);
    assert!(first == std::fs::read(&archive).expect("an archive"), "{archive} differs when it is made again");
    let list = done("tar", &["--list", "--file", &archive], &[]);
    let version = env!("CARGO_PKG_VERSION");
    for file in ["hookbridge", "LICENSE", "hookbridge.1", "completions/hookbridge.bash"] {
        let path = format!("hookbridge-{version}-linux-{arch}/{file}");
        assert!(list.lines().any(|line| line == path), "{path}: {list}");
    }
    done("deploy/release/checksums", &[], &[]);
    let checked = done("sh", &["-c", "cd dist && sha256sum --check SHA256SUMS"], &[]);
    assert!(checked.contains(&format!("linux-{arch}.tar.gz: OK")), "{checked}");
}

#[test]
fn the_image_has_the_binary_and_no_shell_and_runs_as_a_plain_user() {
    use std::os::unix::fs::MetadataExt as _;
    #[expect(clippy::disallowed_methods, reason = "tests/run --all sets it")]
    if std::env::var_os("HOOKBRIDGE_LONG").is_none() {
        return; // builds the program with optimizations
    }
    let buildah = Buildah::new();
    archives_are_reproducible(&done("deploy/release/binary", &[], &[]));
    done("tests/tools", &["base-image", "localhost/hookbridge-base:test"], &[("BUILDAH_FLAGS", &buildah.flags)]);
    let flags = "--isolation chroot --pull=never --build-arg RUNTIME=localhost/hookbridge-base:test";
    let environment = [("BUILDAH_FLAGS", buildah.flags.as_str()), ("BUILD_FLAGS", flags)];
    let image = done("deploy/release/image", &["localhost/hookbridge-test"], &environment);
    let container = buildah.done(&["from", "--pull=never", &image]);

    let version =
        buildah.done(&["run", "--isolation", "chroot", &container, "--", "/usr/local/bin/hookbridge", "--version"]);
    assert_eq!(version, format!("hookbridge {}", env!("CARGO_PKG_VERSION")));
    let inspect: Value = serde_json::from_str(&buildah.done(&["inspect", &container])).expect("JSON");
    let config = &inspect["OCIv1"]["config"];
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["Entrypoint"], serde_json::json!(["/usr/local/bin/hookbridge"]));
    assert_eq!(config["Labels"]["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));

    let root = buildah.done(&["mount", &container]);
    let root = Path::new(&root);
    let mut found = Vec::new();
    files(root, root, &mut found);
    let executable = |path: &&String| {
        std::fs::symlink_metadata(root.join(path)).is_ok_and(|file| file.mode() & 0o111 != 0) && !path.contains(".so")
    };
    for path in found.iter().filter(executable) {
        let name = Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or_default();
        assert!(!["sh", "bash", "dash", "busybox", "perl", "apt", "dpkg", "openssl"].contains(&name), "{path}");
    }
    let programs: Vec<_> = found.iter().filter(|path| path.contains("bin/")).collect();
    assert_eq!(programs, ["usr/local/bin/hookbridge"]);
    assert!(read(&root.join("etc/ssl/certs/ca-certificates.crt").display().to_string()).contains("BEGIN CERTIFICATE"));
    let data = std::fs::metadata(root.join("data")).expect("/data");
    assert_eq!((data.uid(), data.gid(), data.mode() & 0o777), (65532, 65532, 0o755));
    let owner = std::fs::metadata(root.join("usr/local/bin/hookbridge")).expect("the binary").uid();
    assert_eq!(owner, 0, "the program cannot change itself");

    let bytes = found.iter().filter_map(|path| std::fs::symlink_metadata(root.join(path)).ok()).map(|file| file.len());
    let megabytes = bytes.sum::<u64>() / 1_000_000;
    assert!((20..60).contains(&megabytes), "{megabytes} MB; README says how large it is");
    buildah.done(&["umount", &container]);
}
