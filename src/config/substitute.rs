//! Replaces `${NAME}`, `${NAME:-default}` and `${file:PATH}` in values. The file is parsed first, so that a replacement can never become
//! structure.
//!
//! `$${` is a literal `${`; any other `$` is literal. A replacement is not searched for further references.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::settings_file;

/// Looks up an environment variable: `std::env::var_os`, or a table in tests.
pub type Environment<'a> = dyn Fn(&str) -> Option<OsString> + 'a;

/// Replaces the references in a text.
///
/// # Errors
/// Names the variable or the file, and never quotes a value.
pub(super) fn substitute(text: &str, environment: &Environment<'_>) -> Result<String, String> {
    replace_references(text, |name, _| value(name, environment))
}

/// Replaces the references in a URL. A replacement before the `@` is a user or a password as it is: it is percent-encoded,
/// even if it looks as if it were already.
///
/// # Errors
/// Same as [`substitute`].
pub(super) fn substitute_url(text: &str, environment: &Environment<'_>) -> Result<String, String> {
    replace_references(text, |name, rest| {
        let value = value(name, environment)?;
        // The rest of this address, up to its path or the next address.
        let address = rest.split(['/', ',']).next().unwrap_or_default();
        Ok(if address.contains('@') { percent_encode(&value) } else { value })
    })
}

fn replace_references(text: &str, value: impl Fn(&str, &str) -> Result<String, String>) -> Result<String, String> {
    let mut replaced = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        if rest[..start].ends_with('$') {
            replaced.push_str(&rest[..start - 1]);
            replaced.push_str("${");
            rest = &rest[start + 2..];
            continue;
        }
        replaced.push_str(&rest[..start]);
        let inside = &rest[start + 2..];
        let end = inside.find('}').ok_or("`${` has no matching `}`; write `$${` for a literal `${`")?;
        rest = &inside[end + 1..];
        replaced.push_str(&value(&inside[..end], rest)?);
    }
    replaced.push_str(rest);
    Ok(replaced)
}

/// The files that a text refers to.
pub(super) fn files_in(text: &str) -> Vec<PathBuf> {
    let files = std::cell::RefCell::new(Vec::new());
    // A text that is not well-formed is reported when its references are replaced.
    let _ = replace_references(text, |name, _| {
        files.borrow_mut().extend(name.strip_prefix("file:").map(PathBuf::from));
        Ok(String::new())
    });
    files.into_inner()
}

fn value(name: &str, environment: &Environment<'_>) -> Result<String, String> {
    if let Some(path) = name.strip_prefix("file:") {
        return read_file(path).map_err(|fault| format!("the file `{path}` {fault}"));
    }
    let (name, default) = match name.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (name, None),
    };
    let legal = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !legal {
        return Err("expected `${NAME}`, `${NAME:-default}` or `${file:PATH}`; write `$${` for a literal `${`".into());
    }
    let value = environment(name).map(text_of).transpose();
    let value = value.map_err(|why| format!("the environment variable `{name}` {why}"))?;
    match (value, default) {
        // As in a shell: an empty variable counts as not set.
        (Some(value), Some(default)) if value.is_empty() => Ok(default.into()),
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.into()),
        (None, None) => Err(format!("the environment variable `{name}` is not set")),
    }
}

/// The text of an environment variable without the carriage return that files of variables with Windows line ends leave.
///
/// # Errors
/// What is wrong; completes a sentence that begins with the variable's name.
pub(super) fn text_of(value: OsString) -> Result<String, &'static str> {
    let mut text = value.into_string().map_err(|_| "is not UTF-8")?;
    text.truncate(text.trim_end_matches('\r').len());
    Ok(text)
}

/// The text of a file without the newline at its end, which editors and `echo` add.
///
/// # Errors
/// What is wrong; completes a sentence that begins with the file's name.
pub(super) fn read_file(path: &str) -> Result<String, String> {
    let bytes = settings_file::read(Path::new(path)).map_err(|error| match error.kind() {
        ErrorKind::FileTooLarge => "is larger than 1 MiB".into(),
        _ => format!("cannot be read: {}", settings_file::why(Path::new(path), &error)),
    })?;
    let mut text = String::from_utf8(bytes).map_err(|_| "is not UTF-8")?;
    text.truncate(text.trim_end_matches(['\n', '\r']).len());
    Ok(text)
}

fn percent_encode(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=".contains(&byte);
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        if plain(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// An environment that consists of these pairs. For tests.
pub fn environment_of<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> impl Fn(&str) -> Option<OsString> {
    let table: BTreeMap<String, OsString> =
        pairs.into_iter().map(|(name, value)| (name.to_owned(), OsString::from(value))).collect();
    move |name| table.get(name).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_once() {
        let environment = environment_of([("A", "${B}"), ("B", "b"), ("C", "x: y\n- z")]);
        let replaced = |text: &str| substitute(text, &environment);
        assert_eq!(replaced("1${A}2${B}3").as_deref(), Ok("1${B}2b3"));
        assert_eq!(replaced("$${A}").as_deref(), Ok("${A}"));
        assert_eq!(replaced("$A $ $$ a$").as_deref(), Ok("$A $ $$ a$"));
        assert_eq!(replaced("${C}").as_deref(), Ok("x: y\n- z"));
        assert_eq!(replaced("${D}"), Err("the environment variable `D` is not set".into()));
        assert!(replaced("${A").is_err());
        assert!(replaced("${}").is_err());
        assert_eq!(replaced("${B:-x}/${D:-x:-y}/${D:-}").as_deref(), Ok("b/x:-y/"));
        assert_eq!(substitute("${E:-x}", &environment_of([("E", "")])).as_deref(), Ok("x"));
        assert!(replaced("${A:b}").is_err() && replaced("${A-b}").is_err() && replaced("${:-b}").is_err());
    }

    #[test]
    fn newline_at_the_end_of_a_file_is_removed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "one\ntwo\r\n").unwrap();
        let path = file.path().display();
        assert_eq!(substitute(&format!("${{file:{path}}}!"), &|_| None).as_deref(), Ok("one\ntwo!"));
        let missing = substitute("${file:/nowhere/at/all}", &|_| None).unwrap_err();
        assert_eq!(missing, "the file `/nowhere/at/all` cannot be read: there is no such file");
    }

    #[test]
    fn carriage_return_at_the_end_of_a_variable_is_removed() {
        let environment = environment_of([("A", "a\r"), ("B", "\rb\r\n")]);
        assert_eq!(substitute("${A}/x", &environment).as_deref(), Ok("a/x"));
        assert_eq!(substitute("${B}", &environment).as_deref(), Ok("\rb\r\n"));
        assert_eq!(substitute_url("nats://u:${A}@h", &environment).as_deref(), Ok("nats://u:a@h"));
    }

    #[test]
    fn reading_a_file_without_end_ends() {
        let endless = substitute("${file:/dev/zero}", &|_| None).unwrap_err();
        assert_eq!(endless, "the file `/dev/zero` is larger than 1 MiB");
    }

    #[test]
    fn passwords_are_percent_encoded_in_urls() {
        let environment = environment_of([("P", "p@s/s,w%"), ("E", "p%40s"), ("H", "host"), ("V", "a/b")]);
        let replaced = |text: &str| substitute_url(text, &environment).unwrap();
        assert_eq!(replaced("amqp://u:${P}@${H}:5672/${V}"), "amqp://u:p%40s%2Fs%2Cw%25@host:5672/a/b");
        // Not taken for an encoded `p@s`.
        assert_eq!(replaced("amqp://u:${E}@h"), "amqp://u:p%2540s@h");
        assert_eq!(replaced("nats://${H},u@${H}"), "nats://host,u@host");
    }
}
