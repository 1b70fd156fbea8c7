//! Callers' keys, from `kubectl apply` to the gateway that asks for them.

use std::time::{Duration, Instant};

use drover::domain::digest::Digest;
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::process::Command;

use crate::{
    namespace::{Namespace, SOON, condition},
    support::{
        Scratch,
        drover::{Drover, program},
        eventually, free_port, http_client,
        kube_api::Server,
    },
    world::{api, on_both_apis},
};

on_both_apis! {
    keys_open_the_gateway_until_they_end_or_are_taken_back,
}

/// What a caller of somebody who made the hash without `drover keys` sends.
const OWN: &str = "a-key-of-our-own";

/// A controller and a gateway that asks everybody for a key; no nodes.
struct World {
    namespace: Namespace,
    controller: Drover,
    gateway: Drover,
    url: String,
    scratch: Scratch,
}

impl World {
    async fn start(server: Server) -> Self {
        let namespace = Namespace::new(api(server).await, "keys").await;
        let (scratch, kubeconfig, port, health) =
            (Scratch::new(), namespace.api.kubeconfig(), free_port(), free_port());
        let url = format!("http://127.0.0.1:{port}");
        let arguments = [
            "gateway".to_owned(),
            format!("--namespace={}", namespace.name),
            format!("--gateway-listen=127.0.0.1:{port}"),
            format!("--data-dir={}", scratch.path().display()),
            format!("--health-listen=127.0.0.1:{health}"),
            "--require-key=everybody".to_owned(),
        ];
        let (gateway, controller) = tokio::join!(
            Drover::with_arguments("gateway", arguments.to_vec(), health, &kubeconfig, scratch.path()),
            Drover::controller(&kubeconfig, &namespace.name, std::slice::from_ref(&url), scratch.path()),
        );
        Self { namespace, controller, gateway, url, scratch }
    }

    /// What `drover keys` prints, or what it says on stderr when it fails.
    async fn keys(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new(program());
        command.arg("keys").args(arguments).args(["-n", &self.namespace.name]);
        let output = command.env("KUBECONFIG", self.namespace.api.kubeconfig()).output().await.expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// What the gateway answers to somebody with this key.
    async fn ask(&self, key: &str) -> (u16, String) {
        let request = http_client().get(format!("{}/v1/models", self.url)).bearer_auth(key);
        let answer = request.send().await.expect("the gateway answers");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    }

    async fn until_asked(&self, key: &str, status: u16, words: &str) {
        eventually(&format!("{status} {words}"), SOON, async || {
            let (found, text) = self.ask(key).await;
            if found == status && text.contains(words) { Ok(()) } else { Err(format!("{found} {text}")) }
        })
        .await;
    }

    async fn apply_own(&self, name: &str, more: &str) {
        let hash = Digest::from_sha256(&Sha256::digest(OWN));
        let yaml = format!(
            "{{apiVersion: drover.dev/v1alpha1, kind: ApiKey, metadata: {{name: {name}}}, spec: {{hash: '{hash}'{more}}}}}"
        );
        self.namespace.apply(&yaml).await;
    }
}

fn reason(status: &Value) -> &str {
    status["conditions"][0]["reason"].as_str().unwrap_or_default()
}

async fn keys_open_the_gateway_until_they_end_or_are_taken_back(server: Server) {
    let mut world = World::start(server).await;
    assert_eq!(world.ask("drv_none").await.0, 401);
    let secret = world
        .keys(&["create", "docs", "--models", "bot,llama*", "--requests-per-minute", "60", "--expires", "30d"])
        .await
        .expect("it is made");
    assert!(secret.starts_with("drv_") && secret.len() > 40 && !secret.contains(char::is_whitespace), "{secret}");
    world.until_asked(&secret, 200, "list").await;
    world.namespace.wait_ready("akey", "docs").await;
    world.namespace.until("akey", "docs", "shared by one gateway", |status| status["gateways"] == 1).await;
    let refused = world.keys(&["create", "docs"]).await.expect_err("there is one");
    assert!(refused.contains("already"), "{refused}");

    one_hash_is_one_keys(&world).await;
    bad_and_ended_keys_say_so(&world).await;

    let listed = world.keys(&["list"]).await.expect("a table");
    assert!(listed.contains("docs") && listed.contains("Active") && listed.contains("bot,llama*"), "{listed}");
    world.is_idle_with_the_day_of_use("docs").await;
    no_trace_of(&mut world, &secret).await;

    let began = Instant::now();
    world.keys(&["revoke", "docs"]).await.expect("it is taken back");
    world.until_asked(&secret, 401, "not known here").await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let gone = world.keys(&["revoke", "docs"]).await.expect_err("there is none");
    assert!(gone.contains("there is no ApiKey docs"), "{gone}");
}

/// Of two objects with one hash the older one counts.
async fn one_hash_is_one_keys(world: &World) {
    world.apply_own("first", "").await;
    world.namespace.wait_ready("akey", "first").await;
    world.until_asked(OWN, 200, "list").await;
    // An API server notes times of creation by the second.
    let first = world.namespace.get("akey", "first").await["metadata"]["creationTimestamp"].take();
    let first: Timestamp = first.as_str().expect("a time").parse().expect("RFC 3339");
    let later = async || if Timestamp::now().as_second() > first.as_second() { Ok(()) } else { Err(first) };
    eventually("another second", SOON, later).await;
    world.apply_own("second", ", disabled: true").await;
    let taken = |status: &Value| reason(status) == "HashTaken" && condition(status, "Stalled", "True");
    world.namespace.until("akey", "second", "the older one has its hash", taken).await;
    assert_eq!(world.ask(OWN).await.0, 200);
    world.namespace.delete("akey", "first").await;
    world.namespace.until("akey", "second", "it has its hash, and is disabled", |s| reason(s) == "Disabled").await;
    world.until_asked(OWN, 401, "the key second is disabled").await;
    world.namespace.delete("akey", "second").await;
}

async fn bad_and_ended_keys_say_so(world: &World) {
    world.apply_own("own", ", models: ['bot[']").await;
    let bad = world.namespace.until("akey", "own", "not understood", |s| reason(s) == "InvalidSpec").await;
    let message = bad["status"]["conditions"][0]["message"].as_str().unwrap_or_default();
    assert!(message.contains("spec.models") && message.contains("bot["), "{message}");
    let soon = Timestamp::now() + Duration::from_secs(4);
    let patch = json!({ "spec": { "models": null, "expiresAt": soon } }).to_string();
    world.namespace.patch("akey", "own", &patch).await;
    world.until_asked(OWN, 200, "list").await;
    world.until_asked(OWN, 401, "the key own could be used until").await;
    world.namespace.until("akey", "own", "ended", |s| reason(s) == "Expired").await;
    let later = json!({ "spec": { "expiresAt": null } }).to_string();
    world.namespace.patch("akey", "own", &later).await;
    world.until_asked(OWN, 200, "list").await;
    world.namespace.wait_ready("akey", "own").await;
    world.namespace.delete("akey", "own").await;
}

impl World {
    /// A controller that starts asks the gateways, writes the day on which the key was used, and nothing after that.
    async fn is_idle_with_the_day_of_use(&mut self, name: &str) {
        self.controller.restart().await;
        self.namespace.until("akey", name, "shows when it was used", |s| s["lastUsedOn"].is_string()).await;
        let marker = self.namespace.api.marker().await;
        self.controller.restart().await;
        eventually("the key was looked at again, with the gateways' answers", SOON, async || {
            let metrics = self.controller.metrics().await;
            let is_ours = |line: &&str| line.starts_with("drover_reconciles_total") && line.contains("kind=\"ApiKey\"");
            let done = metrics.lines().filter(is_ours).find(|line| line.contains("Done"));
            let count = done.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).unwrap_or_default();
            if count >= 2.0 { Ok(()) } else { Err(metrics) }
        })
        .await;
        assert_eq!(self.namespace.writes_since(marker).await.len(), 0);
    }
}

/// The key is in no log, no object, no file and no metric; its hash is.
async fn no_trace_of(world: &mut World, secret: &str) {
    let table = std::fs::read_to_string(world.scratch.join("routing-table.json")).expect("the table is kept");
    assert!(table.contains(Digest::from_sha256(&Sha256::digest(secret)).as_str()));
    let objects = world.namespace.kubectl(&["get", "akey,events", "-o", "yaml"]).await;
    let logs = [world.controller.process().log(), world.gateway.process().log()];
    let metrics = [world.controller.metrics().await, world.gateway.metrics().await];
    for text in logs.into_iter().chain(metrics).chain([table, objects]) {
        assert!(!text.contains(secret.trim_start_matches("drv_")), "{text}");
    }
}
