//! Rotation, with a running bridge, and after interruptions.

use std::path::Path;

use axum::http::Method;
use hookbridge::source::VIDEOGEN_EVENTS;
use serde_json::Value;
use standardwebhooks::Webhook;
use tempfile::TempDir;

use super::stub::{Fault, Stub};
use super::support::bridge::Bridge;
use super::support::sender::{answer, body, client, now};
use super::support::wait::{SOON, until};
use super::{URL, endpoints, in_manifest, path, secret_of};

/// An account with one endpoint, whose secret is in the file `current`.
struct Rotated {
    stub: Stub,
    directory: TempDir,
    current: String,
    next: String,
}

impl Rotated {
    async fn new() -> Rotated {
        let (stub, directory) = (Stub::start().await, tempfile::tempdir().expect("a directory"));
        let (current, next) = (path(&directory, "current"), path(&directory, "next"));
        let (_, secret) = stub.add(URL, &["file.playback_ready", "file.upload.failed"]);
        std::fs::write(&current, secret).expect("written");
        stub.add("https://h/other", &VIDEOGEN_EVENTS);
        Rotated { stub, directory, current, next }
    }

    async fn run(&self, admin: &str, more: &[&str]) -> (i32, String, String) {
        let files =
            ["rotate", "--url", URL, "--secret-file", &self.current, "--secret-out", &self.next, "--admin", admin];
        endpoints(&self.stub, &[&files[..], more].concat(), "").await
    }

    fn read(path: &str) -> Option<String> {
        std::fs::read_to_string(path).ok().map(|text| text.trim_end().to_owned())
    }
}

/// An address at which no bridge answers.
const NOBODY: &str = "127.0.0.1:1";

async fn post(url: &str, secret: &str, id: &str) -> u16 {
    let (body, timestamp) = (body("file.playback_ready", "f"), now());
    let signature = Webhook::new(secret).and_then(|key| key.sign(id, timestamp, body.as_bytes())).expect("signed");
    let request = client().post(url).header("webhook-id", id).header("webhook-timestamp", timestamp);
    answer(request.header("webhook-signature", signature).body(body)).await.expect("an answer").status
}

#[tokio::test(flavor = "multi_thread")]
async fn old_endpoint_ends_28_hours_after_the_first_delivery_of_the_new_one() {
    let it = Rotated::new().await;
    let secrets = format!("[\"${{file:{}}}\", \"${{file:{}}}\"]", it.current, it.next);
    let bridge = Bridge::serve(&format!("store: memory\nsources: {{videogen: {{secrets: {secrets}}}}}\n"));
    let (admin, url) = (bridge.program.admin.clone(), bridge.url("videogen"));
    let old = Rotated::read(&it.current).expect("a secret");
    assert_eq!(post(&url, &old, "before").await, 200);

    let (code, out, err) = it.run(&admin, &[]).await;
    assert!(code == 0 && out.contains("ep_3 created beside ep_1") && out.contains("not done yet"), "{out}{err}");
    assert!(err.contains("ep_3 has made no delivery yet"), "{err}");
    let new = Rotated::read(&it.next).expect("a secret");
    assert_eq!(new, secret_of(&it.stub, "ep_3"));
    let created = it.stub.endpoints().into_iter().find(|endpoint| endpoint["endpointId"] == "ep_3").expect("ep_3");
    assert_eq!(
        created["events"],
        serde_json::json!(["file.playback_ready", "file.upload.failed"]),
        "those of the old one"
    );

    // Deliveries of the old endpoint are none of the new one.
    until("the new key is in force", SOON, async || (post(&url, &new, "taken_up").await == 200).then_some(())).await;
    assert_eq!(post(&url, &old, "old").await, 200);
    let (code, out, err) = it.run(&admin, &[]).await;
    assert!(
        code == 0 && err.contains("ep_3 delivers; the old endpoint is needed") && out.contains("not done"),
        "{out}{err}"
    );
    assert_eq!(it.stub.count("DELETE"), 0);

    // 28 hours later, less a minute: no.
    let progress = path(&it.directory, "next.rotation");
    let set_back = |seconds: i64| {
        let text = std::fs::read_to_string(&progress).expect("the progress");
        assert!(!text.contains(&new[6..]), "it holds no secret");
        let mut value: Value = serde_json::from_str(&text).expect("JSON");
        value["first_delivery"] = (now() - seconds).into();
        std::fs::write(&progress, value.to_string()).expect("written");
    };
    set_back(28 * 3600 - 60);
    assert!(it.run(&admin, &[]).await.1.contains("not done yet"));
    assert_eq!(it.stub.count("DELETE"), 0);
    set_back(28 * 3600 + 1);
    let (code, out, err) = it.run(&admin, &[]).await;
    assert!(code == 0 && out.contains("ep_1 deleted") && out.contains("rotated"), "{out}{err}");
    assert_eq!(it.stub.ids(), ["ep_2", "ep_3"]);
    assert_eq!(Rotated::read(&it.current), Some(new.clone()));
    assert!(!Path::new(&it.next).exists() && !Path::new(&progress).exists());
    until("the old key is refused", SOON, async || (post(&url, &old, "late").await == 401).then_some(())).await;
    assert_eq!(post(&url, &new, "after").await, 200);

    // The next rotation: the counter at the second position is that of the key before.
    let (code, _, err) = it.run(&admin, &[]).await;
    assert!(code == 0 && err.contains("ep_4 has made no delivery yet"), "{err}");
    let newest = Rotated::read(&it.next).expect("a secret");
    let in_force = async || {
        let (_, page) = bridge.program.get("/metrics").await;
        let lines = page.lines().filter(|line| line.starts_with("hookbridge_key_in_force{"));
        (lines.count() == 2).then_some(())
    };
    until("both keys are in force", SOON, in_force).await;
    assert!(it.run(&admin, &[]).await.2.contains("ep_4 has made no delivery yet"));
    assert_eq!(post(&url, &newest, "newest").await, 200);
    assert!(it.run(&admin, &[]).await.2.contains("ep_4 delivers"));
}

#[tokio::test(flavor = "multi_thread")]
async fn now_replaces_the_endpoint_at_once() {
    let it = Rotated::new().await;
    let (code, out, err) = it.run(NOBODY, &["--now"]).await;
    assert!(code == 0 && out.contains("ep_1 deleted") && out.contains("rotated"), "{out}{err}");
    assert!(err.contains("warning: the bridge is not known to verify"), "{err}");
    assert_eq!(it.stub.ids(), ["ep_2", "ep_3"]);
    assert_eq!(Rotated::read(&it.current), Some(secret_of(&it.stub, "ep_3")));
    let left: Vec<_> = std::fs::read_dir(it.directory.path()).expect("a directory").collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

/// Each state that a killed run can leave.
#[tokio::test(flavor = "multi_thread")]
async fn interrupted_rotation_goes_on() {
    // After the create and before its secret was stored: an empty file, and an endpoint that no secret is known of.
    let it = Rotated::new().await;
    std::fs::write(&it.next, "").expect("written");
    it.stub.fail(Method::DELETE, Fault::Status(403, None));
    it.stub.fail(Method::POST, Fault::BadGateway);
    let (code, _, err) = it.run(NOBODY, &[]).await;
    assert!(code == 1 && err.contains("403"), "{err}");
    assert_eq!(it.stub.ids(), ["ep_1", "ep_2", "ep_3"]);
    let (code, out, err) = it.run(NOBODY, &[]).await;
    assert!(code == 0 && err.contains("ep_3 deleted: an interrupted rotation left it"), "{out}{err}");
    assert_eq!(it.stub.ids(), ["ep_1", "ep_2", "ep_4"]);

    // After the secret was stored, without the file of the progress: the time begins again, and nothing is created.
    std::fs::remove_file(path(&it.directory, "next.rotation")).expect("removed");
    let (code, _, err) = it.run(NOBODY, &[]).await;
    assert!(code == 0 && err.contains("does not answer at its admin address 127.0.0.1:1"), "{err}");
    assert_eq!(it.stub.ids(), ["ep_1", "ep_2", "ep_4"]);

    // After the old endpoint was deleted and before the files were changed; the answer was lost.
    it.stub.fail(Method::DELETE, Fault::Lost);
    for _ in 0..3 {
        it.stub.fail(Method::DELETE, Fault::Status(500, Some("0")));
    }
    let (code, _, err) = it.run(NOBODY, &["--now"]).await;
    assert!(code == 1 && err.contains("500"), "{err}");
    let new = secret_of(&it.stub, "ep_4");
    assert_eq!((it.stub.ids(), Rotated::read(&it.next)), (vec!["ep_2".to_owned(), "ep_4".into()], Some(new.clone())));
    // After the first of two changes of files.
    for _ in 0..2 {
        let (code, out, err) = it.run(NOBODY, &[]).await;
        assert!(code == 0 && out.contains("rotated"), "{out}{err}");
        assert_eq!((Rotated::read(&it.current), Rotated::read(&it.next)), (Some(new.clone()), None));
        std::fs::write(&it.next, &new).expect("written");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_files_change_nothing() {
    let it = Rotated::new().await;
    let before = Rotated::read(&it.current).expect("a secret");
    for (current, next, code, expected) in [
        ("", None, 1, "it is empty or missing"),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", None, 1, "belongs to none of the endpoints with this URL (ep_1)"),
        ("two secrets", None, 1, "must contain one signing secret"),
        (&*before, Some("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), 1, "belongs to no endpoint with this URL (ep_1)"),
    ] {
        std::fs::write(&it.current, current).expect("written");
        let _ = std::fs::remove_file(&it.next);
        if let Some(next) = next {
            std::fs::write(&it.next, next).expect("written");
        }
        let (is, out, err) = it.run(NOBODY, &["--now"]).await;
        assert!(is == code && err.contains(expected), "{expected}: {out}{err}");
        assert_eq!(Rotated::read(&it.current).as_deref(), Some(current));
    }
    let same = ["rotate", "--url", URL, "--secret-file", &it.current, "--secret-out", &it.current];
    assert_eq!(endpoints(&it.stub, &same, "").await.0, 2);
    assert_eq!(it.stub.count("POST") + it.stub.count("DELETE"), 0, "{:?}", it.stub.requests());
}

/// For a cluster, the new secret is applied before the old endpoint ends.
#[tokio::test(flavor = "multi_thread")]
async fn manifest_has_both_secrets_and_at_the_end_one() {
    let it = Rotated::new().await;
    let run = async |more: &[&str]| it.run(NOBODY, &[&["--kubernetes-secret", "hookbridge"], more].concat()).await;
    let old = Rotated::read(&it.current);
    let (code, out, err) = run(&["--now"]).await;
    assert!(code == 0 && err.contains("apply the manifest, then run this again"), "{err}");
    assert_eq!((in_manifest(&out, "current"), in_manifest(&out, "next")), (old, Rotated::read(&it.next)));
    assert_eq!(it.stub.count("DELETE"), 0);
    let again = run(&[]).await.1;
    assert_eq!(again, out, "a manifest that was lost can be had again");
    let (code, out, err) = run(&["--now"]).await;
    assert_eq!((code, in_manifest(&out, "current")), (0, Rotated::read(&it.current)), "{err}");
    assert_eq!((in_manifest(&out, "next"), it.stub.ids()), (None, vec!["ep_2".to_owned(), "ep_3".into()]));
}
