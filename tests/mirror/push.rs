//! Models that people make come in by `ollama push` and by `drover push`.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::parts::Scratch;
use crate::parts::drover::program;
use crate::parts::gguf::{TinyLlama, write_adapter};
use crate::parts::http_client;
use crate::parts::ollama::Ollama;
use crate::parts::registry::{Image, Registry, digest_of};
use crate::parts::stack;
use crate::support::Mirror;

/// Runs `drover` with these arguments and a home of its own.
pub fn drover(mirror: &Mirror, home: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.args(arguments).env("HOME", home).env("DROVER_MIRROR", mirror.url()).current_dir(home);
    command.output().expect("drover starts")
}

/// The same, which must succeed; what it printed.
#[track_caller]
pub fn done(mirror: &Mirror, home: &Path, arguments: &[&str]) -> String {
    let output = drover(mirror, home, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "drover {}: {errors}", arguments.join(" "));
    String::from_utf8(output.stdout).expect("text")
}

/// The same, which must fail; what it said.
#[track_caller]
pub fn refused(mirror: &Mirror, home: &Path, arguments: &[&str]) -> String {
    let output = drover(mirror, home, arguments);
    assert!(!output.status.success(), "drover {} went well", arguments.join(" "));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

async fn post(node: &Ollama, path: &str, body: Value) -> Value {
    let answer = http_client().post(node.url() + path).json(&body).send().await.expect("an answer");
    answer.json().await.expect("JSON")
}

async fn answer(node: &Ollama, model: &str) -> String {
    let body = json!({"model": model, "prompt": "Hi", "stream": false, "options": {"num_thread": 1}});
    let answer = post(node, "/api/generate", body).await;
    answer["response"].as_str().unwrap_or_else(|| panic!("{answer}")).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_pushes_another_pulls_by_name_and_by_a_grant() {
    let scratch = Scratch::new();
    let mut mirror = Mirror::with(&[], scratch.path()).await;
    let (maker, node) =
        (Ollama::start("maker", &scratch.join("maker")).await, Ollama::start("node", &scratch.join("node")).await);
    TinyLlama::new(7).write(&scratch.join("model.gguf")).expect("a model");
    let name = mirror.name("team", "made:1");
    maker.create(&name, &scratch.join("model.gguf")).await;
    maker.push(&name).await.expect("the push");
    let digest = mirror.get("/v2/team/made/manifests/1").await.header("docker-content-digest").to_owned();
    mirror.drover.kill9();
    mirror.drover.restart().await;

    node.pull(&name).await.expect("the pull by name");
    assert_eq!(node.digest_of(&name).await.as_ref(), Some(&digest));
    assert_eq!(answer(&node, &name).await, "I am model number 7.");
    let granted = mirror.granted("token", "team/made:1").await;
    assert_eq!(granted["digest"], digest);
    node.pull(&mirror.name("token", "made:1")).await.expect("the pull by a grant");
    assert_eq!(node.digest_of(&mirror.name("token", "made:1")).await, Some(digest));

    let kept = mirror.name("drover-0123abcd", "made:1");
    let copy = json!({"source": name, "destination": kept});
    http_client().post(maker.url() + "/api/copy").json(&copy).send().await.expect("an answer");
    let why = maker.push(&kept).await.expect_err("the namespace is Drover's");
    assert!(why.contains("Drover's own"), "{why}");
}

const MODELFILE: &str = r#"# made by hand
FROM ./model.gguf
ADAPTER ./adapter.gguf
TEMPLATE """{{ if .System }}<|system|>{{ .System }}{{ end }}
<|user|>{{ .Prompt }} & <more>"""
SYSTEM "You answer
in two lines."
PARAMETER temperature 0.7
PARAMETER num_ctx 512
PARAMETER num_thread 1
PARAMETER stop "<|user|>"
PARAMETER stop <|system|>
MESSAGE user Who are you?
MESSAGE assistant A bot.
LICENSE """Free
for all"""
"#;

/// What `/api/show` says of a model, but for names and times.
async fn shown(node: &Ollama, model: &str) -> Value {
    let mut shown = post(node, "/api/show", json!({"model": model})).await;
    assert!(shown["error"].is_null(), "{shown}");
    for field in ["modelfile", "modified_at"] {
        shown[field] = Value::Null;
    }
    shown["details"]["parent_model"] = Value::Null;
    let mut parameters: Vec<&str> = shown["parameters"].as_str().unwrap_or_default().lines().collect();
    parameters.sort_unstable();
    let parameters = parameters.join("\n");
    shown["parameters"] = parameters.into();
    shown
}

#[tokio::test(flavor = "multi_thread")]
async fn drover_push_makes_what_ollama_create_makes() {
    let scratch = Scratch::new();
    let mirror = Mirror::with(&[], scratch.path()).await;
    let node = Ollama::start("node", &scratch.join("node")).await;
    TinyLlama::new(8).write(&scratch.join("model.gguf")).expect("a model");
    write_adapter(&scratch.join("adapter.gguf")).expect("an adapter");
    fs::write(scratch.join("Modelfile"), MODELFILE).expect("a file");
    let mut create = Command::new(stack::program("ollama"));
    create.args(["create", "compared:1", "-f"]).arg(scratch.join("Modelfile"));
    let created = create.env("OLLAMA_HOST", node.url()).env("HOME", scratch.path()).output().expect("ollama starts");
    assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));

    let printed = done(&mirror, scratch.path(), &["push", "Modelfile", "team/bot:1"]);
    let name = mirror.name("team", "bot:1");
    node.pull(&name).await.expect("the pull");
    let digest = node.digest_of(&name).await.expect("the model");
    assert_eq!(printed, format!("team/bot:1  {digest}\n"));
    assert_eq!(shown(&node, &name).await, shown(&node, "compared:1").await);
    assert_eq!(answer(&node, &name).await, "I am model number 8.");

    fs::write(scratch.join("Other"), "FROM team/bot:1\nSYSTEM Be brief.\nPARAMETER top_k 3\n").expect("a file");
    done(&mirror, scratch.path(), &["push", "Other", "team/bot:2"]);
    let other = mirror.name("team", "bot:2");
    node.pull(&other).await.expect("the pull");
    let (before, now) = (shown(&node, &name).await, shown(&node, &other).await);
    assert_eq!(now["system"], "Be brief.");
    assert_eq!((&now["template"], &now["license"]), (&before["template"], &before["license"]));
    let parameters = now["parameters"].as_str().expect("text");
    assert!(parameters.contains("top_k") && parameters.contains("temperature"), "{parameters}");

    let bare = drover(&mirror, scratch.path(), &["push", "model.gguf", "bare:1"]);
    let said = String::from_utf8_lossy(&bare.stderr);
    assert!(bare.status.success() && said.contains("there already") && said.contains("TEMPLATE"), "{said}");
    node.pull(&mirror.name("library", "bare:1")).await.expect("the pull");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_made_of_one_that_a_registry_has() {
    let scratch = Scratch::new();
    let (registry, base) = (Registry::start(&scratch.join("registry")).await, Image::of_size(8, 2_000_000));
    registry.put("team/base", "1", &base).await;
    let secret = scratch.join("secret").display().to_string();
    fs::write(&secret, "a key\n").expect("a file");
    let upstream = format!("={}", registry.url());
    let mirror = Mirror::with(&["--upstream", &upstream, "--mirror-key-file", &secret], scratch.path()).await;
    let adapter = write_adapter(&scratch.join("adapter.gguf")).expect("an adapter");
    fs::write(scratch.join("Modelfile"), "FROM team/base:1\nSYSTEM Be kind.\n").expect("a file");
    let push = ["push", "Modelfile", "team/mine:1", "--adapter", "adapter.gguf"];
    let denied = refused(&mirror, scratch.path(), &push);
    assert!(denied.contains("key"), "{denied}");
    done(&mirror, scratch.path(), &[&push[..], &["--key-file", &secret]].concat());
    let manifest = mirror.get("/v2/team/mine/manifests/1").await.json();
    let layers = manifest["layers"].as_array().expect("a list");
    let digests: Vec<&str> = layers.iter().filter_map(|layer| layer["digest"].as_str()).collect();
    assert_eq!(digests, [base.layer(), adapter, digest_of(b"Be kind.")]);
    drop(registry);
    let layer = mirror.get(&format!("/v2/team/mine/blobs/{}", base.layer())).await;
    assert_eq!(layer.body, base.blobs[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn drover_push_says_what_is_wrong() {
    let scratch = Scratch::new();
    let mirror = Mirror::with(&[], scratch.path()).await;
    let home = scratch.path();
    TinyLlama::new(9).write(&scratch.join("model.gguf")).expect("a model");
    let whole = fs::read(scratch.join("model.gguf")).expect("the model");
    let cases = [
        ("FROM ./model.gguf\nPARAMETER warmth 3\n", "no such parameter"),
        ("FROM ./model.gguf\nPARAMETER top_k many\n", "a whole number"),
        ("FROM ./model.gguf\n\nCOOK it\n", "line 3: COOK is no command"),
        ("FROM ./gone.gguf\n", "no such file"),
        ("FROM ./model.gguf\nADAPTER ./model.gguf\n", "no adapter"),
        ("SYSTEM hello\n", "no FROM line"),
    ];
    for (text, expected) in cases {
        fs::write(scratch.join("Modelfile"), text).expect("a file");
        let said = refused(&mirror, home, &["push", "Modelfile", "team/bad:1"]);
        assert!(said.contains(expected), "{text:?}: {said}");
    }
    fs::write(scratch.join("cut.gguf"), &whole[..20_000]).expect("a file");
    assert!(refused(&mirror, home, &["push", "cut.gguf", "team/bad:1"]).contains("cut off"));
    assert!(refused(&mirror, home, &["push", "model.gguf", "host.example/team/bad:1"]).contains("--mirror"));
    assert!(refused(&mirror, home, &["push", "model.gguf", "drover-x/bad:1"]).contains("Drover's own"));
    let nowhere = ["push", "model.gguf", "team/bad:1", "--mirror", "http://127.0.0.1:9"];
    assert!(refused(&mirror, home, &nowhere).contains("can't be reached"));
    assert_eq!(done(&mirror, home, &["mirror", "ls", "-o", "name"]), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_keys_only_those_who_have_one_push() {
    let scratch = Scratch::new();
    let (known, stranger) =
        (Ollama::start("known", &scratch.join("known")).await, Ollama::start("other", &scratch.join("other")).await);
    let key = scratch.join("known/home/.ollama/id_ed25519");
    let (keys, secret) = (scratch.join("keys").display().to_string(), scratch.join("secret").display().to_string());
    fs::copy(key.with_extension("pub"), &keys).expect("the node's key");
    fs::write(&secret, "a key\n").expect("a file");
    let arguments = ["--mirror-push-keys-file", &keys, "--mirror-key-file", &secret];
    let mirror = Mirror::with(&arguments, scratch.path()).await;
    TinyLlama::new(10).write(&scratch.join("model.gguf")).expect("a model");
    let name = mirror.name("team", "made:1");
    for node in [&known, &stranger] {
        node.create(&name, &scratch.join("model.gguf")).await;
    }
    let why = stranger.push(&name).await.expect_err("its key is not in the file");
    assert!(why.contains("may not push"), "{why}");
    known.push(&name).await.expect("the push");
    stranger.pull(&name).await.expect("pulling needs no key");

    let (home, key) = (scratch.path(), key.display().to_string());
    let push = |more: &'static str, file: &str| {
        let arguments = ["push", "model.gguf", "team/mine:1", more, file];
        drover(&mirror, home, &arguments[..if more.is_empty() { 3 } else { 5 }])
    };
    let nobody = push("", "");
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("--ssh-key"), "{nobody:?}");
    let other = scratch.join("other/home/.ollama/id_ed25519").display().to_string();
    let wrong = push("--ssh-key", &other);
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("may not push"), "{wrong:?}");
    assert!(push("--ssh-key", &key).status.success());
    assert!(push("--key-file", &secret).status.success());
    let log = fs::read_to_string(scratch.join("mirror.log")).expect("the log");
    assert!(!log.contains("a key"), "the key is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_holds_only_while_it_is_fresh_and_once() {
    let scratch = Scratch::new();
    let keys = scratch.join("keys").display().to_string();
    let node = Ollama::start("node", &scratch.join("node")).await;
    fs::copy(scratch.join("node/home/.ollama/id_ed25519.pub"), &keys).expect("the node's key");
    drop(node);
    let mirror = Mirror::with(&["--mirror-push-keys-file", &keys], scratch.path()).await;
    let begin = mirror.send(mirror.request(Method::POST, "/v2/team/made/blobs/uploads/")).await;
    assert_eq!(begin.status, StatusCode::UNAUTHORIZED);
    let realm = format!("realm=\"{}/token\"", mirror.url());
    let challenge = begin.header("www-authenticate");
    assert!(challenge.contains(&realm) && challenge.contains("repository:team/made:push,pull"), "{challenge}");

    let pair = drover::mirror::publish::key_pair(&scratch.join("node/home/.ollama/id_ed25519")).expect("a key");
    let ask = async |ts: i64, nonce: &str| {
        let url = format!("{}/token?service=drover&scope=x&ts={ts}&nonce={nonce}", mirror.url());
        let request = http_client().get(&url).header(http::header::AUTHORIZATION, pair.sign(&url));
        mirror.send(request).await
    };
    let now = jiff::Timestamp::now().as_second();
    assert_eq!(ask(now, "a").await.status, StatusCode::OK);
    assert_eq!(ask(now, "a").await.status, StatusCode::FORBIDDEN, "a nonce counts once");
    assert_eq!(ask(now - 3600, "b").await.status, StatusCode::FORBIDDEN, "old");
    assert_eq!(ask(now + 3600, "c").await.status, StatusCode::FORBIDDEN, "from the future");
    let (signed, asked) = ("/token?ts=1&nonce=d", format!("/token?ts={now}&nonce=d"));
    let request = mirror.request(Method::GET, &asked);
    let forged = request.header(http::header::AUTHORIZATION, pair.sign(&(mirror.url() + signed)));
    assert_eq!(mirror.send(forged).await.status, StatusCode::FORBIDDEN, "another request was signed");
    let token = ask(now, "e").await.json()["token"].as_str().expect("a token").to_owned();
    let begin = mirror.request(Method::POST, "/v2/team/made/blobs/uploads/").bearer_auth(token);
    assert_eq!(mirror.send(begin).await.status, StatusCode::ACCEPTED);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_taken_in_parts_and_kept_only_with_its_digest() {
    let scratch = Scratch::new();
    let mut mirror = Mirror::with(&[], scratch.path()).await;
    let image = Image::of_size(3, 300_000);
    let (bytes, digest) = (image.blobs[1].clone(), image.layer());
    let begin = async |mirror: &Mirror| {
        let begun = mirror.send(mirror.request(Method::POST, "/v2/team/foo/blobs/uploads/")).await;
        assert_eq!(begun.status, StatusCode::ACCEPTED, "{begun:?}");
        let location = begun.header("location");
        location.strip_prefix(&mirror.url()).unwrap_or_else(|| panic!("{location}")).to_owned()
    };
    let patch = async |mirror: &Mirror, path: &str, range: std::ops::Range<usize>| {
        let spec = format!("{}-{}", range.start, range.end - 1);
        let request = mirror.request(Method::PATCH, path).header("content-range", spec);
        mirror.send(request.body(bytes[range].to_vec())).await
    };
    let path = begin(&mirror).await;
    assert_eq!(patch(&mirror, &path, 0..100_000).await.header("range"), "0-99999");
    let gap = patch(&mirror, &path, 200_000..300_000).await;
    assert_eq!((gap.status, gap.header("range")), (StatusCode::RANGE_NOT_SATISFIABLE, "0-99999"));
    // A part again from its start, as after a broken connection; and all of it over a death of the mirror.
    assert_eq!(patch(&mirror, &path, 50_000..200_000).await.header("range"), "0-199999");
    mirror.drover.kill9();
    mirror.drover.restart().await;
    assert_eq!(mirror.get(&path).await.header("range"), "0-199999");
    patch(&mirror, &path, 200_000..300_000).await;
    let finish = async |mirror: &Mirror, path: &str, digest: &str| {
        mirror.send(mirror.request(Method::PUT, &format!("{path}?digest={digest}"))).await
    };
    assert_eq!(finish(&mirror, &path, &digest).await.status, StatusCode::CREATED);

    let path = begin(&mirror).await;
    patch(&mirror, &path, 0..100).await;
    let wrong = finish(&mirror, &path, &digest_of(b"something else")).await;
    let said = String::from_utf8_lossy(&wrong.body).into_owned();
    assert!(wrong.status == StatusCode::BAD_REQUEST && said.contains("digest mismatch"), "{said}");
    assert_eq!(mirror.get(&path).await.status, StatusCode::NOT_FOUND);
    assert_eq!(fs::read_dir(scratch.join("mirror-data/blobs/staging")).expect("a folder").count(), 0);

    let put = async |mirror: &Mirror, manifest: &Value| {
        let request = mirror.request(Method::PUT, "/v2/team/foo/manifests/1").body(manifest.to_string());
        mirror.send(request).await
    };
    let config = digest_of(&image.blobs[0]);
    let missing = put(&mirror, &image.manifest).await;
    assert!(missing.status == StatusCode::BAD_REQUEST, "{missing:?}");
    assert!(String::from_utf8_lossy(&missing.body).contains(&format!("blob {config} is not there")), "{missing:?}");
    let path = begin(&mirror).await;
    let request = mirror.request(Method::PUT, &format!("{path}?digest={config}")).body(image.blobs[0].clone());
    assert_eq!(mirror.send(request).await.status, StatusCode::CREATED);
    let mut lying = image.manifest.clone();
    lying["layers"][0]["size"] = json!(5);
    assert_eq!(put(&mirror, &lying).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(put(&mirror, &json!({"schemaVersion": 1})).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(mirror.get("/v2/team/foo/manifests/1").await.status, StatusCode::NOT_FOUND);
    assert_eq!(put(&mirror, &image.manifest).await.status, StatusCode::CREATED);
    assert_eq!(mirror.get(&format!("/v2/team/foo/blobs/{digest}")).await.body, image.blobs[1]);
    let mount = format!("/v2/team/bar/blobs/uploads/?mount={digest}&from=team/foo");
    assert_eq!(mirror.send(mirror.request(Method::POST, &mount)).await.status, StatusCode::CREATED);
}
