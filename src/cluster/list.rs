//! Objects as they are, whatever their schema.

use kube::{
    Api, Client,
    api::ListParams,
    core::{ApiResource, DynamicObject},
};
use serde_json::Value;

/// What the API calls a kind.
pub struct KindOf {
    /// Empty for Kubernetes' oldest kinds.
    pub group: String,
    /// Of the group.
    pub version: String,
    /// The kind.
    pub kind: String,
    /// The same in paths.
    pub plural: String,
}

const PAGE: u32 = 500;

fn api(client: &Client, kind: &KindOf, namespace: Option<&str>) -> Api<DynamicObject> {
    let KindOf { group, version, kind, plural } = kind;
    let api_version = if group.is_empty() { version.clone() } else { format!("{group}/{version}") };
    let (group, version, kind, plural) = (group.clone(), version.clone(), kind.clone(), plural.clone());
    let resource = ApiResource { group, version, kind, plural, api_version };
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

/// The objects of a kind in a namespace, or in all of them; nothing where the kind is not known.
///
/// # Errors
/// Whatever the API says.
pub async fn list(client: &Client, kind: &KindOf, namespace: Option<&str>) -> Result<Option<Vec<Value>>, kube::Error> {
    let api = api(client, kind, namespace);
    let (mut objects, mut next) = (Vec::new(), String::new());
    loop {
        let page = match api
            .list(&ListParams { continue_token: Some(next), limit: Some(PAGE), ..ListParams::default() })
            .await
        {
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(None),
            page => page?,
        };
        objects.extend(page.items.into_iter().map(|object| typed(object, kind)));
        next = page.metadata.continue_.unwrap_or_default();
        if next.is_empty() {
            return Ok(Some(objects));
        }
    }
}

/// One object, if it is there.
///
/// # Errors
/// Whatever the API says.
pub async fn get(
    client: &Client,
    kind: &KindOf,
    namespace: Option<&str>,
    name: &str,
) -> Result<Option<Value>, kube::Error> {
    Ok(api(client, kind, namespace).get_opt(name).await?.map(|object| typed(object, kind)))
}

/// Items of a list don't say what they are.
fn typed(object: DynamicObject, kind: &KindOf) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    let api_version =
        if kind.group.is_empty() { kind.version.clone() } else { format!("{}/{}", kind.group, kind.version) };
    value["apiVersion"] = api_version.into();
    value["kind"] = kind.kind.clone().into();
    value
}
