//! What the tour takes place on: `drover up` alone, or a Kubernetes API server with Drover's three processes.

use std::path::{Path, PathBuf};

use crate::parts::{GATEWAY, MIRROR, NODES, dir, folder, gateway_url};
use crate::shell::Shell;
use crate::support::drover::Drover;
use crate::support::kube_api::KubeApi;

const API: u16 = 9433;
const COCKPIT: u16 = 9436;
const HEALTH: u16 = 9438;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Up,
    Cluster,
}

impl Kind {
    /// What is started with the nodes.
    pub fn before(self) -> &'static str {
        match self {
            Self::Up => "",
            Self::Cluster => "a Kubernetes API server with etcd, ",
        }
    }

    /// The ports that it needs besides the others.
    pub fn ports(self) -> &'static [u16] {
        match self {
            Self::Up => &[API, COCKPIT, HEALTH],
            Self::Cluster => &[],
        }
    }
}

/// What is there before Drover.
pub enum Ground {
    Up,
    Cluster(Box<KubeApi>),
}

/// What runs then. Fields end in the order that they stand in.
pub struct Stage {
    kubeconfig: PathBuf,
    _drover: Vec<Drover>,
    _api: Option<KubeApi>,
}

impl Ground {
    pub async fn start(kind: Kind) -> Result<Self, String> {
        Ok(match kind {
            Kind::Up => Self::Up,
            Kind::Cluster => Self::Cluster(Box::new(KubeApi::start(&dir("kube")?).await)),
        })
    }

    /// Where the kubeconfig is, or will be.
    pub fn kubeconfig(&self) -> PathBuf {
        match self {
            Self::Up => folder().join("data/kubeconfig"),
            Self::Cluster(api) => api.kubeconfig(),
        }
    }

    /// Starts Drover, with the registry that models come from.
    pub async fn build_on(self, shell: &Shell, upstream: &str) -> Result<Stage, String> {
        let kubeconfig = self.kubeconfig();
        match self {
            Self::Up => {
                let drover = start_up(upstream).await;
                Ok(Stage { kubeconfig, _drover: vec![drover], _api: None })
            }
            Self::Cluster(api) => {
                let drover = start_in_cluster(&api, shell, upstream).await?;
                Ok(Stage { kubeconfig, _drover: drover, _api: Some(*api) })
            }
        }
    }
}

impl Stage {
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }
}

async fn start_up(upstream: &str) -> Drover {
    println!("\nStarting Drover: one process with a Kubernetes API of its own, a mirror, a controller and a gateway.");
    let mut arguments = vec!["up".into(), "--data-dir".into(), folder().join("data").display().to_string()];
    arguments.extend(["--upstream".into(), upstream.to_owned()]);
    for (port, number) in NODES.iter().zip(1..) {
        arguments.extend(["--node".into(), format!("node-{number}=http://127.0.0.1:{port}")]);
    }
    let ports = [("api", API), ("gateway", GATEWAY), ("cockpit", COCKPIT), ("mirror", MIRROR), ("health", HEALTH)];
    arguments.extend(ports.iter().flat_map(|(name, port)| [format!("--{name}-port"), port.to_string()]));
    println!("  $ drover {} &", arguments.join(" "));
    Drover::with_arguments("up", arguments, HEALTH, Path::new("/dev/null"), &folder()).await
}

async fn start_in_cluster(api: &KubeApi, shell: &Shell, upstream: &str) -> Result<Vec<Drover>, String> {
    println!("  API server   {}", api.url());
    println!("\nInstalling the kinds, then starting a mirror, a controller and a gateway.");
    shell.run("kubectl apply --server-side -f crds/").await?;
    shell.run("kubectl wait --for=condition=Established crd --all --timeout=30s").await?;
    let (mirror_url, data, folder) = (format!("http://127.0.0.1:{MIRROR}"), folder().join("mirror"), folder());
    println!(
        "  $ drover mirror --mirror-listen 127.0.0.1:{MIRROR} --data-dir {} --upstream {upstream} &",
        data.display()
    );
    println!("  $ drover controller --namespace default --gateways {} --mirror-url {mirror_url} &", gateway_url());
    println!("  $ drover gateway --namespace default --gateway-listen 127.0.0.1:{GATEWAY} &");
    let (kubeconfig, gateways) = (api.kubeconfig(), [gateway_url()]);
    let (more, from) = (["--mirror-url", mirror_url.as_str()], ["--upstream", upstream]);
    let (mirror, controller, gateway) = tokio::join!(
        Drover::mirror(MIRROR, &data, &from),
        Drover::controller_with(&kubeconfig, "default", &gateways, &folder, &more),
        Drover::gateway("gateway", &kubeconfig, "default", GATEWAY, &folder),
    );
    Ok(vec![controller, gateway, mirror])
}
