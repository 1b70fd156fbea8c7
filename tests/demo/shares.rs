//! Which version answers how many requests.

use std::collections::BTreeMap;
use std::fmt;

use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};

use crate::parts::{ANSWERS, gateway_url};
use crate::support::http_client;

const BLOCKS: usize = 5;
const BLOCK: usize = 20;
const AT_ONCE: usize = 4;

/// How many answers each version gave.
#[derive(Default)]
pub struct Shares(BTreeMap<String, usize>);

impl Shares {
    /// Sends blocks of requests and counts those after which the state of things was still the same.
    pub async fn count(is_unchanged: impl AsyncFn() -> bool) -> Result<Self, String> {
        let http = http_client();
        let mut shares = Self::default();
        for _ in 0..BLOCKS {
            let requests = stream::iter(0..BLOCK).map(|_| ask(&http)).buffer_unordered(AT_ONCE);
            let versions: Vec<String> = requests.try_collect().await?;
            if !is_unchanged().await {
                break;
            }
            versions.into_iter().for_each(|version| *shares.0.entry(version).or_default() += 1);
        }
        if shares.total() == 0 {
            return Err(format!("{BLOCK} requests took longer than the whole step"));
        }
        Ok(shares)
    }

    /// The gateway's split is not drawn by lot: it is exact to within one request.
    pub fn expect(&self, version: &str, percent: usize) -> Result<(), String> {
        let (got, total) = (self.0.get(version).copied().unwrap_or(0), self.total());
        if (got * 100).abs_diff(total * percent) <= 100 {
            Ok(())
        } else {
            Err(format!("{version} should have {percent} % of {total} requests, and has {got}"))
        }
    }

    fn total(&self) -> usize {
        self.0.values().sum()
    }
}

impl fmt::Display for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests:", self.total())?;
        self.0.iter().try_for_each(|(version, count)| write!(f, "  {version} answered {count}"))
    }
}

/// One chat; the version that its answer names and that its text is of.
async fn ask(http: &reqwest::Client) -> Result<String, String> {
    let body = json!({
        "model": "support-bot",
        "messages": [{"role": "user", "content": "Where is my bicycle?"}],
        "stream": false,
    });
    let request = http.post(gateway_url() + "/api/chat").json(&body);
    let answer = request.send().await.map_err(|error| format!("the gateway does not answer: {error}"))?;
    let version = answer.headers().get("x-drover-version").and_then(|value| value.to_str().ok());
    let version = version.unwrap_or_default().to_owned();
    let body: Value = answer.json().await.map_err(|error| format!("the gateway's answer is not whole: {error}"))?;
    let expected = ANSWERS.iter().find(|(name, _)| *name == version).map(|(_, text)| *text);
    if expected.is_some() && body["message"]["content"].as_str() == expected {
        Ok(version)
    } else {
        Err(format!("version {version:?} should have said {expected:?}, the answer is {body}"))
    }
}
