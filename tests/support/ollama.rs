//! A real Ollama server that computes on the CPU.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use futures::StreamExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::network::Host;
use super::process::Process;
use super::stack::program;
use super::{eventually, free_port, http_client};

pub struct Ollama {
    name: String,
    dir: PathBuf,
    port: u16,
    host: Option<Host>,
    process: Process,
    http: reqwest::Client,
}

impl Ollama {
    /// Starts a server with all of its files in `dir`; ready when this returns.
    pub async fn start(name: &str, dir: &Path) -> Self {
        Self::start_on(name, dir, free_port()).await
    }

    /// The same on a port that is known beforehand.
    pub async fn start_on(name: &str, dir: &Path, port: u16) -> Self {
        Self::start_at(name, dir, port, None).await
    }

    /// The same on a machine of its own.
    pub async fn start_in(host: Host, name: &str, dir: &Path) -> Self {
        Self::start_at(name, dir, free_port(), Some(host)).await
    }

    async fn start_at(name: &str, dir: &Path, port: u16, host: Option<Host>) -> Self {
        let process = Process::spawn(name, serve(dir, port, host.as_ref()), dir);
        let (name, dir) = (name.to_owned(), dir.to_owned());
        let mut ollama = Self { name, dir, port, host, process, http: http_client() };
        ollama.wait_until_ready().await;
        ollama
    }

    pub fn url(&self) -> String {
        format!("http://{}:{}", address(self.host.as_ref()), self.port)
    }

    /// The machine of its own that it runs on.
    pub fn host(&self) -> &Host {
        self.host.as_ref().expect("started with start_in")
    }

    /// The server and the runners that it has started, for `pause`, `resume` and the log.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The node fails: server and runners are gone at once.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// The node comes back (after a failure or not) with the same address and models.
    pub async fn restart(&mut self) {
        self.process.kill9();
        self.process = Process::spawn(&self.name, serve(&self.dir, self.port, self.host.as_ref()), &self.dir);
        self.wait_until_ready().await;
    }

    /// The folder that holds the blobs and manifests.
    pub fn models_dir(&self) -> PathBuf {
        self.dir.join("models")
    }

    /// The answer of `/api/tags`.
    pub async fn tags(&self) -> Value {
        let answer = self.http.get(self.url() + "/api/tags").send().await.expect("ollama answers");
        answer.json().await.expect("JSON")
    }

    /// How many models it has in memory.
    pub async fn loaded(&self) -> usize {
        let answer = self.http.get(self.url() + "/api/ps").send().await.expect("ollama answers");
        let running: Value = answer.json().await.expect("JSON");
        running["models"].as_array().expect("a list of models").len()
    }

    /// The digest under which this node has the model, if it has it.
    pub async fn digest_of(&self, model: &str) -> Option<String> {
        let tags = self.tags().await;
        let models = tags["models"].as_array().expect("a list of models");
        let found = models.iter().find(|entry| entry["name"] == model)?;
        Some(format!("sha256:{}", found["digest"].as_str().expect("a digest")))
    }

    /// Makes a model of a GGUF file.
    pub async fn create(&self, model: &str, gguf: &Path) {
        self.create_with(model, gguf, json!({})).await;
    }

    /// The same with more fields for the request, such as a template.
    pub async fn create_with(&self, model: &str, gguf: &Path, more: Value) {
        let weights = fs::read(gguf).unwrap_or_else(|error| panic!("{}: {error}", gguf.display()));
        let hex = Sha256::digest(&weights).iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        let digest = format!("sha256:{hex}");
        let upload = self.http.post(format!("{}/api/blobs/{digest}", self.url())).body(weights);
        upload.send().await.and_then(reqwest::Response::error_for_status).expect("ollama takes the weights");
        // Several threads wait for each other at every layer, which is slow where processors are shared.
        let mut body = json!({"model": model, "files": {"model.gguf": digest}, "parameters": {"num_thread": 1}});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        self.lines("/api/create", body).await.expect("ollama makes the model");
    }

    /// Pushes to the plain http registry that is a part of the model's name.
    pub async fn push(&self, model: &str) -> Result<Vec<Value>, String> {
        self.lines("/api/push", json!({"model": model, "insecure": true})).await
    }

    /// Pulls from the plain http registry that is a part of the model's name; returns the lines of progress.
    pub async fn pull(&self, model: &str) -> Result<Vec<Value>, String> {
        self.lines("/api/pull", json!({"model": model, "insecure": true})).await
    }

    pub async fn delete(&self, model: &str) {
        let request = self.http.delete(self.url() + "/api/delete").json(&json!({"model": model}));
        request.send().await.and_then(reqwest::Response::error_for_status).expect("ollama deletes the model");
    }

    /// Calls an endpoint that answers with one JSON line per step and fails with a line that has `error`.
    async fn lines(&self, path: &str, body: Value) -> Result<Vec<Value>, String> {
        let answer = self.http.post(self.url() + path).json(&body).send().await.map_err(|error| error.to_string())?;
        let mut body = answer.bytes_stream();
        let mut text = Vec::new();
        while let Some(chunk) = body.next().await {
            text.extend_from_slice(&chunk.map_err(|error| error.to_string())?);
        }
        let lines = serde_json::Deserializer::from_slice(&text).into_iter::<Value>();
        let lines = lines.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
        match lines.iter().find_map(|line| line["error"].as_str()) {
            Some(error) => Err(error.to_owned()),
            None => Ok(lines),
        }
    }

    async fn wait_until_ready(&mut self) {
        let url = self.url() + "/api/version";
        let (http, process) = (self.http.clone(), &mut self.process);
        eventually("ollama answers", Duration::from_secs(30), async || {
            assert!(process.is_alive(), "{}", process.diagnosis());
            http.get(&url).send().await.and_then(reqwest::Response::error_for_status)
        })
        .await;
    }
}

fn address(host: Option<&Host>) -> &str {
    host.map_or("127.0.0.1", Host::address)
}

fn serve(dir: &Path, port: u16, host: Option<&Host>) -> Command {
    let home = dir.join("home");
    fs::create_dir_all(&home).unwrap_or_else(|error| panic!("{}: {error}", home.display()));
    let mut command = Command::new(program("ollama"));
    for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("OLLAMA_")) {
        command.env_remove(key);
    }
    command
        .arg("serve")
        .env("HOME", home)
        .env("OLLAMA_HOST", format!("{}:{port}", address(host)))
        .env("OLLAMA_MODELS", dir.join("models"))
        .env("OLLAMA_KEEP_ALIVE", "1m")
        .env("OLLAMA_NO_CLOUD", "1")
        .env("GIN_MODE", "release");
    match host {
        Some(host) => host.command(&command),
        None => command,
    }
}
