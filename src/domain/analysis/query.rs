//! Measures that come from elsewhere: a number for each measurement, without counts behind it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A number that is asked for, and its bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// What people call it.
    pub name: String,
    /// What is asked, with everything filled in but the rollout.
    pub text: String,
    /// The least it may be.
    pub min: Option<f64>,
    /// The most it may be.
    pub max: Option<f64>,
    /// Shown, but decides nothing.
    pub dry_run: bool,
}

/// The answer to a query: a number, or why there is none.
pub type Value = Result<f64, String>;

/// What is known by one query.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Queried {
    /// The query's name.
    pub name: String,
    /// Where it stands.
    pub message: String,
    /// Measurements out of bounds since the last one within them.
    #[serde(default)]
    pub failures: u32,
}

impl Query {
    /// The question about one rollout: `{version}` and `{stable}` stand for the two versions.
    pub fn about(&self, version: &str, stable: &str) -> String {
        self.text.replace("{version}", version).replace("{stable}", stable)
    }

    /// Whether an answer is a number within the bounds.
    pub(super) fn keeps(&self, value: &Value) -> bool {
        let within = |value: &f64| {
            !value.is_nan() && self.min.is_none_or(|min| *value >= min) && self.max.is_none_or(|max| *value <= max)
        };
        value.as_ref().is_ok_and(within)
    }

    /// Adds an answer to what is known. Without a number nothing is concluded.
    pub(super) fn judge(&self, known: Option<Queried>, value: &Value) -> Queried {
        let mut known = known.unwrap_or_default();
        known.name.clone_from(&self.name);
        known.message = match value {
            Err(why) => format!("no number: {why}"),
            Ok(value) if value.is_nan() => "no number: it is NaN, as without any request".into(),
            Ok(value) => {
                let below = self.min.filter(|min| value < min).map(|min| format!("{value}, at least {min}"));
                let above = self.max.filter(|max| value > max).map(|max| format!("{value}, at most {max}"));
                let breach = below.or(above);
                known.failures = if breach.is_some() { known.failures.saturating_add(1) } else { 0 };
                breach.unwrap_or_else(|| value.to_string())
            }
        };
        known
    }
}
