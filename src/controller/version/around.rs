//! What a version's own decision needs to know of the others: pure.

use std::sync::Arc;

use kube::ResourceExt;

use crate::{
    api::{ANNOTATION_UNDO, Lifecycle, ModelDeployment, ModelVersion, parents},
    domain::{
        registry::{self, Candidate, Keeping, LineageFault, Stage},
        rollout::State,
    },
};

/// The version, and what is declared around it in its namespace.
pub struct Around<'a> {
    /// The version.
    pub version: &'a ModelVersion,
    /// Every version.
    pub versions: &'a [Arc<ModelVersion>],
    /// Every deployment.
    pub deployments: &'a [Arc<ModelDeployment>],
}

impl Around<'_> {
    /// An older object of the same model and version.
    pub fn older_twin(&self) -> Option<String> {
        let age = |version: &ModelVersion| (version.creation_timestamp(), version.name_any());
        let is_older = |other: &&Arc<ModelVersion>| are_twins(other, self.version) && age(other) < age(self.version);
        self.versions.iter().find(is_older).map(|twin| twin.name_any())
    }

    /// What is wrong with its parent.
    pub fn lineage_fault(&self) -> Option<LineageFault> {
        let spec = &self.version.spec;
        spec.parent.as_ref()?;
        let parents = parents(&spec.model, self.versions.iter().map(AsRef::as_ref));
        registry::check(&spec.version, &parents).err()
    }

    /// Where it is in its life.
    pub fn stage(&self) -> Stage {
        self.stage_of(self.version)
    }

    /// Whether it stays on the nodes that hold it.
    pub fn is_kept(&self) -> bool {
        if self.stage().lifecycle != Lifecycle::Archived {
            return true;
        }
        let model = &self.version.spec.model;
        let mut deployments = self.deployments.iter().filter(|deployment| deployment.spec.model == *model).peekable();
        if deployments.peek().is_none() {
            return true;
        }
        let same = self.versions.iter().filter(|other| other.spec.model == *model);
        let candidates = same.map(|version| {
            let Stage { lifecycle, deployed_at, .. } = self.stage_of(version);
            Candidate { version: &version.spec.version, lifecycle, deployed_at }
        });
        let all: Vec<_> = candidates.collect();
        let Some(own) = all.iter().find(|candidate| candidate.version == self.version.spec.version) else {
            return true;
        };
        deployments.any(|deployment| {
            let Some(status) = &deployment.status else { return true };
            let keeping = Keeping {
                state: &status.rollout,
                wanted: wanted(deployment, &status.rollout),
                window: deployment.spec.rollback_window as usize,
            };
            registry::is_kept(own, &all, &keeping)
        })
    }

    fn stage_of(&self, version: &ModelVersion) -> Stage {
        let same = self.deployments.iter().filter(|deployment| deployment.spec.model == version.spec.model);
        let rollouts = same.filter_map(|deployment| Some(&deployment.status.as_ref()?.rollout));
        registry::stage(&version.spec.version, rollouts, version.stage())
    }
}

/// Whether two objects would have one alias: Ollama's names, hence aliases, don't tell upper from lower case.
pub fn are_twins(a: &ModelVersion, b: &ModelVersion) -> bool {
    a.spec.model == b.spec.model && a.spec.version.eq_ignore_ascii_case(&b.spec.version)
}

/// The versions that a deployment asks for: by its spec, and by an undo of its present rollout to one of them.
fn wanted<'a>(deployment: &'a ModelDeployment, state: &State) -> Vec<&'a str> {
    let undo = deployment.annotations().get(ANNOTATION_UNDO).and_then(|undo| undo.split_once('/'));
    let undo = undo.filter(|(rollout, _)| *rollout == state.rollout_id).map(|(_, version)| version);
    [deployment.spec.version.as_str()].into_iter().chain(undo).collect()
}
