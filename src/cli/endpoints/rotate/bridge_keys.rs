//! Which keys the running bridge verifies with, and how often each has: from its metrics.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// Time limit to read the metrics.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The keys of one source, at one moment.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(super) struct BridgeKeys {
    /// When the bridge was started, in Unix seconds: its counters begin at 0 then.
    started: f64,
    /// Position of each key, by fingerprint.
    positions: BTreeMap<String, u64>,
    /// Deliveries that were verified, by the key's position.
    verified: BTreeMap<u64, f64>,
}

impl BridgeKeys {
    /// Asks the running bridge.
    ///
    /// # Errors
    /// It does not answer.
    pub(super) async fn read(admin: SocketAddr, source: &str) -> anyhow::Result<BridgeKeys> {
        let client = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build()?;
        let answer = client.get(format!("http://{admin}/metrics")).send().await;
        let page = answer.and_then(reqwest::Response::error_for_status).with_context(|| {
            format!("the running bridge does not answer at its admin address {admin} (--admin, HOOKBRIDGE_ADMIN)")
        })?;
        Ok(BridgeKeys::parse(&page.text().await?, source))
    }

    fn parse(page: &str, source: &str) -> BridgeKeys {
        let mut keys = BridgeKeys::default();
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let Ok(value) = value.parse::<f64>() else { continue };
            let label = |name: &str| {
                let (_, rest) = series.split_once(&format!("{name}=\""))?;
                Some(rest.split_once('"')?.0)
            };
            if series == "process_start_time_seconds" {
                keys.started = value;
            }
            let Some(position) = label("key").and_then(|key| key.parse().ok()) else { continue };
            if label("source") != Some(source) {
                continue;
            }
            if series.starts_with("hookbridge_verified_total{") {
                keys.verified.insert(position, value);
            } else if series.starts_with("hookbridge_key_in_force{") && value == 1.0 {
                keys.positions.extend(label("fingerprint").map(|fingerprint| (fingerprint.to_owned(), position)));
            }
        }
        keys
    }

    /// Whether deliveries are verified with a key.
    pub(super) fn in_force(&self, fingerprint: &str) -> bool {
        self.positions.contains_key(fingerprint)
    }

    /// Whether another key was at the position of this one at an earlier moment. It may have counted after that.
    pub(super) fn displaced_since(&self, earlier: &BridgeKeys, fingerprint: &str) -> bool {
        let position = self.positions.get(fingerprint);
        let holder = earlier.positions.iter().find(|(_, at)| Some(*at) == position);
        self.started == earlier.started && holder.is_some_and(|(key, _)| key != fingerprint)
    }

    /// Whether a key has verified a delivery since an earlier moment, at which it was not yet known to anyone. Counters go
    /// by position, so an earlier key at this position may have counted before.
    pub(super) fn verified_since(&self, earlier: &BridgeKeys, fingerprint: &str) -> bool {
        let Some(position) = self.positions.get(fingerprint) else { return false };
        let count = |keys: &BridgeKeys| keys.verified.get(position).copied().unwrap_or_default();
        let before = if self.started == earlier.started { count(earlier) } else { 0.0 };
        count(self) > before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(started: &str, second: &str, count: u32) -> String {
        format!(
            "# TYPE hookbridge_verified counter\nhookbridge_verified_total{{source=\"videogen\",key=\"1\"}} 900\n\
             hookbridge_verified_total{{source=\"videogen\",key=\"2\"}} {count}\n\
             hookbridge_verified_total{{source=\"stage\",key=\"2\"}} 77\n\
             hookbridge_key_in_force{{source=\"videogen\",key=\"1\",fingerprint=\"aaaaaaaa\"}} 1\n\
             hookbridge_key_in_force{{source=\"videogen\",key=\"2\",fingerprint=\"{second}\"}} 1\n\
             process_start_time_seconds {started}\n# EOF\n"
        )
    }

    #[test]
    fn counts_of_an_earlier_key_at_the_position_are_not_its_own() {
        let at = |started, second, count| BridgeKeys::parse(&page(started, second, count), "videogen");
        let before = at("100.5", "bbbbbbbb", 50);
        assert!(!at("100.5", "cccccccc", 50).verified_since(&before, "cccccccc"));
        assert!(at("100.5", "cccccccc", 51).verified_since(&before, "cccccccc"));
        assert!(!at("100.5", "bbbbbbbb", 51).verified_since(&before, "cccccccc"), "not in force");
        assert!(at("100.5", "cccccccc", 51).displaced_since(&before, "cccccccc"));
        assert!(!before.displaced_since(&before, "bbbbbbbb") && !before.displaced_since(&before, "cccccccc"));
        // The bridge was started again in between.
        assert!(at("200.5", "cccccccc", 1).verified_since(&before, "cccccccc"));
        assert!(!at("200.5", "cccccccc", 0).verified_since(&before, "cccccccc"));
        assert!(before.in_force("aaaaaaaa") && !before.in_force("cccccccc"));
        assert_eq!(BridgeKeys::parse(&page("1", "b", 0), "nope").verified.len(), 0);
    }
}
