//! What there is to ask for: groups, versions and kinds, each by itself and all at once.

use axum::{
    body::Body,
    http::{Method, Response, header, request::Parts},
};
use serde_json::{Map, Value, json};

use super::{
    document::Document,
    kinds::{Kind, Kinds},
    status::{Failure, json_response},
};

/// The version of Kubernetes whose behaviour this is.
const MINOR: &str = "36";
const ALL_AT_ONCE: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// The answer, if the path is one of discovery.
pub fn answer(kinds: &Kinds, parts: &Parts) -> Option<Result<Response<Body>, Failure>> {
    let path: Vec<&str> = parts.uri.path().split('/').filter(|part| !part.is_empty()).collect();
    let body = match &path[..] {
        ["healthz" | "livez" | "readyz", ..] => return Some(Ok(Response::new(Body::from("ok")))),
        ["version"] => version(),
        ["api"] if wants_all(parts) => return Some(Ok(all_at_once(kinds, true).answer(&parts.headers))),
        ["apis"] if wants_all(parts) => return Some(Ok(all_at_once(kinds, false).answer(&parts.headers))),
        ["api"] => json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [] }),
        ["apis"] => {
            let groups: Vec<_> = named(kinds).map(|(group, versions)| about_group(group, &versions)).collect();
            json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
        }
        ["apis", group] => {
            let found = named(kinds).find(|(name, _)| name == group);
            let Some((group, versions)) = found else { return Some(Err(Failure::no_such_path())) };
            let mut about = about_group(group, &versions);
            about["kind"] = json!("APIGroup");
            about["apiVersion"] = json!("v1");
            about
        }
        ["api", version] => resources(kinds, "", version)?,
        ["apis", group, version] => resources(kinds, group, version)?,
        _ => return None,
    };
    Some(if parts.method == Method::GET { Ok(json_response(200, &body)) } else { Err(Failure::not_allowed()) })
}

fn wants_all(parts: &Parts) -> bool {
    let accept = parts.headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    accept.split(',').any(|range| {
        let has = |wanted: &str| range.split(';').any(|part| part.trim() == wanted);
        has("as=APIGroupDiscoveryList") && has("v=v2") && has("application/json")
    })
}

fn version() -> Value {
    json!({
        "major": "1",
        "minor": MINOR,
        "gitVersion": format!("v1.{MINOR}.0+drover-{}", env!("CARGO_PKG_VERSION")),
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    })
}

fn named(kinds: &Kinds) -> impl Iterator<Item = (&str, Vec<&str>)> {
    kinds.groups().into_iter().filter(|(group, _)| !group.is_empty())
}

fn about_group(group: &str, versions: &[&str]) -> Value {
    let about = |version: &&str| json!({ "groupVersion": format!("{group}/{version}"), "version": version });
    let all: Vec<_> = versions.iter().map(about).collect();
    json!({ "name": group, "versions": all, "preferredVersion": all.first() })
}

fn resources(kinds: &Kinds, group: &str, version: &str) -> Option<Value> {
    let mut found = kinds.of(group, version).peekable();
    let api_version = found.peek()?.api_version();
    let resources: Vec<_> = found.flat_map(|kind| about_kind(kind)).collect();
    let mut list = json!({ "kind": "APIResourceList" });
    if !group.is_empty() {
        // The core group's list is older than this field.
        list["apiVersion"] = json!("v1");
    }
    list["groupVersion"] = json!(api_version);
    list["resources"] = json!(resources);
    Some(list)
}

fn about_kind(kind: &Kind) -> Vec<Value> {
    let mut about = json!({
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": kind.verbs(),
    });
    add_names(&mut about, kind);
    let subresources = kind.subresources().into_iter().map(|(name, verbs)| {
        json!({
            "name": format!("{}/{name}", kind.plural),
            "singularName": "",
            "namespaced": kind.namespaced,
            "kind": kind.kind,
            "verbs": verbs,
        })
    });
    std::iter::once(about).chain(subresources).collect()
}

fn add_names(about: &mut Value, kind: &Kind) {
    for (field, names) in [("shortNames", &kind.short_names), ("categories", &kind.categories)] {
        if !names.is_empty() {
            about[field] = json!(names);
        }
    }
}

fn all_at_once(kinds: &Kinds, core: bool) -> Document {
    let groups = kinds.groups().into_iter().filter(|(group, _)| group.is_empty() == core);
    let items: Vec<_> = groups
        .map(|(group, versions)| {
            let versions: Vec<_> = versions
                .into_iter()
                .map(|version| {
                    let resources: Vec<_> = kinds.of(group, version).map(|kind| discovered(kind)).collect();
                    json!({ "version": version, "resources": resources, "freshness": "Current" })
                })
                .collect();
            let metadata: Map<_, _> = (!core).then(|| ("name".to_owned(), json!(group))).into_iter().collect();
            json!({ "metadata": metadata, "versions": versions })
        })
        .collect();
    let list = json!({ "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items });
    Document::json(&list, ALL_AT_ONCE)
}

fn discovered(kind: &Kind) -> Value {
    // Kubernetes' own kinds are those of the group that they are listed in.
    let (group, version) = if kind.custom { (kind.group.as_str(), kind.version.as_str()) } else { ("", "") };
    let response = json!({ "group": group, "version": version, "kind": kind.kind });
    let mut about = json!({
        "resource": kind.plural,
        "responseKind": response,
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular,
        "verbs": kind.verbs(),
    });
    add_names(&mut about, kind);
    let subresources: Vec<_> = kind
        .subresources()
        .into_iter()
        .map(|(name, verbs)| json!({ "subresource": name, "responseKind": response, "verbs": verbs }))
        .collect();
    if !subresources.is_empty() {
        about["subresources"] = json!(subresources);
    }
    about
}
