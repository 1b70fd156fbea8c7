//! Asks registries what a model's name stands for. Many who ask at once, or within a moment, share one answer.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    locked,
    refusal::Refusal,
    sha256,
    upstream::{Fetched, Origin, Upstream},
};
use crate::domain::{digest::Digest, manifest::Manifest, pull::Fault};

/// An answer, also a refusal, holds for so long.
const SHARED_FOR: Duration = Duration::from_secs(2);

/// A manifest that a registry has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// As nodes get it.
    pub manifest: Manifest,
    /// Its digest then.
    pub digest: Digest,
    /// Its digest at the registry.
    pub upstream_digest: Digest,
}

type Answer = Result<Arc<Found>, Refusal>;
type Slot = Arc<tokio::sync::Mutex<Option<(Instant, Answer)>>>;

/// Who is asked what.
pub struct Manifests {
    upstream: Arc<Upstream>,
    slots: Mutex<HashMap<(Origin, String), Slot>>,
}

impl Manifests {
    /// Nobody was asked yet.
    pub fn new(upstream: Arc<Upstream>) -> Self {
        Self { upstream, slots: Mutex::default() }
    }

    /// The manifest under a tag or digest.
    ///
    /// # Errors
    /// Why it can't be had, or why it is none of a model.
    pub async fn ask(&self, origin: &Origin, reference: &str) -> Answer {
        let slot = self.slot(origin, reference);
        let mut slot = slot.lock().await;
        if let Some((at, answer)) = &*slot
            && at.elapsed() < SHARED_FOR
        {
            return answer.clone();
        }
        let answer = self.ask_now(origin, reference).await;
        *slot = Some((Instant::now(), answer.clone()));
        answer
    }

    fn slot(&self, origin: &Origin, reference: &str) -> Slot {
        let mut slots = locked(&self.slots);
        // What is being asked is locked, and stays.
        slots.retain(|_, slot| match slot.try_lock() {
            Ok(answer) => {
                Arc::strong_count(slot) > 1 || answer.as_ref().is_some_and(|(at, _)| at.elapsed() < SHARED_FOR)
            }
            Err(_) => true,
        });
        slots.entry((origin.clone(), reference.to_owned())).or_default().clone()
    }

    async fn ask_now(&self, origin: &Origin, reference: &str) -> Answer {
        let fetched = self.upstream.manifest(origin, reference).await?;
        let upstream_digest = sha256(&fetched.bytes);
        let broken =
            |fault, why: String| Refusal::new(fault, format!("the manifest of {} can't be used: {why}", origin.source));
        if let Ok(asked) = reference.parse::<Digest>()
            && asked != upstream_digest
        {
            let why = format!("digest mismatch: asked for {asked}, the registry sent {upstream_digest}");
            return Err(broken(Fault::DigestMismatch, why));
        }
        let manifest = read(&fetched).map_err(|why| broken(Fault::Other, why))?;
        let digest = sha256(manifest.encode().as_bytes());
        Ok(Arc::new(Found { manifest, digest, upstream_digest }))
    }
}

fn read(fetched: &Fetched) -> Result<Manifest, String> {
    if ["manifest.list.v2", "image.index.v1"].iter().any(|list| fetched.media_type.contains(list)) {
        return Err("it is a list of manifests for several platforms, not an Ollama model".into());
    }
    parse(&fetched.bytes)
}

/// A manifest of these bytes.
///
/// # Errors
/// A sentence about why they are none that a node could use.
pub fn parse(bytes: &[u8]) -> Result<Manifest, String> {
    let manifest = serde_json::from_slice::<Manifest>(bytes).map_err(|error| format!("it is no manifest: {error}"))?;
    manifest.validate()
}
