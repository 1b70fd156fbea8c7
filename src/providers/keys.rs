//! Where the keys of providers are: in mounted files, or in the environment.

use std::{io::ErrorKind, path::PathBuf, sync::Arc};

use futures::{FutureExt, future::BoxFuture};

use crate::{
    domain::provider::KeySource,
    ports::{ProviderKey, ProviderKeys},
};

/// Keys of Secrets as files `DIR/NAMESPACE/SECRET/KEY`, as a pod has them mounted. They are read anew for each request: a
/// key that changes needs no restart.
pub struct FileKeys {
    /// The folder.
    pub dir: PathBuf,
}

impl FileKeys {
    async fn read(&self, namespace: &str, name: &str, key: &str) -> Result<ProviderKey, String> {
        let place = [namespace, name, key];
        // What the API server lets through is no path that leads elsewhere; this doesn't rely on it.
        if place.iter().any(|part| part.contains('/') || part.starts_with("..")) {
            return Err(format!("Secret {name}, key {key}: not a name that a Secret can have"));
        }
        let path = self.dir.join(namespace).join(name).join(key);
        match tokio::fs::read_to_string(&path).await {
            Ok(text) => ProviderKey::new(&text)
                .ok_or_else(|| format!("{} holds no key: write it there in one line", path.display())),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let advice = "create the Secret, and mount it there (the chart's provider.secrets)";
                Err(format!("Secret {name} has no key {key} at {}: {advice}", path.display()))
            }
            Err(error) => Err(format!("{} can't be read: {}", path.display(), error.kind())),
        }
    }
}

impl ProviderKeys for FileKeys {
    fn key<'a>(
        &'a self,
        namespace: &'a str,
        source: &'a KeySource,
    ) -> BoxFuture<'a, Result<Option<ProviderKey>, String>> {
        async move {
            match source {
                KeySource::Secret { name, key } => self.read(namespace, name, key).await.map(Some),
                _ => Ok(None),
            }
        }
        .boxed()
    }
}

/// No Secrets are within reach.
pub struct NoSecrets;

impl ProviderKeys for NoSecrets {
    fn key<'a>(&'a self, _: &'a str, source: &'a KeySource) -> BoxFuture<'a, Result<Option<ProviderKey>, String>> {
        let missing = matches!(source, KeySource::Secret { .. });
        let answer = match missing {
            true => Err(format!("{source}: this process has no keys of providers mounted: set provider-keys-dir")),
            false => Ok(None),
        };
        async move { answer }.boxed()
    }
}

/// Keys of Secrets as `secrets` finds them, and those of the environment.
pub struct Keys {
    /// Finds those in Secrets.
    pub secrets: Arc<dyn ProviderKeys>,
}

impl ProviderKeys for Keys {
    fn key<'a>(
        &'a self,
        namespace: &'a str,
        source: &'a KeySource,
    ) -> BoxFuture<'a, Result<Option<ProviderKey>, String>> {
        match source {
            KeySource::None => async { Ok(None) }.boxed(),
            KeySource::Secret { .. } => self.secrets.key(namespace, source),
            KeySource::Environment(variable) => {
                let advice = format!("set {variable} where Drover runs, or name a Secret in spec.apiKeySecretRef");
                let key = in_environment(variable).map(Some).ok_or_else(|| format!("no key: {advice}"));
                async move { key }.boxed()
            }
        }
    }
}

/// The key in a variable of this process.
pub fn in_environment(variable: &str) -> Option<ProviderKey> {
    std::env::var(variable).ok().as_deref().and_then(ProviderKey::new)
}
