//! Version 2, all kinds in one document: what clients ask that don't know version 3. It can say less, and what it can't
//! say is left out as Kubernetes leaves it out.

use serde_json::{Map, Value, json};

use super::{
    gvk, info,
    v3::{self, Endpoint, Operation},
};
use crate::standalone::{
    kinds::{Kind, Kinds},
    resources::accepted_patches,
};

/// The document.
pub fn document(kinds: &Kinds) -> Value {
    let (mut schemas, mut paths) = (Map::new(), Map::new());
    for kind in kinds.all() {
        v3::add_schema(&mut schemas, kind);
        for Endpoint { path, operations } in v3::endpoints(kind) {
            let described = operations.into_iter().map(|served| (served.method.to_owned(), operation(kind, &served)));
            paths.insert(path, Value::Object(described.collect()));
        }
    }
    schemas.values_mut().for_each(downgrade);
    paths.sort_keys();
    schemas.sort_keys();
    json!({ "swagger": "2.0", "info": info(), "paths": paths, "definitions": schemas })
}

fn operation(kind: &Kind, operation: &Operation) -> Value {
    let parameter = |name: &&str| json!({ "name": name, "in": "query", "type": "string", "uniqueItems": true });
    let parameters: Vec<_> = operation.parameters.iter().map(parameter).collect();
    let consumes = if operation.action == "patch" { accepted_patches(kind) } else { &["*/*"] };
    let schema = json!({ "$ref": format!("#/definitions/{}", kind.component) });
    json!({
        "consumes": consumes,
        "parameters": parameters,
        "responses": { "200": { "description": "OK", "schema": schema } },
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": gvk(kind),
    })
}

/// Makes a schema of version 3 one of version 2: without defaults and alternatives, anything where null may be.
fn downgrade(schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else { return };
    if let Some(reference) = fields.get("allOf").and_then(|all| all[0]["$ref"].as_str()) {
        let reference = json!(reference);
        fields.insert("$ref".into(), reference);
    }
    if let Some(Value::String(reference)) = fields.get_mut("$ref") {
        *reference = reference.replace("#/components/schemas/", "#/definitions/");
    }
    let is_open = fields.get("x-kubernetes-preserve-unknown-fields") == Some(&json!(true));
    let is_nullable = fields.get("nullable") == Some(&json!(true));
    drop_what_can_be_null(fields);
    let gone = ["default", "nullable", "allOf", "anyOf", "oneOf", "not"];
    let untyped: &[&str] = if is_open || is_nullable { &["items", "properties"] } else { &[] };
    fields.retain(|name, _| !gone.contains(&name.as_str()) && !untyped.contains(&name.as_str()));
    let kind = fields.get("type").and_then(Value::as_str);
    if is_nullable || is_open && matches!(kind, Some("object" | "array")) {
        fields.shift_remove("type");
    }
    if fields.get("format") == Some(&json!("int-or-string")) {
        fields.insert("type".into(), json!("string"));
    }
    for inner in ["items", "additionalProperties"] {
        fields.get_mut(inner).into_iter().for_each(downgrade);
    }
    if let Some(properties) = fields.get_mut("properties").and_then(Value::as_object_mut) {
        properties.sort_keys();
        properties.values_mut().for_each(downgrade);
    }
}

/// What can be null is not required.
fn drop_what_can_be_null(fields: &mut Map<String, Value>) {
    let Some(Value::Array(required)) = fields.get("required") else { return };
    let is_nullable = |name: &&Value| {
        let property = name.as_str().and_then(|name| fields.get("properties")?.get(name));
        property.is_some_and(|property| property["nullable"] == json!(true))
    };
    let kept: Vec<_> = required.iter().filter(|name| !is_nullable(name)).cloned().collect();
    if kept.is_empty() {
        fields.shift_remove("required");
    } else {
        fields.insert("required".into(), json!(kept));
    }
}
