//! Models of providers: a real Ollama server by its `/v1` (OpenAI's API and Anthropic's), and a server that fails in every
//! way.

use drover::{
    domain::run_record::Outcome,
    gateway::{Settings, recorder::Recorder},
    records::{self, Place, Retention, Sync, WhenDown},
};
use serde_json::{Value, json};

use crate::{
    parts::{Scratch, ollama::Ollama},
    support::{
        Answer, World, eventually,
        provider::{Far, KEY, Reply, models, offering, provider},
        real::{SENTENCE, with_more_models},
    },
};

/// The models of the real server.
const MODELS: [&str; 4] = ["bot:1", "tools:latest", "thinker:latest", "endless:latest"];

/// A gateway whose one provider is this server, by the API of this kind.
async fn by(kind: &str, server: &Ollama) -> World {
    let base = if kind == "OpenAI" { format!("{}/v1", server.url()) } else { server.url() };
    World::start(offering(provider(kind, &base, models(&MODELS)))).await
}

fn said(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.content()
}

fn user(text: &str) -> Value {
    json!([{ "role": "user", "content": text }])
}

/// A conversation in Ollama's format, streamed and not.
async fn chats(world: &World) {
    let asked = |stream: bool| {
        json!({
            "model": "provider/far/bot:1", "stream": stream, "messages": user("Who are you?"), "think": null,
            "options": { "temperature": 0, "num_ctx": 2048, "num_predict": 100 },
        })
    };
    let whole = world.post("/api/chat", &asked(false)).await;
    assert_eq!(said(&whole), SENTENCE);
    let last = whole.json();
    assert_eq!((&last["model"], &last["done_reason"]), (&json!("provider/far/bot:1"), &json!("stop")));
    assert!(last["prompt_eval_count"].as_u64() > Some(0) && last["eval_count"].as_u64() > Some(0), "{last}");
    assert_eq!((whole.header("x-drover-node"), whole.header("x-drover-digest")), ("provider/far", ""));
    assert_eq!(whole.header("x-drover-dropped-parameters"), "num_ctx");

    let streamed = world.post("/api/chat", &asked(true)).await;
    assert_eq!(said(&streamed), SENTENCE);
    let lines = streamed.lines();
    assert!(lines.len() > 3, "{}", streamed.text);
    let end = lines.last().unwrap();
    assert_eq!((&end["done"], &end["eval_count"]), (&json!(true), &last["eval_count"]), "{end}");

    assert!(world.metrics.text().contains("gen_ai_provider_name=\"far\""), "{}", world.metrics.text());

    let short = json!({ "model": "provider/far/endless:latest", "prompt": "Go on", "options": { "num_predict": 5 } });
    let cut = world.post("/api/generate", &short).await.lines();
    assert_eq!(cut.last().unwrap()["done_reason"], "length");
    assert!(cut.iter().any(|line| line["response"].as_str().is_some_and(|text| !text.is_empty())), "{cut:?}");
}

/// The other two formats of callers.
async fn other_formats(world: &World) {
    let chat = json!({ "model": "provider/far/bot:1", "messages": user("Who are you?"), "max_tokens": 100 });
    let answer = world.post("/v1/chat/completions", &chat).await.json();
    assert_eq!(answer["choices"][0]["message"]["content"], SENTENCE, "{answer}");
    assert_eq!(answer["model"], "provider/far/bot:1");
    assert!(answer["usage"]["completion_tokens"].as_u64() > Some(0), "{answer}");
    let mut streamed = chat.clone();
    streamed["stream"] = true.into();
    let events = world.post("/v1/chat/completions", &streamed).await.events();
    let piece = |event: &String| {
        let event: Value = serde_json::from_str(event).ok()?;
        event["choices"][0]["delta"]["content"].as_str().map(str::to_owned)
    };
    assert_eq!(events.iter().filter_map(piece).collect::<String>(), SENTENCE);
    assert_eq!(events.last().unwrap(), "[DONE]");
    let answer = world.post("/v1/messages", &chat).await.json();
    assert_eq!((&answer["content"][0]["text"], &answer["stop_reason"]), (&json!(SENTENCE), &json!("end_turn")));
}

/// Tools and thoughts, streamed and not.
async fn tools_and_thoughts(world: &World) {
    let tool = json!({ "type": "function", "function": {
        "name": "weather", "description": "The weather in a city",
        "parameters": { "type": "object", "properties": { "city": { "type": "string" } }, "required": ["city"] },
    } });
    for stream in [false, true] {
        let asked = json!({
            "model": "provider/far/tools:latest", "stream": stream, "tools": [tool], "messages": [
                { "role": "user", "content": "And in Oslo?" },
                { "role": "assistant", "content": "", "tool_calls": [{ "function": { "name": "weather", "arguments": { "city": "Oslo" } } }] },
                { "role": "tool", "tool_name": "weather", "content": "rain" },
                { "role": "user", "content": "And in Rome?" },
            ],
        });
        let lines = world.post("/api/chat", &asked).await.lines();
        let calls: Vec<&Value> =
            lines.iter().filter_map(|line| line["message"]["tool_calls"].as_array()).flatten().collect();
        assert_eq!(calls.len(), 1, "{lines:?}");
        assert_eq!(calls[0]["function"]["arguments"], json!({ "city": "Rome" }));
        assert!(calls[0]["id"].as_str().is_some_and(|id| !id.is_empty()), "{calls:?}");
        assert_eq!(lines.last().unwrap()["done_reason"], "stop");

        let asked = json!({ "model": "provider/far/thinker:latest", "stream": stream, "messages": user("Well?"), "think": true });
        let lines = world.post("/api/chat", &asked).await.lines();
        let text = |field: &str| lines.iter().filter_map(|line| line["message"][field].as_str()).collect::<String>();
        assert_eq!((text("thinking").trim(), text("content").trim()), ("Hm.", "Yes."), "{lines:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_providers_model_answers_like_a_nodes_own() {
    let dir = Scratch::new();
    let (server, _) = with_more_models(&dir).await;
    for kind in ["OpenAI", "Anthropic"] {
        let world = by(kind, &server).await;
        tokio::join!(chats(&world), other_formats(&world), tools_and_thoughts(&world));
    }
    let world = by("OpenAI", &server).await;
    let schema = json!({ "type": "object", "properties": { "a": { "type": "integer" } }, "required": ["a"] });
    let asked = json!({
        "model": "provider/far/bot:1", "stream": false, "messages": user("?"), "format": schema, "logprobs": true,
        "options": { "num_predict": 100, "seed": 1 },
    });
    let answer = world.post("/api/chat", &asked).await.json();
    let read: Value = serde_json::from_str(answer["message"]["content"].as_str().unwrap()).unwrap();
    assert!(read["a"].is_i64() && answer["logprobs"][0]["token"].is_string(), "{answer}");
    let one = world.post("/api/embed", &json!({ "model": "provider/far/bot:1", "input": ["a", "b"] })).await.json();
    let direct = world.http.post(format!("{}/api/embed", server.url()));
    let direct = direct.body(json!({ "model": "bot:1", "input": ["a", "b"] }).to_string()).send().await.unwrap();
    let direct: Value = direct.json().await.unwrap();
    assert_eq!((&one["embeddings"], &one["prompt_eval_count"]), (&direct["embeddings"], &direct["prompt_eval_count"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_gateway_is_a_provider_by_anthropics_api() {
    let dir = Scratch::new();
    let (_server, behind) = with_more_models(&dir).await;
    let world = World::start(offering(provider("Anthropic", &behind.url, models(&["support-bot"])))).await;
    let asked = json!({ "model": "provider/far/support-bot", "messages": user("Who are you?") });
    assert_eq!(said(&world.post("/api/chat", &asked).await), SENTENCE);
}

fn chunk(text: &str) -> Value {
    json!({ "choices": [{ "delta": { "content": text } }] })
}

fn finish(reason: &str) -> Value {
    json!({ "choices": [{ "delta": {}, "finish_reason": reason }] })
}

async fn far(kind: &str, more: Value) -> (Far, World) {
    let far = Far::start().await;
    let world = World::start(offering(provider(kind, &far.url, more))).await;
    (far, world)
}

fn asked() -> Value {
    json!({ "model": "provider/far/m", "messages": user("hi") })
}

#[tokio::test]
async fn requests_are_said_in_openais_words() {
    let model = json!({ "models": [{ "name": "m", "capabilities": ["vision"], "maxOutputTokens": 50 }], "headers": { "x-title": "t" }, "extraOptions": ["top_k"] });
    let (far, world) = far("OpenAI", model).await;
    let whole = json!({ "choices": [{ "message": { "content": [{ "type": "text", "text": "Hi" }] }, "finish_reason": "stop" }] });
    let schema = json!({ "type": "object", "properties": {}, "additionalProperties": false });
    far.next(Reply::json(200, whole.clone()));
    let full = json!({
        "model": "provider/far/m", "stream": false, "keep_alive": "5m", "think": "low", "provider_option": { "a": 1 }, "format": schema,
        "messages": [{ "role": "system", "content": "s" }, { "role": "user", "content": "see", "images": ["iVBORw0KGgo="] }],
        "options": { "num_predict": 50, "num_ctx": 99, "top_k": 3, "min_p": 0.1, "stop": ["x"], "seed": 7, "transforms": [] },
    });
    let answer = world.post("/api/chat", &full).await;
    assert_eq!(said(&answer), "Hi");
    assert_eq!(answer.header("x-drover-dropped-parameters"), "min_p, num_ctx");
    let told = world.post("/drover/v1/explain", &full).await.json();
    assert_eq!(told["droppedParameters"], json!(["min_p", "num_ctx"]));
    assert_eq!(told["parameters"]["top_k"], json!({ "value": 3, "source": "request" }));
    let got = &far.got()[0];
    assert_eq!(got.path, "/chat/completions");
    assert_eq!(got.headers["authorization"], format!("Bearer {KEY}"));
    assert_eq!(got.headers["x-title"], "t");
    let image = json!({ "type": "image_url", "image_url": { "url": "data:image/png;base64,iVBORw0KGgo=" } });
    let format =
        json!({ "type": "json_schema", "json_schema": { "name": "answer", "strict": true, "schema": schema } });
    assert_eq!(
        got.body,
        json!({
            "model": "m", "provider_option": { "a": 1 }, "reasoning_effort": "low", "response_format": format,
            "messages": [
                { "role": "system", "content": "s" },
                { "role": "user", "content": [{ "type": "text", "text": "see" }, image] },
            ],
            "max_tokens": 50, "top_k": 3, "stop": ["x"], "seed": 7, "transforms": [],
        })
    );

    // What can't be done is refused before anybody is asked.
    for (field, value) in [("suffix", json!("x")), ("raw", json!(true)), ("options", json!({ "num_predict": 51 }))] {
        let mut asked = json!({ "model": "provider/far/m", "prompt": "hi" });
        asked[field] = value;
        let refused = world.post("/api/generate", &asked).await;
        assert_eq!(refused.status, 400, "{}", refused.text);
        assert!(refused.text.contains(field), "{}", refused.text);
    }
    assert_eq!(far.got().len(), 1);
}

#[tokio::test]
async fn requests_are_said_in_anthropics_words() {
    let (far, world) = far("Anthropic", json!({ "models": [{ "name": "m" }] })).await;
    far.next(Reply::json(
        200,
        json!({
            "content": [{ "type": "text", "text": "Hi" }, { "type": "unheard_of" }], "stop_reason": "max_tokens",
            "usage": { "input_tokens": 3, "cache_read_input_tokens": 4, "output_tokens": 2 },
        }),
    ));
    let call = json!({ "function": { "name": "f", "arguments": { "a": 1 } } });
    let full = json!({
        "model": "provider/far/m", "stream": false, "options": { "top_k": 3, "stop": ["x"], "seed": 7 },
        "tools": [{ "type": "function", "function": { "name": "f" } }],
        "messages": [
            { "role": "system", "content": "s" }, { "role": "user", "content": "go" },
            { "role": "assistant", "content": "", "tool_calls": [call, call] },
            { "role": "tool", "content": "one" }, { "role": "tool", "content": "two" },
        ],
    });
    let answer = world.post("/api/chat", &full).await;
    let last = answer.json();
    assert_eq!(
        (said(&answer).as_str(), &last["done_reason"], &last["prompt_eval_count"]),
        ("Hi", &json!("length"), &json!(7))
    );
    assert_eq!(answer.header("x-drover-dropped-parameters"), "seed");
    let got = &far.got()[0];
    assert_eq!((got.path.as_str(), got.headers["x-api-key"].to_str().unwrap()), ("/v1/messages", KEY));
    assert!(got.headers.contains_key("anthropic-version") && !got.headers.contains_key("authorization"));
    let used = |id: &str| json!({ "type": "tool_use", "id": id, "name": "f", "input": { "a": 1 } });
    let result = |id: &str, text: &str| json!({ "type": "tool_result", "tool_use_id": id, "content": text });
    assert_eq!(
        got.body,
        json!({
            "model": "m", "max_tokens": 4096, "system": "s", "top_k": 3, "stop_sequences": ["x"],
            "tools": [{ "name": "f", "input_schema": { "type": "object" } }],
            "messages": [
                { "role": "user", "content": [{ "type": "text", "text": "go" }] },
                { "role": "assistant", "content": [used("call_0"), used("call_1")] },
                { "role": "user", "content": [result("call_0", "one"), result("call_1", "two")] },
            ],
        })
    );
    for (field, value) in [("logprobs", json!(true)), ("format", json!("json"))] {
        let mut asked = asked();
        asked[field] = value;
        let refused = world.post("/api/chat", &asked).await;
        assert_eq!(refused.status, 400, "{}", refused.text);
        assert!(refused.text.contains(field), "{}", refused.text);
    }
    let embed = world.post("/api/embed", &json!({ "model": "provider/far/m", "input": "a" })).await;
    assert_eq!(embed.status, 400, "{}", embed.text);
}

/// What the provider answers, what the caller's status is then, and what the message says.
#[tokio::test]
async fn failures_before_the_first_byte_say_what_to_do() {
    let (far, world) = far("OpenAI", json!({ "models": [{ "name": "m" }], "maxConcurrentRequests": 1 })).await;
    let error = |message: &str| json!({ "error": { "message": message, "code": "c" } });
    let cases = [
        (Reply::json(401, error(&format!("Incorrect API key provided: {KEY}"))), 502, "refuses the key"),
        (Reply::json(402, error("no credits")), 502, "no credits"),
        (Reply::json(429, error("slow down")).with("retry-after", "17"), 503, "slow down"),
        (Reply::json(500, error(&format!("oops {KEY}"))), 502, "oops [key]"),
        (Reply::page(502), 502, "no part of its API"),
        (Reply::json(400, error("bad temperature")), 400, "bad temperature"),
        (Reply::json(404, error("no such model")), 502, "no such model"),
        (Reply::json(200, error("free tier is over")), 502, "free tier is over"),
        (Reply::json(200, json!({ "choices": [] })), 502, "no choices"),
        (Reply::page(200), 502, "no chat completion"),
        (Reply::events(&[error("overloaded")]), 502, "overloaded"),
        (Reply::events(&[json!("nonsense")]), 502, "no chat completion"),
        (Reply::events(&[]), 502, "sent nothing"),
        (Reply::events(&[]).cut(), 502, "broke"),
    ];
    for (reply, status, words) in cases {
        far.next(reply.clone());
        let answer = world.post("/api/chat", &asked()).await;
        assert_eq!(answer.status, status, "{reply:?}: {}", answer.text);
        assert!(answer.text.contains(words), "{reply:?}: {}", answer.text);
        assert!(!answer.text.contains(KEY) && !answer.text.contains("10.1.2.3"), "{}", answer.text);
        assert_eq!(answer.header("retry-after"), if status == 503 { "17" } else { "" });
        assert_eq!(answer.header("x-drover-attempts"), "1");
    }
    far.next(Reply::events(&[chunk("Hi"), finish("stop")]));
    assert_eq!(said(&world.post("/api/chat", &asked()).await), "Hi", "the place was given back each time");
}

#[tokio::test]
async fn an_answer_that_breaks_off_ends_with_an_error() {
    let (far, world) = far("OpenAI", json!({ "models": [{ "name": "m" }] })).await;
    let error = json!({ "error": { "message": format!("lost {KEY}") } });
    let replies = [
        (Reply::events(&[chunk("Hel")]).cut(), "broke"),
        (Reply::events(&[chunk("Hel")]), "ended its answer early"),
        (Reply::events(&[chunk("Hel")]).done(), "ended its answer early"),
        (Reply::events(&[chunk("Hel"), error]), "lost [key]"),
        (Reply::events(&[chunk("Hel"), json!({ "choices": 1 })]), "no chat completion"),
        (Reply::events(&[chunk("Hel"), finish("error")]), "with an error"),
    ];
    for (reply, words) in replies {
        far.next(reply.clone());
        let answer = world.post("/api/chat", &asked()).await;
        let (lines, text) = (answer.lines(), &answer.text);
        assert!(text.contains("Hel") && text.contains(words) && !text.contains(KEY), "{reply:?}: {text}");
        assert!(lines.last().unwrap()["error"].is_string() && lines.iter().all(|line| line["done"] != true), "{text}");
    }
    // Whole without a last word, because it says why it ended.
    far.next(Reply::events(&[chunk("Hel"), chunk("lo"), finish("stop")]));
    let whole = world.post("/api/chat", &asked()).await.lines();
    assert_eq!(whole.last().unwrap()["done"], true);
}

#[tokio::test]
async fn what_a_run_cost_is_on_record_and_no_key_is() {
    let (far, dir) = (Far::start().await, Scratch::new());
    let retention = Retention { age: std::time::Duration::from_secs(1 << 30), size: u64::MAX };
    let place = Place::Folder(dir.path().into());
    let (store, keeper) = records::open(records::Settings { place, sync: Sync::Normal, retention }).unwrap();
    let keeper = tokio::spawn(keeper);
    let recorder = Recorder::storing(store.clone(), WhenDown::Refuse, false);
    let priced = json!({ "name": "m", "inputPricePerMillion": 3.0, "outputPricePerMillion": 15.0 });
    let table = offering(provider("OpenAI", &far.url, json!({ "models": [priced, { "name": "free" }] })));
    assert!(!serde_json::to_string(&table).unwrap().contains(KEY));
    let ready = async || store.ready();
    crate::parts::eventually("the store is ready", std::time::Duration::from_secs(20), ready).await;
    let world = World::start_recording(table, Settings::default(), recorder).await;
    let usage = json!({ "choices": [], "usage": { "prompt_tokens": 1000, "completion_tokens": 100 } });
    for model in ["m", "free"] {
        far.next(Reply::events(&[chunk("Hi"), finish("stop"), usage.clone()]).done());
        let mut asked = asked();
        (asked["model"], asked["options"]) =
            (format!("provider/far/{model}").into(), json!({ "num_gpu": 1, "top_p": 0.5 }));
        assert_eq!(said(&world.post("/api/chat", &asked).await), "Hi");
    }
    let runs = store.list(Default::default(), 10).await.unwrap().items;
    let [free, priced] = &runs[..] else { panic!("{runs:?}") };
    let cost = serde_json::to_value(priced.cost).unwrap();
    assert_eq!(cost["currency"], "USD");
    assert!((cost["amount"].as_f64().unwrap() - 0.0045).abs() < 1e-12, "{cost}");
    assert_eq!((free.cost, free.outcome), (None, Outcome::Answered));
    assert_eq!(priced.dropped_parameters, ["num_gpu"]);
    assert_eq!(priced.parameters.keys().collect::<Vec<_>>(), ["top_p"]);
    let resolved = priced.resolved.as_ref().unwrap();
    assert_eq!((&*resolved.model, resolved.node.as_deref()), ("provider/far/m", Some("provider/far")));
    assert!(!serde_json::to_string(&runs).unwrap().contains(KEY));

    // The run can be repeated as long as the provider is there.
    far.next(Reply::events(&[chunk("Again"), finish("stop")]));
    let again = world.http.post(format!("{}/drover/v1/runs/{}/replay", world.url, priced.id));
    let again = Answer::read(again.body(asked().to_string()).send().await.unwrap()).await;
    assert_eq!(said(&again), "Again");
    assert_eq!(far.got().last().unwrap().body["top_p"], 0.5);
    keeper.abort();
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_refused_by_name() {
    let (_far, world) = far("OpenAI", models(&["m", "org/model:8b"])).await;
    for (name, status, words) in [
        (
            "provider/nobody/m",
            404,
            "no such provider (write provider/NAME/MODEL); there is provider/far/m, provider/far/org/model:8b",
        ),
        ("provider/far/other", 404, "the provider doesn't offer it"),
        ("provider/far", 404, "write provider/NAME/MODEL"),
    ] {
        let answer = world.post("/api/chat", &json!({ "model": name, "messages": user("hi") })).await;
        assert_eq!(answer.status, status, "{name}: {}", answer.text);
        assert!(answer.text.contains(words), "{name}: {}", answer.text);
    }
    let mut away = provider("OpenAI", "http://127.0.0.1:9", models(&["m"]));
    away.status = None;
    world.table.store(offering(away).into());
    let answer = world.post("/api/chat", &asked()).await;
    assert_eq!((answer.status, answer.text.contains("has not been checked")), (503, true), "{}", answer.text);
    let keyless = provider(
        "OpenAI",
        "http://127.0.0.1:9",
        json!({ "models": [{ "name": "m" }], "apiKeySecretRef": { "name": "none" } }),
    );
    world.table.store(offering(keyless).into());
    let answer = world.post("/api/chat", &asked()).await;
    assert_eq!((answer.status, answer.text.contains("Secret none is not there")), (502, true), "{}", answer.text);
}

#[tokio::test]
async fn models_of_providers_are_listed_and_shown() {
    let model = json!({ "name": "org/m:8b", "capabilities": ["tools"], "contextLength": 4096 });
    let (far, world) = far("OpenAI", json!({ "models": [model] })).await;
    let tags = world.get("/api/tags").await.json();
    let entry = &tags["models"][0];
    assert_eq!(
        (&entry["name"], &entry["remote_model"], &entry["remote_host"]),
        (&json!("provider/far/org/m:8b"), &json!("org/m:8b"), &json!(far.url))
    );
    assert_eq!(entry["digest"].as_str().unwrap().len(), 64);
    let listed = world.get("/v1/models").await.json();
    assert_eq!(listed["data"][0]["id"], "provider/far/org/m:8b");
    assert_eq!(world.get("/v1/models/provider/far/org/m:8b").await.status, 200);
    // As `ollama run` begins: there is nothing to load.
    let loaded = world.post("/api/generate", &json!({ "model": "provider/far/org/m:8b" })).await.json();
    assert_eq!((&loaded["done"], &loaded["done_reason"]), (&json!(true), &json!("load")));
    let shown = world.post("/api/show", &json!({ "model": "provider/far/org/m:8b" })).await.json();
    assert_eq!(
        (&shown["capabilities"], &shown["model_info"]["provider.context_length"]),
        (&json!(["tools"]), &json!(4096))
    );
    assert!(far.got().is_empty(), "nobody was asked");
}

#[tokio::test]
async fn a_caller_who_hangs_up_ends_the_request_at_the_provider() {
    let (far, world) = far("OpenAI", json!({ "models": [{ "name": "m" }], "maxConcurrentRequests": 1 })).await;
    far.next(Reply::events(&[chunk("Hi")]).held());
    let mut answer = world.request("/api/chat", &asked()).send().await.unwrap();
    assert!(answer.chunk().await.unwrap().is_some());
    assert_eq!(far.under_way(), 1);
    drop(answer);
    eventually(0, || far.under_way()).await;
    far.next(Reply::events(&[chunk("Hi"), finish("stop")]));
    assert_eq!(said(&world.post("/api/chat", &asked()).await), "Hi", "its place is free again");
}
