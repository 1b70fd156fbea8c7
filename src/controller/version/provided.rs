//! What people see of a version that a provider serves: pure. It has no digest and no alias: what it is, the provider's
//! name for it says, and what the provider makes of that name is the provider's business.

use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;

use super::{audit::audit, plan::older_twin, status::lifecycle};
use crate::{
    api::{HasConditions, ModelDeployment, ModelVersion, ModelVersionStatus, Provider, ProviderSource},
    domain::conditions::{self, Finding, READY, RECONCILING, STALLED},
};

/// The status of a version with this source.
pub fn status(
    version: &ModelVersion,
    source: &ProviderSource,
    all: &[Arc<ModelVersion>],
    providers: &[Arc<Provider>],
    deployments: &[Arc<ModelDeployment>],
    now: Timestamp,
) -> ModelVersionStatus {
    let findings = match (older_twin(version, all), usable(source, providers)) {
        (Some(by), _) => {
            let message = format!("ModelVersion {by} is this version already: delete one of the two");
            let finding = |type_, holds: bool| Finding::new(type_, holds, "VersionTaken", message.clone());
            vec![finding(READY, false), finding(STALLED, true)]
        }
        (None, Ok(())) => {
            vec![Finding::new(READY, true, "Resolved", format!("{} can be asked for", source.tag()))]
        }
        (None, Err(why)) => {
            let finding = |type_, holds: bool| Finding::new(type_, holds, "ProviderNotUsable", why.clone());
            vec![finding(READY, false), finding(RECONCILING, true)]
        }
    };
    let (lifecycle, weight) = lifecycle(version, deployments);
    let generation = version.metadata.generation;
    ModelVersionStatus {
        observed_generation: generation,
        conditions: conditions::merge(version.conditions(), findings, generation, now),
        lifecycle,
        weight,
        audit: audit(version, deployments),
        ..ModelVersionStatus::default()
    }
}

/// Whether a provider can be asked for a version with this source.
///
/// # Errors
/// Why not, for people.
pub fn usable(source: &ProviderSource, providers: &[Arc<Provider>]) -> Result<(), String> {
    let ProviderSource { name, model } = source;
    let provider = providers.iter().find(|provider| provider.name_any() == *name);
    let provider = provider.ok_or_else(|| format!("there is no Provider {name}: create it"))?;
    provider.usable().map_err(|why| format!("provider {name} can't be used: {why}"))?;
    let offered = provider.offer(model).map(drop);
    offered.ok_or_else(|| {
        format!("provider {name} doesn't offer {model}: check its spec.models, or this version's source")
    })
}
