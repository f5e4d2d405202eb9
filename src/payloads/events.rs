//! The payload of each event.

use serde_json::{Value, json};

use super::build::{
    Member, constant, list, nullable, object, optional, reference, required, seconds, string, url, word,
};

/// The schema of one of VideoGen's events.
pub(super) fn definition(event: &str) -> Value {
    let (what, how) = event.split_once('.').unwrap_or((event, ""));
    let mut members = vec![
        required("event", constant(event)),
        required("occurredAt", seconds("Unix seconds. The attribute `time` has it as text.")),
    ];
    let (description, more) = match what {
        "tool_execution" => ("The run of a tool ended.", tool_execution(how)),
        "workflow_run" => ("The run of a workflow ended.", workflow_run()),
        "project_export" => {
            ("An export ended. Its URLs are those of the file, which must be hydrated.", project_export())
        }
        "assistant_message" => ("A message of the assistant ended.", assistant_message()),
        _ => ("A file that was uploaded through the API, as it is at the time of the event.", file()),
    };
    members.extend(more);
    if how.ends_with("failed") && what != "assistant_message" {
        members.push(optional("error", nullable(reference("ApiError"))));
    }
    object(description, members)
}

fn tool_execution(how: &str) -> Vec<Member<'static>> {
    let mut members = vec![
        required("toolExecutionId", string("The run.")),
        required("toolType", word("The tool.", &["GENERATE_IMAGE", "TEXT_TO_SPEECH"])),
    ];
    if how == "succeeded" {
        members.push(optional("results", list(reference("ToolSuccessResult"))));
    }
    members
}

/// The six members of an export have values only if the workflow was started with `autoExport` and succeeded.
fn workflow_run() -> Vec<Member<'static>> {
    let types =
        ["SCRIPT_TO_VIDEO", "VOICEOVER_TO_VIDEO", "SLIDESHOW_TO_VIDEO", "STORYBOARD_TO_VIDEO", "PROMPT_TO_VIDEO_CLIP"];
    vec![
        required("workflowRunId", string("The run.")),
        required("workflowType", word("The workflow.", &types)),
        required("projectId", string("The project.")),
        required("projectUrl", url("In VideoGen's app.")),
        required("exportId", nullable(string("The export."))),
        required("downloadUrl", nullable(url("Signed."))),
        required("downloadUrlExpiresAt", nullable(seconds("Unix seconds."))),
        required("thumbnailUrl", nullable(url("Signed."))),
        required("thumbnailUrlExpiresAt", nullable(seconds("Unix seconds."))),
        required("exportFileId", nullable(string("The exported file."))),
    ]
}

fn project_export() -> Vec<Member<'static>> {
    vec![
        required("exportId", string("The export.")),
        required("projectId", string("The project.")),
        required("exportFileId", nullable(string("The exported file, if it succeeded."))),
    ]
}

fn assistant_message() -> Vec<Member<'static>> {
    let message = json!({"oneOf": [reference("AssistantInputMessage"), reference("AssistantOutputMessage")]});
    vec![required("messageId", string("The message.")), required("message", message)]
}

fn file() -> Vec<Member<'static>> {
    vec![required("fileId", string("The file.")), required("file", reference("FileInfo"))]
}
