//! Which dead letters a command is about.

use std::collections::BTreeSet;

use axum::http::Method;
use reqwest::Url;
use serde_json::Value;

use crate::cli::bridge_api::BridgeApi;
use crate::reason::Reason;
use crate::route::Pattern;

/// The path of all dead letters.
pub(super) const PATH: &str = "/api/v1/dead-letters";
/// The largest page of the API.
const PAGE: u64 = 1000;

/// Conditions, all of which must hold.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct LetterFilterArgs {
    /// Those of this source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Those whose event's name matches: `*` is one part, `**` any number of parts
    #[arg(long, value_name = "PATTERN", value_parser = pattern)]
    event: Option<String>,
    /// Those that are dead for this reason, such as too_large
    #[arg(long, value_name = "WORD", value_parser = reason)]
    reason: Option<String>,
    /// Those for this destination
    #[arg(long, value_name = "NAME")]
    destination: Option<String>,
    /// Those kept at this time or later: a time, a day, or how long ago, such as 2h or 7d
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<jiff::Timestamp>,
    /// Those kept before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<jiff::Timestamp>,
}

/// Dead letters by their ids, or by conditions.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct SelectionArgs {
    /// Their ids, as `list` shows them
    #[arg(value_name = "ID", conflicts_with_all = ["source", "event", "reason", "destination", "since", "until", "all"])]
    ids: Vec<u64>,
    /// All dead letters
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    filter: LetterFilterArgs,
}

impl LetterFilterArgs {
    fn is_empty(&self) -> bool {
        self.parameters().is_empty()
    }

    fn parameters(&self) -> Vec<(&'static str, String)> {
        let LetterFilterArgs { source, event, reason, destination, since, until } = self.clone();
        let time = |time: Option<jiff::Timestamp>| time.map(|time| time.to_string());
        let all = [
            ("source", source),
            ("event", event),
            ("reason", reason),
            ("destination", destination),
            ("since", time(since)),
            ("until", time(until)),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    /// Up to `most` dead letters after an id; and the last id, if there are more.
    pub(super) async fn list(
        &self,
        api: &BridgeApi,
        mut after: u64,
        most: u64,
    ) -> anyhow::Result<(Vec<Value>, Option<u64>)> {
        let mut found = Vec::new();
        loop {
            let left = most - found.len() as u64;
            let mut url = Url::parse(&format!("http://h{PATH}"))?;
            let (from, limit) = (after.to_string(), left.clamp(1, PAGE).to_string());
            url.query_pairs_mut()
                .extend_pairs(self.parameters())
                .extend_pairs([("after", from.as_str()), ("limit", limit.as_str())]);
            let query = url.query().unwrap_or_default();
            let mut page = api.call(Method::GET, &format!("{PATH}?{query}")).await?;
            if let Value::Array(letters) = page["dead_letters"].take() {
                found.extend(letters);
            }
            let next = page["next"].as_u64();
            match next {
                Some(next) if (found.len() as u64) < most => after = next,
                _ => return Ok((found, next)),
            }
        }
    }
}

impl SelectionArgs {
    /// # Errors
    /// Nothing was selected: what to give.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        match self.ids.is_empty() && self.filter.is_empty() && !self.all {
            true => Err("give ids, a condition such as --reason, or --all"),
            false => Ok(()),
        }
    }

    /// The ids of those that match now, in order.
    pub(super) async fn ids(&self, api: &BridgeApi) -> anyhow::Result<Vec<u64>> {
        if !self.ids.is_empty() {
            return Ok(BTreeSet::from_iter(self.ids.iter().copied()).into_iter().collect());
        }
        let (mut ids, mut after) = (Vec::new(), Some(0));
        while let Some(last) = after {
            let (letters, next) = self.filter.list(api, last, PAGE).await?;
            ids.extend(letters.iter().filter_map(|letter| letter["id"].as_u64()));
            after = next;
        }
        Ok(ids)
    }
}

fn pattern(text: &str) -> Result<String, String> {
    Pattern::parse(text).map(|_| text.to_owned())
}

fn reason(text: &str) -> Result<String, String> {
    let words: Vec<&str> = Reason::ALL.iter().map(|reason| reason.word()).collect();
    let near = crate::config::nearest(text, words.iter().copied());
    let near = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
    Reason::from_word(text).map(|_| text.to_owned()).ok_or_else(|| format!("expected a reason such as too_large{near}"))
}

fn time(text: &str) -> Result<jiff::Timestamp, String> {
    let ago = || {
        let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return None,
        };
        let seconds = number.parse::<u32>().ok().map(|number| i64::from(number) * seconds)?;
        jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() - seconds).ok()
    };
    let day = || Some(text.parse::<jiff::civil::Date>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp());
    let time = text.parse::<jiff::Timestamp>().ok().or_else(ago).or_else(day);
    time.ok_or_else(|| {
        "expected a time such as 2026-11-26T12:00:00Z, a day such as 2026-11-26 (UTC), or 2h or 7d".into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_points_days_or_ages() {
        let seconds = |text: &str| time(text).map(jiff::Timestamp::as_second);
        assert_eq!(seconds("1970-01-02"), Ok(86_400));
        assert_eq!(seconds("1970-01-01T01:00:00+01:00"), Ok(0));
        let now = jiff::Timestamp::now().as_second();
        for (text, ago) in [("90s", 90), ("5m", 300), ("2h", 7200), ("7d", 604_800)] {
            assert!((0..5).contains(&(seconds(text).expect("a time") - (now - ago)).abs()), "{text}");
        }
        for text in ["", "d", "7", "7w", "-1d", "yesterday", "é"] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
