//! What goes wrong at a registry, in the words that reach the controller and the people in front of Ollama.

use std::time::Duration;

use http::StatusCode;
use serde_json::json;

use crate::parts::ollama::Ollama;
use crate::parts::registry::{Image, Registry, RegistryFront};
use crate::parts::{Scratch, eventually};
use crate::support::Mirror;

const MB: usize = 1_000_000;

async fn world(scratch: &Scratch) -> (Registry, RegistryFront, Mirror) {
    let registry = Registry::start(&scratch.join("registry")).await;
    let front = RegistryFront::start(&registry).await;
    let mirror = Mirror::over(&front.url(), scratch.path()).await;
    (registry, front, mirror)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_names_the_fault_of_the_registry() {
    let scratch = Scratch::new();
    let (registry, front, mirror) = world(&scratch).await;
    registry.put("team/foo", "1", &Image::of_size(1, 1000)).await;
    for (number, (status, fault, words)) in [
        (401, "Unauthorized", "wants a login"),
        (403, "Unauthorized", "denied"),
        (404, "NoSuchModel", "not found"),
        (500, "RegistryUnreachable", "HTTP 500"),
        (503, "RegistryUnreachable", "HTTP 503"),
        (418, "PullFailed", "HTTP 418"),
        (429, "RateLimited", "429"),
    ]
    .into_iter()
    .enumerate()
    {
        front.fail_with(Some(StatusCode::from_u16(status).expect("a status")));
        let (reason, message) = mirror.grant("token", &format!("team/foo-{number}:1"), json!({})).await.error();
        assert!(reason == fault && message.contains(words), "{status}: {reason}: {message}");
        assert!(message.contains(&front.address()), "the registry is not named: {message}");
    }
    let errors = &mirror.stats().await["upstreamErrors"];
    assert_eq!((&errors["Unauthorized"], &errors["RateLimited"]), (&2.into(), &1.into()), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_asks_for_a_pause_gets_it() {
    let scratch = Scratch::new();
    let (registry, front, mirror) = world(&scratch).await;
    registry.put("team/foo", "1", &Image::of_size(2, 1000)).await;
    front.retry_after("4");
    front.fail_with(Some(StatusCode::TOO_MANY_REQUESTS));
    let first = mirror.grant("a", "team/foo:1", json!({})).await;
    assert_eq!((first.status, first.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, "4"), "{first:?}");
    front.fail_with(None);
    let second = mirror.grant("b", "team/bar:1", json!({})).await;
    assert_eq!(second.error().0, "RateLimited", "another model of the same registry");
    let left = second.json()["error"]["retryAfterSeconds"].as_u64().expect("the time left");
    assert!((1..=4).contains(&left), "{left}");
    assert_eq!(front.served().len(), 1, "it was left alone: {:?}", front.served());
    eventually("the pause is over", Duration::from_secs(10), async || {
        let answer = mirror.grant("c", "team/foo:1", json!({})).await;
        if answer.status == StatusCode::OK { Ok(()) } else { Err(answer.status) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ollama_shows_why_a_blob_is_not_to_be_had() {
    let scratch = Scratch::new();
    let (registry, front, mirror) = world(&scratch).await;
    let node = Ollama::start("node", &scratch.join("node")).await;
    registry.put("team/foo", "1", &Image::of_size(3, 1000)).await;
    mirror.granted("token", "team/foo:1").await;
    let name = mirror.name("token", "foo:1");
    for (status, words) in [(404, "file does not exist"), (401, "wants a login"), (429, "429"), (500, "HTTP 500")] {
        front.fail_blobs_with(Some(StatusCode::from_u16(status).expect("a status")));
        let error = node.pull(&name).await.expect_err("the registry refuses");
        assert!(error.contains(words), "{status}: {error}");
    }
    front.fail_blobs_with(None);
    node.pull(&name).await.expect("the registry is well again");
    let unknown = node.pull(&mirror.name("unknown", "foo:1")).await.expect_err("nobody granted it");
    assert!(unknown.contains("file does not exist"), "{unknown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_survives_a_line_that_breaks_and_one_that_is_slow() {
    let scratch = Scratch::new();
    let (registry, front, mirror) = world(&scratch).await;
    let node = Ollama::start("node", &scratch.join("node")).await;
    let image = Image::of_size(4, 12 * MB);
    registry.put("team/foo", "1", &image).await;
    let granted = mirror.granted("token", "team/foo:1").await;
    front.cut_after(Some(3_000_000));
    front.limit_bandwidth(Some(8_000_000));
    let name = mirror.name("token", "foo:1");
    node.pull(&name).await.expect("it goes on where it broke");
    assert_eq!(node.digest_of(&name).await.expect("the model"), granted["digest"]);
    let egress = front.blob_bytes() as f64 / image.size() as f64;
    assert!(egress < 1.1, "the registry sent {egress:.2} times the model");
}

/// All of it is there, and found to be wrong, before the node has asked for more than its size.
#[tokio::test(flavor = "multi_thread")]
async fn a_small_blob_that_came_damaged_is_told_and_comes_by_itself() {
    let scratch = Scratch::new();
    let (registry, front, mirror) = world(&scratch).await;
    let node = Ollama::start("node", &scratch.join("node")).await;
    registry.put("team/foo", "1", &Image::of_size(5, 1000)).await;
    let granted = mirror.granted("token", "team/foo:1").await;
    let name = mirror.name("token", "foo:1");
    front.damage(true);
    let mending = async {
        mirror.counts("corruptBlobs", |count| count > 0).await;
        let told = mirror.get("/v2/token/foo/manifests/1").await;
        assert_eq!(told.status, StatusCode::BAD_GATEWAY);
        let words = String::from_utf8_lossy(&told.body);
        assert!(words.contains("digest mismatch"), "{words}");
        front.damage(false);
    };
    let (pulled, ()) = tokio::join!(node.pull(&name), mending);
    pulled.expect("it waits for the right bytes");
    assert_eq!(node.digest_of(&name).await.expect("the model"), granted["digest"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_bytes_reach_no_model() {
    let scratch = Scratch::new();
    let (registry, front, mirror) = world(&scratch).await;
    let node = Ollama::start("node", &scratch.join("node")).await;
    registry.put("team/foo", "1", &Image::of_size(5, MB)).await;
    let granted = mirror.granted("token", "team/foo:1").await;
    let name = mirror.name("token", "foo:1");
    front.damage(true);
    let pulling = node.pull(&name);
    let mending = async {
        mirror.counts("corruptBlobs", |count| count > 0).await;
        front.damage(false);
    };
    let (first, ()) = tokio::join!(pulling, mending);
    if let Err(error) = first {
        assert!(error.contains("digest mismatch"), "{error}");
        node.pull(&name).await.expect("the bytes are right now");
    }
    assert_eq!(node.digest_of(&name).await.expect("the model"), granted["digest"]);
}
