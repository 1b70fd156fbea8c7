//! OpenAPI v3 of what is served, as much of it as `kubectl explain` and `kubectl apply` read.

use axum::{
    body::Body,
    http::{HeaderValue, Response, header, request::Parts},
};
use serde_json::{Map, Value, json};

use super::{
    kinds::{Kind, Kinds, component, components},
    status::{Failure, json_response},
};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The answer, if the path is one of OpenAPI.
pub fn answer(kinds: &Kinds, parts: &Parts) -> Option<Result<Response<Body>, Failure>> {
    let path = parts.uri.path().strip_prefix("/openapi/")?;
    if path.trim_matches('/') == "v2" {
        return Some(Ok(version_2(parts)));
    }
    let document = match path.trim_matches('/') {
        "v3" => Some(index(kinds)),
        path => path.strip_prefix("v3/").and_then(|place| document(kinds, place)),
    };
    Some(document.map(|document| json_response(200, &document)).ok_or_else(Failure::no_such_path))
}

/// Version 2, which newer clients ask only when version 3 lacks a kind, is empty: so no protobuf has to be made.
fn version_2(parts: &Parts) -> Response<Body> {
    let accept = parts.headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if !accept.contains("protobuf") {
        let info = json!({ "title": "Kubernetes", "version": env!("CARGO_PKG_VERSION") });
        return json_response(200, &json!({ "swagger": "2.0", "info": info, "paths": {}, "definitions": {} }));
    }
    let mut response = Response::new(Body::empty());
    let kind = HeaderValue::from_static("application/com.github.proto-openapi.spec.v2.v1.0+protobuf");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn place(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

fn places(kinds: &Kinds) -> impl Iterator<Item = (&str, &str)> {
    kinds.groups().into_iter().flat_map(|(group, versions)| versions.into_iter().map(move |version| (group, version)))
}

fn index(kinds: &Kinds) -> Value {
    let paths = places(kinds).map(|(group, version)| {
        let place = place(group, version);
        let url = format!("/openapi/v3/{place}");
        (place, json!({ "serverRelativeURL": url }))
    });
    json!({ "paths": paths.collect::<Map<_, _>>() })
}

fn document(kinds: &Kinds, wanted: &str) -> Option<Value> {
    let (group, version) = places(kinds).find(|(group, version)| place(group, version) == wanted)?;
    let (mut schemas, mut paths) = (Map::new(), Map::new());
    for kind in kinds.of(group, version) {
        add_schema(&mut schemas, kind);
        add_paths(&mut paths, kind, wanted);
    }
    Some(json!({
        "openapi": "3.0.0",
        "info": { "title": "Kubernetes", "version": format!("v{}", env!("CARGO_PKG_VERSION")) },
        "paths": paths,
        "components": { "schemas": schemas },
    }))
}

fn gvk(kind: &Kind) -> Value {
    json!({ "group": kind.group, "version": kind.version, "kind": kind.kind })
}

fn add_schema(schemas: &mut Map<String, Value>, kind: &Kind) {
    let mut schema = if kind.custom { kind.schema.clone() } else { component(&kind.component) };
    if kind.custom {
        schema["properties"]["metadata"] = json!({
            "description": "Standard object's metadata.",
            "allOf": [{ "$ref": format!("#/components/schemas/{META}") }],
        });
    }
    schema["x-kubernetes-group-version-kind"] = json!([gvk(kind)]);
    add_references(schemas, &schema);
    schemas.insert(kind.component.clone(), schema);
}

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

fn add_paths(paths: &mut Map<String, Value>, kind: &Kind, place: &str) {
    let namespace = if kind.namespaced { "namespaces/{namespace}/" } else { "" };
    let collection = format!("/{place}/{namespace}{}", kind.plural);
    let verbs = kind.verbs();
    let operations = |all: &[(&str, &str, &str)]| {
        let served = all.iter().filter(|(verb, ..)| verbs.contains(verb));
        let described = served.map(|(_, method, action)| ((*method).to_owned(), operation(kind, action)));
        Value::Object(described.collect())
    };
    let one =
        [("get", "get", "get"), ("update", "put", "put"), ("patch", "patch", "patch"), ("delete", "delete", "delete")];
    paths.insert(format!("{collection}/{{name}}"), operations(&one));
    for (subresource, _) in kind.subresources() {
        paths.insert(format!("{collection}/{{name}}/{subresource}"), operations(&one[..3]));
    }
    paths.insert(collection, operations(&[("list", "get", "list"), ("create", "post", "post")]));
}

fn operation(kind: &Kind, action: &str) -> Value {
    let names: &[&str] = match action {
        "post" | "put" => &["dryRun", "fieldManager", "fieldValidation"],
        "patch" => &["dryRun", "fieldManager", "fieldValidation", "force"],
        "delete" => &["dryRun", "propagationPolicy"],
        _ => &[],
    };
    let parameters: Vec<_> =
        names.iter().map(|name| json!({ "name": name, "in": "query", "schema": { "type": "string" } })).collect();
    let schema = json!({ "schema": { "$ref": format!("#/components/schemas/{}", kind.component) } });
    json!({
        "parameters": parameters,
        "responses": { "200": { "description": "OK", "content": { "application/json": schema } } },
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": gvk(kind),
    })
}
