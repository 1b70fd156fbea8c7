//! A Kubernetes API: a real API server on a real etcd, or the embedded one. Neither has controllers but for what the
//! embedded one does itself: nothing makes pods, fills aggregated roles (`view`, `edit`, `admin`), and ServiceAccounts,
//! which only the real one has, as it has RBAC, get tokens on request only.

pub mod embedded;
mod real;
mod writes;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinitionNames;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::sync::OnceCell;

use super::process::Process;
use super::stack::program;
use super::{eventually, free_port, install_crypto};
use real::Etcd;
pub use real::Settings;
pub use writes::{Marker, Write};

const AUDIT_LOG: &str = "audit.log";
const READY_WITHIN: Duration = Duration::from_secs(60);

/// The programs that can be the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// kube-apiserver on etcd.
    Real,
    /// The one of `drover::standalone`, which knows Drover's kinds by itself. Only test programs that have the test
    /// [`embedded::TEST`] can start it.
    Embedded,
}

pub struct KubeApi {
    dir: PathBuf,
    port: u16,
    /// `None` during an outage.
    process: Mutex<Option<Process>>,
    /// Of the real one.
    etcd: Option<Etcd>,
    /// The length of the log of writes when the process started: what an earlier one had in work is never answered.
    log_at_start: AtomicUsize,
    client: OnceCell<kube::Client>,
}

/// What a finished `kubectl` or `helm` left.
#[derive(Debug)]
pub struct Output {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// A client with the rights that a kubeconfig gives.
pub async fn client_of(kubeconfig: &Path) -> Result<kube::Client, String> {
    install_crypto();
    let config = kube::config::Kubeconfig::read_from(kubeconfig).map_err(|error| error.to_string())?;
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(config, &options).await.map_err(|error| error.to_string())?;
    kube::Client::try_from(config).map_err(|error| error.to_string())
}

impl KubeApi {
    /// Starts a real API server with all of its files in `dir`; ready when this returns.
    pub async fn start(dir: &Path) -> Self {
        Self::start_as(Server::Real, dir).await
    }

    /// The same with either program.
    pub async fn start_as(server: Server, dir: &Path) -> Self {
        Self::start_with(server, dir, Settings { synced: false, audited: true }).await
    }

    /// A real API server that works in another way than in tests.
    pub async fn start_real(dir: &Path, settings: Settings) -> Self {
        Self::start_with(Server::Real, dir, settings).await
    }

    async fn start_with(server: Server, dir: &Path, settings: Settings) -> Self {
        fs::create_dir_all(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        let etcd = (server == Server::Real).then(|| {
            real::write_configuration(dir);
            Etcd::start(dir, settings)
        });
        let (process, client) = (Mutex::default(), OnceCell::default());
        let api = Self {
            dir: dir.to_owned(),
            port: free_port(),
            process,
            etcd,
            client,
            log_at_start: AtomicUsize::default(),
        };
        if server == Server::Real {
            api.write_kubeconfig("admin", json!({"token": real::ADMIN_TOKEN}));
        }
        api.start_again().await;
        api
    }

    pub fn server(&self) -> Server {
        if self.etcd.is_some() { Server::Real } else { Server::Embedded }
    }

    /// An outage: the API server is gone at once and all connections to it are cut. The data stays.
    pub fn stop(&self) {
        *self.process() = None;
    }

    /// Ends the outage, on the same port and with the same data.
    pub async fn start_again(&self) {
        self.log_at_start.store(self.audit_log().len(), Ordering::Relaxed);
        let (name, command) = match &self.etcd {
            Some(etcd) => ("kube-apiserver", etcd.apiserver(&self.dir, self.port)),
            None => ("embedded-api", embedded::command(&self.dir, self.port)),
        };
        *self.process() = Some(Process::spawn(name, command, &self.dir));
        eventually("the API server is ready", READY_WITHIN, async || self.check_ready().await).await;
    }

    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The kubeconfig of a cluster administrator who reaches the API on another port.
    pub fn kubeconfig_at(&self, port: u16) -> PathBuf {
        let text = fs::read_to_string(self.kubeconfig()).expect("the kubeconfig is there");
        let path = self.kubeconfig_path(&format!("port-{port}"));
        let at = |port: u16| format!("https://127.0.0.1:{port}");
        fs::write(&path, text.replace(&at(self.port), &at(port))).expect("a kubeconfig can be written");
        path
    }

    /// The kubeconfig of a cluster administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        match self.server() {
            Server::Real => self.kubeconfig_path("admin"),
            Server::Embedded => self.dir.join("kubeconfig"),
        }
    }

    /// A kubeconfig with a fresh token of an existing ServiceAccount, which may do what RBAC lets it do.
    pub async fn kubeconfig_for_service_account(&self, namespace: &str, name: &str) -> PathBuf {
        let token = self.kubectl_ok(&["create", "token", name, "-n", namespace, "--duration=24h"], None).await;
        self.write_kubeconfig(&format!("{namespace}.{name}"), json!({"token": token.trim()}))
    }

    /// A kubeconfig of a user who has no rights but those that RBAC gives to this name.
    pub fn kubeconfig_for_user(&self, name: &str) -> PathBuf {
        self.write_kubeconfig(name, json!({"token": real::ADMIN_TOKEN, "as": name}))
    }

    /// A client with an administrator's rights.
    pub async fn client(&self) -> kube::Client {
        let client = self.client.get_or_init(async || self.new_client().await.expect("a Kubernetes client"));
        client.await.clone()
    }

    /// Runs kubectl as administrator.
    pub async fn kubectl(&self, arguments: &[&str], stdin: Option<&str>) -> Output {
        self.run("kubectl", arguments, stdin).await
    }

    /// Runs helm as administrator.
    pub async fn helm(&self, arguments: &[&str]) -> Output {
        self.run("helm", arguments, None).await
    }

    /// Runs kubectl as administrator, panics when it fails, returns what it printed.
    pub async fn kubectl_ok(&self, arguments: &[&str], stdin: Option<&str>) -> String {
        let output = self.kubectl(arguments, stdin).await;
        assert!(output.status.success(), "kubectl {}: {}", arguments.join(" "), output.stderr);
        output.stdout
    }

    pub async fn apply(&self, yaml: &str) {
        self.kubectl_ok(&["apply", "-f", "-"], Some(yaml)).await;
    }

    /// An object of one of Drover's kinds, by any of the names that kubectl knows the kind by, and as kubectl shows it.
    /// For questions that are asked again and again: it starts no kubectl.
    pub async fn object(&self, kind: &str, namespace: &str, name: &str) -> Value {
        let mut object = self.ask(http::Method::GET, &format!("{}/{name}", path(kind, namespace)), Vec::new()).await;
        object["metadata"].as_object_mut().expect("metadata").remove("managedFields");
        object
    }

    /// Makes an object of one of Drover's kinds, without kubectl, which sends 50 requests a second at most.
    pub async fn create(&self, kind: &str, namespace: &str, object: &Value) {
        self.ask(http::Method::POST, &path(kind, namespace), object.to_string().into_bytes()).await;
    }

    pub async fn get_json(&self, kind: &str, namespace: &str, name: &str) -> Value {
        let text = self.kubectl_ok(&["get", kind, name, "-n", namespace, "-o", "json"], None).await;
        serde_json::from_str(&text).expect("kubectl prints JSON")
    }

    /// Now, for [`Self::writes_since`]: what anybody could see before lies before it.
    pub async fn marker(&self) -> Marker {
        Marker(self.settled_log().await.len())
    }

    /// The writes that were answered after the marker, with all that anybody could see before this is called.
    pub async fn writes_since(&self, marker: Marker) -> Vec<Write> {
        writes::answered(&self.settled_log().await[marker.0..])
    }

    /// The writes that were answered between two markers.
    pub fn writes_between(&self, from: Marker, to: Marker) -> Vec<Write> {
        writes::answered(&self.audit_log()[from.0..to.0])
    }

    /// The API server's process, while it runs.
    pub fn pid(&self) -> u32 {
        self.process().as_ref().map(Process::pid).expect("the API server runs")
    }

    /// The API server's own log.
    pub fn log(&self) -> String {
        self.process().as_ref().map(Process::log).unwrap_or_default()
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, method: http::Method, path: &str, body: Vec<u8>) -> Value {
        let request = http::Request::builder().method(&method).uri(path).header("content-type", "application/json");
        let request = request.body(body).expect("a request");
        self.client().await.request(request).await.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    async fn run(&self, tool: &str, arguments: &[&str], stdin: Option<&str>) -> Output {
        let mut command = tokio::process::Command::new(program(tool));
        // A home of its own: no settings of the person, no cache of another API server.
        command.args(arguments).env("KUBECONFIG", self.kubeconfig()).env("HOME", self.dir.join("home"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{tool}: {error}"));
        let mut input = child.stdin.take().expect("its input is a pipe");
        // The tool may end before it has read its input; what it says then matters more than the broken pipe.
        let _ = input.write_all(stdin.unwrap_or_default().as_bytes()).await;
        drop(input);
        let output = child.wait_with_output().await.unwrap_or_else(|error| panic!("{tool}: {error}"));
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Output { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// The log once all writes are answered that were in work when this was called.
    async fn settled_log(&self) -> String {
        let awaited = writes::unanswered(&self.audit_log()[self.log_at_start.load(Ordering::Relaxed)..]);
        eventually("the writes in work are answered", READY_WITHIN, async || {
            let log = self.audit_log();
            let open = writes::unanswered(&log[self.log_at_start.load(Ordering::Relaxed)..]);
            if open.is_disjoint(&awaited) { Ok(log) } else { Err(format!("{open:?}")) }
        })
        .await
    }

    fn audit_log(&self) -> String {
        let mut log = fs::read_to_string(self.dir.join(AUDIT_LOG)).unwrap_or_default();
        // A last line may be half written.
        log.truncate(log.rfind('\n').map_or(0, |end| end + 1));
        log
    }

    async fn check_ready(&self) -> Result<(), String> {
        if let Some(process) = self.process().as_mut() {
            assert!(process.is_alive(), "{}", process.diagnosis());
        }
        let client = self.new_client().await?;
        // The namespace is the last thing that a new API server makes for itself.
        for path in ["/readyz", "/api/v1/namespaces/default"] {
            let request = http::Request::get(path).body(Vec::new()).expect("a request");
            let answer = tokio::time::timeout(Duration::from_secs(2), client.request_text(request)).await;
            answer.map_err(|_| "no answer".to_owned())?.map_err(|error| format!("{path}: {error}"))?;
        }
        Ok(())
    }

    async fn new_client(&self) -> Result<kube::Client, String> {
        client_of(&self.kubeconfig()).await
    }

    fn write_kubeconfig(&self, name: &str, user: Value) -> PathBuf {
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {
                "server": self.url(),
                "certificate-authority": self.dir.join(real::CERTIFICATE),
            }}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": name, "namespace": "default"}}],
            "current-context": "test",
        });
        let path = self.kubeconfig_path(name);
        fs::write(&path, kubeconfig.to_string()).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }

    fn kubeconfig_path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.kubeconfig"))
    }
}

/// Where the objects of one of Drover's kinds are.
fn path(kind: &str, namespace: &str) -> String {
    static KINDS: LazyLock<Vec<CustomResourceDefinitionNames>> =
        LazyLock::new(|| drover::api::crds().into_iter().map(|crd| crd.spec.names).collect());
    let is_named = |names: &CustomResourceDefinitionNames| {
        let short = names.short_names.iter().flatten().map(String::as_str);
        short.chain(names.singular.as_deref()).chain([names.plural.as_str()]).any(|name| name == kind)
    };
    let found = KINDS.iter().find(|names| is_named(names));
    let plural = &found.unwrap_or_else(|| panic!("{kind} is not one of Drover's kinds")).plural;
    format!("/apis/drover.dev/v1alpha1/namespaces/{namespace}/{plural}")
}
