//! `drover export`: from the embedded API to a real one, where `kubectl apply` makes the same objects of it.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::{Value, json};

use crate::{
    sides::{Embedded, Side, drover, real, scenario},
    support::Scratch,
};

const DIGEST: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
const KINDS: [&str; 5] = ["ollamanodes", "modelpulls", "modelversions", "modeldeployments", "apikeys"];

fn drover_path(namespace: &str, plural: &str) -> String {
    format!("/apis/drover.dev/v1alpha1/namespaces/{namespace}/{plural}")
}

async fn make(side: &Side, path: &str, object: Value) -> Value {
    let answer = side.ask("POST", path, &object).await;
    assert_eq!(answer.code, 201, "{path}: {}", answer.body);
    answer.body
}

/// Two namespaces with an object of each kind, as users, controllers and commands leave them.
async fn furnish(side: &Side) {
    let labels = json!({ "labels": { "team": "a" }, "annotations": { "note": "by hand" } });
    for name in ["export-a", "export-b"] {
        let mut metadata = labels.clone();
        metadata["name"] = json!(name);
        make(side, "/api/v1/namespaces", json!({ "metadata": metadata })).await;
    }
    let samples = include_str!("../../manifests/samples/all.yaml");
    let (applied, said) = side.run("kubectl", &["apply", "-n", "export-a", "-f", "-"], samples, &[]).await;
    assert!(applied, "{said}");
    let secret = json!({ "metadata": { "name": "registry-login" }, "stringData": { "password": "hidden-word" } });
    make(side, "/api/v1/namespaces/export-a/secrets", secret).await;
    make(side, "/api/v1/namespaces/export-a/secrets", json!({ "metadata": { "name": "unused" } })).await;

    let version = format!("{}/support-bot-v1.1.0", drover_path("export-a", "modelversions"));
    let status = json!({ "status": { "digest": DIGEST, "readyNodes": 1 } });
    let answer = side.ask("PATCH", &format!("merge:{version}/status"), &status).await;
    assert_eq!(answer.code, 200, "{}", answer.body);
    let deployment = format!("{}/support-bot", drover_path("export-a", "modeldeployments"));
    let stable = json!({ "version": "v1.0.0", "tag": "llama3.2:1b", "digest": DIGEST, "alias": "a", "weight": 80 });
    let status = json!({ "status": { "stable": stable, "phase": "Progressing", "rolloutId": "r" } });
    let answer = side.ask("PATCH", &format!("merge:{deployment}/status"), &status).await;
    assert_eq!(answer.code, 200, "{}", answer.body);
    let marks = json!({ "metadata": {
        "annotations": { "drover.dev/promote": "r/0", "mine": "yes" },
        "labels": { "drover.dev/applied-by": "up" },
        "finalizers": ["drover.dev/aliases", "example.com/mine"],
    } });
    side.ask("PATCH", &format!("merge:{deployment}"), &marks).await;

    let node = |name: &str, owner: Value| json!({ "apiVersion": "drover.dev/v1alpha1", "kind": "OllamaNode", "metadata": { "name": name, "ownerReferences": owner }, "spec": { "url": "http://127.0.0.1:11434" } });
    let owner = |controller: bool| json!([{ "apiVersion": "example.com/v1", "kind": "Pool", "name": "p", "uid": "0", "controller": controller }]);
    let nodes = drover_path("export-b", "ollamanodes");
    make(side, &nodes, node("made-by-a-pool", owner(true))).await;
    make(side, &nodes, node("owned", owner(false))).await;
    let tricky = json!({ "apiVersion": "drover.dev/v1alpha1", "kind": "ModelVersion", "metadata": { "name": "tricky" }, "spec": {
        "model": "tricky", "version": "v0.0.1", "source": { "ollama": { "tag": "a/b:1e3" } },
        "parameters": { "stop": ["---", "no", "On", "y", "# x", "'", "1", "1_000", "0x1F", "12:30:45", "2001-01-01", ".5", "~", "=", "<<", "", " ", "a: b", "{", "\u{1}é漢🦙"], "temperature": 1e-7, "num_ctx": 4096, "f": 2.5 },
        "systemPrompt": { "version": "010", "text": "  first: |\n\ttab\n\n---\nlast  \n\n" },
        "changelog": "null",
    } });
    make(side, &drover_path("export-b", "modelversions"), tricky).await;
}

/// What users said, of every object of the two namespaces.
async fn said(side: &Side) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for namespace in ["export-a", "export-b"] {
        for plural in KINDS {
            let list = side.ask("GET", &drover_path(namespace, plural), &Value::Null).await.body;
            for object in list["items"].as_array().expect("a list") {
                let metadata = &object["metadata"];
                let name = format!("{namespace}/{plural}/{}", metadata["name"].as_str().expect("a name"));
                let note = &metadata["annotations"]["mine"];
                all.insert(name, json!([object["spec"], metadata["labels"], note, metadata["finalizers"]]));
            }
        }
    }
    all
}

/// Every file under a folder, by its path.
fn files(folder: &Path, root: &Path, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, root, found);
        } else {
            let name = path.strip_prefix(root).expect("under it").display().to_string();
            found.insert(name, fs::read_to_string(&path).expect("text"));
        }
    }
}

async fn exported(side: &Side, folder: &Path) -> (BTreeMap<String, String>, String) {
    let output = folder.display().to_string();
    let (success, stdout, notes) = drover(&["export", "-A", "-o", &output, "--secrets"], &side.kubeconfig).await;
    assert!(success && stdout.is_empty(), "{stdout}{notes}");
    let mut found = BTreeMap::new();
    files(folder, folder, &mut found);
    found.retain(|name, _| name.starts_with("export-"));
    (found, notes)
}

#[test]
fn what_is_exported_becomes_the_same_on_a_real_api_server() {
    scenario(|| async {
        let scratch = Scratch::new();
        let embedded = Embedded::start(&scratch.join("state")).await;
        let (side, real) = (Side::embedded(&embedded).await, real().await);
        furnish(&side).await;
        let (first, notes) = exported(&side, &scratch.join("first")).await;
        let expected = [
            "export-a/00-namespace.yaml",
            "export-a/apikey-docs.yaml",
            "export-a/fallbackchain-extract.yaml",
            "export-a/modelcatalog-ours.yaml",
            "export-a/modeldeployment-support-bot.yaml",
            "export-a/modelpull-llama.yaml",
            "export-a/modelversion-support-bot-v1.0.0.yaml",
            "export-a/modelversion-support-bot-v1.1.0.yaml",
            "export-a/ollamanode-gpu-1.yaml",
            "export-a/provider-openrouter.yaml",
            "export-a/routingprofile-code.yaml",
            "export-a/secret-registry-login.yaml",
            "export-a/worker-docs.yaml",
            "export-b/00-namespace.yaml",
            "export-b/modelversion-tricky.yaml",
            "export-b/ollamanode-owned.yaml",
        ];
        assert_eq!(first.keys().collect::<Vec<_>>(), expected);
        for words in [
            "OllamaNode export-b/owned: its owners are left out",
            "OllamaNode export-b/owned: http://127.0.0.1:11434 is an address of this machine only",
            "ModelVersion export-b/tricky: it has no digest yet",
            "ModelDeployment export-a/support-bot: v1.0.0 serves, v1.1.0 is asked for",
        ] {
            assert!(notes.contains(words), "{words}: {notes}");
        }
        let version = &first["export-a/modelversion-support-bot-v1.1.0.yaml"];
        assert!(version.starts_with("# spec.source.ollama.digest is what llama3.2:3b stood for"), "{version}");
        assert!(version.contains(DIGEST), "{version}");
        for (name, text) in &first {
            for word in [
                "uid",
                "resourceVersion",
                "managedFields",
                "generation",
                "status",
                "drover.dev/p",
                "creationT",
                "last-applied",
            ] {
                assert!(!text.contains(word), "{name} has {word}: {text}");
            }
        }

        let folder = scratch.join("first").display().to_string();
        let (applied, words) = real.run("kubectl", &["apply", "-R", "-f", &folder], "", &[]).await;
        assert!(applied, "{words}");
        let (mut here, there) = (said(&side).await, said(&real).await);
        assert!(here.remove("export-b/ollamanodes/made-by-a-pool").is_some());
        here.get_mut("export-a/modelversions/support-bot-v1.1.0").expect("it is there")[0]["source"]["ollama"]["digest"] =
            json!(DIGEST);
        let deployment = here.get_mut("export-a/modeldeployments/support-bot").expect("it is there");
        deployment[1] = Value::Null;
        deployment[3] = json!(["example.com/mine"]);
        assert_eq!(here, there);
        let secret = real.ask("GET", "/api/v1/namespaces/export-a/secrets/registry-login", &Value::Null).await.body;
        assert_eq!(secret["data"]["password"], "aGlkZGVuLXdvcmQ=");

        // An export of what became of it says the same.
        let (mut second, _) = exported(&real, &scratch.join("second")).await;
        let pinned = second.get_mut("export-a/modelversion-support-bot-v1.1.0.yaml").expect("it is there");
        *pinned = version.lines().next().expect("a comment").to_owned() + "\n" + pinned;
        assert_eq!(second, first);
    });
}

#[test]
fn an_export_is_as_much_as_was_asked_for() {
    scenario(|| async {
        let scratch = Scratch::new();
        let embedded = Embedded::start(&scratch.join("state")).await;
        let side = Side::embedded(&embedded).await;
        furnish(&side).await;
        let (success, text, notes) = drover(&["export", "-n", "export-a"], &side.kubeconfig).await;
        assert!(success, "{notes}");
        let documents = serde_yaml::Deserializer::from_str(&text);
        let kinds: Vec<_> = documents
            .map(|document| <Value as serde::Deserialize>::deserialize(document).expect("YAML")["kind"].clone())
            .collect();
        let expected = [
            "Namespace",
            "OllamaNode",
            "ModelPull",
            "ModelVersion",
            "ModelVersion",
            "ModelDeployment",
            "ApiKey",
            "Provider",
            "ModelCatalog",
            "RoutingProfile",
            "FallbackChain",
            "Worker",
        ];
        assert_eq!(kinds, expected);
        let left_out =
            "left out: Secret export-a/registry-login, which ModelPull llama needs; --secrets takes it along";
        assert!(notes.contains(left_out) && !(notes + &text).contains("hidden-word"));
        let (_, again, _) = drover(&["export", "-n", "export-a"], &side.kubeconfig).await;
        assert_eq!(text, again);

        // The kubeconfig's own namespace is empty, and everywhere.
        let (success, text, _) = drover(&["export"], &side.kubeconfig).await;
        assert!(success && text.is_empty(), "{text}");
        let folder = scratch.path().display().to_string();
        let (success, _, why) = drover(&["export", "-o", &folder], &side.kubeconfig).await;
        assert!(!success && why.contains("is not empty: name a new folder"), "{why}");
    });
}
