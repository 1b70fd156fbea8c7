//! Lists in pages and long lists, in every form.

use futures::future::join_all;
use serde_json::{Value, json};

use crate::sides::{Side, embedded, real, scenario};

/// A namespace of its own with some ConfigMaps, each with a text of that length.
async fn filled(side: &Side, namespace: &str, count: usize, length: usize) -> String {
    side.ask("POST", "/api/v1/namespaces", &json!({ "metadata": { "name": namespace } })).await;
    let path = format!("/api/v1/namespaces/{namespace}/configmaps");
    let make = async |at: usize| {
        let data = json!({ "number": at.to_string(), "text": "é\"".repeat(length / 2) });
        let labels = json!({ "parity": if at.is_multiple_of(2) { "even" } else { "odd" } });
        let object = json!({ "metadata": { "name": format!("c-{at:04}"), "labels": labels }, "data": data });
        assert_eq!(side.ask("POST", &path, &object).await.code, 201);
    };
    join_all((0..count).map(make)).await;
    path
}

fn numbers(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().expect("a list").iter();
    items.map(|item| item["data"]["number"].as_str().expect("a number").to_owned()).collect()
}

#[test]
fn pages_show_one_moment_whatever_changes_meanwhile() {
    scenario(|| async {
        for side in [embedded().await, real().await] {
            let path = filled(&side, "pages", 7, 2).await;
            let mut page = side.ask("GET", &format!("{path}?limit=2"), &Value::Null).await.body;
            let (revision, mut seen) = (page["metadata"]["resourceVersion"].clone(), numbers(&page));
            assert_eq!(page["metadata"]["remainingItemCount"], 5, "{}", side.name);
            side.ask("DELETE", &format!("{path}/c-0004"), &Value::Null).await;
            side.ask("PATCH", &format!("merge:{path}/c-0005"), &json!({ "data": { "number": "changed" } })).await;
            side.ask("POST", &path, &json!({ "metadata": { "name": "c-0003-new" }, "data": { "number": "new" } }))
                .await;
            while let Some(token) = page["metadata"]["continue"].as_str() {
                page = side.ask("GET", &format!("{path}?limit=2&continue={token}"), &Value::Null).await.body;
                assert_eq!(page["metadata"]["resourceVersion"], revision, "{}", side.name);
                seen.extend(numbers(&page));
            }
            assert_eq!(seen, ["0", "1", "2", "3", "4", "5", "6"], "{}", side.name);
            let now = numbers(&side.ask("GET", &path, &Value::Null).await.body);
            assert_eq!(now, ["0", "1", "2", "3", "new", "changed", "6"], "{}", side.name);
        }
    });
}

/// Longer than what is sent at once.
#[test]
fn long_lists_are_whole_in_every_form() {
    const COUNT: usize = 200;
    scenario(|| async {
        for side in [embedded().await, real().await] {
            let path = filled(&side, "long-lists", COUNT, 1_000).await;
            let list = side.ask("GET", &path, &Value::Null).await.body;
            assert_eq!(numbers(&list), (0..COUNT).map(|at| at.to_string()).collect::<Vec<_>>(), "{}", side.name);
            let one = side.ask("GET", &format!("{path}/c-0123"), &Value::Null).await.body;
            for field in ["metadata", "data"] {
                assert_eq!(list["items"][123][field], one[field], "{}", side.name);
            }
            let metas = side.ask("GET", &format!("metas:{path}"), &Value::Null).await.body;
            assert_eq!(metas["items"][123]["metadata"], one["metadata"], "{}", side.name);
            assert_eq!(metas["items"].as_array().map(Vec::len), Some(COUNT), "{}", side.name);
            for include in ["", "Metadata", "Object", "None"] {
                let path = format!("table:{path}?includeObject={include}&labelSelector=parity%3Dodd");
                let table = side.ask("GET", &path, &Value::Null).await.body;
                assert_eq!(table["rows"].as_array().map(Vec::len), Some(COUNT / 2), "{} {include}", side.name);
                let row = &table["rows"][61];
                assert_eq!((&row["cells"][0], &row["cells"][1]), (&json!("c-0123"), &json!(2)), "{}", side.name);
                let metadata = &row["object"]["metadata"];
                let is_right = if include == "None" {
                    row.get("object") == Some(&Value::Null)
                } else {
                    *metadata == one["metadata"]
                };
                assert!(is_right, "{} {include}: {row}", side.name);
                assert_eq!(row["object"].get("data").is_some(), include == "Object", "{}", side.name);
            }
            let initial = format!(
                "{path}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
            );
            let events = side.watch(&initial, COUNT).await;
            let names = events.iter().map(|event| event["object"]["metadata"]["name"].as_str().expect("a name"));
            assert!(names.eq((0..COUNT).map(|at| format!("c-{at:04}"))), "{}", side.name);
        }
    });
}
