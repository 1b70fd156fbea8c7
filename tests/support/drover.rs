//! Drover's own processes, as a user starts them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::process::Process;
use super::{eventually, free_port, http_client};

/// A `drover controller` or `drover gateway`.
pub struct Drover {
    name: String,
    arguments: Vec<String>,
    kubeconfig: PathBuf,
    dir: PathBuf,
    health: u16,
    process: Process,
}

impl Drover {
    /// Starts a controller for one namespace that knows these gateways.
    pub async fn controller(kubeconfig: &Path, namespace: &str, gateways: &[String], dir: &Path) -> Self {
        Self::controller_with(kubeconfig, namespace, gateways, dir, &[]).await
    }

    /// The same with further arguments.
    pub async fn controller_with(
        kubeconfig: &Path,
        namespace: &str,
        gateways: &[String],
        dir: &Path,
        more: &[&str],
    ) -> Self {
        let gateways = gateways.join(",");
        let data = dir.join("controller-data").display().to_string();
        let mut arguments =
            vec!["controller", "--namespace", namespace, "--gateways", &gateways, "--probe-interval", "1s"];
        arguments.extend(["--data-dir", &data]);
        arguments.extend(more);
        Self::start("controller", &arguments, kubeconfig, dir).await
    }

    /// Starts a gateway on `port` for one namespace, which keeps its table in `dir`.
    pub async fn gateway(name: &str, kubeconfig: &Path, namespace: &str, port: u16, dir: &Path) -> Self {
        Self::gateway_with(name, kubeconfig, namespace, port, dir, &[]).await
    }

    /// The same with further arguments.
    pub async fn gateway_with(
        name: &str,
        kubeconfig: &Path,
        namespace: &str,
        port: u16,
        dir: &Path,
        more: &[&str],
    ) -> Self {
        let (listen, data) = (format!("127.0.0.1:{port}"), dir.join(name));
        std::fs::create_dir_all(&data).expect("a folder for the gateway's data");
        let data = data.display().to_string();
        let mut arguments = vec!["gateway", "--namespace", namespace, "--gateway-listen", &listen, "--data-dir", &data];
        arguments.extend(more);
        Self::start(name, &arguments, kubeconfig, dir).await
    }

    /// Starts a mirror on `port` that keeps everything in `dir`, with further arguments.
    pub async fn mirror(port: u16, dir: &Path, more: &[&str]) -> Self {
        Self::mirror_at("127.0.0.1", port, dir, more).await
    }

    /// The same on another address of this machine.
    pub async fn mirror_at(address: &str, port: u16, dir: &Path, more: &[&str]) -> Self {
        let (listen, data) = (format!("{address}:{port}"), dir.join("mirror-data").display().to_string());
        let mut arguments = vec!["mirror", "--mirror-listen", &listen, "--data-dir", &data];
        arguments.extend(more);
        Self::start("mirror", &arguments, Path::new("/dev/null"), dir).await
    }

    async fn start(name: &str, arguments: &[&str], kubeconfig: &Path, dir: &Path) -> Self {
        let health = free_port();
        let mut arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        arguments.extend(["--health-listen".into(), format!("127.0.0.1:{health}")]);
        Self::with_arguments(name, arguments, health, kubeconfig, dir).await
    }

    /// Starts again with these variables in its environment as well.
    pub async fn restart_with(&mut self, variables: &[(&str, &str)]) {
        self.process.kill9();
        let mut command = command(&self.arguments, &self.kubeconfig);
        command.envs(variables.iter().copied());
        self.process = Process::spawn(&self.name, command, &self.dir);
        self.wait_until_ready().await;
    }

    /// Starts with exactly these arguments, which make it listen for /readyz on 127.0.0.1 and the port `health`.
    pub async fn with_arguments(
        name: &str,
        arguments: Vec<String>,
        health: u16,
        kubeconfig: &Path,
        dir: &Path,
    ) -> Self {
        let process = Process::spawn(name, command(&arguments, kubeconfig), dir);
        let mut drover =
            Self { name: name.into(), arguments, kubeconfig: kubeconfig.into(), dir: dir.into(), health, process };
        drover.wait_until_ready().await;
        drover
    }

    /// The base URL of the health port.
    pub fn health_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.health)
    }

    /// The process, for kills and the log.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Dies without a chance to finish anything.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Starts again with the same flags, after a kill or not; ready when this returns.
    pub async fn restart(&mut self) {
        self.restart_without_waiting();
        self.wait_until_ready().await;
    }

    /// The same, without a wait: for a start that is not expected to become ready soon.
    pub fn restart_without_waiting(&mut self) {
        self.process.kill9();
        self.process = Process::spawn(&self.name, command(&self.arguments, &self.kubeconfig), &self.dir);
    }

    /// What it shows at `/metrics`.
    pub async fn metrics(&self) -> String {
        let answer = http_client().get(format!("http://127.0.0.1:{}/metrics", self.health)).send().await;
        answer.expect("drover answers").text().await.expect("text")
    }

    async fn wait_until_ready(&mut self) {
        let (http, url) = (http_client(), format!("http://127.0.0.1:{}/readyz", self.health));
        let process = &mut self.process;
        eventually("drover is ready", Duration::from_secs(30), async || {
            assert!(process.is_alive(), "{}", process.diagnosis());
            http.get(&url).send().await.and_then(reqwest::Response::error_for_status)
        })
        .await;
    }
}

fn command(arguments: &[String], kubeconfig: &Path) -> Command {
    let mut command = Command::new(program());
    command.args(arguments).env("KUBECONFIG", kubeconfig).env("DROVER_LOG_LEVEL", "info,drover=debug");
    command
}

/// The `drover` that was built together with this test or demo.
pub fn program() -> PathBuf {
    let own = std::env::current_exe().expect("the path of this program");
    let found = own.ancestors().map(|folder| folder.join("drover")).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("no drover beside {}: run `cargo build` first", own.display()))
}
