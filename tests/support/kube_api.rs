//! A real Kubernetes API server on a real etcd, with RBAC, without controllers: nothing makes pods, collects the
//! children of deleted objects or fills aggregated roles (`view`, `edit`, `admin`), and ServiceAccounts get tokens on
//! request only.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::process::Process;
use super::stack::program;
use super::{eventually, free_port, http_client_builder};

const ADMIN_TOKEN: &str = "admin-of-this-test";
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Logs one line for each write that is asked for, except by the API server itself, and none for questions in the
/// form of a write (may I, who am I).
const AUDIT_POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted, Panic]
rules:
- {level: None, users: ["system:apiserver"]}
- {level: None, resources: [{group: authentication.k8s.io}, {group: authorization.k8s.io}]}
- {level: None, resources: [{group: "", resources: ["serviceaccounts/token"]}]}
- {level: Metadata, verbs: [create, update, patch, delete, deletecollection]}
- {level: None}
"#;

/// Whether etcd calls a write done before the disk has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    /// Only once the disk has it, as in a cluster.
    WaitedFor,
    /// At once: a test's data may be lost.
    NotWaitedFor,
}

pub struct KubeApi {
    dir: PathBuf,
    port: u16,
    etcd_port: u16,
    audited: bool,
    apiserver: Option<Process>,
    /// Outlives the API server, which needs it.
    _etcd: Process,
}

/// What a finished `kubectl` or `helm` left.
#[derive(Debug)]
pub struct Output {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// A write that somebody asked the API server for, also when it was refused.
#[derive(Clone, Debug)]
pub struct Write {
    pub verb: String,
    /// With the subresource, if any: `modelpulls/status`.
    pub resource: String,
    pub namespace: String,
    pub name: String,
    pub user_agent: String,
    /// The HTTP status of the answer.
    pub code: u64,
}

/// A point in the log of writes.
#[derive(Clone, Copy, Debug)]
pub struct Marker(usize);

impl KubeApi {
    /// Starts both servers with all of their files in `dir`; ready when this returns.
    pub async fn start(dir: &Path) -> Self {
        Self::start_with(dir, Disk::NotWaitedFor, true).await
    }

    /// The same without the log of writes, to see how fast it is.
    pub async fn start_bare(dir: &Path, disk: Disk) -> Self {
        Self::start_with(dir, disk, false).await
    }

    async fn start_with(dir: &Path, disk: Disk, audited: bool) -> Self {
        fs::create_dir_all(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        write_configuration(dir);
        let etcd_port = free_port();
        let etcd = start_etcd(dir, etcd_port, disk);
        let mut api = Self { dir: dir.to_owned(), port: free_port(), etcd_port, audited, apiserver: None, _etcd: etcd };
        api.start_again().await;
        api
    }

    /// An outage: the API server is gone at once and all connections to it are cut. The data stays.
    pub fn stop(&mut self) {
        self.apiserver = None;
    }

    /// Ends the outage, on the same port and with the same data.
    pub async fn start_again(&mut self) {
        self.apiserver = Some(Process::spawn("kube-apiserver", self.apiserver_command(), &self.dir));
        eventually("kube-apiserver is ready", READY_WITHIN, async || self.check_ready().await).await;
        self.write_kubeconfig("admin", json!({"token": ADMIN_TOKEN}));
    }

    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The kubeconfig of a cluster administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig_path("admin")
    }

    /// A kubeconfig with a fresh token of an existing ServiceAccount, which may do what RBAC lets it do.
    pub async fn kubeconfig_for_service_account(&self, namespace: &str, name: &str) -> PathBuf {
        let token = self.kubectl_ok(&["create", "token", name, "-n", namespace, "--duration=24h"], None).await;
        self.write_kubeconfig(&format!("{namespace}.{name}"), json!({"token": token.trim()}))
    }

    /// A kubeconfig of a user who has no rights but those that RBAC gives to this name.
    pub fn kubeconfig_for_user(&self, name: &str) -> PathBuf {
        self.write_kubeconfig(name, json!({"token": ADMIN_TOKEN, "as": name}))
    }

    /// A client with an administrator's rights.
    pub async fn client(&self) -> kube::Client {
        client_of(&self.kubeconfig()).await
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

    pub async fn get_json(&self, kind: &str, namespace: &str, name: &str) -> Value {
        let text = self.kubectl_ok(&["get", kind, name, "-n", namespace, "-o", "json"], None).await;
        serde_json::from_str(&text).expect("kubectl prints JSON")
    }

    /// Now, for [`Self::writes_since`].
    pub fn marker(&self) -> Marker {
        Marker(self.audit_log().len())
    }

    /// The writes that were answered after the marker. The log is written before the answer is sent.
    pub fn writes_since(&self, marker: Marker) -> Vec<Write> {
        self.audit_log()[marker.0..].lines().map(parse_write).collect()
    }

    /// The API server's process, while it runs.
    pub fn pid(&self) -> u32 {
        self.apiserver.as_ref().map(Process::pid).expect("the API server runs")
    }

    /// The API server's own log.
    pub fn log(&self) -> String {
        self.apiserver.as_ref().map(Process::log).unwrap_or_default()
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

    fn audit_log(&self) -> String {
        fs::read_to_string(self.dir.join("audit.log")).unwrap_or_default()
    }

    fn apiserver_command(&self) -> Command {
        let mut command = Command::new(program("kube-apiserver"));
        let file = |option: &str, name: &str| format!("--{option}={}", self.dir.join(name).display());
        command
            .arg(format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port))
            .arg(format!("--secure-port={}", self.port))
            .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none"])
            .arg(file("cert-dir", "pki"))
            .arg(file("token-auth-file", "tokens.csv"))
            .args(["--authorization-mode=RBAC", "--service-cluster-ip-range=10.96.0.0/16"])
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .arg(file("service-account-key-file", "service-account.key"))
            .arg(file("service-account-signing-key-file", "service-account.key"))
            // Needs a controller to make the tokens.
            .arg("--disable-admission-plugins=ServiceAccount")
            .args(["--enable-priority-and-fairness=false", "--profiling=false", "--etcd-compaction-interval=0"]);
        if self.audited {
            command.arg(file("audit-policy-file", "audit-policy.yaml")).arg(file("audit-log-path", "audit.log"));
        }
        command
    }

    async fn check_ready(&mut self) -> Result<(), String> {
        let apiserver = self.apiserver.as_mut().expect("started just before");
        assert!(apiserver.is_alive(), "{}", apiserver.diagnosis());
        let certificate = fs::read(self.dir.join("pki/apiserver.crt")).map_err(|error| error.to_string())?;
        let certificates = reqwest::Certificate::from_pem_bundle(&certificate).map_err(|error| error.to_string())?;
        let client = http_client_builder().tls_certs_only(certificates).build().map_err(|error| error.to_string())?;
        // The namespace is the last thing that a new API server makes for itself.
        for path in ["/readyz", "/api/v1/namespaces/default"] {
            let request = client.get(self.url() + path).bearer_auth(ADMIN_TOKEN).timeout(Duration::from_secs(2));
            let answer = request.send().await.map_err(|error| format!("{error:?}"))?;
            answer.error_for_status().map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn write_kubeconfig(&self, name: &str, user: Value) -> PathBuf {
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {
                "server": self.url(),
                "certificate-authority": self.dir.join("pki/apiserver.crt"),
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

/// A client with the rights that a kubeconfig gives.
pub async fn client_of(kubeconfig: &Path) -> kube::Client {
    let config = kube::config::Kubeconfig::read_from(kubeconfig).expect("the kubeconfig can be read");
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(config, &options).await.expect("the kubeconfig is complete");
    kube::Client::try_from(config).expect("a Kubernetes client")
}

fn write_configuration(dir: &Path) {
    let tokens = format!("{ADMIN_TOKEN},admin,admin,\"system:masters\"\n");
    fs::write(dir.join("tokens.csv"), tokens).expect("the token file can be written");
    fs::write(dir.join("audit-policy.yaml"), AUDIT_POLICY).expect("the audit policy can be written");
    let mut openssl = Command::new("openssl");
    openssl.args(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "service-account.key"]);
    let status = openssl.current_dir(dir).status().expect("openssl starts");
    assert!(status.success(), "openssl makes a key");
}

fn start_etcd(dir: &Path, port: u16, disk: Disk) -> Process {
    let client_url = format!("http://127.0.0.1:{port}");
    let peer_url = format!("http://127.0.0.1:{}", free_port());
    let mut command = Command::new(program("etcd"));
    command
        .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
        .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
        .args(["--initial-cluster", &format!("default={peer_url}")])
        .args(["--log-level=warn", "--data-dir"])
        .arg(dir.join("etcd"));
    if disk == Disk::NotWaitedFor {
        command.arg("--unsafe-no-fsync");
    }
    Process::spawn("etcd", command, dir)
}

fn parse_write(line: &str) -> Write {
    let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("audit line {line:?}: {error}"));
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let resource = [text("/objectRef/resource"), text("/objectRef/subresource")].join("/");
    Write {
        verb: text("/verb"),
        resource: resource.trim_end_matches('/').to_owned(),
        namespace: text("/objectRef/namespace"),
        name: text("/objectRef/name"),
        user_agent: text("/userAgent"),
        code: event.pointer("/responseStatus/code").and_then(Value::as_u64).unwrap_or_default(),
    }
}
