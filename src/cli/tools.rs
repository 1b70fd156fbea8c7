//! `drover mirror ls|rm|stats|verify|export|import` and `drover models available`

use std::{io, path::PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use futures::{StreamExt, TryStreamExt};
use globset::Glob;
use http::Method;
use serde::Serialize;
use tokio::{
    fs::File,
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
};
use tokio_util::io::StreamReader;

use super::client::AtMirror;
use crate::{
    domain::size::ByteSize,
    mirror::{
        client::MirrorClient,
        tools::{Entry, Finding, Listing, Names, Place, Removed},
    },
    ports::MirrorError,
};

#[derive(Subcommand)]
pub enum Tool {
    /// List the models that the mirror has
    Ls {
        #[command(flatten)]
        mirror: AtMirror,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Remove models, with the bytes that no other model needs
    Rm {
        /// Names of models
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// Also what nodes may be pulling
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        mirror: AtMirror,
    },
    /// Print what the mirror counted since it started, as JSON
    Stats {
        #[command(flatten)]
        mirror: AtMirror,
    },
    /// Read all that the mirror has, and report what is damaged; exit code 1 if anything is
    Verify {
        #[command(flatten)]
        mirror: AtMirror,
    },
    /// Write models into a tar file in OCI image layout
    #[command(after_help = "Example:\n  drover mirror export models.tar llama3.2:3b team/support-bot:7")]
    Export {
        /// The file; - for standard output
        file: PathBuf,
        /// Names of models
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        #[command(flatten)]
        mirror: AtMirror,
    },
    /// Take the models of such a file as the mirror's own, which need no registry
    Import {
        /// The file; - for standard input
        file: PathBuf,
        #[command(flatten)]
        mirror: AtMirror,
    },
}

#[derive(Args)]
pub struct ModelsCommand {
    #[command(subcommand)]
    pub command: Option<Models>,
    /// List the models that requests can go to, with what each can do, its tags, and what it is the default of
    #[arg(long)]
    tags: bool,
    /// The namespace; without one, the kubeconfig's
    #[arg(short, long)]
    pub namespace: Option<String>,
}

#[derive(Subcommand)]
pub enum Models {
    /// List what can be pulled: what the mirror has, what its registries list, what its settings offer
    #[command(after_help = "Example:\n  drover models available 'team/*'")]
    Available {
        /// A part of the name, or a pattern with * and ?
        filter: Option<String>,
        #[command(flatten)]
        mirror: AtMirror,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Output {
    /// For people
    Table,
    /// For programs
    Json,
    /// One name a line
    Name,
}

/// Does what was asked; an error ends the process with 1.
pub async fn run(tool: Tool) -> Result<(), String> {
    match tool {
        Tool::Ls { mirror, output } => {
            let listing = list(&mirror.client()?, "/drover/v1/models?here=true").await?;
            print_entries(&listing.items, output, &here_columns())
        }
        Tool::Rm { names, force, mirror } => remove(&mirror.client()?, &names, force).await,
        Tool::Stats { mirror } => print_json(&mirror.client()?.stats().await.map_err(advised)?),
        Tool::Verify { mirror } => verify(&mirror.client()?).await,
        Tool::Export { file, names, mirror } => export(&mirror.client()?, &file, names).await,
        Tool::Import { file, mirror } => import(&mirror.client()?, &file).await,
    }
}

/// `drover models …`
pub async fn models(command: Models) -> Result<(), String> {
    let Models::Available { filter, mirror, output } = command;
    let listing = list(&mirror.client()?, "/drover/v1/models").await?;
    for warning in &listing.warnings {
        eprintln!("{warning}");
    }
    let wanted = filter.map(|filter| matcher(&filter)).transpose()?;
    let fits = |entry: &Entry| wanted.as_ref().is_none_or(|wanted| wanted(&entry.name));
    let entries: Vec<Entry> = listing.items.into_iter().filter(fits).collect();
    print_entries(&entries, output, &available_columns())
}

/// Whether a name is wanted.
type Matcher = Box<dyn Fn(&str) -> bool>;

fn matcher(filter: &str) -> Result<Matcher, String> {
    let filter = filter.to_lowercase();
    if !filter.contains(['*', '?', '[', '{']) {
        return Ok(Box::new(move |name| name.to_lowercase().contains(&filter)));
    }
    let glob = Glob::new(&filter).map_err(|error| error.to_string())?.compile_matcher();
    Ok(Box::new(move |name| glob.is_match(name.to_lowercase())))
}

fn advised(error: MirrorError) -> String {
    match error {
        MirrorError::Unreachable(_) => {
            format!("{error}; start one with `drover mirror`, or say with --mirror where it is")
        }
        MirrorError::Refused { status: 401, .. } => {
            "the mirror wants its key: name the file with it by --key-file".into()
        }
        error => error.to_string(),
    }
}

async fn list(client: &MirrorClient, path: &str) -> Result<Listing, String> {
    client.json(client.request(Method::GET, path)).await.map_err(advised)
}

async fn remove(client: &MirrorClient, names: &[String], force: bool) -> Result<(), String> {
    let mut failed = Vec::new();
    for name in names {
        let name_in_url: String = reqwest::Url::parse_with_params("x:", [("name", name)])
            .map_err(|error| error.to_string())?
            .query()
            .unwrap_or_default()
            .to_owned();
        let path = format!("/drover/v1/models?{name_in_url}&force={force}");
        match client.json::<Removed>(client.request(Method::DELETE, &path)).await {
            Ok(removed) => {
                println!("{name}: removed, {} freed", human(removed.freed_bytes));
                if !removed.kept.is_empty() {
                    eprintln!("{name}: {} blobs are being read and go later", removed.kept.len());
                }
            }
            Err(error) => failed.push(format!("{name}: {}", advised(error))),
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n")) }
}

async fn verify(client: &MirrorClient) -> Result<(), String> {
    let answer = client.send(client.request(Method::POST, "/drover/v1/verify")).await.map_err(advised)?;
    let body = answer.bytes_stream().map_err(io::Error::other);
    let mut lines = tokio::io::AsyncBufReadExt::lines(StreamReader::new(body));
    let (mut looked, mut bad) = (0u64, 0u64);
    while let Some(line) = lines.next_line().await.map_err(|error| format!("the mirror broke off: {error}"))? {
        let finding: Finding = serde_json::from_str(&line).map_err(|error| error.to_string())?;
        looked += 1;
        if let Some(fault) = finding.fault {
            bad += 1;
            println!("{}: {fault}", finding.what);
        }
    }
    match bad {
        0 => {
            println!("all {looked} blobs and models are as they should be");
            Ok(())
        }
        bad => Err(format!("{bad} of {looked} blobs and models were damaged")),
    }
}

async fn export(client: &MirrorClient, file: &PathBuf, names: Vec<String>) -> Result<(), String> {
    let count = names.len();
    let request = client.request(Method::POST, "/drover/v1/export").json(&Names { names });
    let mut body = client.send(request).await.map_err(advised)?.bytes_stream();
    let fault = |error: io::Error| format!("{}: {error}", file.display());
    let is_stdout = file.as_os_str() == "-";
    let mut out: Box<dyn AsyncWrite + Unpin> = match is_stdout {
        true => Box::new(tokio::io::stdout()),
        false => Box::new(File::create(file).await.map_err(fault)?),
    };
    let mut total = 0;
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| format!("the mirror broke off, {} is not whole: {error}", file.display()))?;
        total += chunk.len() as u64;
        out.write_all(&chunk).await.map_err(fault)?;
    }
    out.flush().await.map_err(fault)?;
    let models = if count == 1 { "model" } else { "models" };
    eprintln!("{count} {models}, {}", human(total));
    Ok(())
}

async fn import(client: &MirrorClient, file: &PathBuf) -> Result<(), String> {
    let input: Box<dyn AsyncRead + Send + Unpin> = match file.as_os_str() == "-" {
        true => Box::new(tokio::io::stdin()),
        false => Box::new(File::open(file).await.map_err(|error| format!("{}: {error}", file.display()))?),
    };
    let listing: Listing = client.upload("/drover/v1/import", input).await.map_err(advised)?;
    for entry in listing.items {
        println!("{}  {}", entry.name, entry.digest.unwrap_or_default());
    }
    Ok(())
}

type Column = (&'static str, fn(&Entry) -> String);

fn available_columns() -> [Column; 4] {
    [
        ("NAME", |entry| entry.name.clone()),
        ("SOURCE", source),
        ("SIZE", |entry| entry.size_bytes.map_or_else(|| "-".into(), size)),
        ("DIGEST", digest),
    ]
}

fn here_columns() -> [Column; 5] {
    [
        ("NAME", |entry| entry.name.clone()),
        ("DIGEST", digest),
        ("SIZE", |entry| match (entry.size_bytes, entry.here_bytes) {
            (Some(all), Some(here)) if here < all => format!("{} of {}", size(here), size(all)),
            (all, _) => all.map_or_else(|| "-".into(), size),
        }),
        ("SOURCE", source),
        ("LAST USED", |entry| {
            entry.used.map_or_else(|| "-".into(), |used| used.strftime("%Y-%m-%d %H:%M").to_string())
        }),
    ]
}

fn source(entry: &Entry) -> String {
    match (entry.source, &entry.registry) {
        (Place::Own, _) => "own".into(),
        (Place::Cached, _) => "cached".into(),
        (Place::Offered, _) => "offered".into(),
        (Place::Registry, registry) => registry.clone().unwrap_or_else(|| "registry".into()),
    }
}

fn digest(entry: &Entry) -> String {
    let hex = entry.digest.as_deref().map(|digest| digest.trim_start_matches("sha256:"));
    hex.map_or_else(|| "-".into(), |hex| hex.chars().take(12).collect())
}

fn size(bytes: i64) -> String {
    human(bytes.unsigned_abs())
}

/// A size of about three digits.
pub fn human(bytes: u64) -> String {
    let units = [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match units.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{} B", ByteSize(bytes).0),
    }
}

fn print_entries(entries: &[Entry], output: Output, columns: &[Column]) -> Result<(), String> {
    match output {
        Output::Json => print_json(&entries),
        Output::Name => {
            entries.iter().for_each(|entry| println!("{}", entry.name));
            Ok(())
        }
        Output::Table => {
            let head: Vec<String> = columns.iter().map(|(name, _)| (*name).to_owned()).collect();
            let rows = entries.iter().map(|entry| columns.iter().map(|(_, cell)| cell(entry)).collect());
            print_table(&[head].into_iter().chain(rows).collect::<Vec<Vec<String>>>());
            Ok(())
        }
    }
}

pub fn print_table(rows: &[Vec<String>]) {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        println!("{}", cells.collect::<Vec<_>>().join("   ").trim_end());
    }
}

pub fn print_json(value: &impl Serialize) -> Result<(), String> {
    let text = serde_json::to_string_pretty(value).map_err(|error| error.to_string())?;
    println!("{text}");
    Ok(())
}

/// `drover mirror`: a tool, or else the server itself.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct MirrorCommand {
    #[command(subcommand)]
    pub tool: Option<Tool>,
    #[command(flatten)]
    pub server: super::options::Options<super::options::Mirror>,
}
