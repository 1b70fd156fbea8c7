//! What `drover mirror` and `drover models` ask of a running mirror: lists, removal, verification, archives.

mod archive;
mod available;
mod verify;

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, Query, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Mirror,
    models::{Model, Provenance},
    publish::shown,
    refusal::{Detail, Envelope, Refusal},
};
use crate::domain::{digest::Digest, model_name::ModelName, pull::Fault};
pub use verify::Finding;

/// Where a model can be had from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// People brought it to the mirror.
    Own,
    /// The mirror fetched it before.
    Cached,
    /// A registry behind the mirror has it.
    Registry,
    /// The mirror's settings name it.
    Offered,
}

/// A model that can be pulled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// As people write it.
    pub name: String,
    /// Where it is.
    pub source: Place,
    /// The registry's host, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<String>,
    /// The digest that nodes report, if the mirror knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Bytes of all layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<i64>,
    /// How many of them the mirror has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub here_bytes: Option<i64>,
    /// When a grant or a node last asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<Timestamp>,
}

/// Models, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// The models.
    pub items: Vec<Entry>,
    /// What could not be asked, a line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// What was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Removed {
    /// Bytes that no other model needs.
    pub freed_bytes: u64,
    /// Blobs that somebody still reads; they go when room is needed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<Digest>,
}

/// Names of models, for an archive.
#[derive(Serialize, Deserialize)]
pub struct Names {
    /// As people write them.
    pub names: Vec<String>,
}

/// The tools' paths, which the key protects.
pub fn router() -> Router<Mirror> {
    Router::new()
        .route("/drover/v1/models", get(list).delete(remove))
        .route("/drover/v1/verify", post(verify::verify))
        .route("/drover/v1/export", post(export))
        .route("/drover/v1/import", post(import).layer(DefaultBodyLimit::disable()))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Scope {
    /// Only what the mirror itself has.
    here: bool,
}

async fn list(State(mirror): State<Mirror>, Query(scope): Query<Scope>) -> Json<Listing> {
    match scope.here {
        true => Json(Listing { items: mirror.here(), warnings: Vec::new() }),
        false => Json(mirror.available().await),
    }
}

#[derive(Deserialize)]
struct Removal {
    name: String,
    #[serde(default)]
    force: bool,
}

async fn remove(State(mirror): State<Mirror>, Query(Removal { name, force }): Query<Removal>) -> Response {
    let model = match mirror.find(&name) {
        Ok(model) => model,
        Err(refusal) => return refusal.json(),
    };
    if !force && mirror.0.grants.stand_for(&model.digest) {
        let message = format!("{name} is in use: a node may be pulling it; wait until it is done, or add --force");
        let detail = Detail { reason: "InUse".into(), message, retry_after_seconds: None };
        return (StatusCode::CONFLICT, Json(Envelope { error: detail })).into_response();
    }
    match mirror.remove(&model).await {
        Ok(removed) => Json(removed).into_response(),
        Err(refusal) => refusal.json(),
    }
}

async fn export(State(mirror): State<Mirror>, Json(Names { names }): Json<Names>) -> Response {
    let models: Result<Vec<Arc<Model>>, Refusal> = names.iter().map(|name| mirror.find(name)).collect();
    let archive = match models {
        Ok(models) => archive::export(&mirror, models).await,
        Err(refusal) => Err(refusal),
    };
    match archive {
        Ok(archive) => ([(CONTENT_TYPE, "application/x-tar")], Body::from_stream(archive)).into_response(),
        Err(refusal) => refusal.json(),
    }
}

async fn import(State(mirror): State<Mirror>, body: Body) -> Response {
    match archive::import(&mirror, body).await {
        Ok(models) => {
            Json(Listing { items: models.iter().map(|model| mirror.entry(model)).collect(), warnings: Vec::new() })
                .into_response()
        }
        Err(refusal) => refusal.json(),
    }
}

impl Mirror {
    /// The models that the mirror knows.
    fn here(&self) -> Vec<Entry> {
        self.models().list().iter().map(|model| self.entry(model)).collect()
    }

    fn entry(&self, model: &Model) -> Entry {
        let blobs = model.manifest.blobs().unwrap_or_default();
        let here = blobs.iter().filter(|(digest, _)| self.blobs().complete(digest).is_some());
        Entry {
            name: people_name(&model.name),
            source: match model.provenance {
                Provenance::Own => Place::Own,
                Provenance::Cached => Place::Cached,
            },
            registry: None,
            digest: Some(model.digest.to_string()),
            size_bytes: Some(model.manifest.size()),
            here_bytes: Some(here.map(|(_, size)| i64::try_from(*size).unwrap_or(i64::MAX)).sum()),
            used: Some(model.used),
        }
    }

    fn find(&self, name: &str) -> Result<Arc<Model>, Refusal> {
        let parsed: ModelName = name.parse().map_err(|why: String| Refusal::new(Fault::Other, why))?;
        let found = self.models().get(&super::models::key(&parsed));
        found.ok_or_else(|| {
            Refusal::new(Fault::NoSuchModel, format!("the mirror has no model {name}: see `drover mirror ls`"))
        })
    }

    /// Forgets a model, with the blobs that no other one needs.
    async fn remove(&self, model: &Model) -> Result<Removed, Refusal> {
        let failed = |error| Refusal::new(Fault::Other, format!("{}: {error}", people_name(&model.name)));
        self.models().remove(&model.name).await.map_err(failed)?;
        let needed: BTreeSet<Digest> = self
            .models()
            .list()
            .iter()
            .flat_map(|model| model.manifest.blobs().unwrap_or_default().into_keys())
            .collect();
        let mut removed = Removed { freed_bytes: 0, kept: Vec::new() };
        for digest in model.manifest.blobs().unwrap_or_default().into_keys().filter(|digest| !needed.contains(digest)) {
            match self.blobs().remove(&digest).await {
                Ok(bytes) => removed.freed_bytes += bytes,
                Err(_) => removed.kept.push(digest),
            }
        }
        tracing::info!(model = %model.name, freed_bytes = removed.freed_bytes, "removed");
        Ok(removed)
    }
}

/// A model's name as people write it.
fn people_name(name: &str) -> String {
    name.parse().map_or_else(|_| name.to_owned(), |name: ModelName| shown(&name))
}
