//! The servers that all scenarios share, each scenario in a namespace of its own.

use std::{
    future::Future,
    sync::{
        LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{runtime::Runtime, sync::OnceCell};

use crate::support::{Scratch, kube_api::KubeApi};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));
static API: OnceCell<KubeApi> = OnceCell::const_new();
/// Files of the shared servers.
pub static SCRATCH: LazyLock<Scratch> = LazyLock::new(Scratch::new);

/// Runs a scenario on the runtime that the shared servers' connections live on.
pub fn scenario<F: Future<Output = ()>>(scenario: impl FnOnce() -> F) {
    RUNTIME.block_on(scenario());
}

/// The API server that most scenarios share, with Drover's CRDs.
pub async fn api() -> &'static KubeApi {
    API.get_or_init(|| async {
        let api = KubeApi::start(&SCRATCH.join("kube")).await;
        install_crds(&api).await;
        api
    })
    .await
}

/// What `kubectl apply -f crds/` does.
pub async fn install_crds(api: &KubeApi) {
    let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/crds");
    api.kubectl_ok(&["apply", "--server-side", "-f", crds], None).await;
    api.kubectl_ok(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"], None).await;
}

/// A new namespace.
pub async fn namespace(api: &KubeApi, purpose: &str) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    let name = format!("{purpose}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    api.kubectl_ok(&["create", "namespace", &name], None).await;
    name
}
