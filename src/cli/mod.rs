//! The command line.

mod controller;
mod crds;
mod gateway;
mod mirror;
mod options;
mod rollout;

use std::{fmt::Display, io, process::ExitCode};

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::{settings::Settings, telemetry};

/// The command did what it was asked to.
const DONE: u8 = 0;
/// It could not.
const FAILED: u8 = 1;
/// It was not understood: flags or settings are wrong (clap's own code).
const MISUSED: u8 = 2;

#[derive(Parser)]
#[command(
    name = "drover",
    version,
    about = "Runs fleets of Ollama nodes: which models are where, which version serves, how traffic moves",
    long_about = "Runs fleets of Ollama nodes the way Kubernetes runs pods.\n\n\
        You declare OllamaNode, ModelPull, ModelVersion and ModelDeployment objects with kubectl; `drover controller` \
        makes them so, and `drover gateway` answers requests by them.",
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong flags or settings.\n\
        Settings come from --config FILE, then DROVER_… variables, then flags; the later one wins."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Look after nodes, pulls, versions and deployments
    #[command(after_help = "Example:\n  drover controller --gateways http://drover-gateway.drover.svc:11435\n\n\
            Connects as $KUBECONFIG or the pod's service account says. /readyz answers 200 once every object was read.")]
    Controller(options::Options<options::Controller>),
    /// Answer requests by the Ollama and OpenAI APIs
    #[command(after_help = "Example:\n  drover gateway --gateway-listen 0.0.0.0:11435 --data-dir /var/lib/drover\n  \
            curl localhost:11435/api/chat -d '{\"model\": \"support-bot\", \"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}]}'\n\n\
            With --data-dir it starts and serves stable versions even while the Kubernetes API is away.")]
    Gateway(options::Options<options::Gateway>),
    /// Let nodes pull models, each byte of which is fetched from its registry once
    #[command(args_conflicts_with_subcommands = true)]
    #[command(
        after_help = "Example:\n  drover mirror --mirror-listen 10.0.0.5:11437 --data-dir /var/lib/drover --mirror-key-file key \\\n    \
            --mirror-cache-size 500GiB --upstream team=https://registry.example/models\n\n\
            The controller grants pulls by the key. Proxies are taken from HTTPS_PROXY, HTTP_PROXY and NO_PROXY."
    )]
    Mirror(options::Options<options::Mirror>),
    /// See and steer rollouts
    #[command(subcommand)]
    Rollout(rollout::Rollout),
    /// Print the CustomResourceDefinitions as YAML
    #[command(after_help = "Example:\n  drover crds | kubectl apply --server-side -f -")]
    Crds(crds::Crds),
    /// Print the version
    Version,
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  source <(drover completion bash)")]
    Completion {
        /// The shell
        shell: Shell,
    },
}

/// Runs the command line and says how the process ends.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(FAILED, &error),
    };
    // Fails only when a provider is in place already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let result = match cli.command {
        Command::Controller(options) => serve(options, |settings| runtime.block_on(controller::run(settings))),
        Command::Gateway(options) => serve(options, |settings| runtime.block_on(gateway::run(settings))),
        Command::Mirror(options) => serve(options, |settings| runtime.block_on(mirror::run(settings))),
        Command::Rollout(command) => runtime.block_on(rollout::run(command)),
        Command::Crds(command) => crds::run(&command),
        Command::Version => {
            println!("drover {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "drover", &mut io::stdout());
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::from(DONE),
        Err(error) => fail(FAILED, &error),
    }
}

fn serve<C: options::Command>(
    options: options::Options<C>,
    run: impl FnOnce(Settings) -> Result<(), String>,
) -> Result<(), String> {
    let settings = match options.settings() {
        Ok(settings) => settings,
        Err(faults) => std::process::exit(misused(&faults)),
    };
    telemetry::start_logs(settings.log_format, &settings.log_level)?;
    run(settings)
}

fn misused(error: &impl Display) -> i32 {
    eprintln!("drover: {error}");
    i32::from(MISUSED)
}

fn fail(code: u8, error: &impl Display) -> ExitCode {
    eprintln!("drover: {error}");
    ExitCode::from(code)
}
