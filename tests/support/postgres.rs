//! A real PostgreSQL server.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::process::Process;
use super::stack::program;
use super::{eventually, free_port};

/// The server's own user, when this process may change users: it refuses to run as root.
const USER: &str = "postgres";
const PASSWORD: &str = "a-pass-word";

/// A server with a folder of its own, and one user who owns every database.
pub struct Postgres {
    port: u16,
    data: PathBuf,
    logs: PathBuf,
    process: Process,
    _folder: TempDir,
}

impl Postgres {
    /// Starts a server without databases of its own, which logs into `dir`; ready when this returns.
    pub async fn start(dir: &Path) -> Self {
        // Not in `dir`, which the server's user may not enter.
        let folder = tempfile::Builder::new().prefix("drover-postgres-").tempdir().expect("a temporary folder");
        let (data, password) = (folder.path().join("data"), folder.path().join("password"));
        std::fs::write(&password, PASSWORD).expect("a file");
        if is_root() {
            run(Command::new("chown").args(["-R", USER]).arg(folder.path()));
        }
        let mut initdb = as_user("initdb");
        initdb.arg("-D").arg(&data).arg("--pwfile").arg(&password);
        run(initdb.args(["-U", "drover", "--auth=scram-sha-256", "--no-sync", "--locale=C", "-E", "UTF8"]));
        let port = free_port();
        let process = Process::spawn("postgres", server(&data, port), dir);
        let mut postgres = Self { port, data, logs: dir.to_owned(), process, _folder: folder };
        postgres.wait_until_ready().await;
        postgres
    }

    /// The URL of a database, which is made if it isn't there.
    pub async fn database(&self, name: &str) -> String {
        use sqlx::Connection;
        let mut server = sqlx::PgConnection::connect(&self.url("postgres")).await.expect("it is ready");
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
        sqlx::query(create).execute(&mut server).await.expect("a new name");
        self.url(name)
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://drover:{PASSWORD}@127.0.0.1:{}/{database}", self.port)
    }

    /// Breaks every connection of Drover's.
    pub async fn disconnect_all(&self) {
        use sqlx::Connection;
        let mut server = sqlx::PgConnection::connect(&self.url("postgres")).await.expect("it is ready");
        let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'drover'";
        sqlx::query(terminate).execute(&mut server).await.expect("it may");
    }

    /// Kills the server with all that it was doing.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Starts it again, with its data; ready when this returns.
    pub async fn restart(&mut self) {
        self.process.kill9();
        self.process = Process::spawn("postgres", server(&self.data, self.port), &self.logs);
        self.wait_until_ready().await;
    }

    async fn wait_until_ready(&mut self) {
        use sqlx::Connection;
        let url = self.url("postgres");
        let process = &mut self.process;
        eventually("PostgreSQL is ready", Duration::from_secs(60), async || {
            assert!(process.is_alive(), "{}", process.diagnosis());
            sqlx::PgConnection::connect(&url).await
        })
        .await;
    }
}

fn server(data: &Path, port: u16) -> Command {
    let mut server = as_user("postgres");
    server.arg("-D").arg(data).args(["-p", &port.to_string()]);
    server.args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off"]);
    server
}

fn as_user(name: &str) -> Command {
    let program = program(name).canonicalize().expect("a program");
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", USER, "--regid", USER, "--clear-groups", "--"]).arg(program);
    command
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn run(command: &mut Command) {
    let output = command.current_dir("/").output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
