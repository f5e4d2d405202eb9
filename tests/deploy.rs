//! `docker-compose.yml`: no secret that others know, and nothing of value outside a named volume.

use std::collections::BTreeSet;
use std::process::Command;

use hookbridge::signature::Key;
use serde_json::Value;

fn text() -> String {
    std::fs::read_to_string("docker-compose.yml").expect("read")
}

fn compose() -> Value {
    serde_saphyr::from_str(&text()).expect("YAML")
}

fn services() -> Vec<(String, Value)> {
    let compose = compose();
    let services = compose["services"].as_object().expect("services").clone();
    services.into_iter().collect()
}

/// Whether it runs hookbridge's own image.
fn is_hookbridge(service: &Value) -> bool {
    service["image"] == "hookbridge:local"
}

/// Each `${…}` of the value, without `${` and `}`.
fn references(value: &Value) -> Vec<String> {
    let text = value.to_string();
    let parts = text.split("${").skip(1).filter_map(|rest| rest.split_once('}'));
    parts.map(|(reference, _)| reference.to_owned()).collect()
}

#[test]
fn each_secret_must_be_given() {
    let references = references(&compose());
    assert!(references.iter().any(|reference| reference.starts_with("VIDEOGEN_SIGNING_SECRET:?")), "{references:?}");
    for reference in references {
        let (_, message) = reference.split_once(":?").unwrap_or_else(|| panic!("${{{reference}}} has a default"));
        assert!(message.contains("or make one for a trial: "), "{message}");
    }
    assert!(!text().split("whsec_").skip(1).any(|rest| rest.starts_with(|first: char| first.is_ascii_alphanumeric())));
    for (name, service) in services().iter().filter(|(_, service)| is_hookbridge(service)) {
        let secret = service["environment"]["HOOKBRIDGE_SECRET"].as_str().unwrap_or_else(|| panic!("{name} has none"));
        assert!(secret.starts_with("${VIDEOGEN_SIGNING_SECRET:?"), "{name}: {secret}");
    }
}

#[test]
fn the_command_that_the_error_shows_makes_a_secret() {
    let reference = references(&compose()).into_iter().next().expect("a reference");
    let message: String = serde_json::from_str(&format!("\"{reference}\"")).expect("JSON text");
    let (_, command) = message.split_once("for a trial: ").expect("a command");
    let command = command.replace("$$", "$"); // as Compose does
    assert!(text().contains(&command) && std::fs::read_to_string("README.md").expect("read").contains(&command));
    let directory = tempfile::tempdir().expect("a directory");
    let status = Command::new("sh").args(["-c", &command]).current_dir(directory.path()).status().expect("sh");
    assert!(status.success(), "{command}");
    let made = std::fs::read_to_string(directory.path().join(".env")).expect("written");
    let secret = made.trim().strip_prefix("VIDEOGEN_SIGNING_SECRET=").expect("the variable");
    assert!(matches!(Key::parse(secret), Ok(Key::Shared(_))), "{command}");
}

#[test]
fn data_is_on_named_volumes() {
    let compose = compose();
    let declared: BTreeSet<&String> = compose["volumes"].as_object().expect("volumes").keys().collect();
    let mut used = BTreeSet::new();
    for (name, service) in &services() {
        let mounts = service["volumes"].as_array().cloned().unwrap_or_default();
        let serves = is_hookbridge(service) && service["command"][0] == "serve";
        let broker = service["healthcheck"]["test"].is_array();
        assert_eq!(mounts.len(), usize::from(serves || broker), "{name}");
        for mount in mounts {
            let (volume, path) = mount.as_str().and_then(|mount| mount.split_once(':')).expect("SOURCE:TARGET");
            assert!(declared.iter().any(|name| *name == volume), "{name}: {volume} is not a declared volume");
            assert!(!serves || path == "/data", "{name}: {path}");
            assert!(used.insert(volume.to_owned()), "{volume} has two users");
        }
    }
    assert_eq!(used.len(), declared.len());
}
