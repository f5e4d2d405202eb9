//! `deploy/README.md`: its configuration is one that hookbridge accepts, and what it names exists.

mod support;

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use support::command::run;

fn text() -> String {
    std::fs::read_to_string("deploy/README.md").expect("read")
}

/// The code blocks of a language.
fn blocks(language: &str) -> Vec<String> {
    let text = text();
    let start = format!("```{language}\n");
    text.split(&start).skip(1).map(|rest| rest.split("```").next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn each_destination_of_its_values_is_accepted() {
    let values =
        blocks("yaml").into_iter().find(|block| block.starts_with("# my-values.yaml")).expect("my-values.yaml");
    let secrets = tempfile::tempdir().expect("a directory");
    for (key, value) in
        [("signing-secret", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"), ("username", "u/@:"), ("password", "p/@:")]
    {
        std::fs::write(secrets.path().join(key), value).expect("written");
    }
    // As Strimzi makes it.
    let certificate = secrets.path().join("ca.crt");
    let openssl = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=ca"])
        .args(["-keyout", "/dev/null", "-out"])
        .arg(&certificate)
        .output();
    assert!(openssl.expect("openssl: tests/brokers install").status.success());
    let values = values.replace("/run/secrets/hookbridge", &secrets.path().display().to_string());
    let values: Value = serde_saphyr::from_str(&values).expect("YAML");
    let destinations = values["config"]["destinations"].as_object().expect("destinations");
    assert_eq!(destinations.keys().map(String::as_str).collect::<Vec<_>>(), ["kafka", "nats", "rabbitmq"]);
    for (name, destination) in destinations {
        let mut config = values["config"].clone();
        config["destinations"] = serde_json::json!({ name: destination });
        let file = tempfile::NamedTempFile::with_suffix(".yaml").expect("a file");
        std::fs::write(file.path(), config.to_string()).expect("written");
        let (code, out, err) = run(&["check", "--config", file.path().to_str().expect("UTF-8")], &[], "");
        assert_eq!(code, 0, "{name}: {out}{err}");
    }
}

#[test]
fn the_values_are_of_the_chart() {
    let chart = Path::new("deploy/helm/hookbridge/values.yaml");
    let defaults: Value = serde_saphyr::from_str(&std::fs::read_to_string(chart).expect("the chart")).expect("YAML");
    for block in blocks("yaml").iter().filter(|block| !block.contains("kind:")) {
        let values: Value = serde_saphyr::from_str(block).expect("YAML");
        for (key, value) in values.as_object().expect("a mapping") {
            let known = defaults[key].as_object().unwrap_or_else(|| panic!("the chart has no value {key}"));
            let free = ["config"].contains(&key.as_str());
            for inner in value.as_object().expect("a mapping").keys().filter(|_| !free) {
                assert!(known.contains_key(inner), "the chart has no value {key}.{inner}");
            }
        }
    }
}

#[test]
fn each_file_that_it_names_exists() {
    let text = text();
    for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        assert!(Path::new("deploy").join(link).exists(), "{link}");
    }
    for word in text.split(|it: char| it.is_whitespace() || "`|&".contains(it)).filter(|it| it.starts_with("deploy/")) {
        assert!(Path::new(word).exists(), "{word}");
    }
}

#[test]
fn each_command_of_hookbridge_has_the_options_that_it_shows() {
    let text = text();
    let commands = text.split("hookbridge endpoints create").skip(1).chain(text.split("`endpoints create").skip(1));
    let (_, help, _) = run(&["endpoints", "create", "--help"], &[], "");
    let options = commands.flat_map(|rest| rest.split(['|', '`']).next().unwrap_or_default().split_whitespace());
    let options: Vec<&str> = options.filter(|word| word.starts_with("--")).collect();
    assert!(options.len() >= 3, "{options:?}");
    for option in options {
        assert!(help.contains(&format!("{option} <")), "{option}");
    }
}
