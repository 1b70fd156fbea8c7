//! `drover keys` on one machine.

use std::process::{Command, Output};

use serde_json::Value;

use crate::instance::{SOON, Up, text};
use crate::support::{Scratch, drover::program, eventually, http_client};

/// `drover keys`, which finds the instance by its folder.
fn keys(scratch: &Scratch, arguments: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.arg("keys").args(arguments).env("DROVER_DATA_DIR", scratch.join("data")).env("HOME", scratch.path());
    command.env_remove("KUBECONFIG").output().expect("it runs")
}

fn printed(scratch: &Scratch, arguments: &[&str]) -> String {
    let output = keys(scratch, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout).trim().to_owned()
}

async fn until_answered(up: &Up, key: &str, status: u16) {
    eventually(&format!("{status} with a key"), SOON, async || {
        let answer = http_client().get(format!("{}/api/tags", up.url("gateway"))).header("x-api-key", key).send().await;
        let found = answer.expect("the gateway answers").status();
        if found == status { Ok(()) } else { Err(found) }
    })
    .await;
}

#[tokio::test]
async fn a_key_is_made_used_listed_and_taken_back() {
    let scratch = Scratch::new();
    let mut up = Up::start(scratch.path(), &["--require-key", "everybody"]).await;
    until_answered(&up, "none", 401).await;
    let secret = printed(&scratch, &["create", "laptop", "--expires", "2099-12-31", "--tokens-per-minute", "500"]);
    until_answered(&up, &secret, 200).await;
    let listed = printed(&scratch, &["list"]);
    for words in ["laptop", "2100-01-01T00:00:00Z", "500", "any", "all"] {
        assert!(listed.contains(words), "{words}: {listed}");
    }
    let listed: Value = serde_json::from_str(&printed(&scratch, &["list", "-o", "json"])).expect("JSON");
    assert!(listed[0]["spec"]["hash"].as_str().is_some_and(|hash| hash.starts_with("sha256:")), "{listed}");

    // For Git: nothing is made, the manifest is what applying it needs, and the key is apart from it.
    let dry = keys(&scratch, &["create", "ci", "--models", "bot", "--dry-run", "-o", "yaml"]);
    let (manifest, said) = (text(&dry.stdout), text(&dry.stderr));
    let of_ci = said.trim().rsplit('\n').next().expect("the key").to_owned();
    assert!(dry.status.success() && of_ci.starts_with("drv_") && !manifest.contains("drv_"), "{said}{manifest}");
    assert!(!up.has("apikey/ci").await);
    up.apply(&manifest).await;
    until_answered(&up, &of_ci, 200).await;

    // Both are there after a start, and gone when they are taken back.
    up.restart(&["--require-key", "everybody"]).await;
    until_answered(&up, &secret, 200).await;
    assert!(printed(&scratch, &["revoke", "laptop", "ci"]).contains("laptop is taken back"));
    until_answered(&up, &secret, 401).await;
    until_answered(&up, &of_ci, 401).await;
    assert!(!up.process().log().contains(secret.trim_start_matches("drv_")));
}

#[tokio::test]
async fn what_can_not_be_made_is_refused_with_advice() {
    let scratch = Scratch::new();
    for (arguments, code, words) in [
        (&["create", "a", "--expires", "yesterday", "--dry-run"][..], 1, "--expires yesterday: write 30d"),
        (&["create", "a", "--expires", "2020-01-01", "--dry-run"], 1, "is over already"),
        (&["create", "a", "--models", "bot[", "--dry-run"], 1, "--models"),
        (&["create", "a", "--requests-per-minute", "0"], 2, "--requests-per-minute"),
        (&["create", "a", "-o", "yaml"], 2, "--dry-run"),
        (&["create"], 2, "<NAME>"),
        (&["revoke"], 2, "<NAMES>"),
    ] {
        let output = keys(&scratch, arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        assert!(text(&output.stderr).contains(words), "{arguments:?}: {}", text(&output.stderr));
    }
}
