//! `/drover/v1/runs…`: run records, for those who look after the fleet.
//!
//! Who has a key sees the runs of that key. Callers on this machine who have none see all of them, and so does everybody
//! where a setting says so.

pub mod client;
mod filter;
mod replay;

use std::collections::BTreeMap;

use axum::{
    Json, Router,
    body::Body,
    extract::{FromRequestParts, Path, Query},
    http::{HeaderMap, StatusCode, request::Parts},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::json;

use super::{
    Gateway,
    api::Api,
    callers::{Caller, is_from_here},
    failure::Failure,
    routes::read_body,
};
use crate::{
    domain::{
        run_id::RunId,
        run_record::{Feedback, RunFilter},
    },
    ports::{Noted, RecordsError, RunRecord},
};

/// The longest comment, in characters.
const LONGEST_COMMENT: usize = 4_096;

pub(super) fn router() -> Router<Gateway> {
    Router::new()
        .route("/drover/v1/runs", get(list))
        .route("/drover/v1/runs/{id}", get(show))
        .route("/drover/v1/runs/{id}/feedback", post(feedback))
        .route("/drover/v1/runs/{id}/replay", post(replay::replay))
}

/// The gateway, for somebody who may see records.
struct Managed {
    gateway: Gateway,
    caller: Caller,
    /// Whether only the caller's own runs are shown.
    own_only: bool,
}

impl FromRequestParts<Gateway> for Managed {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway) -> Result<Self, Response> {
        let caller = Caller::from_request_parts(parts, gateway).await?;
        let has_key = caller.name().is_some();
        let sees_all = gateway.settings().management_open || (!has_key && is_from_here(parts));
        if sees_all || has_key {
            return Ok(Self { gateway: gateway.clone(), caller, own_only: !sees_all });
        }
        let message = "run records are shown to callers with a key, each its own, and on the gateway's own machine; \
                       management-open shows all of them to everybody";
        Err(Failure::new(StatusCode::FORBIDDEN, "forbidden", message).into_response())
    }
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

impl Managed {
    /// The record of a run that may be seen.
    async fn find(&self, id: &str) -> Result<RunRecord, Failure> {
        let record = self.gateway.recorder().records()?.get(read_id(id)?).await?;
        record
            .filter(|record| !self.own_only || record.caller.as_ref() == self.caller.name())
            .ok_or_else(|| unknown(id))
    }

    /// The filter without the runs of others.
    fn narrowed(&self, mut filter: RunFilter) -> Result<RunFilter, Failure> {
        if let Some(own) = self.caller.name().filter(|_| self.own_only) {
            if filter.caller.as_deref().is_some_and(|wanted| wanted != &**own) {
                let message = format!("caller: the key {own} shows its own runs only");
                return Err(Failure::new(StatusCode::FORBIDDEN, "forbidden", message));
            }
            filter.caller = Some(own.to_string());
        }
        Ok(filter)
    }
}

async fn list(managed: Managed, Query(query): Query<BTreeMap<String, String>>) -> Result<Response, Failure> {
    let (filter, limit) = filter::read(query).map_err(Failure::bad_request)?;
    let page = managed.gateway.recorder().records()?.list(managed.narrowed(filter)?, limit).await?;
    Ok(Json(page).into_response())
}

async fn show(managed: Managed, Path(id): Path<String>) -> Result<Response, Failure> {
    Ok(Json(managed.find(&id).await?).into_response())
}

fn read_id(id: &str) -> Result<RunId, Failure> {
    id.parse().map_err(Failure::bad_request)
}

fn unknown(id: &str) -> Failure {
    Failure::new(StatusCode::NOT_FOUND, "run_not_found", format!("there is no record of run {id}"))
}

async fn feedback(
    managed: Managed,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let body = read_body(body, &headers, managed.gateway.settings()).await?;
    let feedback: Feedback = serde_json::from_slice(&body)
        .map_err(|error| Failure::bad_request(format!("write {{\"score\": 0 to 1, \"comment\": \"…\"}}: {error}")))?;
    if !(0.0..=1.0).contains(&feedback.score) {
        return Err(Failure::bad_request(format!("score: {} is not a number from 0 to 1", feedback.score)));
    }
    if feedback.comment.as_ref().is_some_and(|comment| comment.chars().count() > LONGEST_COMMENT) {
        return Err(Failure::bad_request(format!("comment: it is longer than {LONGEST_COMMENT} characters")));
    }
    let (answer, score) = (json!({ "id": id, "feedback": feedback }), feedback.score);
    let gateway = &managed.gateway;
    let record = managed.find(&id).await?;
    match gateway.recorder().records()?.note_feedback(record.id, feedback).await? {
        Noted::First => gateway.tally().rated(&gateway.table(), &record, score),
        Noted::Again => {}
        Noted::Unknown => return Err(unknown(&id)),
    }
    Ok(Json(answer).into_response())
}
