//! A whole fleet for one scenario: API server, registry, nodes, controller, gateways.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    support::{
        Scratch,
        drover::{Drover, program},
        eventually, free_port,
        gguf::TinyLlama,
        kube_api::KubeApi,
        models::publish,
        ollama::Ollama,
        registry::{Registry, RegistryFront},
    },
    world::install_crds,
};

/// Long enough for anything that is expected to happen soon, on a busy machine.
pub const SOON: Duration = Duration::from_secs(60);
/// The namespace of the fleet's objects.
pub const NAMESPACE: &str = "fleet";

/// Fields end in the order that they stand in: Drover first, the folder last.
pub struct Fleet {
    pub controller: Drover,
    pub mirror: Option<Drover>,
    pub gateways: Vec<Drover>,
    pub gateway_urls: Vec<String>,
    pub nodes: Vec<Ollama>,
    pub front: RegistryFront,
    pub registry: Registry,
    pub api: KubeApi,
    pub http: reqwest::Client,
    _scratch: Scratch,
}

impl Fleet {
    /// Two nodes `node-1` and `node-2`, two gateways, and these models in the registry.
    pub async fn start(models: &[(&str, &str, TinyLlama)]) -> Self {
        Self::start_with(models, false).await
    }

    /// The same with a mirror.
    pub async fn with_mirror(models: &[(&str, &str, TinyLlama)]) -> Self {
        Self::start_with(models, true).await
    }

    async fn start_with(models: &[(&str, &str, TinyLlama)], mirrored: bool) -> Self {
        let scratch = Scratch::new();
        let api_dir = scratch.join("kube");
        let registry_dir = scratch.join("registry");
        let dirs = ["node-1", "node-2"].map(|name| (name, scratch.join(name)));
        for (_, dir) in &dirs {
            std::fs::create_dir_all(dir).expect("a folder for a node");
        }
        let (api, registry, first, second) = tokio::join!(
            KubeApi::start(&api_dir),
            Registry::start(&registry_dir),
            Ollama::start(dirs[0].0, &dirs[0].1),
            Ollama::start(dirs[1].0, &dirs[1].1),
        );
        install_crds(&api).await;
        api.kubectl_ok(&["create", "namespace", NAMESPACE], None).await;
        publish(&registry, &first, models).await;
        let front = RegistryFront::start(&registry).await;
        let ports = [free_port(), free_port()];
        let gateway_urls: Vec<String> = ports.iter().map(|port| format!("http://127.0.0.1:{port}")).collect();
        let kubeconfig = api.kubeconfig();
        let dir = scratch.path();
        let mut gateways = Vec::new();
        for (port, name) in ports.iter().zip(["gateway-1", "gateway-2"]) {
            gateways.push(Drover::gateway(name, &kubeconfig, NAMESPACE, *port, dir).await);
        }
        let mirror_port = free_port();
        let mirror = if mirrored { Some(Drover::mirror(mirror_port, dir, &[]).await) } else { None };
        let mirror_url = format!("http://127.0.0.1:{mirror_port}");
        let more: &[&str] = if mirrored { &["--mirror-url", &mirror_url] } else { &[] };
        let controller = Drover::controller_with(&kubeconfig, NAMESPACE, &gateway_urls, dir, more).await;
        let http = crate::support::http_client();
        let fleet = Self {
            controller,
            mirror,
            gateways,
            gateway_urls,
            nodes: vec![first, second],
            front,
            registry,
            api,
            http,
            _scratch: scratch,
        };
        for (index, node) in fleet.nodes.iter().enumerate() {
            fleet.apply(&node_manifest(&format!("node-{}", index + 1), &node.url())).await;
        }
        fleet
    }

    /// The full name of a model behind the registry's front.
    pub fn model(&self, reference: &str) -> String {
        format!("{}/{reference}", self.front.address())
    }

    pub async fn apply(&self, yaml: &str) {
        self.api.kubectl_ok(&["apply", "-n", NAMESPACE, "-f", "-"], Some(yaml)).await;
    }

    pub async fn get(&self, kind: &str, name: &str) -> Value {
        self.api.get_json(kind, NAMESPACE, name).await
    }

    /// `kubectl patch` with a merge patch.
    pub async fn patch(&self, kind: &str, name: &str, patch: &str) {
        self.api.kubectl_ok(&["patch", kind, name, "-n", NAMESPACE, "--type=merge", "-p", patch], None).await;
    }

    /// Waits until an object's status satisfies `holds`; returns the object.
    pub async fn until(&self, kind: &str, name: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("{kind} {name}: {what}"), SOON, async || {
            let object = self.get(kind, name).await;
            if holds(&object["status"]) { Ok(object) } else { Err(object["status"].to_string()) }
        })
        .await
    }

    /// `kubectl wait --for=condition=Ready`, as a user or a pipeline does it.
    pub async fn wait_ready(&self, kind: &str, name: &str) {
        let object = format!("{kind}/{name}");
        let arguments = ["wait", "--for=condition=Ready", &object, "-n", NAMESPACE, "--timeout=60s"];
        self.api.kubectl_ok(&arguments, None).await;
    }

    /// The reasons of the events on an object.
    pub async fn events(&self, kind: &str, name: &str) -> Vec<String> {
        let selector = format!("involvedObject.kind={kind},involvedObject.name={name}");
        let path = "-o=jsonpath={.items[*].reason}";
        let arguments = ["get", "events", "-n", NAMESPACE, "--field-selector", &selector, path];
        let reasons = self.api.kubectl_ok(&arguments, None).await;
        reasons.split_whitespace().map(str::to_owned).collect()
    }

    /// Runs the `drover` command line; its output, or what it said on stderr when it failed.
    pub async fn drover(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = tokio::process::Command::new(program());
        command.args(arguments).env("KUBECONFIG", self.api.kubeconfig()).kill_on_drop(true);
        let output = command.output().await.expect("drover starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Attempts that a gateway has sent to v1.0.0 and v1.1.0 of `bot` since it started.
    pub async fn attempts(&self, gateway: usize) -> [u64; 2] {
        let request = self.http.get(format!("{}/drover/v1/stats", self.gateway_urls[gateway]));
        let stats: Value = request.send().await.expect("the gateway answers").json().await.expect("JSON");
        let versions = &stats["deployments"][0]["versions"];
        ["v1.0.0", "v1.1.0"].map(|version| versions[version]["attempts"].as_u64().unwrap_or(0))
    }

    /// Waits until both gateways answer for `bot` with this version.
    pub async fn until_version(&self, version: &str) {
        self.until_header("bot", "x-drover-version", version).await;
    }

    /// Waits until both gateways answer for a plain tag.
    pub async fn until_served(&self, tag: &str) {
        self.until_header(tag, "x-drover-model", tag).await;
    }

    async fn until_header(&self, model: &str, header: &str, value: &str) {
        for gateway in [0, 1] {
            eventually(&format!("gateway {gateway} answers with {header}: {value}"), SOON, async || {
                let answer = self.chat(gateway, model).await;
                let found = answer.headers().get(header).cloned();
                if answer.status().is_success() && found.as_ref().is_some_and(|found| found == value) {
                    Ok(())
                } else {
                    Err(format!("{found:?} {}", answer.text().await.unwrap_or_default()))
                }
            })
            .await;
        }
    }

    /// One chat through a gateway.
    pub async fn chat(&self, gateway: usize, model: &str) -> reqwest::Response {
        let body = json!({
            "model": model,
            "messages": [{"role": "user", "content": "Which one are you?"}],
            "stream": false,
            "options": {"num_predict": 8},
        });
        let request = self.http.post(format!("{}/api/chat", self.gateway_urls[gateway])).json(&body);
        request.send().await.expect("the gateway answers")
    }
}

/// Whether a status has a condition with this status.
pub fn condition(status: &Value, type_: &str, expected: &str) -> bool {
    let conditions = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == type_ && condition["status"] == expected)
}

pub fn node_manifest(name: &str, url: &str) -> String {
    format!(
        "apiVersion: drover.dev/v1alpha1\nkind: OllamaNode\nmetadata: {{name: {name}, labels: {{node: {name}}}}}\n\
         spec: {{url: '{url}', maxConcurrentRequests: 4, keepAlive: 5m}}\n"
    )
}

pub fn pull_manifest(name: &str, model: &str) -> String {
    format!(
        "apiVersion: drover.dev/v1alpha1\nkind: ModelPull\nmetadata: {{name: {name}}}\n\
         spec: {{model: '{model}', insecure: true, retry: {{initialDelay: 1s, maxDelay: 2s}}}}\n"
    )
}

pub fn version_manifest(version: &str, tag: &str) -> String {
    format!(
        "apiVersion: drover.dev/v1alpha1\nkind: ModelVersion\nmetadata: {{name: bot-{version}}}\n\
         spec: {{model: bot, version: {version}, source: {{ollama: {{tag: '{tag}'}}}}}}\n"
    )
}

/// A deployment with the steps 20 and 50, each held for `step`.
pub fn deployment_manifest(version: &str, step: &str) -> String {
    format!(
        "apiVersion: drover.dev/v1alpha1\nkind: ModelDeployment\nmetadata: {{name: bot}}\n\
         spec: {{model: bot, version: {version}, strategy: {{canary: {{steps: [\
         {{weight: 20, duration: {step}}}, {{weight: 50, duration: {step}}}]}}}}}}\n"
    )
}
