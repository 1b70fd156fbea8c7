//! Everything that runs during the tour, on ports that are the same each time, so that the files of
//! `manifests/quickstart` apply as they are.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::shell::Shell;
use crate::stage::{Ground, Kind, Stage};
use crate::support::drover;
use crate::support::gguf::TinyLlama;
use crate::support::models::publish;
use crate::support::ollama::Ollama;
use crate::support::registry::{Registry, RegistryFront};
use crate::support::stack;

/// Below the range in which the other parts look for free ports.
pub const GATEWAY: u16 = 9430;
pub const NODES: [u16; 2] = [9431, 9432];
const REGISTRY: u16 = 9435;
pub const MIRROR: u16 = 9437;

/// What the two versions answer, whatever they are asked.
pub const ANSWERS: [(&str, &str); 2] = [
    ("v1.0.0", "Version 1.0 here: your bicycle was shipped today."),
    ("v1.1.0", "Hello from version 1.1: your bicycle arrives tomorrow, by train."),
];

/// Fields end in the order that they stand in.
pub struct Parts {
    stage: Stage,
    pub nodes: [Ollama; 2],
    pub registry_front: RegistryFront,
    _registry: Registry,
    pub shell: Shell,
}

/// Where all logs and data are: always the same, so that commands can be copied.
pub fn folder() -> PathBuf {
    stack::cache_folder().join("demo")
}

/// The file that makes a shell see what the tour sees.
pub fn env_file() -> PathBuf {
    folder().join("env")
}

/// A folder in there, which is made.
pub fn dir(name: &str) -> Result<PathBuf, String> {
    let dir = folder().join(name);
    fs::create_dir_all(&dir).map(|()| dir.clone()).map_err(|error| format!("{}: {error}", dir.display()))
}

pub fn gateway_url() -> String {
    format!("http://127.0.0.1:{GATEWAY}")
}

impl Parts {
    pub async fn start(stage: Kind) -> Result<Self, String> {
        let folder = folder();
        let _ = fs::remove_dir_all(&folder); // of an earlier tour
        let (storage, first, second) = (dir("registry")?, dir("node-1")?, dir("node-2")?);
        println!("Starting {}an OCI registry and two Ollama nodes.", stage.before());
        let start = Instant::now();
        let (ground, (registry, front, nodes)) =
            tokio::join!(Ground::start(stage), start_fleet(&storage, [&first, &second]));
        let ground = ground?;
        link_programs(&dir("bin")?).map_err(|error| error.to_string())?;
        println!("  ready after {:.1} s", start.elapsed().as_secs_f32());
        for (port, number) in NODES.iter().zip(1..) {
            println!("  node-{number}       http://127.0.0.1:{port}");
        }
        println!("  registry     {} with shop/support-bot:1.0 and :1.1", front.url());
        let shell = Shell::new(&env_file(), &ground.kubeconfig(), &folder)?;
        let stage = ground.build_on(&shell, &format!("={}", front.url())).await?;
        println!("  all is ready");
        Ok(Self { stage, nodes, registry_front: front, _registry: registry, shell })
    }

    /// A client of the Kubernetes API, whichever it is.
    pub async fn client(&self) -> Result<kube::Client, String> {
        ::drover::cluster::connect_as(self.stage.kubeconfig()).await
    }

    /// Ends everything and leaves nothing behind.
    pub fn stop(self) {
        drop(self);
        let _ = fs::remove_dir_all(folder());
    }
}

/// Fails when something else listens where the tour's parts are going to.
pub fn check_ports(stage: Kind) -> Result<(), String> {
    let always = [GATEWAY, NODES[0], NODES[1], REGISTRY, MIRROR];
    for port in always.iter().chain(stage.ports()) {
        TcpListener::bind(("127.0.0.1", *port)).map_err(|error| {
            format!("port {port} of 127.0.0.1 is needed ({error}): is another tour or program using it?")
        })?;
    }
    Ok(())
}

/// A registry with two models, made and pushed by the first node, which does not keep them.
async fn start_fleet(storage: &Path, dirs: [&Path; 2]) -> (Registry, RegistryFront, [Ollama; 2]) {
    let (registry, first, second) = tokio::join!(
        Registry::start(storage),
        Ollama::start_on("node-1", dirs[0], NODES[0]),
        Ollama::start_on("node-2", dirs[1], NODES[1]),
    );
    let model = |index: usize| TinyLlama::new(index as u64).says(ANSWERS[index].1);
    let models = [("shop/support-bot", "1.0", model(0)), ("shop/support-bot", "1.1", model(1))];
    publish(&registry, &first, &models).await;
    let front = RegistryFront::start_on(&registry, REGISTRY).await;
    (registry, front, [first, second])
}

/// One folder with every program that a visitor may want to call.
fn link_programs(bin: &Path) -> std::io::Result<()> {
    for name in ["kubectl", "helm", "ollama"] {
        // Not each stage has all of them.
        if let Some(program) = stack::find(name) {
            symlink(program, bin.join(name))?;
        }
    }
    symlink(drover::program(), bin.join("drover"))
}
