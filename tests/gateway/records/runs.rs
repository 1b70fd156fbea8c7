//! What a record says of a request.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use drover::{
    domain::{
        digest::Digest,
        run_id::RunId,
        run_record::{Feedback, Outcome, RunFilter, SystemPrompt},
    },
    gateway::recorder::Recorder,
    ports::{Noted, Page, Records, RecordsError, RunRecord},
    records::WhenDown,
    routing_table::Node,
};
use futures::{FutureExt, StreamExt, future::BoxFuture};
use prometheus_client::{encoding::text::encode, registry::Registry};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{Store, world};
use crate::{
    parts::{Scratch, eventually},
    support::{Act, Answer, FakeNode, World, deployment, plain, table, version},
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SECRET: &str = "the swordfish swims at dawn";

/// Two nodes with `support-bot`, the second one with `alpha:1` as well.
async fn fleet(store: &Store, capture: bool) -> (Vec<FakeNode>, World) {
    let nodes = FakeNode::start_many(2).await;
    let mut bot = version("v1.0.0", &[&nodes[0], &nodes[1]]);
    bot.parameters = [("temperature".to_owned(), json!(0.2)), ("num_ctx".to_owned(), json!(4096))].into();
    bot.system_prompt = Some("Be kind.".into());
    bot.prompt_edition = Some(edition());
    for holder in &mut bot.holders {
        holder.node = Node { keep_alive: Some("10m".into()), ..(*holder.node).clone() }.into();
    }
    // The first one is asked first.
    bot.holders[0].loaded = true;
    let table = table(Some(deployment(bot, None)), &[plain("alpha:1", &[&nodes[1]])]);
    let world = world(table, store, WhenDown::Refuse, capture).await;
    (nodes, world)
}

fn edition() -> SystemPrompt {
    SystemPrompt { version: "7".into(), digest: Digest::from_sha256(&[7; 32]) }
}

async fn record_of(store: &Store, answer: &Answer) -> RunRecord {
    let id = answer.header("x-drover-run-id").parse().expect("an id");
    store.records.get(id).await.expect("a store").expect("a record")
}

/// The only record that there is, once there is one.
async fn only(store: &Store) -> RunRecord {
    let one = async || match <[RunRecord; 1]>::try_from(store.all().await) {
        Ok([record]) => Ok(record),
        Err(others) => Err(format!("{} records", others.len())),
    };
    eventually("there is one record", Duration::from_secs(10), one).await
}

#[tokio::test]
async fn an_answer_is_recorded_with_all_that_made_it() {
    let dir = Scratch::new();
    let store = Store::in_folder(dir.path());
    let (nodes, world) = fleet(&store, false).await;
    let tool = json!({ "type": "function", "function": { "name": "weather", "parameters": {} } });
    for (path, stream) in [("/api/chat", true), ("/api/chat", false), ("/v1/chat/completions", true)] {
        nodes[0].next(Act::Fail(500, "out of order".into()));
        let asked = json!({
            "model": "support-bot", "stream": stream, "messages": [{ "role": "user", "content": SECRET }],
            "tools": [tool], "options": { "top_k": 5 }, "seed": 4,
        });
        let request = world.request(path, &asked).header("traceparent", format!("00-{TRACE}-b7ad6b7169203331-01"));
        let answer = Answer::read(request.send().await.unwrap()).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        check_answered(&record_of(&store, &answer).await, path, stream);

        nodes.iter().for_each(|node| node.next(Act::Fail(500, "out of order".into())));
        let failed = record_of(&store, &world.post(path, &asked).await).await;
        assert_eq!((failed.outcome, failed.status), (Outcome::Failed, 502), "{failed:?}");
        assert!(failed.attempts.iter().all(|attempt| attempt.outcome == Outcome::Failed), "{failed:?}");
        assert_eq!(failed.attempts.len(), 2);
    }
}

fn check_answered(record: &RunRecord, path: &str, stream: bool) {
    assert_eq!((record.outcome, record.status, record.error.as_deref()), (Outcome::Answered, 200, None));
    assert_eq!((&*record.path, record.stream, &*record.namespace), (path, stream, "default"));
    assert_eq!((&*record.requested, record.tools.as_slice()), ("support-bot", &["weather".to_owned()][..]));
    let resolved = record.resolved.as_ref().expect("it was found");
    assert_eq!((&*resolved.model, &*resolved.digest), ("llama3.2:3b-v1.0.0", "sha256:dddd"));
    assert_eq!(resolved.version.as_deref(), Some("v1.0.0"));
    assert_eq!(resolved.deployment.as_deref(), Some("support-bot"));
    assert_eq!(record.system_prompt, Some(edition()));
    let effective = |name: &str| serde_json::to_value(&record.parameters[name]).expect("JSON");
    assert_eq!(effective("temperature"), json!({ "value": 0.2, "source": "version" }));
    assert_eq!(effective("num_ctx"), json!({ "value": 4096, "source": "version" }));
    let own = if path == "/api/chat" { ("top_k", 5) } else { ("seed", 4) };
    assert_eq!(effective(own.0), json!({ "value": own.1, "source": "request" }));
    assert_eq!((record.tokens.prompt, record.tokens.completion), (11, 7));
    assert_eq!((record.finish_reason.as_deref(), record.truncated), (Some("stop"), false));
    let attempts = record.attempts.iter().map(|attempt| (&*attempt.node, &*attempt.target, attempt.outcome));
    let expected = [("n1", "v1.0.0", Outcome::Failed), ("n2", "v1.0.0", Outcome::Answered)];
    assert_eq!(attempts.collect::<Vec<_>>(), expected);
    assert_eq!(resolved.node.as_deref(), Some("n2"));
    assert!(record.attempts[0].reason.as_ref().is_some_and(|reason| reason.contains("out of order")));
    let first = record.timings.first_token_ms.expect("there was a first piece");
    assert!(0.0 < first && first <= record.timings.total_ms, "{:?}", record.timings);
    assert_eq!((&record.capture, record.trace_id.as_deref()), (&None, Some(TRACE)));
    assert_eq!(serde_json::to_value(&record.keep_alive).unwrap(), json!({ "value": "10m", "source": "node" }));
}

#[tokio::test]
async fn what_did_not_end_well_is_recorded_too() {
    let dir = Scratch::new();
    let cases: [(&str, Act, Value, Outcome, u16); 4] = [
        ("broken", Act::CutAfter(2), json!({}), Outcome::Broken, 200),
        ("error", Act::ErrAfter(2, "gone mad".into()), json!({}), Outcome::Broken, 200),
        ("refused", Act::Fail(400, "no such role".into()), json!({}), Outcome::Refused, 400),
        ("unknown", Act::Answer, json!({ "model": "beta" }), Outcome::Refused, 404),
    ];
    for (name, act, change, outcome, status) in cases {
        let store = Store::in_folder(&dir.join(name));
        let (nodes, world) = fleet(&store, false).await;
        nodes[1].always(act);
        let mut asked = json!({ "model": "alpha:1", "prompt": SECRET });
        asked.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let answer = world.post("/api/generate", &asked).await;
        let record = record_of(&store, &answer).await;
        assert_eq!((record.outcome, record.status, answer.status), (outcome, status, status), "{name}: {record:?}");
        assert!(record.error.as_ref().is_some_and(|error| !error.is_empty()), "{name}: {record:?}");
        assert_eq!(record.attempts.last().map(|attempt| attempt.outcome), Some(outcome).filter(|_| name != "unknown"));
    }
}

#[tokio::test]
async fn a_caller_who_hangs_up_leaves_a_record_and_one_who_names_no_model_none() {
    let dir = Scratch::new();
    for (name, act) in [("before", Act::Hold), ("amid", Act::HoldAfter(2))] {
        let store = Store::in_folder(&dir.join(name));
        let (nodes, world) = fleet(&store, false).await;
        nodes[1].next(act);
        for nonsense in [json!({}), json!({ "model": 7 }), json!([])] {
            assert_eq!(world.post("/api/generate", &nonsense).await.status, 400);
        }
        let sent = world.request("/api/generate", &json!({ "model": "alpha:1", "prompt": "hi" })).send();
        let sent = tokio::spawn(async move {
            let mut answer = sent.await.expect("an answer").bytes_stream();
            while answer.next().await.is_some() {}
        });
        crate::support::eventually(1, || nodes[1].in_flight()).await;
        sent.abort();
        drop(sent.await);
        let record = only(&store).await;
        assert_eq!((record.outcome, record.attempts.len()), (Outcome::Cancelled, 1), "{name}: {record:?}");
        assert_eq!(record.resolved.and_then(|resolved| resolved.node).as_deref(), Some("n2"));
        nodes[1].let_go();
    }
}

#[tokio::test]
async fn what_was_said_is_kept_only_where_that_is_wanted() {
    let dir = Scratch::new();
    for capture in [false, true] {
        let folder = dir.join(&capture.to_string());
        let store = Store::in_folder(&folder);
        let (nodes, world) = fleet(&store, capture).await;
        for stream in [true, false] {
            nodes[1].next(Act::Say(vec![json!({ "response": "No, at " }), json!({ "response": "dusk." })]));
            let asked = json!({ "model": "alpha:1", "prompt": SECRET, "stream": stream });
            let answer = world.post("/api/generate", &asked).await;
            let kept = record_of(&store, &answer).await.capture;
            match kept {
                Some(kept) if capture => {
                    assert_eq!(kept.request, Some(asked.to_string()));
                    assert_eq!(kept.answer, Some(answer.text), "{stream}");
                }
                kept => assert!(!capture && kept.is_none(), "{kept:?}"),
            }
        }
        let kept = std::fs::read_dir(&folder).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
        let kept = kept.collect::<Vec<_>>().concat();
        let holds = |text: &str| kept.windows(text.len()).any(|bytes| bytes == text.as_bytes());
        assert!(holds("alpha:1"), "it is there to be found");
        assert_eq!((holds(SECRET), holds("dusk.")), (capture, capture));
    }
}

/// A store in which commits wait until they may go on, and then do as they are told.
struct Slow {
    open: watch::Sender<Option<Result<(), RecordsError>>>,
    taken: Arc<Mutex<Vec<RunRecord>>>,
}

impl Records for Slow {
    fn ready(&self) -> Result<(), RecordsError> {
        Ok(())
    }

    fn commit(&self, record: RunRecord) -> BoxFuture<'static, Result<(), RecordsError>> {
        self.taken.lock().unwrap().push(record);
        let mut open = self.open.subscribe();
        async move { open.wait_for(Option::is_some).await.unwrap().clone().unwrap() }.boxed()
    }

    fn get(&self, _: RunId) -> BoxFuture<'_, Result<Option<RunRecord>, RecordsError>> {
        async { Ok(None) }.boxed()
    }

    fn list(&self, _: RunFilter, _: usize) -> BoxFuture<'_, Result<Page, RecordsError>> {
        async { Ok(Page::default()) }.boxed()
    }

    fn note_feedback(&self, _: RunId, _: Feedback) -> BoxFuture<'_, Result<Noted, RecordsError>> {
        async { Ok(Noted::Unknown) }.boxed()
    }
}

#[tokio::test]
async fn only_the_last_piece_of_an_answer_waits_for_its_record() {
    for (path, end) in [("/api/chat", "\"done\":true"), ("/v1/chat/completions", "finish_reason\":\"stop")] {
        for outcome in [Ok(()), Err(RecordsError::Down("the disk is gone".into()))] {
            let node = FakeNode::start("n1").await;
            let (open, taken) = (watch::Sender::new(None), Arc::default());
            let slow = Arc::new(Slow { open: open.clone(), taken: Arc::clone(&taken) });
            let recorder = Recorder::storing(slow, WhenDown::Refuse, false);
            let table = table(None, &[plain("alpha:1", &[&node])]);
            let world = World::start_recording(table, Default::default(), recorder).await;
            node.chunk(40);
            let asked =
                json!({ "model": "alpha:1", "stream": true, "messages": [{ "role": "user", "content": "hi" }] });
            let mut answer = world.request(path, &asked).send().await.unwrap().bytes_stream();
            let mut text = String::new();
            while taken.lock().unwrap().is_empty() {
                let piece = tokio::time::timeout(Duration::from_millis(20), answer.next()).await;
                piece.into_iter().flatten().for_each(|piece| text += &String::from_utf8_lossy(&piece.unwrap()));
            }
            while let Ok(piece) = tokio::time::timeout(Duration::from_millis(100), answer.next()).await {
                text += &String::from_utf8_lossy(&piece.expect("it isn't over").unwrap());
            }
            assert!(text.contains("n1") && !text.contains(end), "{path}: {text}");
            open.send_replace(Some(outcome.clone()));
            while let Some(piece) = answer.next().await {
                text += &String::from_utf8_lossy(&piece.unwrap());
            }
            assert_eq!((text.contains(end), text.contains("the disk is gone")), (outcome.is_ok(), outcome.is_err()));
        }
    }
}

#[tokio::test]
async fn a_record_that_is_lost_is_counted() {
    let node = FakeNode::start("n1").await;
    let lost = Some(Err(RecordsError::Down("the disk is gone".into())));
    for (when_down, status) in [(WhenDown::Refuse, 503), (WhenDown::Serve, 200)] {
        let slow = Slow { open: watch::Sender::new(lost.clone()), taken: Arc::default() };
        let recorder = Recorder::storing(Arc::new(slow), when_down, false);
        let mut registry = Registry::default();
        recorder.register(&mut registry);
        let table = table(None, &[plain("alpha:1", &[&node])]);
        let world = World::start_recording(table, Default::default(), recorder).await;
        let asked = json!({ "model": "alpha:1", "prompt": "hi", "stream": false });
        let answer = world.post("/api/generate", &asked).await;
        assert_eq!(
            (answer.status, answer.text.contains("the disk is gone")),
            (status, status == 503),
            "{}",
            answer.text
        );
        let mut metrics = String::new();
        encode(&mut metrics, &registry).unwrap();
        assert!(metrics.contains("gateway_unrecorded_runs_total 1\n"), "{metrics}");
        assert!(metrics.contains("gateway_recorded_runs_total 0\n"), "{metrics}");
    }
}
