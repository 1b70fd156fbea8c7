//! What a name that somebody writes for a model refers to: one grammar for requests, workers, chains and overrides.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A kind whose objects stand for models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// `ModelDeployment`.
    Deployment,
    /// `FallbackChain`.
    Chain,
    /// `RoutingProfile`.
    Profile,
    /// `Worker`.
    Worker,
}

impl Kind {
    /// In the order in which bare names are looked up.
    pub const ALL: [Self; 4] = [Self::Deployment, Self::Chain, Self::Profile, Self::Worker];

    /// As references write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Deployment => "deployment",
            Self::Chain => "chain",
            Self::Profile => "profile",
            Self::Worker => "worker",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference<'a> {
    /// `deployment/NAME`, `chain/NAME`, `profile/NAME`, `worker/NAME`.
    Object(Kind, &'a str),
    /// `provider/NAME/MODEL`.
    Provider {
        /// The provider.
        name: &'a str,
        /// The model by its name there.
        model: &'a str,
    },
    /// `auto:TAG`: whatever is best for a capability, or has a tag.
    Auto(&'a str),
    /// Any other name: of an object, else of a model as nodes name it.
    Bare(&'a str),
}

impl<'a> Reference<'a> {
    /// Reads a reference. Every text is one; whether there is such a thing is another question.
    pub fn parse(text: &'a str) -> Self {
        if let Some(tag) = text.strip_prefix("auto:") {
            return Self::Auto(tag);
        }
        let Some((kind, name)) = text.split_once('/') else { return Self::Bare(text) };
        if kind == "provider" {
            let (name, model) = name.split_once('/').unwrap_or((name, ""));
            return Self::Provider { name, model };
        }
        match Kind::ALL.into_iter().find(|known| known.name() == kind) {
            Some(kind) => Self::Object(kind, name),
            None => Self::Bare(text),
        }
    }
}

impl fmt::Display for Reference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(kind, name) => write!(f, "{kind}/{name}"),
            Self::Provider { name, model } => write!(f, "provider/{name}/{model}"),
            Self::Auto(tag) => write!(f, "auto:{tag}"),
            Self::Bare(name) => f.write_str(name),
        }
    }
}

/// So many suggestions are made.
const SUGGESTIONS: usize = 3;
/// Names that are less alike than this are not suggested.
const ALIKE: f64 = 0.7;

/// Of these names those that are most like the one that was looked for, the best first.
pub fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let alike = names.into_iter().map(|name| (strsim::jaro_winkler(wanted, name), name));
    let mut alike: Vec<_> = alike.filter(|(alike, _)| *alike >= ALIKE).collect();
    alike.sort_by(|(a, x), (b, y)| b.total_cmp(a).then(x.cmp(y)));
    alike.dedup_by_key(|(_, name)| *name);
    alike.into_iter().take(SUGGESTIONS).map(|(_, name)| name).collect()
}
