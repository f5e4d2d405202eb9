//! The objects that several payloads share.

use serde_json::{Map, Value, json};

use super::build::{
    constant, list, nullable, number, object, optional, reference, required, seconds, string, url, word,
};

const FILE_TYPES: [&str; 7] = ["IMAGE", "VIDEO", "AUDIO", "PDF", "SLIDESHOW", "TEXT", "LOTTIE"];
const STATUSES: [&str; 5] = ["pending", "running", "succeeded", "failed", "cancelled"];

pub(super) fn definitions() -> Map<String, Value> {
    let all = [
        ("ApiError", api_error()),
        ("ToolSuccessResult", tool_success_result()),
        ("FileInfo", file_info()),
        ("FileSource", file_source()),
        ("Transcript", transcript()),
        ("TranscriptWord", transcript_word()),
        ("AssistantInputMessage", assistant_input_message()),
        ("AssistantOutputMessage", assistant_output_message()),
        ("AssistantAttachment", assistant_attachment()),
    ];
    all.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect()
}

fn api_error() -> Value {
    let details = json!({"type": "object", "additionalProperties": {"type": "string"}});
    let requirement = object(
        "What would resolve the error.",
        [required("type", string("In snake_case.")), optional("details", details)],
    );
    object(
        "Why something failed.",
        [
            required("message", string("For people.")),
            optional("code", nullable(word("In snake_case.", &["insufficient_credits"]))),
            optional("requirement", nullable(requirement)),
            optional("internalErrorCode", nullable(string("For VideoGen's support."))),
        ],
    )
}

fn tool_success_result() -> Value {
    object(
        "A file that a tool has made. Older senders leave the URLs out.",
        [
            required("fileId", string("The file.")),
            required("type", word("The file's type.", &FILE_TYPES)),
            optional("downloadUrl", nullable(url("Signed."))),
            optional("downloadUrlExpiresAt", nullable(seconds("Unix seconds."))),
            optional("thumbnailUrl", nullable(url("Signed."))),
            optional("thumbnailUrlExpiresAt", nullable(seconds("Unix seconds."))),
            required("file", reference("FileInfo")),
        ],
    )
}

fn file_info() -> Value {
    let source = || nullable(reference("FileSource"));
    object(
        "A file. `POST /v1/files/{fileId}/hydrate` returns it with new signed URLs.",
        [
            required("fileId", string("The file.")),
            required("scope", word("Where it belongs.", &["GLOBAL", "PROJECT", "EXPORT", "TEMPORARY", "ENTITY"])),
            optional("type", nullable(word("Null while it is undetermined.", &FILE_TYPES))),
            optional("displayName", string("Its name for people.")),
            optional("description", nullable(string("What it shows."))),
            optional("durationSeconds", nullable(number("number", "The duration of a video or audio file."))),
            optional("transcript", nullable(reference("Transcript"))),
            optional("transcriptText", nullable(string("The transcript as plain text."))),
            optional("downloadUrl", nullable(url("Signed: that of the best rendition."))),
            optional("downloadUrlExpiresAt", nullable(seconds("Unix seconds."))),
            optional("thumbnailUrl", nullable(url("Signed."))),
            optional("thumbnailUrlExpiresAt", nullable(seconds("Unix seconds."))),
            optional("thumbnailSource", source()),
            optional("previewSource", source()),
            optional("downloadSource", source()),
            optional("hlsSource", source()),
            optional("isPublicPreviewEnabled", number("boolean", "Whether anyone can see a preview.")),
            optional("staticPublicPreviewSource", source()),
            optional("publicHlsUrl", nullable(url("Not signed."))),
            optional("publicPlaybackId", nullable(string("For VideoGen's player."))),
            optional("sourceToolType", string("The tool that made it.")),
            optional("sourceToolExecutionId", string("The run of that tool.")),
        ],
    )
}

fn file_source() -> Value {
    object(
        "A rendition of a file.",
        [
            required("status", word("Whether it can be fetched.", &["pending", "ready", "failed", "skipped"])),
            optional("url", nullable(url("Signed."))),
            optional("expiresAt", nullable(seconds("Unix seconds."))),
            optional("width", nullable(number("integer", "In pixels."))),
            optional("height", nullable(number("integer", "In pixels."))),
            optional("fileBytes", nullable(number("integer", "Its size in bytes."))),
        ],
    )
}

fn transcript() -> Value {
    object(
        "What is spoken, word by word.",
        [
            required("words", list(reference("TranscriptWord"))),
            optional("languageCode", nullable(string("Such as `en` (BCP 47)."))),
        ],
    )
}

fn transcript_word() -> Value {
    object(
        "A spoken word.",
        [
            required("startSeconds", number("number", "From the beginning of the file.")),
            required("endSeconds", number("number", "From the beginning of the file.")),
            required("word", string("The word.")),
        ],
    )
}

fn assistant_input_message() -> Value {
    object(
        "A message to the assistant.",
        [
            required("messageId", string("The message.")),
            required("role", constant("user")),
            required("status", word("How far it is.", &STATUSES)),
            required("content", string("Its text.")),
            required("attachments", list(reference("AssistantAttachment"))),
            required("createdAt", seconds("Unix seconds.")),
        ],
    )
}

fn assistant_output_message() -> Value {
    let suggestion = object(
        "A workflow that the assistant suggests.",
        [
            required("actionId", string("The action.")),
            required("workflowType", string("The workflow.")),
            required("title", string("For people.")),
            required("description", string("For people.")),
        ],
    );
    let kinds = ["APPROVE_PLAN", "APPLY_EDIT", "RUN_TOOL", "GENERATE", "OPEN_IN_APP"];
    let action = object(
        "What the user can do next.",
        [
            required("actionId", string("The action.")),
            required("kind", word("What it does.", &kinds)),
            required("label", string("For people.")),
            required("requiresApp", number("boolean", "Whether it needs VideoGen's app.")),
            optional("detail", object("What it costs.", [])),
        ],
    );
    let generation = object(
        "The workflow run that the message started.",
        [
            required("workflowRunId", string("The run.")),
            required("projectId", string("The project.")),
            required("projectUrl", url("In VideoGen's app.")),
            required("remixActionIds", list(json!({"type": "string"}))),
        ],
    );
    object(
        "The assistant's answer.",
        [
            required("messageId", string("The message.")),
            required("role", constant("assistant")),
            required("status", word("How far it is.", &STATUSES)),
            required("content", nullable(string("Its text."))),
            required("attachments", list(reference("AssistantAttachment"))),
            required("workflowSuggestions", list(suggestion)),
            required("actions", list(action)),
            required("generation", nullable(generation)),
            required("error", nullable(reference("ApiError"))),
            required("createdAt", seconds("Unix seconds.")),
        ],
    )
}

fn assistant_attachment() -> Value {
    object(
        "A file that belongs to a message.",
        [optional("fileId", nullable(string("The file."))), required("displayName", string("Its name for people."))],
    )
}
