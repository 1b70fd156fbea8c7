//! What people see of a profile: pure.

use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;

use super::{LISTED, Named, Names, clash, space};
use crate::{
    api::{HasConditions, RejectedModel, RoutingProfile, RoutingProfileStatus},
    cluster::Watched,
    controller::Context,
    domain::{
        conditions::{self, Finding, READY, STALLED},
        directory::{Agreement, Pointer},
        model_db::Capabilities,
        reference::Kind,
    },
    routing_table::compile::Objects,
};

impl Named for RoutingProfile {
    type Status = RoutingProfileStatus;

    fn watched(context: &Context) -> &Watched<Self> {
        &context.profiles
    }

    fn among(objects: &Objects) -> &[Arc<Self>] {
        &objects.profiles
    }

    fn seen(&self) -> Option<&RoutingProfileStatus> {
        self.status.as_ref()
    }

    fn status(&self, names: &Names, now: Timestamp) -> RoutingProfileStatus {
        let (directory, name) = (names.directory(&space(self)), self.name_any());
        let profile = directory.profiles.get(&name).cloned().unwrap_or_default();
        let choice = names.choice(&space(self), &name);
        let prefer = |_: &_| choice.and_then(|choice| directory.model(&choice.chosen));
        let found = directory.ways(&Pointer::Profile(name.clone()), Capabilities::NONE, prefer);
        let first = found.as_ref().ok().and_then(|ways| ways.first());
        let notes = || {
            let differing = choice.filter(|_| profile.lead > 1).and_then(differing);
            profile.overrides.iter().chain(&differing).map(|note| format!("; {note}")).collect::<String>()
        };
        let mut findings = match (&profile.fault, first) {
            (Some(fault), _) => {
                [READY, STALLED].map(|type_| Finding::new(type_, type_ == STALLED, "Cycle", fault.clone())).to_vec()
            }
            (None, Some(way)) => vec![Finding::new(READY, true, "Chosen", way.reason() + &notes())],
            (None, None) => {
                let message = format!("no model suits: status.rejected says what each one lacks{}", notes());
                vec![Finding::new(READY, false, "NoTarget", message)]
            }
        };
        findings.extend(clash(directory, Kind::Profile, &name));
        let rejected = directory.rejected(&profile, Capabilities::NONE);
        let why = |lacks: &[_]| lacks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let listed = rejected.iter().take(LISTED).map(|r| RejectedModel { model: r.model.clone(), why: why(&r.lacks) });
        let eligible = profile.ranked.iter().take(LISTED).filter_map(|place| directory.models.get(*place as usize));
        let generation = self.metadata.generation;
        RoutingProfileStatus {
            observed_generation: generation,
            conditions: conditions::merge(self.conditions(), findings, generation, now),
            chosen: first.map(|way| way.model.name.clone()).unwrap_or_default(),
            reason: first.map(|way| way.reason()).unwrap_or_default(),
            eligible: eligible.map(|model| model.name.clone()).collect(),
            rejected_count: rejected.len() as i64,
            rejected: listed.collect(),
        }
    }
}

/// That gateways don't agree.
fn differing(choice: &Agreement) -> Option<String> {
    let others = choice.others.join(", ");
    (!others.is_empty()).then(|| format!("the gateways differ, each by what it measured: others choose {others}"))
}
