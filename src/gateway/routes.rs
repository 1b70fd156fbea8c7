//! The paths of a gateway.

use axum::{
    Json, Router,
    body::to_bytes,
    extract::{Path, Request, State},
    http::{HeaderMap, Method, StatusCode, Uri, header::CONTENT_LENGTH},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use serde_json::json;

use super::{
    Gateway,
    ask::{Ask, Task},
    attempt::Ready,
    dispatch::Dispatch,
    failure::{Api, Failure},
    fields::Fields,
    listing, meters, plan,
    resolve::resolve,
    run::Run,
};
use crate::domain::run_record::Outcome;

/// The version of Ollama whose API this is: clients refuse to talk to what they take for an older one.
const OLLAMA_VERSION: &str = "0.17.4";

pub(super) fn router(gateway: Gateway) -> Router {
    let ollama = |path, task| {
        post(move |State(gateway): State<Gateway>, request: Request| async move {
            answer(&gateway, path, Api::Ollama, request, |fields| Ask::ollama(task, fields)).await
        })
    };
    let openai = post(|State(gateway): State<Gateway>, request: Request| async move {
        answer(&gateway, meters::Path::ChatCompletions, Api::OpenAi, request, |fields| Ask::openai(&fields)).await
    });
    Router::new()
        .route("/", get(|| async { "Ollama is running" }))
        .route("/api/version", get(|| async { Json(json!({ "version": OLLAMA_VERSION })) }))
        .route("/api/tags", get(tags))
        .route("/api/chat", ollama(meters::Path::Chat, Task::Chat))
        .route("/api/generate", ollama(meters::Path::Generate, Task::Generate))
        .route("/v1/models", get(models))
        .route("/v1/models/{*name}", get(model))
        .route("/v1/chat/completions", openai)
        .route("/drover/v1/stats", get(|State(gateway): State<Gateway>| async move { Json(gateway.stats()) }))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(gateway)
}

/// Answers a request for a model; the headers tell about every outcome.
async fn answer(
    gateway: &Gateway,
    path: meters::Path,
    api: Api,
    request: Request,
    read: impl Fn(Fields) -> Result<Ask, String> + Send,
) -> Response {
    let under_way = gateway.meters().begin(path);
    let mut run = Run::start(gateway.recorder(), path.name(), &gateway.settings().namespace);
    let response = match try_answer(gateway, request, read, &mut run).await {
        Ok(ready) => ready.into_response(run).await.unwrap_or_else(|failure| failure.render(api)),
        Err(failure) => refuse(run, &failure, api).await,
    };
    under_way.answered(response)
}

async fn refuse(mut run: Run, failure: &Failure, api: Api) -> Response {
    let mut response = failure.render(api);
    run.stamp(response.headers_mut());
    let outcome = if failure.status.is_server_error() { Outcome::Failed } else { Outcome::Refused };
    // A refusal that could not be recorded is one all the same.
    let _ = run.finish(outcome, failure.status.as_u16(), Some(failure.message.clone())).await;
    response
}

async fn try_answer(
    gateway: &Gateway,
    request: Request,
    read: impl Fn(Fields) -> Result<Ask, String> + Send,
    run: &mut Run,
) -> Result<Ready, Failure> {
    let (parts, body) = request.into_parts();
    let body = read_body(body, &parts.headers, gateway.settings().body_limit).await?;
    let ask = read(parse(&body)?).map_err(Failure::bad_request)?;
    run.note(|record| ask.describe(record));
    run.keep_request(&body);
    gateway.recorder().check()?;
    let table = gateway.table();
    let name = &gateway.settings().namespace;
    let found = resolve(table.namespace(name), &ask.model)?;
    let legs = plan::plan(name, found, &parts.headers, gateway.tally());
    Dispatch::new(gateway, &ask, run).run(&legs).await
}

async fn read_body(body: axum::body::Body, headers: &HeaderMap, limit: usize) -> Result<Bytes, Failure> {
    let too_long = || {
        let message = format!("the request is longer than {limit} bytes");
        Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message)
    };
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > limit) {
        return Err(too_long());
    }
    to_bytes(body, limit).await.map_err(|error| match length {
        // A caller that gave no length can fail by it alone; with one, the body just didn't come whole.
        None => too_long(),
        Some(_) => Failure::bad_request(format!("the request could not be read: {error}")),
    })
}

fn parse(body: &Bytes) -> Result<Fields, Failure> {
    Fields::parse(body).map_err(|error| Failure::bad_request(format!("the request must be a JSON object: {error}")))
}

async fn tags(State(gateway): State<Gateway>) -> Response {
    let table = gateway.table();
    Json(listing::tags(table.namespace(&gateway.settings().namespace))).into_response()
}

async fn models(State(gateway): State<Gateway>) -> Response {
    let table = gateway.table();
    Json(listing::models(table.namespace(&gateway.settings().namespace))).into_response()
}

async fn model(State(gateway): State<Gateway>, Path(name): Path<String>) -> Response {
    let table = gateway.table();
    match resolve(table.namespace(&gateway.settings().namespace), &name) {
        Ok(found) => Json(listing::model(&name, listing::created(found))).into_response(),
        Err(failure) => failure.render(Api::OpenAi),
    }
}

async fn unknown_path(uri: Uri) -> Response {
    let message = format!("there is no {}", uri.path());
    Failure::new(StatusCode::NOT_FOUND, "not_found", message).render(Api::of(uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    let message = format!("{} does not take {method}", uri.path());
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message).render(Api::of(uri.path()))
}
