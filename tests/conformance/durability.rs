//! What was acknowledged stays, and revisions never go back.

use serde_json::{Value, json};

use crate::{
    sides::{Embedded, Side, scenario},
    support::Scratch,
};

const CONFIGMAPS: &str = "/api/v1/namespaces/default/configmaps";

fn config(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name } })
}

fn revision(answer: &Value) -> u64 {
    answer["metadata"]["resourceVersion"].as_str().expect("a revision").parse().expect("a number")
}

#[test]
fn a_watcher_goes_on_after_a_restart_and_revisions_grow() {
    scenario(|| async {
        let scratch = Scratch::new();
        let first = Embedded::start(&scratch.join("state")).await;
        let side = Side::embedded(&first).await;
        let made = side.ask("POST", CONFIGMAPS, &config("a")).await.body;
        side.ask("POST", CONFIGMAPS, &config("b")).await;
        side.ask("DELETE", &format!("{CONFIGMAPS}/b"), &Value::Null).await;
        let last = revision(&side.ask("GET", CONFIGMAPS, &Value::Null).await.body);
        drop(first);

        let second = Embedded::start(&scratch.join("state")).await;
        let side = Side::embedded(&second).await;
        let list = side.ask("GET", CONFIGMAPS, &Value::Null).await.body;
        assert!(revision(&list) >= last);
        assert_eq!(list["items"][0], made);
        let path = format!("{CONFIGMAPS}?watch=true&resourceVersion={}", revision(&made));
        let events = side.watch(&path, 2).await;
        let seen: Vec<_> =
            events.iter().map(|event| (event["type"].clone(), event["object"]["metadata"]["name"].clone())).collect();
        assert_eq!(seen, [(json!("ADDED"), json!("b")), (json!("DELETED"), json!("b"))]);
        let after = side.ask("POST", CONFIGMAPS, &config("c")).await.body;
        assert!(revision(&after) > last);
    });
}

#[test]
fn a_namespace_that_goes_takes_everything_with_it() {
    scenario(|| async {
        let scratch = Scratch::new();
        let embedded = Embedded::start(&scratch.join("state")).await;
        let side = Side::embedded(&embedded).await;
        side.ask("POST", "/api/v1/namespaces", &json!({ "metadata": { "name": "n" } })).await;
        let inside = "/api/v1/namespaces/n/configmaps";
        let held = json!({ "metadata": { "name": "held", "finalizers": ["drover.dev/test"] } });
        for object in [config("a"), held] {
            assert_eq!(side.ask("POST", inside, &object).await.code, 201);
        }
        let deleted = side.ask("DELETE", "/api/v1/namespaces/n", &Value::Null).await.body;
        assert_eq!(deleted["status"]["phase"], "Terminating");
        let refused = side.ask("POST", inside, &config("late")).await;
        assert_eq!(
            (refused.code, &refused.body["details"]["causes"][0]["reason"]),
            (403, &json!("NamespaceTerminating"))
        );
        crate::support::eventually("only what is held is left", std::time::Duration::from_secs(10), async || {
            let list = side.ask("GET", inside, &Value::Null).await.body;
            if list["items"].as_array().map(Vec::len) == Some(1) { Ok(()) } else { Err(list.to_string()) }
        })
        .await;
        side.ask("PATCH", &format!("merge:{inside}/held"), &json!({ "metadata": { "finalizers": null } })).await;
        crate::support::eventually("the namespace is gone", std::time::Duration::from_secs(10), async || {
            let answer = side.ask("GET", "/api/v1/namespaces/n", &Value::Null).await;
            if answer.code == 404 { Ok(()) } else { Err(answer.body.to_string()) }
        })
        .await;
    });
}

#[test]
fn what_is_owned_goes_with_its_owner() {
    scenario(|| async {
        let scratch = Scratch::new();
        let embedded = Embedded::start(&scratch.join("state")).await;
        let side = Side::embedded(&embedded).await;
        for policy in ["Background", "Foreground", "Orphan"] {
            let owner = side.ask("POST", CONFIGMAPS, &config("owner")).await.body;
            let mut owned = config("owned");
            owned["metadata"]["ownerReferences"] =
                json!([{ "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"] }]);
            side.ask("POST", CONFIGMAPS, &owned).await;
            let path = format!("{CONFIGMAPS}/owner");
            let answer = side.ask("DELETE", &path, &json!({ "propagationPolicy": policy })).await;
            assert_eq!(answer.code, 200, "{}", answer.body);
            crate::support::eventually(policy, std::time::Duration::from_secs(10), async || {
                let items = side.ask("GET", CONFIGMAPS, &Value::Null).await.body["items"].clone();
                let names: Vec<_> =
                    items.as_array().expect("a list").iter().map(|item| item["metadata"]["name"].clone()).collect();
                let wanted = if policy == "Orphan" { vec![json!("owned")] } else { vec![] };
                if names == wanted { Ok(()) } else { Err(items.to_string()) }
            })
            .await;
        }
        let left = side.ask("GET", &format!("{CONFIGMAPS}/owned"), &Value::Null).await.body;
        assert!(left["metadata"]["ownerReferences"].as_array().is_none_or(Vec::is_empty), "{left}");
    });
}

#[test]
fn without_the_token_nothing_is_answered() {
    scenario(|| async {
        use std::os::unix::fs::PermissionsExt;
        let scratch = Scratch::new();
        let embedded = Embedded::start(&scratch.join("state")).await;
        let url = format!("https://{}/api/v1/namespaces", embedded.server.address);
        let http =
            reqwest::Client::builder().no_proxy().tls_danger_accept_invalid_certs(true).build().expect("a client");
        for request in [http.get(&url), http.get(&url).bearer_auth("wrong")] {
            let answer = request.send().await.expect("an answer");
            assert_eq!(answer.status(), 401);
            let status: Value = serde_json::from_str(&answer.text().await.expect("a body")).expect("JSON");
            assert_eq!((&status["kind"], &status["reason"]), (&json!("Status"), &json!("Unauthorized")));
        }
        let rights = std::fs::metadata(&embedded.server.kubeconfig).expect("a kubeconfig").permissions().mode();
        assert_eq!(rights & 0o777, 0o600);
    });
}

#[test]
fn thousands_written_at_once_are_all_listed() {
    const OBJECTS: usize = 5_000;
    scenario(|| async {
        use futures::{StreamExt, stream};
        let scratch = Scratch::new();
        let embedded = Embedded::start(&scratch.join("state")).await;
        let side = Side::embedded(&embedded).await;
        let name = |number: usize| format!("c-{number:04}");
        let create = async |number| {
            let answer = side.ask("POST", CONFIGMAPS, &config(&name(number))).await;
            assert_eq!(answer.code, 201, "{}", answer.body);
        };
        stream::iter(0..OBJECTS).for_each_concurrent(64, create).await;
        let list = side.ask("GET", CONFIGMAPS, &Value::Null).await.body;
        let listed = list["items"].as_array().expect("a list").iter().map(|item| item["metadata"]["name"].clone());
        assert!(listed.eq((0..OBJECTS).map(name)), "in order, each once");
    });
}

#[test]
fn clients_that_misbehave_hinder_nobody() {
    scenario(|| async {
        use tokio::io::AsyncWriteExt;
        let scratch = Scratch::new();
        let embedded = Embedded::start(&scratch.join("state")).await;
        let side = Side::embedded(&embedded).await;
        let address = embedded.server.address;
        let silent = tokio::net::TcpStream::connect(address).await.expect("a connection that says nothing");
        let mut garbage = tokio::net::TcpStream::connect(address).await.expect("a connection");
        garbage.write_all(&[0x16, 0x03, 0xff, 0, 1, 2, 3, b'G', b'E', b'T']).await.expect("it takes bytes");
        let mut large = config("large");
        large["data"] = json!({ "k": "x".repeat(4 << 20) });
        let refused = side.ask("POST", CONFIGMAPS, &large).await;
        assert_eq!((refused.code, &refused.body["reason"]), (413, &json!("RequestEntityTooLarge")));
        for body in [
            "",
            "{",
            "[]",
            "null",
            "\u{0}",
            r#"{"metadata":5}"#,
            r#"{"metadata":{"labels":[]}}"#,
            r#"{"metadata":{"name":{}}}"#,
        ] {
            let answer = side.ask("POST", CONFIGMAPS, &json!(body)).await;
            assert!((400..500).contains(&answer.code), "{body:?}: {} {}", answer.code, answer.body);
        }
        for path in
            ["/", "/api/v1/", "/apis//v1", "/api/v1/namespaces/default/configmaps/%2f", "/%00", "/openapi/v3/nothing"]
        {
            let answer = side.ask("GET", path, &Value::Null).await;
            assert!((400..500).contains(&answer.code) || path == "/api/v1/", "{path}: {} {}", answer.code, answer.body);
        }
        assert_eq!(side.ask("POST", CONFIGMAPS, &config("small")).await.code, 201);
        drop(silent);
    });
}
