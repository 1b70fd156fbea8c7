//! One `drover up` over a folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::process::Process;
use crate::support::{drover::program, eventually, http_client, stack};

/// Long enough for anything that happens soon, on a busy machine.
pub const SOON: Duration = Duration::from_secs(60);

pub struct Up {
    dir: PathBuf,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    process: Process,
    pub ready: Value,
}

impl Up {
    /// Starts one with its state in `dir/data` on ports that are free; all of it listens when this returns.
    pub async fn start(dir: &Path, arguments: &[&str]) -> Self {
        Self::start_with(dir, arguments, &[]).await
    }

    /// The same with these variables in its environment.
    pub async fn start_with(dir: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let variables: Vec<(String, String)> =
            variables.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let process = Process::spawn("up", command(dir, &arguments, &variables), dir);
        let mut up = Self { dir: dir.to_owned(), arguments, variables, process, ready: Value::Null };
        up.wait_until_ready().await;
        up
    }

    /// Starts again after an end, with these arguments.
    pub async fn restart(&mut self, arguments: &[&str]) {
        self.process.kill9();
        self.arguments = arguments.iter().map(ToString::to_string).collect();
        self.process = Process::spawn("up", command(&self.dir, &self.arguments, &self.variables), &self.dir);
        self.wait_until_ready().await;
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    pub fn ready_file(&self) -> PathBuf {
        self.dir.join("data/ready.json")
    }

    /// The URL of a part.
    pub fn url(&self, part: &str) -> &str {
        self.ready[part].as_str().unwrap_or_else(|| panic!("no {part} in {}", self.ready))
    }

    /// Runs kubectl, which must succeed; what it printed.
    pub async fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.run_kubectl(arguments, None).await;
        assert!(output.status.success(), "kubectl {arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Applies manifests as a person does.
    pub async fn apply(&self, manifests: &str) {
        let output = self.run_kubectl(&["apply", "-f", "-"], Some(manifests)).await;
        assert!(output.status.success(), "{}", text(&output.stderr));
    }

    /// Whether kubectl finds an object.
    pub async fn has(&self, object: &str) -> bool {
        self.run_kubectl(&["get", object], None).await.status.success()
    }

    /// A field of an object.
    pub async fn field(&self, object: &str, path: &str) -> String {
        self.kubectl(&["get", object, "-o", &format!("jsonpath={{{path}}}")]).await
    }

    pub async fn eventually_has(&self, object: &str, is_there: bool) {
        eventually(&format!("{object}: {is_there}"), SOON, async || {
            if self.has(object).await == is_there { Ok(()) } else { Err("not so") }
        })
        .await;
    }

    pub async fn eventually_is(&self, object: &str, path: &str, expected: &str) {
        eventually(&format!("{path} of {object} is {expected:?}"), SOON, async || {
            let value = self.field(object, path).await;
            if value == expected { Ok(()) } else { Err(value) }
        })
        .await;
    }

    /// Waits until the log says this.
    pub async fn eventually_logs(&mut self, words: &str) {
        let process = &mut self.process;
        eventually(&format!("the log says {words:?}"), SOON, async || {
            let log = process.log();
            if log.contains(words) { Ok(()) } else { Err(log) }
        })
        .await;
    }

    /// The revision of the API: any write raises it.
    pub async fn revision(&self) -> String {
        let list = self.kubectl(&["get", "--raw", "/api/v1/namespaces"]).await;
        let list: Value = serde_json::from_str(&list).expect("JSON");
        list["metadata"]["resourceVersion"].as_str().expect("a revision").to_owned()
    }

    async fn run_kubectl(&self, arguments: &[&str], input: Option<&str>) -> Output {
        use tokio::io::AsyncWriteExt;
        let mut command = tokio::process::Command::new(stack::program("kubectl"));
        command.args(arguments).env("KUBECONFIG", self.url("kubeconfig")).env("HOME", &self.dir).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("kubectl starts");
        let mut stdin = child.stdin.take().expect("its input is a pipe");
        stdin.write_all(input.unwrap_or_default().as_bytes()).await.expect("kubectl reads its input");
        drop(stdin);
        child.wait_with_output().await.expect("kubectl ends")
    }

    /// The file of an earlier start that was killed may still be there.
    async fn wait_until_ready(&mut self) {
        let (http, file, process) = (http_client(), self.ready_file(), &mut self.process);
        self.ready = eventually("drover up is ready", SOON, async || {
            assert!(process.is_alive(), "{}", process.diagnosis());
            let text = std::fs::read(&file).map_err(|error| error.to_string())?;
            let ready: Value = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
            let url = format!("{}/readyz", ready["health"].as_str().unwrap_or_default());
            let answer = http.get(url).send().await.and_then(reqwest::Response::error_for_status);
            answer.map(|_| ready).map_err(|error| error.to_string())
        })
        .await;
    }
}

/// `drover up` with its state in `dir/data`, without what the machine says about Ollama and Kubernetes.
pub fn command(dir: &Path, arguments: &[String], variables: &[(String, String)]) -> Command {
    let mut command = Command::new(program());
    command.arg("up").arg("--data-dir").arg(dir.join("data")).args(arguments);
    for port in ["api", "gateway", "cockpit", "mirror", "health"] {
        let flag = format!("--{port}-port");
        if !arguments.contains(&flag) {
            command.args([&flag, "0"]);
        }
    }
    command.env_remove("OLLAMA_HOST").env_remove("KUBECONFIG").env("HOME", dir);
    command.env("DROVER_PROBE_INTERVAL", "200ms").env("DROVER_LOG_LEVEL", "info,drover=debug");
    command.envs(variables.iter().map(|(key, value)| (key, value)));
    command
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
