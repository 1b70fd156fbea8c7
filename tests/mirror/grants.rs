//! What a grant stands for, and who may make one.

use std::{os::unix::fs::PermissionsExt, process::Command};

use futures::future::join_all;
use http::{Method, StatusCode};
use serde_json::json;

use crate::fake::Fake;
use crate::parts::drover::program;
use crate::parts::registry::{Image, digest_of};
use crate::parts::{Scratch, free_port};
use crate::support::{Mirror, blob, is_kept};

#[tokio::test(flavor = "multi_thread")]
async fn many_grants_of_one_model_ask_the_registry_once() {
    let scratch = Scratch::new();
    let (fake, image) = (Fake::start().await, Image::of_size(1, 1000));
    fake.put("team/foo", "1", &image);
    let mirror = Mirror::over(&fake.url(), scratch.path()).await;
    let tokens: Vec<String> = (0..20).map(|number| format!("token-{number}")).collect();
    let granted = join_all(tokens.iter().map(|token| mirror.granted(token, "team/foo:1"))).await;
    assert!(
        granted.iter().all(|one| one["digest"] == image.digest() && one["sizeBytes"] == image.size()),
        "{granted:?}"
    );
    let absent = join_all(tokens.iter().map(|token| mirror.grant(token, "team/bar:1", json!({})))).await;
    assert!(absent.iter().all(|answer| answer.error().0 == "NoSuchModel"), "{absent:?}");
    assert_eq!((fake.requests("/foo/manifests/1").len(), fake.requests("/bar/manifests/1").len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_its_manifest_and_nothing_else() {
    let scratch = Scratch::new();
    let (fake, image, other) = (Fake::start().await, Image::of_size(2, 1000), Image::of_size(3, 1000));
    fake.put("team/foo", "1", &image);
    fake.put("team/bar", "1", &other);
    let mirror = Mirror::over(&fake.url(), scratch.path()).await;
    mirror.granted("mine", "team/foo:1").await;
    mirror.granted("yours", "team/bar:1").await;
    let manifest = mirror.get("/v2/mine/foo/manifests/1").await;
    assert_eq!((manifest.status, manifest.header("docker-content-digest")), (StatusCode::OK, image.digest().as_str()));
    let by_digest = mirror.get(&format!("/v2/mine/foo/manifests/{}", image.digest())).await;
    assert_eq!(by_digest.body, manifest.body);
    assert_eq!(mirror.get(&blob("mine", "foo", &image.layer())).await.body, image.blobs[1]);
    for path in [
        blob("mine", "foo", &other.layer()),
        blob("mine", "bar", &image.layer()),
        blob("unknown", "foo", &image.layer()),
        blob("team", "foo", &image.layer()),
        blob("mine", "foo", "sha256:0"),
        "/v2/mine/foo/manifests/2".into(),
        "/v2/mine/bar/manifests/1".into(),
        "/v2/unknown/foo/manifests/1".into(),
        "/v2/team/foo/manifests/1".into(),
    ] {
        assert_eq!(mirror.get(&path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    for _ in 0..2 {
        let revoked = mirror.send(mirror.request(Method::DELETE, "/drover/v1/pulls/mine")).await;
        assert_eq!(revoked.status, StatusCode::NO_CONTENT);
    }
    assert_eq!(mirror.get("/v2/mine/foo/manifests/1").await.status, StatusCode::NOT_FOUND);
    for (token, body) in [("bad.token", r#"{"model": "a"}"#), (&"x".repeat(81), r#"{"model": "a"}"#), ("good", "{}")] {
        let request = mirror.request(Method::PUT, &format!("/drover/v1/pulls/{token}")).body(body);
        assert_eq!(mirror.send(request).await.status, StatusCode::BAD_REQUEST, "{token} {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_has_the_key_may_grant() {
    let scratch = Scratch::new();
    let (fake, image) = (Fake::start().await, Image::of_size(4, 1000));
    fake.put("team/foo", "1", &image);
    let key = scratch.join("key");
    std::fs::write(&key, "the key\n").expect("a key file");
    let (upstream, key) = (format!("={}", fake.url()), key.display().to_string());
    let mirror = Mirror::with(&["--upstream", &upstream, "--mirror-key-file", &key], scratch.path()).await;
    let put = || mirror.request(Method::PUT, "/drover/v1/pulls/t").json(&json!({"model": "team/foo:1"}));
    let refused = [put(), put().bearer_auth("another"), mirror.request(Method::GET, "/drover/v1/stats")];
    for request in refused {
        let answer = mirror.send(request).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{answer:?}");
        assert!(answer.error().1.contains("mirror-key-file"), "{answer:?}");
    }
    let granted = mirror.send(put().bearer_auth("the key")).await;
    assert_eq!(granted.status, StatusCode::OK, "{granted:?}");
    assert_eq!(mirror.get("/v2/t/foo/manifests/1").await.status, StatusCode::OK, "nodes have no key");
}

#[test]
fn strangers_need_a_key() {
    let scratch = Scratch::new();
    let mut command = Command::new(program());
    let health = format!("127.0.0.1:{}", free_port());
    command.args(["mirror", "--mirror-listen", "0.0.0.0:0", "--health-listen", &health, "--data-dir"]);
    let output = command.arg(scratch.join("data")).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("mirror-key-file"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_is_kept_when_the_tag_moves() {
    let scratch = Scratch::new();
    let (fake, old, new) = (Fake::start().await, Image::of_size(5, 1000).annotated(), Image::of_size(6, 1000));
    fake.put("team/foo", "1", &old);
    let mirror = Mirror::over(&fake.url(), scratch.path()).await;
    let before = mirror.granted("a", "team/foo:1").await;
    assert_eq!(before["upstreamDigest"], old.digest());
    assert_ne!(before["digest"], before["upstreamDigest"], "the annotation is not kept");
    fake.put("team/foo", "1", &new);
    for (token, pin) in [("b", &before["digest"]), ("c", &before["upstreamDigest"])] {
        let pinned = mirror.grant(token, "team/foo:1", json!({"digest": pin})).await;
        assert_eq!(pinned.json()["digest"], before["digest"], "{pinned:?}");
    }
    let wrong = format!("sha256:{}", "0".repeat(64));
    let (reason, message) = mirror.grant("d", "team/foo:1", json!({"digest": wrong})).await.error();
    assert_eq!(reason, "DigestMismatch");
    assert!(message.contains(&wrong), "{message}");
    assert_eq!(mirror.get("/v2/d/foo/manifests/1").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_here_is_granted_while_the_registry_is_away() {
    let scratch = Scratch::new();
    let (fake, image, half) = (Fake::start().await, Image::of_size(7, 100_000), Image::of_size(8, 1000));
    fake.put("team/foo", "1", &image);
    fake.put("team/half", "1", &half);
    let mut mirror = Mirror::over(&fake.url(), scratch.path()).await;
    let fresh = mirror.granted("a", "team/foo:1").await;
    assert!(fresh.get("stale").is_none(), "{fresh}");
    for bytes in &image.blobs {
        mirror.get(&blob("a", "foo", &digest_of(bytes))).await;
        is_kept(scratch.path(), &digest_of(bytes)).await;
    }
    mirror.granted("half", "team/half:1").await;
    drop(fake);
    mirror.drover.restart().await;
    for grant in std::fs::read_dir(scratch.join("mirror-data/grants")).expect("grants") {
        let mode = grant.expect("a file").metadata().expect("its mode").permissions().mode();
        assert_eq!(mode & 0o077, 0, "others can read a token");
    }
    let stale = mirror.granted("b", "team/foo:1").await;
    assert_eq!((&stale["digest"], stale["stale"].is_string()), (&fresh["digest"], true), "{stale}");
    assert_eq!(mirror.get(&blob("b", "foo", &image.layer())).await.body, image.blobs[1]);
    let (reason, message) = mirror.grant("c", "team/half:1", json!({})).await.error();
    assert!(reason == "RegistryUnreachable" && message.contains("can't be reached"), "{reason}: {message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn public_models_are_open_by_name_only_when_that_is_wanted() {
    let scratch = Scratch::new();
    let (fake, image) = (Fake::start().await, Image::of_size(9, 1000));
    fake.put("library/foo", "1", &image);
    let upstream = format!("={}", fake.url());
    let mirror = Mirror::with(&["--upstream", &upstream, "--mirror-open", "true"], scratch.path()).await;
    let early = mirror.get(&blob("library", "foo", &image.layer())).await;
    assert_eq!(early.status, StatusCode::NOT_FOUND, "no manifest was asked for");
    let manifest = mirror.get("/v2/library/foo/manifests/1").await;
    assert_eq!((manifest.status, manifest.header("docker-content-digest")), (StatusCode::OK, image.digest().as_str()));
    assert_eq!(mirror.get(&blob("library", "foo", &image.layer())).await.body, image.blobs[1]);
    assert_eq!(mirror.get("/v2/library/bar/manifests/1").await.status, StatusCode::NOT_FOUND);
}
