//! A model that was pulled before and is asked for once more: its tag may have moved.

use jiff::Timestamp;
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{FIELD_MANAGER, Operations, is_own, refused};
use crate::{
    api::{ANNOTATION_REFRESH, ModelPull, UpdatePolicy},
    domain::{
        operations::{Declared, not_looked_up},
        pull::Phase,
    },
    ports::OperationError,
};

/// A pull that somebody waits for.
pub struct Wanted {
    /// The object.
    pub pull: ModelPull,
    /// Whether this caller had it made.
    pub is_new: bool,
    /// What was asked of it last before it was asked to look the tag up again, if it was.
    pub before: Option<Option<String>>,
    /// What the caller is to be told besides.
    pub note: Option<String>,
}

impl Wanted {
    /// One that is as it should be.
    pub fn new(pull: ModelPull, is_new: bool) -> Self {
        Self { pull, is_new, before: None, note: None }
    }
}

impl Operations {
    /// Has the tag of a pull that is there looked up again, unless somebody else declared it or that is under way already.
    /// `None`: the object is gone meanwhile.
    pub(super) async fn again(&self, pull: ModelPull) -> Result<Option<Wanted>, OperationError> {
        let declared = if is_own(&pull) {
            self.of_model(&pull.spec.model).into_iter().find(|other| !is_own(other))
        } else {
            Some(pull.clone().into())
        };
        let phase = pull.status.as_ref().map_or(Phase::Pending, |status| status.phase);
        if let Some(declared) = declared {
            let note = (phase == Phase::Ready).then(|| note(&declared));
            return Ok(Some(Wanted { note, ..Wanted::new(pull, false) }));
        }
        if pull.refresh_wanted().is_some() && matches!(phase, Phase::Pending | Phase::Pulling) {
            return Ok(Some(Wanted::new(pull, false)));
        }
        let before = pull.refresh_asked().map(str::to_owned);
        // Of exactly this object.
        let asked = json!({ "metadata": { "uid": pull.uid(), "annotations": { ANNOTATION_REFRESH: new_id() } } });
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        match self.api().patch(&pull.name_any(), &params, &Patch::Merge(asked)).await {
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(None),
            patched => {
                let pull = patched.map_err(refused)?;
                Ok(Some(Wanted { before: Some(before), ..Wanted::new(pull, false) }))
            }
        }
    }
}

/// What tells a request to look up a tag from earlier ones.
pub fn new_id() -> String {
    Timestamp::now().to_string()
}

fn note(declared: &ModelPull) -> String {
    let interval = declared.spec.check_interval.to_string();
    let how = match (&declared.spec.digest, declared.spec.update_policy) {
        (Some(digest), _) => Declared::Pinned(digest),
        (None, UpdatePolicy::Always) => Declared::Follows(&interval),
        (None, UpdatePolicy::IfNotPresent) => Declared::Keeps,
    };
    not_looked_up(&declared.name_any(), how)
}
