//! A whole fleet for one scenario: API server, registry, nodes, controller, gateways.

use std::{ops::Deref, path::Path, sync::Arc};

use serde_json::{Value, json};

use crate::{
    namespace::{Namespace, SOON},
    support::{
        Scratch,
        drover::{Drover, program},
        eventually, free_port,
        gguf::TinyLlama,
        kube_api::{KubeApi, Server},
        models::publish,
        node_front::NodeFront,
        ollama::Ollama,
        registry::{Registry, RegistryFront},
    },
    world,
};

/// Fields end in the order that they stand in: Drover first, the folder last.
pub struct Fleet {
    pub controller: Drover,
    pub mirror: Option<Drover>,
    pub gateways: Vec<Drover>,
    pub gateway_urls: Vec<String>,
    pub nodes: Vec<Ollama>,
    pub front: RegistryFront,
    pub registry: Registry,
    pub namespace: Namespace,
    pub http: reqwest::Client,
    scratch: Scratch,
}

/// Most of what is done to a fleet is done in its namespace.
impl Deref for Fleet {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.namespace
    }
}

impl Fleet {
    /// Two nodes `node-1` and `node-2`, two gateways, and these models in the registry.
    pub async fn start(server: Server, models: &[(&str, &str, TinyLlama)]) -> Self {
        Self::start_with(Scratch::new(), world::api(server), models, false).await
    }

    /// The same with a mirror.
    pub async fn with_mirror(server: Server, models: &[(&str, &str, TinyLlama)]) -> Self {
        Self::start_with(Scratch::new(), world::api(server), models, true).await
    }

    /// The same without a mirror, on an API server of its own, which nobody misses when it is stopped.
    pub async fn alone(server: Server, models: &[(&str, &str, TinyLlama)]) -> Self {
        let scratch = Scratch::new();
        let dir = scratch.join("kube");
        let api = async { Arc::new(world::own_api(server, &dir).await) };
        Self::start_with(scratch, api, models, false).await
    }

    async fn start_with(
        scratch: Scratch,
        api: impl Future<Output = Arc<KubeApi>>,
        models: &[(&str, &str, TinyLlama)],
        mirrored: bool,
    ) -> Self {
        let registry_dir = scratch.join("registry");
        let dirs = ["node-1", "node-2"].map(|name| (name, scratch.join(name)));
        for (_, dir) in &dirs {
            std::fs::create_dir_all(dir).expect("a folder for a node");
        }
        let (api, registry, first, second) = tokio::join!(
            api,
            Registry::start(&registry_dir),
            Ollama::start(dirs[0].0, &dirs[0].1),
            Ollama::start(dirs[1].0, &dirs[1].1),
        );
        let namespace = Namespace::new(api, "fleet").await;
        publish(&registry, &first, models).await;
        let front = RegistryFront::start(&registry).await;
        let ports = [free_port(), free_port()];
        let gateway_urls: Vec<String> = ports.iter().map(|port| format!("http://127.0.0.1:{port}")).collect();
        let (kubeconfig, mirror_port) = (namespace.api.kubeconfig(), free_port());
        let dir = scratch.path();
        let mirror_url = format!("http://127.0.0.1:{mirror_port}");
        let more: &[&str] = if mirrored { &["--mirror-url", &mirror_url] } else { &[] };
        let (gateway_1, gateway_2, mirror, controller) = tokio::join!(
            Drover::gateway("gateway-1", &kubeconfig, &namespace.name, ports[0], dir),
            Drover::gateway("gateway-2", &kubeconfig, &namespace.name, ports[1], dir),
            async { if mirrored { Some(Drover::mirror(mirror_port, dir, &[]).await) } else { None } },
            Drover::controller_with(&kubeconfig, &namespace.name, &gateway_urls, dir, more),
        );
        let http = crate::support::http_client();
        let fleet = Self {
            controller,
            mirror,
            gateways: vec![gateway_1, gateway_2],
            gateway_urls,
            nodes: vec![first, second],
            front,
            registry,
            namespace,
            http,
            scratch,
        };
        let nodes = ["node-1", "node-2"].iter().zip(&fleet.nodes);
        let manifests: Vec<String> = nodes.map(|(name, node)| node_manifest(name, &node.url())).collect();
        fleet.apply(&manifests.join("---\n")).await;
        fleet
    }

    /// From now on everybody reaches the nodes through proxies.
    pub async fn put_fronts(&self) -> Vec<NodeFront> {
        let mut fronts = Vec::new();
        for (name, node) in ["node-1", "node-2"].iter().zip(&self.nodes) {
            let front = NodeFront::start(node).await;
            self.apply(&node_manifest(name, &front.url())).await;
            fronts.push(front);
        }
        fronts
    }

    /// Starts a gateway again with another way to the API and further arguments.
    pub async fn replace_gateway(&mut self, index: usize, kubeconfig: &Path, more: &[&str]) {
        self.gateways[index].kill9();
        let port = self.gateway_urls[index].rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        let name = format!("gateway-{}", index + 1);
        let (namespace, dir) = (&self.namespace.name, self.scratch.path());
        self.gateways[index] = Drover::gateway_with(&name, kubeconfig, namespace, port, dir, more).await;
    }

    /// Runs `drover rollout` with these arguments, about `bot`.
    pub async fn rollout(&self, arguments: &[&str]) -> Result<String, String> {
        self.drover(&[&["rollout"], arguments, &["bot", "-n", &self.name]].concat()).await
    }

    /// The folder that its gateways have their data in.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// The full name of a model behind the registry's front.
    pub fn model(&self, reference: &str) -> String {
        format!("{}/{reference}", self.front.address())
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
