//! What people see of a chain: pure.

use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::Value;

use super::{Named, Names, clash, space};
use crate::{
    api::{FallbackChain, FallbackChainStatus, HasConditions, StepStatus},
    cluster::Watched,
    controller::Context,
    domain::{
        conditions::{self, Finding, READY, STALLED},
        directory::{Chain, Directory, Step},
        reference::Kind,
    },
    routing_table::compile::Objects,
};

const VALID: &str = "Valid";

impl Named for FallbackChain {
    type Status = FallbackChainStatus;

    fn watched(context: &Context) -> &Watched<Self> {
        &context.chains
    }

    fn among(objects: &Objects) -> &[Arc<Self>] {
        &objects.chains
    }

    fn seen(&self) -> Option<&FallbackChainStatus> {
        self.status.as_ref()
    }

    fn status(&self, names: &Names, now: Timestamp) -> FallbackChainStatus {
        let (directory, name) = (names.directory(&space(self)), self.name_any());
        let chain = directory.chains.get(&name).cloned().unwrap_or_default();
        let steps: Vec<StepStatus> = chain.steps.iter().map(|step| seen(directory, &chain, step)).collect();
        let available = steps.iter().filter(|step| step.available).count();
        let mut findings = findings(&chain, available);
        findings.extend(clash(directory, Kind::Chain, &name));
        let generation = self.metadata.generation;
        FallbackChainStatus {
            observed_generation: generation,
            conditions: conditions::merge(self.conditions(), findings, generation, now),
            step_count: steps.len() as i64,
            available_steps: available as i64,
            steps,
        }
    }
}

fn findings(chain: &Chain<Value>, available: usize) -> Vec<Finding> {
    let count = chain.steps.len();
    match (&chain.fault, available) {
        (Some(fault), _) => {
            let finding = |type_| Finding::new(type_, type_ == STALLED, fault.reason(), fault.to_string());
            [READY, VALID, STALLED].map(finding).to_vec()
        }
        (None, available) => {
            let reason = if available == 0 { "NoTarget" } else { "Available" };
            let message = format!("{available} of {count} steps can be called");
            let valid = Finding::new(VALID, true, "Valid", "it ends, its targets are there, and no step can do less");
            vec![Finding::new(READY, available > 0, reason, message), valid]
        }
    }
}

fn seen(directory: &Directory<Value>, chain: &Chain<Value>, step: &Step<Value>) -> StepStatus {
    let target = step.target.clone();
    match directory.ways(&step.pointer, chain.floor.and(step.floor), |_| None) {
        Ok(ways) => {
            let first = ways.first();
            let model = first.map(|way| way.model.name.clone()).unwrap_or_default();
            let message = first.map(|way| way.reason()).unwrap_or_default();
            StepStatus { target, model, available: first.is_some(), message }
        }
        Err(none) => {
            // All that is rejected may be long; a profile's own status has it.
            let message = if none.rejected.len() > 3 { none.what } else { none.to_string() };
            StepStatus { target, model: String::new(), available: false, message }
        }
    }
}
