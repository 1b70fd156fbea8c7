//! Who may pull what: tokens, each of which stands for one manifest. They outlive a restart, without their logins.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    blobs::write_whole,
    locked,
    manifests::Found,
    sha256,
    upstream::{Access, Origin},
};
use crate::{
    domain::{digest::Digest, manifest::Manifest, model_name::ModelName, upstream::Upstreams},
    supervisor::blocking,
};

/// A grant that nobody used for so long goes.
const UNUSED_FOR: Duration = Duration::from_secs(24 * 3600);
/// Uses within so long of the last one are not noted on disk.
const NOTE_USE_EVERY: Duration = Duration::from_secs(3600);
/// The blobs of a grant that was used so lately stay.
const IN_USE: Duration = Duration::from_secs(60);
const LONGEST_TOKEN: usize = 80;

/// What a token stands for.
pub struct Grant {
    /// The model as people write it.
    pub model: String,
    /// The same, read.
    pub name: ModelName,
    /// What nodes get.
    pub found: Found,
    /// Every blob with its size in bytes.
    pub blobs: BTreeMap<Digest, u64>,
    /// Where missing bytes come from; none for the mirror's own models.
    pub origin: Option<Arc<Origin>>,
    used: Mutex<Timestamp>,
}

/// A grant on disk.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    token: String,
    model: String,
    insecure: bool,
    is_own: bool,
    needs_login: bool,
    manifest: Manifest,
    upstream_digest: Digest,
    used: Timestamp,
}

/// All grants.
pub struct Grants {
    dir: PathBuf,
    all: Mutex<HashMap<String, Arc<Grant>>>,
    /// What was given without a token, by name.
    open: Mutex<HashMap<String, Arc<Grant>>>,
}

/// Whether a text can be a token.
pub fn is_token(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    (1..=LONGEST_TOKEN).contains(&text.len()) && text.bytes().all(fits)
}

impl Grant {
    /// Lets pull what was found.
    ///
    /// # Errors
    /// When the name or the manifest are none.
    pub fn new(model: String, found: Found, origin: Option<Arc<Origin>>, now: Timestamp) -> Result<Self, String> {
        let (name, blobs) = (model.parse()?, found.manifest.blobs()?);
        Ok(Self { model, name, found, blobs, origin, used: Mutex::new(now) })
    }

    fn use_now(&self, now: Timestamp) -> Timestamp {
        std::mem::replace(&mut *locked(&self.used), now)
    }

    fn unused(&self, now: Timestamp) -> Duration {
        now.duration_since(*locked(&self.used)).unsigned_abs()
    }
}

impl Grants {
    /// The grants in `dir`, which only this user can read.
    ///
    /// # Errors
    /// When the folder can't be read.
    pub fn open(dir: &Path, upstreams: &Upstreams) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let mut all = HashMap::new();
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let kept: Result<Kept, _> = serde_json::from_slice(&fs::read(&path)?);
            match kept.map_err(|error| error.to_string()).and_then(|kept| restore(kept, upstreams)) {
                Ok((token, grant)) => _ = all.insert(token, Arc::new(grant)),
                Err(error) => tracing::warn!(file = %path.display(), error, "not a grant: left out"),
            }
        }
        Ok(Self { dir: dir.into(), all: Mutex::new(all), open: Mutex::default() })
    }

    /// What a token stands for; it counts as used.
    pub async fn get(&self, token: &str) -> Option<Arc<Grant>> {
        let grant = locked(&self.all).get(token).cloned()?;
        let now = Timestamp::now();
        let before = grant.use_now(now);
        if now.duration_since(before).unsigned_abs() > NOTE_USE_EVERY {
            self.note(token, &grant).await.unwrap_or_else(|error| tracing::warn!(%error, "a grant can't be noted"));
        }
        Some(grant)
    }

    /// Gives a token its meaning. On disk when this returns.
    ///
    /// # Errors
    /// The file system's.
    pub async fn put(&self, token: &str, grant: Grant) -> io::Result<()> {
        let grant = Arc::new(grant);
        let before = locked(&self.all).insert(token.to_owned(), grant.clone());
        let same = |before: Arc<Grant>| {
            before.found == grant.found && before.model == grant.model && before.origin == grant.origin
        };
        if before.is_some_and(same) {
            return Ok(());
        }
        self.note(token, &grant).await
    }

    async fn note(&self, token: &str, grant: &Grant) -> io::Result<()> {
        let access = grant.origin.as_ref().map(|origin| &origin.access);
        let kept = Kept {
            token: token.into(),
            model: grant.model.clone(),
            insecure: grant.origin.as_ref().is_some_and(|origin| origin.source.url.starts_with("http:")),
            is_own: grant.origin.is_none(),
            needs_login: matches!(access, Some(Access::Login(_) | Access::Forgotten)),
            manifest: grant.found.manifest.clone(),
            upstream_digest: grant.found.upstream_digest.clone(),
            used: *locked(&grant.used),
        };
        let (path, content) = (self.file(token), serde_json::to_vec(&kept)?);
        blocking(move || write_whole(&path, &content)).await
    }

    /// Takes a grant back; one that isn't there is as good.
    ///
    /// # Errors
    /// The file system's.
    pub async fn revoke(&self, token: &str) -> io::Result<()> {
        if locked(&self.all).remove(token).is_none() {
            return Ok(());
        }
        let path = self.file(token);
        blocking(move || fs::remove_file(path)).await
    }

    /// What was given lately without a token.
    pub fn opened(&self, name: &ModelName) -> Vec<Arc<Grant>> {
        let same = |grant: &&Arc<Grant>| {
            grant.name.namespace.eq_ignore_ascii_case(&name.namespace)
                && grant.name.model.eq_ignore_ascii_case(&name.model)
        };
        let found: Vec<_> = locked(&self.open).values().filter(same).cloned().collect();
        found.iter().for_each(|grant| _ = grant.use_now(Timestamp::now()));
        found
    }

    /// Lets anybody pull a model by its name.
    pub fn put_open(&self, grant: Grant) -> Arc<Grant> {
        let grant = Arc::new(grant);
        locked(&self.open).insert(grant.name.to_string().to_ascii_lowercase(), grant.clone());
        grant
    }

    /// Whether somebody may pull what has this digest.
    pub fn stand_for(&self, digest: &Digest) -> bool {
        [&self.all, &self.open].into_iter().any(|all| locked(all).values().any(|grant| grant.found.digest == *digest))
    }

    /// The blobs that are being pulled.
    pub fn in_use(&self) -> HashSet<Digest> {
        let now = Timestamp::now();
        let mut digests = HashSet::new();
        for all in [&self.all, &self.open] {
            // The map has one; who else has one sends its bytes.
            let all = locked(all);
            let used = all.values().filter(|grant| Arc::strong_count(grant) > 1 || grant.unused(now) < IN_USE);
            digests.extend(used.flat_map(|grant| grant.blobs.keys().cloned()));
        }
        digests
    }

    /// Takes back what nobody used for long.
    pub async fn expire(&self) {
        let now = Timestamp::now();
        let is_old = |grant: &Arc<Grant>| grant.unused(now) > UNUSED_FOR;
        locked(&self.open).retain(|_, grant| !is_old(grant));
        let old: Vec<String> =
            locked(&self.all).iter().filter(|(_, grant)| is_old(grant)).map(|(token, _)| token.clone()).collect();
        for token in old {
            self.revoke(&token).await.unwrap_or_else(|error| tracing::warn!(%error, "an old grant can't be removed"));
        }
    }

    fn file(&self, token: &str) -> PathBuf {
        self.dir.join(format!("{}.json", sha256(token.as_bytes()).hex()))
    }
}

fn restore(kept: Kept, upstreams: &Upstreams) -> Result<(String, Grant), String> {
    let source = upstreams.source(&kept.model, kept.insecure)?;
    let access = if kept.needs_login { Access::Forgotten } else { Access::Configured };
    let origin = (!kept.is_own).then(|| Arc::new(Origin { source, access }));
    let manifest = kept.manifest.validate()?;
    let digest = sha256(manifest.encode().as_bytes());
    let found = Found { manifest, digest, upstream_digest: kept.upstream_digest };
    Ok((kept.token, Grant::new(kept.model, found, origin, kept.used)?))
}
