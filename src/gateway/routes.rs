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
    listing, management, meters, plan,
    resolve::resolve,
    run::Run,
    wish::wish,
};
use crate::domain::run_record::Outcome;

/// The version of Ollama whose API this is: clients refuse to talk to what they take for an older one.
const OLLAMA_VERSION: &str = "0.17.4";

/// Reads a request in the format of its path.
type Read = fn(Fields) -> Result<Ask, String>;

/// A path that is answered by a model.
#[derive(Clone, Copy)]
pub(super) struct Route {
    pub path: meters::Path,
    pub api: Api,
    pub read: Read,
}

const ROUTES: [Route; 3] = [
    Route { path: meters::Path::Chat, api: Api::Ollama, read: |fields| Ask::ollama(Task::Chat, fields) },
    Route { path: meters::Path::Generate, api: Api::Ollama, read: |fields| Ask::ollama(Task::Generate, fields) },
    Route { path: meters::Path::ChatCompletions, api: Api::OpenAi, read: |fields| Ask::openai(&fields) },
];

/// The path of this name, if a model answers it.
pub(super) fn route(name: &str) -> Option<Route> {
    ROUTES.into_iter().find(|route| route.path.name() == name)
}

pub(super) fn router(gateway: Gateway) -> Router {
    let answered = ROUTES.into_iter().fold(Router::new(), |router, route| {
        let handler = move |State(gateway): State<Gateway>, request: Request| async move {
            answer(&gateway, route, request).await
        };
        router.route(route.path.name(), post(handler))
    });
    answered
        .merge(management::router())
        .route("/", get(|| async { "Ollama is running" }))
        .route("/api/version", get(|| async { Json(json!({ "version": OLLAMA_VERSION })) }))
        .route("/api/tags", get(tags))
        .route("/v1/models", get(models))
        .route("/v1/models/{*name}", get(model))
        .route("/drover/v1/stats", get(|State(gateway): State<Gateway>| async move { Json(gateway.stats()) }))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(gateway)
}

/// Answers a request for a model; the headers tell about every outcome.
async fn answer(gateway: &Gateway, Route { path, api, read }: Route, request: Request) -> Response {
    let under_way = gateway.meters().begin(path);
    let mut run = Run::start(gateway.recorder(), path.name(), &gateway.settings().namespace);
    let ready = try_answer(gateway, request, read, &mut run).await;
    under_way.answered(respond(ready, run, api).await)
}

/// What the caller gets, once the record of `run` is committed or will be.
pub(super) async fn respond(ready: Result<Ready, Failure>, run: Run, api: Api) -> Response {
    match ready {
        Ok(ready) => ready.into_response(run).await.unwrap_or_else(|failure| failure.render(api)),
        Err(failure) => refuse(run, &failure, api).await,
    }
}

async fn refuse(mut run: Run, failure: &Failure, api: Api) -> Response {
    let mut response = failure.render(api);
    run.stamp(response.headers_mut());
    let outcome = if failure.status.is_server_error() { Outcome::Failed } else { Outcome::Refused };
    // A refusal that could not be recorded is one all the same.
    let _ = run.finish(outcome, failure.status.as_u16(), Some(failure.message.clone())).await;
    response
}

async fn try_answer(gateway: &Gateway, request: Request, read: Read, run: &mut Run) -> Result<Ready, Failure> {
    let (parts, body) = request.into_parts();
    let body = read_body(body, &parts.headers, gateway.settings().body_limit).await?;
    let ask = read(parse(&body)?).map_err(Failure::bad_request)?;
    run.asked(&ask, &body);
    gateway.recorder().check()?;
    let serving = gateway.serving();
    let name = &gateway.settings().namespace;
    let found = resolve(serving.table().namespace(name), &ask.model)?;
    let wish = wish(&parts.headers, found.sticky_header(), &ask);
    let legs = plan::plan(name, found, &parts.headers, &serving, gateway.tally());
    Dispatch::new(gateway, &serving, &ask, wish, run).run(&legs).await
}

pub(super) async fn read_body(body: axum::body::Body, headers: &HeaderMap, limit: usize) -> Result<Bytes, Failure> {
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

pub(super) fn parse(body: &Bytes) -> Result<Fields, Failure> {
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
