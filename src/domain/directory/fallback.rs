//! What leads from one step of a chain to the next.

use std::{collections::BTreeMap, fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a step of a chain fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Failure {
    /// Whatever was asked could not answer.
    Error,
    /// It didn't answer in time.
    Timeout,
    /// Nothing could be asked: no node is ready, or all are full.
    Unavailable,
    /// The answer doesn't keep to the schema that it was to keep to, or was cut by its length.
    SchemaFailure,
    /// The prompt is longer than the model's context.
    ContextOverflow,
    /// The answer says nothing.
    Empty,
}

impl Failure {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Error, Self::Timeout, Self::Unavailable, Self::SchemaFailure, Self::ContextOverflow, Self::Empty];
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl FromStr for Failure {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|failure| failure.to_string() == text).ok_or_else(|| {
            let known = Self::ALL.map(|failure| failure.to_string()).join(", ");
            format!("{text:?} is no failure: write one of {known}")
        })
    }
}

/// Which failures leave a step; none named: all.
pub fn leaves(on: &[Failure], failure: Failure) -> bool {
    on.is_empty() || on.contains(&failure)
}

/// What became of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was not called.
    Skipped,
    /// It failed.
    Failed(Failure),
    /// It answered.
    Answered,
}

/// Why a walk is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A step answered.
    Answered,
    /// A step failed in a way that doesn't lead on.
    Stays(Failure),
    /// There are no more steps.
    NoMoreSteps,
    /// There were as many attempts as there may be.
    NoMoreAttempts,
}

/// A step as a walk sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop<'a> {
    /// Which failures leave it.
    pub on: &'a [Failure],
    /// Whether anything could be asked.
    pub is_available: bool,
}

/// Walks the steps, each of which fails as it is said to (by place), else answers. With it how the walk ends.
pub fn walk(
    steps: &[Stop<'_>],
    most_attempts: u32,
    failures: &BTreeMap<usize, Failure>,
) -> (Vec<(usize, Outcome)>, End) {
    let (mut visited, mut attempts) = (Vec::new(), 0);
    for (place, step) in steps.iter().enumerate() {
        if !step.is_available {
            visited.push((place, Outcome::Skipped));
            continue;
        }
        if attempts == most_attempts {
            return (visited, End::NoMoreAttempts);
        }
        attempts += 1;
        let Some(failure) = failures.get(&place) else {
            visited.push((place, Outcome::Answered));
            return (visited, End::Answered);
        };
        visited.push((place, Outcome::Failed(*failure)));
        if !leaves(step.on, *failure) {
            return (visited, End::Stays(*failure));
        }
    }
    (visited, End::NoMoreSteps)
}
