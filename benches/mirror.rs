//! The mirror next to nginx with the same bytes, and next to no mirror at all.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use serde_json::json;

use crate::{
    load, machine,
    nginx::Nginx,
    support::{
        Scratch,
        drover::Drover,
        free_port,
        gguf::TinyLlama,
        http_client,
        models::publish,
        ollama::Ollama,
        registry::{Registry, RegistryFront},
    },
    table::{Table, median, spread},
};

const MODEL_BYTES: u64 = 256 << 20;
const REPOSITORY: &str = "bench/big";
const TAG: &str = "1";
const TOKEN: &str = "drover-bench";
/// Rounds of each figure, the two sides taking turns.
const WARM_ROUNDS: usize = 7;
const COLD_ROUNDS: usize = 3;
/// What each puller fetches in a warm round, so that a round is long enough to be measured.
const WARM_BYTES: u64 = 2 << 30;
/// A gigabit line to the registry.
const LINE: u64 = 125_000_000;
/// Ollama fetches a blob in parts of at least this size, several at once.
const PART: u64 = 100_000_000;

pub async fn run(table: &mut Table) {
    let scratch = Scratch::new();
    let dirs = ["registry", "node", "nginx"].map(|name| scratch.join(name));
    for dir in &dirs {
        fs::create_dir_all(dir).expect("a folder");
    }
    let [registry_dir, node_dir, nginx_dir] = dirs;
    let registry = Registry::start(&registry_dir).await;
    let node = Ollama::start("node", &node_dir).await;
    let model = TinyLlama::new(1).size(MODEL_BYTES);
    publish(&registry, &node, &[(REPOSITORY, TAG, model)]).await;
    let front = RegistryFront::start(&registry).await;

    table.note("load of the machine", machine::load());
    for (line, name) in [(Some(LINE), "a line of 1 Gbit/s"), (None, "no limit but this machine")] {
        front.limit_bandwidth(line);
        cold(table, name, &node, &front, scratch.path()).await;
    }
    front.limit_bandwidth(None);
    let mirror = Mirror::empty(&front, scratch.path(), "warm").await;
    node.pull(&mirror.name()).await.expect("the node pulls through the mirror");
    let blob = biggest_blob(&node.models_dir().join("blobs"));
    warm(table, &mirror, &nginx(&nginx_dir, &blob).await, &blob);
}

/// A node pulls a model that nobody has yet: through an empty mirror, and from the registry itself.
async fn cold(table: &mut Table, line: &str, node: &Ollama, front: &RegistryFront, dir: &Path) {
    let (mut direct, mut mirrored) = (Vec::new(), Vec::new());
    for round in 0..COLD_ROUNDS {
        let name = format!("{}/{REPOSITORY}:{TAG}", front.address());
        direct.push(pull(node, &name).await);
        let mirror = Mirror::empty(front, dir, &format!("cold-{round}-{}", line.len())).await;
        mirrored.push(pull(node, &mirror.name()).await);
    }
    let ratio = median(&mirrored) / median(&direct);
    let figure = format!("{ratio:.2} ×: {} s, direct {} s", spread(&mirrored), spread(&direct));
    table.goal(format!("cold through the mirror, {line}: ≤ 1.1 × direct"), figure, ratio <= 1.1);
}

/// The seconds that a pull takes; the node has nothing of it before or after.
async fn pull(node: &Ollama, name: &str) -> f64 {
    let start = Instant::now();
    node.pull(name).await.unwrap_or_else(|error| panic!("pull of {name}: {error}"));
    let seconds = start.elapsed().as_secs_f64();
    node.delete(name).await;
    seconds
}

/// Both serve one file from the page cache to the same pullers.
fn warm(table: &mut Table, mirror: &Mirror, nginx: &Nginx, blob: &Path) {
    let digest = blob.file_name().expect("a name").to_string_lossy().replace('-', ":");
    let size = fs::metadata(blob).expect("a file").len();
    let targets = [(mirror.port, format!("/v2/{TOKEN}/{MODEL}/blobs/{digest}")), (nginx.port, "/blob".to_owned())];
    for pullers in [1, 8] {
        for (how, part) in [("whole", size), ("in parts, as Ollama does", PART)] {
            let mut rates = [Vec::new(), Vec::new()];
            for _ in 0..WARM_ROUNDS {
                for ((port, path), rates) in targets.iter().zip(&mut rates) {
                    let times = (WARM_BYTES / size / pullers as u64).max(1);
                    let start = Instant::now();
                    load::pull(*port, path, size, part, pullers, times);
                    let bytes = size * times * pullers as u64;
                    rates.push(bytes as f64 / start.elapsed().as_secs_f64() / 1e9);
                }
            }
            let [mirror, nginx] = rates;
            let ratio = median(&mirror) / median(&nginx);
            let figure = format!("{ratio:.2} ×: {} GB/s, nginx {} GB/s", spread(&mirror), spread(&nginx));
            table.goal(format!("cached blob, {pullers} pullers, {how}: ≥ 0.8 × nginx"), figure, ratio >= 0.8);
        }
    }
}

const MODEL: &str = "big";

/// The model's weights among a node's blobs.
fn biggest_blob(blobs: &Path) -> PathBuf {
    let blobs = fs::read_dir(blobs).expect("the node's blobs").map(|entry| entry.expect("a blob").path());
    blobs.max_by_key(|path| fs::metadata(path).expect("a file").len()).expect("a model")
}

/// A mirror that may pull the model.
struct Mirror {
    port: u16,
    _drover: Drover,
}

impl Mirror {
    async fn empty(front: &RegistryFront, dir: &Path, name: &str) -> Self {
        let (port, dir) = (free_port(), dir.join(name));
        fs::create_dir_all(&dir).expect("a folder");
        let upstream = format!("={}", front.url());
        let drover = Drover::mirror(port, &dir, &["--upstream", &upstream, "--log-level", "warn"]).await;
        let grant = http_client()
            .put(format!("http://127.0.0.1:{port}/drover/v1/pulls/{TOKEN}"))
            .json(&json!({"model": format!("{REPOSITORY}:{TAG}")}));
        let answer = grant.send().await.expect("the mirror answers");
        assert!(answer.status().is_success(), "{:?}", answer.text().await);
        Self { port, _drover: drover }
    }

    fn name(&self) -> String {
        format!("127.0.0.1:{}/{TOKEN}/{MODEL}:{TAG}", self.port)
    }
}

/// nginx with one file, a worker on every core.
async fn nginx(dir: &Path, file: &Path) -> Nginx {
    fs::create_dir_all(dir.join("www")).expect("a folder");
    fs::hard_link(file, dir.join("www/blob")).expect("a link on the same file system");
    let server = format!("root {}/www;", dir.display());
    let blocks = ("sendfile on; tcp_nopush on;", &*server);
    Nginx::start(dir, Command::new("nginx"), "worker_processes auto;", blocks, "/blob").await
}
