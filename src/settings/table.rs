//! Every setting there is, with the commands that it belongs to.

/// A long-running command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// `drover controller`.
    Controller,
    /// `drover gateway`.
    Gateway,
    /// `drover mirror`.
    Mirror,
}

/// Every long-running command.
const ALL: &[Scope] = &[Scope::Controller, Scope::Gateway, Scope::Mirror];

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
        scope: ALL,
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
        scope: &[Scope::Gateway, Scope::Mirror],
        name: "data-dir",
        help: "Folder for what must outlive a restart; empty: keep nothing",
        default: "",
    },
    Setting {
        scope: &[Scope::Controller],
        name: "gateways",
        help: "Comma-separated URLs of the gateways; each address behind a host name is one gateway",
        default: "",
    },
    Setting {
        scope: &[Scope::Controller],
        name: "probe-interval",
        help: "How often each node is looked at",
        default: "5s",
    },
    Setting { scope: &[Scope::Controller], name: "max-pulls", help: "How many nodes may pull at once", default: "128" },
    Setting {
        scope: &[Scope::Controller],
        name: "mirror-url",
        help: "Where the controller reaches the mirror; empty: nodes pull from registries directly",
        default: "",
    },
    Setting {
        scope: &[Scope::Controller],
        name: "mirror-advertise",
        help: "Where nodes reach the mirror; empty: at mirror-url",
        default: "",
    },
    Setting {
        scope: &[Scope::Controller, Scope::Mirror],
        name: "mirror-key-file",
        help: "File with the key by which the controller and the mirror know each other",
        default: "",
    },
    Setting {
        scope: &[Scope::Mirror],
        name: "mirror-listen",
        help: "Address that nodes pull from",
        default: "127.0.0.1:11437",
    },
    Setting {
        scope: &[Scope::Mirror],
        name: "mirror-cache-size",
        help: "The most bytes of models that the mirror keeps, such as 500GiB; 0: as many as fit on the disk",
        default: "0",
    },
    Setting {
        scope: &[Scope::Mirror],
        name: "mirror-bandwidth",
        help: "Bytes per second that the mirror takes from registries, such as 50MB; 0: no limit",
        default: "0",
    },
    Setting {
        scope: &[Scope::Mirror],
        name: "mirror-open",
        help: "Whether anybody who reaches the mirror may pull public models by their names",
        default: "false",
    },
    Setting {
        scope: &[Scope::Mirror],
        name: "upstream",
        help: "Registries by the beginnings of models' names: PREFIX=URL, separated by commas; =URL is for names \
               without a host. May be given several times",
        default: "",
    },
    Setting {
        scope: &[Scope::Mirror],
        name: "upstream-auth-file",
        help: "A docker config.json with the logins at registries",
        default: "",
    },
    Setting {
        scope: &[Scope::Mirror],
        name: "upstream-ca-file",
        help: "Certificates in PEM form to trust besides the system's",
        default: "",
    },
    Setting {
        scope: &[Scope::Mirror],
        name: "mirror-push-keys-file",
        help: "Public keys of the Ollama servers and people who may push, one a line as in id_ed25519.pub; empty: \
               whoever has the mirror's key, or reaches the mirror on this machine",
        default: "",
    },
    Setting {
        scope: &[Scope::Mirror],
        name: "mirror-offer",
        help: "Names of models to list as available besides those that the mirror has and finds, separated by commas",
        default: "",
    },
    Setting {
        scope: &[Scope::Gateway],
        name: "queue-timeout",
        help: "How long a request may wait for a node with room",
        default: "60s",
    },
    Setting {
        scope: &[Scope::Gateway],
        name: "truncation",
        help: "What becomes of a prompt that is longer than the context window: `allow` cuts it and says so in the \
               header x-drover-truncated, `refuse` answers 400",
        default: "allow",
    },
    Setting {
        scope: &[Scope::Gateway],
        name: "records",
        help: "URL of the PostgreSQL database for run records, which several gateways may share; empty: a file in \
               data-dir, and without that no records",
        default: "",
    },
    Setting {
        scope: &[Scope::Gateway],
        name: "records-sync",
        help: "What a committed run record survives: `normal`: the gateway's death; `full`: also the machine's",
        default: "normal",
    },
    Setting {
        scope: &[Scope::Gateway],
        name: "records-max-age",
        help: "How long run records are kept",
        default: "720h",
    },
    Setting {
        scope: &[Scope::Gateway],
        name: "records-max-size",
        help: "How much room run records may take; the oldest go first",
        default: "1GiB",
    },
    Setting {
        scope: &[Scope::Gateway],
        name: "records-when-down",
        help: "What becomes of requests while run records can't be stored: `refuse` or `serve`",
        default: "refuse",
    },
    Setting {
        scope: &[Scope::Gateway],
        name: "records-capture",
        help: "Whether run records keep prompts and answers, for replays",
        default: "false",
    },
    Setting {
        scope: &[Scope::Gateway],
        name: "management-open",
        help: "Whether run records may be asked for from other machines",
        default: "false",
    },
];

/// Lists that may be given as several flags.
pub const REPEATABLE: &[&str] = &["upstream"];
