//! The mirror: nodes pull from it, it fetches from any OCI registry, each byte once.
//!
//! A grant gives an unguessable token to one manifest; a node pulls `MIRROR/TOKEN/MODEL:TAG`. Manifests are handed out
//! as Ollama encodes them, so that a node's digest is known before it has the model. Blobs are kept by digest.

mod bandwidth;
pub mod blobs;
pub mod client;
mod grants;
mod manifests;
mod meters;
pub mod models;
mod options;
pub mod publish;
mod push;
mod refusal;
mod resolve;
mod server;
mod stored;
pub mod tools;
mod upstream;

use std::{
    fs, io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{Router, serve::ListenerExt};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use grants::is_token;
pub use manifests::parse;
pub use meters::MirrorStats;
pub use options::{Options, key};
pub use refusal::Refusal;
pub use stored::{Stored, stored};

use crate::{
    domain::{digest::Digest, model_name::ModelName, upstream::Upstreams},
    supervisor::Supervisor,
    telemetry::Metrics,
};
use bandwidth::Bandwidth;
use blobs::Blobs;
use grants::Grants;
use manifests::Manifests;
use meters::Meters;
use models::{Models, Provenance};
use push::{Pushers, Uploads};
use upstream::Upstream;

/// The folder of the models' manifests, in that of a mirror.
pub const MODELS: &str = "models";
/// The folder of their bytes.
pub const BLOBS: &str = "blobs";
const TIDY_EVERY: Duration = Duration::from_secs(600);
/// What the name of a model stood for is kept so long after its last use, even if none of its bytes are left.
const FORGET_AFTER: Duration = Duration::from_secs(24 * 3600);

/// A running mirror; cheap to clone.
#[derive(Clone)]
pub struct Mirror(Arc<Shared>);

struct Shared {
    upstreams: Upstreams,
    grants: Grants,
    upstream: Arc<Upstream>,
    manifests: Manifests,
    models: Models,
    blobs: Blobs,
    meters: Meters,
    uploads: Uploads,
    pushers: Pushers,
    offer: Vec<ModelName>,
    open: bool,
    key: Option<String>,
    stop: CancellationToken,
}

impl Mirror {
    /// A mirror over the folder of its options.
    ///
    /// # Errors
    /// When the folder can't be used.
    pub fn new(options: Options, supervisor: &Supervisor, metrics: &Metrics) -> Result<Self, String> {
        let Options {
            data_dir,
            cache_size,
            bandwidth,
            open,
            upstreams,
            logins,
            roots,
            key,
            push_keys,
            is_local,
            offer,
        } = options;
        let meters = Meters::registered(metrics);
        let upstream = Upstream::new(logins, roots, meters.clone()).map_err(|error| error.to_string())?;
        let upstream = Arc::new(upstream);
        let fault = |error: io::Error| format!("data-dir {}: {error}", data_dir.display());
        fs::create_dir_all(&data_dir).map_err(fault)?;
        let grants = Grants::open(&data_dir.join("grants"), &upstreams).map_err(fault)?;
        let models = Models::open(&data_dir.join(MODELS)).map_err(fault)?;
        let bandwidth = Bandwidth::new(bandwidth.0);
        let (jobs, dir) = (supervisor.jobs(), data_dir.join(BLOBS));
        let blobs = Blobs::open(&dir, cache_size, upstream.clone(), bandwidth, jobs, meters.clone()).map_err(fault)?;
        let uploads = Uploads::open(blobs.staging()).map_err(fault)?;
        let pushers = Pushers::new(push_keys, is_local);
        let manifests = Manifests::new(upstream.clone());
        let stop = supervisor.stop_token();
        let shared = Arc::new(Shared {
            upstreams,
            grants,
            manifests,
            models,
            blobs,
            meters,
            uploads,
            pushers,
            upstream,
            offer,
            open,
            key,
            stop,
        });
        let pinned = Arc::downgrade(&shared);
        shared.blobs.pin(move || pinned.upgrade().map(|shared| shared.pinned()).unwrap_or_default());
        Ok(Self(shared))
    }

    /// The blobs.
    pub fn blobs(&self) -> &Blobs {
        &self.0.blobs
    }

    /// The models by name.
    pub fn models(&self) -> &Models {
        &self.0.models
    }

    /// What was counted since the start.
    pub fn stats(&self) -> MirrorStats {
        self.0.meters.stats()
    }

    /// Everything that a mirror answers.
    pub fn router(&self) -> Router {
        server::router(self.clone())
    }

    /// Whether this is the mirror's key, or it has none.
    fn fits_key(&self, given: &str) -> bool {
        // Digests are compared, so that the time it takes says nothing about the key.
        self.0.key.as_ref().is_none_or(|key| sha256(key.as_bytes()) == sha256(given.as_bytes()))
    }

    async fn tidy(self, stop: CancellationToken) -> io::Result<()> {
        while stop.run_until_cancelled(tokio::time::sleep(TIDY_EVERY)).await.is_some() {
            self.0.grants.expire().await;
            self.0.uploads.expire().await;
            self.0.forget_models().await;
        }
        Ok(())
    }
}

impl Shared {
    /// Forgets what names stood for long ago, if nothing of it is left.
    async fn forget_models(&self) {
        let now = Timestamp::now();
        for model in self.models.list() {
            let blobs = model.manifest.blobs().unwrap_or_default();
            let is_gone = blobs.keys().all(|digest| self.blobs.progress(digest).is_none());
            let is_old = now.duration_since(model.used).unsigned_abs() > FORGET_AFTER;
            if model.provenance == Provenance::Cached && is_gone && is_old {
                let removed = self.models.remove(&model.name).await;
                removed.unwrap_or_else(|error| tracing::warn!(%error, "an old model can't be removed"));
            }
        }
    }

    fn pinned(&self) -> std::collections::HashSet<Digest> {
        let mut pinned = self.grants.in_use();
        pinned.extend(self.uploads.held());
        for model in self.models.list().iter().filter(|model| model.provenance == Provenance::Own) {
            pinned.extend(model.manifest.blobs().unwrap_or_default().into_keys());
        }
        pinned
    }
}

/// Starts a mirror that answers on `listener`, and returns it.
///
/// # Errors
/// When its folder can't be used, or when strangers could reach it without a key.
pub fn start(
    supervisor: &mut Supervisor,
    listener: TcpListener,
    options: Options,
    metrics: &Metrics,
) -> Result<Mirror, String> {
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    refuse_strangers(address, options.key.is_some())?;
    let options = Options { is_local: address.ip().is_loopback(), ..options };
    let mirror = Mirror::new(options, supervisor, metrics)?;
    let stop = supervisor.stop_token();
    supervisor.service("mirror", serve(listener, mirror.router(), stop.clone()));
    supervisor.service("mirror's tidying", mirror.clone().tidy(stop));
    tracing::info!(%address, "letting nodes pull");
    Ok(mirror)
}

/// Whoever can grant can have every model that the mirror's logins open.
fn refuse_strangers(address: SocketAddr, has_key: bool) -> Result<(), String> {
    match has_key || address.ip().is_loopback() {
        true => Ok(()),
        false => Err(format!(
            "mirror-listen {address}: others can reach this address, so grants need a key: put a random one into a \
             file that only the mirror and the controller can read, and name it in mirror-key-file"
        )),
    }
}

async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> io::Result<()> {
    let listener = listener.tap_io(|connection| {
        // Without this, the end of an answer waits for the node's acknowledgement of what came before.
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set");
        }
    });
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

/// A lock whose holders never leave things half done, so that one that panicked does no harm.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A name that nobody guesses: 32 hexadecimal digits.
fn random() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// The digest of some bytes.
pub fn sha256(bytes: &[u8]) -> Digest {
    Digest::from_sha256(&Sha256::digest(bytes))
}
