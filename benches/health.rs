//! How soon a controller with a big fleet answers load balancers and people.

use std::time::Duration;

use serde_json::Value;

use crate::{
    fleet::Fleet,
    load,
    scale::{NAMESPACE, Size, create, start_controller},
    support::{Scratch, eventually, http_client, kube_api::KubeApi},
    table::Table,
    world::install_crds,
};

const SIZE: Size = Size { nodes: 1000, pulls: 0 };
const MODELS: usize = 50;
const PATH: &str = "/health/models";
const REQUESTS: usize = 3000;
const KNOWN_WITHIN: Duration = Duration::from_secs(120);

pub async fn run(table: &mut Table) {
    let scratch = Scratch::new();
    let api = KubeApi::start(&scratch.join("kube")).await;
    install_crds(&api).await;
    api.kubectl_ok(&["create", "namespace", NAMESPACE], None).await;
    let fleet = Fleet::start(SIZE.nodes, MODELS).await;
    create(&api.client().await, &fleet, SIZE).await;
    let (mut controller, port) = start_controller(&api, &scratch);
    let http = http_client();
    eventually("the health of all nodes and models is known", KNOWN_WITHIN, async || {
        assert!(controller.is_alive(), "{}", controller.diagnosis());
        let answer = http.get(format!("http://127.0.0.1:{port}{PATH}")).send().await.map_err(|e| e.to_string())?;
        let health: Value = answer.json().await.map_err(|error| error.to_string())?;
        let list = |name: &str| health[name].as_array().map(Vec::as_slice).unwrap_or_default();
        let ready = list("nodes").iter().filter(|node| node["ready"] == true).count();
        let everywhere = |model: &&Value| model["nodes"].as_array().is_some_and(|nodes| nodes.len() == SIZE.nodes);
        let models = list("models").iter().filter(everywhere).count();
        if (ready, models) == (SIZE.nodes, MODELS) { Ok(()) } else { Err(format!("{ready} nodes, {models} models")) }
    })
    .await;
    let mut latencies = load::latencies(port, PATH, REQUESTS);
    latencies.sort_by(f64::total_cmp);
    let at = |share: f64| latencies[(REQUESTS as f64 * share) as usize];
    let figure = format!("p50 {:.2} ms, p99 {:.2} ms, worst {:.2} ms", at(0.5), at(0.99), latencies[REQUESTS - 1]);
    table.goal("/health/models, 1,000 nodes × 50 models: p99 < 5 ms", figure, at(0.99) < 5.0);
}
