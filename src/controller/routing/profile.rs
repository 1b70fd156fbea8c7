//! What people see of a profile: pure.

use jiff::Timestamp;
use kube::ResourceExt;

use super::{LISTED, Named, Names, clash, space};
use crate::{
    api::{HasConditions, RejectedModel, RoutingProfile, RoutingProfileStatus},
    cluster::Watched,
    controller::Context,
    domain::{
        conditions::{self, Finding, READY, STALLED},
        directory::Pointer,
        model_db::Capabilities,
        reference::Kind,
    },
};

impl Named for RoutingProfile {
    type Status = RoutingProfileStatus;

    fn watched(context: &Context) -> &Watched<Self> {
        &context.profiles
    }

    fn seen(&self) -> Option<&RoutingProfileStatus> {
        self.status.as_ref()
    }

    fn status(&self, names: &Names, now: Timestamp) -> RoutingProfileStatus {
        let (directory, name) = (names.directory(&space(self)), self.name_any());
        let profile = directory.profiles.get(&name).cloned().unwrap_or_default();
        let found = directory.ways(&Pointer::Profile(name.clone()), Capabilities::NONE, |_| None);
        let first = found.as_ref().ok().and_then(|ways| ways.first());
        let notes = || profile.overrides.iter().map(|note| format!("; {note}")).collect::<String>();
        let mut findings = match (&profile.fault, first) {
            (Some(fault), _) => {
                [READY, STALLED].map(|type_| Finding::new(type_, type_ == STALLED, "Cycle", fault.clone())).to_vec()
            }
            (None, Some(way)) => vec![Finding::new(READY, true, "Chosen", way.reason.clone() + &notes())],
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
            reason: first.map(|way| way.reason.clone()).unwrap_or_default(),
            eligible: eligible.map(|model| model.name.clone()).collect(),
            rejected_count: rejected.len() as i64,
            rejected: listed.collect(),
        }
    }
}
