//! What people see of a catalogue: pure.

use jiff::Timestamp;
use kube::ResourceExt;

use super::{LISTED, Named, Names, space};
use crate::{
    api::{HasConditions, ModelCatalog, ModelCatalogStatus},
    cluster::Watched,
    controller::Context,
    domain::conditions::{self, Finding, READY},
};

impl Named for ModelCatalog {
    type Status = ModelCatalogStatus;

    fn watched(context: &Context) -> &Watched<Self> {
        &context.catalogs
    }

    fn seen(&self) -> Option<&ModelCatalogStatus> {
        self.status.as_ref()
    }

    fn status(&self, names: &Names, now: Timestamp) -> ModelCatalogStatus {
        let is_this = |other: &ModelCatalog| other.name_any() == self.name_any() && space(other) == space(self);
        let conflicts = names.conflicts.iter().find(|(object, _)| is_this(object)).map(|(_, said)| said.as_slice());
        let conflicts = conflicts.unwrap_or_default();
        let finding = match conflicts {
            [] => Finding::new(READY, true, "InEffect", "all of it has effect"),
            [first, ..] => {
                let message =
                    format!("{} of its entries and defaults have no effect; the first: {first}", conflicts.len());
                Finding::new(READY, false, "Conflict", message)
            }
        };
        let generation = self.metadata.generation;
        ModelCatalogStatus {
            observed_generation: generation,
            conditions: conditions::merge(self.conditions(), vec![finding], generation, now),
            entries: self.spec.entries.len() as i64,
            conflict_count: conflicts.len() as i64,
            conflicts: conflicts.iter().take(LISTED).cloned().collect(),
        }
    }
}
