//! Discovery and OpenAPI: what both say about the kinds that both have.

use serde_json::{Value, json};

use crate::sides::{Side, clean, difference, embedded, real, scenario};

const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

struct Fetched {
    code: u16,
    headers: reqwest::header::HeaderMap,
    body: Vec<u8>,
}

impl Fetched {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().expect("text")).unwrap_or_default()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

async fn fetch(side: &Side, path: &str, headers: &[(&str, &str)]) -> Fetched {
    let mut request = side.request("GET", path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.expect("an answer");
    let (code, headers) = (response.status().as_u16(), response.headers().clone());
    Fetched { code, headers, body: response.bytes().await.expect("a whole answer").to_vec() }
}

/// What is listed in docs/standalone.md: the parts of definitions are left open.
fn is_open(name: &str) -> bool {
    name.contains("apiextensions")
}

#[test]
fn version_2_describes_the_kinds_in_the_same_way() {
    scenario(|| async {
        let sides = [real().await, embedded().await];
        let [real, embedded] = [fetch(&sides[0], "/openapi/v2", &[]).await, fetch(&sides[1], "/openapi/v2", &[]).await];
        let (real, embedded) = (real.json(), embedded.json());
        let own = embedded["definitions"].as_object().expect("definitions");
        for kind in ["dev.drover.v1alpha1.ModelPull", "io.k8s.api.core.v1.ConfigMap"] {
            assert!(own.contains_key(kind), "{kind}");
        }
        for (name, definition) in own.iter().filter(|(name, _)| !is_open(name)) {
            assert_eq!(difference(&real["definitions"][name], definition), None, "{name}");
        }
        for path in ["/apis/drover.dev/v1alpha1/namespaces/{namespace}/modelpulls/{name}", "/api/v1/namespaces/{name}"]
        {
            let [theirs, own] = [&real, &embedded].map(|document| &document["paths"][path]);
            for method in ["get", "put", "patch", "delete"] {
                let about = |operation: &Value| {
                    ["x-kubernetes-action", "x-kubernetes-group-version-kind"].map(|key| operation[key].clone())
                };
                assert_eq!(about(&theirs[method]), about(&own[method]), "{method} {path}");
            }
        }
    });
}

#[test]
fn version_2_is_the_same_in_protobuf() {
    scenario(|| async {
        let sides = [real().await, embedded().await];
        let mut documents = Vec::new();
        for side in &sides {
            let fetched = fetch(side, "/openapi/v2", &[("accept", PROTOBUF)]).await;
            assert_eq!(fetched.header("content-type"), "application/com.github.proto-openapi.spec.v2.v1.0+protobuf");
            documents.push(definitions(&fetched.body));
        }
        assert!(documents[1].len() > 30, "{}", documents[1].len());
        for (name, own) in documents[1].iter().filter(|(name, _)| !is_open(name)) {
            let real = documents[0].iter().find(|(known, _)| known == name).map(|(_, body)| body);
            compare(real.unwrap_or_else(|| panic!("{name} is real")), own, name);
        }
    });
}

/// `definitions` of a document: the name and the message of each.
fn definitions(document: &[u8]) -> Vec<(String, Vec<u8>)> {
    let of = |bytes: &[u8], number: u64| {
        let fields = fields(bytes).expect("a message").into_iter();
        fields.filter(|field| field.0 == number).map(|field| field.1).collect::<Vec<_>>()
    };
    let all = of(document, 9).into_iter().flat_map(|map| of(&map, 1));
    let named = all.map(|entry| (String::from_utf8(of(&entry, 1).remove(0)).expect("a name"), of(&entry, 2).remove(0)));
    named.collect()
}

/// Panics where two messages differ. A text of YAML is the same when it means the same.
fn compare(real: &[u8], embedded: &[u8], place: &str) {
    if real == embedded {
        return;
    }
    let as_message = fields(real).zip(fields(embedded)).filter(|(real, embedded)| {
        let numbers = |fields: &[(u64, Vec<u8>)]| fields.iter().map(|field| field.0).collect::<Vec<_>>();
        numbers(real) == numbers(embedded)
    });
    if let Some((real, embedded)) = as_message {
        for ((number, real), (_, embedded)) in real.iter().zip(&embedded) {
            compare(real, embedded, &format!("{place}/{number}"));
        }
        return;
    }
    let meaning = |bytes: &[u8]| serde_yaml::from_slice::<Value>(bytes).ok().filter(|value| !value.is_null());
    let (real, embedded) = (String::from_utf8_lossy(real), String::from_utf8_lossy(embedded));
    assert!(meaning(real.as_bytes()).is_some(), "{place}: real {real:?}, embedded {embedded:?}");
    assert_eq!(meaning(real.as_bytes()), meaning(embedded.as_bytes()), "{place}");
}

/// The fields of a message by number; nothing when it isn't one.
fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, Vec<u8>)>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let value = match tag & 7 {
            0 => varint(&mut bytes)?.to_le_bytes().to_vec(),
            1 => take(&mut bytes, 8)?,
            2 => {
                let length = varint(&mut bytes)?;
                take(&mut bytes, usize::try_from(length).ok()?)?
            }
            _ => return None,
        };
        found.push((tag >> 3, value));
    }
    found.sort_by_key(|field| field.0);
    Some(found)
}

fn take(bytes: &mut &[u8], count: usize) -> Option<Vec<u8>> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken.to_vec())
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *take(bytes, 1)?.first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[test]
fn version_3_describes_the_kinds_in_the_same_way() {
    scenario(|| async {
        let sides = [real().await, embedded().await];
        for group in ["api/v1", "apis/drover.dev/v1alpha1", "apis/events.k8s.io/v1"] {
            let path = format!("/openapi/v3/{group}");
            let [real, embedded] =
                [fetch(&sides[0], &path, &[]).await.json(), fetch(&sides[1], &path, &[]).await.json()];
            let own = embedded["components"]["schemas"].as_object().expect("schemas");
            for (name, schema) in own {
                assert_eq!(difference(&real["components"]["schemas"][name], schema), None, "{group}: {name}");
            }
        }
    });
}

/// The items of a list, but for those that only the real API server has.
fn known(items: &Value, name: &str, own: &Value) -> Vec<Value> {
    let names: Vec<_> = own.as_array().expect("items").iter().map(|item| at(item, name).clone()).collect();
    let items = items.as_array().expect("items").iter();
    items.filter(|item| names.contains(at(item, name))).cloned().collect()
}

fn pairs<'a>(real: &'a mut Value, embedded: &'a Value) -> impl Iterator<Item = (&'a mut Value, &'a Value)> {
    real.as_array_mut().expect("items").iter_mut().zip(embedded.as_array().expect("items"))
}

fn own_definitions(groups: &mut Value) -> Option<&mut Value> {
    let groups = groups["items"].as_array_mut()?;
    let group = groups.iter_mut().find(|group| group["metadata"]["name"] == "apiextensions.k8s.io")?;
    group.pointer_mut("/versions/0/resources/0")
}

fn at<'a>(item: &'a Value, pointer: &str) -> &'a Value {
    item.pointer(pointer).expect(pointer)
}

#[test]
fn kinds_are_discovered_in_the_same_way() {
    scenario(|| async {
        let sides = [real().await, embedded().await];
        let ask = async |path: &str| {
            let mut bodies = Vec::new();
            for side in &sides {
                let mut answer = side.ask("GET", path, &Value::Null).await;
                clean(&mut answer.body);
                bodies.push(answer.body);
            }
            (bodies.remove(0), bodies.remove(0))
        };
        for place in ["api/v1", "apis/drover.dev/v1alpha1", "apis/events.k8s.io/v1", "apis/coordination.k8s.io/v1"] {
            let (mut real, mut embedded) = ask(&format!("/{place}")).await;
            real["resources"] = known(&real["resources"], "/name", &embedded["resources"]).into();
            // Those that are defined are in no certain order there.
            for list in [&mut real, &mut embedded] {
                let resources = list["resources"].as_array_mut().expect("resources");
                resources.sort_by_key(|resource| resource["name"].to_string());
            }
            assert_eq!(difference(&real, &embedded), None, "{place}");
        }
        let (mut real, embedded) = ask("/apis").await;
        real["groups"] = known(&real["groups"], "/name", &embedded["groups"]).into();
        for (group, own) in pairs(&mut real["groups"], &embedded["groups"]) {
            group["versions"] = known(&group["versions"], "/version", &own["versions"]).into();
        }
        assert_eq!(difference(&real, &embedded), None);
        let (real, embedded) = ask("/apis/drover.dev").await;
        assert_eq!(difference(&real, &embedded), None);
        for (path, name) in [("all:/api", None), ("all:/apis", Some("/metadata/name"))] {
            let (mut real, embedded) = ask(path).await;
            if let Some(name) = name {
                real["items"] = known(&real["items"], name, &embedded["items"]).into();
            }
            for (group, own) in pairs(&mut real["items"], &embedded["items"]) {
                group["versions"] = known(&group["versions"], "/version", &own["versions"]).into();
                let resources = own["versions"][0]["resources"].clone();
                let mut shared = known(&group["versions"][0]["resources"], "/resource", &resources);
                // Nothing routes to a service here.
                for resource in shared.iter_mut().filter(|resource| resource["resource"] == "services") {
                    resource["subresources"]
                        .as_array_mut()
                        .expect("some")
                        .retain(|inner| inner["subresource"] != "proxy");
                }
                group["versions"][0]["resources"] = shared.into();
            }
            if let Some(definitions) = own_definitions(&mut real) {
                // They can't be written here.
                definitions["verbs"] = json!(["get", "list", "watch"]);
                definitions.as_object_mut().expect("fields").shift_remove("subresources");
            }
            assert_eq!(difference(&real, &embedded), None, "{path}");
        }
    });
}

#[test]
fn documents_that_a_client_has_are_not_sent_again() {
    scenario(|| async {
        for side in [real().await, embedded().await] {
            for accept in ["application/json", PROTOBUF] {
                let first = fetch(&side, "/openapi/v2", &[("accept", accept)]).await;
                let known = [("accept", accept), ("if-none-match", first.header("etag"))];
                let again = fetch(&side, "/openapi/v2", &known).await;
                assert_eq!((first.code, again.code, again.body.len()), (200, 304, 0), "{}", side.name);
            }
            let all = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
            let first = fetch(&side, "/apis", &[("accept", all)]).await;
            let again = fetch(&side, "/apis", &[("accept", all), ("if-none-match", first.header("etag"))]).await;
            assert_eq!((first.code, again.code), (200, 304), "{}", side.name);
            let index = fetch(&side, "/openapi/v3", &[]).await.json();
            let url = index["paths"]["apis/drover.dev/v1alpha1"]["serverRelativeURL"].as_str().expect("an address");
            let exact = fetch(&side, url, &[]).await;
            assert_eq!(exact.code, 200, "{}", side.name);
            assert!(exact.header("cache-control").contains("immutable"), "{}: {:?}", side.name, exact.headers);
            assert!(url.ends_with(exact.header("etag").trim_matches('"')), "{}: {url}", side.name);
            // The client follows to the present one.
            let (place, _) = url.split_once('=').expect("a digest");
            let outdated = fetch(&side, &format!("{place}=OLD"), &[]).await;
            assert_eq!((outdated.code, outdated.body == exact.body), (200, true), "{}", side.name);
        }
    });
}
