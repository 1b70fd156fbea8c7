use crate::{
    machine,
    support::{Scratch, kube_api::KubeApi},
    world::install_crds,
};
use drover::api::ModelPull;
use futures::{StreamExt, stream};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use std::time::Instant;
pub async fn run() {
    let scratch = Scratch::new();
    let api = KubeApi::start(&scratch.join("kube")).await;
    install_crds(&api).await;
    let pid = api.pid();
    let client = api.client().await;
    let pulls = Api::<ModelPull>::namespaced(client.clone(), "default");
    for at in 0..300 {
        let object: ModelPull = serde_json::from_value(json!({"apiVersion": "drover.dev/v1alpha1", "kind": "ModelPull", "metadata": {"name": format!("p-{at}")}, "spec": {"model": "a/b:c", "nodeSelector": {"matchLabels": {"pool": "x"}}}})).unwrap();
        pulls.create(&PostParams::default(), &object).await.unwrap();
    }
    let status = |round: usize| {
        let c = |t: &str| json!({"type": t, "status": "True", "reason": "Present", "message": format!("2 of 2 nodes have team/model-9:3b {round}"), "lastTransitionTime": "2026-11-21T08:00:00Z", "observedGeneration": 1});
        let n = |n: &str| json!({"node": n, "phase": "Pulling", "completedBytes": round, "totalBytes": 2019393189u64, "percent": 50, "bytesPerSecond": 100, "remainingSeconds": 3, "message": "pulling"});
        json!({"observedGeneration": 1, "conditions": [c("Ready"), c("Reconciling")], "phase": "Pulling", "progress": 40, "desiredNodes": 2, "readyNodes": 1, "resolved": {"tag": "team/model:3b", "digest": "sha256:0000000000000000000000000000000000000000000000000000000000000000", "sizeBytes": 1}, "nodes": [n("node-1"), n("node-2")]})
    };
    for kind in ["apply", "merge", "json", "apply", "merge", "json", "put"] {
        let cpu = machine::cpu_time(pid);
        let start = Instant::now();
        let mut rounds = 0;
        for round in 0..5 {
            let one = |at: usize| {
                let pulls = pulls.clone();
                async move {
                    let name = format!("p-{at}");
                    let params =
                        PatchParams { field_manager: Some("drover-controller".into()), ..PatchParams::default() };
                    let status = status(round + start.elapsed().as_nanos() as usize % 1000);
                    match kind {
                        "apply" => pulls.patch_status(&name, &PatchParams::apply("drover-controller").force(), &Patch::Apply(json!({"apiVersion": "drover.dev/v1alpha1", "kind": "ModelPull", "metadata": {"name": name}, "status": status}))).await.map(drop).unwrap(),
                        "merge" => pulls.patch_status(&name, &params, &Patch::Merge(json!({"status": status}))).await.map(drop).unwrap(),
                        "json" => pulls.patch_status(&name, &params, &Patch::Json::<ModelPull>(serde_json::from_value(json!([{"op": "add", "path": "/status", "value": status}])).unwrap())).await.map(drop).unwrap(),
                        _ => {
                            let mut o = pulls.get(&name).await.unwrap();
                            o.status = serde_json::from_value(status).unwrap();
                            pulls.replace_status(&name, &PostParams::default(), &o).await.map(drop).unwrap();
                        }
                    }
                }
            };
            rounds += 300;
            stream::iter((0..300).map(one)).buffer_unordered(64).collect::<Vec<_>>().await;
        }
        let cpu = machine::cpu_time(pid) - cpu;
        eprintln!(
            "{kind}: {:.2} ms of CPU each, {:.2} ms",
            cpu.as_secs_f64() * 1000.0 / rounds as f64,
            start.elapsed().as_secs_f64() * 1000.0 / rounds as f64
        );
    }
}
