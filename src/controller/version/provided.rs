//! What people see of a version that a provider serves: pure. It has no digest and no alias: what it is, the provider's
//! name for it says, and what the provider makes of that name is the provider's business.

use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;

use super::{
    around::Around,
    audit::audit,
    status::{bad_parent, lost_parent},
};
use crate::{
    api::{HasConditions, Lifecycle, ModelVersionStatus, Provider, ProviderSource},
    domain::{
        conditions::{self, Finding, READY, RECONCILING, STALLED},
        registry::{LineageFault, Stage},
    },
};

/// The status of a version with this source.
pub fn status(
    around: &Around<'_>,
    source: &ProviderSource,
    providers: &[Arc<Provider>],
    now: Timestamp,
) -> ModelVersionStatus {
    let version = around.version;
    let mut findings = match (around.older_twin(), held_back(around), usable(source, providers)) {
        (Some(by), ..) => {
            let message = format!("ModelVersion {by} is this version already: delete one of the two");
            let finding = |type_, holds: bool| Finding::new(type_, holds, "VersionTaken", message.clone());
            vec![finding(READY, false), finding(STALLED, true)]
        }
        (None, Some(fault), _) => bad_parent(version, &fault),
        (None, None, Ok(())) => {
            vec![Finding::new(READY, true, "Resolved", format!("{} can be asked for", source.tag()))]
        }
        (None, None, Err(why)) => {
            let finding = |type_, holds: bool| Finding::new(type_, holds, "ProviderNotUsable", why.clone());
            vec![finding(READY, false), finding(RECONCILING, true)]
        }
    };
    let Stage { lifecycle, weight, deployed_at } = around.stage();
    if lifecycle != Lifecycle::NotDeployed {
        findings.extend(around.lineage_fault().map(|fault| lost_parent(version, &fault)));
    }
    let generation = version.metadata.generation;
    ModelVersionStatus {
        observed_generation: generation,
        conditions: conditions::merge(version.conditions(), findings, generation, now),
        lifecycle,
        weight,
        deployed_at,
        audit: audit(version, around.deployments),
        ..ModelVersionStatus::default()
    }
}

/// What is wrong with the parent of a version that was never served: it isn't served before that is right.
pub fn held_back(around: &Around<'_>) -> Option<LineageFault> {
    around.lineage_fault().filter(|_| around.stage().lifecycle == Lifecycle::NotDeployed)
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
