//! Which registry is asked for what.

use http::StatusCode;
use serde_json::json;

use crate::fake::Fake;
use crate::parts::Scratch;
use crate::parts::registry::{Image, Registry};
use crate::support::{Mirror, blob};

#[tokio::test(flavor = "multi_thread")]
async fn two_prefixes_lead_to_two_registries() {
    let scratch = Scratch::new();
    let ours = Registry::start(&scratch.join("ours")).await;
    let theirs = Registry::start(&scratch.join("theirs")).await;
    let (a, b) = (Image::of_size(1, 1000), Image::of_size(2, 1000));
    ours.put("models/team/foo", "1", &a).await;
    theirs.put("library/foo", "1", &b).await;
    let arguments = ["--upstream", &format!("team={}/models", ours.url()), "--upstream", &format!("={}", theirs.url())];
    let mirror = Mirror::with(&arguments, scratch.path()).await;
    for (token, model, image) in [("a", "team/foo:1", &a), ("b", "foo:1", &b)] {
        assert_eq!(mirror.granted(token, model).await["upstreamDigest"], image.digest());
        assert_eq!(mirror.get(&blob(token, "foo", &image.layer())).await.body, image.blobs[1]);
    }
    let (reason, message) = mirror.grant("c", "team/bar:1", json!({})).await.error();
    assert!(reason == "NoSuchModel" && message.contains(&ours.address()), "{reason}: {message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_with_a_host_is_asked_for_there() {
    let scratch = Scratch::new();
    let (registry, image) = (Registry::start(&scratch.join("registry")).await, Image::of_size(3, 1000));
    registry.put("team/foo", "1", &image).await;
    let mirror = Mirror::with(&[], scratch.path()).await;
    let model = format!("{}/team/foo:1", registry.address());
    let (reason, message) = mirror.grant("a", &model, json!({})).await.error();
    assert!(reason == "WrongScheme" && message.contains(&registry.address()), "{reason}: {message}");
    let granted = mirror.grant("a", &model, json!({"insecure": true})).await;
    assert_eq!(granted.status, StatusCode::OK, "{granted:?}");
    assert_eq!(mirror.get(&blob("a", "foo", &image.layer())).await.body, image.blobs[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_stands_between_where_the_environment_says_so() {
    let scratch = Scratch::new();
    let (proxy, image) = (Fake::start().await, Image::of_size(8, 1000));
    proxy.put("team/foo", "1", &image);
    let mut mirror = Mirror::over("http://registry.invalid", scratch.path()).await;
    assert_eq!(mirror.grant("a", "team/foo:1", json!({})).await.error().0, "RegistryUnreachable");
    mirror.drover.restart_with(&[("HTTP_PROXY", &proxy.url())]).await;
    mirror.granted("a", "team/foo:1").await;
    assert_eq!(mirror.get(&blob("a", "foo", &image.layer())).await.body, image.blobs[1]);
    mirror.drover.restart_with(&[("HTTP_PROXY", &proxy.url()), ("NO_PROXY", "registry.invalid")]).await;
    assert_eq!(mirror.grant("b", "team/bar:1", json!({})).await.error().0, "RegistryUnreachable");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_model_is_said_to_be_none() {
    let scratch = Scratch::new();
    let fake = Fake::start().await;
    let mirror = Mirror::over(&fake.url(), scratch.path()).await;
    let mut list = Image::of_size(4, 10);
    list.manifest["manifests"] = json!([{"platform": {}}]);
    let mut image = Image::of_size(5, 10);
    image.manifest["layers"][0]["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar.gzip".into();
    let mut digest = Image::of_size(6, 10);
    digest.manifest["layers"][0]["digest"] = "sha256:../../etc/passwd".into();
    let mut size = Image::of_size(7, 10);
    size.manifest["layers"][0]["size"] = (-1).into();
    for (number, (image, words)) in
        [(list, "list of manifests"), (image, "another kind"), (digest, "not a digest"), (size, "size")]
            .iter()
            .enumerate()
    {
        fake.put("team/foo", &number.to_string(), image);
        let (reason, message) = mirror.grant("token", &format!("team/foo:{number}"), json!({})).await.error();
        assert!(reason == "PullFailed" && message.contains(words), "{reason}: {message}");
    }
}
