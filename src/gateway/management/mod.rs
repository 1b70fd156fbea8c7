//! `/drover/v1/runs…`: run records, for those who look after the fleet.
//!
//! Only callers on this machine are answered, unless a setting opens it to all.

pub mod client;
mod filter;
mod replay;

use std::{collections::BTreeMap, net::SocketAddr};

use axum::{
    Json, Router,
    body::Body,
    extract::{ConnectInfo, FromRequestParts, Path, Query},
    http::{HeaderMap, StatusCode, request::Parts},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::json;

use super::{Gateway, api::Api, failure::Failure, routes::read_body};
use crate::{
    domain::{run_id::RunId, run_record::Feedback},
    ports::{RecordsError, RunRecord},
};

/// The longest comment, in characters.
const LONGEST_COMMENT: usize = 4_096;
/// Headers by which a proxy says that it asks for somebody else.
const FORWARDED: [&str; 2] = ["forwarded", "x-forwarded-for"];

pub(super) fn router() -> Router<Gateway> {
    Router::new()
        .route("/drover/v1/runs", get(list))
        .route("/drover/v1/runs/{id}", get(show))
        .route("/drover/v1/runs/{id}/feedback", post(feedback))
        .route("/drover/v1/runs/{id}/replay", post(replay::replay))
}

/// The gateway, for somebody who may manage it.
struct Managed(Gateway);

impl FromRequestParts<Gateway> for Managed {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway) -> Result<Self, Response> {
        if gateway.settings().management_open || is_from_here(parts) {
            return Ok(Self(gateway.clone()));
        }
        let message =
            "run records are shown on the gateway's own machine only; management-open shows them to everybody";
        Err(Failure::new(StatusCode::FORBIDDEN, "forbidden", message).into_response())
    }
}

/// Whether a request comes from this machine, for nobody else.
pub(super) fn is_from_here(parts: &Parts) -> bool {
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    let is_here = peer.is_some_and(|ConnectInfo(peer)| peer.ip().to_canonical().is_loopback());
    is_here && !FORWARDED.iter().any(|name| parts.headers.contains_key(*name))
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        self.render(Api::OpenAi)
    }
}

impl From<RecordsError> for Failure {
    fn from(error: RecordsError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "records_unavailable", error.to_string())
    }
}

async fn list(Managed(gateway): Managed, Query(query): Query<BTreeMap<String, String>>) -> Result<Response, Failure> {
    let (filter, limit) = filter::read(query).map_err(Failure::bad_request)?;
    let page = gateway.recorder().records()?.list(filter, limit).await?;
    Ok(Json(page).into_response())
}

async fn show(Managed(gateway): Managed, Path(id): Path<String>) -> Result<Response, Failure> {
    Ok(Json(find(&gateway, &id).await?).into_response())
}

async fn find(gateway: &Gateway, id: &str) -> Result<RunRecord, Failure> {
    let record = gateway.recorder().records()?.get(read_id(id)?).await?;
    record.ok_or_else(|| unknown(id))
}

fn read_id(id: &str) -> Result<RunId, Failure> {
    id.parse().map_err(Failure::bad_request)
}

fn unknown(id: &str) -> Failure {
    Failure::new(StatusCode::NOT_FOUND, "run_not_found", format!("there is no record of run {id}"))
}

async fn feedback(
    Managed(gateway): Managed,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let body = read_body(body, &headers, gateway.settings().body_limit).await?;
    let feedback: Feedback = serde_json::from_slice(&body)
        .map_err(|error| Failure::bad_request(format!("write {{\"score\": 0 to 1, \"comment\": \"…\"}}: {error}")))?;
    if !(0.0..=1.0).contains(&feedback.score) {
        return Err(Failure::bad_request(format!("score: {} is not a number from 0 to 1", feedback.score)));
    }
    if feedback.comment.as_ref().is_some_and(|comment| comment.chars().count() > LONGEST_COMMENT) {
        return Err(Failure::bad_request(format!("comment: it is longer than {LONGEST_COMMENT} characters")));
    }
    let answer = json!({ "id": id, "feedback": feedback });
    match gateway.recorder().records()?.note_feedback(read_id(&id)?, feedback).await? {
        true => Ok(Json(answer).into_response()),
        false => Err(unknown(&id)),
    }
}
