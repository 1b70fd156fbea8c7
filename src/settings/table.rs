//! Every setting there is: one table.

/// A long-running command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// `drover controller`.
    Controller,
    /// `drover gateway`.
    Gateway,
    /// `drover mirror`.
    Mirror,
    /// `drover up`.
    Up,
}

/// Every long-running command.
const ALL: &[Scope] = &[Scope::Controller, Scope::Gateway, Scope::Mirror, Scope::Up];
/// Those that are one server each.
const PARTS: &[Scope] = &[Scope::Controller, Scope::Gateway, Scope::Mirror];
const CONTROLLER: &[Scope] = &[Scope::Controller, Scope::Up];
const GATEWAY: &[Scope] = &[Scope::Gateway, Scope::Up];
/// Those that keep records of what was done.
const MANAGED: &[Scope] = &[Scope::Controller, Scope::Gateway, Scope::Up];
const MIRROR: &[Scope] = &[Scope::Mirror, Scope::Up];
const UP: &[Scope] = &[Scope::Up];

/// One setting: its name, what it is for, and what it is when nobody says.
pub struct Setting {
    /// Which commands it is a flag of; in the file and the environment it may stand for every command.
    pub scope: &'static [Scope],
    /// The name, as a flag without the dashes.
    pub name: &'static str,
    /// For people.
    pub help: &'static str,
    /// Empty: none.
    pub default: &'static str,
}

/// Every setting there is.
pub const SETTINGS: &[Setting] = &[
    Setting { scope: ALL, name: "log-format", help: "`text` for people, `json` for programs", default: "text" },
    Setting {
        scope: ALL,
        name: "log-level",
        help: "`error`, `warn`, `info`, `debug`, `trace`, or a tracing filter",
        default: "info",
    },
    Setting {
        scope: ALL,
        name: "namespace",
        help: "The only namespace to look at; empty: all of them for the controller, `default` for the gateway",
        default: "",
    },
    Setting {
        scope: PARTS,
        name: "health-listen",
        help: "Address of /livez, /readyz, /metrics and /health/models",
        default: "127.0.0.1:11438",
    },
    Setting {
        scope: ALL,
        name: "drain-timeout",
        help: "How long requests and tasks may take to finish after SIGTERM",
        default: "30s",
    },
    Setting {
        scope: &[Scope::Gateway],
        name: "gateway-listen",
        help: "Address that the gateway answers requests on",
        default: "127.0.0.1:11435",
    },
    Setting {
        scope: ALL,
        name: "data-dir",
        help: "Folder for what must outlive a restart; empty: drover/ in $XDG_DATA_HOME or ~/.local/share for \
               `drover up`, nothing is kept by the gateway and the controller",
        default: "",
    },
    Setting {
        scope: &[Scope::Controller],
        name: "gateways",
        help: "Comma-separated URLs of the gateways; each address behind a host name is one gateway",
        default: "",
    },
    Setting {
        scope: CONTROLLER,
        name: "prometheus-url",
        help: "The Prometheus server that the analysis of a canary may ask; empty: none",
        default: "",
    },
    Setting { scope: CONTROLLER, name: "probe-interval", help: "How often each node is looked at", default: "5s" },
    Setting { scope: CONTROLLER, name: "max-pulls", help: "How many nodes may pull at once", default: "128" },
    Setting {
        scope: &[Scope::Controller],
        name: "mirror-url",
        help: "Where the controller reaches the mirror; empty: nodes pull from registries directly",
        default: "",
    },
    Setting {
        scope: CONTROLLER,
        name: "mirror-advertise",
        help: "Where nodes reach the mirror; empty: at mirror-url",
        default: "",
    },
    Setting {
        scope: &[Scope::Controller, Scope::Mirror, Scope::Up],
        name: "mirror-key-file",
        help: "File with the key by which the controller and the mirror know each other; `drover up` makes one",
        default: "",
    },
    Setting {
        scope: &[Scope::Mirror],
        name: "mirror-listen",
        help: "Address that nodes pull from",
        default: "127.0.0.1:11437",
    },
    Setting {
        scope: MIRROR,
        name: "mirror-cache-size",
        help: "The most bytes of models that the mirror keeps, such as 500GiB; 0: as many as fit on the disk",
        default: "0",
    },
    Setting {
        scope: MIRROR,
        name: "mirror-bandwidth",
        help: "Bytes per second that the mirror takes from registries, such as 50MB; 0: no limit",
        default: "0",
    },
    Setting {
        scope: MIRROR,
        name: "mirror-open",
        help: "Whether anybody who reaches the mirror may pull public models by their names",
        default: "false",
    },
    Setting {
        scope: MIRROR,
        name: "upstream",
        help: "Registries by the beginnings of models' names: PREFIX=URL, separated by commas; =URL is for names \
               without a host. May be given several times",
        default: "",
    },
    Setting {
        scope: MIRROR,
        name: "upstream-auth-file",
        help: "A docker config.json with the logins at registries",
        default: "",
    },
    Setting {
        scope: MIRROR,
        name: "upstream-ca-file",
        help: "Certificates in PEM form to trust besides the system's",
        default: "",
    },
    Setting {
        scope: MIRROR,
        name: "mirror-push-keys-file",
        help: "Public keys of the Ollama servers and people who may push, one a line as in id_ed25519.pub; empty: \
               whoever has the mirror's key, or reaches the mirror on this machine",
        default: "",
    },
    Setting {
        scope: MIRROR,
        name: "mirror-offer",
        help: "Names of models to list as available besides those that the mirror has and finds, separated by commas",
        default: "",
    },
    Setting {
        scope: UP,
        name: "provider-environment",
        help: "Whether well-known providers are made usable whose keys are in the environment, such as \
               OPENROUTER_API_KEY",
        default: "true",
    },
    Setting {
        scope: UP,
        name: "model-default",
        help: "Default models, CAPABILITY=MODEL, separated by commas: auto:CAPABILITY stands for them; capabilities are \
               chat, code, vision, tools, embedding, thinking, json, and fast for the small model. May be given several \
               times",
        default: "",
    },
    Setting {
        scope: &[Scope::Controller, Scope::Gateway],
        name: "provider-keys-dir",
        help: "Folder with the keys of providers, as NAMESPACE/SECRET/KEY; empty: the controller reads Secrets, the \
               gateway has none",
        default: "",
    },
    Setting {
        scope: GATEWAY,
        name: "queue-timeout",
        help: "How long a request may wait for a node with room",
        default: "60s",
    },
    Setting {
        scope: GATEWAY,
        name: "queue-length",
        help: "How many requests for one model may wait for a node with room; one more is refused at once",
        default: "1000",
    },
    Setting {
        scope: &[Scope::Controller, Scope::Gateway, Scope::Up],
        name: "node-ca-file",
        help: "Certificates in PEM form to trust besides the system's, for nodes with https:// URLs",
        default: "",
    },
    Setting {
        scope: GATEWAY,
        name: "truncation",
        help: "What becomes of a prompt that is longer than the context window: `allow` cuts it and says so in the \
               header x-drover-truncated, `refuse` answers 400",
        default: "allow",
    },
    Setting {
        scope: MANAGED,
        name: "records",
        help: "URL of the PostgreSQL database for run records, which several gateways may share, and for the \
               controller's audit; empty: a file in data-dir, and without that none is kept",
        default: "",
    },
    Setting {
        scope: GATEWAY,
        name: "records-sync",
        help: "What a committed run record survives: `normal`: the gateway's death; `full`: also the machine's",
        default: "normal",
    },
    Setting { scope: GATEWAY, name: "records-max-age", help: "How long run records are kept", default: "720h" },
    Setting {
        scope: GATEWAY,
        name: "records-max-size",
        help: "How much room run records may take; the oldest go first",
        default: "1GiB",
    },
    Setting {
        scope: GATEWAY,
        name: "records-when-down",
        help: "What becomes of requests while run records can't be stored: `refuse` or `serve`",
        default: "refuse",
    },
    Setting {
        scope: GATEWAY,
        name: "records-capture",
        help: "Whether run records keep prompts and answers, for replays",
        default: "false",
    },
    Setting {
        scope: MANAGED,
        name: "management-open",
        help: "Whether run records and the audit may be asked for from other machines",
        default: "false",
    },
    Setting {
        scope: GATEWAY,
        name: "otlp-endpoint",
        help: "URL of an OpenTelemetry collector that gets a trace of every request, by OTLP over HTTP, such as \
               http://127.0.0.1:4318; empty: as OTEL_EXPORTER_OTLP_ENDPOINT says, and without that no traces",
        default: "",
    },
    Setting {
        scope: GATEWAY,
        name: "require-key",
        help: "Who must send the key of an ApiKey: `nobody`, `remote` (callers from other machines, and those for whom a \
               proxy asks) or `everybody`",
        default: "remote",
    },
    Setting {
        scope: GATEWAY,
        name: "body-timeout",
        help: "How long the body of a request may take until it is all there",
        default: "2m",
    },
    Setting {
        scope: GATEWAY,
        name: "canary-lease",
        help: "How long canaries get requests without word from the Kubernetes API; then stable versions get all, because \
               a canary may have been taken back",
        default: "60s",
    },
    Setting {
        scope: GATEWAY,
        name: "model-operations",
        help: "Whether callers may pull and remove models, as `ollama pull` and `ollama rm` do; empty: with `drover up` \
               they may",
        default: "",
    },
    Setting { scope: UP, name: "listen", help: "Address that all servers listen on", default: "127.0.0.1" },
    Setting { scope: UP, name: "api-port", help: "Port of the Kubernetes API; 0: any that is free", default: "16443" },
    Setting {
        scope: UP,
        name: "api-sync",
        help: "Whether a write to the API outlives a loss of power (`full`) or only the process (`normal`, faster)",
        default: "full",
    },
    Setting { scope: UP, name: "gateway-port", help: "Port that requests are answered on; 0: any", default: "11435" },
    Setting {
        scope: UP,
        name: "cockpit-port",
        help: "Port of the cockpit, once there is one; nothing listens there yet",
        default: "11436",
    },
    Setting { scope: UP, name: "mirror-port", help: "Port that nodes pull from; 0: any", default: "11437" },
    Setting {
        scope: UP,
        name: "health-port",
        help: "Port of /livez, /readyz, /metrics and /health/models; 0: any",
        default: "11438",
    },
    Setting {
        scope: UP,
        name: "node",
        help: "Ollama servers, NAME=URL, separated by commas. May be given several times; without any, the server that \
               OLLAMA_HOST names, else the one at 127.0.0.1:11434 unless there are nodes already",
        default: "",
    },
    Setting {
        scope: UP,
        name: "manifests",
        help: "Folder whose YAML and JSON files are applied, at the start and on every change; what vanishes there is \
               deleted",
        default: "",
    },
];

/// Lists that may be given as several flags.
pub const REPEATABLE: &[&str] = &["upstream", "node", "model-default"];
