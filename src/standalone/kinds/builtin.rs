//! Kubernetes' own kinds. Their schemas are those that the API server 1.36 publishes as OpenAPI; how they were taken
//! from there is in `docs/standalone.md`.

use std::sync::LazyLock;

use kube_cel::compile_schema;
use serde_json::{Map, Value, json};

use super::{Kind, Rules, dotted};

/// The plural of namespaces.
pub const NAMESPACES: &str = "namespaces";

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

// The file is a part of the program and is read by every test: an empty map would be seen at once.
static COMPONENTS: LazyLock<Map<String, Value>> =
    LazyLock::new(|| serde_json::from_str(include_str!("schemas.json")).unwrap_or_default());

/// A built-in kind in short.
struct Short {
    component: &'static str,
    group: &'static str,
    plural: &'static str,
    singular: &'static str,
    short: Option<&'static str>,
    category: Option<&'static str>,
    namespaced: bool,
    has_status: bool,
}

const fn plain(
    component: &'static str,
    group: &'static str,
    plural: &'static str,
    singular: &'static str,
    short: Option<&'static str>,
) -> Short {
    Short { component, group, plural, singular, short, category: None, namespaced: true, has_status: false }
}

const CRD: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition";
/// In the order in which Kubernetes lists groups and kinds.
const KINDS: [Short; 9] = [
    plain("io.k8s.api.core.v1.ConfigMap", "", "configmaps", "configmap", Some("cm")),
    plain("io.k8s.api.core.v1.Event", "", "events", "event", Some("ev")),
    Short {
        namespaced: false,
        has_status: true,
        ..plain("io.k8s.api.core.v1.Namespace", "", NAMESPACES, "namespace", Some("ns"))
    },
    plain("io.k8s.api.core.v1.Secret", "", "secrets", "secret", None),
    Short {
        has_status: true,
        category: Some("all"),
        ..plain("io.k8s.api.core.v1.Service", "", "services", "service", Some("svc"))
    },
    plain("io.k8s.api.events.v1.Event", "events.k8s.io", "events", "event", Some("ev")),
    Short {
        namespaced: false,
        has_status: true,
        category: Some("api-extensions"),
        ..plain(CRD, "apiextensions.k8s.io", "customresourcedefinitions", "customresourcedefinition", Some("crd"))
    },
    plain("io.k8s.api.coordination.v1.Lease", "coordination.k8s.io", "leases", "lease", None),
    plain("io.k8s.api.discovery.v1.EndpointSlice", "discovery.k8s.io", "endpointslices", "endpointslice", None),
];

/// Every built-in kind.
pub fn kinds() -> Vec<Kind> {
    KINDS.iter().map(full).collect()
}

fn full(short: &Short) -> Kind {
    let Short { component, group, plural, singular, .. } = *short;
    let is_crd = component == CRD;
    let mut short_names: Vec<_> = short.short.iter().map(ToString::to_string).collect();
    if is_crd {
        short_names.push("crds".into());
    }
    Kind {
        group: group.into(),
        version: "v1".into(),
        plural: plural.into(),
        singular: singular.into(),
        kind: component.rsplit('.').next().unwrap_or_default().into(),
        short_names,
        categories: short.category.iter().map(ToString::to_string).collect(),
        namespaced: short.namespaced,
        has_status: short.has_status,
        has_generation: plural == "endpointslices",
        custom: false,
        read_only: is_crd,
        unconditional: plural != "leases",
        made_by_update: matches!(plural, "services" | "events" | "leases"),
        // Both kinds of events are one.
        stored_as: if plural == "events" { plural.into() } else { dotted(plural, group).into() },
        columns: Vec::new(),
        schema: resolved(component),
        rules: Rules::new(compile_schema(&json!({}))),
        has_rules: false,
        component: component.into(),
    }
}

/// The schemas as they are published, with references.
pub fn components() -> &'static Map<String, Value> {
    &COMPONENTS
}

/// One of them.
pub fn component(name: &str) -> Value {
    COMPONENTS.get(name).cloned().unwrap_or_default()
}

/// The schema of `metadata`, without references.
pub fn metadata() -> Value {
    static METADATA: LazyLock<Value> = LazyLock::new(|| resolved(META));
    METADATA.clone()
}

fn resolved(name: &str) -> Value {
    let mut schema = component(name);
    resolve(&mut schema);
    schema
}

/// Puts what is referred to in the place of each reference. Defaults that only say "empty" are Go's zero values, which
/// are not stored; objects of which nothing is said may hold anything.
fn resolve(schema: &mut Value) {
    let reference = schema["allOf"][0]["$ref"].as_str().or(schema["$ref"].as_str()).and_then(|r| r.rsplit('/').next());
    if let Some(mut target) = reference.map(component) {
        if let (Some(target), Some(own)) = (target.as_object_mut(), schema.as_object()) {
            let kept = own.iter().filter(|(key, _)| !matches!(key.as_str(), "allOf" | "$ref"));
            target.extend(kept.map(|(key, value)| (key.clone(), value.clone())));
        }
        *schema = target;
    }
    let Some(fields) = schema.as_object_mut() else { return };
    fields.shift_remove("x-kubernetes-group-version-kind");
    if fields.get("default").is_some_and(is_zero) {
        fields.shift_remove("default");
    }
    let says_nothing = !fields.contains_key("properties") && !fields.contains_key("additionalProperties");
    if fields.get("type") == Some(&json!("object")) && says_nothing {
        fields.insert("x-kubernetes-preserve-unknown-fields".into(), json!(true));
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = fields.get_mut(key).filter(|inner| inner.is_object()) {
            resolve(inner);
        }
    }
    if let Some(properties) = fields.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(resolve);
    }
}

fn is_zero(value: &Value) -> bool {
    matches!(value, Value::Null | Value::Bool(false))
        || value.as_str() == Some("")
        || value.as_f64() == Some(0.0)
        || value.as_object().is_some_and(Map::is_empty)
}
