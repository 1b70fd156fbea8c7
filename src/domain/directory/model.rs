//! Models as choices see them.

use serde::{Deserialize, Serialize};

use crate::domain::model_db::{Capabilities, Parameters};

/// Where requests for a model go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// To a deployment.
    Deployment(String),
    /// To nodes that have this tag: its full name, lower case.
    Tag(String),
    /// To a provider.
    Offer {
        /// Its name.
        provider: String,
        /// The model by its name there.
        model: String,
    },
}

/// Why a model can't be called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Absence {
    /// For now: what has it can't be reached, or is full of something else.
    Unavailable(String),
    /// Nothing has it.
    NotPulled(String),
}

impl Absence {
    /// For people.
    pub fn why(&self) -> &str {
        let (Self::Unavailable(why) | Self::NotPulled(why)) = self;
        why
    }
}

/// One model that requests could go to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// The reference by which it is asked for.
    pub name: String,
    /// Where requests go.
    pub place: Place,
    /// Its family as the catalogue has it, as nodes have it, and its own name without a tag.
    pub families: Vec<String>,
    /// The longest context, in tokens.
    pub context_length: u64,
    /// What it can do.
    pub capabilities: Capabilities,
    /// How many parameters it has.
    pub parameters: Option<Parameters>,
    /// Bits per weight.
    pub bits: Option<u8>,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// US dollars for a million tokens read and a million written; what nodes run costs nothing more.
    pub price: Option<f64>,
    /// What exactly would run: a digest, or the provider's name for it.
    pub identity: String,
    /// Why it can't be called.
    pub absence: Option<Absence>,
}
