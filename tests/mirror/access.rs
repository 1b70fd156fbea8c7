//! Logins at registries, and where they go.

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{StatusCode, header};
use serde_json::json;

use crate::fake::Fake;
use crate::parts::Scratch;
use crate::parts::registry::{Image, Registry, USER};
use crate::support::{Mirror, blob};

/// A docker `config.json` with a login at one registry.
fn auth_file(scratch: &Scratch, host: &str, password: &str) -> String {
    let path = scratch.join("config.json");
    let auth = BASE64_STANDARD.encode(format!("{}:{password}", USER.0));
    std::fs::write(&path, json!({"auths": {host: {"auth": auth}}}).to_string()).expect("a file");
    path.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_registry_opens_to_the_login_of_the_file() {
    let scratch = Scratch::new();
    let (registry, image) = (Registry::start_with_login(&scratch.join("registry")).await, Image::of_size(1, 100_000));
    registry.put("team/foo", "1", &image).await;
    let file = auth_file(&scratch, &registry.address(), USER.1);
    let upstream = format!("={}", registry.url());
    let mirror = Mirror::with(&["--upstream", &upstream, "--upstream-auth-file", &file], scratch.path()).await;
    mirror.granted("token", "team/foo:1").await;
    assert_eq!(mirror.get(&blob("token", "foo", &image.layer())).await.body, image.blobs[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_registry_opens_to_the_login_of_the_grant_alone() {
    let scratch = Scratch::new();
    let (registry, image) = (Registry::start_with_login(&scratch.join("registry")).await, Image::of_size(2, 100_000));
    registry.put("team/foo", "1", &image).await;
    let mut mirror = Mirror::over(&registry.url(), scratch.path()).await;
    let (reason, message) = mirror.grant("none", "team/foo:1", json!({})).await.error();
    assert!(reason == "Unauthorized" && message.contains("wants a login"), "{reason}: {message}");
    let login = |password: &str| json!({"login": {"username": USER.0, "password": password}});
    let (reason, message) = mirror.grant("wrong", "team/foo:1", login("hunter2")).await.error();
    assert!(reason == "Unauthorized" && message.contains("check user name and password"), "{reason}: {message}");
    assert!(!message.contains("hunter2"), "{message}");
    let granted = mirror.grant("right", "team/foo:1", login(USER.1)).await;
    assert_eq!(granted.status, StatusCode::OK, "{granted:?}");
    let (reason, _) = mirror.grant("none", "team/foo:1", json!({})).await.error();
    assert_eq!(reason, "Unauthorized", "a login counts for its grant only");
    mirror.drover.restart().await;
    let forgotten = mirror.get(&blob("right", "foo", &image.layer())).await;
    let text = String::from_utf8_lossy(&forgotten.body).into_owned();
    assert!(forgotten.status.is_server_error() && text.contains("granted again"), "{forgotten:?}");
    mirror.grant("right", "team/foo:1", login(USER.1)).await;
    assert_eq!(mirror.get(&blob("right", "foo", &image.layer())).await.body, image.blobs[1]);
    let written = std::process::Command::new("grep").args(["-r", USER.1]).arg(scratch.join("mirror-data")).output();
    assert!(written.expect("grep runs").stdout.is_empty(), "a password is on the disk");
    assert!(!mirror.drover.process().log().contains(USER.1), "a password is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_asked_for_once_and_the_login_goes_nowhere_else() {
    let scratch = Scratch::new();
    let (fake, cdn, image) = (Fake::start().await, Fake::start().await, Image::of_size(3, 100_000));
    fake.put("team/foo", "1", &image);
    cdn.put("team/foo", "1", &image);
    fake.behave(|how| {
        how.tokens_at = Some(cdn.url());
        how.moved_to = Some(cdn.url());
    });
    let file = auth_file(&scratch, &fake.address(), "secret");
    let upstream = format!("={}", fake.url());
    let mirror = Mirror::with(&["--upstream", &upstream, "--upstream-auth-file", &file], scratch.path()).await;
    mirror.granted("token", "team/foo:1").await;
    assert_eq!(mirror.get(&blob("token", "foo", &image.layer())).await.body, image.blobs[1]);
    let asked = cdn.requests("/token");
    assert_eq!(asked.len(), 1, "tokens are kept until they expire");
    let given = asked[0].get(header::AUTHORIZATION).expect("the login").to_str().expect("text");
    assert_eq!(given, format!("Basic {}", BASE64_STANDARD.encode(format!("{}:secret", USER.0))));
    let moved = cdn.requests(&image.layer());
    assert!(!moved.is_empty() && moved.iter().all(|headers| !headers.contains_key(header::AUTHORIZATION)), "{moved:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_needs_the_authority() {
    let scratch = Scratch::new();
    let registry = Registry::start_with_tls(&scratch.join("registry")).await;
    let image = Image::of_size(4, 100_000);
    registry.put("team/foo", "1", &image).await;
    let (upstream, ca) = (format!("={}", registry.url()), scratch.join("registry/ca.pem").display().to_string());
    {
        let mirror = Mirror::with(&["--upstream", &upstream], &scratch.join("without")).await;
        let (reason, message) = mirror.grant("token", "team/foo:1", json!({})).await.error();
        assert!(reason == "RegistryUnreachable" && message.contains("upstream-ca-file"), "{reason}: {message}");
        let plain = format!("{}/team/foo:1", registry.address());
        let (reason, message) = mirror.grant("token", &plain, json!({"insecure": true})).await.error();
        assert_eq!(reason, "WrongScheme", "{message}");
    }
    let mirror = Mirror::with(&["--upstream", &upstream, "--upstream-ca-file", &ca], &scratch.join("with")).await;
    mirror.granted("token", "team/foo:1").await;
    assert_eq!(mirror.get(&blob("token", "foo", &image.layer())).await.body, image.blobs[1]);
}
