//! The two sides: the embedded API in a process by itself, which is this program started again, and the real one.

use std::{
    env, fs,
    net::SocketAddr,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use drover::{
    api::crds,
    cluster,
    standalone::{self, Durability},
};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    support::{
        kube_api::{KubeApi, Settings, client_of},
        process::Process,
    },
    world::install_crds,
};

/// The first argument of this program when it is the embedded API of another one.
const SERVE: &str = "embedded-api";
const READY_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Whether this process is the embedded API of another one: then it is that until it is killed.
pub fn serve() -> bool {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [SERVE, dir, durability] = arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] else { return false };
    let durability = durability.parse().expect("full or normal");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let (api, service) = open(Path::new(dir), durability).await;
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let stop = CancellationToken::new();
        let (_, answers) = standalone::Server::bind(api, any, Path::new(dir), stop).await.expect("it can listen");
        let (api, server) = tokio::join!(service, answers);
        api.expect("the API goes on");
        server.expect("the server goes on");
    });
    true
}

async fn open(
    dir: &Path,
    durability: Durability,
) -> (standalone::Api, impl Future<Output = Result<(), String>> + Send + use<>) {
    fs::create_dir_all(dir).expect("a folder for the state");
    standalone::Api::open(dir, &crds(), durability).await.expect("the state can be opened")
}

/// The embedded API in a process by itself.
pub struct Embedded {
    pub client: Client,
    /// From the start of the process to its first answer.
    pub ready_after: Duration,
    process: Process,
}

impl Embedded {
    /// Starts it with its state in a folder; ready when this returns.
    pub async fn start(dir: &Path, durability: Durability) -> Self {
        fs::create_dir_all(dir).expect("a folder for the state");
        let kubeconfig = dir.join("kubeconfig");
        // One of an earlier start names another port.
        let _ = fs::remove_file(&kubeconfig);
        let mut command = Command::new(env::current_exe().expect("this program"));
        command.arg(SERVE).arg(dir).arg(if durability == Durability::Full { "full" } else { "normal" });
        let start = Instant::now();
        let mut process = Process::spawn("embedded", command, dir);
        while !kubeconfig.exists() {
            assert!(process.is_alive() && start.elapsed() < READY_WITHIN, "{}", process.diagnosis());
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let client = client_of(&kubeconfig).await.expect("a client");
        Api::<Namespace>::all(client.clone()).get("default").await.expect("it answers");
        Self { client, ready_after: start.elapsed(), process }
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// The embedded API in this process, asked without a port.
pub struct InProcess {
    pub client: Client,
    _tasks: JoinSet<()>,
}

impl InProcess {
    pub async fn start(dir: &Path) -> Self {
        let (api, service) = open(dir, Durability::Normal).await;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { service.await.expect("the API goes on") });
        Self { client: cluster::client_of(&api), _tasks: tasks }
    }
}

/// A real API server with the same kinds.
pub struct Real {
    pub client: Client,
    _api: KubeApi,
}

impl Real {
    pub async fn start(dir: &Path, durability: Durability) -> Self {
        let settings = Settings { synced: durability == Durability::Full, audited: false };
        let api = KubeApi::start_real(dir, settings).await;
        install_crds(&api).await;
        Self { client: api.client().await, _api: api }
    }
}
