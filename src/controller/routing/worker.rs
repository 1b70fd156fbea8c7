//! What people see of a worker: pure.

use jiff::Timestamp;
use kube::ResourceExt;

use super::{Named, Names, clash, space};
use crate::{
    api::{HasConditions, Worker, WorkerStatus},
    cluster::Watched,
    controller::Context,
    domain::{
        conditions::{self, Finding, READY},
        reference::Kind,
    },
};

impl Named for Worker {
    type Status = WorkerStatus;

    fn watched(context: &Context) -> &Watched<Self> {
        &context.workers
    }

    fn seen(&self) -> Option<&WorkerStatus> {
        self.status.as_ref()
    }

    fn status(&self, names: &Names, now: Timestamp) -> WorkerStatus {
        let (directory, name, declared) = (names.directory(&space(self)), self.name_any(), self.declared());
        let generation = self.metadata.generation;
        let earlier = self.status.clone().unwrap_or_default();
        let worker = directory.workers.get(&name).cloned().unwrap_or_default();
        let resolution = &worker.resolution;
        let mut findings = match &worker.fault {
            Some(fault) => vec![Finding::new(READY, false, "Unresolvable", fault.clone())],
            None => vec![Finding::new(
                READY,
                true,
                "Resolved",
                format!("{}: {}", resolution.resolved_model, resolution.reason),
            )],
        };
        findings.extend(clash(directory, Kind::Worker, &name));
        let status = WorkerStatus {
            observed_generation: generation,
            conditions: conditions::merge(self.conditions(), findings, generation, now),
            resolved_model: resolution.resolved_model.clone(),
            reason: resolution.reason.clone(),
            policy: declared.policy,
            fingerprint: resolution
                .metadata
                .get("identity")
                .map(|identity| worker.fingerprint(identity, declared.policy))
                .unwrap_or_default(),
            default: declared.model,
            set: declared.set,
        };
        match (&worker.fault, declared.pinned) {
            // What a static worker came to stays its own while that can't be called.
            (Some(_), Some(pinned)) => WorkerStatus {
                resolved_model: pinned,
                reason: earlier.reason,
                fingerprint: earlier.fingerprint,
                ..status
            },
            _ => status,
        }
    }
}
