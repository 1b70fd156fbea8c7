//! Real Ollama nodes pull through the mirror.

use std::time::Duration;

use futures::future::{join_all, try_join_all};

use crate::parts::gguf::TinyLlama;
use crate::parts::models::publish;
use crate::parts::ollama::Ollama;
use crate::parts::registry::{Image, Registry, RegistryFront};
use crate::parts::{Scratch, eventually};
use crate::support::Mirror;

const MB: usize = 1_000_000;

async fn nodes(scratch: &Scratch, count: usize) -> Vec<Ollama> {
    let names: Vec<String> = (0..count).map(|number| format!("node-{number}")).collect();
    join_all(names.iter().map(|name| async { Ollama::start(name, &scratch.join(name)).await })).await
}

#[tokio::test(flavor = "multi_thread")]
async fn four_nodes_at_once_cost_the_registry_one_download() {
    let scratch = Scratch::new();
    let registry = Registry::start(&scratch.join("registry")).await;
    let front = RegistryFront::start(&registry).await;
    let image = Image::of_size(1, 200 * MB);
    registry.put("team/foo", "1", &image).await;
    let (mirror, nodes) = (Mirror::over(&front.url(), scratch.path()).await, nodes(&scratch, 4).await);
    let granted = mirror.granted("token", "team/foo:1").await;
    let name = mirror.name("token", "foo:1");
    try_join_all(nodes.iter().map(|node| node.pull(&name))).await.expect("every node pulls");
    for node in &nodes {
        assert_eq!(node.digest_of(&name).await.expect("the model"), granted["digest"]);
    }
    assert_eq!(front.blob_bytes(), image.size(), "bytes of blobs that the registry sent");
    let stats = mirror.stats().await;
    assert!(stats["bytesOut"].as_u64() >= Some(4 * image.size()), "{stats}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_have_the_digest_that_was_granted() {
    let scratch = Scratch::new();
    let registry = Registry::start(&scratch.join("registry")).await;
    let nodes = nodes(&scratch, 1).await;
    let mirror = Mirror::over(&registry.url(), scratch.path()).await;
    let pushed = publish(&registry, &nodes[0], &[("team/pushed", "1", TinyLlama::new(1))]).await;
    let annotated = Image::of_size(2, 1000).annotated();
    registry.put("team/annotated", "1", &annotated).await;
    for (model, upstream) in [("pushed", &pushed["team/pushed:1"]), ("annotated", &annotated.digest())] {
        let granted = mirror.granted(model, &format!("team/{model}:1")).await;
        assert_eq!(granted["upstreamDigest"], *upstream);
        assert_eq!(granted["digest"] == granted["upstreamDigest"], model == "pushed", "{granted}");
        let name = mirror.name(model, &format!("{model}:1"));
        nodes[0].pull(&name).await.expect("the pull");
        assert_eq!(nodes[0].digest_of(&name).await.expect("the model"), granted["digest"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_survives_the_mirrors_death() {
    let scratch = Scratch::new();
    let registry = Registry::start(&scratch.join("registry")).await;
    let front = RegistryFront::start(&registry).await;
    let image = Image::of_size(3, 60 * MB);
    registry.put("team/foo", "1", &image).await;
    let (mut mirror, nodes) = (Mirror::over(&front.url(), scratch.path()).await, nodes(&scratch, 1).await);
    let granted = mirror.granted("token", "team/foo:1").await;
    let name = mirror.name("token", "foo:1");
    front.limit_bandwidth(Some(20_000_000));
    let killing = async {
        eventually("half of it came", Duration::from_secs(30), async || {
            let bytes = front.blob_bytes();
            if bytes > 30 * MB as u64 { Ok(()) } else { Err(bytes) }
        })
        .await;
        mirror.drover.kill9();
        front.limit_bandwidth(None);
        mirror.drover.restart().await;
    };
    let (pulled, ()) = tokio::join!(nodes[0].pull(&name), killing);
    pulled.expect("the pull goes on");
    assert_eq!(nodes[0].digest_of(&name).await.expect("the model"), granted["digest"]);
    // What came after the last entry in the journal, which is made every 8 MiB, and what was on the line.
    let wasted = front.blob_bytes().saturating_sub(image.size());
    assert!(wasted < 14 * MB as u64, "{wasted} bytes were sent twice");
}
