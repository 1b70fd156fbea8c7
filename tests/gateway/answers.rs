//! What comes back, and in which format.

use serde_json::{Value, json};

use crate::support::{Act, FakeNode, World, deployment, plain, table, version};

pub async fn one_version() -> (FakeNode, World) {
    let node = FakeNode::start("n1").await;
    let world = World::start(table(Some(deployment(version("v1.0.0", &[&node]), None)), &[])).await;
    (node, world)
}

#[tokio::test]
async fn a_chat_streams_by_default_and_names_the_tag_never_the_alias() {
    let (node, world) = one_version().await;
    let asked = json!({ "model": "support-bot", "messages": [{ "role": "user", "content": "hi" }] });
    let answer = world.post("/api/chat", &asked).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/x-ndjson"));
    assert_eq!(answer.content(), "Hello from n1");
    assert_eq!(answer.lines().len(), 4);
    assert!(answer.lines().iter().all(|line| line["model"] == "llama3.2:3b-v1.0.0"), "{}", answer.text);
    assert_eq!(node.only_body()["model"], "drover-0a1b2c3d/support-bot:v1.0.0");
    assert_eq!(node.only_body()["messages"], asked["messages"]);
    assert_eq!(node.requests()[0].0, "/api/chat");
}

#[tokio::test]
async fn without_a_stream_the_answer_comes_as_one_object() {
    let (_node, world) = one_version().await;
    let answer = world.post("/api/chat", &json!({ "model": "support-bot", "stream": false, "messages": [] })).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json; charset=utf-8"));
    let body = answer.json();
    assert_eq!(body["model"], "llama3.2:3b-v1.0.0");
    assert_eq!(body["message"]["content"], "Hello from n1");
    assert_eq!(body["done"], true);
    assert_eq!(body["eval_count"], 7);
}

#[tokio::test]
async fn headers_tell_about_the_answer() {
    let (_node, world) = one_version().await;
    for stream in [true, false] {
        let asked = json!({ "model": "support-bot", "stream": stream, "messages": [] });
        let answer = world.post("/api/chat", &asked).await;
        let facts = ["model", "digest", "version", "node", "attempts", "reason"];
        let facts = facts.map(|name| answer.header(&format!("x-drover-{name}")));
        let reason = "deployment support-bot: stable v1.0.0";
        assert_eq!(facts, ["llama3.2:3b-v1.0.0", "sha256:dddd", "v1.0.0", "n1", "1", reason]);
        assert_eq!(answer.header("x-drover-run-id").len(), 32);
        let other = world.post("/api/chat", &asked).await;
        assert_ne!(answer.header("x-drover-run-id"), other.header("x-drover-run-id"));
    }
}

#[tokio::test]
async fn plain_tags_are_called_by_any_of_their_spellings() {
    let node = FakeNode::start("n1").await;
    let world = World::start(table(None, &[plain("alpha:latest", &[&node])])).await;
    for name in ["alpha", "alpha:latest", "ALPHA", "library/alpha", "registry.ollama.ai/library/alpha:latest"] {
        let answer = world.post("/api/generate", &json!({ "model": name, "prompt": "hi", "stream": false })).await;
        assert_eq!((answer.status, &answer.json()["model"]), (200, &json!("alpha:latest")), "{name}");
        assert_eq!(answer.json()["response"], "Hello from n1");
        assert_eq!(answer.header("x-drover-version"), "");
        assert_eq!(answer.header("x-drover-reason"), "model alpha:latest: asked for by name");
    }
    assert_eq!(node.requests()[0].0, "/api/generate");
}

#[tokio::test]
async fn a_deployment_hides_a_tag_of_its_name_and_its_prefix_means_deployments_only() {
    let node = FakeNode::start("n1").await;
    let deployed = deployment(version("v1.0.0", &[&node]), None);
    let world =
        World::start(table(Some(deployed), &[plain("support-bot:latest", &[&node]), plain("a:b", &[&node])])).await;
    let model = async |name: &str| {
        let answer = world.post("/api/chat", &json!({ "model": name, "messages": [] })).await;
        (answer.status, answer.header("x-drover-model").to_owned())
    };
    assert_eq!(model("support-bot").await, (200, "llama3.2:3b-v1.0.0".into()));
    assert_eq!(model("deployment/support-bot").await, (200, "llama3.2:3b-v1.0.0".into()));
    assert_eq!(model("support-bot:latest").await, (200, "support-bot:latest".into()));
    assert_eq!(model("a:b").await.0, 200);
    assert_eq!(model("deployment/a:b").await.0, 404);
}

#[tokio::test]
async fn a_deployment_is_found_with_the_tag_that_many_clients_add() {
    let node = FakeNode::start("n1").await;
    let deployed = deployment(version("v1.0.0", &[&node]), None);
    let world = World::start(table(Some(deployed), &[plain("a:b", &[&node])])).await;
    for (name, status) in [
        ("support-bot:latest", 200),
        ("deployment/support-bot:latest", 200),
        ("support-bot:v1.0.0", 404),
        ("deployment/a:latest", 404),
    ] {
        let answer = world.post("/api/chat", &json!({ "model": name, "messages": [] })).await;
        assert_eq!(answer.status, status, "{name}");
    }
}

#[tokio::test]
async fn unknown_models_are_named_with_what_there_is_and_aliases_are_unknown() {
    let node = FakeNode::start("n1").await;
    let tags: Vec<_> = (1..=6).map(|n| plain(&format!("m{n}:latest"), &[&node])).collect();
    let hidden = plain("drover-0a1b2c3d/support-bot:v1.0.0", &[&node]);
    let deployed = deployment(version("v1.0.0", &[&node]), None);
    let world = World::start(table(Some(deployed), &[tags, vec![hidden]].concat())).await;
    for name in ["nope", "deployment/nope", "drover-0a1b2c3d/support-bot:v1.0.0", "DROVER-0A1B2C3D/support-bot:v1.0.0"]
    {
        let answer = world.post("/api/chat", &json!({ "model": name })).await;
        assert_eq!(answer.status, 404, "{name}");
        let error = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(error.contains(name) && error.contains("support-bot, m1:latest"), "{error}");
        assert!(error.ends_with("and 2 more"), "{error}");
        assert_eq!(answer.header("x-drover-run-id").len(), 32);
        assert_eq!(answer.header("x-drover-attempts"), "0");
    }
    let answer = world.post("/v1/chat/completions", &json!({ "model": "nope", "messages": [] })).await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (404, &json!("model_not_found")));
    assert_eq!(node.count(), 0);
}

#[tokio::test]
async fn lines_are_renamed_whatever_their_chunks() {
    let (node, world) = one_version().await;
    let whole = world.post("/api/chat", &json!({ "model": "support-bot", "messages": [] })).await.text;
    for size in [1, 2, 7, 30, 64, 1000] {
        node.chunk(size);
        let split = world.post("/api/chat", &json!({ "model": "support-bot", "messages": [] })).await.text;
        assert_eq!(split, whole, "in chunks of {size}");
    }
    let joined = whole.replace("llama3.2:3b-v1.0.0", "drover-0a1b2c3d/support-bot:v1.0.0");
    node.next(Act::Raw(joined.trim_end().into()));
    let joined = world.post("/api/chat", &json!({ "model": "support-bot", "messages": [] })).await.text;
    assert_eq!(joined, whole, "all in one chunk, without the last line end");
}

#[tokio::test]
async fn other_orders_and_spaces_of_the_nodes_json_are_renamed_too() {
    let (node, world) = one_version().await;
    let line = r#"{ "done": true, "message": {"content":"x"}, "model" : "drover-0a1b2c3d/support-bot:v1.0.0" }"#;
    for stream in [true, false] {
        node.next(Act::Raw(line.into()));
        let answer = world.post("/api/chat", &json!({ "model": "support-bot", "stream": stream })).await;
        let wanted = json!({ "done": true, "message": { "content": "x" }, "model": "llama3.2:3b-v1.0.0" });
        assert_eq!(answer.json(), wanted);
    }
}

#[tokio::test]
async fn wrong_requests_are_refused_in_the_callers_format() {
    let (node, world) = one_version().await;
    let check = async |path: &str, body: &str, status: u16, words: &str| {
        let answer = world.http.post(format!("{}{path}", world.url)).body(body.to_owned()).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{path} {body}");
        assert_eq!(answer.headers()["content-type"], "application/json");
        let body: Value = answer.json().await.unwrap();
        let error = if path.starts_with("/v1") { &body["error"]["message"] } else { &body["error"] };
        assert!(error.as_str().is_some_and(|error| error.contains(words)), "{error} has no {words:?}");
    };
    for path in ["/api/chat", "/api/generate", "/api/embed", "/api/embeddings", "/v1/chat/completions"] {
        check(path, "", 400, "must be a JSON object").await;
        check(path, "[1]", 400, "must be a JSON object").await;
        check(path, r#"{"model":"support-bot"} x"#, 400, "must be a JSON object").await;
        check(path, r#"{"messages":[]}"#, 400, "model is required").await;
        check(path, r#"{"model":7,"messages":[]}"#, 400, "model: invalid type").await;
        check(
            path,
            r#"{"model":"support-bot","messages":[],"stream":"secret"}"#,
            400,
            "stream: invalid type: string, expected",
        )
        .await;
    }
    for (options, words) in [
        (r#""options":[]"#, "options: invalid type"),
        (r#""options":{"num_ctx":"8k"}"#, "options.num_ctx"),
        (r#""options":{"num_ctx":0}"#, "options.num_ctx"),
        (r#""keep_alive":"soon""#, "keep_alive"),
        (r#""keep_alive":{}"#, "keep_alive"),
    ] {
        check("/api/chat", &format!(r#"{{"model":"support-bot",{options}}}"#), 400, words).await;
    }
    check("/api/nope", "{}", 404, "there is no /api/nope").await;
    check("/v1/nope", "{}", 404, "there is no /v1/nope").await;
    check("/api/tags", "{}", 405, "does not take POST").await;
    check("/v1/models", "{}", 405, "does not take POST").await;
    assert_eq!(world.get("/api/chat").await.status, 405);
    assert_eq!(node.count(), 0);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_and_the_gateway_goes_on() {
    let node = FakeNode::start("n1").await;
    let settings = drover::gateway::Settings { body_limit: 1000, ..Default::default() };
    let world = World::start_with(table(None, &[plain("alpha:latest", &[&node])]), settings).await;
    let long = "x".repeat(2000);
    for path in ["/api/generate", "/v1/chat/completions"] {
        let answer = world.post(path, &json!({ "model": "alpha", "prompt": long })).await;
        assert_eq!(answer.status, 413);
        assert!(answer.text.contains("longer than 1000 bytes"), "{}", answer.text);
        let chunks = futures::stream::iter(vec![long.clone(); 3].into_iter().map(Ok::<_, std::io::Error>));
        let unsized_body = reqwest::Body::wrap_stream(chunks);
        let answer = world.http.post(format!("{}{path}", world.url)).body(unsized_body).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 413);
    }
    assert_eq!(world.post("/api/generate", &json!({ "model": "alpha", "prompt": "x" })).await.status, 200);
}

#[tokio::test]
async fn every_spelling_of_a_field_that_ollama_would_take_is_the_gateways() {
    let node = FakeNode::start("n1").await;
    let world = World::start(table(None, &[plain("alpha:latest", &[&node]), plain("beta:latest", &[&node])])).await;
    let body = r#"{"model":"beta","MODEL":"alpha","\u212aeep_alive":0,"Stream":false,"OPTIONS":{"seed":1}}"#;
    let answer = world.http.post(format!("{}/api/generate", world.url)).body(body).send().await.unwrap();
    assert_eq!(answer.headers()["x-drover-model"], "alpha:latest");
    assert_eq!(
        node.only_body(),
        json!({ "model": "alpha:latest", "stream": false, "truncate": false, "options": { "seed": 1 } })
    );
}

#[tokio::test]
async fn clients_find_what_they_look_for_first() {
    let node = FakeNode::start("n1").await;
    let hidden = plain("drover-0a1b2c3d/support-bot:v1.0.0", &[&node]);
    let deployed = deployment(version("v1.0.0", &[&node]), None);
    let world = World::start(table(Some(deployed), &[plain("alpha:latest", &[&node]), hidden])).await;
    assert_eq!(world.get("/").await.text, "Ollama is running");
    assert_eq!(world.http.head(&world.url).send().await.unwrap().status().as_u16(), 200);
    assert_eq!(world.get("/api/version").await.json()["version"], "0.17.4");
    let tags = world.get("/api/tags").await.json();
    let names: Vec<_> = tags["models"].as_array().unwrap().iter().map(|model| model["name"].clone()).collect();
    assert_eq!(names, ["support-bot", "alpha:latest"]);
    assert_eq!(tags["models"][1]["digest"], "dddd");
    let models = world.get("/v1/models").await.json();
    assert_eq!(models["object"], "list");

    assert_eq!(
        models["data"][0],
        json!({ "id": "support-bot", "object": "model", "created": models["data"][0]["created"], "owned_by": "drover" })
    );
    assert_eq!(models["data"][0]["created"], "2026-11-20T20:00:00Z".parse::<jiff::Timestamp>().unwrap().as_second());
    assert_eq!(models["data"][1]["id"], "alpha:latest");
    assert_eq!(world.get("/v1/models/deployment/support-bot").await.json()["id"], "deployment/support-bot");
    assert_eq!(world.get("/v1/models/nope").await.json()["error"]["code"], "model_not_found");
}

#[tokio::test]
async fn stats_say_what_is_served_and_since_when() {
    let (_node, world) = one_version().await;
    let stats = world.stats().await;
    let deployment = &stats.deployments[0];
    assert_eq!((deployment.namespace.as_str(), deployment.name.as_str()), ("default", "support-bot"));
    assert_eq!((deployment.revision, deployment.rollout_id.as_str()), (7, "r1"));
    assert_eq!(deployment.since.to_string(), "2026-11-20T20:00:00Z");
    world.post("/api/chat", &json!({ "model": "support-bot" })).await;
    world.post("/api/chat", &json!({ "model": "support-bot", "stream": false })).await;
    assert_eq!(world.counts("v1.0.0").await, (2, 0));
}
