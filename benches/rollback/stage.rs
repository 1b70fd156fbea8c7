//! A controller, two gateways and two nodes on a real API server, with deployments that serve their first version.

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use drover::{
    api::{ModelDeployment, ModelVersion, OllamaNode},
    cluster::Kind,
    domain::rollout::Phase,
};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    fleet::Fleet,
    support::{Scratch, drover::Drover, eventually, free_port, kube_api::KubeApi},
    world::install_crds,
};

pub const VERSIONS: [&str; 2] = ["v1.0.0", "v1.1.0"];
/// The most deployments that a stage has.
pub const MOST: usize = 500;
/// What the deployments and their models are called.
pub static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| (0..MOST).map(|at| format!("bot-{at}")).collect());
const NAMESPACE: &str = "rollouts";
const REQUESTS_AT_ONCE: usize = 16;
const WITHIN: Duration = Duration::from_secs(300);

/// Fields end in the order that they stand in: the folder last.
pub struct Stage {
    pub controller: Drover,
    pub gateways: Vec<Drover>,
    pub urls: Vec<String>,
    pub api: KubeApi,
    pub deployments: Api<ModelDeployment>,
    _nodes: Fleet,
    _scratch: Scratch,
}

impl Stage {
    pub async fn start(deployments: usize) -> Self {
        Self::with_steps(deployments, json!([{"weight": 50, "duration": "1h"}])).await
    }

    /// With these steps.
    pub async fn with_steps(deployments: usize, steps: Value) -> Self {
        let scratch = Scratch::new();
        let api = KubeApi::start(&scratch.join("kube")).await;
        install_crds(&api).await;
        api.kubectl_ok(&["create", "namespace", NAMESPACE], None).await;
        let (nodes, client, kubeconfig, dir) =
            (Fleet::start(2, 2).await, api.client().await, api.kubeconfig(), scratch.path());
        let quiet = ["--log-level", "warn"];
        let ports = [free_port(), free_port()];
        let urls: Vec<String> = ports.iter().map(|port| format!("http://127.0.0.1:{port}")).collect();
        let (first, second, controller) = tokio::join!(
            Drover::gateway_with("gateway-1", &kubeconfig, NAMESPACE, ports[0], dir, &quiet),
            Drover::gateway_with("gateway-2", &kubeconfig, NAMESPACE, ports[1], dir, &quiet),
            Drover::controller_with(&kubeconfig, NAMESPACE, &urls, dir, &quiet),
        );
        let objects = Api::namespaced(client.clone(), NAMESPACE);
        let gateways = vec![first, second];
        let stage = Self { controller, gateways, urls, api, deployments: objects, _nodes: nodes, _scratch: scratch };
        stage.fill(&client, deployments, &steps).await;
        stage
    }

    async fn fill(&self, client: &Client, count: usize, steps: &Value) {
        let nodes = self._nodes.urls().iter().enumerate().map(|(at, url)| {
            let spec = json!({"url": url, "maxConcurrentRequests": 64});
            object("OllamaNode", &format!("node-{at}"), spec)
        });
        create_all::<OllamaNode>(client, nodes).await;
        let versions = NAMES.iter().take(count).flat_map(|name| {
            VERSIONS.iter().enumerate().map(move |(at, version)| {
                let source = json!({"ollama": {"tag": format!("team/resident-{at}:3b")}});
                let spec = json!({"model": name, "version": version, "source": source});
                object("ModelVersion", &format!("{name}-{version}"), spec)
            })
        });
        create_all::<ModelVersion>(client, versions).await;
        let deployments = NAMES.iter().take(count).map(|name| {
            let strategy = json!({"canary": {"steps": steps}});
            object("ModelDeployment", name, json!({"model": name, "version": VERSIONS[0], "strategy": strategy}))
        });
        create_all::<ModelDeployment>(client, deployments).await;
        self.until_all_serve(VERSIONS[0]).await;
        let versions = Api::<ModelVersion>::namespaced(client.clone(), NAMESPACE);
        eventually("every version is on both nodes", WITHIN, async || {
            let all = versions.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
            let held = |version: &ModelVersion| version.status.as_ref().is_some_and(|status| status.ready_nodes == 2);
            match all.items.iter().filter(|version| !held(version)).count() {
                0 => Ok(()),
                lacking => Err(format!("{lacking} are not")),
            }
        })
        .await;
    }

    /// Sets `spec.version` of one deployment.
    pub async fn ask_for(&self, deployment: usize, version: &str) {
        let patch = Patch::Merge(json!({"spec": {"version": version}}));
        let patched = self.deployments.patch(&NAMES[deployment], &PatchParams::default(), &patch).await;
        patched.expect("it can be patched");
    }

    /// The same of all of them.
    pub async fn ask_all_for(&self, count: usize, version: &str) {
        let asked = (0..count).map(|at| self.ask_for(at, version));
        stream::iter(asked).for_each_concurrent(REQUESTS_AT_ONCE, |asked| asked).await;
    }

    /// Waits until all of them serve a version to everybody.
    pub async fn until_all_serve(&self, version: &str) {
        eventually(&format!("all serve {version}"), WITHIN, async || {
            let all = self.deployments.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
            let mut others = BTreeMap::<String, usize>::new();
            for status in all.items.into_iter().map(|object| object.status.unwrap_or_default()) {
                let stable = status.rollout.stable_version().unwrap_or("nothing").to_owned();
                if status.phase != Phase::Healthy || stable != version {
                    *others.entry(format!("{:?}, {stable} serves", status.phase)).or_default() += 1;
                }
            }
            if others.is_empty() { Ok(()) } else { Err(format!("{others:?}")) }
        })
        .await;
    }

    /// When the rollback that was asked for at `moment` was decided and when it was effective.
    pub async fn rollback_after(&self, moment: Timestamp) -> (Timestamp, Timestamp) {
        eventually("the rollback is effective", WITHIN, async || {
            let object = self.deployments.get_status(&NAMES[0]).await.map_err(|error| error.to_string())?;
            let rollback = object.status.and_then(|status| status.rollout.last_rollback);
            let rollback = rollback.filter(|rollback| rollback.decided_at > moment);
            let times = rollback.as_ref().and_then(|found| Some((found.decided_at, found.effective_at?)));
            times.ok_or_else(|| format!("{rollback:?}"))
        })
        .await
    }
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "drover.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

async fn create_all<K: Kind + Serialize>(client: &Client, objects: impl Iterator<Item = Value>) {
    let api = Api::<K>::namespaced(client.clone(), NAMESPACE);
    let create = |object: Value| {
        let object: K = serde_json::from_value(object).expect("an object of its kind");
        let api = &api;
        async move { api.create(&PostParams::default(), &object).await.map(drop) }
    };
    let made = stream::iter(objects.map(create)).buffer_unordered(REQUESTS_AT_ONCE);
    made.try_collect::<()>().await.expect("it can be made");
}
