//! The keys of providers in Secrets. Nothing of their contents is ever in an error.

use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube_runtime::reflector::ObjectRef;

use super::{Watched, api};
use crate::{
    domain::provider::KeySource,
    ports::{ProviderKey, ProviderKeys},
};

/// Asks the API for each key.
pub struct SecretKeys(pub Client);

impl ProviderKeys for SecretKeys {
    fn key<'a>(
        &'a self,
        namespace: &'a str,
        source: &'a KeySource,
    ) -> BoxFuture<'a, Result<Option<ProviderKey>, String>> {
        async move {
            let KeySource::Secret { name, key } = source else { return Ok(None) };
            let found = api::<Secret>(&self.0, Some(namespace)).get_opt(name).await.map_err(|error| match error {
                kube::Error::Api(status) if status.code == 403 => {
                    format!("Secret {name} may not be read: allow it, or mount it and set provider-keys-dir")
                }
                error => format!("Secret {name} can't be read: {error}"),
            })?;
            key_in(found.as_ref(), name, key).map(Some)
        }
        .boxed()
    }
}

/// Finds keys among watched Secrets: asks nobody.
pub struct WatchedKeys(pub Watched<Secret>);

impl ProviderKeys for WatchedKeys {
    fn key<'a>(
        &'a self,
        namespace: &'a str,
        source: &'a KeySource,
    ) -> BoxFuture<'a, Result<Option<ProviderKey>, String>> {
        async move {
            let KeySource::Secret { name, key } = source else { return Ok(None) };
            let secret = self.0.store().get(&ObjectRef::new(name).within(namespace));
            key_in(secret.as_deref(), name, key).map(Some)
        }
        .boxed()
    }
}

fn key_in(secret: Option<&Secret>, name: &str, key: &str) -> Result<ProviderKey, String> {
    let secret = secret.ok_or_else(|| {
        format!(
            "Secret {name} is not there: create it with `kubectl create secret generic {name} --from-literal={key}=…`"
        )
    })?;
    let found = secret.data.as_ref().and_then(|data| data.get(key));
    let found = found.ok_or_else(|| format!("Secret {name} has no key {key}: add it, or name another one"))?;
    let text = str::from_utf8(&found.0).ok().and_then(ProviderKey::new);
    text.ok_or_else(|| format!("Secret {name}, key {key}: not a key: write it there in one line of plain characters"))
}
