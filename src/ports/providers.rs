//! The seams to providers: where their keys are, and whether they answer.

use std::fmt;

use futures::future::BoxFuture;

use crate::domain::provider::{Endpoint, KeySource, ProviderFault};

/// A provider's key. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct ProviderKey(String);

impl ProviderKey {
    /// From the text that was found, without the white space around it, which editors and `echo` leave there. `None` when
    /// nothing is left, or what no HTTP header can hold.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Self(text.to_owned()))
    }

    /// The key itself, for the header of a request to its provider and nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// A text in which the key, if it is there, can't be read.
    pub fn hide(&self, text: &str) -> String {
        text.replace(&self.0, "[key]")
    }
}

impl fmt::Debug for ProviderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProviderKey")
    }
}

/// Finds the keys of providers.
pub trait ProviderKeys: Send + Sync {
    /// The key from this source for an object of this namespace; `None` where none is asked for. The error says where it was
    /// looked for and what to do.
    fn key<'a>(
        &'a self,
        namespace: &'a str,
        source: &'a KeySource,
    ) -> BoxFuture<'a, Result<Option<ProviderKey>, String>>;
}

/// What a provider that answers says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProviderListing {
    /// Its models by name; `None` when it doesn't list them.
    pub models: Option<Vec<String>>,
}

/// How the controller looks after a provider.
pub trait ProviderApi: Send + Sync {
    /// Asks the provider whether it answers and takes the key.
    fn check<'a>(&'a self, endpoint: &'a Endpoint) -> BoxFuture<'a, Result<ProviderListing, ProviderFault>>;
}
