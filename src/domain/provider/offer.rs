//! One model of a provider: where it is, and what it costs.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Endpoint;

const MILLION: f64 = 1e6;

/// A model as a provider offers it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Offer {
    /// Who.
    pub endpoint: Arc<Endpoint>,
    /// The most tokens that one answer may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u32>,
    /// What it costs; unknown where nobody says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
}

/// US dollars for a million tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Price {
    /// Read.
    pub input_per_million: f64,
    /// Written.
    pub output_per_million: f64,
}

impl Price {
    /// What so many tokens cost.
    pub fn of(self, prompt: u64, completion: u64) -> Cost {
        let amount = prompt as f64 * self.input_per_million + completion as f64 * self.output_per_million;
        Cost { amount: amount / MILLION, currency: Currency::Usd }
    }
}

/// What a request cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// How much, before taxes and discounts.
    pub amount: f64,
    /// Of what.
    pub currency: Currency,
}

/// The money of prices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Currency {
    /// US dollars.
    #[serde(rename = "USD")]
    Usd,
}
