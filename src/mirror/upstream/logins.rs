//! Logins by registry, from a `config.json` as `docker login` writes it.

use std::{collections::HashMap, fmt};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;

use crate::ports::Login;

/// Who the mirror is at each registry.
#[derive(Clone, Default)]
pub struct Logins(HashMap<String, Credential>);

/// A way to prove who one is. Never printed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Credential {
    /// User name and password.
    Password {
        /// User name.
        username: String,
        /// Password.
        password: String,
    },
    /// A token that gives tokens.
    Identity(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential")
    }
}

impl From<Login> for Credential {
    fn from(login: Login) -> Self {
        Self::Password { username: login.username, password: login.password }
    }
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: HashMap<String, Entry>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    #[serde(rename = "identitytoken")]
    identity_token: String,
}

impl Logins {
    /// The logins in the text of a `config.json`.
    ///
    /// # Errors
    /// What is wrong with it, without anything secret.
    pub fn read(text: &str) -> Result<Self, String> {
        let file: File = serde_json::from_str(text)
            .map_err(|error| format!("it is not a docker config.json (line {})", error.line()))?;
        let logins = file.auths.into_iter().map(|(host, entry)| {
            let credential = entry.credential().ok_or_else(|| {
                format!("the entry of {host} has neither auth, username and password, nor identitytoken")
            })?;
            Ok((plain(&host), credential))
        });
        logins.collect::<Result<_, String>>().map(Self)
    }

    /// The login at a host.
    pub(super) fn of(&self, host: &str) -> Option<Credential> {
        self.0.get(&plain(host)).cloned()
    }
}

impl Entry {
    fn credential(self) -> Option<Credential> {
        if !self.identity_token.is_empty() {
            return Some(Credential::Identity(self.identity_token));
        }
        if !self.username.is_empty() {
            return Some(Credential::Password { username: self.username, password: self.password });
        }
        let text = String::from_utf8(BASE64_STANDARD.decode(self.auth.trim()).ok()?).ok()?;
        let (username, password) = text.split_once(':')?;
        let password = password.trim_end_matches('\0');
        Some(Credential::Password { username: username.into(), password: password.into() })
    }
}

/// `https://index.docker.io/v1/` is written for `index.docker.io`.
fn plain(host: &str) -> String {
    let host = host.trim_start_matches("https://").trim_start_matches("http://");
    host.split('/').next().unwrap_or(host).to_ascii_lowercase()
}
