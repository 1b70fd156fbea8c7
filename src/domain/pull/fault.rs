//! Why a pull fails, and what to do about it.

/// Why a pull failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// The registry has no such model or tag.
    NoSuchModel,
    /// The registry can't be reached from the node.
    RegistryUnreachable,
    /// The registry wants a login.
    Unauthorized,
    /// The registry asks to come back later.
    RateLimited,
    /// The node's disk is full.
    NoSpace,
    /// The model needs a newer Ollama.
    NeedsNewerOllama,
    /// The registry speaks plain http and the pull didn't allow it, or the other way round.
    WrongScheme,
    /// A plain OCI registry, which doesn't tell Ollama where a blob is.
    PlainRegistry,
    /// What arrived is not what the manifest names.
    DigestMismatch,
    /// The node can't be reached or broke the connection.
    NodeAway,
    /// No byte moved for a minute.
    Stalled,
    /// The node can't reach the mirror, or the controller can't.
    MirrorUnreachable,
    /// The mirror has no room left on its disk.
    MirrorFull,
    /// It took longer than its timeout while others waited.
    TimedOut,
    /// The Secret with the login can't be used.
    PullSecret,
    /// A pin or a login without a mirror.
    NeedsMirror,
    /// Another object pins another digest.
    Conflict,
    /// Anything else; the message has Ollama's own words.
    Other,
}

/// The first fault one of whose words occurs in Ollama's message is what happened.
const SIGNS: &[(Fault, &[&str])] = &[
    (Fault::NoSpace, &["no space left", "disk quota"]),
    // Before the codes: an address may hold a port that looks like one.
    (Fault::RegistryUnreachable, &["dial tcp"]),
    (Fault::NeedsNewerOllama, &["newer version of ollama", "412"]),
    (Fault::PlainRegistry, &["no location header"]),
    (Fault::DigestMismatch, &["digest mismatch"]),
    (Fault::MirrorFull, &["507"]),
    (
        Fault::WrongScheme,
        &["server gave http response to https client", "insecure protocol", "first record does not look like a tls"],
    ),
    (Fault::RateLimited, &["429", "too many requests"]),
    (Fault::Unauthorized, &["401", "403", "unauthorized", "denied", "authentication", "realm host"]),
    (Fault::NoSuchModel, &["file does not exist", "404", "manifest unknown", "name unknown", "not found"]),
    (
        Fault::RegistryUnreachable,
        &[
            "no such host",
            "connection refused",
            "i/o timeout",
            "connection reset",
            "unexpected eof",
            "500",
            "502",
            "503",
            "504",
        ],
    ),
];

/// What Ollama says when it has no connection to where it pulls from.
const NO_CONNECTION: &[&str] = &[
    "dial tcp",
    "no such host",
    "server gave http response to https client",
    "first record does not look like a tls",
    "x509:",
    "tls: ",
    "tls handshake",
];

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 18] = [
        Self::NoSuchModel,
        Self::RegistryUnreachable,
        Self::Unauthorized,
        Self::RateLimited,
        Self::NoSpace,
        Self::NeedsNewerOllama,
        Self::WrongScheme,
        Self::PlainRegistry,
        Self::DigestMismatch,
        Self::NodeAway,
        Self::Stalled,
        Self::MirrorUnreachable,
        Self::MirrorFull,
        Self::TimedOut,
        Self::PullSecret,
        Self::NeedsMirror,
        Self::Conflict,
        Self::Other,
    ];

    /// What Ollama's error message means.
    pub fn from_message(message: &str) -> Self {
        let message = message.to_ascii_lowercase();
        let says = |sign: &&str| {
            // Status codes must stand alone: digests and sizes are full of digits.
            if sign.bytes().all(|b| b.is_ascii_digit()) {
                message.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == *sign)
            } else {
                message.contains(*sign)
            }
        };
        SIGNS.iter().find(|(_, signs)| signs.iter().any(says)).map_or(Self::Other, |(fault, _)| *fault)
    }

    /// What it means where the node pulls through a mirror that answers the controller: a failed connection is one to
    /// the mirror.
    pub fn through_mirror(message: &str) -> Self {
        let message_low = message.to_ascii_lowercase();
        let unreachable = NO_CONNECTION.iter().any(|sign| message_low.contains(sign));
        if unreachable { Self::MirrorUnreachable } else { Self::from_message(message) }
    }

    /// The CamelCase reason for conditions.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NoSuchModel => "NoSuchModel",
            Self::RegistryUnreachable => "RegistryUnreachable",
            Self::Unauthorized => "Unauthorized",
            Self::RateLimited => "RateLimited",
            Self::NoSpace => "NoSpace",
            Self::NeedsNewerOllama => "NeedsNewerOllama",
            Self::WrongScheme => "WrongScheme",
            Self::PlainRegistry => "PlainRegistry",
            Self::DigestMismatch => "DigestMismatch",
            Self::NodeAway => "NodeAway",
            Self::Stalled => "Stalled",
            Self::MirrorUnreachable => "MirrorUnreachable",
            Self::MirrorFull => "MirrorFull",
            Self::TimedOut => "TimedOut",
            Self::PullSecret => "PullSecretUnusable",
            Self::NeedsMirror => "NeedsMirror",
            Self::Conflict => "PinsConflict",
            Self::Other => "PullFailed",
        }
    }

    /// The fault that [`Self::reason`] names.
    pub fn from_reason(reason: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.reason() == reason)
    }

    /// Whether trying again is in vain until somebody does something about it.
    pub fn needs_somebody(self) -> bool {
        match self {
            Self::NoSuchModel
            | Self::Unauthorized
            | Self::NoSpace
            | Self::NeedsNewerOllama
            | Self::WrongScheme
            | Self::PlainRegistry
            | Self::MirrorFull
            | Self::PullSecret
            | Self::NeedsMirror
            | Self::Conflict => true,
            Self::RegistryUnreachable
            | Self::RateLimited
            | Self::DigestMismatch
            | Self::NodeAway
            | Self::Stalled
            | Self::MirrorUnreachable
            | Self::TimedOut
            | Self::Other => false,
        }
    }

    /// What to do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Self::NoSuchModel => "check the spelling of the model and its tag",
            Self::RegistryUnreachable => "check the registry's host name and that the node can reach it",
            Self::Unauthorized => {
                "the registry wants a login, or another one: name a Secret in spec.pullSecret, or give the mirror one; \
                 without a mirror, use a registry open to the node"
            }
            Self::RateLimited => "the registry limits requests: it is tried again, more slowly",
            Self::NoSpace => "free disk space on the node",
            Self::NeedsNewerOllama => "upgrade Ollama on the node",
            Self::WrongScheme => {
                "set spec.insecure: true for a registry that speaks plain http, and only for such a one"
            }
            Self::PlainRegistry => {
                "Ollama can't pull from a plain OCI registry: put something before it that sends Location"
            }
            Self::DigestMismatch => "the bytes were damaged on the way: it is tried again",
            Self::NodeAway => "the node went away: it goes on when the node is back",
            Self::MirrorUnreachable => "check that the mirror runs and that its address can be reached from the node",
            Self::MirrorFull => "give the mirror a bigger disk, or a cache size that leaves room on it",
            Self::TimedOut => "others waited for the node: it goes on after them",
            Self::PullSecret => {
                "make it a Secret of type kubernetes.io/dockerconfigjson with a user name and password for the registry"
            }
            Self::NeedsMirror => "run a mirror, or pull without digest and pullSecret",
            Self::Conflict => "give both objects the same digest, or delete one of them",
            Self::Stalled => "no byte moved for a minute: it is tried again",
            Self::Other => "see the node's log",
        }
    }
}
