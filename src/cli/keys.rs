//! `drover keys …`

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use clap::{Args, Subcommand};
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use kube::{Api, ResourceExt, api::DeleteParams};
use sha2::{Digest as _, Sha256};

use super::{
    client,
    manifests::{self, Format},
    tools::{Output, print_json, print_table},
};
use crate::{
    api::{ApiKey, ApiKeySpec, HasConditions},
    cluster,
    domain::{
        caller::{KEY_PREFIX, Limits, ModelPatterns},
        conditions::READY,
        digest::Digest,
        duration::HumanDuration,
    },
};

/// Random bytes of a key: nobody guesses them, so that its hash needs no salt.
const KEY_BYTES: usize = 32;
const DAY: u64 = 24 * 60 * 60;

#[derive(Subcommand)]
pub enum Keys {
    /// Make a key and print it, this once: only its hash is kept
    #[command(
        after_help = "Examples:\n  drover keys create docs --models 'support-bot,llama3.2:*' --requests-per-minute 60 --expires 30d\n  \
            drover keys create ci --dry-run > ci-key.yaml      # the key on stderr, the manifest for Git on stdout\n\n\
            Callers send it as \"Authorization: Bearer KEY\" or \"x-api-key: KEY\", as clients of OpenAI and Anthropic do. \
            It must be in the namespace whose models the gateway serves."
    )]
    Create(Create),
    /// List keys: what they may do, until when, and when each was used last
    List {
        /// Their namespace; without one, the kubeconfig's
        #[arg(short, long)]
        namespace: Option<String>,
        /// How to print it
        #[arg(short, long, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Take keys back for good: the next request with one is refused
    Revoke {
        /// Names of ApiKeys
        #[arg(required = true)]
        names: Vec<String>,
        /// Their namespace; without one, the kubeconfig's
        #[arg(short, long)]
        namespace: Option<String>,
    },
}

#[derive(Args)]
pub struct Create {
    /// Name of the ApiKey; records of runs have it as the caller's
    name: String,
    /// Its namespace; without one, the kubeconfig's
    #[arg(short, long)]
    namespace: Option<String>,
    /// What it may be used for: deployments and tags, also with * for any text, separated by commas; without any, everything
    #[arg(long, value_name = "PATTERNS", value_delimiter = ',')]
    models: Vec<String>,
    /// The most requests for models in a minute
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    requests_per_minute: Option<u32>,
    /// The most tokens in a minute, read and written
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    tokens_per_minute: Option<u32>,
    /// The most requests under way at once
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    max_concurrent_requests: Option<u32>,
    /// How long it can be used, such as 30d or 12h, or until when, such as 2027-01-31; without it, for ever
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
    /// Also for pulling and deleting models, where the gateway lets callers do that
    #[arg(long)]
    allow_model_operations: bool,
    /// Make nothing: print the manifest
    #[arg(long)]
    dry_run: bool,
    /// How to print the manifest
    #[arg(short, long, value_enum, default_value_t = Format::Yaml, requires = "dry_run")]
    output: Format,
}

/// Does what was asked; an error ends the process with 1.
pub async fn run(command: Keys) -> Result<(), String> {
    match command {
        Keys::Create(command) => create(&command).await,
        Keys::List { namespace, output } => list(namespace.as_deref(), output).await,
        Keys::Revoke { names, namespace } => revoke(&names, namespace.as_deref()).await,
    }
}

async fn create(command: &Create) -> Result<(), String> {
    let (secret, hash) = generate();
    let object = ApiKey::new(&command.name, command.spec(hash, Timestamp::now())?);
    if command.dry_run {
        manifests::print(vec![manifests::plain(&object, command.namespace.as_deref())?], command.output)?;
        eprintln!("The key of {}, which is nowhere else:\n{secret}", command.name);
        return Ok(());
    }
    let (api, namespace) = keys(command.namespace.as_deref()).await?;
    cluster::create(&api, &object).await.map_err(|error| match &error {
        kube::Error::Api(status) if status.code == 409 => format!(
            "there is an ApiKey {} in namespace {namespace} already: choose another name, or take that one back first",
            command.name
        ),
        _ => format!("{}: {error}", command.name),
    })?;
    eprintln!("ApiKey {} is there in namespace {namespace}; its key is shown this once:", command.name);
    println!("{secret}");
    Ok(())
}

/// A new key and its hash.
fn generate() -> (String, Digest) {
    let secret = format!("{KEY_PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; KEY_BYTES]>()));
    let hash = Digest::from_sha256(&Sha256::digest(&secret));
    (secret, hash)
}

impl Create {
    fn spec(&self, hash: Digest, now: Timestamp) -> Result<ApiKeySpec, String> {
        ModelPatterns::new(&self.models).map_err(|error| format!("--models: {error}"))?;
        let expires_at = self.expires.as_deref().map(|text| expiry(text, now)).transpose()?;
        Ok(ApiKeySpec {
            hash: hash.to_string(),
            models: Some(self.models.clone()).filter(|models| !models.is_empty()),
            limits: Limits {
                requests_per_minute: self.requests_per_minute,
                tokens_per_minute: self.tokens_per_minute,
                max_concurrent_requests: self.max_concurrent_requests,
            },
            expires_at,
            disabled: false,
            allow_model_operations: self.allow_model_operations,
        })
    }
}

/// The moment that is told by how long it is until then, by its day (which it ends with, in UTC) or by itself.
fn expiry(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok());
    let later = days.map(|days| HumanDuration::from_secs(u64::from(days) * DAY)).or_else(|| text.parse().ok());
    let end = match later {
        Some(later) => now.checked_add(later.0).ok(),
        None => text.parse().ok().or_else(|| {
            let next = text.parse::<Date>().ok()?.tomorrow().ok()?;
            Some(next.to_zoned(TimeZone::UTC).ok()?.timestamp())
        }),
    };
    let whole = |end: Timestamp| Timestamp::from_second(end.as_second()).ok();
    match end.and_then(whole) {
        Some(end) if end > now => Ok(end),
        Some(end) => Err(format!("--expires {text}: {end} is over already")),
        None => Err(format!(
            "--expires {text}: write 30d or 12h, a day such as 2027-01-31, or a time such as 2027-01-31T12:00:00Z"
        )),
    }
}

async fn list(namespace: Option<&str>, output: Output) -> Result<(), String> {
    let (api, _) = keys(namespace).await?;
    let mut keys = api.list(&Default::default()).await.map_err(|error| error.to_string())?.items;
    keys.sort_by_key(ResourceExt::name_any);
    match output {
        Output::Json => print_json(&keys)?,
        Output::Name => keys.iter().for_each(|key| println!("{}", key.name_any())),
        Output::Table => {
            let head = ["NAME", "STATE", "MODELS", "REQUESTS/MIN", "TOKENS/MIN", "AT ONCE", "EXPIRES", "LAST USED"];
            let rows = [head.map(str::to_owned).to_vec()].into_iter().chain(keys.iter().map(row));
            print_table(&rows.collect::<Vec<_>>());
        }
    }
    Ok(())
}

fn row(key: &ApiKey) -> Vec<String> {
    let (spec, status) = (&key.spec, key.status.as_ref());
    let limit = |limit: Option<u32>| limit.map_or_else(|| "any".into(), |limit| limit.to_string());
    let state = key.conditions().iter().find(|condition| condition.type_ == READY);
    vec![
        key.name_any(),
        state.map_or_else(|| "Unknown".into(), |state| state.reason.clone()),
        spec.models.as_ref().map_or_else(|| "all".into(), |models| models.join(",")),
        limit(spec.limits.requests_per_minute),
        limit(spec.limits.tokens_per_minute),
        limit(spec.limits.max_concurrent_requests),
        spec.expires_at.map_or_else(|| "never".into(), |end| end.to_string()),
        status.and_then(|status| status.last_used_on).map_or_else(|| "never".into(), |day| day.to_string()),
    ]
}

async fn revoke(names: &[String], namespace: Option<&str>) -> Result<(), String> {
    let (api, namespace) = keys(namespace).await?;
    for name in names {
        api.delete(name, &DeleteParams::default()).await.map_err(|error| match &error {
            kube::Error::Api(status) if status.code == 404 => {
                format!("there is no ApiKey {name} in namespace {namespace}: `drover keys list` shows which there are")
            }
            _ => format!("{name}: {error}"),
        })?;
        println!("{name} is taken back; where its manifest is kept, delete it there, too");
    }
    Ok(())
}

/// The keys of a namespace, and its name.
async fn keys(namespace: Option<&str>) -> Result<(Api<ApiKey>, String), String> {
    let client = client::connect().await?;
    let namespace = namespace.unwrap_or_else(|| client.default_namespace()).to_owned();
    Ok((cluster::api(&client, Some(&namespace)), namespace))
}
