//! Reads the logins that users keep in Secrets. Nothing of their contents is ever in an error.

use std::collections::HashMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use serde::Deserialize;

use crate::ports::Login;

const TYPE: &str = "kubernetes.io/dockerconfigjson";
const KEY: &str = ".dockerconfigjson";

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    auths: HashMap<String, Entry>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
}

/// The login for a registry in a Secret as `kubectl create secret docker-registry` makes it. Without a host: the only
/// one that is in it.
///
/// # Errors
/// What is wrong with the Secret.
pub async fn registry_login(client: &Client, namespace: &str, name: &str, host: Option<&str>) -> Result<Login, String> {
    let secret = Api::<Secret>::namespaced(client.clone(), namespace).get(name).await.map_err(|error| match error {
        kube::Error::Api(status) if status.code == 404 => format!("Secret {name} is not there"),
        kube::Error::Api(status) if status.code == 403 => {
            format!("Secret {name} may not be read by the controller: give its account the right to get secrets")
        }
        error => format!("Secret {name} can't be read: {error}"),
    })?;
    if secret.type_.as_deref() != Some(TYPE) {
        return Err(format!("Secret {name} has the type {}, not {TYPE}", secret.type_.unwrap_or_default()));
    }
    let text = secret.data.and_then(|mut data| data.remove(KEY)).unwrap_or_default();
    let config: Config = serde_json::from_slice(&text.0)
        .map_err(|error| format!("Secret {name}: its {KEY} can't be read (line {})", error.line()))?;
    let entry = match host {
        Some(host) => config.auths.into_iter().find(|(key, _)| plain(key).eq_ignore_ascii_case(host)),
        None if config.auths.len() == 1 => config.auths.into_iter().next(),
        None => None,
    };
    let which = host.map_or_else(|| "exactly one registry".into(), |host| format!("registry {host}"));
    let (_, entry) = entry.ok_or_else(|| format!("Secret {name} has no login for {which}"))?;
    entry.login().ok_or_else(|| format!("Secret {name} has no user name and password for {which}"))
}

impl Entry {
    fn login(self) -> Option<Login> {
        if !self.username.is_empty() {
            return Some(Login { username: self.username, password: self.password });
        }
        let text = String::from_utf8(BASE64_STANDARD.decode(self.auth.trim()).ok()?).ok()?;
        let (username, password) = text.split_once(':')?;
        Some(Login { username: username.into(), password: password.into() })
    }
}

/// `https://index.docker.io/v1/` is written for `index.docker.io`.
fn plain(host: &str) -> &str {
    let host = host.trim_start_matches("https://").trim_start_matches("http://");
    host.split('/').next().unwrap_or(host)
}
