//! The members of the event that this worker reads, of those in `hookbridge schema json --event file.analysis_completed`.

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileAnalysisCompleted {
    pub file_id: String,
    pub file: FileInfo,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileInfo {
    pub file_id: String,
    pub transcript_text: Option<String>,
    pub download_url: Option<String>,
    pub download_source: Option<FileSource>,
}

#[derive(Deserialize)]
pub struct FileSource {
    pub url: Option<String>,
}
