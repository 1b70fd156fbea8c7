//! The kinds of `drover.dev/v1alpha1`: what users declare, and what controllers report.

mod api_key;
mod fallback_chain;
mod model_catalog;
mod model_deployment;
mod model_pull;
mod model_version;
mod ollama_node;
mod provider;
mod routing_profile;
mod worker;

pub use api_key::*;
pub use fallback_chain::*;
pub use model_catalog::*;
pub use model_deployment::*;
pub use model_pull::*;
pub use model_version::*;
pub use ollama_node::*;
pub use provider::*;
pub use routing_profile::*;
pub use worker::*;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::CustomResourceExt;
use schemars::{Schema, SchemaGenerator, json_schema};

use crate::domain::conditions::Condition;

/// The API group of every kind.
pub const GROUP: &str = "drover.dev";

/// Annotation: leave this step now; value `ROLLOUT/STEP`.
pub const ANNOTATION_PROMOTE: &str = "drover.dev/promote";
/// Annotation: go back; value `ROLLOUT` for the version before, `ROLLOUT/VERSION` for that one.
pub const ANNOTATION_UNDO: &str = "drover.dev/undo";
/// Annotation: call the canary off; value `ROLLOUT`.
pub const ANNOTATION_ABORT: &str = "drover.dev/abort";
/// Annotation: hold the canary at its step for as long as this stands; value `ROLLOUT`.
pub const ANNOTATION_PAUSE: &str = "drover.dev/pause";
/// Annotation: try a rejected version again; value `ROLLOUT`.
pub const ANNOTATION_RETRY: &str = "drover.dev/retry";
/// Annotation of a ModelPull: each new value has its tag looked up once more, and nodes pull what it stands for by then.
pub const ANNOTATION_REFRESH: &str = "drover.dev/refresh";

/// Annotation: the model that a worker asks for instead of its spec's.
pub const ANNOTATION_MODEL: &str = "drover.dev/model";
/// Annotation: the policy of a worker instead of its spec's; value `Static` or `Dynamic`.
pub const ANNOTATION_POLICY: &str = "drover.dev/policy";

/// Label: what applied an object and deletes it when it is wanted no longer: `up` (the nodes that flags name) or
/// `manifests` (a folder).
pub const LABEL_APPLIED_BY: &str = "drover.dev/applied-by";

/// Label: the model whose snapshots a ConfigMap holds.
pub const LABEL_REGISTRY: &str = "drover.dev/registry";

/// Every CustomResourceDefinition, in the order of the design.
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut crds = vec![
        OllamaNode::crd(),
        ModelPull::crd(),
        ModelVersion::crd(),
        ModelDeployment::crd(),
        ApiKey::crd(),
        Provider::crd(),
        ModelCatalog::crd(),
        RoutingProfile::crd(),
        FallbackChain::crd(),
        Worker::crd(),
    ];
    let schemas = crds.iter_mut().flat_map(|crd| &mut crd.spec.versions).filter_map(|version| version.schema.as_mut());
    schemas.filter_map(|schema| schema.open_api_v3_schema.as_mut()).for_each(drop_unknown_formats);
    crds
}

/// The API server warns about integer formats that OpenAPI doesn't define; the ranges say it all.
fn drop_unknown_formats(schema: &mut JSONSchemaProps) {
    schema.format.take_if(|format| format.starts_with("uint"));
    schema.properties.iter_mut().flat_map(|properties| properties.values_mut()).for_each(drop_unknown_formats);
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        drop_unknown_formats(items);
    }
}

/// Reads the conditions of any kind.
pub trait HasConditions {
    /// The conditions in the status; empty before the first one is written.
    fn conditions(&self) -> &[Condition];
}

/// Conditions are a map keyed by type, so that server-side apply merges them one by one.
fn conditions_schema(generator: &mut SchemaGenerator) -> Schema {
    let item = generator.subschema_for::<Condition>();
    json_schema!({
        "type": "array",
        "items": item,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    })
}

/// A map of model parameters: any JSON value by name, as Ollama's `options` take them.
fn parameters_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}
