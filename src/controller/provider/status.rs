//! What people see of a provider: pure.

use jiff::Timestamp;

use super::checks::Look;
use crate::{
    api::{HasConditions, MOST_MODELS, Provider, ProviderStatus},
    domain::{
        conditions::{self, Finding, READY, RECONCILING, STALLED},
        provider::{KeySource, ProviderFault, origin},
    },
    ports::ProviderListing,
};

/// The status after a look.
pub fn status(provider: &Provider, look: &Look, now: Timestamp) -> ProviderStatus {
    let source = provider.key_source();
    let generation = provider.metadata.generation;
    let findings = match &look.outcome {
        Ok(listing) => vec![answers(provider, listing, &source)],
        Err(fault) => fails(fault),
    };
    let (models, model_count) = models(provider, look);
    ProviderStatus {
        observed_generation: generation,
        conditions: conditions::merge(provider.conditions(), findings, generation, now),
        origin: origin(&provider.spec.url, &source, provider.is_by_user(), look.has_key),
        key_source: source.to_string(),
        models,
        model_count,
    }
}

/// The models that can be asked for, and how many there are: of the spec, else as listed last.
fn models(provider: &Provider, look: &Look) -> (Vec<String>, i64) {
    let declared: Vec<String> = provider.spec.models.iter().map(|model| model.name.clone()).collect();
    let listed = look.outcome.as_ref().ok().and_then(|listing| listing.models.as_ref());
    match (declared.is_empty(), listed, &provider.status) {
        (false, ..) => (declared.clone(), declared.len() as i64),
        (true, Some(listed), _) => (listed.iter().take(MOST_MODELS).cloned().collect(), listed.len() as i64),
        (true, None, Some(earlier)) => (earlier.models.clone(), earlier.model_count),
        (true, None, None) => Default::default(),
    }
}

fn answers(provider: &Provider, listing: &ProviderListing, source: &KeySource) -> Finding {
    let key = if *source == KeySource::None { "" } else { " and takes the key" };
    let mut message = format!("{} answers{key}", provider.spec.url);
    let listed = listing.models.as_deref().unwrap_or_default();
    if provider.spec.models.is_empty() && listed.len() > MOST_MODELS {
        message += &format!(
            "; of its {} models the first {MOST_MODELS} can be asked for: name those that you want in spec.models",
            listed.len()
        );
    }
    let is_missing = |name: &&str| listing.models.is_some() && !listed.iter().any(|listed| listed == name);
    let missing: Vec<&str> = provider.spec.models.iter().map(|model| &*model.name).filter(is_missing).collect();
    if !missing.is_empty() {
        message += &format!("; its list lacks {}: check spec.models", missing.join(", "));
    }
    Finding::new(READY, true, "Answering", message)
}

fn fails(fault: &ProviderFault) -> Vec<Finding> {
    let (reason, message) = (fault.reason(), fault.to_string());
    let other = if fault.is_lasting() { STALLED } else { RECONCILING };
    vec![Finding::new(READY, false, reason, message.clone()), Finding::new(other, true, reason, message)]
}
