//! What a model's name stands for: its own models first, then registries, then what the mirror still has of one that
//! can't be reached.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    Mirror, Shared,
    grants::Grant,
    manifests::Found,
    models::{self, Model, Provenance},
    refusal::Refusal,
    upstream::{Access, Origin},
};
use crate::{
    domain::{digest::Digest, model_name::ModelName, pull::Fault},
    ports::{GrantedModel, PullGrant},
};

/// A manifest, where its bytes come from and why it may be outdated.
struct Resolved {
    found: Found,
    origin: Option<Arc<Origin>>,
    stale: Option<String>,
}

impl Mirror {
    /// Gives a token its meaning, which is asked of the registry now.
    ///
    /// # Errors
    /// Why the model can't be had.
    pub async fn grant(&self, token: &str, grant: PullGrant) -> Result<GrantedModel, Refusal> {
        let PullGrant { model, insecure, login, digest } = grant;
        let access = login.map_or(Access::Configured, Access::Login);
        let pin = digest.map(|digest| digest.parse::<Digest>()).transpose().map_err(unusable)?;
        let resolved = self.0.resolve(&model, insecure, access, pin.as_ref()).await?;
        let Resolved { found, origin, stale } = resolved;
        let granted = GrantedModel {
            digest: found.digest.to_string(),
            upstream_digest: found.upstream_digest.to_string(),
            size_bytes: found.manifest.size(),
            stale,
        };
        let grant = Grant::new(model, found, origin, Timestamp::now()).map_err(unusable)?;
        self.0.refuse_too_big(&grant)?;
        self.0.grants.put(token, grant).await.map_err(|error| {
            Refusal::new(Fault::MirrorFull, format!("the mirror can't keep the grant in its data-dir: {error}"))
        })?;
        Ok(granted)
    }

    /// Lets pull a public model without a token.
    pub(super) async fn open(&self, name: &ModelName) -> Result<Arc<Grant>, Refusal> {
        let model = format!("{}/{}:{}", name.namespace, name.model, name.tag);
        let Resolved { found, origin, .. } = self.0.resolve(&model, false, Access::Anonymous, None).await?;
        let grant = Grant::new(model, found, origin, Timestamp::now()).map_err(unusable)?;
        self.0.refuse_too_big(&grant)?;
        Ok(self.0.grants.put_open(grant))
    }
}

impl Shared {
    async fn resolve(
        &self,
        model: &str,
        insecure: bool,
        access: Access,
        pin: Option<&Digest>,
    ) -> Result<Resolved, Refusal> {
        let name: ModelName = model.parse().map_err(unusable)?;
        if let Some(own) = self.models.own(&name).filter(|own| fits(&found_of(own), pin)) {
            return Ok(Resolved { found: found_of(&own), origin: None, stale: None });
        }
        let source = self.upstreams.source(model, insecure).map_err(unusable)?;
        let origin = Arc::new(Origin { source, access });
        match self.ask(&origin, &name, pin).await {
            Ok(found) => {
                self.remember(&name, &origin, &found, pin.is_some()).await;
                Ok(Resolved { found, origin: Some(origin), stale: None })
            }
            Err(refusal) => self.kept(&name, &origin, pin, refusal),
        }
    }

    /// What the registry says; with a pin, what it has under that digest.
    async fn ask(&self, origin: &Origin, name: &ModelName, pin: Option<&Digest>) -> Result<Found, Refusal> {
        let found = self.manifests.ask(origin, &name.tag).await;
        let Some(pin) = pin else { return found.map(|found| (*found).clone()) };
        let now = match &found {
            Ok(found) if fits(found, Some(pin)) => return Ok((**found).clone()),
            Ok(found) => found.digest.to_string(),
            Err(refusal) if refusal.fault == Fault::NoSuchModel => "nothing".into(),
            Err(refusal) => return Err(refusal.clone()),
        };
        // A node's digest isn't known to the registry; what the registry calls it may be known here.
        let known = self.models.get(&models::key(name)).filter(|model| fits(&found_of(model), Some(pin)));
        let upstream = known.map_or_else(|| pin.to_string(), |model| model.upstream_digest.to_string());
        match self.manifests.ask(origin, &upstream).await {
            Ok(found) if fits(&found, Some(pin)) => Ok((*found).clone()),
            Err(refusal) if refusal.fault != Fault::NoSuchModel => Err(refusal),
            _ => {
                let message = format!(
                    "{} is not {pin} any more (digest mismatch): the tag stands for {now}, and the registry has \
                     nothing under the digest asked for",
                    origin.source
                );
                Err(Refusal::new(Fault::DigestMismatch, message))
            }
        }
    }

    /// Notes what a name stands for.
    async fn remember(&self, name: &ModelName, origin: &Origin, found: &Found, by_digest: bool) {
        let key = models::key(name);
        let known = self.models.get(&key);
        // What was asked for by a pin needn't be what the tag stands for now; and own models are never replaced.
        let other = known.is_some_and(|known| known.provenance == Provenance::Own || known.digest != found.digest);
        if other && by_digest {
            return;
        }
        let model = Model {
            name: key,
            manifest: found.manifest.clone(),
            digest: found.digest.clone(),
            upstream_digest: found.upstream_digest.clone(),
            provenance: Provenance::Cached,
            is_private: matches!(origin.access, Access::Login(_)),
            used: Timestamp::now(),
        };
        if let Err(error) = self.models.put(model).await {
            tracing::warn!(%error, "what a model stands for can't be noted");
        }
    }

    /// What is here, whole, of a model whose registry can't be asked.
    fn kept(
        &self,
        name: &ModelName,
        origin: &Arc<Origin>,
        pin: Option<&Digest>,
        refusal: Refusal,
    ) -> Result<Resolved, Refusal> {
        if !matches!(refusal.fault, Fault::RegistryUnreachable | Fault::RateLimited) {
            return Err(refusal);
        }
        let known = self.models.get(&models::key(name)).filter(|model| !model.is_private);
        let known = known.filter(|model| origin.access != Access::Anonymous || model.provenance == Provenance::Cached);
        let found = known.map(|model| found_of(&model)).filter(|found| fits(found, pin));
        let is_whole = |found: &Found| {
            let blobs = found.manifest.blobs().unwrap_or_default();
            blobs.iter().all(|(digest, size)| *size == 0 || self.blobs.complete(digest).is_some())
        };
        match found.filter(is_whole) {
            Some(found) => Ok(Resolved { found, origin: Some(origin.clone()), stale: Some(refusal.message) }),
            None => Err(refusal),
        }
    }

    /// Whether the registry gives the first blob that is missing here, and none came damaged just now. A node learns it
    /// with the manifest: what goes wrong with a blob itself, Ollama shows to people as a number at best.
    pub(super) async fn look(&self, grant: &Grant) -> Result<(), Refusal> {
        let manifest = &grant.found.manifest;
        let digests = manifest.layers.iter().chain([&manifest.config]).filter_map(|layer| layer.digest.parse().ok());
        let missing: Vec<Digest> = digests.filter(|digest| self.blobs.progress(digest).is_none()).collect();
        if let Some(damage) = missing.iter().find_map(|digest| self.blobs.damage(digest)) {
            return Err(damage);
        }
        match (missing.first(), &grant.origin) {
            (Some(digest), Some(origin)) => self.upstream.look(origin, digest).await,
            _ => Ok(()),
        }
    }

    fn refuse_too_big(&self, grant: &Grant) -> Result<(), Refusal> {
        let (size, limit) = (grant.blobs.values().sum::<u64>(), self.blobs.limit());
        match size <= limit {
            true => Ok(()),
            false => Err(Refusal::new(
                Fault::MirrorFull,
                format!(
                    "the mirror is too small for {}: it has {size} bytes, mirror-cache-size is {limit}",
                    grant.model
                ),
            )),
        }
    }
}

fn found_of(model: &Model) -> Found {
    Found {
        manifest: model.manifest.clone(),
        digest: model.digest.clone(),
        upstream_digest: model.upstream_digest.clone(),
    }
}

fn fits(found: &Found, pin: Option<&Digest>) -> bool {
    pin.is_none_or(|pin| *pin == found.digest || *pin == found.upstream_digest)
}

fn unusable(why: String) -> Refusal {
    Refusal::new(Fault::Other, why)
}
