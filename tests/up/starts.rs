//! How it begins and ends.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::instance::{SOON, Up, command, text};
use crate::support::process::Process;
use crate::support::{Scratch, drover::program, http_client};

#[tokio::test]
async fn everything_listens_when_ready_json_is_there_and_it_is_gone_at_the_end() {
    let scratch = Scratch::new();
    let mut up = Up::start(scratch.path(), &[]).await;
    let mode = fs::metadata(up.ready_file()).expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(up.ready["cockpit"].is_null());
    let http = http_client();
    for (part, path) in [("gateway", "/v1/models"), ("mirror", "/v2/"), ("health", "/livez"), ("health", "/metrics")] {
        let url = format!("{}{path}", up.url(part));
        let answer = http.get(&url).send().await.unwrap_or_else(|error| panic!("{url}: {error}"));
        assert_eq!(answer.status(), 200, "{url}");
    }
    assert!(up.kubectl(&["get", "crd"]).await.contains("ollamanodes.drover.dev"));
    let health = http.get(format!("{}/health/models", up.url("health"))).send().await.expect("an answer");
    assert!(health.text().await.expect("text").contains("\"status\""));

    let second = command(scratch.path(), &[], &[]).output().expect("it runs");
    assert_eq!(second.status.code(), Some(1));
    let pid = up.process().pid().to_string();
    assert!(text(&second.stderr).contains(&pid), "{}", text(&second.stderr));

    assert!(up.process().stop_gracefully(SOON).await.success());
    assert!(!up.ready_file().exists());
}

#[tokio::test]
async fn what_was_killed_starts_again_with_everything_that_it_had() {
    let scratch = Scratch::new();
    let mut up = Up::start(scratch.path(), &[]).await;
    up.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: kept}, data: {a: b}}").await;
    let (uid, before) = (up.field("configmap/kept", ".metadata.uid").await, up.ready.clone());
    up.process().kill9();
    assert!(up.ready_file().exists(), "nobody was there to remove it");
    up.restart(&[]).await;
    assert_ne!(up.ready, before, "the ports are others");
    assert_eq!(up.field("configmap/kept", ".metadata.uid").await, uid);
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_its_flag() {
    let scratch = Scratch::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("its number").port().to_string();
    for flag in ["--api-port", "--gateway-port", "--mirror-port", "--health-port"] {
        let ended = command(scratch.path(), &[flag.into(), port.clone()], &[]).output().expect("it runs");
        let said = text(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{said}");
        assert!(said.contains(flag) && said.contains(&port), "{said}");
    }
}

#[tokio::test]
async fn a_second_ctrl_c_does_not_wait() {
    let scratch = Scratch::new();
    let mut up = Up::start(scratch.path(), &["--drain-timeout", "10m"]).await;
    // A request that goes on for ever: its body never ends. The gateway asks for that when it has taken the request.
    let gateway = up.url("gateway").trim_start_matches("http://").to_owned();
    let mut slow = std::net::TcpStream::connect(gateway).expect("a connection");
    std::io::Write::write_all(
        &mut slow,
        b"POST /api/chat HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n",
    )
    .expect("sent");
    let mut taken = [0; 12];
    std::io::Read::read_exact(&mut slow, &mut taken).expect("an answer");
    assert_eq!(text(&taken), "HTTP/1.1 100");
    let pid = Pid::from_raw(up.process().pid() as i32).expect("a process");
    kill_process(pid, Signal::INT).expect("a signal");
    up.eventually_logs("finishing").await;
    assert!(up.process().is_alive());
    kill_process(pid, Signal::INT).expect("a signal");
    let ended = up.process().ended(Duration::from_secs(20)).await;
    assert_eq!(ended.code(), Some(1));
    assert!(!up.ready_file().exists());
}

#[tokio::test]
async fn the_server_that_ollama_itself_would_ask_is_a_node() {
    let scratch = Scratch::new();
    let mut up = Up::start_with(scratch.path(), &[], &[("OLLAMA_HOST", ":9")]).await;
    assert_eq!(up.field("ollamanode/local", ".spec.url").await, "http://127.0.0.1:9");
    up.eventually_logs("local  not there yet").await;
    up.eventually_is("ollamanode/local", r#".status.conditions[?(@.type=="Ready")].status"#, "False").await;
}

#[tokio::test]
async fn every_part_listens_where_it_is_told_to() {
    let scratch = Scratch::new();
    let up = Up::start(scratch.path(), &["--listen", "127.0.0.2", "--namespace", "ml"]).await;
    for part in ["api", "gateway", "mirror", "health"] {
        assert!(up.url(part).contains("://127.0.0.2:"), "{}", up.ready);
    }
    let nodes = up.kubectl(&["get", "ollamanode", "-n", "ml", "-o", "name"]).await;
    assert_eq!(nodes, "ollamanode.drover.dev/local\n", "the namespace is made, too");
}

#[tokio::test]
async fn other_commands_find_it() {
    let scratch = Scratch::new();
    let up = Up::start(scratch.path(), &[]).await;
    up.apply(
        "{apiVersion: drover.dev/v1alpha1, kind: ModelPull, metadata: {name: far}, spec: {model: 'far:1', required: true}}",
    )
    .await;
    let run = |arguments: &[&str]| {
        let mut command = tokio::process::Command::new(program());
        command.args(arguments).env_remove("KUBECONFIG").env("HOME", scratch.path());
        command.env("DROVER_DATA_DIR", scratch.join("data")).kill_on_drop(true);
        async move { command.output().await.expect("it runs") }
    };
    // Long enough for a first answer on a slow machine: what it waits for never comes.
    let waited = run(&["wait", "models", "--timeout", "3s"]).await;
    assert_eq!(waited.status.code(), Some(2), "{}", text(&waited.stderr));
    assert!(text(&waited.stdout).contains("far:1"), "{}", text(&waited.stdout));
    let listed = run(&["mirror", "ls"]).await;
    assert!(listed.status.success(), "the mirror's key is found, too: {}", text(&listed.stderr));
}

#[tokio::test]
async fn nothing_is_written_while_nothing_happens() {
    let scratch = Scratch::new();
    let folder = scratch.join("manifests");
    fs::create_dir(&folder).expect("a folder");
    let pull = "{apiVersion: drover.dev/v1alpha1, kind: ModelPull, metadata: {name: a}, spec: {model: 'a:1'}}";
    fs::write(folder.join("a.yaml"), format!("{pull}\n---\n{{kind: Nonsense}}\n")).expect("written");
    let flags = ["--manifests", folder.to_str().expect("text"), "--node", "gone=127.0.0.1:9"];
    let mut up = Up::start(scratch.path(), &flags).await;
    up.eventually_logs("objects are applied").await;
    let passes = |process: &mut Process| process.log().matches("objects are applied").count();
    let mut quiet = 0;
    let mut last = up.revision().await;
    while quiet < 4 {
        // Time itself is what is tested: probes, looks at the folder and resyncs go on.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = up.revision().await;
        quiet = if now == last { quiet + 1 } else { 0 };
        last = now;
    }
    let before = passes(up.process());
    fs::write(folder.join("a.yaml"), format!("{pull}\n---\n{{kind: Nonsense}}\n# touched\n")).expect("written");
    let process = up.process();
    crate::support::eventually(
        "another pass",
        SOON,
        async || {
            if passes(process) > before { Ok(()) } else { Err("none yet") }
        },
    )
    .await;
    assert_eq!(up.revision().await, last, "the same objects again are no writes");
}
