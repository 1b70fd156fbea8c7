//! Proves that the real parts do what the other tests rely on.

#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};
use support::disk::Disk;
use support::gguf::TinyLlama;
use support::kube_api::KubeApi;
use support::models::publish;
use support::network::Network;
use support::ollama::Ollama;
use support::process::Process;
use support::registry::{Registry, RegistryFront};
use support::traffic::{Trickle, failures};
use support::{Scratch, eventually};

const CONFIG_MAP: &str = "{apiVersion: v1, kind: ConfigMap, metadata: {name: kept, namespace: default}, data: {a: b}}";

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_answers_counts_writes_and_comes_back_with_its_data() {
    let dir = Scratch::new();
    let api = KubeApi::start(dir.path()).await;
    let before = api.marker().await;

    api.apply(CONFIG_MAP).await;

    let writes = api.writes_since(before).await;
    assert_eq!(writes.len(), 1, "{writes:?}");
    let write = &writes[0];
    assert_eq!(
        (write.verb.as_str(), write.resource.as_str(), write.namespace.as_str(), write.name.as_str(), write.code),
        ("create", "configmaps", "default", "kept", 201)
    );
    assert!(write.user_agent.starts_with("kubectl/"), "{write:?}");

    let after = api.marker().await;
    assert_eq!(api.get_json("configmap", "default", "kept").await["data"]["a"], "b");
    assert_eq!(api.writes_since(after).await.len(), 0, "reading is no write");

    api.stop();
    assert!(!api.kubectl(&["get", "configmaps"], None).await.status.success(), "nothing answers in an outage");
    api.start_again().await;
    let config_maps: kube::Api<ConfigMap> = kube::Api::default_namespaced(api.client().await);
    let kept = config_maps.get("kept").await.expect("the data outlives the outage");
    assert_eq!(kept.data.unwrap_or_default()["a"], "b");
    let releases = api.helm(&["list"]).await;
    assert!(releases.status.success(), "{releases:?}");
    check_rights(&api).await;
}

/// RBAC holds for ServiceAccounts and users.
async fn check_rights(api: &KubeApi) {
    api.kubectl_ok(&["create", "serviceaccount", "reader"], None).await;
    api.kubectl_ok(&["create", "role", "reader", "--verb=get,list", "--resource=configmaps"], None).await;
    api.kubectl_ok(&["create", "rolebinding", "r", "--role=reader", "--serviceaccount=default:reader"], None).await;
    let reader = api.kubeconfig_for_service_account("default", "reader").await;
    let stranger = api.kubeconfig_for_user("stranger");
    for (kubeconfig, may_read) in [(&reader, true), (&stranger, false)] {
        let kubeconfig = kubeconfig.to_str().expect("a path in UTF-8");
        let read = api.kubectl(&["--kubeconfig", kubeconfig, "get", "configmaps"], None).await;
        assert_eq!(read.status.success(), may_read, "{read:?}");
        let write = api.kubectl(&["--kubeconfig", kubeconfig, "create", "configmap", "no"], None).await;
        assert!(write.stderr.contains("forbidden"), "{write:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn models_go_through_the_registry_to_nodes_which_answer() {
    let dir = Scratch::new();
    let (registry, maker, mut node) = tokio::join!(
        async { Registry::start(&dir.join("registry")).await },
        async { Ollama::start("maker", &dir.join("maker")).await },
        async { Ollama::start("node", &dir.join("node")).await },
    );
    let front = RegistryFront::start(&registry).await;
    let models = [
        ("drover/alpha", "1", TinyLlama::new(1).says("Hello from alpha one.")),
        ("drover/alpha", "2", TinyLlama::new(2).size(4_000_000)),
    ];
    let digests = publish(&registry, &maker, &models).await;
    assert_eq!(digests.len(), 2);
    assert_ne!(digests["drover/alpha:1"], digests["drover/alpha:2"]);

    check_why_the_front_exists(&registry, &node).await;
    let small = format!("{}/drover/alpha:1", front.address());
    tokio::join!(check_pull(&node, &small, &digests), check_pull(&maker, &small, &digests));
    check_a_slow_line(&front, &node).await;
    check_a_broken_line(&front, &node).await;

    let trickle = Trickle::start(&node.url(), &small, 20.0);
    check_answers(&node, &small).await;
    // One whole answer and one stream at least, however fast the checks were.
    let samples = trickle.stop_after(2).await;
    assert_eq!(failures(&samples).len(), 0, "{samples:?}");
    assert!(samples.iter().all(|sample| sample.text == "Hello from alpha one."), "{samples:?}");
    check_a_failing_node(&mut node, &small).await;
}

async fn check_pull(node: &Ollama, model: &str, digests: &BTreeMap<String, String>) {
    node.pull(model).await.expect("a pull");
    assert_eq!(node.digest_of(model).await.as_ref(), Some(&digests["drover/alpha:1"]));
}

async fn check_a_failing_node(node: &mut Ollama, model: &str) {
    let models = node.models_dir().display().to_string();
    assert_eq!(commands_with(&models).len(), 1, "the runner of the model");
    node.kill9();
    check_gone(&models).await;
    node.restart().await;
    assert!(node.digest_of(model).await.is_some(), "the models are still there");
}

async fn check_gone(text: &str) {
    let none = async || match commands_with(text) {
        none if none.is_empty() => Ok(()),
        left => Err(left.join("; ")),
    };
    eventually("no process is left", Duration::from_secs(5), none).await;
}

/// The command lines of all processes that name this text.
fn commands_with(text: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").expect("the list of processes");
    let commands = processes.filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("cmdline")).ok());
    commands.filter(|command| command.contains(text)).collect()
}

async fn check_why_the_front_exists(registry: &Registry, node: &Ollama) {
    let error = node.pull(&format!("{}/drover/alpha:1", registry.address())).await.expect_err("no Location, no pull");
    assert!(error.contains("no Location header in response"), "{error}");
}

async fn check_a_slow_line(front: &RegistryFront, node: &Ollama) {
    let before = front.blob_bytes();
    front.limit_bandwidth(Some(4_000_000));
    let lines = node.pull(&format!("{}/drover/alpha:2", front.address())).await.expect("a pull");
    front.limit_bandwidth(None);
    assert!(front.blob_bytes() - before >= 4_000_000, "{:?}", front.served());
    let mut steps: Vec<u64> = lines.iter().filter_map(|line| line["completed"].as_u64()).collect();
    steps.dedup();
    assert!(steps.len() >= 5, "progress is seen: {lines:?}");
}

async fn check_a_broken_line(front: &RegistryFront, node: &Ollama) {
    let model = format!("{}/drover/alpha:2", front.address());
    node.delete(&model).await;
    front.fail_with(Some(http::StatusCode::SERVICE_UNAVAILABLE));
    node.pull(&model).await.expect_err("the registry is down");
    front.fail_with(None);
    front.stall(true);
    let stalled = tokio::time::timeout(Duration::from_millis(500), node.pull(&model)).await;
    assert!(stalled.is_err(), "nothing comes from a stalled registry: {stalled:?}");
    front.stall(false);
    front.protect("drover/alpha", "Basic c29tZTpvbmU=");
    node.pull(&model).await.expect_err("the node has no login");
}

async fn check_answers(node: &Ollama, model: &str) {
    let http = support::http_client();
    let ask = async |path: &str, body: Value| -> Value {
        let answer = http.post(node.url() + path).json(&body).send().await.expect("ollama answers");
        answer.json().await.expect("JSON")
    };
    let messages = json!([{"role": "user", "content": "Who are you?"}]);
    let plain = ask("/api/chat", json!({"model": model, "messages": messages, "stream": false})).await;
    assert_eq!(plain["message"]["content"], "Hello from alpha one.", "{plain}");

    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
    let body = json!({"model": model, "messages": messages, "stream": false, "format": schema});
    let answer = ask("/api/chat", body).await;
    let content = answer["message"]["content"].as_str().unwrap_or_default();
    let object: Value = serde_json::from_str(content).unwrap_or_else(|error| panic!("{error}: {answer}"));
    assert!(object["n"].is_i64() || object["n"].is_u64(), "{object}");

    let embedded = ask("/api/embed", json!({"model": model, "input": "some text"})).await;
    assert_eq!(embedded["embeddings"][0].as_array().map(Vec::len), Some(64), "{embedded}");
}

/// Set for a run of this program that is to be killed, to the folder that it shall use.
const VICTIM: &str = "DROVER_SELFTEST_VICTIM";

/// A file of the victim: its process was not only seen to run, its start has returned to the victim too.
const STARTED: &str = "started";

#[tokio::test]
async fn a_killed_test_leaves_no_process_behind() {
    let dir = Scratch::new();
    let program = std::env::current_exe().expect("this program");
    let mut victim = Command::new(program);
    victim.args(["--exact", "victim", "--ignored"]).env(VICTIM, dir.path()).stdout(Stdio::null());
    let mut victim = victim.spawn().expect("it starts");
    let folder = dir.path().display().to_string();
    let started = async || match (commands_with(&folder).len(), dir.join(STARTED).exists()) {
        (2, true) => Ok(()),
        seen => Err(format!("{seen:?}")),
    };
    eventually("the victim has started a process with a child", Duration::from_secs(30), started).await;

    victim.kill().and_then(|()| victim.wait()).expect("it can be killed");

    check_gone(&folder).await;
}

#[test]
#[ignore = "run and killed by another test"]
fn victim() {
    let dir = std::env::var(VICTIM).expect("set by the other test");
    let mut shell = Command::new("sh");
    shell.args(["-c", "tail -f \"$0\" & wait", &format!("{dir}/shell.log")]);
    let mut process = Process::spawn("shell", shell, dir.as_ref());
    std::fs::write(Path::new(&dir).join(STARTED), "").expect("a file");
    while process.is_alive() {
        std::thread::park();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_on_a_machine_of_its_own_can_be_cut_off_from_one_address() {
    let dir = Scratch::new();
    let network = Network::start();
    let node = Ollama::start_in(network.host(), "node", dir.path()).await;
    assert!(node.tags().await["models"].is_array(), "this machine reaches the node");
    let listen = |address: String| std::net::TcpListener::bind((address, 0)).expect("an address of this machine");
    let servers = [listen(network.first()), listen(network.second())];
    let reaches = |server: &std::net::TcpListener| {
        let address = server.local_addr().expect("an address");
        let mut connect = Command::new("bash");
        connect.args(["-c", &format!("exec 3<>/dev/tcp/{}/{}", address.ip(), address.port())]);
        node.host().command(&connect).stderr(Stdio::null()).status().expect("bash runs").success()
    };
    assert_eq!(servers.each_ref().map(reaches), [true, true]);
    node.host().cut_off(&network.second());
    assert_eq!(servers.each_ref().map(reaches), [true, false]);
    node.host().reconnect(&network.second());
    assert_eq!(servers.each_ref().map(reaches), [true, true]);
}

#[test]
fn a_disk_is_full_and_grows() {
    let dir = Scratch::new();
    let disk = Disk::mount(&dir.join("disk"), 2);
    let write = || std::fs::write(dir.join("disk/file"), vec![1; 3 << 20]);
    let full = write().expect_err("3 MiB on 2 MiB");
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    disk.resize(4);
    write().expect("3 MiB on 4 MiB");
}
