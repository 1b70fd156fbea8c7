//! Drover's own controller on the embedded API, in one process, with a real node.

use std::{sync::Arc, time::Duration};

use drover::{
    cluster,
    controller::{self, Options, Parts},
    gateway::client::GatewayClient,
    ollama::Ollama as NodeClient,
    providers::{Providers, keys::NoSecrets},
    supervisor::Supervisor,
    telemetry::{Metrics, Readiness},
};
use serde_json::{Value, json};

use crate::{
    sides::{Embedded, Side, scenario},
    support::{
        Scratch, eventually,
        gguf::TinyLlama,
        models::publish,
        ollama::Ollama,
        registry::{Registry, RegistryFront},
    },
};

const SOON: Duration = Duration::from_secs(60);
const DROVER: &str = "/apis/drover.dev/v1alpha1/namespaces/default";

#[test]
fn the_controller_works_on_it_and_leaves_it_alone_when_idle() {
    scenario(|| async {
        let scratch = Scratch::new();
        let embedded = Embedded::start(&scratch.join("state")).await;
        let side = Side::embedded(&embedded).await;
        let node = Ollama::start("node", &scratch.join("node")).await;
        let registry = Registry::start(&scratch.join("registry")).await;
        publish(&registry, &node, &[("drover/tiny", "1", TinyLlama::new(3))]).await;
        let front = RegistryFront::start(&registry).await;
        let model = format!("{}/drover/tiny:1", front.address());

        let mut supervisor = Supervisor::new(Duration::from_secs(5));
        let options = Options {
            namespace: None,
            probe_interval: Duration::from_millis(500),
            max_pulls: 4,
            mirror_advertise: String::new(),
            mirror_nearby: None,
            mirror_key: Vec::new(),
        };
        let ollama = Arc::new(NodeClient::new().expect("a client"));
        let gateways = Arc::new(GatewayClient::new(Vec::new()).expect("a client"));
        let readiness = Readiness::default();
        let client = cluster::client_of(&embedded.api);
        let parts = Parts {
            client,
            ollama,
            gateways,
            queries: None,
            mirror: None,
            provider_api: Arc::new(Providers::new(Arc::new(NoSecrets)).expect("a client")),
            provider_keys: Arc::new(NoSecrets),
            secrets: None,
            audit: None,
        };
        controller::start(&mut supervisor, parts, options, &Metrics::default(), readiness).await.expect("it starts");

        let create = async |plural: &str, kind: &str, name: &str, spec: Value| {
            let object = json!({ "apiVersion": "drover.dev/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec });
            let answer = side.ask("POST", &format!("{DROVER}/{plural}"), &object).await;
            assert_eq!(answer.code, 201, "{}", answer.body);
        };
        let ready = async |plural: &str, name: &str| {
            eventually(&format!("{plural}/{name} is Ready"), SOON, async || {
                let object = side.ask("GET", &format!("{DROVER}/{plural}/{name}"), &Value::Null).await.body;
                let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
                let is_ready = conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
                if is_ready { Ok(object) } else { Err(object["status"].to_string()) }
            })
            .await
        };
        create("ollamanodes", "OllamaNode", "node-1", json!({ "url": node.url() })).await;
        ready("ollamanodes", "node-1").await;
        create("modelpulls", "ModelPull", "tiny", json!({ "model": model, "insecure": true })).await;
        ready("modelpulls", "tiny").await;
        let version = json!({ "model": "bot", "version": "v1.0.0", "source": { "ollama": { "tag": model } } });
        create("modelversions", "ModelVersion", "bot-v1.0.0", version).await;
        ready("modelversions", "bot-v1.0.0").await;
        create("modeldeployments", "ModelDeployment", "bot", json!({ "model": "bot", "version": "v1.0.0" })).await;
        let deployment = ready("modeldeployments", "bot").await;
        assert_eq!(deployment["status"]["stable"]["version"], "v1.0.0");

        // Long enough for several probes of the node: nothing is written.
        let revision = async || {
            side.ask("GET", "/api/v1/namespaces", &Value::Null).await.body["metadata"]["resourceVersion"].clone()
        };
        let settled = eventually("nothing is written for two seconds", SOON, async || {
            let before = revision().await;
            tokio::time::sleep(Duration::from_secs(2)).await;
            let after = revision().await;
            if before == after { Ok(after) } else { Err(format!("{before} became {after}")) }
        });
        settled.await;

        // A finalizer takes the alias away from the node before the version goes.
        let answer = side.ask("DELETE", &format!("{DROVER}/modeldeployments/bot"), &Value::Null).await;
        assert_eq!(answer.code, 200, "{}", answer.body);
        side.ask("DELETE", &format!("{DROVER}/modelversions/bot-v1.0.0"), &Value::Null).await;
        eventually("the version is gone", SOON, async || {
            let answer = side.ask("GET", &format!("{DROVER}/modelversions/bot-v1.0.0"), &Value::Null).await;
            if answer.code == 404 { Ok(()) } else { Err(answer.body.to_string()) }
        })
        .await;
        let events = side.ask("GET", "/api/v1/namespaces/default/events", &Value::Null).await.body;
        assert!(!events["items"].as_array().expect("a list").is_empty(), "no event was written");
    });
}
