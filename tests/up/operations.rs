//! Ollama's own command line and client as people use them on a fleet: models pulled, run and removed.

use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use futures::{StreamExt, future::join_all};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::instance::{SOON, Up, text};
use crate::support::gguf::TinyLlama;
use crate::support::models::publish;
use crate::support::ollama::Ollama;
use crate::support::registry::{Registry, RegistryFront};
use crate::support::stack::program;
use crate::support::{Scratch, checkout, eventually, http_client};

const SENTENCE: &str = "All is well on this one machine.";
const MIB: u64 = 1 << 20;

/// Two nodes, a registry behind a line, and what a person runs next to them.
struct Shop {
    scratch: Scratch,
    front: RegistryFront,
    nodes: [Ollama; 2],
    up: Up,
    named: Vec<String>,
    registry: Registry,
}

impl Shop {
    async fn open() -> Self {
        let scratch = Scratch::new();
        let (registry, first, second) = (scratch.join("registry"), scratch.join("first"), scratch.join("second"));
        let (registry, first, second) =
            tokio::join!(Registry::start(&registry), Ollama::start("first", &first), Ollama::start("second", &second));
        let small = TinyLlama::new(1).says(SENTENCE);
        publish(&registry, &first, &[("shop/bot", "1", small), ("shop/big", "1", TinyLlama::new(2).size(8 * MIB))])
            .await;
        let front = RegistryFront::start(&registry).await;
        let upstream = format!("=http://{}", front.address());
        let nodes = [format!("first={}", first.url()), format!("second={}", second.url())];
        let named = ["--upstream", &upstream, "--node", &nodes[0], "--node", &nodes[1]];
        let up = Up::start(scratch.path(), &named).await;
        let named = named.map(str::to_owned).to_vec();
        let mut shop = Self { scratch, front, nodes: [first, second], up, named, registry };
        shop.up.eventually_logs("second  Ollama").await;
        shop
    }

    /// Runs `ollama` against the gateway to its end.
    async fn ollama(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(program("ollama"));
        command.args(arguments).env("OLLAMA_HOST", self.up.url("gateway")).env("HOME", self.scratch.path());
        command.stdin(Stdio::null()).env("NO_PROXY", "*").kill_on_drop(true).output().await.expect("ollama runs")
    }

    async fn does(&self, arguments: &[&str]) -> String {
        let output = self.ollama(arguments).await;
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "ollama {arguments:?}: {out}{err}");
        out + &err
    }

    /// What it says instead of doing it.
    async fn refuses(&self, arguments: &[&str]) -> String {
        let output = self.ollama(arguments).await;
        assert!(!output.status.success(), "ollama {arguments:?}: {}", text(&output.stdout));
        let told = text(&output.stderr);
        told.split_once("Error: ").map(|(_, error)| error.to_owned()).unwrap_or(told)
    }

    /// Starts the instance again with these flags besides its own.
    async fn restart(&mut self, more: &[&str]) {
        let arguments: Vec<&str> = self.named.iter().map(String::as_str).chain(more.iter().copied()).collect();
        self.up.restart(&arguments).await;
    }

    async fn pulls(&self) -> Vec<String> {
        let names = self.up.kubectl(&["get", "modelpull", "-o", "name"]).await;
        names.lines().map(str::to_owned).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn models_of_the_fleet_are_pulled_run_and_removed_with_ollamas_own_tools() {
    let mut shop = Shop::open().await;
    tools_pull_run_and_remove(&shop).await;
    a_tag_that_moved_is_followed(&shop).await;
    many_share_one_pull(&shop).await;
    what_others_need_stays(&shop).await;
    what_was_there_before_stays(&shop).await;
    a_pull_outlives_who_asked_for_it_and_the_gateway(&mut shop).await;
    nobody_operates_where_that_is_off(&mut shop).await;
}

async fn tools_pull_run_and_remove(shop: &Shop) {
    let said = shop.does(&["run", "shop/bot:1", "Is all well?"]).await;
    assert!(said.starts_with(SENTENCE) && said.contains("success") && said.contains("100%"), "{said}");
    assert!(shop.does(&["ls"]).await.contains("shop/bot:1"));
    for node in &shop.nodes {
        assert!(node.digest_of("shop/bot:1").await.is_some(), "{} lacks it", node.url());
    }
    let start = Instant::now();
    assert!(shop.does(&["pull", "shop/bot:1"]).await.contains("success"));
    assert!(start.elapsed() < Duration::from_secs(3), "what is there took {:?}", start.elapsed());

    let missing = shop.refuses(&["pull", "shop/nope:1"]).await;
    assert!(missing.contains("shop/nope:1 was not found: check the spelling"), "{missing}");
    let pulls = shop.pulls().await;
    assert!(pulls.len() == 1 && pulls[0].contains("/shop-bot-1-"), "what can't come leaves nothing behind: {pulls:?}");

    assert!(shop.does(&["rm", "shop/bot:1"]).await.contains("deleted 'shop/bot:1'"));
    assert!(!shop.does(&["ls"]).await.contains("shop/bot:1") && shop.pulls().await.is_empty());
    for node in &shop.nodes {
        assert!(node.digest_of("shop/bot:1").await.is_none(), "{} keeps it", node.url());
    }
    for (command, advice) in [
        (vec!["rm", "shop/bot:1"], "not found"),
        (vec!["cp", "shop/bot:1", "mine"], "ModelVersion"),
        (vec!["push", "shop/bot:1"], "drover push"),
    ] {
        let refusal = shop.refuses(&command).await;
        assert!(refusal.contains(advice), "{command:?}: {refusal}");
    }
}

/// Through the mirror, which has what the tag stood for before.
async fn a_tag_that_moved_is_followed(shop: &Shop) {
    shop.does(&["pull", "shop/bot:1"]).await;
    publish(&shop.registry, &shop.nodes[0], &[("shop/bot", "1", TinyLlama::new(8).says(SENTENCE))]).await;
    let moved = shop.registry.manifest_digest("shop/bot", "1").await;
    assert_ne!(shop.nodes[1].digest_of("shop/bot:1").await.as_ref(), Some(&moved));
    // What a registry said holds for two seconds.
    eventually("the tag is followed", SOON, async || {
        assert!(shop.does(&["pull", "shop/bot:1"]).await.contains("success"));
        let held = join_all(shop.nodes.iter().map(|node| node.digest_of("shop/bot:1"))).await;
        if held == [Some(moved.clone()), Some(moved.clone())] { Ok(()) } else { Err(format!("{held:?}")) }
    })
    .await;
    shop.front.fail_with(Some(StatusCode::SERVICE_UNAVAILABLE));
    eventually("nobody knows what it stands for", SOON, async || {
        let told = text(&shop.ollama(&["pull", "shop/bot:1"]).await.stderr);
        if told.contains("the tag could not be looked up again") { Ok(()) } else { Err(told) }
    })
    .await;
    assert_eq!(shop.nodes[0].digest_of("shop/bot:1").await, Some(moved), "everything stays");
    shop.front.fail_with(None);
    assert!(shop.does(&["rm", "shop/bot:1"]).await.contains("deleted 'shop/bot:1'"));
}

/// The client of Python pulls over a slow line while others ask for the same and one of them hangs up.
async fn many_share_one_pull(shop: &Shop) {
    shop.front.limit_bandwidth(Some(6 * MIB));
    let script = checkout("tests/up/operations.py");
    let mut python = Command::new(program("python"));
    python.arg("-B").arg(script).arg(shop.up.url("gateway")).env("NO_PROXY", "*").kill_on_drop(true);
    let pull = |body: Value| http_client().post(format!("{}/api/pull", shop.up.url("gateway"))).json(&body).send();
    let others = async {
        let mut first = pull(json!({ "model": "shop/big:1" })).await.expect("an answer").bytes_stream();
        first.next().await.expect("a line").expect("a line");
        drop(first);
        let whole = pull(json!({ "name": "registry.ollama.ai/shop/BIG:1", "stream": false })).await.expect("an answer");
        (whole.status().as_u16(), whole.json::<Value>().await.expect("JSON"))
    };
    let alone = async {
        eventually("they share one ModelPull", SOON, async || {
            let pulls = shop.pulls().await;
            if pulls.len() == 1 && pulls[0].contains("/shop-big-1-") { Ok(()) } else { Err(format!("{pulls:?}")) }
        })
        .await;
    };
    let (python, (status, whole), ()) = tokio::join!(python.output(), others, alone);
    let python = python.expect("python runs");
    assert!(python.status.success(), "{}", text(&python.stderr));
    assert_eq!((status, &whole), (200, &json!({ "status": "success" })));
    shop.front.limit_bandwidth(None);
}

async fn what_others_need_stays(shop: &Shop) {
    shop.does(&["pull", "shop/bot:1"]).await;
    shop.up
        .apply(
            "{apiVersion: drover.dev/v1alpha1, kind: ModelPull, metadata: {name: base}, spec: {model: 'shop/bot:1'}}\n---\n\
             {apiVersion: drover.dev/v1alpha1, kind: ModelVersion, metadata: {name: bot-v1}, spec: {model: bot, version: \
             v1.0.0, source: {ollama: {tag: 'shop/bot:1'}}}}\n---\n\
             {apiVersion: drover.dev/v1alpha1, kind: ModelDeployment, metadata: {name: bot}, spec: {model: bot, version: \
             v1.0.0}}",
        )
        .await;
    let refusal = shop.refuses(&["rm", "shop/bot:1"]).await;
    assert!(refusal.contains("ModelDeployment bot; ModelVersion bot-v1; ModelPull base"), "{refusal}");
    shop.up.eventually_is("modeldeployment/bot", ".status.phase", "Healthy").await;
    let refusal = shop.refuses(&["rm", "bot"]).await;
    assert!(refusal.contains("kubectl delete modeldeployment bot"), "{refusal}");
    shop.up.kubectl(&["delete", "modeldeployment/bot", "modelversion/bot-v1", "modelpull/base"]).await;
    // Somebody wants it kept. What such an object left behind goes, too.
    shop.up
        .kubectl(&["patch", &shop.pulls().await[0], "--type=merge", "-p", r#"{"spec": {"deletionPolicy": "Retain"}}"#])
        .await;
    let refusal = shop.refuses(&["rm", "shop/bot:1"]).await;
    assert!(refusal.contains("needed by ModelPull shop-bot-1-"), "{refusal}");
    shop.up.kubectl(&["delete", &shop.pulls().await[0]]).await;
    assert!(shop.nodes[0].digest_of("shop/bot:1").await.is_some());
    shop.does(&["rm", "shop/bot:1"]).await;
    assert!(shop.nodes[0].digest_of("shop/bot:1").await.is_none());
    assert!(shop.pulls().await.is_empty());
}

async fn what_was_there_before_stays(shop: &Shop) {
    let gguf = shop.scratch.join("own.gguf");
    TinyLlama::new(5).write(&gguf).expect("the model can be written");
    // Until the node is known to have lost it, it counts as what Drover put there.
    shop.up.eventually_is("ollamanode/first", ".status.pulled", "").await;
    shop.nodes[0].create("shop/bot:1", &gguf).await;
    eventually("the fleet has it", SOON, async || {
        let listed = shop.does(&["ls"]).await;
        if listed.contains("shop/bot:1") { Ok(()) } else { Err(listed) }
    })
    .await;
    let alone = shop.refuses(&["rm", "shop/bot:1"]).await;
    assert!(alone.contains("stays on first, where it was before Drover"), "{alone}");
    shop.does(&["pull", "shop/bot:1"]).await;
    assert!(shop.nodes[1].digest_of("shop/bot:1").await.is_some());
    assert_eq!(shop.refuses(&["rm", "shop/bot:1"]).await, alone, "it is gone from where Drover put it");
    assert!(shop.nodes[1].digest_of("shop/bot:1").await.is_none() && shop.pulls().await.is_empty());
    // The advice is good.
    let command = alone.split('`').nth(1).expect("a command");
    assert!(command.contains(&shop.nodes[0].url()), "{command}");
    shop.nodes[0].delete("shop/bot:1").await;
}

async fn a_pull_outlives_who_asked_for_it_and_the_gateway(shop: &mut Shop) {
    shop.front.stall(true);
    let mut command = Command::new(program("ollama"));
    command.args(["pull", "shop/big:1"]).env("OLLAMA_HOST", shop.up.url("gateway")).env("HOME", shop.scratch.path());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).env("NO_PROXY", "*").kill_on_drop(true);
    let waiting = command.spawn().expect("ollama runs");
    eventually("the pull is there", SOON, async || if shop.pulls().await.len() == 1 { Ok(()) } else { Err("not yet") })
        .await;
    assert!(shop.up.process().stop_gracefully(SOON).await.success(), "who waits for a pull holds nobody up");
    let told = text(&waiting.wait_with_output().await.expect("ollama ends").stderr);
    assert!(told.contains("the pull goes on"), "{told}");
    shop.front.stall(false);
    shop.restart(&[]).await;
    let pulls = shop.pulls().await;
    shop.up.kubectl(&["wait", "--for=condition=Ready", &pulls[0], "--timeout=60s"]).await;
}

async fn nobody_operates_where_that_is_off(shop: &mut Shop) {
    let pull = |url: String| http_client().post(url + "/api/pull").json(&json!({ "model": "shop/bot:1" }));
    let forwarded = pull(shop.up.url("gateway").into()).header("x-forwarded-for", "192.0.2.7").send().await;
    assert_eq!(forwarded.expect("an answer").status(), 401, "it is for somebody else, who has no key");
    shop.restart(&["--model-operations", "false"]).await;
    for command in [["pull", "shop/bot:1"], ["rm", "shop/big:1"]] {
        let refusal = shop.refuses(&command).await;
        assert!(refusal.contains("set model-operations"), "{refusal}");
    }
    assert_eq!(shop.pulls().await.len(), 1);
}
