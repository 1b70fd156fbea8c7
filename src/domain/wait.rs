//! Waiting until models are where they must be: what counts as there, and which changes are worth a line.

use serde::Serialize;

/// A line is worth printing after this many percent.
const STEP: i64 = 10;

/// One pull as a waiting command sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    /// Namespace of the pull.
    pub namespace: String,
    /// Name of the pull.
    pub name: String,
    /// The model; empty while there is no such pull.
    pub model: String,
    /// Whether every node that must has it.
    pub ready: bool,
    /// How many nodes have it.
    pub ready_nodes: i64,
    /// How many must.
    pub desired_nodes: i64,
    /// The digest on the nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Percent over all nodes, where the size is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<i64>,
    /// Where it stands, for programs.
    pub reason: String,
    /// Where it stands, for people.
    pub message: String,
}

impl Standing {
    /// A pull that isn't there, or not any more.
    pub fn absent(namespace: &str, name: &str) -> Self {
        let message = format!("there is no ModelPull {name} in namespace {namespace}");
        Self { namespace: namespace.into(), name: name.into(), reason: "NotFound".into(), message, ..Self::default() }
    }

    /// A pull whose spec the controller has not answered yet: what an older status says counts for nothing.
    pub fn unanswered(namespace: &str, name: &str, model: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            model: model.into(),
            reason: "NotSeenYet".into(),
            message: "the controller has not taken it up yet: is it running?".into(),
            ..Self::default()
        }
    }

    /// Whether people should hear of this after they heard of `told`. Counters that creep and counts of attempts in a
    /// message are not worth a line each.
    pub fn is_news_after(&self, told: &Self) -> bool {
        let shape = |standing: &Self| {
            let words: String = standing.message.chars().filter(|c| !c.is_ascii_digit()).collect();
            (standing.ready, standing.reason.clone(), standing.ready_nodes, standing.desired_nodes, words)
        };
        let moved = match (told.percent, self.percent) {
            (Some(told), Some(now)) => (now - told).abs() >= STEP,
            _ => false,
        };
        shape(self) != shape(told) || moved
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let model = if self.model.is_empty() { String::new() } else { format!(" ({})", self.model) };
        let head = format!("{}{model}", self.name);
        if self.ready {
            return format!("{head}: on {} of {} nodes", self.ready_nodes, self.desired_nodes);
        }
        let percent = self.percent.map(|percent| format!("{percent} %, ")).unwrap_or_default();
        format!("{head}: {percent}{}: {}", self.reason, self.message)
    }
}
