//! What Ollama's command line does with models besides asking them: `pull` and `rm` through a port, where callers may;
//! what only a single server can do is refused with what to do instead.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::{Request, State},
    http::{StatusCode, header::CONTENT_TYPE, request::Parts},
    response::{IntoResponse, Response},
    routing::{any, delete, post},
};
use bytes::Bytes;
use futures::{StreamExt, future};
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::{
    Gateway,
    api::Api,
    callers::{Caller, is_from_here},
    failure::Failure,
    resolve::resolve,
    routes::{parse, read_body},
};
use crate::{
    domain::pull::Line,
    ports::{ModelOperations, OperationError, Pulling},
};

/// The last line of a pull that came to its end.
const SUCCESS: &str = "success";
/// How long the gateway's own table may be behind what was done.
const TABLE_WITHIN: Duration = Duration::from_secs(10);
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);

const NO_PUSH: &str = "push from where the model is (`OLLAMA_HOST=NODE ollama push`), or bring a file to the fleet's mirror \
                       with `drover push`";
const NO_CREATE: &str = "make it with Ollama on one machine and push it to the fleet's mirror, or bring a file there with \
                         `drover push`; parameters and system prompts belong into a ModelVersion";
const NO_COPY: &str = "give a model another name by a ModelVersion and a ModelDeployment";

pub(super) fn router() -> Router<Gateway> {
    let refused = |what: &'static str, instead: &'static str| {
        any(move || async move {
            let message = format!("a gateway can't {what}: {instead}");
            Failure::new(StatusCode::NOT_IMPLEMENTED, "not_supported", message).render(Api::Ollama)
        })
    };
    Router::new()
        .route("/api/pull", post(pull))
        .route("/api/delete", delete(remove))
        .route("/api/push", refused("push models", NO_PUSH))
        // Ollama's command line asks who pushes before it does.
        .route("/api/me", refused("sign in at ollama.com or push there", NO_PUSH))
        .route("/api/create", refused("create models", NO_CREATE))
        .route("/api/blobs/{digest}", refused("take files", NO_CREATE))
        .route("/api/copy", refused("copy models", NO_COPY))
}

impl From<OperationError> for Failure {
    fn from(error: OperationError) -> Self {
        let (status, code) = match error {
            OperationError::Invalid(_) => (StatusCode::BAD_REQUEST, "invalid_request"),
            OperationError::NotFound(_) => (StatusCode::NOT_FOUND, "model_not_found"),
            OperationError::InUse(_) => (StatusCode::CONFLICT, "model_in_use"),
            OperationError::Forbidden(_) => (StatusCode::FORBIDDEN, "forbidden"),
            // As Ollama says it.
            OperationError::Failed(_) => (StatusCode::INTERNAL_SERVER_ERROR, "pull_failed"),
            OperationError::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        };
        Self::new(status, code, error.to_string())
    }
}

/// What somebody wants done with a model.
struct Wanted {
    operations: Arc<dyn ModelOperations>,
    model: String,
    stream: bool,
    insecure: bool,
}

/// What carries an operation out, if this caller may have it.
fn permitted(gateway: &Gateway, parts: &Parts, caller: &Caller) -> Result<Arc<dyn ModelOperations>, Failure> {
    let operations = gateway.operations().ok_or_else(|| {
        forbidden("models are not pulled or removed through this gateway: set model-operations, or declare a ModelPull")
    })?;
    match caller.may_operate() {
        Some(false) => Err(forbidden(
            "this key doesn't allow that: spec.allowModelOperations of its ApiKey would, if it were true",
        )),
        None if !is_from_here(parts) => Err(forbidden(
            "models are pulled and removed from the gateway's own machine only, or with a key that allows it",
        )),
        _ => Ok(operations.clone()),
    }
}

fn forbidden(message: &str) -> Failure {
    Failure::new(StatusCode::FORBIDDEN, "forbidden", message)
}

async fn read(gateway: &Gateway, request: Request) -> Result<Wanted, Failure> {
    let (parts, body) = request.into_parts();
    let caller = Caller::of(gateway, &parts)?;
    let operations = permitted(gateway, &parts, &caller)?;
    let body = read_body(body, &parts.headers, gateway.settings()).await?;
    let fields = parse(&body)?;
    let text = |field: &str| fields.read::<String>(field).map(Option::unwrap_or_default);
    let flag = |field: &str| fields.read::<bool>(field);
    let named = [text("model"), text("name")].into_iter().collect::<Result<Vec<_>, _>>();
    let names = named.map_err(Failure::bad_request)?;
    let Some(model) = names.into_iter().find(|name| !name.is_empty()) else {
        return Err(Failure::bad_request("model is required"));
    };
    caller.check_tag(&model)?;
    let stream = flag("stream").map_err(Failure::bad_request)?.unwrap_or(true);
    let insecure = flag("insecure").map_err(Failure::bad_request)?.unwrap_or(false);
    Ok(Wanted { operations, model, stream, insecure })
}

async fn pull(State(gateway): State<Gateway>, request: Request) -> Response {
    let pulled = async {
        let wanted = read(&gateway, request).await?;
        let pulling = wanted.operations.pull(&wanted.model, wanted.insecure).await?;
        let pulling = callable(&gateway, wanted.model, pulling);
        if wanted.stream { Ok(told(pulling)) } else { whole(pulling).await }
    };
    pulled.await.unwrap_or_else(|failure: Failure| failure.render(Api::Ollama))
}

async fn remove(State(gateway): State<Gateway>, request: Request) -> Response {
    let removed = async {
        let wanted = read(&gateway, request).await?;
        wanted.operations.remove(&wanted.model).await?;
        until_listed(&gateway, &wanted.model, false).await;
        Ok(StatusCode::OK.into_response())
    };
    removed.await.unwrap_or_else(|failure: Failure| failure.render(Api::Ollama))
}

/// The same pull, which succeeds when requests find the model: `ollama run` asks for it right after.
fn callable(gateway: &Gateway, model: String, pulling: Pulling) -> Pulling {
    let gateway = gateway.clone();
    let told = pulling.then(move |line| {
        let (gateway, model) = (gateway.clone(), model.clone());
        async move {
            if line.as_ref().is_ok_and(|line| line.status == SUCCESS) {
                until_listed(&gateway, &model, true).await;
            }
            line
        }
    });
    told.boxed()
}

/// Waits until requests find the model, or don't any more.
async fn until_listed(gateway: &Gateway, model: &str, is_wanted: bool) {
    let settled = async {
        while resolve(gateway.table().namespace(&gateway.settings().namespace), model, &Caller::default()).is_ok()
            != is_wanted
        {
            sleep(LOOK_AGAIN_AFTER).await;
        }
    };
    // What was done is done all the same.
    let _ = timeout(TABLE_WITHIN, settled).await;
}

/// Line by line; as with Ollama, an error is the last of them.
fn told(pulling: Pulling) -> Response {
    let lines = pulling.map(|line| {
        let line = line.map_or_else(|error| json!({ "error": error.to_string() }), |line| json!(line));
        Ok::<_, Infallible>(Bytes::from(format!("{line}\n")))
    });
    ([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

/// Only how it ended.
async fn whole(pulling: Pulling) -> Result<Response, Failure> {
    let end = pulling.fold(Ok(Line::default()), |_, line| future::ready(line)).await?;
    Ok(Json(end).into_response())
}
