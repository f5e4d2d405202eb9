//! URLs that come from a user or from the API. Pure.

use std::net::IpAddr;

use reqwest::Url;

/// Reads the API's base URL. Plain HTTP is only for this machine, as each request carries the API key.
///
/// # Errors
/// It is something else.
pub fn base_url(text: &str) -> Result<Url, String> {
    let expected = || "expected https://host, without user, query and fragment".to_owned();
    let url = Url::parse(text).map_err(|_| expected())?;
    let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    if !plain || url.fragment().is_some() || !url.has_host() {
        return Err(expected());
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err("http:// would show the API key to the network: use https://".into()),
        _ => Err(expected()),
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse();
    host == "localhost" || address.is_ok_and(|address: IpAddr| address.is_loopback())
}

/// Whether two URLs are the same, however they are written.
pub fn same_url(one: &str, other: &str) -> bool {
    match (Url::parse(one), Url::parse(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_only_for_this_machine() {
        for good in
            ["https://api.videogen.io", "https://h/base/", "http://127.0.0.1:1", "http://[::1]:1", "http://localhost"]
        {
            assert!(base_url(good).is_ok(), "{good}");
        }
        for bad in
            ["http://api.videogen.io", "http://10.0.0.1", "https://u:p@h", "https://h?a", "https://h#a", "ftp://h", "h"]
        {
            assert!(base_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn urls_are_compared_as_urls() {
        assert!(same_url("https://Hooks.example:443", "https://hooks.example/"));
        assert!(!same_url("https://hooks.example/a", "https://hooks.example/b"));
        assert!(same_url("x", "x"));
    }
}
