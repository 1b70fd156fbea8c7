//! `GET /drover/v1/audit` on the controller's health port.
//!
//! Shown to callers on this machine, `kubectl port-forward` among them, and to everybody where `management-open` says so.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json, Router,
    extract::{FromRequestParts, Query, State},
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;

use super::LIMIT;
use crate::{
    controller::client::AuditListing,
    gateway::callers::is_from_here,
    ports::{AuditFilter, AuditLog},
};

/// The most entries of one answer.
const MOST: usize = 10_000;

/// What is shown, and to whom.
#[derive(Clone)]
pub struct Shown {
    /// Where it is kept, if it is.
    pub log: Option<Arc<dyn AuditLog>>,
    /// Whether other machines may ask.
    pub is_open: bool,
}

/// Somebody who may see it.
struct Allowed;

impl FromRequestParts<Shown> for Allowed {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, shown: &Shown) -> Result<Self, Response> {
        if shown.is_open || is_from_here(parts) {
            return Ok(Self);
        }
        let message = "the audit is shown on the controller's own machine; management-open shows it to everybody";
        Err(refuse(StatusCode::FORBIDDEN, message))
    }
}

/// The path.
pub fn router(shown: Shown) -> Router {
    Router::new().route("/drover/v1/audit", get(list)).with_state(shown)
}

async fn list(_: Allowed, State(shown): State<Shown>, Query(query): Query<BTreeMap<String, String>>) -> Response {
    let Some(log) = &shown.log else {
        return refuse(StatusCode::NOT_FOUND, "no audit is kept here: neither data-dir nor records is set");
    };
    let (filter, limit) = match read(query) {
        Ok(asked) => asked,
        Err(fault) => return refuse(StatusCode::BAD_REQUEST, &fault),
    };
    match log.list(filter, limit).await {
        Ok(items) => Json(AuditListing { items }).into_response(),
        Err(error) => refuse(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

fn refuse(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "error": message }))).into_response()
}

fn read(query: BTreeMap<String, String>) -> Result<(AuditFilter, usize), String> {
    let (mut filter, mut limit) = (AuditFilter::default(), LIMIT);
    for (name, value) in query {
        match name.as_str() {
            "namespace" => filter.namespace = Some(value),
            "model" => filter.model = Some(value),
            "deployment" => filter.deployment = Some(value),
            "since" => {
                let since =
                    value.parse().map_err(|_| format!("since: {value} is not a time such as 2026-11-20T20:00:00Z"));
                filter.since = Some(since?);
            }
            "limit" => {
                let wanted = value.parse().ok().filter(|limit| (1..=MOST).contains(limit));
                limit = wanted.ok_or_else(|| format!("limit: {value} is not a number from 1 to {MOST}"))?;
            }
            _ => return Err(format!("{name}: write namespace, model, deployment, since or limit")),
        }
    }
    Ok((filter, limit))
}
