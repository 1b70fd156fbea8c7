//! The answers, prepared, and the path that gives them out.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    io,
};

use axum::{
    Json, Router,
    extract::{Query, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH},
    },
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::{
    FleetHealth,
    facts::{self, Objects},
};
use crate::domain::health::{self, Counts, Report, Status};

/// Every answer that there is for one state of the objects.
pub struct Snapshot {
    all: Answer,
    counts: Counts,
    /// Empty when there is one namespace, which is `all`.
    namespaces: BTreeMap<String, Answer>,
    only: Option<String>,
}

/// One report as it is sent.
struct Answer {
    status: StatusCode,
    full: Body,
    summary: Body,
}

struct Body {
    json: Bytes,
    tag: HeaderValue,
}

impl Snapshot {
    /// The answers that follow from these objects.
    ///
    /// # Errors
    /// When a report can't be written as JSON, which is never.
    pub fn of(fleet: &Objects) -> io::Result<Self> {
        let reports = facts::reports(fleet);
        if let (1, Some((name, report))) = (reports.len(), reports.first_key_value()) {
            let only = Some((*name).to_owned());
            return Ok(Self { all: Answer::of(report)?, counts: report.counts, namespaces: BTreeMap::new(), only });
        }
        let answers = reports.iter().map(|(name, report)| Ok(((*name).to_owned(), Answer::of(report)?)));
        let namespaces = answers.collect::<io::Result<_>>()?;
        let all = health::join(&reports.into_values().collect::<Vec<_>>());
        Ok(Self { all: Answer::of(&all)?, counts: all.counts, namespaces, only: None })
    }

    /// How many required models are missing.
    pub fn missing_required(&self) -> i64 {
        self.counts.missing_required as i64
    }

    /// How many others are.
    pub fn missing_optional(&self) -> i64 {
        (self.counts.missing - self.counts.missing_required) as i64
    }

    fn answer(&self, namespace: Option<&str>) -> Option<&Answer> {
        match namespace {
            None => Some(&self.all),
            Some(name) if self.only.as_deref() == Some(name) => Some(&self.all),
            Some(name) => self.namespaces.get(name),
        }
    }
}

impl Answer {
    fn of(report: &Report<'_>) -> io::Result<Self> {
        let status = match report.status {
            Status::Unhealthy => StatusCode::SERVICE_UNAVAILABLE,
            Status::Degraded | Status::Healthy => StatusCode::OK,
        };
        Ok(Self { status, full: Body::of(report)?, summary: Body::of(&report.summary())? })
    }
}

impl Body {
    fn of(report: &Report<'_>) -> io::Result<Self> {
        let json = serde_json::to_vec(report)?;
        let mut hasher = DefaultHasher::new();
        json.hash(&mut hasher);
        let tag = HeaderValue::try_from(format!("\"{:016x}\"", hasher.finish())).map_err(io::Error::other)?;
        Ok(Self { json: json.into(), tag })
    }
}

/// `?namespace=NAME` and `?summary`.
#[derive(Deserialize)]
struct Asked {
    namespace: Option<String>,
    summary: Option<String>,
}

pub(super) fn router(health: FleetHealth) -> Router {
    Router::new().route("/health/models", get(answer)).with_state(health)
}

async fn answer(State(health): State<FleetHealth>, Query(asked): Query<Asked>, headers: HeaderMap) -> Response {
    let Some(snapshot) = &*health.snapshot.load() else { return unknown(health.serves.is_set()) };
    let Some(answer) = snapshot.answer(asked.namespace.as_deref()) else {
        let namespace = asked.namespace.unwrap_or_default();
        let error = format!("no OllamaNode, ModelPull or Provider in namespace {namespace:?} is known here");
        return (StatusCode::NOT_FOUND, Json(json!({ "error": error }))).into_response();
    };
    let body = if asked.summary.is_some_and(|summary| summary != "false") { &answer.summary } else { &answer.full };
    let head: [(HeaderName, HeaderValue); 3] = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (ETAG, body.tag.clone()),
    ];
    if answer.status == StatusCode::OK && headers.get(IF_NONE_MATCH) == Some(&body.tag) {
        return (StatusCode::NOT_MODIFIED, head).into_response();
    }
    (answer.status, head, body.json.clone()).into_response()
}

/// What is said before the first complete view of the objects.
fn unknown(serves: bool) -> Response {
    let (code, status, message) = match serves {
        true => (StatusCode::OK, Status::Degraded, "serving from what was kept; the objects could not be read yet"),
        false => (StatusCode::SERVICE_UNAVAILABLE, Status::Unhealthy, "the objects were not read yet"),
    };
    let body =
        json!({ "status": status, "message": message, "nodes": [], "models": [], "missing": [], "providers": [] });
    (code, Json(body)).into_response()
}
