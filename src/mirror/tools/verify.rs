//! Reads everything that the mirror has, and says what is damaged.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    fs::File,
    io::{self, Read},
    path::PathBuf,
};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::people_name;
use crate::{
    domain::digest::Digest,
    mirror::{Mirror, models::Provenance, sha256},
    supervisor::blocking,
};

const CHUNK: usize = 1 << 20;

/// One line of a verification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// What was looked at: a blob's digest or a model's name.
    pub what: String,
    /// Unset: it is as it should be. Else what is wrong, and what was done about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

impl Finding {
    fn fine(what: impl Into<String>) -> Self {
        Self { what: what.into(), fault: None }
    }

    fn bad(what: impl Into<String>, fault: impl Into<String>) -> Self {
        Self { what: what.into(), fault: Some(fault.into()) }
    }
}

enum Task {
    Blob(Digest, PathBuf),
    Model(String),
}

/// Answers with a line for each blob and model as it was looked at.
pub async fn verify(State(mirror): State<Mirror>) -> Response {
    let complete = mirror.blobs().list().into_iter().filter(|blob| blob.is_complete);
    let blobs = complete.filter_map(|blob| Some(Task::Blob(blob.digest.clone(), mirror.blobs().path(&blob.digest)?)));
    let models = mirror.models().list().into_iter().map(|model| Task::Model(model.name.clone()));
    // The models last: by then it is known which blobs are gone.
    let tasks: Vec<Task> = blobs.chain(models).collect();
    let lines = stream::iter(tasks).then(move |task| {
        let mirror = mirror.clone();
        async move {
            let finding = match task {
                Task::Blob(digest, path) => look_at_blob(&mirror, digest, path).await,
                Task::Model(name) => look_at_model(&mirror, &name).await,
            };
            let line = serde_json::to_string(&finding).unwrap_or_default() + "\n";
            Ok::<_, Infallible>(Bytes::from(line))
        }
    });
    ([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

async fn look_at_blob(mirror: &Mirror, digest: Digest, path: PathBuf) -> Finding {
    let found = match blocking(move || hash(&path)).await {
        Ok(found) => found,
        Err(error) if mirror.blobs().complete(&digest).is_none() => {
            tracing::debug!(%digest, %error, "removed meanwhile");
            return Finding::fine(digest.as_str());
        }
        Err(error) => return Finding::bad(digest.as_str(), format!("it can't be read: {error}")),
    };
    if found == digest {
        return Finding::fine(digest.as_str());
    }
    let owners: BTreeSet<String> = mirror
        .models()
        .list()
        .iter()
        .filter(|model| model.provenance == Provenance::Own)
        .filter(|model| model.manifest.blobs().is_ok_and(|blobs| blobs.contains_key(&digest)))
        .map(|model| people_name(&model.name))
        .collect();
    if !owners.is_empty() {
        let owners = owners.into_iter().collect::<Vec<_>>().join(", ");
        return Finding::bad(
            digest.as_str(),
            format!("it is damaged, and nowhere else: remove {owners} and push it again"),
        );
    }
    match mirror.blobs().condemn(&digest).await {
        Ok(()) => Finding::bad(
            digest.as_str(),
            "it was damaged and is dropped: its registry is asked again when it is needed",
        ),
        Err(refusal) => Finding::bad(digest.as_str(), format!("it is damaged, and can't be dropped: {refusal}")),
    }
}

fn hash(path: &PathBuf) -> io::Result<Digest> {
    let (mut file, mut hash, mut buffer) = (File::open(path)?, Sha256::new(), vec![0; CHUNK]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Digest::from_sha256(&hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}

async fn look_at_model(mirror: &Mirror, name: &str) -> Finding {
    let shown = people_name(name);
    let Some(model) = mirror.models().get(name) else { return Finding::fine(shown) };
    let kept = mirror.models().on_disk(name).await;
    let is_right = |kept: &crate::mirror::models::Model| {
        kept.digest == model.digest && sha256(kept.manifest.encode().as_bytes()) == model.digest
    };
    if !kept.as_ref().is_ok_and(is_right) {
        let why = kept.err().map_or_else(|| "it is not what it was".into(), |error| error.to_string());
        if model.provenance == Provenance::Own {
            return Finding::bad(shown, format!("its manifest is damaged on disk ({why}): push it again"));
        }
        let dropped = mirror.models().remove(name).await;
        let done = dropped.map_or_else(|error| format!("it can't be dropped: {error}"), |()| "it is dropped".into());
        return Finding::bad(shown, format!("its manifest was damaged on disk ({why}); {done}"));
    }
    let blobs = model.manifest.blobs().unwrap_or_default();
    let missing = blobs.keys().find(|digest| mirror.blobs().complete(digest).is_none());
    match missing.filter(|_| model.provenance == Provenance::Own) {
        Some(digest) => {
            Finding::bad(shown, format!("blob {digest} is missing, and nowhere else: push the model again"))
        }
        None => Finding::fine(shown),
    }
}
