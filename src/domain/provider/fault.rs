//! Why a provider can't be used.

use std::fmt;

/// The reason of a provider's `Ready` condition while it has no key.
pub const NO_KEY: &str = "NoKey";

/// What a check of a provider found. No variant ever holds a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProviderFault {
    /// There is no key: where it was looked for, and what to do.
    NoKey(String),
    /// The key is not accepted; the HTTP status.
    KeyRefused(u16),
    /// There is no credit left.
    PaymentRequired,
    /// No connection: why.
    Unreachable(String),
    /// No answer in time.
    TimedOut,
    /// The certificate is not trusted.
    Tls,
    /// Something else answers there: what was seen.
    NotAnApi(String),
    /// It fails itself; the HTTP status.
    Failing(u16),
}

impl ProviderFault {
    /// A word for programs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoKey(_) => NO_KEY,
            Self::KeyRefused(_) => "KeyRefused",
            Self::PaymentRequired => "PaymentRequired",
            Self::Unreachable(_) => "Unreachable",
            Self::TimedOut => "TimedOut",
            Self::Tls => "CertificateNotTrusted",
            Self::NotAnApi(_) => "NotAnApi",
            Self::Failing(_) => "Failing",
        }
    }

    /// Whether only a change of the object or its key helps.
    pub fn is_lasting(&self) -> bool {
        matches!(self, Self::NoKey(_) | Self::KeyRefused(_) | Self::PaymentRequired)
    }
}

impl fmt::Display for ProviderFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoKey(why) => f.write_str(why),
            Self::KeyRefused(status) => {
                write!(
                    f,
                    "the provider refuses the key (HTTP {status}): check that it is the right one and still valid"
                )
            }
            Self::PaymentRequired => f.write_str("the provider asks for payment (HTTP 402): add credit to the account"),
            Self::Unreachable(why) => write!(f, "no connection: {why}; check spec.url and the network"),
            Self::TimedOut => f.write_str("no answer in time: check spec.url and the network"),
            Self::Tls => f.write_str("its certificate is not trusted: check spec.url, or trust its authority"),
            Self::NotAnApi(seen) => write!(f, "{seen}: check spec.url and spec.type"),
            Self::Failing(status) => write!(f, "the provider itself fails (HTTP {status}); it is asked again"),
        }
    }
}
