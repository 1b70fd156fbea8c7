//! Scenarios on two APIs, and the API servers that they share, each scenario in a namespace of its own.

use std::{
    future::Future,
    path::Path,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{runtime::Runtime, sync::OnceCell};

use crate::support::{
    Scratch, checkout,
    kube_api::{KubeApi, Server},
};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));
/// Files of the shared servers.
pub static SCRATCH: LazyLock<Scratch> = LazyLock::new(Scratch::new);

/// Makes two tests of each scenario: `real::NAME` on kube-apiserver and etcd, and `embedded::NAME`. A scenario is an
/// `async fn(Server)`.
macro_rules! on_both_apis {
    ($($scenario:ident),+ $(,)?) => {
        mod real {
            $(#[test] fn $scenario() { $crate::world::run(super::$scenario($crate::support::kube_api::Server::Real)); })+
        }
        mod embedded {
            $(#[test] fn $scenario() { $crate::world::run(super::$scenario($crate::support::kube_api::Server::Embedded)); })+
        }
    };
}
pub(crate) use on_both_apis;

/// Runs a scenario on the runtime that the shared servers' connections live on.
pub fn run(scenario: impl Future<Output = ()>) {
    RUNTIME.block_on(scenario);
}

/// The API server of this kind that most scenarios share, with Drover's CRDs.
pub async fn api(server: Server) -> Arc<KubeApi> {
    static REAL: OnceCell<Arc<KubeApi>> = OnceCell::const_new();
    static EMBEDDED: OnceCell<Arc<KubeApi>> = OnceCell::const_new();
    let (shared, folder) = match server {
        Server::Real => (&REAL, "kube"),
        Server::Embedded => (&EMBEDDED, "embedded"),
    };
    shared.get_or_init(async || Arc::new(own_api(server, &SCRATCH.join(folder)).await)).await.clone()
}

/// An API server for one scenario, with Drover's CRDs and its files in `dir`.
pub async fn own_api(server: Server, dir: &Path) -> KubeApi {
    let api = KubeApi::start_as(server, dir).await;
    if server == Server::Real {
        install_crds(&api).await;
    }
    api
}

/// What `kubectl apply -f crds/` does.
pub async fn install_crds(api: &KubeApi) {
    let crds = checkout("crds").display().to_string();
    api.kubectl_ok(&["apply", "--server-side", "-f", &crds], None).await;
    api.kubectl_ok(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"], None).await;
}

/// A new namespace.
pub async fn namespace(api: &KubeApi, purpose: &str) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    let name = format!("{purpose}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    api.kubectl_ok(&["create", "namespace", &name], None).await;
    name
}
