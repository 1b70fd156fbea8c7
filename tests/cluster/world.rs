//! The servers that all scenarios share, each scenario in a namespace of its own.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        LazyLock,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

use tokio::{runtime::Runtime, sync::OnceCell};

use crate::support::{Scratch, kube_api::KubeApi};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));
static API: OnceCell<(Scratch, KubeApi)> = OnceCell::const_new();

/// Runs a scenario, and keeps its thread: a child process ends with the thread that started it, and the servers that
/// this scenario happened to start first are shared with the others.
pub fn scenario<F: Future<Output = ()>>(scenario: impl FnOnce() -> F + Send + 'static) {
    let (report, result) = mpsc::channel();
    std::thread::spawn(move || {
        let outcome = catch_unwind(AssertUnwindSafe(|| RUNTIME.block_on(scenario())));
        if report.send(outcome).is_ok() {
            loop {
                std::thread::park();
            }
        }
    });
    if let Err(panic) = result.recv().expect("the scenario's thread reports") {
        resume_unwind(panic);
    }
}

/// The API server that most scenarios share, with Drover's CRDs.
pub async fn api() -> &'static KubeApi {
    let (_, api) = API
        .get_or_init(|| async {
            let scratch = Scratch::new();
            let api = KubeApi::start(&scratch.join("kube")).await;
            install_crds(&api).await;
            (scratch, api)
        })
        .await;
    api
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
