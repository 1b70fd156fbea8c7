//! The command line.

mod audit;
mod backup;
mod catalog;
mod chain;
mod client;
mod controller;
mod crds;
mod deploy;
mod export;
mod gateway;
mod keys;
mod manifests;
mod mirror;
mod names;
mod options;
mod process;
mod provider_keys;
mod providers;
mod push;
mod registered;
mod registry;
mod rollout;
mod route;
mod runs;
mod tools;
mod up;
mod versions;
mod wait;
mod workers;

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
/// What was waited for did not come in time.
const LATE: u8 = 2;
/// Ctrl-C, as shells have it.
const INTERRUPTED: u8 = 130;

#[derive(Parser)]
#[command(
    name = "drover",
    version,
    about = "Runs fleets of Ollama nodes: which models are where, which version serves, how traffic moves",
    long_about = "Runs fleets of Ollama nodes the way Kubernetes runs pods.\n\n\
        You declare OllamaNode, ModelPull, ModelVersion and ModelDeployment objects with kubectl; `drover controller` \
        makes them so, and `drover gateway` answers requests by them. `drover up` is all of it on one machine.",
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong flags or settings; `drover wait` also has 2 for not in time \
        (0 with --warn-only) and 130 for interrupted.\n\
        Commands that ask Kubernetes do so as $KUBECONFIG, ~/.kube/config or the pod's account says, and without any of them \
        ask this machine's `drover up`.\n\
        Settings come from --config FILE, then DROVER_… variables, then flags; the later one wins."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run all of Drover on this machine: a Kubernetes API of its own, controller, gateway and mirror
    #[command(
        after_help = "Examples:\n  drover up\n  drover up --node gpu-1=http://10.0.0.7:11434 --node gpu-2=10.0.0.8\n  \
            drover up --manifests ./fleet --upstream team=https://registry.example/models\n\n\
            It finds the Ollama server of this machine, and looks again when there is none yet. State is kept in --data-dir. \
            Once everything listens, DATA_DIR/ready.json says where: {\"api\", \"kubeconfig\", \"gateway\", \"cockpit\", \"mirror\", \
            \"health\"}; it is gone when this ends. Ctrl-C lets requests finish, a second one doesn't.\n\n\
            Named nodes become OllamaNode objects; one that is named no longer is deleted at the next start, with its edits. \
            --manifests wins over kubectl field by field, and deletes only what came from the folder; nothing is deleted \
            while any of it can't be read, or while it holds nothing at all."
    )]
    Up(options::Options<options::Up>),
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
    #[command(
        after_help = "Example:\n  drover mirror --mirror-listen 10.0.0.5:11437 --data-dir /var/lib/drover --mirror-key-file key \\\n    \
            --mirror-cache-size 500GiB --upstream team=https://registry.example/models\n\n\
            The controller grants pulls by the key. Proxies are taken from HTTPS_PROXY, HTTP_PROXY and NO_PROXY."
    )]
    Mirror(tools::MirrorCommand),
    /// See which models there are
    #[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
    Models(tools::ModelsCommand),
    /// See and change what is known of models, and which one is the default for what
    #[command(subcommand)]
    Catalog(catalog::Catalog),
    /// Check and try fallback chains
    #[command(subcommand)]
    Chain(chain::ChainCommand),
    /// See and change which models workers get
    #[command(subcommand)]
    Workers(workers::Workers),
    /// See which providers there are, and whether they can be used
    #[command(subcommand)]
    Providers(providers::Providers),
    /// Bring a model of your own to a mirror, from which every node can pull it
    #[command(after_help = "Examples:\n  drover push llama.gguf team/llama:1\n  \
            drover push Modelfile team/support-bot:7 --adapter lora.gguf --mirror http://mirror.example:11437\n\n\
            A Modelfile means what it means to `ollama create`. What the mirror has already is not sent again.")]
    Push(push::Push),
    /// Have a version serve: registers it and makes the deployment where they are missing
    #[command(after_help = "Examples:\n  drover deploy support-bot v1.0.0 --tag llama3.2:3b\n  \
            drover deploy support-bot v1.1.0 --tag llama3.2:3b --system-file prompt.txt --steps 10:1h,50:24h\n  \
            drover deploy support-bot v1.2.0 --immediate\n  \
            drover deploy support-bot v1.1.0 --tag llama3.2:3b --dry-run > support-bot.yaml      # for Git\n\n\
            A version that is registered here gets the one that serves as its parent. --immediate and --steps replace the\n\
            strategy that the deployment has.")]
    Deploy(deploy::Deploy),
    /// Look after versions: what each one is made of, and where it is in its life
    #[command(subcommand)]
    Versions(versions::Versions),
    /// Take the registry of versions elsewhere, or back
    #[command(subcommand)]
    Registry(registry::Registry),
    /// See and steer rollouts
    #[command(subcommand)]
    Rollout(rollout::Rollout),
    /// See where a request would go, and why
    #[command(subcommand)]
    Route(route::Route),
    /// See who did what to which version, when and why
    #[command(
        after_help = "Examples:\n  drover audit --model support-bot --since 24h\n  drover audit -n ml -o json\n\n\
            The controller keeps it for a year, in data-dir or in the database that `records` names. Where that can't be \
            asked, the last 20 entries of each deployment come from its status. Names of field managers are marked as \
            unverified: whoever writes to the API chooses its own."
    )]
    Audit(audit::Audit),
    /// See what was asked and what answered: records of requests
    #[command(subcommand)]
    Runs(runs::Runs),
    /// Look after the keys that callers of the gateway have
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Wait for something, for scripts
    #[command(subcommand)]
    Wait(wait::Wait),
    /// Write all that an instance keeps into one file, also while it runs
    #[command(after_help = "Example:\n  drover backup drover-$(date +%F).tar\n\n\
            Bytes of models are left out unless --blobs asks for them; manifests of models that only the mirror has are in it.")]
    Backup(backup::Backup),
    /// Bring back what `drover backup` wrote
    #[command(after_help = "Example:\n  drover restore drover-2026-11-21.tar --data-dir /srv/drover\n\n\
            The instance must not run. Its folder is then as in the backup, or as it was; models on its mirror stay.")]
    Restore(backup::Restore),
    /// Write the objects as manifests, which `kubectl apply` makes the same of in another cluster
    #[command(after_help = "Examples:\n  drover export --all-namespaces | kubectl --context production apply -f -\n  \
            drover export -n team -o manifests && kubectl --context production apply -R -f manifests\n\n\
            Versions are pinned to the digests that they have. What needs a look is said on stderr.")]
    Export(export::Export),
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
    let done = |result: Result<(), String>| result.map(|()| DONE);
    let result = match cli.command {
        Command::Up(options) => done(serve(options, |settings| runtime.block_on(up::run(settings)))),
        Command::Controller(options) => done(serve(options, |settings| runtime.block_on(controller::run(settings)))),
        Command::Gateway(options) => done(serve(options, |settings| runtime.block_on(gateway::run(settings)))),
        Command::Mirror(command) => done(match command.tool {
            Some(tool) => runtime.block_on(tools::run(tool)),
            None => serve(command.server, |settings| runtime.block_on(mirror::run(settings))),
        }),
        Command::Models(tools::ModelsCommand { command: Some(command), .. }) => {
            done(runtime.block_on(tools::models(command)))
        }
        Command::Models(command) => done(runtime.block_on(workers::models(command.namespace.as_deref()))),
        Command::Catalog(command) => done(runtime.block_on(catalog::run(command))),
        Command::Chain(command) => done(runtime.block_on(chain::run(command))),
        Command::Workers(command) => done(runtime.block_on(workers::run(command))),
        Command::Providers(command) => done(runtime.block_on(providers::run(command))),
        Command::Push(command) => done(runtime.block_on(push::run(command))),
        Command::Deploy(command) => done(runtime.block_on(deploy::run(command))),
        Command::Versions(command) => done(runtime.block_on(versions::run(command))),
        Command::Registry(command) => done(runtime.block_on(registry::run(command))),
        Command::Rollout(command) => runtime.block_on(rollout::run(command)),
        Command::Route(command) => done(runtime.block_on(route::run(command))),
        Command::Audit(command) => done(runtime.block_on(audit::run(command))),
        Command::Runs(command) => done(runtime.block_on(runs::run(command))),
        Command::Keys(command) => done(runtime.block_on(keys::run(command))),
        Command::Wait(command) => runtime.block_on(wait::run(command)),
        Command::Backup(command) => done(runtime.block_on(backup::run(command))),
        Command::Restore(command) => done(runtime.block_on(backup::restore(command))),
        Command::Export(command) => done(runtime.block_on(export::run(command))),
        Command::Crds(command) => done(crds::run(&command)),
        Command::Version => {
            println!("drover {}", env!("CARGO_PKG_VERSION"));
            Ok(DONE)
        }
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "drover", &mut io::stdout());
            Ok(DONE)
        }
    };
    match result {
        Ok(code) => ExitCode::from(code),
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
