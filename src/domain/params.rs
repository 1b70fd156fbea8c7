//! Which value of a parameter takes effect, who said so, and which values there may be.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Who set a parameter; the order is the precedence, the first one wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A step of a chain, where it says that its own values count most.
    Forced,
    /// The caller.
    Request,
    /// A step of a chain.
    Step,
    /// A worker.
    Worker,
    /// A profile.
    Profile,
    /// The model version.
    Version,
    /// The catalogue of models.
    Catalog,
    /// The node.
    Node,
}

impl Source {
    /// Its name, as it is written everywhere.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forced => "forced",
            Self::Request => "request",
            Self::Step => "step",
            Self::Worker => "worker",
            Self::Profile => "profile",
            Self::Version => "version",
            Self::Catalog => "catalog",
            Self::Node => "node",
        }
    }
}

/// Each parameter's effective value with its source: the layer of the highest precedence that names it.
pub fn merge<K: Ord, V>(
    layers: impl IntoIterator<Item = (Source, impl IntoIterator<Item = (K, V)>)>,
) -> BTreeMap<K, (V, Source)> {
    let mut ordered: Vec<_> = layers.into_iter().collect();
    ordered.sort_by_key(|(source, _)| *source);
    let mut merged = BTreeMap::new();
    for (source, layer) in ordered {
        for (name, value) in layer {
            merged.entry(name).or_insert((value, source));
        }
    }
    merged
}

/// What becomes of a prompt that is longer than the context window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Truncation {
    /// It is cut, and the answer says so.
    #[default]
    Allow,
    /// It is refused.
    Refuse,
}

impl FromStr for Truncation {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "allow" => Ok(Self::Allow),
            "refuse" => Ok(Self::Refuse),
            _ => Err(()),
        }
    }
}

/// What may be said about a context window, in tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// The request's.
    pub requested: Option<u64>,
    /// The version's.
    pub version: Option<u64>,
    /// The node's, for versions that name none.
    pub node: Option<u64>,
    /// The longest that the model was made for.
    pub model_limit: Option<u64>,
    /// The longest that the node allows.
    pub node_limit: Option<u64>,
}

impl Window {
    /// The window that a node is to be called with: what the request asks for, rounded up to what is configured, because
    /// Ollama unloads and loads a model again whenever the window changes. Only a request is held to what the model was
    /// made for: of what is configured, Ollama takes as much as fits. `None` leaves it to the server.
    ///
    /// # Errors
    /// The limit that is less.
    pub fn effective(self) -> Result<Option<(u64, Source)>, u64> {
        let version = self.version.map(|window| (window, Source::Version));
        let configured = version.or(self.node.map(|window| (window, Source::Node)));
        let effective = match (self.requested, configured) {
            (Some(requested), Some((window, source))) if requested <= window => Some((window, source)),
            (Some(requested), _) => Some((requested, Source::Request)),
            (None, configured) => configured,
        };
        let limit = |window: Option<u64>, limit: Option<u64>| limit.filter(|limit| window > Some(*limit));
        let exceeded = limit(self.requested, self.model_limit);
        match exceeded.or(limit(effective.map(|(window, _)| window), self.node_limit)) {
            Some(limit) => Err(limit),
            None => Ok(effective),
        }
    }
}

/// The window to call a node with that was called with the window `running` before: not less than that, because with
/// another one the model would be loaded anew, and not more than `node_limit`.
pub fn widened(
    effective: Option<(u64, Source)>,
    running: Option<u64>,
    node_limit: Option<u64>,
) -> Option<(u64, Source)> {
    let running = running.filter(|running| node_limit.is_none_or(|limit| *running <= limit));
    let wider = running.filter(|running| effective.is_none_or(|(window, _)| *running > window));
    wider.map(|running| (running, Source::Node)).or(effective)
}

/// What an option's value must look like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// A number within these limits.
    Number(f64, f64),
    /// A whole number within these limits.
    Whole(f64, f64),
    /// True or false.
    Flag,
    /// A list of strings.
    Texts,
}

const MOST: f64 = f64::INFINITY;
/// As many tokens or layers as anything can have.
const MANY: f64 = 1e9;
/// A node starts as many threads as it is told to, and stands still where that is too many.
const THREADS: f64 = 1024.0;

/// The options of Ollama 0.17, by name.
const SHAPES: [(&str, Shape); 19] = [
    ("temperature", Shape::Number(0.0, 2.0)),
    ("top_p", Shape::Number(0.0, 1.0)),
    ("min_p", Shape::Number(0.0, 1.0)),
    ("typical_p", Shape::Number(0.0, 1.0)),
    ("repeat_penalty", Shape::Number(0.0, 2.0)),
    ("presence_penalty", Shape::Number(-2.0, 2.0)),
    ("frequency_penalty", Shape::Number(-2.0, 2.0)),
    ("top_k", Shape::Whole(-1.0, MANY)),
    ("num_predict", Shape::Whole(-2.0, MANY)),
    ("num_ctx", Shape::Whole(1.0, MANY)),
    ("num_keep", Shape::Whole(-1.0, MANY)),
    ("num_batch", Shape::Whole(1.0, MANY)),
    ("num_gpu", Shape::Whole(-1.0, MANY)),
    ("main_gpu", Shape::Whole(0.0, MANY)),
    ("num_thread", Shape::Whole(0.0, THREADS)),
    ("repeat_last_n", Shape::Whole(-1.0, MANY)),
    ("seed", Shape::Whole(-MOST, MOST)),
    ("use_mmap", Shape::Flag),
    ("stop", Shape::Texts),
];

/// What the values of an option must look like; `None` for options that are not Ollama's, which pass as they are.
pub fn shape(option: &str) -> Option<Shape> {
    SHAPES.iter().find(|(name, _)| *name == option).map(|(_, shape)| *shape)
}

impl Shape {
    /// Whether a number is of this shape.
    pub fn holds(self, number: f64) -> bool {
        match self {
            Self::Number(least, most) => (least..=most).contains(&number),
            Self::Whole(least, most) => number.fract() == 0.0 && (least..=most).contains(&number),
            Self::Flag | Self::Texts => false,
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(least, most) => write!(f, "a number from {least} to {most}"),
            Self::Whole(least, most) if least.is_finite() => write!(f, "a whole number from {least} to {most}"),
            Self::Whole(..) => f.write_str("a whole number"),
            Self::Flag => f.write_str("true or false"),
            Self::Texts => f.write_str("a list of strings"),
        }
    }
}
