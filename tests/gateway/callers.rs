//! Keys: who is let in, to what, and how much of it.

use std::time::Duration;

use drover::{
    domain::caller::{Limits, RequireKey},
    gateway::{Settings, recorder::Recorder},
    records::WhenDown,
    routing_table::Key,
};
use prometheus_client::registry::Registry;
use reqwest::{Method, header::HeaderMap};
use serde_json::{Value, json};

use crate::{
    clients::python,
    parts::{Scratch, network::Network},
    records::Store,
    support::{
        Act, Answer, FakeNode, World, deployment, eventually, key, plain, real::real, table, version, with_keys,
    },
};

const SECRET: &str = "drv_of-docs";
const OTHER: &str = "drv_of-others";

/// A gateway that asks everybody for a key, over a node with `support-bot` and `llama3.2:3b`.
async fn asking(keys: impl IntoIterator<Item = (&'static str, Key)>) -> (FakeNode, World) {
    let settings = Settings { require_key: RequireKey::Everybody, ..Settings::default() };
    serving(keys, settings).await
}

async fn serving(keys: impl IntoIterator<Item = (&'static str, Key)>, settings: Settings) -> (FakeNode, World) {
    let node = FakeNode::start("n1").await;
    let models = table(Some(deployment(version("v1.0.0", &[&node]), None)), &[plain("llama3.2:3b", &[&node])]);
    let world = World::start_with(with_keys(models, keys), settings).await;
    (node, world)
}

/// A key for these models.
fn only(models: &[&str]) -> Key {
    Key { models: Some(models.iter().map(ToString::to_string).collect()), ..key("docs") }
}

fn chat(model: &str) -> Value {
    json!({ "model": model, "stream": false, "max_tokens": 16, "messages": [{ "role": "user", "content": "Hello" }] })
}

impl World {
    /// What `/metrics` shows.
    fn metrics(&self) -> String {
        let (mut registry, mut text) = (Registry::default(), String::new());
        self.gateway.meters().register(&mut Registry::default(), &mut registry);
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    /// Asks with this header.
    async fn ask_as(&self, path: &str, (name, value): (&str, &str), body: Option<&Value>) -> Answer {
        let method = if body.is_some() { Method::POST } else { Method::GET };
        let request = self.http.request(method, format!("{}{path}", self.url)).header(name, value);
        let request = request.body(body.map(Value::to_string).unwrap_or_default());
        Answer::read(request.send().await.unwrap()).await
    }

    /// One chat with a key.
    async fn chat_with(&self, secret: &str, model: &str) -> Answer {
        self.ask_as("/api/chat", ("authorization", &format!("Bearer {secret}")), Some(&chat(model))).await
    }
}

/// The message and, where there is one, the code of an error in the format of its path.
#[track_caller]
fn error(path: &str, answer: &Answer) -> (String, String) {
    let body = answer.json();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if path.starts_with("/api/") {
        return (text(&body["error"]), String::new());
    }
    let code = if path == "/v1/messages" { "type" } else { "code" };
    (text(&body["error"]["message"]), text(&body["error"][code]))
}

const PATHS: [(&str, &str); 4] = [
    ("/api/chat", ""),
    ("/v1/chat/completions", "invalid_api_key"),
    ("/v1/responses", "invalid_api_key"),
    ("/v1/messages", "authentication_error"),
];

#[tokio::test]
async fn whoever_has_no_key_that_is_known_is_told_so_in_the_callers_format() {
    let (node, world) = asking([(SECRET, key("docs"))]).await;
    for (path, code) in PATHS {
        let none = world.post(path, &chat("support-bot")).await;
        let unknown = world.ask_as(path, ("x-api-key", OTHER), Some(&chat("support-bot"))).await;
        for (answer, words) in [(none, "a key is needed"), (unknown, "not known here")] {
            assert_eq!((answer.status, answer.header("www-authenticate")), (401, "Bearer"), "{path}");
            let (message, found) = error(path, &answer);
            assert!(message.contains(words) && !message.contains(OTHER), "{path}: {message}");
            assert_eq!(found, code, "{path}: {}", answer.text);
        }
    }
    for path in ["/api/tags", "/api/ps", "/v1/models", "/v1/models/support-bot", "/drover/v1/runs"] {
        assert_eq!(world.get(path).await.status, 401, "{path}");
    }
    assert_eq!(world.post("/api/show", &json!({ "model": "support-bot" })).await.status, 401);
    for path in ["/", "/api/version", "/drover/v1/stats"] {
        assert_eq!(world.get(path).await.status, 200, "{path}");
    }
    assert_eq!(node.count(), 0);
}

#[tokio::test]
async fn a_key_is_taken_from_either_header() {
    let (_node, world) = asking([(SECRET, key("docs"))]).await;
    for header in [
        ("authorization", format!("Bearer {SECRET}")),
        ("authorization", format!("bearer   {SECRET} ")),
        ("x-api-key", SECRET.to_owned()),
    ] {
        let answer = world.ask_as("/api/chat", (header.0, &header.1), Some(&chat("support-bot"))).await;
        assert_eq!(answer.status, 200, "{header:?}: {}", answer.text);
    }
    for value in [SECRET.to_owned(), format!("Basic {SECRET}"), "Bearer".into(), format!("Bearer {SECRET}x")] {
        let answer = world.ask_as("/api/chat", ("authorization", &value), Some(&chat("support-bot"))).await;
        assert_eq!(answer.status, 401, "{value}");
    }
    // A client's own dummy in one header doesn't hide the key in the other.
    let headers: HeaderMap = [("authorization", "Bearer ollama"), ("x-api-key", SECRET)]
        .map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap()))
        .into_iter()
        .collect();
    let answer = world.request("/api/chat", &chat("support-bot")).headers(headers).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn where_nobody_is_asked_any_text_will_do_and_a_known_key_still_counts() {
    let limits = Limits { requests_per_minute: Some(1), ..Limits::default() };
    let keys = [(SECRET, Key { limits, ..key("docs") }), (OTHER, Key { disabled: true, ..key("old") })];
    let (_node, world) = serving(keys, Settings::default()).await;
    for secret in ["ollama", "sk-none", "drv_unknown"] {
        assert_eq!(world.chat_with(secret, "support-bot").await.status, 200, "{secret}");
    }
    assert_eq!(world.chat_with(SECRET, "support-bot").await.status, 200);
    assert_eq!(world.chat_with(SECRET, "support-bot").await.status, 429);
    assert_eq!(world.chat_with(OTHER, "support-bot").await.status, 401);
    // Somebody elsewhere, by a proxy on this machine, is asked.
    let forwarded = world.ask_as("/api/chat", ("x-forwarded-for", "203.0.113.7"), Some(&chat("support-bot"))).await;
    assert_eq!(forwarded.status, 401);
}

#[tokio::test]
async fn callers_from_elsewhere_are_asked_unless_somebody_says_otherwise() {
    let network = Network::start();
    for (policy, expected) in [("remote", [401, 200]), ("nobody", [404, 200]), ("everybody", [401, 200])] {
        let settings = Settings { require_key: policy.parse().unwrap(), ..Settings::default() };
        let models = with_keys(table(None, &[]), [(SECRET, key("docs"))]);
        let world = World::start_at(&network.first(), models, settings, Recorder::default()).await;
        let with_key = world.ask_as("/v1/models", ("x-api-key", SECRET), None).await;
        assert_eq!([world.post("/api/chat", &chat("bot")).await.status, with_key.status], expected, "{policy}");
        // What the controller asks for.
        assert_eq!(world.get("/drover/v1/stats").await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn official_clients_send_keys_and_raise_errors_of_their_own() {
    let dir = Scratch::new();
    let (_node, open) = real(&dir).await;
    let once = Limits { requests_per_minute: Some(1), ..Limits::default() };
    let keys = [(SECRET, only(&["support-bot"])), (OTHER, Key { limits: once, ..only(&["support-bot"]) })];
    let mut models = (**open.table.load()).clone();
    let others = table(None, &[plain("other:1", &[])]).namespaces.remove("default").unwrap().tags;
    models.namespaces.get_mut("default").unwrap().tags.extend(others);
    let settings = Settings { require_key: RequireKey::Everybody, ..Settings::default() };
    let world = World::start_with(with_keys(models, keys), settings).await;
    python("keys_client.py", &[&world.url, SECRET, OTHER]).await;
}

#[tokio::test]
async fn runs_are_shown_to_their_callers_alone() {
    let dir = Scratch::new();
    let store = Store::in_folder(dir.path());
    let node = FakeNode::start("n1").await;
    let models = table(Some(deployment(version("v1.0.0", &[&node]), None)), &[]);
    let models = with_keys(models, [(SECRET, key("docs")), (OTHER, key("others"))]);
    let recorder = Recorder::storing(store.records.clone(), WhenDown::Refuse, true);
    let world = World::start_recording(models, Settings::default(), recorder).await;
    let own = world.chat_with(SECRET, "support-bot").await.header("x-drover-run-id").to_owned();
    let foreign = world.chat_with(OTHER, "support-bot").await.header("x-drover-run-id").to_owned();
    let nobodys = world.post("/api/chat", &chat("support-bot")).await.header("x-drover-run-id").to_owned();

    let with = ("x-api-key", SECRET);
    let listed = world.ask_as("/drover/v1/runs", with, None).await.json();
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!((&listed["items"][0]["id"], &listed["items"][0]["caller"]), (&json!(own), &json!("docs")));
    assert_eq!(world.ask_as("/drover/v1/runs?caller=others", with, None).await.status, 403);
    assert_eq!(world.get("/drover/v1/runs").await.json()["items"].as_array().map(Vec::len), Some(3));
    let praise = json!({ "score": 1.0 });
    for (id, expected) in [(own, 200), (foreign, 404), (nobodys, 404)] {
        let path = format!("/drover/v1/runs/{id}");
        assert_eq!(world.ask_as(&path, with, None).await.status, expected);
        assert_eq!(world.ask_as(&format!("{path}/feedback"), with, Some(&praise)).await.status, expected);
        assert_eq!(world.ask_as(&format!("{path}/replay"), with, Some(&chat("support-bot"))).await.status, expected);
    }
    let again = world.ask_as("/drover/v1/runs", with, None).await.json();
    assert_eq!(again["items"].as_array().map(Vec::len), Some(2), "the replay is the caller's, too: {again}");
}

#[tokio::test]
async fn a_key_that_ended_or_is_disabled_is_named_with_the_reason() {
    let ended = Key { expires_at: Some("2020-01-01T00:00:00Z".parse().unwrap()), ..key("ended") };
    let later = Key { expires_at: Some("2999-01-01T00:00:00Z".parse().unwrap()), ..key("later") };
    let (_node, world) = asking([(SECRET, ended), (OTHER, Key { disabled: true, ..key("off") }), ("c", later)]).await;
    let answer = world.chat_with(SECRET, "support-bot").await;
    assert_eq!(answer.status, 401);
    assert!(answer.text.contains("key ended") && answer.text.contains("2020-01-01"), "{}", answer.text);
    let answer = world.chat_with(OTHER, "support-bot").await;
    assert!(answer.status == 401 && answer.text.contains("key off is disabled"), "{}", answer.text);
    assert_eq!(world.chat_with("c", "support-bot").await.status, 200);
}

#[tokio::test]
async fn a_key_is_good_for_its_models_alone() {
    let (node, world) = asking([(SECRET, only(&["LLAMA3.2:*"])), (OTHER, only(&["deployment/*"]))]).await;
    assert_eq!(world.chat_with(SECRET, "llama3.2:3b").await.status, 200);
    assert_eq!(world.chat_with(OTHER, "support-bot").await.status, 200);
    for (path, code) in
        [("/api/chat", ""), ("/v1/chat/completions", "model_not_allowed"), ("/v1/messages", "permission_error")]
    {
        let answer = world.ask_as(path, ("x-api-key", SECRET), Some(&chat("deployment/support-bot"))).await;
        assert_eq!(answer.status, 403, "{path}: {}", answer.text);
        let (message, found) = error(path, &answer);
        assert!(message.contains("key docs") && message.contains("support-bot"), "{message}");
        assert_eq!(found, code);
    }
    assert_eq!(world.chat_with(OTHER, "llama3.2:3b").await.status, 403);
    // What is not for it is not listed either, not even by an error.
    let with = ("x-api-key", SECRET);
    for path in ["/api/tags", "/v1/models"] {
        let listed = world.ask_as(path, with, None).await.text;
        assert!(listed.contains("llama3.2:3b") && !listed.contains("support-bot"), "{path}: {listed}");
    }
    let missing = world.chat_with(SECRET, "gpt-4").await;
    assert!(missing.status == 404 && !missing.text.contains("support-bot"), "{}", missing.text);
    assert_eq!(world.ask_as("/v1/models/support-bot", with, None).await.status, 403);
    assert_eq!(world.ask_as("/api/show", with, Some(&json!({ "model": "support-bot" }))).await.status, 403);
    assert_eq!(node.count(), 2);
}

#[tokio::test]
async fn explaining_needs_the_key_that_the_request_would_need_and_tells_of_its_models_alone() {
    let (node, world) = asking([(SECRET, only(&["llama3.2:*"]))]).await;
    let explain =
        async |secret, model| world.ask_as("/drover/v1/explain", ("x-api-key", secret), Some(&chat(model))).await;
    assert_eq!(explain("nobody's", "llama3.2:3b").await.status, 401);
    let (told, refused) = (explain(SECRET, "support-bot").await, world.chat_with(SECRET, "support-bot").await);
    assert_eq!((told.status, &told.text), (403, &refused.text));
    assert_eq!(explain(SECRET, "llama3.2:3b").await.json()["resolved"]["node"], "n1");
    assert_eq!(node.count(), 0);
}

#[tokio::test]
async fn requests_per_minute_are_limited_for_each_key_by_itself() {
    let limits = Limits { requests_per_minute: Some(2), ..Limits::default() };
    let limited = |name: &str, gateways| Key { limits, gateways, ..key(name) };
    let (node, world) = asking([(SECRET, limited("docs", 1)), (OTHER, limited("others", 3))]).await;
    for secret in [SECRET, OTHER] {
        assert_eq!(world.chat_with(secret, "support-bot").await.status, 200);
        assert_eq!(world.chat_with(secret, "support-bot").await.status, 200);
    }
    let answer = world.chat_with(SECRET, "support-bot").await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, "30"), "{}", answer.text);
    assert!(answer.text.contains("key docs") && answer.text.contains("2 requests per minute"), "{}", answer.text);
    let shared = world.chat_with(OTHER, "support-bot").await;
    assert!(shared.status == 429 && shared.text.contains("one of 3"), "{}", shared.text);
    for (path, code) in [("/v1/chat/completions", "rate_limit_exceeded"), ("/v1/messages", "rate_limit_error")] {
        let answer = world.ask_as(path, ("x-api-key", SECRET), Some(&chat("support-bot"))).await;
        assert_eq!((answer.status, error(path, &answer).1.as_str()), (429, code), "{}", answer.text);
    }
    assert_eq!(node.count(), 4);
    // A new table gives nothing back.
    world.table.store(
        with_keys(
            (**world.table.load()).clone(),
            [(SECRET, Key { allow_model_operations: true, ..limited("docs", 1) })],
        )
        .into(),
    );
    assert_eq!(world.chat_with(SECRET, "support-bot").await.status, 429);
}

#[tokio::test]
async fn whoever_is_refused_is_counted_by_the_reason() {
    let limits = Limits { requests_per_minute: Some(1), ..Limits::default() };
    let (_node, world) = asking([(SECRET, only(&["llama3.2:*"])), (OTHER, Key { limits, ..key("few") })]).await;
    let mut got = Vec::new();
    for secret in ["nobody's", "nobody's", SECRET, OTHER, OTHER] {
        got.push(world.chat_with(secret, "support-bot").await.status);
    }
    assert_eq!(got, [401, 401, 403, 200, 429]);
    let metrics = world.metrics();
    for (code, count) in [("invalid_api_key", 2), ("model_not_allowed", 1), ("rate_limit_exceeded", 1)] {
        let line = format!("gateway_refused_callers_total{{code=\"{code}\"}} {count}\n");
        assert!(metrics.contains(&line), "no {line} in\n{metrics}");
    }
}

#[tokio::test]
async fn tokens_are_counted_when_the_answer_ends() {
    // The node says of each answer that it read 11 tokens and wrote 7.
    let limits = Limits { tokens_per_minute: Some(20), ..Limits::default() };
    let (_node, world) = asking([(SECRET, Key { limits, ..key("docs") })]).await;
    for _ in 0..2 {
        let answer = world.chat_with(SECRET, "support-bot").await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    let answer = world.chat_with(SECRET, "support-bot").await;
    assert_eq!(answer.status, 429);
    assert!(answer.text.contains("20 tokens per minute"), "{}", answer.text);
    let wait: u32 = answer.header("retry-after").parse().unwrap();
    assert!((45..=60).contains(&wait), "16 tokens too many at one in three seconds: {wait}");
}

#[tokio::test]
async fn who_hangs_up_in_an_answer_pays_for_what_came_of_it() {
    let limits = Limits { tokens_per_minute: Some(1), ..Limits::default() };
    let (node, world) = asking([(SECRET, Key { limits, ..key("docs") })]).await;
    node.next(Act::HoldAfter(1));
    let request = world.request("/api/chat", &json!({ "model": "support-bot" })).header("x-api-key", SECRET);
    let mut answer = request.send().await.unwrap();
    assert!(answer.chunk().await.unwrap().is_some());
    drop(answer);
    eventually(0, || node.in_flight()).await;
    let next = world.chat_with(SECRET, "support-bot").await;
    assert!(next.status == 429 && next.text.contains("1 tokens per minute"), "{} {}", next.status, next.text);
}

#[tokio::test]
async fn requests_at_once_are_counted_to_the_end_of_their_answers_or_their_callers() {
    let limits = Limits { max_concurrent_requests: Some(1), ..Limits::default() };
    let (node, world) = asking([(SECRET, Key { limits, ..key("docs") }), (OTHER, key("others"))]).await;
    let stream = json!({ "model": "support-bot" });
    let begin = async || {
        node.next(Act::HoldAfter(1));
        world.request("/api/chat", &stream).header("x-api-key", SECRET).send().await.unwrap()
    };
    let first = begin().await;
    let answer = world.chat_with(SECRET, "support-bot").await;
    assert!(answer.status == 429 && answer.text.contains("1 requests at once"), "{}", answer.text);
    assert_eq!(world.chat_with(OTHER, "support-bot").await.status, 200);
    // One whose caller hangs up counts no longer, and neither does one that ended.
    drop(first);
    until_free(&world).await;
    let second = begin().await;
    assert_eq!(world.chat_with(SECRET, "support-bot").await.status, 429);
    node.let_go();
    assert!(second.text().await.unwrap().contains("\"done\":true"));
    until_free(&world).await;
}

async fn until_free(world: &World) {
    for _ in 0..1000 {
        if world.chat_with(SECRET, "support-bot").await.status == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the place is never free");
}

#[tokio::test]
async fn callers_who_wait_for_a_place_take_turns_by_their_keys() {
    let (node, world) = asking([(SECRET, key("docs")), (OTHER, key("others"))]).await;
    let world = &world;
    let ask = async |secret: &'static str, words: String| {
        let body =
            json!({ "model": "support-bot", "stream": false, "messages": [{ "role": "user", "content": words }] });
        let answer = world.ask_as("/api/chat", ("x-api-key", secret), Some(&body)).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    };
    // The node has room for four.
    node.always(Act::HoldAfter(0));
    let many = futures::future::join_all((0..20).map(|turn| ask(SECRET, format!("docs {turn}"))));
    let others = async {
        eventually(4, || node.in_flight()).await;
        ask(OTHER, "others".into()).await;
    };
    let free = async {
        eventually(true, || world.metrics().contains("in_flight_requests 21")).await;
        node.let_go();
    };
    tokio::join!(many, others, free);
    let asked: Vec<String> = node.requests().iter().map(|(_, body)| body["messages"].to_string()).collect();
    let place = asked.iter().position(|messages| messages.contains("others")).expect("it was asked");
    assert!(place <= 6, "the one request of the other caller came in place {place}: {asked:?}");
}

#[tokio::test]
async fn a_key_that_is_taken_back_is_refused_at_the_next_request() {
    let (_node, world) = asking([(SECRET, key("docs"))]).await;
    assert_eq!(world.chat_with(SECRET, "support-bot").await.status, 200);
    assert_eq!(world.stats().await.keys[0].name, "docs");
    world.table.store(with_keys((**world.table.load()).clone(), []).into());
    assert_eq!(world.chat_with(SECRET, "support-bot").await.status, 401);
    assert!(world.stats().await.keys.is_empty());
}
