//! `drover runs`

use std::{fs, path::PathBuf};

use clap::{Args, Subcommand};
use futures::StreamExt;
use jiff::Timestamp;
use tokio::io::AsyncWriteExt;

use super::tools::{Output, print_json, print_table};
use crate::{
    domain::{duration::HumanDuration, run_id::RunId, run_record::Feedback},
    gateway::management::client::GatewayClient,
    ports::RunRecord,
};

/// How many records are asked for at once.
const PAGE: usize = 1_000;
/// How many with what was said.
const PAGE_WITH_CAPTURE: usize = 50;

#[derive(Subcommand)]
pub enum Runs {
    /// List runs, the newest first
    #[command(after_help = "Example:\n  drover runs list --model llama3.2:3b --outcome Failed --since 1h")]
    List {
        #[command(flatten)]
        gateway: AtGateway,
        #[command(flatten)]
        filter: Filter,
        /// How many at most
        #[arg(long, default_value_t = 20, value_name = "COUNT")]
        limit: usize,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Print all that was recorded of a run, as JSON
    Show {
        /// The run, as x-drover-run-id names it
        id: RunId,
        #[command(flatten)]
        gateway: AtGateway,
    },
    /// Have a run repeated with the same model and parameters, and print the answer
    Replay {
        /// The run
        id: RunId,
        /// File with the request, where it was not kept; - for standard input
        #[arg(long, value_name = "FILE")]
        request: Option<PathBuf>,
        #[command(flatten)]
        gateway: AtGateway,
    },
    /// Note what you think of an answer
    #[command(after_help = "Example:\n  drover runs feedback 01937… 0.2 --comment 'Made up a name'")]
    Feedback {
        /// The run
        id: RunId,
        /// From 0, bad, to 1, good
        score: f64,
        /// In words
        #[arg(long, value_name = "TEXT")]
        comment: Option<String>,
        #[command(flatten)]
        gateway: AtGateway,
    },
    /// Print every run as a line of JSON, the newest first
    #[command(after_help = "Example:\n  drover runs export --since 24h > runs.jsonl")]
    Export {
        #[command(flatten)]
        gateway: AtGateway,
        #[command(flatten)]
        filter: Filter,
        /// Also what was said, where it was kept
        #[arg(long)]
        capture: bool,
    },
}

/// Where the gateway is.
#[derive(Args)]
pub struct AtGateway {
    /// URL of the gateway
    #[arg(long, env = "DROVER_GATEWAY", value_name = "URL", default_value = "http://127.0.0.1:11435")]
    gateway: String,
    /// Key of an ApiKey: its own runs are shown
    #[arg(long, env = "DROVER_API_KEY", value_name = "KEY", hide_env_values = true)]
    api_key: Option<String>,
}

/// Which runs.
#[derive(Args)]
pub struct Filter {
    /// Only runs of this model
    #[arg(long, value_name = "TAG")]
    model: Option<String>,
    /// Only runs of this version
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    /// Only runs of this digest
    #[arg(long, value_name = "DIGEST")]
    digest: Option<String>,
    /// Only runs on this node
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// Only runs with this outcome, such as Answered, Broken, Cancelled, Refused or Failed
    #[arg(long, value_name = "OUTCOME")]
    outcome: Option<String>,
    /// Only runs of this caller
    #[arg(long, value_name = "NAME")]
    caller: Option<String>,
    /// Only runs from then on: a time, or how long ago, such as 1h
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only runs before then: a time, or how long ago
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

impl AtGateway {
    /// A client to it.
    ///
    /// # Errors
    /// When the URL or the key can't be used.
    pub fn client(&self) -> Result<GatewayClient, String> {
        GatewayClient::new(&self.gateway, self.api_key.as_deref())
    }
}

impl Filter {
    fn query(&self) -> Result<Vec<(&'static str, String)>, String> {
        let given = [
            ("model", self.model.clone()),
            ("version", self.version.clone()),
            ("digest", self.digest.clone()),
            ("node", self.node.clone()),
            ("outcome", self.outcome.clone()),
            ("caller", self.caller.clone()),
            ("since", self.since.as_deref().map(|time| moment("--since", time)).transpose()?),
            ("until", self.until.as_deref().map(|time| moment("--until", time)).transpose()?),
        ];
        Ok(given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
    }
}

/// A time, also one that is told by how long ago it was.
///
/// # Errors
/// What to write.
pub fn moment(flag: &str, text: &str) -> Result<String, String> {
    let moment = match text.parse::<HumanDuration>() {
        Ok(ago) => Timestamp::now().checked_sub(ago.0).ok(),
        Err(_) => text.parse().ok(),
    };
    let moment = moment.map(|moment: Timestamp| moment.to_string());
    moment
        .ok_or_else(|| format!("{flag} {text}: write a time such as 2026-11-20T20:00:00Z, or how long ago, such as 1h"))
}

/// Does what was asked; an error ends the process with 1.
pub async fn run(command: Runs) -> Result<(), String> {
    match command {
        Runs::List { gateway, filter, limit, output } => list(&gateway.client()?, &filter, limit, output).await,
        Runs::Show { id, gateway } => print_json(&gateway.client()?.get(id).await?),
        Runs::Replay { id, request, gateway } => replay(&gateway.client()?, id, request).await,
        Runs::Feedback { id, score, comment, gateway } => {
            gateway.client()?.feedback(id, &Feedback { score, comment }).await
        }
        Runs::Export { gateway, filter, capture } => export(&gateway.client()?, &filter, capture).await,
    }
}

async fn list(client: &GatewayClient, filter: &Filter, limit: usize, output: Output) -> Result<(), String> {
    let mut runs = Vec::new();
    each(client, filter, limit, false, |record| {
        runs.push(record);
        Ok(())
    })
    .await?;
    match output {
        Output::Json => print_json(&runs),
        Output::Name => {
            runs.iter().for_each(|run| println!("{}", run.id));
            Ok(())
        }
        Output::Table if runs.is_empty() => {
            eprintln!("drover: no run is on record that fits");
            Ok(())
        }
        Output::Table => {
            let head = ["RUN", "STARTED", "MODEL", "VERSION", "NODE", "OUTCOME", "STATUS", "TOKENS", "SECONDS"];
            let rows = runs.iter().map(row);
            print_table(&[head.map(str::to_owned).to_vec()].into_iter().chain(rows).collect::<Vec<_>>());
            Ok(())
        }
    }
}

fn row(run: &RunRecord) -> Vec<String> {
    let resolved = run.resolved.as_ref();
    let or_none = |text: Option<&str>| text.unwrap_or("-").to_owned();
    vec![
        run.id.to_string(),
        run.started_at.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        resolved.map_or(&*run.requested, |resolved| &resolved.model).to_owned(),
        or_none(resolved.and_then(|resolved| resolved.version.as_deref())),
        or_none(resolved.and_then(|resolved| resolved.node.as_deref())),
        run.outcome.name().to_owned(),
        run.status.to_string(),
        format!("{}+{}", run.tokens.prompt, run.tokens.completion),
        format!("{:.2}", run.timings.total_ms / 1000.0),
    ]
}

async fn export(client: &GatewayClient, filter: &Filter, capture: bool) -> Result<(), String> {
    each(client, filter, usize::MAX, capture, |record| {
        let line = serde_json::to_string(&record).map_err(|error| error.to_string())?;
        println!("{line}");
        Ok(())
    })
    .await
}

/// Hands over at most `limit` records, page by page.
async fn each(
    client: &GatewayClient,
    filter: &Filter,
    limit: usize,
    capture: bool,
    mut take: impl FnMut(RunRecord) -> Result<(), String>,
) -> Result<(), String> {
    let (query, mut left, mut cursor) = (filter.query()?, limit, None);
    while left > 0 {
        let page = if capture { PAGE_WITH_CAPTURE } else { PAGE };
        let mut query = query.clone();
        query.extend([("limit", left.min(page).to_string()), ("capture", capture.to_string())]);
        query.extend(cursor.map(|cursor: RunId| ("cursor", cursor.to_string())));
        let page = client.list(&query).await?;
        left -= page.items.len().min(left);
        page.items.into_iter().try_for_each(&mut take)?;
        cursor = page.next;
        if cursor.is_none() {
            return Ok(());
        }
    }
    Ok(())
}

async fn replay(client: &GatewayClient, id: RunId, request: Option<PathBuf>) -> Result<(), String> {
    let request = match request {
        Some(path) if path.as_os_str() == "-" => Some(read_input()?),
        Some(path) => Some(fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?),
        None => None,
    };
    let mut answer = client.replay(id, request).await?.bytes_stream();
    let mut out = tokio::io::stdout();
    while let Some(piece) = answer.next().await {
        let piece = piece.map_err(|error| format!("the gateway broke off: {error}"))?;
        out.write_all(&piece).await.map_err(|error| error.to_string())?;
        out.flush().await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn read_input() -> Result<Vec<u8>, String> {
    let mut request = Vec::new();
    std::io::Read::read_to_end(&mut std::io::stdin(), &mut request).map_err(|error| error.to_string())?;
    Ok(request)
}
