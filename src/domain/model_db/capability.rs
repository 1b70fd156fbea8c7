//! What a model can do.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Something that a model can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Capability {
    /// Answers in text.
    Chat,
    /// Is made for source code.
    Code,
    /// Reads images.
    Vision,
    /// Calls tools.
    Tools,
    /// Turns text into vectors.
    Embedding,
    /// Thinks before it answers.
    Thinking,
    /// Keeps to a JSON schema.
    Json,
}

impl Capability {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Chat, Self::Code, Self::Vision, Self::Tools, Self::Embedding, Self::Thinking, Self::Json];

    /// As it is written everywhere.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Code => "code",
            Self::Vision => "vision",
            Self::Tools => "tools",
            Self::Embedding => "embedding",
            Self::Thinking => "thinking",
            Self::Json => "json",
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Capability {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|capability| capability.name() == text).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            format!("{text:?} is no capability: write one of {known}")
        })
    }
}

/// A set of capabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Capabilities(u8);

impl Capabilities {
    /// None.
    pub const NONE: Self = Self(0);

    /// These.
    pub const fn of(all: &[Capability]) -> Self {
        let (mut set, mut at) = (0, 0);
        while at < all.len() {
            set |= 1 << all[at] as u8;
            at += 1;
        }
        Self(set)
    }

    /// What a server says in Ollama's words; what answers at all keeps to a schema, too. Words for anything else are
    /// left out.
    pub fn of_server(words: &[String]) -> Self {
        words.iter().fold(Self::NONE, |set, word| match word.as_str() {
            "completion" => set.with(Capability::Chat).with(Capability::Json),
            word => word.parse().map_or(set, |capability| set.with(capability)),
        })
    }

    /// These and one more.
    pub const fn with(self, capability: Capability) -> Self {
        Self(self.0 | 1 << capability as u8)
    }

    /// Whether one is among them.
    pub const fn has(self, capability: Capability) -> bool {
        self.0 & (1 << capability as u8) != 0
    }

    /// These and others.
    pub const fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Those that are in both.
    pub const fn in_both(self, others: Self) -> Self {
        Self(self.0 & others.0)
    }

    /// Those that are not among `others`.
    pub const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// One after the other.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        Capability::ALL.into_iter().filter(move |capability| self.has(*capability))
    }
}

impl FromIterator<Capability> for Capabilities {
    fn from_iter<I: IntoIterator<Item = Capability>>(all: I) -> Self {
        all.into_iter().fold(Self::NONE, Self::with)
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(Capability::name).collect();
        f.write_str(&names.join(", "))
    }
}
