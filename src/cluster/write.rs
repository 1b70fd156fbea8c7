//! The writes Drover makes: status, finalizers, and on behalf of the CLI annotations and new objects.

use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde::Serialize;
use serde_json::{Value, json};

use super::Kind;

/// Who the controller is to the API.
pub(super) const FIELD_MANAGER: &str = "drover-controller";
/// Who the command line is to the API.
pub const CLI: &str = "drover-cli";

/// Whether a status may be written over a newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// Yes: the status is an observation, and the latest observation is right.
    None,
    /// No: the status is a step of a state machine, decided on exactly this object.
    SameVersion,
}

/// Writes the whole status; gives the object's new version.
///
/// # Errors
/// Whatever the API says; 409 when the precondition fails.
pub async fn apply_status<K: Kind>(
    api: &Api<K>,
    object: &K,
    status: &impl Serialize,
    precondition: Precondition,
) -> Result<Option<String>, kube::Error> {
    let mut metadata = json!({ "name": object.name_any() });
    if precondition == Precondition::SameVersion {
        metadata["resourceVersion"] = json!(object.resource_version());
    }
    let body = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": metadata,
        "status": status,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let written = api.patch_status(&object.name_any(), &params, &Patch::Apply(body)).await?;
    Ok(written.resource_version())
}

/// Adds or removes a finalizer, on exactly this version of the object.
///
/// # Errors
/// Whatever the API says; 409 when the object has changed.
pub async fn set_finalizer<K: Kind>(
    api: &Api<K>,
    object: &K,
    finalizer: &str,
    present: bool,
) -> Result<(), kube::Error> {
    let mut finalizers = object.finalizers().to_vec();
    finalizers.retain(|name| name != finalizer);
    if present {
        finalizers.push(finalizer.into());
    }
    let body = json!({ "metadata": { "resourceVersion": object.resource_version(), "finalizers": finalizers } });
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
    api.patch(&object.name_any(), &params, &Patch::Merge(body)).await.map(drop)
}

/// Makes an object.
///
/// # Errors
/// Whatever the API says; 409 when there is one of that name.
pub async fn create<K: Kind + Serialize>(api: &Api<K>, object: &K) -> Result<(), kube::Error> {
    let params = PostParams { field_manager: Some(CLI.into()), ..PostParams::default() };
    api.create(&params, object).await.map(drop)
}

/// Sets one annotation.
///
/// # Errors
/// Whatever the API says.
pub async fn annotate<K: Kind>(api: &Api<K>, name: &str, key: &str, value: &str) -> Result<K, kube::Error> {
    merge(api, name, &json!({ "metadata": { "annotations": { key: value } } })).await
}

/// Changes the fields that are named, and no others.
///
/// # Errors
/// Whatever the API says.
pub async fn merge<K: Kind>(api: &Api<K>, name: &str, fields: &Value) -> Result<K, kube::Error> {
    let params = PatchParams { field_manager: Some(CLI.into()), ..PatchParams::default() };
    api.patch(name, &params, &Patch::Merge(fields)).await
}
