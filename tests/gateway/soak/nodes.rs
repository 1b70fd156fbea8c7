//! Nodes in processes of their own: two real ones and some that only speak the protocol.

use std::{path::Path, process::Command, time::Duration};

use drover::routing_table::{Holder, Node, Target};

use crate::{
    parts::{free_port, gguf::TinyLlama, ollama::Ollama, process::Process},
    support::FakeNode,
};

pub const MODEL: &str = "bot:1";
/// Not a test: what the process of a node runs.
const TEST: &str = "soak::nodes::a_node";
const PORT: &str = "DROVER_TEST_NODE_PORT";
/// How long a node that only speaks the protocol takes over an answer.
const PACE: Duration = Duration::from_millis(40);
/// How many requests each node takes at once.
const AT_ONCE: u32 = 4;

/// A node that can fail.
pub enum Failing {
    /// Only speaks the protocol.
    Speaks { process: Process, name: String, port: u16 },
    /// Real.
    Real { ollama: Ollama, name: String },
}

impl Failing {
    pub async fn speaks(name: &str, dir: &Path) -> Self {
        let port = free_port();
        let process = Process::spawn(name, command(port), dir);
        let mut node = Self::Speaks { process, name: name.into(), port };
        node.revive(dir).await;
        node
    }

    pub async fn real(name: &str, dir: &Path) -> Self {
        let dir = dir.join(name);
        std::fs::create_dir_all(&dir).expect("a folder for the node");
        let ollama = Ollama::start(name, &dir).await;
        let gguf = dir.join("model.gguf");
        TinyLlama::new(1).says("Hello from a real node.").write(&gguf).expect("the model can be written");
        ollama.create(MODEL, &gguf).await;
        Self::Real { ollama, name: name.into() }
    }

    pub fn kill9(&mut self) {
        match self {
            Self::Speaks { process, .. } => drop(process.kill9()),
            Self::Real { ollama, .. } => ollama.kill9(),
        }
    }

    /// Starts it again after a kill, at the same address.
    pub async fn revive(&mut self, dir: &Path) {
        match self {
            Self::Speaks { process, name, port } => {
                if !process.is_alive() {
                    *process = Process::spawn(name, command(*port), dir);
                }
                let address = format!("127.0.0.1:{port}");
                let up = async || tokio::net::TcpStream::connect(&address).await.map(drop);
                crate::parts::eventually("the node listens", Duration::from_secs(20), up).await;
            }
            Self::Real { ollama, .. } => ollama.restart().await,
        }
    }

    /// It takes connections and says nothing, until [`Self::thaw`].
    pub fn freeze(&mut self) {
        match self {
            Self::Speaks { process, .. } => process.pause(),
            Self::Real { ollama, .. } => ollama.process().pause(),
        }
    }

    pub fn thaw(&mut self) {
        match self {
            Self::Speaks { process, .. } => process.resume(),
            Self::Real { ollama, .. } => ollama.process().resume(),
        }
    }

    fn holder(&self) -> Holder {
        let (name, url) = match self {
            Self::Speaks { name, port, .. } => (name, format!("http://127.0.0.1:{port}")),
            Self::Real { ollama, name } => (name, ollama.url()),
        };
        let node = Node {
            id: format!("default/{name}"),
            name: name.clone(),
            url,
            weight: 100,
            max_concurrent_requests: AT_ONCE,
            keep_alive: None,
            context_length: None,
            max_context_length: None,
        };
        Holder { node: node.into(), loaded: false, digest: "sha256:dddd".into() }
    }
}

/// The model that all of them hold.
pub fn target(nodes: &[Failing]) -> Target {
    Target {
        tag: MODEL.into(),
        digest: "sha256:dddd".into(),
        model: MODEL.into(),
        holders: nodes.iter().map(Failing::holder).collect(),
        ..Target::default()
    }
}

fn command(port: u16) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the path of this program"));
    command.args(["--exact", TEST, "--ignored", "--nocapture"]).env(PORT, port.to_string());
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "answers until it is killed"]
async fn a_node() {
    let port = std::env::var(PORT).ok().and_then(|port| port.parse().ok()).expect("a port");
    let node = FakeNode::start_on("node", port).await;
    node.hold_model(MODEL);
    node.work(PACE);
    std::future::pending::<()>().await;
}
