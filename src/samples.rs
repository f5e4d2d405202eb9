//! A sample of each of VideoGen's events, in the form that its API documents. `send` and `demo` send them, `check` routes
//! them, and tests use them. Sources with another payload have plain samples of their own events.

use serde_json::{Map, Value, json};

use crate::source::{Fields, Source, VIDEOGEN_EVENTS};

/// A delivery's body, before it is signed.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The event's name.
    pub name: String,
    /// The id of the resource, which becomes the CloudEvents `subject`.
    pub subject: String,
    /// The body.
    pub body: String,
}

/// How long the signed URLs in a sample are valid, in seconds.
pub const URLS_WORK_FOR: i64 = 3600;

/// One sample of each event. `number` distinguishes the ids of the resources; `occurred_at` is in unix seconds.
pub fn samples(number: u64, occurred_at: i64) -> Vec<Sample> {
    VIDEOGEN_EVENTS.into_iter().map(|name| sample(name, number, occurred_at)).collect()
}

/// A sample of one of [`VIDEOGEN_EVENTS`]. Any other name yields a file event with that name.
pub fn sample(name: &str, number: u64, occurred_at: i64) -> Sample {
    let builder = SampleBuilder { name, number, at: occurred_at };
    let (subject, body) = builder.body();
    Sample { name: name.to_owned(), subject, body: body.to_string() }
}

/// A sample of an event in the form that a source expects.
pub fn sample_of(source: &Source, name: &str, number: u64, occurred_at: i64) -> Sample {
    let builder = SampleBuilder { name, number, at: occurred_at };
    let fields = &source.fields;
    let videogen = fields.event == Fields::videogen().event;
    let (subject, mut body) = if videogen { builder.body() } else { (builder.id("resource"), json!({})) };
    let time = jiff::Timestamp::from_second(occurred_at).unwrap_or_default().to_string();
    put(&mut body, &fields.event, name.into());
    put(&mut body, &fields.time, time.into());
    if *fields != Fields::videogen()
        && let Some(field) = fields.subject.first()
    {
        put(&mut body, field, subject.as_str().into());
    }
    Sample { name: name.to_owned(), subject, body: body.to_string() }
}

/// Sets the member of that name, or at that JSON pointer, unless there is one.
fn put(body: &mut Value, field: &str, value: Value) {
    let path: Vec<String> = match field.strip_prefix('/') {
        None => vec![field.to_owned()],
        Some(path) => path.split('/').map(|part| part.replace("~1", "/").replace("~0", "~")).collect(),
    };
    let mut at = body;
    for part in path {
        if !at.is_object() && !at.is_null() {
            return;
        }
        if at.is_null() {
            *at = Value::Object(Map::new());
        }
        at = &mut at[part];
    }
    if at.is_null() {
        *at = value;
    }
}

struct SampleBuilder<'a> {
    name: &'a str,
    number: u64,
    at: i64,
}

impl SampleBuilder<'_> {
    /// The subject and the body.
    fn body(&self) -> (String, Value) {
        match self.name.split('.').next() {
            Some("tool_execution") => self.tool_execution(),
            Some("workflow_run") => self.workflow_run(),
            Some("project_export") => self.project_export(),
            Some("assistant_message") => self.assistant_message(),
            _ => self.file(),
        }
    }

    fn id(&self, kind: &str) -> String {
        format!("vg_{kind}_{:08}", self.number)
    }

    fn succeeded(&self) -> bool {
        self.name.ends_with(".succeeded")
    }

    fn url(&self, name: &str) -> String {
        format!("https://cdn.videogen.invalid/{}/{name}?signature=sample", self.id("file"))
    }

    fn expires(&self) -> i64 {
        self.at + URLS_WORK_FOR
    }

    /// An error object for failed events, otherwise null.
    fn error(&self) -> Value {
        if !self.name.ends_with("failed") {
            return Value::Null;
        }
        json!({
            "message": "The account has too few credits.",
            "code": "insufficient_credits",
            "requirement": { "type": "credits", "details": { "needed": "40" } },
            "internalErrorCode": null,
        })
    }

    fn with_error(&self, mut body: Value) -> Value {
        if self.name.ends_with("failed") {
            body["error"] = self.error();
        }
        body
    }

    fn tool_execution(&self) -> (String, Value) {
        let id = self.id("tool");
        let mut body =
            json!({ "event": self.name, "toolExecutionId": id, "occurredAt": self.at, "toolType": "GENERATE_IMAGE" });
        if self.succeeded() {
            body["results"] = json!([{
                "fileId": self.id("file"),
                "type": "IMAGE",
                "downloadUrl": self.url("image.png"),
                "downloadUrlExpiresAt": self.expires(),
                "thumbnailUrl": self.url("thumbnail.png"),
                "thumbnailUrlExpiresAt": self.expires() + 60,
                "file": self.file_info("IMAGE"),
            }]);
        }
        (id, self.with_error(body))
    }

    fn workflow_run(&self) -> (String, Value) {
        let id = self.id("work");
        let on_success = |value: Value| if self.succeeded() { value } else { Value::Null };
        let body = json!({
            "event": self.name,
            "workflowRunId": id,
            "occurredAt": self.at,
            "workflowType": "SCRIPT_TO_VIDEO",
            "projectId": self.id("proj"),
            "projectUrl": format!("https://app.videogen.invalid/project/{}", self.id("proj")),
            "exportId": on_success(self.id("expo").into()),
            "downloadUrl": on_success(self.url("video.mp4").into()),
            "downloadUrlExpiresAt": on_success(self.expires().into()),
            "thumbnailUrl": on_success(self.url("thumbnail.jpg").into()),
            "thumbnailUrlExpiresAt": on_success((self.expires() + 60).into()),
            "exportFileId": on_success(self.id("file").into()),
        });
        (id, self.with_error(body))
    }

    fn project_export(&self) -> (String, Value) {
        let id = self.id("expo");
        let file = if self.succeeded() { self.id("file").into() } else { Value::Null };
        let body = json!({
            "event": self.name,
            "exportId": id,
            "projectId": self.id("proj"),
            "occurredAt": self.at,
            "exportFileId": file,
        });
        (id, self.with_error(body))
    }

    fn assistant_message(&self) -> (String, Value) {
        let id = self.id("mesg");
        let status = self.name.rsplit('.').next();
        let content = if self.succeeded() { json!("Here is a plan for your video…") } else { Value::Null };
        let body = json!({
            "event": self.name,
            "messageId": id,
            "occurredAt": self.at,
            "message": {
                "messageId": id,
                "role": "assistant",
                "status": status,
                "content": content,
                "attachments": [{ "fileId": self.id("file"), "displayName": "brief.pdf" }],
                "workflowSuggestions": [],
                "actions": [{ "actionId": self.id("actn"), "kind": "APPROVE_PLAN", "label": "Go", "requiresApp": false }],
                "generation": null,
                "error": self.error(),
                "createdAt": self.at - 30,
            },
        });
        (id, body)
    }

    fn file(&self) -> (String, Value) {
        let id = self.id("file");
        let body = json!({ "event": self.name, "fileId": id, "occurredAt": self.at, "file": self.file_info("VIDEO") });
        (id, self.with_error(body))
    }

    fn file_info(&self, kind: &str) -> Value {
        let mut file = json!({
            "fileId": self.id("file"),
            "scope": "PROJECT",
            "type": kind,
            "displayName": "Sample – “größer”",
            "durationSeconds": 12.5,
        });
        let source = |name: &str, bytes: i64| json!({ "status": "ready", "url": self.url(name), "expiresAt": self.expires(), "width": 1920, "height": 1080, "fileBytes": bytes });
        match self.name {
            "file.playback_ready" => file["hlsSource"] = source("video.m3u8", 4_096),
            "file.download_ready" => file["downloadSource"] = source("video.mp4", 5_242_880),
            "file.analysis_completed" => {
                let words = ["Hello", "from", "a", "sample"];
                let word = |(at, word): (usize, &&str)| json!({ "startSeconds": at as f64 * 0.5, "endSeconds": at as f64 * 0.5 + 0.4, "word": word });
                let spoken: Vec<_> = words.iter().enumerate().map(word).collect();
                file["description"] = json!("A sample.");
                file["transcript"] = json!({ "words": spoken, "languageCode": "en" });
                file["transcriptText"] = json!(words.join(" "));
            }
            _ => {}
        }
        file
    }
}
