//! Version 3, as `kubectl explain`, `kubectl apply` and `helm install` read it: a document for each group and version.

use serde_json::{Map, Value, json};

use super::{gvk, info};
use crate::standalone::kinds::{Kind, Kinds, component, components};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Every document with its place, such as `apis/GROUP/VERSION`.
pub fn documents(kinds: &Kinds) -> impl Iterator<Item = (String, Value)> {
    kinds.groups().into_iter().flat_map(move |(group, versions)| {
        versions.into_iter().map(move |version| (place(group, version), document(kinds, group, version)))
    })
}

/// Where a group's version is, in paths of the API as in those of OpenAPI.
pub fn place(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

fn document(kinds: &Kinds, group: &str, version: &str) -> Value {
    let (mut schemas, mut paths) = (Map::new(), Map::new());
    for kind in kinds.of(group, version) {
        add_schema(&mut schemas, kind);
        for Endpoint { path, operations } in endpoints(kind) {
            let described = operations.into_iter().map(|served| (served.method.to_owned(), operation(kind, &served)));
            paths.insert(path, Value::Object(described.collect()));
        }
    }
    json!({ "openapi": "3.0.0", "info": info(), "paths": paths, "components": { "schemas": schemas } })
}

/// Adds a kind's schema, and all that it refers to.
pub fn add_schema(schemas: &mut Map<String, Value>, kind: &Kind) {
    let mut schema = if kind.custom { kind.schema.clone() } else { component(&kind.component) };
    if kind.custom {
        schema["properties"]["metadata"] = json!({
            "description": "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata",
            "allOf": [{ "$ref": format!("#/components/schemas/{META}") }],
        });
        // Every kind says of them what Kubernetes' own say.
        for name in ["apiVersion", "kind"] {
            schema["properties"][name] = component(CONFIG_MAP)["properties"][name].clone();
        }
    }
    schema["x-kubernetes-group-version-kind"] = json!([gvk(kind)]);
    add_references(schemas, &schema);
    schemas.insert(kind.component.clone(), schema);
}

const CONFIG_MAP: &str = "io.k8s.api.core.v1.ConfigMap";

/// Adds what a schema refers to, and what that refers to.
fn add_references(schemas: &mut Map<String, Value>, schema: &Value) {
    match schema {
        Value::Object(fields) => {
            let reference =
                fields.get("$ref").and_then(Value::as_str).and_then(|reference| reference.rsplit('/').next());
            let new = reference.filter(|name| !schemas.contains_key(*name) && components().contains_key(*name));
            if let Some(name) = new {
                let target = component(name);
                schemas.insert(name.to_owned(), target.clone());
                add_references(schemas, &target);
            }
            fields.values().for_each(|value| add_references(schemas, value));
        }
        Value::Array(items) => items.iter().for_each(|item| add_references(schemas, item)),
        _ => {}
    }
}

/// A path, and what may be done there.
pub struct Endpoint {
    /// The path, with `{namespace}` and `{name}`.
    pub path: String,
    /// The operations.
    pub operations: Vec<Operation>,
}

/// One method of a path.
pub struct Operation {
    /// The HTTP method, in small letters.
    pub method: &'static str,
    /// What Kubernetes calls it.
    pub action: &'static str,
    /// Its parameters.
    pub parameters: &'static [&'static str],
}

/// What may be done with a kind.
pub fn endpoints(kind: &Kind) -> Vec<Endpoint> {
    let namespace = if kind.namespaced { "namespaces/{namespace}/" } else { "" };
    let collection = format!("/{}/{namespace}{}", place(&kind.group, &kind.version), kind.plural);
    let verbs = kind.verbs();
    let at = |path: String, all: &[(&str, &'static str, &'static str)]| {
        let served = all.iter().filter(|(verb, ..)| verbs.contains(verb));
        let operations = served.map(|(_, method, action)| Operation { method, action, parameters: parameters(action) });
        Endpoint { path, operations: operations.collect() }
    };
    let one =
        [("get", "get", "get"), ("update", "put", "put"), ("patch", "patch", "patch"), ("delete", "delete", "delete")];
    let subresources = kind.subresources().into_iter();
    let subresources = subresources.map(|(name, _)| at(format!("{collection}/{{name}}/{name}"), &one[..3]));
    let own = [
        at(format!("{collection}/{{name}}"), &one),
        at(collection.clone(), &[("list", "get", "list"), ("create", "post", "post")]),
    ];
    own.into_iter().chain(subresources).collect()
}

fn parameters(action: &str) -> &'static [&'static str] {
    match action {
        "post" | "put" => &["dryRun", "fieldManager", "fieldValidation"],
        "patch" => &["dryRun", "fieldManager", "fieldValidation", "force"],
        "delete" => &["dryRun", "propagationPolicy"],
        _ => &[],
    }
}

fn operation(kind: &Kind, operation: &Operation) -> Value {
    let parameter = |name: &&str| json!({ "name": name, "in": "query", "schema": { "type": "string" } });
    let parameters: Vec<_> = operation.parameters.iter().map(parameter).collect();
    let schema = json!({ "schema": { "$ref": format!("#/components/schemas/{}", kind.component) } });
    json!({
        "parameters": parameters,
        "responses": { "200": { "description": "OK", "content": { "application/json": schema } } },
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": gvk(kind),
    })
}
