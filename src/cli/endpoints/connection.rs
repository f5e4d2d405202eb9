//! The flags that say how VideoGen's API is reached.

use std::path::PathBuf;
use std::process::ExitCode;

use reqwest::Url;

use crate::cli::inputs::{process_environment, wrong};
use crate::config::quoted;
use crate::secret::Secret;
use crate::settings_file::{read_text, why};
use crate::videogen_api::{VideoGenApi, base_url};

/// How VideoGen's API is reached.
#[derive(clap::Args, Debug)]
pub(super) struct ApiArgs {
    /// File that contains VideoGen's API key [default: the key in VIDEOGEN_API_KEY]
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// The API's base URL
    #[arg(long, value_name = "URL", default_value = "https://api.videogen.io", value_parser = base_url)]
    api_url: Url,
}

impl ApiArgs {
    /// The API with its key.
    ///
    /// # Errors
    /// The exit code: there is no key, or it cannot be read or used.
    pub(super) fn open(&self) -> Result<VideoGenApi, ExitCode> {
        let key = match &self.api_key_file {
            Some(path) => read_text(path).map_err(|error| {
                let file = quoted(&path.display().to_string());
                wrong(format_args!("--api-key-file: {file} cannot be read: {}", why(path, &error)))
            })?,
            None => match process_environment("VIDEOGEN_API_KEY").map(std::ffi::OsString::into_string) {
                Some(Ok(key)) => key,
                Some(Err(_)) => return Err(wrong("VIDEOGEN_API_KEY: it is not UTF-8")),
                None => String::new(),
            },
        };
        if key.trim().is_empty() {
            return Err(wrong(match self.api_key_file {
                Some(_) => "--api-key-file: the file is empty: it must contain VideoGen's API key",
                None => "there is no API key: set VIDEOGEN_API_KEY or give --api-key-file",
            }));
        }
        VideoGenApi::new(self.api_url.clone(), Secret::new(key.trim()))
            .map_err(|error| wrong(format_args!("{error:#}")))
    }
}
