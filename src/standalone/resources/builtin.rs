//! What Kubernetes does to objects of its own kinds beside what their schemas say, and what is there from the start.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};

use super::{
    Core,
    object::{now, uid},
};
use crate::standalone::{
    kinds::{Kind, NAMESPACES},
    schema::{self, Schema},
    status::Cause,
    storage::{Expected, Refused, Write},
};

const NAMESPACES_FROM_THE_START: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Makes the namespaces that every cluster has, and writes down the definitions.
///
/// # Errors
/// When they can't be stored.
pub async fn prepare(core: &Core) -> Result<(), String> {
    for name in NAMESPACES_FROM_THE_START {
        let mut namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        stamp(&mut namespace);
        label_namespace(&mut namespace);
        begin_namespace(&mut namespace);
        put(core, NAMESPACES, name, namespace).await?;
    }
    for definition in core.kinds.definitions() {
        let mut definition = definition.clone();
        let name = definition["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        stamp(&mut definition);
        let condition = |kind: &str, reason: &str| json!({ "type": kind, "status": "True", "reason": reason, "message": "", "lastTransitionTime": now() });
        definition["apiVersion"] = json!("apiextensions.k8s.io/v1");
        definition["kind"] = json!("CustomResourceDefinition");
        definition["status"] = json!({
            "acceptedNames": definition["spec"]["names"],
            "conditions": [condition("NamesAccepted", "NoConflicts"), condition("Established", "InitialNamesAccepted")],
            "storedVersions": [definition["spec"]["versions"][0]["name"]],
        });
        put(core, "customresourcedefinitions.apiextensions.k8s.io", &name, definition).await?;
    }
    Ok(())
}

fn stamp(object: &mut Value) {
    object["metadata"]["uid"] = json!(uid());
    object["metadata"]["creationTimestamp"] = json!(now());
}

/// Stores an object unless one with the same spec is there.
async fn put(core: &Core, resource: &str, name: &str, mut object: Value) -> Result<(), String> {
    let stored = core.store.get(resource, name);
    let expected = match &stored {
        None => Expected::Absent,
        Some(entry) => {
            let known = entry.value();
            if resource == NAMESPACES || known["spec"] == object["spec"] {
                return Ok(());
            }
            object["metadata"]["uid"] = known["metadata"]["uid"].clone();
            object["metadata"]["creationTimestamp"] = known["metadata"]["creationTimestamp"].clone();
            Expected::Revision(entry.revision)
        }
    };
    let write = Write { resource: resource.into(), path: name.to_owned(), expected, object, delete: false };
    match core.store.commit(write).await {
        Ok(_) => Ok(()),
        Err(Refused::Unexpected) => Err(format!("{name} was changed meanwhile")),
        Err(Refused::Storage(why)) => Err(why),
    }
}

/// Fills in what an object of a built-in kind has without its writer saying so; its writer owns it.
pub fn fill_in(object: &mut Value, kind: &Kind) {
    if kind.custom {
        return;
    }
    match kind.plural.as_str() {
        NAMESPACES => label_namespace(object),
        "secrets" => fill_in_secret(object),
        "services" => fill_in_service(object),
        "endpointslices" => fill_in_slice(object),
        _ => {}
    }
    schema::drop_empty(object, Schema::new(&kind.schema));
}

/// Fills in what the server itself begins an object with.
pub fn begin(object: &mut Value, kind: &Kind) {
    match (kind.custom, kind.plural.as_str()) {
        (false, NAMESPACES) => begin_namespace(object),
        (false, "services") => object["status"] = json!({ "loadBalancer": {} }),
        (false, "events") => begin_event(object),
        _ => {}
    }
}

fn label_namespace(object: &mut Value) {
    let name = object["metadata"]["name"].clone();
    if name.is_string() {
        object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
    }
}

fn begin_namespace(object: &mut Value) {
    if object["spec"]["finalizers"].is_null() {
        object["spec"]["finalizers"] = json!(["kubernetes"]);
    }
    object["status"] = json!({ "phase": "Active" });
}

/// Fields of an event are there even when they say nothing.
fn begin_event(object: &mut Value) {
    let Some(fields) = object.as_object_mut() else { return };
    let empty = [("source", json!({})), ("reportingComponent", json!("")), ("reportingInstance", json!(""))];
    let unknown = ["firstTimestamp", "lastTimestamp", "eventTime"].map(|name| (name, Value::Null));
    for (name, value) in empty.into_iter().chain(unknown) {
        fields.entry(name).or_insert(value);
    }
}

fn fill_in_slice(object: &mut Value) {
    for endpoint in object["endpoints"].as_array_mut().into_iter().flatten() {
        if endpoint["conditions"].is_null() {
            endpoint["conditions"] = json!({});
        }
    }
    for port in object["ports"].as_array_mut().into_iter().flatten() {
        for (field, value) in [("name", ""), ("protocol", "TCP")] {
            if port[field].is_null() {
                port[field] = json!(value);
            }
        }
    }
}

fn fill_in_secret(object: &mut Value) {
    let Some(fields) = object.as_object_mut() else { return };
    if let Some(Value::Object(texts)) = fields.shift_remove("stringData") {
        let data = fields.entry("data").or_insert_with(|| Map::new().into());
        for (key, text) in texts {
            data[key] = json!(BASE64_STANDARD.encode(text.as_str().unwrap_or_default()));
        }
    }
    let kind = fields.entry("type").or_insert(Value::Null);
    if kind.as_str().is_none_or(str::is_empty) {
        *kind = json!("Opaque");
    }
}

/// A service gets no address of its own: nothing here would route it.
fn fill_in_service(object: &mut Value) {
    let spec = &mut object["spec"];
    if !spec.is_object() {
        return;
    }
    for (field, value) in [("type", "ClusterIP"), ("sessionAffinity", "None"), ("internalTrafficPolicy", "Cluster")] {
        if spec[field].is_null() {
            spec[field] = json!(value);
        }
    }
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        if port["protocol"].is_null() {
            port["protocol"] = json!("TCP");
        }
        if port["targetPort"].is_null() {
            port["targetPort"] = port["port"].clone();
        }
    }
}

/// What is wrong with an object of a built-in kind beside its schema.
pub fn check(object: &Value, before: Option<&Value>, kind: &Kind) -> Vec<Cause> {
    let mut causes = Vec::new();
    match (kind.custom, kind.plural.as_str()) {
        (false, "secrets" | "configmaps") => {
            let keys = ["data", "binaryData"].into_iter().flat_map(|field| {
                object[field].as_object().into_iter().flatten().map(move |(key, value)| (field, key, value))
            });
            for (field, key, value) in keys {
                causes.extend(wrong_key(field, key));
                let is_binary = kind.plural == "secrets" || field == "binaryData";
                if is_binary && BASE64_STANDARD.decode(value.as_str().unwrap_or_default()).is_err() {
                    causes.push(Cause::invalid(format!("{field}[{key}]"), &json!("<hidden>"), "must be base64"));
                }
            }
            causes.extend(before.into_iter().flat_map(|before| immutable(before, object, kind)));
        }
        (false, "services") => causes.extend(wrong_ports(&object["spec"])),
        (false, "endpointslices") => {
            let changed = before.filter(|before| before["addressType"] != object["addressType"]);
            if changed.is_some() {
                causes.push(Cause::invalid("addressType", &object["addressType"], "field is immutable"));
            }
        }
        _ => {}
    }
    causes
}

/// A Service with several ports names each of them.
fn wrong_ports(spec: &Value) -> Vec<Cause> {
    let ports = spec["ports"].as_array().map_or(&[][..], Vec::as_slice);
    let headless = spec["clusterIP"] == "None" || spec["type"] == "ExternalName";
    if ports.is_empty() && !headless {
        return vec![Cause::required("spec.ports", "")];
    }
    let names: Vec<&str> = ports.iter().map(|port| port["name"].as_str().unwrap_or_default()).collect();
    let wrong = names.iter().enumerate().filter_map(|(index, name)| {
        let field = format!("spec.ports[{index}].name");
        match name {
            &"" if names.len() > 1 => Some(Cause::required(field, "")),
            name if !name.is_empty() && names[..index].contains(name) => Some(Cause::duplicate(field, &json!(name))),
            _ => None,
        }
    });
    wrong.collect()
}

fn wrong_key(field: &str, key: &str) -> Option<Cause> {
    let fits = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
    let words = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
    (!fits).then(|| Cause::invalid(format!("{field}[{key}]"), &json!(key), words))
}

fn immutable(before: &Value, object: &Value, kind: &Kind) -> Vec<Cause> {
    let mut causes = Vec::new();
    if kind.plural == "secrets" && before["type"] != object["type"] {
        causes.push(Cause::invalid("type", &object["type"], "field is immutable"));
    }
    if before["immutable"] == true {
        if object["immutable"] != true {
            causes.push(Cause::forbidden("immutable", "field is immutable when `immutable` is set"));
        }
        for field in ["data", "binaryData"].into_iter().filter(|field| before[field] != object[field]) {
            causes.push(Cause::forbidden(field, "field is immutable when `immutable` is set"));
        }
    }
    causes
}
