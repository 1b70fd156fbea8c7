//! What can be pulled: the mirror's models, what its registries list, and what its settings name.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt, stream};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::time::timeout;

use super::{Entry, Listing, Place};
use crate::{
    domain::{pull::Fault, upstream::Source},
    mirror::{
        Mirror, Refusal,
        models::key,
        publish::shown,
        upstream::{Access, Origin},
    },
};

/// A registry may take so long for its lists.
const WITHIN: Duration = Duration::from_secs(15);
/// Of one registry no more is listed.
const MOST_REPOSITORIES: usize = 1_000;
const MOST_MODELS: usize = 2_000;
const MOST_PAGES: usize = 20;
const PAGE: usize = 200;
/// So many repositories are asked for their tags at once.
const AT_ONCE: usize = 8;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Page {
    repositories: Option<Vec<String>>,
    tags: Option<Vec<String>>,
}

impl Mirror {
    /// Every model that can be pulled, each name once: where it is here, that is said.
    pub(super) async fn available(&self) -> Listing {
        let mut items: BTreeMap<String, Entry> = BTreeMap::new();
        let mut warnings = Vec::new();
        let listed = stream::iter(self.0.upstreams.all()).map(|root| async move {
            let result = timeout(WITHIN, self.listed(&root)).await;
            (root, result)
        });
        let listed: Vec<_> = listed.buffered(AT_ONCE).collect().await;
        for (root, result) in listed {
            match result {
                Ok(Ok((found, is_cut))) => {
                    items.extend(found.into_iter().map(|entry| (entry.name.clone(), entry)));
                    if is_cut {
                        warnings.push(format!("{}: has more models than are listed", root.host));
                    }
                }
                Ok(Err(refusal)) if refusal.fault == Fault::NoSuchModel => {
                    warnings.push(format!("{}: does not list its models", root.host));
                }
                Ok(Err(refusal)) => warnings.push(format!("{}: can't be listed: {refusal}", root.host)),
                Err(_) => warnings.push(format!("{}: can't be listed: no answer within {WITHIN:?}", root.host)),
            }
        }
        let offered = self.0.offer.iter().map(|name| Entry {
            name: shown(name),
            source: Place::Offered,
            registry: None,
            digest: None,
            size_bytes: None,
            here_bytes: None,
            used: None,
        });
        for entry in offered {
            items.entry(entry.name.clone()).or_insert(entry);
        }
        for entry in self.here() {
            let registry = items.get(&entry.name).and_then(|entry| entry.registry.clone());
            items.insert(entry.name.clone(), Entry { registry, ..entry });
        }
        Listing { items: items.into_values().collect(), warnings }
    }

    /// What a registry lists under its root, and whether that is not all.
    async fn listed(&self, root: &Source) -> Result<(Vec<Entry>, bool), Refusal> {
        let (repositories, mut is_cut) = self.pages(root, "_catalog", MOST_REPOSITORIES).await?;
        let sources: Vec<(String, Source)> =
            repositories.iter().filter_map(|repository| self.0.upstreams.named(root, repository)).collect();
        let tags = stream::iter(sources).map(|(name, source)| async move {
            let tags = self.pages(&source, &format!("{}/tags/list", source.repository), MOST_MODELS).await;
            (name, source, tags)
        });
        let mut tags = tags.buffered(AT_ONCE);
        let mut found = Vec::new();
        while let Some((name, source, tags)) = tags.next().await {
            let (tags, cut) = match tags {
                Err(refusal) if refusal.fault == Fault::NoSuchModel => continue,
                tags => tags?,
            };
            is_cut |= cut || found.len() + tags.len() > MOST_MODELS;
            let names = tags.into_iter().filter_map(|tag| format!("{name}:{tag}").parse().ok());
            let left = MOST_MODELS - found.len();
            found.extend(names.take(left).map(|name| self.of_registry(&name, &source)));
        }
        Ok((found, is_cut))
    }

    fn of_registry(&self, name: &crate::domain::model_name::ModelName, source: &Source) -> Entry {
        let known = self.models().get(&key(name));
        Entry {
            name: shown(name),
            source: Place::Registry,
            registry: Some(source.host.clone()),
            digest: known.as_ref().map(|model| model.digest.to_string()),
            size_bytes: known.as_ref().map(|model| model.manifest.size()),
            here_bytes: None,
            used: None,
        }
    }

    /// The entries of a list that comes in pages.
    async fn pages(&self, source: &Source, path: &str, most: usize) -> Result<(Vec<String>, bool), Refusal> {
        let origin = Origin { source: source.clone(), access: Access::Configured };
        let (mut entries, mut last) = (Vec::new(), String::new());
        for _ in 0..MOST_PAGES {
            let url = format!("{}/v2/{path}?n={PAGE}{last}", source.url);
            let (bytes, has_more) = self.0.upstream.list(&origin, &url).await?;
            let page: Page = read(&bytes, source)?;
            let more = page.repositories.or(page.tags).unwrap_or_default();
            let Some(end) = more.last() else { return Ok((entries, false)) };
            last = format!("&last={end}");
            entries.extend(more);
            if !has_more || entries.len() > most {
                let is_cut = entries.len() > most;
                entries.truncate(most);
                return Ok((entries, is_cut));
            }
        }
        Ok((entries, true))
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8], source: &Source) -> Result<T, Refusal> {
    let fault = |error| Refusal::new(Fault::Other, format!("{}: its list is not one: {error}", source.host));
    serde_json::from_slice(bytes).map_err(fault)
}
