//! A real OCI registry.

mod front;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use http::header;

pub use front::{RegistryFront, Served};

use super::process::Process;
use super::stack::program;
use super::{eventually, free_port, http_client};

/// The type of manifest that Ollama makes and asks for.
const MANIFEST_TYPE: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// Debian's `docker-registry`, over plain http, without logins.
pub struct Registry {
    port: u16,
    process: Process,
}

impl Registry {
    /// Starts the registry with all of its files in `dir`; ready when this returns.
    pub async fn start(dir: &Path) -> Self {
        let port = free_port();
        let config = dir.join("registry.yml");
        fs::create_dir_all(dir).and_then(|()| fs::write(&config, configuration(dir, port))).expect("its configuration");
        let mut command = Command::new(program("docker-registry"));
        command.arg("serve").arg(config);
        let mut registry = Self { port, process: Process::spawn("registry", command, dir) };
        let ready = http_client().get(registry.url() + "/v2/");
        eventually("the registry answers", Duration::from_secs(20), async || {
            assert!(registry.process.is_alive(), "{}", registry.process.diagnosis());
            ready.try_clone().expect("no body").send().await.and_then(reqwest::Response::error_for_status)
        })
        .await;
        registry
    }

    /// Host and port, as in the name of a model.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The digest of the manifest that a tag names now.
    pub async fn manifest_digest(&self, repository: &str, tag: &str) -> String {
        let url = format!("{}/v2/{repository}/manifests/{tag}", self.url());
        let request = http_client().head(url).header(header::ACCEPT, MANIFEST_TYPE);
        let answer = request.send().await.and_then(reqwest::Response::error_for_status).expect("a manifest");
        let digest = answer.headers().get("docker-content-digest").expect("the manifest's digest");
        digest.to_str().expect("text").to_owned()
    }
}

fn configuration(dir: &Path, port: u16) -> String {
    format!(
        "version: 0.1\n\
         log: {{level: error, accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
         http: {{addr: \"127.0.0.1:{port}\"}}\n",
        dir.join("data").display()
    )
}
