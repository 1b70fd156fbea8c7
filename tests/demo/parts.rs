//! Everything that runs during the tour, on ports that are the same each time, so that the files of
//! `manifests/quickstart` apply as they are.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::shell::Shell;
use crate::support::drover::{self, Drover};
use crate::support::gguf::TinyLlama;
use crate::support::kube_api::KubeApi;
use crate::support::models::publish;
use crate::support::ollama::Ollama;
use crate::support::registry::{Registry, RegistryFront};
use crate::support::stack;

/// Below the range in which the other parts look for free ports.
const GATEWAY: u16 = 9430;
const NODES: [u16; 2] = [9431, 9432];
const REGISTRY: u16 = 9435;
const MIRROR: u16 = 9437;

/// What the two versions answer, whatever they are asked.
pub const ANSWERS: [(&str, &str); 2] = [
    ("v1.0.0", "Version 1.0 here: your bicycle was shipped today."),
    ("v1.1.0", "Hello from version 1.1: your bicycle arrives tomorrow, by train."),
];

/// Fields end in the order that they stand in.
pub struct Parts {
    _controller: Drover,
    _gateway: Drover,
    pub nodes: [Ollama; 2],
    _mirror: Drover,
    pub registry_front: RegistryFront,
    _registry: Registry,
    pub api: KubeApi,
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

pub fn gateway_url() -> String {
    format!("http://127.0.0.1:{GATEWAY}")
}

impl Parts {
    pub async fn start() -> Result<Self, String> {
        let folder = folder();
        let _ = fs::remove_dir_all(&folder); // of an earlier tour
        let dir = |name: &str| {
            let dir = folder.join(name);
            fs::create_dir_all(&dir).map(|()| dir.clone()).map_err(|error| format!("{}: {error}", dir.display()))
        };
        let (kube, storage, first, second) = (dir("kube")?, dir("registry")?, dir("node-1")?, dir("node-2")?);
        println!("Starting a Kubernetes API server with etcd, an OCI registry and two Ollama nodes.");
        let start = Instant::now();
        let (api, (registry, front, nodes)) =
            tokio::join!(KubeApi::start(&kube), start_fleet(&storage, [&first, &second]));
        link_programs(&dir("bin")?).map_err(|error| error.to_string())?;
        let shell = Shell::new(&env_file(), &api.kubeconfig(), &folder)?;
        println!("  ready after {:.1} s", start.elapsed().as_secs_f32());
        println!("  API server   {}", api.url());
        for (port, number) in NODES.iter().zip(1..) {
            println!("  node-{number}       http://127.0.0.1:{port}");
        }
        println!("  registry     {} with shop/support-bot:1.0 and :1.1", front.url());

        println!("\nInstalling the kinds, then starting a mirror, a controller and a gateway.");
        shell.run("kubectl apply --server-side -f crds/").await?;
        shell.run("kubectl wait --for=condition=Established crd --all --timeout=30s").await?;
        let (mirror_url, upstream) = (format!("http://127.0.0.1:{MIRROR}"), format!("={}", front.url()));
        let data = folder.join("mirror");
        println!(
            "  $ drover mirror --mirror-listen 127.0.0.1:{MIRROR} --data-dir {} --upstream {upstream} &",
            data.display()
        );
        println!("  $ drover controller --namespace default --gateways {} --mirror-url {mirror_url} &", gateway_url());
        println!("  $ drover gateway --namespace default --gateway-listen 127.0.0.1:{GATEWAY} &");
        let (kubeconfig, gateways) = (api.kubeconfig(), [gateway_url()]);
        let (more, from) = (["--mirror-url", mirror_url.as_str()], ["--upstream", upstream.as_str()]);
        let (mirror, controller, gateway) = tokio::join!(
            Drover::mirror(MIRROR, &data, &from),
            Drover::controller_with(&kubeconfig, "default", &gateways, &folder, &more),
            Drover::gateway("gateway", &kubeconfig, "default", GATEWAY, &folder),
        );
        println!("  all are ready");
        let (_controller, _gateway, _mirror, _registry) = (controller, gateway, mirror, registry);
        Ok(Self { _controller, _gateway, nodes, _mirror, registry_front: front, _registry, api, shell })
    }

    /// Ends everything and leaves nothing behind.
    pub fn stop(self) {
        drop(self);
        let _ = fs::remove_dir_all(folder());
    }
}

/// Fails when something else listens where the tour's parts are going to.
pub fn check_ports() -> Result<(), String> {
    for port in [GATEWAY, NODES[0], NODES[1], REGISTRY, MIRROR] {
        TcpListener::bind(("127.0.0.1", port)).map_err(|error| {
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
        symlink(stack::program(name), bin.join(name))?;
    }
    symlink(drover::program(), bin.join("drover"))
}
