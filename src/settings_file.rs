//! Reads files that settings name, never without end: `/dev/zero` may be named by mistake.

use std::fs::File;
use std::io::{Error, ErrorKind, Read as _, Result};
use std::path::Path;

/// In bytes. No such file needs more.
const MOST: u64 = 1 << 20;

/// The content of a file of at most 1 MiB.
///
/// # Errors
/// It cannot be read, or is larger ([`ErrorKind::FileTooLarge`]).
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MOST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST {
        return Err(Error::new(ErrorKind::FileTooLarge, "it is larger than 1 MiB"));
    }
    Ok(bytes)
}

/// The same for text.
///
/// # Errors
/// Those of [`read`], or it is not UTF-8 ([`ErrorKind::InvalidData`]).
pub fn read_text(path: &Path) -> Result<String> {
    String::from_utf8(read(path)?).map_err(|_| Error::new(ErrorKind::InvalidData, "it is not UTF-8"))
}

/// Why a file cannot be read, for messages that name it. Does not repeat the path: a secret in its place must not be shown.
pub fn why(path: &Path, error: &Error) -> String {
    match error.kind() {
        ErrorKind::NotFound if path.is_relative() => match std::path::absolute(".") {
            Ok(directory) => format!("there is no such file in {}", directory.display()),
            Err(_) => "there is no such file".into(),
        },
        ErrorKind::NotFound => "there is no such file".into(),
        ErrorKind::FileTooLarge => error.to_string(),
        kind => kind.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_ends() {
        let error = read(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(error.to_string(), "it is larger than 1 MiB");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![b'a'; 1 << 20]).unwrap();
        assert_eq!(read_text(file.path()).unwrap().len(), 1 << 20);
        std::fs::write(file.path(), [0xff]).unwrap();
        assert_eq!(read_text(file.path()).unwrap_err().kind(), ErrorKind::InvalidData);
    }
}
