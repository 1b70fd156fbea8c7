//! What is measured: a gateway as people start it, nginx as the best that a proxy can do, and the stub without either.

use std::{collections::BTreeMap, ffi::OsStr, fs, path::Path, process::Command, sync::Arc, time::Duration};

use drover::routing_table::{
    Deployment, Holder, Namespace, Node, RoutingTable, Target as Model, compile::Objects, directory, save,
};
use serde_json::json;

use super::{
    MODEL,
    load::{Figures, Job},
    pinned,
};
use crate::{
    machine,
    nginx::Nginx,
    routing::object,
    support::{drover::program, free_port, http_client, process::Process},
};

/// What nodes have beside the version.
const OTHER: &str = "other:1b";

/// An API by which the model is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Api {
    Ollama,
    OpenAi,
}

impl Api {
    pub const ALL: [Self; 2] = [Self::Ollama, Self::OpenAi];

    pub fn name(self) -> &'static str {
        match self {
            Self::Ollama => "Ollama API",
            Self::OpenAi => "OpenAI API",
        }
    }

    /// One request with about 600 bytes of body.
    fn request(self, port: u16, model: &str, stream: bool) -> String {
        let (system, user) = ("You are terse. ".repeat(12), "Why is the sky blue? ".repeat(14));
        let messages = json!([{ "role": "system", "content": system }, { "role": "user", "content": user }]);
        let (path, body) = match self {
            Self::Ollama => (
                "/api/chat",
                json!({ "model": model, "messages": messages, "options": { "temperature": 0.7 }, "stream": stream }),
            ),
            Self::OpenAi => (
                "/v1/chat/completions",
                json!({ "model": model, "messages": messages, "temperature": 0.7, "stream": stream }),
            ),
        };
        let body = body.to_string();
        format!(
            "POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\nAccept: */*\r\n\
             User-Agent: bench/1.0\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }
}

/// A kind of load.
#[derive(Clone, Copy)]
pub struct Phase {
    /// The name by which the model is asked for.
    pub model: &'static str,
    pub connections: usize,
    pub rate: Option<f64>,
    pub stream: bool,
    /// Within how long the connections begin.
    pub spread: Duration,
}

/// What a target did under load.
#[derive(Clone, Default)]
pub struct Measured {
    pub figures: Figures,
    /// Microseconds of CPU an answer.
    pub cpu: f64,
}

/// Something that answers on a port.
pub struct Target {
    port: u16,
    pid: u32,
    /// Ends with this value.
    _owner: Owner,
}

/// Whose end is the target's.
#[allow(dead_code)] // held, not read
enum Owner {
    Process(Process),
    Nginx(Nginx),
}

impl Target {
    /// The stub, on so many ports.
    pub async fn stub(dir: &Path, ports: &[u16]) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("the path of this program"));
        command.arg(super::STUB).args(ports.iter().map(ToString::to_string));
        let process = Process::spawn("stub", command, dir);
        Self::ready(ports[0], process.pid(), Owner::Process(process)).await
    }

    /// A plain reverse proxy as one would put before a model server: connections to it kept alive, answers not buffered.
    pub async fn nginx(dir: &Path, upstream: u16) -> Self {
        let http = format!(
            "keepalive_requests 100000000; upstream stub {{ server 127.0.0.1:{upstream}; keepalive 256; \
             keepalive_requests 100000000; }}"
        );
        let server = "location / { proxy_pass http://stub; proxy_http_version 1.1; proxy_set_header Connection \"\"; \
                      proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; \
                      proxy_buffering off; proxy_read_timeout 600s; }";
        let command = pinned::target(OsStr::new("nginx"));
        let nginx = Nginx::start(dir, command, "master_process off;", (&http, server), "/").await;
        Self { port: nginx.port, pid: nginx.pid(), _owner: Owner::Nginx(nginx) }
    }

    /// A gateway before nodes on these ports, which serves a table that it has kept: there is no Kubernetes API. It runs under
    /// `tool`, a command with its arguments, if there is any.
    pub async fn gateway(dir: &Path, nodes: &[u16], tool: &[&OsStr]) -> Self {
        let name = format!("gateway-{}", nodes.len());
        let (port, health, data) = (free_port(), free_port(), dir.join(&name));
        fs::create_dir_all(&data).expect("a folder for the gateway's data");
        save(&data.join("routing-table.json"), &table(nodes)).expect("a table on disk");
        let nowhere = format!(
            "{{clusters: [{{name: c, cluster: {{server: 'http://127.0.0.1:{}'}}}}], \
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}], users: [{{name: u, user: {{}}}}], \
             current-context: c, apiVersion: v1, kind: Config}}",
            free_port()
        );
        let kubeconfig = dir.join("kubeconfig");
        fs::write(&kubeconfig, nowhere).expect("a kubeconfig");
        let program = program();
        let words: Vec<&OsStr> = tool.iter().copied().chain([program.as_os_str()]).collect();
        let mut command = pinned::target(words[0]);
        command.args(&words[1..]).args([
            "gateway",
            "--log-level",
            "warn",
            "--gateway-listen",
            &format!("127.0.0.1:{port}"),
        ]);
        command.args(["--health-listen", &format!("127.0.0.1:{health}"), "--data-dir"]).arg(&data);
        command.env("KUBECONFIG", &kubeconfig);
        let process = Process::spawn(&name, command, dir);
        Self::ready(port, process.pid(), Owner::Process(process)).await
    }

    async fn ready(port: u16, pid: u32, owner: Owner) -> Self {
        let url = format!("http://127.0.0.1:{port}/");
        let http = http_client();
        crate::support::eventually("the target answers", Duration::from_secs(10), async || {
            http.get(&url).send().await.and_then(reqwest::Response::error_for_status)
        })
        .await;
        Self { port, pid, _owner: owner }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What it holds in memory, in MiB; and how much of that is in no file, its program's among them.
    pub fn memory(&self) -> (f64, f64) {
        let mebibytes = |megabytes: f64| megabytes * 1e6 / f64::from(1 << 20);
        (mebibytes(machine::memory(self.pid).0), mebibytes(machine::private_memory(self.pid)))
    }

    /// Puts it under load for so many seconds.
    pub fn measure(&self, api: Api, phase: Phase, seconds: f64) -> Measured {
        let Phase { model, connections, rate, stream, spread } = phase;
        let request = api.request(self.port, model, stream);
        let spread = spread.as_secs_f64();
        let job = Job { port: self.port, request, connections, seconds, rate, spread, lines: stream };
        let job = serde_json::to_string(&job).expect("a job is JSON");
        let before = machine::cpu_time(self.pid);
        let mut load = Command::new(std::env::current_exe().expect("the path of this program"));
        let output = load.arg(super::LOAD).arg(job).output().expect("the load runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let figures: Figures = serde_json::from_slice(&output.stdout).expect("figures");
        assert_eq!(figures.errors, 0, "requests that were not answered, beside {}", figures.answers);
        let cpu = machine::cpu_time(self.pid) - before;
        Measured { cpu: cpu.as_secs_f64() * 1e6 / figures.answers.max(1) as f64, figures }
    }

    /// From now on the stub waits so long between the chunks of a stream.
    pub async fn set_delay(&self, delay: Duration) {
        let url = format!("http://127.0.0.1:{}/_stub?delay_us={}", self.port, delay.as_micros());
        http_client().get(url).send().await.expect("the stub answers");
    }
}

/// A version on every node, under an alias as versions have it: the name in each answer is replaced. The deployment is also
/// what the profile, the chain and the worker `hop` come to; profile and chain have a plain model behind it.
fn table(ports: &[u16]) -> RoutingTable {
    let node = |(index, port): (usize, &u16)| {
        Arc::new(Node {
            id: format!("default/node-{index}"),
            name: format!("node-{index}"),
            url: format!("http://127.0.0.1:{port}"),
            weight: 100,
            // Room for all that the load has under way at once.
            max_concurrent_requests: 64,
            keep_alive: Some("10m".into()),
            context_length: Some(8192),
            max_context_length: None,
        })
    };
    let nodes: Vec<Arc<Node>> = ports.iter().enumerate().map(node).collect();
    let digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let holders = nodes.iter().map(|node| Holder { node: node.clone(), loaded: true, digest: digest.into() });
    let stable = Model {
        tag: "stub:1b".into(),
        version: Some("v1.0.0".into()),
        digest: digest.into(),
        model: MODEL.into(),
        holders: holders.collect(),
        ..Model::default()
    };
    let other = Model { tag: OTHER.into(), version: None, model: OTHER.into(), ..stable.clone() };
    let deployment = Deployment {
        revision: 1,
        since: "2026-01-01T00:00:00Z".parse().expect("a time"),
        rollout_id: "bench-1".into(),
        stable,
        canary: None,
        sticky_header: None,
        schema_check: false,
    };
    let mut namespace = Namespace {
        deployments: BTreeMap::from([("stub".into(), deployment)]),
        tags: BTreeMap::from([(format!("registry.ollama.ai/library/{OTHER}"), other)]),
        nodes: nodes.iter().map(|node| (node.name.clone(), node.clone())).collect(),
        ..Namespace::default()
    };
    directory::fill(&mut namespace, "default", &hops());
    RoutingTable { namespaces: BTreeMap::from([("default".into(), namespace)]), ..RoutingTable::default() }
}

/// A profile, a chain of two steps and a worker, all by the name of `hop`.
fn hops() -> Objects {
    let steps = json!({ "steps": [{ "target": { "deployment": "stub" } }, { "target": { "model": OTHER } }] });
    Objects {
        profiles: vec![object("RoutingProfile", "hop", json!({ "capabilities": ["chat"] }), json!(null))],
        chains: vec![object("FallbackChain", "hop", steps, json!(null))],
        workers: vec![object("Worker", "hop", json!({ "model": "deployment/stub" }), json!(null))],
        ..Objects::default()
    }
}
