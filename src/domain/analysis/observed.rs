//! What gateways count of a version's attempts.

use serde::{Deserialize, Serialize};

use super::{Count, Sketch};

/// What became of one version's attempts, since a gateway started or in a span of time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Observed {
    /// Attempts that ended: with an answer, or through the node's fault. What a caller got wrong or broke off is none.
    /// While sessions stay on their side of a rollout, only the first one of each session in a step is here.
    pub attempts: u64,
    /// Those that are not, because one of their session's was: they count nowhere else.
    #[serde(skip_serializing_if = "is_zero")]
    pub repeats: u64,
    /// Attempts that failed through the node's fault.
    pub failures: u64,
    /// Answers that were checked against the JSON schema of their request.
    pub schema_checks: u64,
    /// Those that didn't keep to it.
    pub schema_failures: u64,
    /// Answers that somebody gave a score, when the score came.
    #[serde(skip_serializing_if = "is_zero")]
    pub rated: u64,
    /// Those of them that were found bad.
    #[serde(skip_serializing_if = "is_zero")]
    pub disliked: u64,
    /// From the request to the node to the end of its answer, without the time that it took to load the model.
    #[serde(skip_serializing_if = "Sketch::is_empty")]
    pub latency: Sketch,
    /// The same, to the first piece of the answer; of streams.
    #[serde(skip_serializing_if = "Sketch::is_empty")]
    pub first_token: Sketch,
    /// The time for each token of the answer.
    #[serde(skip_serializing_if = "Sketch::is_empty")]
    pub token_time: Sketch,
    /// What 1,000 tokens of an answer cost, read and written ones together, where that is known.
    #[serde(skip_serializing_if = "Sketch::is_empty")]
    pub price: Sketch,
}

/// Keeps out of the stats what most deployments never have.
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Observed {
    /// Attempts that failed.
    pub fn errors(&self) -> Count {
        Count { of: self.attempts, bad: self.failures }
    }

    /// Answers that broke their schema.
    pub fn schema_errors(&self) -> Count {
        Count { of: self.schema_checks, bad: self.schema_failures }
    }

    /// Answers that were found bad.
    pub fn dislikes(&self) -> Count {
        Count { of: self.rated, bad: self.disliked }
    }

    /// Adds what another gateway saw.
    pub fn merge(&mut self, other: &Self) {
        self.attempts += other.attempts;
        self.repeats += other.repeats;
        self.rated += other.rated;
        self.disliked += other.disliked;
        self.price.merge(&other.price);
        self.failures += other.failures;
        self.schema_checks += other.schema_checks;
        self.schema_failures += other.schema_failures;
        self.latency.merge(&other.latency);
        self.first_token.merge(&other.first_token);
        self.token_time.merge(&other.token_time);
    }

    /// What was added since `earlier`, an older state of these counts.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            attempts: self.attempts.saturating_sub(earlier.attempts),
            repeats: self.repeats.saturating_sub(earlier.repeats),
            rated: self.rated.saturating_sub(earlier.rated),
            disliked: self.disliked.saturating_sub(earlier.disliked),
            price: self.price.since(&earlier.price),
            failures: self.failures.saturating_sub(earlier.failures),
            schema_checks: self.schema_checks.saturating_sub(earlier.schema_checks),
            schema_failures: self.schema_failures.saturating_sub(earlier.schema_failures),
            latency: self.latency.since(&earlier.latency),
            first_token: self.first_token.since(&earlier.first_token),
            token_time: self.token_time.since(&earlier.token_time),
        }
    }
}
