//! Profiles, chains and workers on the data path: which model answers, after which failures, and what is told of it.

use std::{sync::Arc, time::Duration};

use drover::gateway::Settings;
use serde_json::{Value, json};

use crate::support::{
    Act, Answer, FakeNode, World,
    declared::{Fleet, chat, model, steps, talks},
    key,
    provider::{Far, Reply, models, provider},
    with_keys,
};

fn with(mut request: Value, more: Value) -> Value {
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    request
}

fn says(text: &str, reason: &str) -> Act {
    Act::Say(vec![
        json!({ "message": { "role": "assistant", "content": text } }),
        json!({ "message": { "role": "assistant", "content": "" }, "done_reason": reason }),
    ])
}

fn schema() -> Value {
    json!({ "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"] })
}

/// Two nodes: `n1` has a small model, `n2` a big one.
async fn small_and_big() -> (Vec<FakeNode>, Fleet) {
    let nodes = FakeNode::start_many(2).await;
    let fleet = Fleet::default().node(&nodes[0], &[talks("small:1", "1B")]).node(&nodes[1], &[talks("big:1", "8B")]);
    (nodes, fleet)
}

fn step_failures(answer: &Answer) -> (u16, String, String) {
    (answer.status, answer.header("x-drover-model").to_owned(), answer.header("x-drover-attempts").to_owned())
}

#[tokio::test]
async fn each_failure_of_a_step_leads_to_the_next_one_and_is_recorded() {
    let (nodes, fleet) = small_and_big().await;
    let fleet = fleet.chain("extract", steps(&["small:1", "big:1"]));
    let world = World::start(fleet.table()).await;
    let failures = [
        (Act::Fail(500, "it broke".into()), json!({}), "it broke"),
        (Act::CutAfter(0), json!({}), ""),
        (says("no json", "stop"), json!({ "format": schema() }), "not JSON"),
        (says("{\"n\": \"x\"}", "stop"), json!({ "format": schema() }), "does not keep to"),
        (says("{\"n\": 1}", "length"), json!({ "format": schema() }), "cut by its length"),
        (says("", "stop"), json!({}), "empty"),
        (Act::Fail(400, "the input length exceeds the context length".into()), json!({}), "exceeds the context length"),
    ];
    for (act, more, _) in &failures {
        nodes[0].next(act.clone());
        nodes[1].next(says("{\"n\": 1}", "stop"));
        let answer = world.post("/api/chat", &with(chat("chain/extract"), more.clone())).await;
        assert_eq!(step_failures(&answer), (200, "big:1".into(), "2".into()), "{act:?}: {}", answer.text);
        assert_eq!(answer.content(), "{\"n\": 1}", "{act:?}");
        let reason = answer.header("x-drover-reason");
        assert!(reason.starts_with("chain extract, step 2 of 2: "), "{reason}");
        assert_eq!(answer.header("x-drover-schema-failure"), "");
    }
    assert_eq!((nodes[0].count(), nodes[1].count()), (failures.len(), failures.len()), "no target twice");
}

#[tokio::test]
async fn a_streamed_request_with_a_schema_is_answered_by_the_next_step_and_the_caller_sees_that_one_only() {
    let (nodes, fleet) = small_and_big().await;
    let world = World::start(fleet.chain("extract", steps(&["small:1", "big:1"])).table()).await;
    nodes[0].next(says("{\"n\": 1", "length"));
    nodes[1].next(says("{\"n\": 2}", "stop"));
    let asked = with(chat("extract"), json!({ "stream": true, "format": schema() }));
    let answer = world.post("/api/chat", &asked).await;
    assert_eq!((answer.status, answer.content().as_str()), (200, "{\"n\": 2}"), "{}", answer.text);
    assert!(answer.lines().iter().all(|line| line["model"] == "big:1"), "{}", answer.text);

    let asked = json!({ "model": "extract", "messages": [{ "role": "user", "content": "hi" }],
        "response_format": { "type": "json_schema", "json_schema": { "name": "n", "schema": schema() } } });
    nodes[0].next(says("sure!", "stop"));
    nodes[1].next(says("{\"n\": 3}", "stop"));
    let answer = world.post("/v1/chat/completions", &asked).await.json();
    assert_eq!(answer["choices"][0]["message"]["content"], "{\"n\": 3}", "{answer}");
}

#[tokio::test]
async fn failures_that_a_step_does_not_name_end_the_chain() {
    let (nodes, fleet) = small_and_big().await;
    let fleet = fleet.chain(
        "strict",
        json!({ "steps": [
        { "target": { "model": "small:1" }, "leaveOn": ["SchemaFailure"] },
        { "target": { "model": "big:1" } },
    ] }),
    );
    let world = World::start(fleet.table()).await;
    nodes[0].next(Act::Fail(500, "it broke".into()));
    let answer = world.post("/api/chat", &chat("strict")).await;
    assert_eq!(answer.status, 502, "{}", answer.text);
    assert!(answer.text.contains("it broke"), "{}", answer.text);
    nodes[0].next(says("no json", "stop"));
    let answer = world.post("/api/chat", &with(chat("strict"), json!({ "format": schema() }))).await;
    assert_eq!((answer.status, answer.header("x-drover-model")), (200, "big:1"), "{}", answer.text);
    nodes[0].next(Act::Fail(400, "temperature must be a number".into()));
    let answer = world.post("/api/chat", &chat("strict")).await;
    assert_eq!(answer.status, 400, "the caller's mistakes are the caller's: {}", answer.text);
}

#[tokio::test]
async fn attempts_deadline_timeout_and_retries_of_a_chain_are_kept() {
    let nodes = FakeNode::start_many(3).await;
    let fleet =
        nodes.iter().fold(Fleet::default(), |fleet, node| fleet.node(node, &[talks("a:1", "1B"), talks("b:1", "2B")]));
    let fleet = fleet
        .chain("few", json!({ "maxAttempts": 2, "steps": [{ "target": { "model": "a:1" } }, { "target": { "model": "b:1" } }] }))
        .chain("once", json!({ "steps": [{ "target": { "model": "a:1" }, "retries": 0 }, { "target": { "model": "b:1" }, "retries": 1 }] }))
        .chain("late", json!({ "deadline": "150ms", "steps": [{ "target": { "model": "a:1" } }, { "target": { "model": "b:1" } }] }));
    let world = World::start(fleet.table()).await;
    let failing = || nodes.iter().for_each(|node| node.always(Act::Fail(500, "it broke".into())));
    let asked = || nodes.iter().map(FakeNode::count).sum::<usize>();
    failing();
    assert_eq!(world.post("/api/chat", &chat("few")).await.status, 502);
    assert_eq!(asked(), 2, "no more than maxAttempts");
    assert_eq!(world.post("/api/chat", &chat("once")).await.status, 502);
    assert_eq!(asked(), 2 + 1 + 2, "one node, then two");

    nodes.iter().for_each(|node| node.always(Act::Answer));
    nodes.iter().for_each(|node| node.next(Act::Hold));
    let began = std::time::Instant::now();
    let answer = world.post("/api/chat", &chat("late")).await;
    assert_eq!(answer.status, 504, "{}", answer.text);
    assert!(began.elapsed() < Duration::from_secs(5));
    nodes.iter().for_each(FakeNode::let_go);
}

#[tokio::test]
async fn a_step_that_takes_too_long_is_left_for_the_next_one() {
    let (nodes, fleet) = small_and_big().await;
    let fleet = fleet.chain("slow", json!({ "steps": [
        { "target": { "model": "small:1" }, "timeout": "50ms", "leaveOn": ["Timeout"] }, { "target": { "model": "big:1" } }] }));
    let world = World::start(fleet.table()).await;
    nodes[0].next(Act::Hold);
    let answer = world.post("/api/chat", &chat("slow")).await;
    assert_eq!(step_failures(&answer), (200, "big:1".into(), "2".into()), "{}", answer.text);
    nodes[0].let_go();
    let answer = world.post("/api/chat", &chat("slow")).await;
    assert_eq!(answer.header("x-drover-model"), "small:1", "the node is as good as before");
}

#[tokio::test]
async fn a_stream_without_a_word_leaves_a_step_and_is_sent_by_the_last_one() {
    let (nodes, fleet) = small_and_big().await;
    let fleet = fleet.chain("extract", steps(&["small:1", "big:1"]));
    let world = World::start(fleet.table()).await;
    for path in ["/api/chat", "/v1/chat/completions", "/v1/messages"] {
        let asked = with(chat("extract"), json!({ "stream": true, "max_tokens": 9 }));
        nodes[0].next(says("", "stop"));
        nodes[1].next(says("from big", "stop"));
        let answer = world.post(path, &asked).await;
        assert_eq!(step_failures(&answer), (200, "big:1".into(), "2".into()), "{path}: {}", answer.text);
        assert!(answer.text.contains("from big"), "{path}: {}", answer.text);

        nodes[0].next(says("", "stop"));
        nodes[1].next(says("", "stop"));
        let answer = world.post(path, &asked).await;
        assert_eq!(step_failures(&answer), (200, "big:1".into(), "2".into()), "{path}: {}", answer.text);

        // A thought or a word is sent, and then there is no way back.
        let thought = json!({ "message": { "role": "assistant", "content": "", "thinking": "Hm." } });
        for first in [thought, json!({ "message": { "role": "assistant", "content": "A" } })] {
            let done = json!({ "message": { "role": "assistant", "content": "" }, "done_reason": "stop" });
            nodes[0].next(Act::Say(vec![first, done]));
            let answer = world.post(path, &asked).await;
            assert_eq!(step_failures(&answer), (200, "small:1".into(), "1".into()), "{path}: {}", answer.text);
        }
    }
}

#[tokio::test]
async fn loading_a_model_says_nothing_and_is_no_failure_of_a_step() {
    let (nodes, fleet) = small_and_big().await;
    let world = World::start(fleet.chain("extract", steps(&["small:1", "big:1"])).table()).await;
    for stream in [true, false] {
        nodes[0].next(says("", "load"));
        let answer = world.post("/api/chat", &json!({ "model": "extract", "stream": stream })).await;
        assert_eq!(step_failures(&answer), (200, "small:1".into(), "1".into()), "{}", answer.text);
    }
}

#[tokio::test]
async fn unavailable_targets_are_skipped_and_a_request_with_images_never_goes_to_a_model_that_is_blind() {
    let nodes = FakeNode::start_many(2).await;
    let fleet = Fleet::default()
        .node(&nodes[0], &[talks("small:1", "1B"), model("sees:1", "2B", &["completion", "vision"])])
        .node(&nodes[1], &[talks("gone:1", "1B")])
        .chain("mixed", steps(&["gone:1", "small:1", "sees:1"]));
    let mut fleet = fleet;
    let mut away = (*fleet.objects.nodes[1]).clone();
    away.status.as_mut().unwrap().conditions[0].status = drover::domain::conditions::ConditionStatus::False;
    fleet.objects.nodes[1] = away.into();
    let world = World::start(fleet.table()).await;
    let answer = world.post("/api/chat", &chat("mixed")).await;
    assert_eq!(step_failures(&answer), (200, "small:1".into(), "1".into()), "{}", answer.text);
    let image = json!({ "messages": [{ "role": "user", "content": "what?", "images": ["aGk="] }] });
    let answer = world.post("/api/chat", &with(chat("mixed"), image.clone())).await;
    assert_eq!((answer.status, answer.header("x-drover-model")), (200, "sees:1"), "{}", answer.text);
    let escaped = image.to_string().replace("images", "\\u0069mages");
    let asked = format!("{{\"model\":\"mixed\",\"stream\":false,{}", &escaped[1..]);
    let answer = world.http.post(format!("{}/api/chat", world.url)).body(asked).send().await.unwrap();
    assert_eq!(answer.headers()["x-drover-model"], "sees:1", "however the request is written");
    let answer = world.post("/api/chat", &with(chat("profile/code"), image)).await;
    assert_eq!(answer.status, 503);
    for candidate in ["small:1: it lacks code, vision", "sees:1: it lacks code", "gone:1: only n2 has it"] {
        assert!(answer.text.contains(candidate), "{candidate}: {}", answer.text);
    }
}

#[tokio::test]
async fn parameters_count_in_their_order_and_forced_ones_before_the_requests() {
    let (nodes, fleet) = small_and_big().await;
    let fleet = fleet
        .catalog(json!({ "entries": [{ "pattern": "small", "options": { "top_k": 1, "top_p": 0.1, "min_p": 0.1, "seed": 1, "num_ctx": 1024 } }] }))
        .profile("task", json!({ "families": ["small"], "parameters": { "top_k": 2, "top_p": 0.2, "min_p": 0.2 } }))
        .worker("docs", json!({ "model": "profile/task", "parameters": { "top_k": 3, "top_p": 0.3 } }))
        .chain("soft", json!({ "steps": [{ "target": { "worker": "docs" }, "parameters": { "top_k": 4 } }] }))
        .chain("hard", json!({ "steps": [{ "target": { "worker": "docs" }, "parameters": { "top_k": 4, "num_ctx": 2048 }, "force": true }] }));
    let world = World::start(fleet.table()).await;
    let sent = async |model: &str, options: Value| {
        let answer = world.post("/api/chat", &with(chat(model), json!({ "options": options }))).await;
        assert_eq!((answer.status, answer.header("x-drover-model")), (200, "small:1"), "{}", answer.text);
        let options = nodes[0].requests().last().unwrap().1["options"].clone();
        ["top_k", "top_p", "min_p", "seed", "num_ctx"].map(|name| options[name].clone())
    };
    let list = |values: [Value; 5]| Value::from(values.to_vec());
    assert_eq!(list(sent("small:1", json!({})).await), json!([1, 0.1, 0.1, 1, 1024]));
    assert_eq!(list(sent("profile/task", json!({})).await), json!([2, 0.2, 0.2, 1, 1024]));
    assert_eq!(list(sent("worker/docs", json!({})).await), json!([3, 0.3, 0.2, 1, 1024]));
    assert_eq!(list(sent("chain/soft", json!({})).await), json!([4, 0.3, 0.2, 1, 1024]));
    assert_eq!(list(sent("chain/soft", json!({ "top_k": 9 })).await), json!([9, 0.3, 0.2, 1, 1024]));
    assert_eq!(list(sent("chain/hard", json!({ "top_k": 9, "num_ctx": 512 })).await), json!([4, 0.3, 0.2, 1, 2048]));
}

#[tokio::test]
async fn a_worker_takes_another_model_for_one_message_and_tells_when_its_model_has_changed() {
    let (nodes, fleet) = small_and_big().await;
    let fleet = fleet
        .catalog(json!({ "defaults": { "fast": "small:1" } }))
        .worker("docs", json!({ "model": "auto:fast" }))
        .worker("sharp", json!({ "model": "auto:fast", "capabilities": ["tools"] }));
    let world = World::start(fleet.table()).await;
    let ask = async |body: Value, headers: &[(&str, &str)]| {
        let request =
            headers.iter().fold(world.request("/api/chat", &body), |r, (name, value)| r.header(*name, *value));
        Answer::read(request.send().await.unwrap()).await
    };
    let plain = ask(chat("docs"), &[]).await;
    let fingerprint = plain.header("x-drover-fingerprint").to_owned();
    assert_eq!((plain.header("x-drover-model"), fingerprint.len()), ("small:1", 16), "{}", plain.text);
    let reason = plain.header("x-drover-reason");
    assert!(reason.starts_with("worker docs: auto:fast: small:1 "), "{reason}");

    let other = ask(chat("docs"), &[("x-drover-worker-model", "big:1"), ("x-drover-fingerprint", &fingerprint)]).await;
    assert_eq!((other.header("x-drover-model"), other.header("x-drover-fingerprint-changed")), ("big:1", "true"));
    let same = ask(chat("docs"), &[("x-drover-fingerprint", &fingerprint)]).await;
    assert_eq!(same.header("x-drover-fingerprint-changed"), "");
    let body = with(chat("docs"), json!({ "drover": { "model": "profile/general", "forceNew": true } }));
    assert_eq!(ask(body, &[]).await.header("x-drover-model"), "big:1", "the biggest of general");
    assert!(nodes[1].requests().iter().all(|(_, body)| body.get("drover").is_none()), "nodes never see it");

    let required = ask(chat("docs"), &[("x-drover-require-fingerprint", &fingerprint)]).await;
    assert_eq!(required.status, 200, "{}", required.text);
    let required = ask(chat("docs"), &[("x-drover-require-fingerprint", "0000000000000000")]).await;
    assert_eq!((required.status, required.text.contains("begin a new session")), (409, true), "{}", required.text);
    let unknown = ask(chat("docs"), &[("x-drover-worker-model", "smal:1")]).await;
    assert_eq!((unknown.status, unknown.text.contains("did you mean small:1")), (404, true), "{}", unknown.text);
    let misplaced = ask(chat("small:1"), &[("x-drover-worker-model", "big:1")]).await;
    assert_eq!(misplaced.status, 400, "{}", misplaced.text);
    let wrong = ask(chat("docs"), &[("x-drover-worker-policy", "Sometimes")]).await;
    assert_eq!(wrong.status, 400, "{}", wrong.text);
}

#[tokio::test]
async fn names_that_stand_for_nothing_get_the_nearest_ones_and_keys_hold_for_every_reference() {
    let (_nodes, fleet) = small_and_big().await;
    let fleet = fleet
        .chain("extract", steps(&["small:1"]))
        .profile("task", json!({}))
        .worker("docs", json!({ "model": "small:1" }));
    let limited = |models: &[&str]| drover::routing_table::Key {
        models: Some(models.iter().map(|&model| model.into()).collect()),
        ..key("k")
    };
    let table = with_keys(fleet.table(), [("a", limited(&["small:*"])), ("b", limited(&["extract", "worker/docs"]))]);
    let world = World::start_with(table, Settings::default()).await;
    for (name, near) in [
        ("chain/extrakt", "chain/extract"),
        ("worker/doc", "worker/docs"),
        ("auto:fest", "auto:fast"),
        ("smal:1", "small:1"),
    ] {
        let answer = world.post("/api/chat", &chat(name)).await;
        assert_eq!(
            (answer.status, answer.text.contains(&format!("did you mean {near}"))),
            (404, true),
            "{}",
            answer.text
        );
    }
    let status = async |name: &str, key: &str| {
        let answer = world.request("/api/chat", &chat(name)).bearer_auth(key).send().await.unwrap();
        answer.status().as_u16()
    };
    let rows = [
        ("chain/extract", 200, 200), // of the first key: all that it comes to
        ("worker/docs", 200, 200),
        ("docs", 200, 200),
        ("profile/task", 403, 403), // comes to big:1, too
        ("small:1", 200, 403),
        ("big:1", 403, 403),
    ];
    for (name, first, second) in rows {
        assert_eq!((status(name, "a").await, status(name, "b").await), (first, second), "{name}");
    }
}

#[tokio::test]
async fn each_request_sees_one_version_of_a_chain_that_is_edited() {
    let (nodes, fleet) = small_and_big().await;
    let before = fleet.chain("extract", steps(&["small:1", "big:1"])).table();
    let after = Fleet::default().node(&nodes[1], &[talks("big:1", "8B")]).chain("extract", steps(&["big:1"])).table();
    let world = World::start(before).await;
    nodes[0].next(Act::HoldThenCut);
    let asked = chat("chain/extract");
    let swap = async {
        crate::support::eventually(1, || nodes[0].in_flight()).await;
        world.table.store(after.into());
        let newer = world.post("/api/chat", &asked).await;
        nodes[0].let_go();
        newer
    };
    let (older, newer) = tokio::join!(world.post("/api/chat", &asked), swap);
    assert!(
        older.header("x-drover-reason").starts_with("chain extract, step 2 of 2: "),
        "{}",
        older.header("x-drover-reason")
    );
    assert!(
        newer.header("x-drover-reason").starts_with("chain extract, step 1 of 1: "),
        "{}",
        newer.header("x-drover-reason")
    );
}

#[tokio::test]
async fn a_profile_by_latency_follows_what_was_measured_and_does_not_flap() {
    let (nodes, fleet) = small_and_big().await;
    let world = World::start(fleet.profile("quick", json!({ "objective": "latency" })).table()).await;
    nodes[0].work(Duration::from_millis(30));
    for model in ["small:1", "big:1"] {
        assert_eq!(world.post("/api/chat", &chat(model)).await.status, 200);
    }
    let answer = world.post("/api/chat", &chat("profile/quick")).await;
    assert_eq!(answer.header("x-drover-model"), "big:1", "small:1 is slower: {}", answer.header("x-drover-reason"));
    assert!(answer.header("x-drover-reason").contains("is the fastest"), "{}", answer.header("x-drover-reason"));
    for _ in 0..20 {
        assert_eq!(world.post("/api/chat", &chat("profile/quick")).await.header("x-drover-model"), "big:1");
    }
}

#[tokio::test]
async fn a_provider_is_a_step_like_any_other() {
    let (nodes, mut fleet) = small_and_big().await;
    let far = Far::start().await;
    fleet.objects.providers.push(Arc::new(provider("OpenAI", &far.url, models(&["gpt-4o-mini"]))));
    let fleet = fleet.chain(
        "mixed",
        json!({ "steps": [
        { "target": { "model": "small:1" } },
        { "target": { "provider": { "name": "far", "model": "gpt-4o-mini" } } },
    ] }),
    );
    let world = World::start(fleet.table()).await;
    nodes[0].next(Act::Fail(500, "it broke".into()));
    far.next(Reply::json(
        200,
        json!({ "choices": [{ "message": { "role": "assistant", "content": "from afar" }, "finish_reason": "stop" }] }),
    ));
    let answer = world.post("/api/chat", &chat("mixed")).await;
    assert_eq!(step_failures(&answer), (200, "provider/far/gpt-4o-mini".into(), "2".into()), "{}", answer.text);
    assert_eq!(answer.content(), "from afar");
}

#[tokio::test]
async fn explaining_prints_the_walk_and_asks_nobody() {
    let (nodes, fleet) = small_and_big().await;
    let fleet = fleet
        .profile("task", json!({ "maxParameters": "2B", "overrides": ["gone:1"] }))
        .worker("docs", json!({ "model": "chain/extract" }))
        .chain("extract", json!({ "deadline": "30s", "steps": [
            { "target": { "profile": "task" }, "leaveOn": ["SchemaFailure"], "parameters": { "top_k": 7 } }, { "target": { "model": "big:1" } }] }));
    let world = World::start(fleet.table()).await;
    let told = world.post("/drover/v1/explain", &chat("worker/docs")).await.json();
    let walk: Vec<&str> = told["walk"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    for line in [
        "worker docs (Dynamic) asks for chain/extract",
        "chain extract: at most 5 attempts within 30s",
        "step 1: profile/task, left on SchemaFailure",
        "suits: small:1",
        "override gone:1: there is no such model",
        "not big:1: 8B parameters, at most 2B are wanted",
        "step 2: big:1, left on any failure",
    ] {
        assert!(walk.iter().any(|told| told.contains(line)), "{line}: {walk:#?}");
    }
    assert_eq!(told["found"], json!({ "kind": "worker", "name": "docs" }));
    let steps: Vec<_> = told["steps"].as_array().unwrap().iter().map(|step| step["model"].as_str().unwrap()).collect();
    assert_eq!(steps, ["small:1", "big:1"]);
    assert_eq!(told["parameters"]["top_k"], json!({ "value": 7, "source": "step" }), "{told}");
    assert_eq!(nodes[0].count() + nodes[1].count(), 0);
}

#[test]
fn chains_in_files_are_checked_without_a_cluster() {
    let dir = crate::parts::Scratch::new();
    let lint = |text: &str| {
        let file = dir.join("chains.yaml");
        std::fs::write(&file, text).unwrap();
        let command =
            std::process::Command::new(env!("CARGO_BIN_EXE_drover")).args(["chain", "lint"]).arg(&file).output();
        let output = command.unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let chain = |name: &str, steps: &str| {
        format!(
            "---\napiVersion: drover.dev/v1alpha1\nkind: FallbackChain\nmetadata: {{name: {name}}}\nspec: {{steps: {steps}}}\n"
        )
    };
    let targets = "[{target: {model: 'llama3.2:1b'}}, {target: {deployment: bot}}, {target: {profile: ours}}, \
        {target: {worker: docs}}, {target: {provider: {name: far, model: a/b}}}, {target: {model: 'auto:night'}}]";
    assert_eq!(lint(&chain("fine", targets)), (Some(0), "chains that are fine: 1\n".into()));
    let rows = [
        ("[]", "Empty"),
        ("[{target: {chain: bad}}]", "Cycle"),
        ("[{target: {model: a}}, {target: {chain: other}}]", "Cycle"),
        ("[{target: {}}]", "InvalidSpec"),
        ("[{target: {model: a, chain: b}}]", "InvalidSpec"),
        ("[{target: {model: a}, schema: {type: nonsense}}]", "InvalidSpec"),
    ];
    for (steps, reason) in rows {
        let (code, told) = lint(&(chain("bad", steps) + &chain("other", "[{target: {chain: bad}}]")));
        assert_eq!((code, told.contains(&format!("bad: {reason}: "))), (Some(1), true), "{steps}: {told}");
    }
}
