//! The mirror's tools, and what can be pulled.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::parts::Scratch;
use crate::parts::gguf::TinyLlama;
use crate::parts::ollama::Ollama;
use crate::parts::registry::{Image, Registry};
use crate::push::{done, drover, refused};
use crate::support::{Mirror, blob};

/// The file of a blob in a mirror's folder.
fn file(scratch: &Scratch, digest: &str) -> std::path::PathBuf {
    scratch.join("mirror-data/blobs").join(digest.replace(':', "-"))
}

fn flip_a_byte(path: &std::path::Path) {
    let mut bytes = fs::read(path).expect("a blob");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).expect("a blob");
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_carried_to_a_mirror_without_any_registry() {
    let (scratch, away) = (Scratch::new(), Scratch::new());
    let registry = Registry::start(&scratch.join("registry")).await;
    let image = Image::of_size(4, 3_000_000).annotated();
    registry.put("team/foo", "1", &image).await;
    let mirror = Mirror::over(&registry.url(), scratch.path()).await;
    TinyLlama::new(11).write(&scratch.join("model.gguf")).expect("a model");
    let pushed = done(&mirror, scratch.path(), &["push", "model.gguf", "team/own:1"]);
    let granted = mirror.granted("token", "team/foo:1").await;
    let incomplete = refused(&mirror, scratch.path(), &["mirror", "export", "x.tar", "team/foo:1"]);
    assert!(incomplete.contains("is not on the mirror"), "{incomplete}");
    for content in &image.blobs {
        let path = blob("token", "foo", &crate::parts::registry::digest_of(content));
        assert_eq!(mirror.get(&path).await.body, *content);
    }
    let tar = scratch.join("models.tar").display().to_string();
    done(&mirror, scratch.path(), &["mirror", "export", &tar, "team/own:1", "team/foo:1"]);
    let listed = Command::new("tar").args(["-tf", &tar]).output().expect("tar runs");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.starts_with("oci-layout\nindex.json\nblobs/sha256/"), "{listed}");

    let mut other = Mirror::over("http://127.0.0.1:9", away.path()).await;
    let imported = done(&other, away.path(), &["mirror", "import", &tar]);
    assert!(imported.contains(pushed.trim()), "{imported} {pushed}");
    other.drover.kill9();
    other.drover.restart().await;
    let again = other.granted("token", "team/foo:1").await;
    assert_eq!((&again["digest"], &again["upstreamDigest"]), (&granted["digest"], &granted["upstreamDigest"]));
    let node = Ollama::start("node", &away.join("node")).await;
    for (model, digest) in [("foo:1", granted["digest"].as_str().expect("text")), ("own:1", &pushed.trim()[12..])] {
        let name = other.name("team", model);
        node.pull(&name).await.expect("the pull");
        assert_eq!(node.digest_of(&name).await.as_deref(), Some(digest));
    }

    let whole = fs::read(&tar).expect("the archive");
    for (damage, expected) in [("cut", ""), ("flipped", "digest mismatch")] {
        let mut bytes = whole.clone();
        match damage {
            "cut" => bytes.truncate(whole.len() / 2),
            _ => bytes[whole.len() / 2] ^= 1,
        }
        fs::write(away.join("bad.tar"), bytes).expect("a file");
        let said = refused(&other, away.path(), &["mirror", "import", "bad.tar"]);
        assert!(said.contains("archive can't be used") && said.contains(expected), "{damage}: {said}");
    }
    assert_eq!(fs::read_dir(away.join("mirror-data/blobs/staging")).expect("a folder").count(), 0);
    let mut import = Command::new(crate::parts::drover::program());
    import.args(["mirror", "import", "-", "--mirror", &mirror.url()]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut import = import.spawn().expect("drover starts");
    import.stdin.take().expect("a pipe").write_all(&whole).expect("it reads");
    assert!(import.wait().expect("it ends").success(), "from standard input");
}

#[tokio::test(flavor = "multi_thread")]
async fn verification_finds_what_is_damaged() {
    let scratch = Scratch::new();
    let registry = Registry::start(&scratch.join("registry")).await;
    let image = Image::of_size(5, 100_000);
    registry.put("team/foo", "1", &image).await;
    let mirror = Mirror::over(&registry.url(), scratch.path()).await;
    mirror.granted("token", "team/foo:1").await;
    let path = blob("token", "foo", &image.layer());
    assert_eq!(mirror.get(&path).await.body, image.blobs[1]);
    let own = TinyLlama::new(12).write(&scratch.join("model.gguf")).expect("a model");
    done(&mirror, scratch.path(), &["push", "model.gguf", "team/own:1"]);
    let fine = done(&mirror, scratch.path(), &["mirror", "verify"]);
    assert!(fine.contains("as they should be"), "{fine}");

    flip_a_byte(&file(&scratch, &image.layer()));
    flip_a_byte(&file(&scratch, &own));
    let found = drover(&mirror, scratch.path(), &["mirror", "verify"]);
    let said = String::from_utf8_lossy(&found.stdout).into_owned();
    assert_eq!(found.status.code(), Some(1), "{said}");
    let line = |digest: &str| said.lines().find(|line| line.starts_with(digest)).unwrap_or_else(|| panic!("{said}"));
    assert!(line(&image.layer()).contains("dropped"), "{said}");
    assert!(line(&own).contains("team/own:1"), "{said}");
    assert!(!file(&scratch, &image.layer()).exists() && file(&scratch, &own).exists());
    assert_eq!(mirror.get(&path).await.body, image.blobs[1], "it is fetched again");
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_listed_and_removed() {
    let scratch = Scratch::new();
    let registry = Registry::start(&scratch.join("registry")).await;
    let (seen, unseen) = (Image::of_size(6, 40_000), Image::of_size(7, 10));
    registry.put("models/team/seen", "1", &seen).await;
    registry.put("models/library/plain", "latest", &unseen).await;
    registry.put("elsewhere/other", "1", &unseen).await;
    let upstream = format!("={}/models", registry.url());
    let more = ["--upstream", &upstream, "--upstream", "gone=http://127.0.0.1:9", "--mirror-offer", "llama3.2:3b"];
    let mirror = Mirror::with(&more, scratch.path()).await;
    TinyLlama::new(13).write(&scratch.join("model.gguf")).expect("a model");
    let home = scratch.path();
    done(&mirror, home, &["push", "model.gguf", "team/own:1"]);
    done(&mirror, home, &["push", "model.gguf", "team/twin:1"]);
    mirror.granted("token", "team/seen:1").await;
    for content in &seen.blobs {
        mirror.get(&blob("token", "seen", &crate::parts::registry::digest_of(content))).await;
    }

    let available = drover(&mirror, home, &["models", "available"]);
    let (table, warnings) = (String::from_utf8_lossy(&available.stdout), String::from_utf8_lossy(&available.stderr));
    assert!(available.status.success(), "{warnings}");
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().take(2).collect()).collect();
    let expected = [
        ["NAME", "SOURCE"],
        ["llama3.2:3b", "offered"],
        ["plain:latest", &registry.address()],
        ["team/own:1", "own"],
        ["team/seen:1", "cached"],
        ["team/twin:1", "own"],
    ];
    assert_eq!(rows, expected, "{table}");
    assert!(warnings.contains("127.0.0.1:9: can't be listed") && warnings.lines().count() == 1, "{warnings}");
    assert_eq!(done(&mirror, home, &["models", "available", "-o", "name", "own"]), "team/own:1\n");
    assert_eq!(
        done(&mirror, home, &["models", "available", "-o", "name", "TEAM/*n:1"]),
        "team/own:1\nteam/seen:1\nteam/twin:1\n"
    );

    let here: Value = serde_json::from_str(&done(&mirror, home, &["mirror", "ls", "-o", "json"])).expect("JSON");
    let names: Vec<&str> = here.as_array().expect("a list").iter().filter_map(|entry| entry["name"].as_str()).collect();
    assert_eq!(names, ["team/own:1", "team/seen:1", "team/twin:1"]);
    assert!(here[0]["sizeBytes"] == here[0]["hereBytes"], "{here}");
    let stats: Value = serde_json::from_str(&done(&mirror, home, &["mirror", "stats"])).expect("JSON");
    assert!(stats["bytesIn"].as_u64() >= Some(40_000), "{stats}");

    let held = refused(&mirror, home, &["mirror", "rm", "team/seen:1"]);
    assert!(held.contains("in use") && held.contains("--force"), "{held}");
    let freed = done(&mirror, home, &["mirror", "rm", "--force", "team/seen:1"]);
    assert!(freed.contains("40.0 kB freed"), "{freed}");
    assert!(!file(&scratch, &seen.layer()).exists());
    let twin = done(&mirror, home, &["mirror", "rm", "team/twin:1"]);
    assert!(twin.contains("0 B freed"), "its bytes are another model's too: {twin}");
    assert!(refused(&mirror, home, &["mirror", "rm", "team/twin:1"]).contains("no model"));
    assert_eq!(done(&mirror, home, &["mirror", "ls", "-o", "name"]), "team/own:1\n");
}
