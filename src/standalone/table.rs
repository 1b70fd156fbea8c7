//! Objects as rows, as `kubectl get` shows them.

use std::ops::Deref;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    jsonpath::{self, Path},
    kinds::{Column, Kind},
    partial::Fields,
};

/// What the rows of a table have in common.
pub struct Table<K> {
    kind: K,
    columns: Vec<(Column, Path)>,
    now: i64,
}

impl<K: Deref<Target = Kind>> Table<K> {
    /// The table of a kind as of now.
    pub fn new(kind: K) -> Self {
        let columns = columns(&kind).into_iter().map(|column| {
            let path = Path::new(&column.path);
            (column, path)
        });
        Self { kind, columns: columns.collect(), now: Timestamp::now().as_second() }
    }

    /// All but the rows.
    pub fn head(&self, metadata: &Value) -> Value {
        let heads = self.columns.iter().map(|(column, _)| {
            json!({
                "name": column.name,
                "type": column.kind,
                "format": if column.name == "Name" { "name" } else { "" },
                "description": description(&self.kind, column),
                "priority": column.priority,
            })
        });
        let heads: Vec<_> = heads.collect();
        json!({ "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": heads })
    }

    /// The fields that the cells are made from.
    pub fn fields(&self) -> Fields {
        // Cells of Kubernetes' own kinds are computed from whatever they need.
        if !self.kind.custom {
            return Fields::all();
        }
        let mut fields = Fields::default();
        self.columns.iter().for_each(|(_, path)| fields.add(&path.fields()));
        fields
    }

    /// The cells of one object.
    pub fn cells(&self, object: &Value) -> Vec<Value> {
        self.columns.iter().map(|(column, path)| cell(&self.kind, column, path, object, self.now)).collect()
    }
}

/// The table of one object. `include` says what stands behind the row: `Object`, `None`, or else its metadata.
pub fn of_one(kind: &Kind, object: &Value, include: &str) -> Value {
    let table = Table::new(kind);
    let shown = match include {
        "Object" => object.clone(),
        "None" => Value::Null,
        _ => super::resources::metadata_only(object),
    };
    let row = json!({ "cells": table.cells(object), "object": shown });
    let mut whole = table.head(&json!({ "resourceVersion": object["metadata"]["resourceVersion"] }));
    whole["rows"] = json!([row]);
    whole
}

fn description(kind: &Kind, column: &Column) -> Value {
    let metadata = &kind.schema["properties"]["metadata"]["properties"];
    match column.name.as_str() {
        "Name" => metadata["name"]["description"].clone(),
        "Age" if !kind.custom => metadata["creationTimestamp"]["description"].clone(),
        _ if !column.description.is_empty() => json!(column.description),
        _ if kind.custom => {
            json!(format!("Custom resource definition column (in JSONPath format): {}", column.path))
        }
        _ => json!(""),
    }
}

/// A column of a built-in kind; those whose path begins with `=` are computed.
const fn short(name: &'static str, path: &'static str, priority: i64) -> (&'static str, &'static str, i64) {
    (name, path, priority)
}

const AGE: (&str, &str, i64) = short("Age", "=age", 0);
const EVENTS: [(&str, &str, i64); 10] = [
    short("Last Seen", "=seen", 0),
    short("Type", ".type", 0),
    short("Reason", ".reason", 0),
    short("Object", "=object", 0),
    short("Subobject", "=subobject", 1),
    short("Source", "=source", 1),
    short("Message", "=message", 0),
    short("First Seen", "=first", 1),
    short("Count", "=count", 1),
    short("Name", ".metadata.name", 1),
];

fn columns(kind: &Kind) -> Vec<Column> {
    let own: &[(&str, &str, i64)] = match kind.plural.as_str() {
        "events" => &EVENTS,
        "namespaces" => &[short("Status", ".status.phase", 0), AGE],
        "secrets" => &[short("Type", ".type", 0), short("Data", "=data", 0), AGE],
        "configmaps" => &[short("Data", "=data", 0), AGE],
        "leases" => &[short("Holder", ".spec.holderIdentity", 0), AGE],
        "endpointslices" => &[
            short("AddressType", ".addressType", 0),
            short("Ports", "=slice-ports", 0),
            short("Endpoints", "=endpoints", 0),
            AGE,
        ],
        "services" => &[
            short("Type", ".spec.type", 0),
            short("Cluster-IP", "=cluster-ip", 0),
            short("External-IP", "=external-ip", 0),
            short("Port(s)", "=service-ports", 0),
            AGE,
            short("Selector", "=selector", 1),
        ],
        "customresourcedefinitions" => &[short("Created At", ".metadata.creationTimestamp", 0)],
        _ => &[],
    };
    let text = |(name, path, priority): &(&str, &str, i64)| Column {
        name: (*name).into(),
        kind: if *name == "Created At" { "date".into() } else { "string".into() },
        path: (*path).into(),
        priority: *priority,
        description: String::new(),
    };
    let name = (&*kind.stored_as != "events").then(|| text(&("Name", ".metadata.name", 0)));
    let defined = kind.columns.iter().cloned();
    let none = kind.custom && kind.columns.is_empty();
    name.into_iter().chain(own.iter().map(text)).chain(defined).chain(none.then(|| text(&AGE))).collect()
}

fn cell(kind: &Kind, column: &Column, path: &Path, object: &Value, now: i64) -> Value {
    if let Some(computed) = column.path.strip_prefix('=') {
        let text = computed_cell(computed, object, now);
        return text
            .parse::<i64>()
            .ok()
            .filter(|_| matches!(computed, "data" | "count"))
            .map_or(json!(text), |count| json!(count));
    }
    let found = path.find(object);
    let Some(first) = found.first() else {
        return match column.name.as_str() {
            "Name" => json!(""),
            _ if kind.custom => Value::Null,
            _ => json!("<none>"),
        };
    };
    match column.kind.as_str() {
        "date" if kind.custom => json!(age(first, now)),
        "integer" | "number" | "boolean" => (*first).clone(),
        _ => {
            let texts = found.iter().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
            json!(texts.collect::<Vec<_>>().join(" "))
        }
    }
}

fn computed_cell(what: &str, object: &Value, now: i64) -> String {
    let text =
        |path: &str| jsonpath::find(object, path).first().and_then(|v| v.as_str()).unwrap_or_default().to_owned();
    let either = |paths: &[&str]| paths.iter().map(|path| text(path)).find(|text| !text.is_empty()).unwrap_or_default();
    let or_none = |text: String| if text.is_empty() { "<none>".to_owned() } else { text };
    match what {
        "age" => age(&object["metadata"]["creationTimestamp"], now),
        "seen" => age(
            &json!(either(&[".series.lastObservedTime", ".lastTimestamp", ".deprecatedLastTimestamp", ".eventTime"])),
            now,
        ),
        "first" => age(&json!(either(&[".firstTimestamp", ".deprecatedFirstTimestamp", ".eventTime"])), now),
        "object" => {
            let kind = either(&[".involvedObject.kind", ".regarding.kind"]).to_lowercase();
            let name = either(&[".involvedObject.name", ".regarding.name"]);
            if name.is_empty() { kind } else { format!("{kind}/{name}") }
        }
        "subobject" => either(&[".involvedObject.fieldPath", ".regarding.fieldPath"]),
        "source" => {
            let parts =
                [".source.component", ".deprecatedSource.component", ".reportingComponent", ".reportingController"];
            let host = either(&[".source.host", ".deprecatedSource.host", ".reportingInstance"]);
            [either(&parts), host].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
        }
        "message" => either(&[".message", ".note"]).trim().to_owned(),
        "count" => {
            let counts = [&object["series"]["count"], &object["count"], &object["deprecatedCount"]];
            counts.into_iter().find_map(Value::as_i64).filter(|count| *count > 0).unwrap_or(1).to_string()
        }
        "data" => {
            let count = |field: &str| object[field].as_object().map_or(0, serde_json::Map::len);
            (count("data") + count("binaryData")).to_string()
        }
        "slice-ports" => or_unset(join(&object["ports"], |port| port["port"].to_string())),
        "endpoints" => {
            let addresses = jsonpath::find(object, ".endpoints[*].addresses[*]");
            let shown: Vec<_> = addresses.iter().take(3).filter_map(|address| address.as_str()).collect();
            let more = addresses.len().saturating_sub(3);
            let more = if more > 0 { format!(" + {more} more...") } else { String::new() };
            or_unset(format!("{}{more}", shown.join(",")))
        }
        "cluster-ip" => or_none(text(".spec.clusterIP")),
        "external-ip" => or_none(text(".spec.externalName")),
        "service-ports" => or_none(join(&object["spec"]["ports"], |port| {
            format!("{}/{}", port["port"], port["protocol"].as_str().unwrap_or("TCP"))
        })),
        "selector" => {
            let selector = object["spec"]["selector"].as_object().into_iter().flatten();
            let parts = selector.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
            or_none(parts.collect::<Vec<_>>().join(","))
        }
        _ => String::new(),
    }
}

fn or_unset(text: String) -> String {
    if text.is_empty() { "<unset>".into() } else { text }
}

fn join(items: &Value, show: impl Fn(&Value) -> String) -> String {
    items.as_array().into_iter().flatten().map(show).collect::<Vec<_>>().join(",")
}

/// How long ago a time was, as kubectl says it.
fn age(time: &Value, now: i64) -> String {
    let time = time.as_str().and_then(|time| time.parse::<Timestamp>().ok());
    time.map_or_else(|| "<unknown>".into(), |time| human(now - time.as_second()))
}

fn human(seconds: i64) -> String {
    let two = |large: i64, letter: char, small: i64, other: char| match small {
        0 => format!("{large}{letter}"),
        _ => format!("{large}{letter}{small}{other}"),
    };
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        ..0 if seconds < -1 => "<invalid>".into(),
        ..0 => "0s".into(),
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, 'm', seconds % 60, 's'),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, 'h', minutes % 60, 'm'),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, 'd', hours % 24, 'h'),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => two(days / 365, 'y', days % 365, 'd'),
        _ => format!("{}y", days / 365),
    }
}
