//! Debian's nginx, to compare with.

use std::{fs, path::Path, process::Command, time::Duration};

use crate::support::{eventually, free_port, http_client, process::Process};

/// A running nginx.
pub struct Nginx {
    pub port: u16,
    process: Process,
}

impl Nginx {
    /// With so many workers, each of which `command` starts, and these lines of configuration: of its `http` block, and of
    /// the only server in that. It is ready once it answers at `path`.
    pub async fn start(dir: &Path, mut command: Command, workers: &str, blocks: (&str, &str), path: &str) -> Self {
        let (port, (http, server)) = (free_port(), blocks);
        let config = dir.join("nginx.conf");
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary = temporary.map(|name| format!("{name}_temp_path {}/{name};", dir.display())).join(" ");
        let text = format!(
            "daemon off; {workers} pid {dir}/pid; error_log {dir}/error.log;\n\
             events {{ worker_connections 4096; }}\n\
             http {{ access_log off; {temporary} {http}\n\
             server {{ listen 127.0.0.1:{port}; {server} }} }}\n",
            dir = dir.display(),
        );
        fs::write(&config, text).expect("its configuration");
        // Its workers would otherwise be somebody who may not read the folder.
        command.args(["-e", "stderr", "-g", "user root;", "-p"]).arg(dir).arg("-c").arg(&config);
        let mut process = Process::spawn("nginx", command, dir);
        let ready = http_client().head(format!("http://127.0.0.1:{port}{path}"));
        eventually("nginx answers", Duration::from_secs(10), async || {
            assert!(process.is_alive(), "{}", process.diagnosis());
            ready.try_clone().expect("no body").send().await.and_then(reqwest::Response::error_for_status)
        })
        .await;
        Self { port, process }
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}
