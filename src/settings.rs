//! Settings: file < environment < flags, and every fault named at once.
//!
//! Each setting has one name. In the file it is a key (`log-format: json`), in the environment `DROVER_LOG_FORMAT`,
//! as a flag `--log-format`.

mod table;

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

pub use table::{REPEATABLE, SETTINGS, Scope, Setting};

use crate::{
    domain::{
        caller::RequireKey, duration::HumanDuration, model_db::Defaults, model_name::ModelName,
        named_nodes::NamedNodes, params::Truncation, size::ByteSize, upstream::Upstreams,
    },
    records,
    standalone::Durability,
};

/// Where a value was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Built in.
    Default,
    /// The file named by `--config`.
    File,
    /// A `DROVER_…` variable.
    Environment,
    /// A flag.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Environment => "environment",
            Self::Flag => "flag",
        })
    }
}

/// The settings of a process, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which log lines there are.
    pub log_level: String,
    /// The only namespace, if there is one.
    pub namespace: Option<String>,
    /// Address of the health port.
    pub health_listen: SocketAddr,
    /// Time to finish after SIGTERM.
    pub drain_timeout: Duration,
    /// Address of the gateway.
    pub gateway_listen: SocketAddr,
    /// Folder for what must outlive a restart.
    pub data_dir: Option<PathBuf>,
    /// URLs of the gateways.
    pub gateways: Vec<String>,
    /// The Prometheus server that analyses may ask.
    pub prometheus_url: Option<String>,
    /// How often each node is looked at.
    pub probe_interval: Duration,
    /// How many nodes may pull at once.
    pub max_pulls: usize,
    /// The mirror as the controller reaches it.
    pub mirror_url: Option<String>,
    /// The mirror as nodes reach it.
    pub mirror_advertise: Option<String>,
    /// File with the key that the controller and the mirror share.
    pub mirror_key_file: Option<PathBuf>,
    /// Address of the mirror.
    pub mirror_listen: SocketAddr,
    /// The most bytes that the mirror keeps; 0: as many as fit.
    pub mirror_cache_size: ByteSize,
    /// Bytes per second that the mirror takes from registries; 0: no limit.
    pub mirror_bandwidth: ByteSize,
    /// Whether public models can be pulled from the mirror by name.
    pub mirror_open: bool,
    /// Registries by the beginnings of models' names.
    pub upstream: Upstreams,
    /// File with the logins at registries.
    pub upstream_auth_file: Option<PathBuf>,
    /// File with certificates to trust.
    pub upstream_ca_file: Option<PathBuf>,
    /// File with the keys of those who may push to the mirror.
    pub mirror_push_keys_file: Option<PathBuf>,
    /// Models that the mirror offers by name.
    pub mirror_offer: Vec<ModelName>,
    /// Whether keys in the environment make providers usable.
    pub provider_environment: bool,
    /// The default models of capabilities.
    pub model_default: Defaults,
    /// Folder with the keys of providers.
    pub provider_keys_dir: Option<PathBuf>,
    /// How long a request may wait for a node.
    pub queue_timeout: Duration,
    /// What becomes of a prompt that is too long.
    pub truncation: Truncation,
    /// The database of run records; none: a file in `data_dir`.
    pub records: Option<records::Url>,
    /// What committed run records survive.
    pub records_sync: records::Sync,
    /// How long run records are kept.
    pub records_retention: records::Retention,
    /// What becomes of requests that can't be recorded.
    pub records_when_down: records::WhenDown,
    /// Whether prompts and answers are kept.
    pub records_capture: bool,
    /// Whether others than this machine may ask for run records.
    pub management_open: bool,
    /// The collector that gets traces; `None`: the one that the environment names, if it names one.
    pub otlp_endpoint: Option<String>,
    /// How many requests for one model may wait.
    pub queue_length: usize,
    /// Certificates to trust for nodes.
    pub node_ca_file: Option<PathBuf>,
    /// Who must have a key.
    pub require_key: RequireKey,
    /// How long the body of a request may take.
    pub body_timeout: Duration,
    /// How long canaries get requests without word from the Kubernetes API.
    pub canary_lease: Duration,
    /// Whether callers may pull and remove models; none: as is usual for the command.
    pub model_operations: Option<bool>,
    /// Address of every server of `drover up`.
    pub listen: IpAddr,
    /// Port of the embedded API.
    pub api_port: u16,
    /// How long a write to the embedded API lasts.
    pub api_sync: Durability,
    /// Port of the gateway of `drover up`.
    pub gateway_port: u16,
    /// Port of the mirror of `drover up`.
    pub mirror_port: u16,
    /// Port of the health of `drover up`.
    pub health_port: u16,
    /// Nodes that are named with the command.
    pub node: NamedNodes,
    /// Folder with manifests.
    pub manifests: Option<PathBuf>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// One layer of values by setting name.
pub type Layer = BTreeMap<String, String>;

/// Every fault in the settings, each with where it was given.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Faults(pub Vec<String>);

/// The layer that a YAML file holds: a flat map of scalars.
///
/// # Errors
/// Every key that is unknown or not a scalar.
pub fn from_file(text: &str) -> Result<Layer, Faults> {
    let parsed: Option<BTreeMap<String, serde_yaml::Value>> =
        serde_yaml::from_str(text).map_err(|error| Faults(vec![format!("settings file: {error}")]))?;
    let (mut layer, mut faults) = (Layer::new(), Vec::new());
    for (key, value) in parsed.unwrap_or_default() {
        let text = match value {
            serde_yaml::Value::String(text) => text,
            serde_yaml::Value::Number(number) => number.to_string(),
            serde_yaml::Value::Bool(flag) => flag.to_string(),
            _ => {
                faults.push(format!("settings file: {key}: write one value, not a list or a map"));
                continue;
            }
        };
        if SETTINGS.iter().any(|setting| setting.name == key) {
            layer.insert(key, text);
        } else {
            faults.push(format!("settings file: {key}: there is no such setting"));
        }
    }
    if faults.is_empty() { Ok(layer) } else { Err(Faults(faults)) }
}

/// The layer that `DROVER_…` variables make.
pub fn from_environment(variables: impl Iterator<Item = (String, String)>) -> Layer {
    let variables: BTreeMap<_, _> = variables.collect();
    let value = |setting: &Setting| {
        let variable = format!("DROVER_{}", setting.name.to_uppercase().replace('-', "_"));
        Some((setting.name.to_owned(), variables.get(&variable)?.clone()))
    };
    SETTINGS.iter().filter_map(value).collect()
}

/// The effective value of each setting and who gave it.
pub fn layered(file: &Layer, environment: &Layer, flags: &Layer) -> BTreeMap<&'static str, (String, Origin)> {
    let layers = [(Origin::Flag, flags), (Origin::Environment, environment), (Origin::File, file)];
    let effective = |setting: &'static Setting| {
        let given = layers.iter().find_map(|(origin, layer)| Some((layer.get(setting.name)?.clone(), *origin)));
        (setting.name, given.unwrap_or_else(|| (setting.default.into(), Origin::Default)))
    };
    SETTINGS.iter().map(effective).collect()
}

impl Settings {
    /// Checks every value.
    ///
    /// # Errors
    /// All faults at once, each naming the setting, where it was given and what to write instead.
    pub fn new(values: &BTreeMap<&'static str, (String, Origin)>) -> Result<Self, Faults> {
        let mut reader = Reader { values, faults: Vec::new() };
        let settings = Self {
            log_format: reader.read("log-format", "write text or json", LogFormat::Text),
            log_level: reader.text("log-level"),
            namespace: Some(reader.text("namespace")).filter(|name| !name.is_empty()),
            health_listen: reader.read("health-listen", ADDRESS, UNSET),
            drain_timeout: reader.read("drain-timeout", DURATION, HumanDuration::default()).0,
            gateway_listen: reader.read("gateway-listen", ADDRESS, UNSET),
            data_dir: reader.path("data-dir"),
            gateways: reader.urls("gateways"),
            prometheus_url: reader.server("prometheus-url"),
            probe_interval: reader.read("probe-interval", DURATION, HumanDuration::default()).0,
            max_pulls: reader.read("max-pulls", COUNT, NonZeroUsize::MIN).get(),
            mirror_url: reader.server("mirror-url"),
            mirror_advertise: reader.server("mirror-advertise"),
            mirror_key_file: reader.path("mirror-key-file"),
            mirror_listen: reader.read("mirror-listen", ADDRESS, UNSET),
            mirror_cache_size: reader.read("mirror-cache-size", SIZE, ByteSize::default()),
            mirror_bandwidth: reader.read("mirror-bandwidth", SIZE, ByteSize::default()),
            mirror_open: reader.read("mirror-open", FLAG, false),
            upstream: reader.read("upstream", UPSTREAM, Upstreams::default()),
            upstream_auth_file: reader.path("upstream-auth-file"),
            upstream_ca_file: reader.path("upstream-ca-file"),
            mirror_push_keys_file: reader.path("mirror-push-keys-file"),
            mirror_offer: reader.names("mirror-offer"),
            provider_environment: reader.read("provider-environment", FLAG, true),
            model_default: reader.read("model-default", DEFAULTS, Defaults::default()),
            provider_keys_dir: reader.path("provider-keys-dir"),
            queue_timeout: reader.read("queue-timeout", DURATION, HumanDuration::default()).0,
            queue_length: reader.read("queue-length", COUNT, NonZeroUsize::MIN).get(),
            node_ca_file: reader.path("node-ca-file"),
            truncation: reader.read("truncation", "write allow or refuse", Truncation::default()),
            records: reader.secret("records", "write postgres://USER:PASSWORD@HOST:PORT/DATABASE"),
            records_sync: reader.read("records-sync", "write normal or full", records::Sync::default()),
            records_retention: records::Retention {
                age: reader.read("records-max-age", DURATION, HumanDuration::default()).0,
                size: reader.read("records-max-size", SIZE, ByteSize::default()).0,
            },
            records_when_down: reader.read("records-when-down", "write refuse or serve", records::WhenDown::default()),
            records_capture: reader.read("records-capture", FLAG, false),
            management_open: reader.read("management-open", FLAG, false),
            otlp_endpoint: reader.url("otlp-endpoint"),
            require_key: reader.read("require-key", "write nobody, remote or everybody", RequireKey::default()),
            body_timeout: reader.read("body-timeout", DURATION, HumanDuration::default()).0,
            canary_lease: reader.read("canary-lease", DURATION, HumanDuration::default()).0,
            model_operations: reader.flag("model-operations"),
            listen: reader.read("listen", "write an IP address, such as 127.0.0.1 or 0.0.0.0", LOOPBACK),
            api_port: reader.read("api-port", PORT, 0),
            api_sync: reader.read("api-sync", "write full or normal", Durability::default()),
            gateway_port: reader.read("gateway-port", PORT, 0),
            mirror_port: reader.read("mirror-port", PORT, 0),
            health_port: reader.read("health-port", PORT, 0),
            node: reader.read("node", NODE, NamedNodes::default()),
            manifests: reader.path("manifests"),
        };
        // Nothing listens there yet, but what is wrong is said.
        reader.read::<u16>("cockpit-port", PORT, 0);
        if settings.probe_interval < Duration::from_millis(100) {
            reader.fault("probe-interval", "write at least 100ms");
        }
        if settings.canary_lease < Duration::from_secs(1) {
            reader.fault("canary-lease", "write at least 1s");
        }
        if reader.faults.is_empty() { Ok(settings) } else { Err(Faults(reader.faults)) }
    }
}

const ADDRESS: &str = "write an IP address and a port, such as 127.0.0.1:8080";
const COUNT: &str = "write a number from 1 on";
const DURATION: &str = "write a duration such as 30s or 5m";
const FLAG: &str = "write true or false";
const SIZE: &str = "write bytes, or a number and a unit, such as 500MB or 100GiB";
const UPSTREAM: &str = "write PREFIX=URL pairs, separated by commas, each prefix once, the URLs with http:// or https:// \
                        and nothing but host, port and path";
const DEFAULTS: &str = "write CAPABILITY=MODEL pairs, separated by commas, each capability once: chat, code, vision, \
                        tools, embedding, thinking, json or fast";
const PORT: &str = "write a port from 0 to 65535";
const NODE: &str = "write NAME=URL pairs, separated by commas, each name once, in small letters, digits, - and ., the \
                    URLs without credentials";
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const UNSET: SocketAddr = SocketAddr::new(LOOPBACK, 0);

struct Reader<'a> {
    values: &'a BTreeMap<&'static str, (String, Origin)>,
    faults: Vec<String>,
}

impl Reader<'_> {
    fn text(&self, name: &str) -> String {
        self.values.get(name).map(|(value, _)| value.clone()).unwrap_or_default()
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        Some(self.text(name)).filter(|path| !path.is_empty()).map(PathBuf::from)
    }

    fn read<T: FromStr>(&mut self, name: &str, advice: &str, otherwise: T) -> T {
        self.text(name).parse().unwrap_or_else(|_| {
            self.fault(name, advice);
            otherwise
        })
    }

    /// Yes, no, or nothing said.
    fn flag(&mut self, name: &str) -> Option<bool> {
        let is_given = !self.text(name).is_empty();
        is_given.then(|| self.read(name, FLAG, false))
    }

    fn names(&mut self, name: &str) -> Vec<ModelName> {
        let text = self.text(name);
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        names.map(str::parse).collect::<Result<_, _>>().unwrap_or_else(|_| {
            self.fault(name, "write model names such as llama3.2:3b, separated by commas");
            Vec::new()
        })
    }

    fn urls(&mut self, name: &str) -> Vec<String> {
        let text = self.text(name);
        let urls: Vec<String> = text.split(',').map(|url| url.trim().trim_end_matches('/').to_owned()).collect();
        let urls: Vec<String> = urls.into_iter().filter(|url| !url.is_empty()).collect();
        let plain = |url: &String| {
            reqwest::Url::parse(url)
                .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.username().is_empty())
        };
        if !urls.iter().all(plain) {
            self.fault(name, "write http:// or https:// URLs without credentials, separated by commas");
        }
        urls
    }

    /// A URL, which may have a path.
    fn url(&mut self, name: &str) -> Option<String> {
        let url = self.urls(name).into_iter();
        let mut urls = url.collect::<Vec<_>>();
        if urls.len() > 1 {
            self.fault(name, "write one URL");
        }
        urls.pop()
    }

    /// A server by scheme, host and port: no path, which a model's name has no place for.
    fn server(&mut self, name: &str) -> Option<String> {
        let text = self.text(name);
        let bare = |url: &reqwest::Url| {
            let has_more = url.path() != "/" || url.query().is_some() || url.fragment().is_some();
            matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.has_host() && !has_more
        };
        if !text.is_empty() && !reqwest::Url::parse(&text).is_ok_and(|url| bare(&url)) {
            self.fault(name, "write http:// or https://, a host and a port, without a path or credentials");
        }
        Some(text.trim_end_matches('/').to_owned()).filter(|text| !text.is_empty())
    }

    /// What may hold a password, and is therefore never repeated.
    fn secret<T: FromStr>(&mut self, name: &str, advice: &str) -> Option<T> {
        let text = self.text(name);
        let parsed = text.parse().ok();
        if parsed.is_none() && !text.is_empty() {
            self.faults.push(format!("{name} ({}): {advice}", self.origin(name)));
        }
        parsed
    }

    fn origin(&self, name: &str) -> Origin {
        self.values.get(name).map_or(Origin::Default, |(_, origin)| *origin)
    }

    fn fault(&mut self, name: &str, advice: &str) {
        self.faults.push(format!("{name} = {:?} ({}): {advice}", self.text(name), self.origin(name)));
    }
}

impl FromStr for LogFormat {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(()),
        }
    }
}
