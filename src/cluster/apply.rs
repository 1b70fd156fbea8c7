//! Objects of any kind from outside: applied, found again by a label, and deleted.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, Preconditions},
    core::{ApiResource, GroupVersionKind},
    discovery::{ApiCapabilities, Discovery, Scope, verbs},
};
use serde_json::{Value, json};

/// Applies objects for one field manager, and marks them as its own by a label.
pub struct Applier {
    client: Client,
    kinds: Discovery,
    manager: &'static str,
    label: (&'static str, &'static str),
}

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// The API group; empty for Kubernetes' oldest.
    pub group: String,
    /// The kind.
    pub kind: String,
    /// `None` for kinds without namespaces.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// An object whose kind the API has.
#[derive(Clone, Debug)]
pub struct Known {
    /// Which object.
    pub identity: Identity,
    resource: ApiResource,
    body: Value,
}

/// An object that is there.
#[derive(Clone, Debug)]
pub struct Present {
    /// Which object.
    pub identity: Identity,
    resource: ApiResource,
    uid: Option<String>,
}

impl Applier {
    /// Asks the API for its kinds.
    ///
    /// # Errors
    /// Whatever the API says.
    pub async fn new(
        client: Client,
        manager: &'static str,
        label: (&'static str, &'static str),
    ) -> Result<Self, kube::Error> {
        let kinds = Discovery::new(client.clone()).run_aggregated().await?;
        Ok(Self { client, kinds, manager, label })
    }

    /// What an object is to the API. One that names no namespace is in `namespace`, if its kind has them.
    ///
    /// # Errors
    /// What it lacks, or that the API has no such kind.
    pub fn recognise(&self, mut body: Value, namespace: &str) -> Result<Known, String> {
        let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
        let version = text("/apiVersion").ok_or("it has no apiVersion")?;
        let kind = text("/kind").ok_or("it has no kind")?;
        let name = text("/metadata/name").ok_or("it has no metadata.name")?.to_owned();
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let (resource, capabilities) = self
            .kinds
            .resolve_gvk(&GroupVersionKind::gvk(group, version, kind))
            .ok_or_else(|| format!("the API has no kind {kind} in {}", text("/apiVersion").unwrap_or_default()))?;
        let namespace = (capabilities.scope == Scope::Namespaced)
            .then(|| text("/metadata/namespace").unwrap_or(namespace).to_owned());
        let identity = Identity { group: group.into(), kind: kind.into(), namespace, name };
        if let Some(metadata) = body["metadata"].as_object_mut() {
            match &identity.namespace {
                Some(namespace) => metadata.insert("namespace".into(), json!(namespace)),
                None => metadata.remove("namespace"),
            };
        }
        Ok(Known { identity, resource, body })
    }

    /// Applies an object; its fields become as they are here, whoever had changed them. `is_own`: with the label.
    ///
    /// # Errors
    /// Whatever the API says, also about fields that the kind doesn't have.
    pub async fn apply(&self, known: &Known, is_own: bool) -> Result<(), kube::Error> {
        let Known { identity, resource, body } = known;
        let mut body = body.clone();
        if is_own {
            let (key, value) = self.label;
            match &mut body["metadata"]["labels"] {
                Value::Object(labels) => drop(labels.insert(key.into(), json!(value))),
                // What is no map of labels is refused with the rest.
                labels @ Value::Null => *labels = json!({ key: value }),
                _ => {}
            }
        }
        let params = PatchParams::apply(self.manager).force().validation_strict();
        self.api(resource, identity).patch(&identity.name, &params, &Patch::Apply(body)).await.map(drop)
    }

    /// An object as events refer to it, if it is there.
    ///
    /// # Errors
    /// Whatever the API says.
    pub async fn reference(&self, known: &Known) -> Result<Option<ObjectReference>, kube::Error> {
        let object = self.api(&known.resource, &known.identity).get_opt(&known.identity.name).await?;
        Ok(object.map(|object| object.object_ref(&known.resource)))
    }

    /// Every object, of any kind, with the label that this manager gave it, but for those that are going already. One
    /// that only copied the label is another's.
    ///
    /// # Errors
    /// Whatever the API says.
    pub async fn own(&self) -> Result<Vec<Present>, kube::Error> {
        let (key, value) = self.label;
        let params = ListParams::default().labels(&format!("{key}={value}"));
        let mut own = Vec::new();
        let kinds = self.kinds.groups().flat_map(|group| group.recommended_resources());
        for (resource, _) in kinds.filter(|(_, capabilities)| is_listed_and_deleted(capabilities)) {
            let objects = Api::<DynamicObject>::all_with(self.client.clone(), &resource).list(&params).await?;
            let ours = objects.items.into_iter().filter(|object| self.is_own(object));
            own.extend(ours.map(|object| Present {
                identity: Identity {
                    group: resource.group.clone(),
                    kind: resource.kind.clone(),
                    namespace: object.namespace(),
                    name: object.name_any(),
                },
                uid: object.uid(),
                resource: resource.clone(),
            }));
        }
        Ok(own)
    }

    fn is_own(&self, object: &DynamicObject) -> bool {
        let is_going = object.metadata.deletion_timestamp.is_some();
        !is_going && object.managed_fields().iter().any(|fields| fields.manager.as_deref() == Some(self.manager))
    }

    /// Deletes exactly this object; one that is gone is as good.
    ///
    /// # Errors
    /// Whatever the API says.
    pub async fn delete(&self, present: &Present) -> Result<(), kube::Error> {
        let Present { identity, resource, uid } = present;
        let exactly = Preconditions { uid: uid.clone(), resource_version: None };
        let params = DeleteParams::background().preconditions(exactly);
        match self.api(resource, identity).delete(&identity.name, &params).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            result => result.map(drop),
        }
    }

    fn api(&self, resource: &ApiResource, identity: &Identity) -> Api<DynamicObject> {
        match &identity.namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, resource),
            None => Api::all_with(self.client.clone(), resource),
        }
    }
}

fn is_listed_and_deleted(capabilities: &ApiCapabilities) -> bool {
    capabilities.supports_operation(verbs::LIST) && capabilities.supports_operation(verbs::DELETE)
}
