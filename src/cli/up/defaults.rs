//! The default models that settings name, as an object.

use serde_json::json;

use crate::{
    cluster::{Applier, Identity},
    domain::model_db::Defaults,
};

/// The object's name.
const NAME: &str = "up";

/// Makes the catalogue that has the default models, or deletes it when none is named any more.
///
/// # Errors
/// What the API says.
pub async fn apply(applier: &Applier, namespace: &str, defaults: &Defaults) -> Result<(), String> {
    if !defaults.0.is_empty() {
        let object = json!({
            "apiVersion": "drover.dev/v1alpha1",
            "kind": "ModelCatalog",
            "metadata": { "name": NAME },
            "spec": { "defaults": defaults.0 },
        });
        let applied = applier.apply(&applier.recognise(object, namespace)?, true).await;
        return applied.map_err(|error| format!("ModelCatalog {NAME}: {error}"));
    }
    for present in applier.own().await.map_err(|error| error.to_string())? {
        if is_catalog(&present.identity, namespace) {
            applier.delete(&present).await.map_err(|error| format!("ModelCatalog {NAME}: {error}"))?;
        }
    }
    Ok(())
}

fn is_catalog(identity: &Identity, namespace: &str) -> bool {
    identity.kind == "ModelCatalog" && identity.namespace.as_deref() == Some(namespace) && identity.name == NAME
}
