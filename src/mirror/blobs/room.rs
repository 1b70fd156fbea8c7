//! Room for blobs: what goes when there is too little, and how a blob goes.

use std::sync::Arc;

use tracing::{debug, info};

use super::{Store, blob::Blob, not_here};
use crate::{
    domain::pull::Fault,
    mirror::{locked, refusal::Refusal},
};

impl Store {
    /// Evicts what was not used for longest until `size` more bytes fit.
    pub(super) async fn make_room(&self, size: u64) -> Result<(), Refusal> {
        let limit = self.limit;
        let full = |why: &str| {
            let message = format!(
                "the mirror is full: {size} bytes are needed of the {limit} that mirror-cache-size allows, {why}"
            );
            Err(Refusal::new(Fault::MirrorFull, message))
        };
        if size > limit {
            return full("which is too little for this model");
        }
        while self.reserved() > limit - size {
            let Some(oldest) = self.oldest() else {
                return full("and all else there is in use: make it bigger, or try again later");
            };
            self.evict(&oldest).await?;
        }
        Ok(())
    }

    /// Evicts one blob; whether there was one to evict.
    pub(super) async fn drop_oldest(&self) -> bool {
        let _changing = self.changing.lock().await;
        match self.oldest() {
            Some(oldest) => self.evict(&oldest).await.is_ok(),
            None => false,
        }
    }

    async fn evict(&self, blob: &Arc<Blob>) -> Result<(), Refusal> {
        let why = not_here(&blob.digest);
        if !blob.retire(why.clone()) {
            return Ok(()); // a reader came in between: another one goes
        }
        let bytes = self.discard(blob, why).await?;
        self.meters.evicted();
        info!(blob = %blob.digest, bytes, "evicted to make room");
        Ok(())
    }

    /// Bytes of all blobs once each is complete.
    fn reserved(&self) -> u64 {
        locked(&self.blobs).values().map(|blob| blob.size).sum()
    }

    /// What was not used for longest and may go.
    fn oldest(&self) -> Option<Arc<Blob>> {
        let pinned = self.pins.get().map(|pins| pins()).unwrap_or_default();
        let blobs = locked(&self.blobs);
        let idle = blobs.values().filter(|blob| !pinned.contains(&blob.digest) && !blob.is_busy());
        idle.min_by_key(|blob| blob.used()).cloned()
    }

    /// Drops a blob that can't be completed, and tells its readers why.
    pub(super) async fn forget(&self, blob: &Arc<Blob>, why: Refusal) {
        let _changing = self.changing.lock().await;
        if let Err(error) = self.discard(blob, why).await {
            debug!(blob = %blob.digest, "{error}");
        }
    }

    /// Removes a blob with its files; how many bytes it had.
    pub(super) async fn discard(&self, blob: &Arc<Blob>, why: Refusal) -> Result<u64, Refusal> {
        let bytes = blob.bytes();
        let is_current = |known: Arc<Blob>| Arc::ptr_eq(&known, blob);
        if self.known(&blob.digest).is_some_and(is_current) {
            locked(&self.blobs).remove(&blob.digest);
            let files = blob.files.clone();
            self.work(move || files.remove()).await?;
        }
        blob.gone(why);
        self.measure();
        Ok(bytes)
    }

    pub(super) fn measure(&self) {
        let blobs: Vec<Arc<Blob>> = locked(&self.blobs).values().cloned().collect();
        self.meters.cached(blobs.iter().map(|blob| blob.bytes()).sum());
    }
}
