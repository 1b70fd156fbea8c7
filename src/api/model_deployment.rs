use std::time::Duration;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    HasConditions, MODEL_PATTERN, conditions_schema,
    model_version::{MODEL_FORM, MODEL_RULE},
};
use crate::domain::{
    analysis::{Criterion, Limit, Measure, Query, Settings, micros},
    conditions::Condition,
    duration::HumanDuration,
    labels::NodeSelector,
    rollout::{Phase, Shadow, State},
    version,
};

const DEFAULT_SHADOW_DURATION: Duration = Duration::from_secs(10 * 60);
const DEFAULT_SHADOW_BUDGET: f64 = 1.0;

/// Which version of a model serves, and how a new one takes over.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "drover.dev",
    version = "v1alpha1",
    kind = "ModelDeployment",
    namespaced,
    status = "ModelDeploymentStatus",
    derive = "PartialEq",
    shortname = "mdep",
    category = "drover",
    doc = "Which version of a model serves, and how a new one takes over.",
    printcolumn(name = "Model", type_ = "string", json_path = ".spec.model"),
    printcolumn(name = "Version", type_ = "string", json_path = ".spec.version"),
    printcolumn(name = "Stable", type_ = "string", json_path = ".status.stable.version"),
    printcolumn(name = "Canary", type_ = "string", json_path = ".status.canary.version"),
    printcolumn(name = "Weight", type_ = "integer", json_path = ".status.canary.weight"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].message"#, priority = "1"),
    validation = Rule::new("self.metadata.name.size() <= 63").message("metadata.name must have at most 63 characters")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self.model == oldSelf.model", "model is immutable: create another ModelDeployment"))]
pub struct ModelDeploymentSpec {
    /// The model line.
    #[schemars(regex(pattern = MODEL_PATTERN), length(max = 63))]
    #[x_kube(validation = (MODEL_RULE, MODEL_FORM))]
    pub model: String,
    /// The version that shall serve: that of a ModelVersion of the same model.
    #[schemars(regex(pattern = version::PATTERN), length(max = 64))]
    #[x_kube(validation = (version::RULE, version::FORM))]
    pub version: String,
    /// Where it runs.
    #[serde(default)]
    pub placement: Placement,
    /// How a new version takes over.
    #[serde(default)]
    pub strategy: Strategy,
    /// True has a new version loaded on `minNodes` nodes before its first request, and both versions kept in memory during a
    /// rollout.
    #[serde(default)]
    pub warm: bool,
    /// How many earlier versions are kept on the nodes for a rollback.
    #[serde(default = "default_rollback_window")]
    #[schemars(range(min = 1, max = 10))]
    pub rollback_window: u32,
    /// True holds the rollout where it is; undo and going back still work.
    #[serde(default)]
    pub paused: bool,
    /// True checks answers by the JSON schema of their request (`format`, `response_format`), if it has one, before they
    /// are sent; a request's header `x-drover-schema-check` says otherwise.
    #[serde(default)]
    pub schema_check: bool,
}

/// Where a deployment runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// The nodes that may serve it; without one, every node of the namespace.
    #[serde(default)]
    pub node_selector: NodeSelector,
    /// Ready nodes that must hold a version before it gets requests.
    #[serde(default = "default_min_nodes")]
    #[schemars(range(min = 1, max = 10000))]
    pub min_nodes: u32,
}

impl Default for Placement {
    fn default() -> Self {
        Self { node_selector: NodeSelector::default(), min_nodes: default_min_nodes() }
    }
}

/// How a new version takes over: one of the two, or else a canary of 20 and 50 percent, each for a day.
// No default is stored for it: it would stand beside what a later `kubectl apply` sets.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = ("!(has(self.canary) && has(self.immediate))", "set either canary or immediate"))]
pub struct Strategy {
    /// In steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanaryStrategy>,
    /// All at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub immediate: Option<ImmediateStrategy>,
}

impl Strategy {
    /// The steps, written or not; `None`: all at once.
    pub fn steps(&self) -> Option<CanaryStrategy> {
        match (&self.canary, &self.immediate) {
            (Some(canary), _) => Some(canary.clone()),
            (None, Some(_)) => None,
            (None, None) => Some(CanaryStrategy::default()),
        }
    }
}

/// All requests at once; takes no settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ImmediateStrategy {}

/// A growing share of requests.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.shadow) || !(has(self.shadowDuration) || has(self.shadowBudget))", "shadowDuration and shadowBudget are about copies of requests: set shadow, too"))]
pub struct CanaryStrategy {
    /// The shares before all requests; each must be larger than the one before.
    #[serde(default = "default_steps")]
    #[schemars(length(min = 1, max = 20))]
    #[x_kube(validation = ("self.map(step, step.weight).isSorted() && self.all(a, self.exists_one(b, b.weight == a.weight))", "weights must increase from step to step"))]
    pub steps: Vec<CanaryStep>,
    /// Before the first step, the canary gets copies of so many percent of the requests that stable answers. Its answers
    /// are compared and thrown away. Copies get only places that nobody waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub shadow: Option<u8>,
    /// How long it gets copies at least; 10m if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow_duration: Option<HumanDuration>,
    /// How many US dollars the copies to a provider may cost at each gateway, by its price list; 1 if left out. No more
    /// copies are sent then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1000000.0))]
    pub shadow_budget: Option<f64>,
    /// True: a step is left only when somebody promotes it.
    #[serde(default)]
    pub require_approval: bool,
    /// Keeps a session on one side of the rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
    /// What the canary is compared by. A step is left when enough of the canary's requests were measured and nothing
    /// speaks against it; a canary that is worse than it may be is rolled back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<Analysis>,
}

/// What a canary is compared by, against the stable version in the same time.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("size(self.metrics) > 0 || (has(self.prometheus) && size(self.prometheus) > 0)", "name one metric at least, in metrics or in prometheus"))]
pub struct Analysis {
    /// How often it is compared, 1s or more.
    #[serde(default = "default_interval")]
    #[x_kube(validation = ("duration(self) >= duration('1s')", "must be at least 1s"))]
    pub interval: HumanDuration,
    /// A step is not left before this many requests to the canary were measured in it; with `sticky`, a session counts
    /// once.
    #[serde(default = "default_min_requests")]
    #[schemars(range(min = 1, max = 1000000))]
    pub min_requests: u32,
    /// The measures. Of rollouts to a version that is no worse than they allow, at most 1 % are rolled back by all of
    /// them together.
    #[serde(default)]
    #[schemars(length(max = 10))]
    pub metrics: Vec<Metric>,
    /// Numbers that Prometheus knows, at the controller's `prometheus-url`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    #[x_kube(validation = ("self.all(a, self.exists_one(b, b.name == a.name))", "each query needs a name of its own"))]
    pub prometheus: Vec<PrometheusMetric>,
    /// So many answers of a Prometheus query in a row that are out of bounds roll back. The other measures, those with a
    /// `max` among them, decide by counts, and need no such limit.
    #[serde(default = "default_failure_limit")]
    #[schemars(range(min = 1, max = 100))]
    pub failure_limit: u32,
    /// A step is not left before so many comparisons in a row had nothing against the canary: the counts don't lean that
    /// way, and each Prometheus query gives a number within its bounds.
    #[serde(default = "default_consecutive_successes")]
    #[schemars(range(min = 1, max = 100))]
    pub consecutive_successes: u32,
}

/// A number that Prometheus knows, and its bounds.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.min) || has(self.max)", "set min, max or both"))]
pub struct PrometheusMetric {
    /// What people call it.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// An instant query that gives one number. `{namespace}`, `{deployment}`, `{version}` and `{stable}` stand for the
    /// rollout's own.
    #[schemars(length(min = 1, max = 4096))]
    pub query: String,
    /// The least it may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The most it may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// True: it is measured and shown, and decides nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// One measure and how much worse the canary may be.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("[has(self.maxIncrease), has(self.maxRatio), has(self.max)].filter(set, set).size() == 1", "set one of maxIncrease, maxRatio and max"))]
#[x_kube(validation = ("!(self.name.endsWith('Rate') || self.name == 'feedbackScore') || ((!has(self.maxIncrease) || self.maxIncrease <= 1.0) && (!has(self.max) || self.max <= 1.0))", "maxIncrease and max of a rate or of feedbackScore are shares from 0 to 1: 0.02 is two percent"))]
pub struct Metric {
    /// What is measured.
    pub name: Measure,
    /// By how much it may exceed stable's: of a rate, and of scores that are bad, as a share (0.02 are two percentage
    /// points), of a time in seconds, of a price in US dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 3600.0))]
    pub max_increase: Option<f64>,
    /// By which factor it may exceed stable's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1.0, max = 100.0))]
    pub max_ratio: Option<f64>,
    /// What it may be, however stable does: of a rate or of bad scores a share, of a time seconds, of a price US dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 3600.0))]
    pub max: Option<f64>,
    /// True: it is measured and shown, and decides nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

impl Analysis {
    /// The same as decisions take it, for this deployment.
    fn settings(&self, namespace: &str, deployment: &str) -> Settings {
        let criteria = self.metrics.iter().filter_map(|metric| {
            let limits = [
                metric.max_increase.map(Limit::Increase),
                metric.max_ratio.map(Limit::Ratio),
                metric.max.map(Limit::Max),
            ];
            let limit = limits.into_iter().flatten().next()?;
            Some(Criterion { measure: metric.name, limit, dry_run: metric.dry_run })
        });
        let queries = self.prometheus.iter().map(|metric| Query {
            name: metric.name.clone(),
            text: metric.query.replace("{namespace}", namespace).replace("{deployment}", deployment),
            min: metric.min,
            max: metric.max,
            dry_run: metric.dry_run,
        });
        Settings {
            interval: self.interval.0,
            min_requests: self.min_requests,
            criteria: criteria.collect(),
            queries: queries.collect(),
            failure_limit: self.failure_limit,
            consecutive_successes: self.consecutive_successes,
            parts: 1,
        }
    }
}

impl CanaryStrategy {
    /// How it is compared, as decisions take it, for this deployment.
    pub fn settings(&self, namespace: &str, deployment: &str) -> Option<Settings> {
        let settings = self.analysis.as_ref()?.settings(namespace, deployment);
        let parts = self.steps.len() + usize::from(self.shadow.is_some());
        let parts = if self.sticky.is_some() { u32::try_from(parts).unwrap_or(u32::MAX) } else { 1 };
        Some(Settings { parts, ..settings })
    }

    /// The copies of requests that it begins with.
    pub fn copies(&self) -> Option<Shadow> {
        let duration = self.shadow_duration.map_or(DEFAULT_SHADOW_DURATION, |duration| duration.0);
        let budget = micros(self.shadow_budget());
        self.shadow.map(|share| Shadow { share, duration, budget })
    }

    /// How many US dollars the copies to a provider may cost at each gateway.
    pub fn shadow_budget(&self) -> f64 {
        self.shadow_budget.unwrap_or(DEFAULT_SHADOW_BUDGET)
    }
}

impl Default for CanaryStrategy {
    fn default() -> Self {
        Self {
            steps: default_steps(),
            shadow: None,
            shadow_duration: None,
            shadow_budget: None,
            require_approval: false,
            sticky: None,
            analysis: None,
        }
    }
}

/// One share, held for a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CanaryStep {
    /// Percent of requests.
    #[schemars(range(min = 1, max = 99))]
    pub weight: u8,
    /// How long it is held at least.
    #[serde(default = "default_step_duration")]
    pub duration: HumanDuration,
}

/// What makes requests one session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sticky {
    /// The request header whose value names the session.
    #[schemars(regex(pattern = "^[A-Za-z0-9-]+$"), length(max = 63))]
    pub header: String,
}

/// Where a deployment stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelDeploymentStatus {
    /// The `metadata.generation` this status is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: requests are answered as the strategy says for now; `Progressing`: a rollout is under way.
    #[serde(default)]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// Where it stands.
    #[serde(default)]
    pub phase: Phase,
    /// What the rollout remembers.
    #[serde(flatten)]
    pub rollout: State,
}

impl HasConditions for ModelDeployment {
    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |status| &status.conditions)
    }
}

fn default_rollback_window() -> u32 {
    2
}

fn default_min_nodes() -> u32 {
    1
}

fn default_step_duration() -> HumanDuration {
    HumanDuration::from_secs(24 * 60 * 60)
}

fn default_interval() -> HumanDuration {
    HumanDuration::from_secs(30)
}

fn default_min_requests() -> u32 {
    50
}

fn default_failure_limit() -> u32 {
    2
}

fn default_consecutive_successes() -> u32 {
    1
}

fn default_steps() -> Vec<CanaryStep> {
    [20, 50].map(|weight| CanaryStep { weight, duration: default_step_duration() }).into()
}
