//! Status conditions in the form of `metav1.Condition`, following kstatus: `Ready` always, `Reconciling` and
//! `Stalled` only while they are true.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The condition type that says whether an object does what its spec asks for.
pub const READY: &str = "Ready";
/// Present while a controller works towards the spec.
pub const RECONCILING: &str = "Reconciling";
/// Present while the spec can't be reached without somebody's help.
pub const STALLED: &str = "Stalled";

/// `True`, `False` or `Unknown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    /// The condition holds.
    True,
    /// The condition does not hold.
    False,
    /// Not known yet.
    Unknown,
}

impl From<bool> for ConditionStatus {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// One observation on an object, as `metav1.Condition` defines it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What is observed, for example `Ready`.
    #[serde(rename = "type")]
    pub type_: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// A CamelCase word for programs.
    pub reason: String,
    /// A sentence for people.
    #[serde(default)]
    pub message: String,
    /// When `status` last changed.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub last_transition_time: Timestamp,
    /// The `metadata.generation` this was observed for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// A condition before it is put beside the earlier ones: without the times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The condition's type.
    pub type_: &'static str,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// A CamelCase word for programs.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
}

impl Finding {
    /// A finding from its parts.
    pub fn new(
        type_: &'static str,
        status: impl Into<ConditionStatus>,
        reason: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self { type_, status: status.into(), reason: reason.into(), message: message.into() }
    }
}

/// The condition list for `findings`: an unchanged status keeps its time of transition, and a type that is no
/// longer found is gone.
pub fn merge(earlier: &[Condition], findings: Vec<Finding>, generation: Option<i64>, now: Timestamp) -> Vec<Condition> {
    findings
        .into_iter()
        .map(|finding| {
            let since = earlier
                .iter()
                .find(|c| c.type_ == finding.type_ && c.status == finding.status)
                .map_or(now, |c| c.last_transition_time);
            Condition {
                type_: finding.type_.into(),
                status: finding.status,
                reason: finding.reason,
                message: finding.message,
                last_transition_time: since,
                observed_generation: generation,
            }
        })
        .collect()
}
