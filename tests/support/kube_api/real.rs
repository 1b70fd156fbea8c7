//! kube-apiserver and etcd.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::super::free_port;
use super::super::process::Process;
use super::super::stack::program;

pub const ADMIN_TOKEN: &str = "admin-of-this-test";
/// The certificate of the API server.
pub const CERTIFICATE: &str = "pki/apiserver.crt";

/// Logs each write that is asked for, before it is done and before it is answered, except by the API server itself, and
/// none of the questions in the form of a write (may I, who am I).
const AUDIT_POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [ResponseStarted]
rules:
- {level: None, users: ["system:apiserver"]}
- {level: None, resources: [{group: authentication.k8s.io}, {group: authorization.k8s.io}]}
- {level: None, resources: [{group: "", resources: ["serviceaccounts/token"]}]}
- {level: Metadata, verbs: [create, update, patch, delete, deletecollection]}
- {level: None}
"#;

/// How the real API server works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether each write is on the disk before it is acknowledged, as in a cluster.
    pub synced: bool,
    /// Whether writes are logged.
    pub audited: bool,
}

/// What an API server keeps its objects in; outlives it.
pub struct Etcd {
    settings: Settings,
    port: u16,
    _process: Process,
}

impl Etcd {
    pub fn start(dir: &Path, settings: Settings) -> Self {
        let port = free_port();
        let client_url = format!("http://127.0.0.1:{port}");
        let peer_url = format!("http://127.0.0.1:{}", free_port());
        let mut command = Command::new(program("etcd"));
        command
            .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &format!("default={peer_url}")])
            .args(["--log-level=warn", "--data-dir"])
            .arg(dir.join("etcd"));
        if !settings.synced {
            command.arg("--unsafe-no-fsync");
        }
        Self { settings, port, _process: Process::spawn("etcd", command, dir) }
    }

    /// The API server on this etcd.
    pub fn apiserver(&self, dir: &Path, port: u16) -> Command {
        let mut command = Command::new(program("kube-apiserver"));
        let file = |option: &str, name: &str| format!("--{option}={}", dir.join(name).display());
        command
            .arg(format!("--etcd-servers=http://127.0.0.1:{}", self.port))
            .arg(format!("--secure-port={port}"))
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
        if self.settings.audited {
            command.arg(file("audit-policy-file", "audit-policy.yaml")).arg(file("audit-log-path", super::AUDIT_LOG));
        }
        command
    }
}

/// The files that the API server is started with.
pub fn write_configuration(dir: &Path) {
    let tokens = format!("{ADMIN_TOKEN},admin,admin,\"system:masters\"\n");
    fs::write(dir.join("tokens.csv"), tokens).expect("the token file can be written");
    fs::write(dir.join("audit-policy.yaml"), AUDIT_POLICY).expect("the audit policy can be written");
    let mut openssl = Command::new("openssl");
    openssl.args(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "service-account.key"]);
    let status = openssl.current_dir(dir).status().expect("openssl starts");
    assert!(status.success(), "openssl makes a key");
}
