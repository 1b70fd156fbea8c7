//! The paths of a gateway.

use std::time::Duration;

use axum::{
    Json, Router,
    body::{Body, to_bytes},
    extract::{Path, Query, Request, State},
    http::{
        HeaderMap, HeaderValue, Method, StatusCode, Uri,
        header::{CONTENT_LENGTH, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::json;
use tokio::time::timeout;

use super::{
    Gateway, Settings, anthropic,
    api::Api,
    ask::Ask,
    attempt::Ready,
    callers::Caller,
    dispatch::Dispatch,
    explain,
    failure::Failure,
    fields::Fields,
    fleet, listing, management, meters,
    openai::{chat, completions, embeddings, responses},
    operations,
    plan::{Planner, Purpose},
    resolve::{Found, resolve},
    run::Run,
    session::Message,
    spans::Trace,
    task::Task,
    wish::wish,
};
use crate::{
    domain::{duration::HumanDuration, run_record::Outcome},
    ports::GatewayStats,
    routing_table::Namespace,
};

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

const ROUTES: [Route; 9] = [
    ollama(meters::Path::Chat, |fields| Ask::ollama(Task::Chat, fields)),
    ollama(meters::Path::Generate, |fields| Ask::ollama(Task::Generate, fields)),
    ollama(meters::Path::Embed, |fields| Ask::ollama(Task::Embed, fields)),
    ollama(meters::Path::Embeddings, |fields| Ask::ollama(Task::Embeddings, fields)),
    openai(meters::Path::ChatCompletions, |fields| Ask::new(chat::request::translate(fields)?)),
    openai(meters::Path::Completions, |fields| Ask::new(completions::translate(fields)?)),
    openai(meters::Path::OpenAiEmbeddings, |fields| Ask::new(embeddings::translate(fields)?)),
    openai(meters::Path::Responses, |fields| Ask::new(responses::request::translate(fields)?)),
    Route {
        path: meters::Path::Messages,
        api: Api::Anthropic,
        read: |fields| Ask::new(anthropic::request::translate(fields)?),
    },
];

const fn ollama(path: meters::Path, read: Read) -> Route {
    Route { path, api: Api::Ollama, read }
}

const fn openai(path: meters::Path, read: Read) -> Route {
    Route { path, api: Api::OpenAi, read }
}

/// The paths that are answered by a model.
pub(super) fn routes() -> impl Iterator<Item = Route> {
    ROUTES.into_iter()
}

/// The path of this name, if a model answers it.
pub(super) fn route(name: &str) -> Option<Route> {
    routes().find(|route| route.path.name() == name)
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
        .merge(operations::router())
        .route("/", get(|| async { "Ollama is running" }))
        .route("/api/version", get(|| async { Json(json!({ "version": OLLAMA_VERSION })) }))
        .route("/api/tags", get(tags))
        .route("/api/show", post(show))
        .route("/api/ps", get(ps))
        .route("/v1/models", get(models))
        .route("/v1/models/{*name}", get(model))
        .route("/drover/v1/explain", post(explain::explain))
        .route("/drover/v1/stats", get(stats))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(gateway)
}

/// Answers a request for a model without the router, which allocates several times for each request and copies what is under
/// way from one place to the next; any other request is given back.
pub(super) async fn answer_at_once(
    gateway: &Gateway,
    request: http::Request<Incoming>,
) -> Result<Response, http::Request<Incoming>> {
    match route(request.uri().path()) {
        Some(route) if request.method() == Method::POST => Ok(answer(gateway, route, request.map(Body::new)).await),
        _ => Err(request),
    }
}

/// Which deployment is asked about.
#[derive(Deserialize)]
struct About {
    /// `NAMESPACE/NAME`; all of them if left out.
    deployment: Option<String>,
}

async fn stats(State(gateway): State<Gateway>, Query(about): Query<About>) -> Json<GatewayStats> {
    let of = about.deployment.as_deref().map(|of| of.split_once('/').unwrap_or(("", of)));
    Json(gateway.stats(of.map(|(namespace, name)| [namespace, name])))
}

/// Answers a request for a model; the headers tell about every outcome.
async fn answer(gateway: &Gateway, Route { path, api, read }: Route, request: Request) -> Response {
    let under_way = gateway.meters().begin(path);
    let trace = Trace::begin(gateway.tracer(), request.headers());
    let mut run = Run::start(gateway.recorder(), path.name(), &gateway.settings().namespace, trace);
    let ready = try_answer(gateway, request, read, &mut run).await;
    ready.as_ref().err().into_iter().for_each(|failure| gateway.meters().refusals().count(failure));
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
    let caller = Caller::of(gateway, &parts)?;
    run.called_by(caller.begin()?);
    let body = read_body(body, &parts.headers, gateway.settings()).await?;
    let mut fields = parse(&body)?;
    let message = Message::take(&mut fields, &parts.headers)?;
    let mut ask = read(fields).map_err(Failure::bad_request)?;
    run.asked(&ask, &body);
    gateway.recorder().check()?;
    let serving = gateway.serving();
    let name = &gateway.settings().namespace;
    let namespace = serving.table().namespace(name);
    let found = find(namespace, &parts.headers, &mut ask, &caller)?;
    message.check(namespace, found, &caller)?;
    let wish = wish(&parts.headers, found.sticky_header(), &ask, &caller).anew(message.force_new);
    let (headers, message, caller, task) = (&parts.headers, &message, &caller, ask.task);
    let planner = Planner { gateway, serving: &serving, headers, message, caller, task, purpose: Purpose::Answer };
    let legs = planner.legs(namespace, found, || ask.needs())?;
    message.check_fingerprint(&legs)?;
    run.holds(message.fingerprint.clone());
    let ready = Dispatch::new(gateway, &serving, &ask, wish, run).run(&legs).await?;
    if let Some((deployment, account)) = legs.first().and_then(|leg| leg.deployment.zip(leg.copy.as_ref())) {
        gateway.shadows().copy(gateway, &serving, deployment, account, &ask, body.len());
    }
    Ok(ready)
}

/// What the request's name stands for; by that it is known whether its answer is checked.
pub(super) fn find<'a>(
    namespace: &'a Namespace,
    headers: &HeaderMap,
    ask: &mut Ask,
    caller: &Caller,
) -> Result<Found<'a>, Failure> {
    let found = resolve(namespace, &ask.model, caller)?;
    if wants_check(headers)?.unwrap_or(found.checks_schema()) {
        ask.check_schema().map_err(Failure::bad_request)?;
    }
    Ok(found)
}

/// Whether the request says that its answer is to be checked by the schema that it brings, or not.
fn wants_check(headers: &HeaderMap) -> Result<Option<bool>, Failure> {
    match headers.get("x-drover-schema-check").map(HeaderValue::as_bytes) {
        None => Ok(None),
        Some(b"true") => Ok(Some(true)),
        Some(b"false") => Ok(Some(false)),
        Some(_) => Err(Failure::bad_request("x-drover-schema-check: write true or false")),
    }
}

pub(super) async fn read_body(body: Body, headers: &HeaderMap, settings: &Settings) -> Result<Bytes, Failure> {
    let (limit, within) = (settings.body_limit, settings.body_within);
    let too_long = || {
        let message = format!("the request is longer than {limit} bytes");
        Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message)
    };
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > limit) {
        return Err(too_long());
    }
    let read = timeout(within, to_bytes(body, limit)).await.map_err(|_| too_slow(within))?;
    read.map_err(|error| match length {
        // A caller that gave no length can fail by it alone; with one, the body just didn't come whole.
        None => too_long(),
        Some(_) => Failure::bad_request(format!("the request could not be read: {error}")),
    })
}

fn too_slow(within: Duration) -> Failure {
    let within = HumanDuration(within);
    let message = format!("the request was not there after {within}: send it faster, or have body-timeout raised");
    Failure::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message)
}

pub(super) fn parse(body: &Bytes) -> Result<Fields, Failure> {
    Fields::parse(body).map_err(|error| Failure::bad_request(format!("the request must be a JSON object: {error}")))
}

async fn tags(State(gateway): State<Gateway>, caller: Caller) -> Response {
    let table = gateway.table();
    Json(listing::tags(table.namespace(&gateway.settings().namespace), &caller)).into_response()
}

async fn show(State(gateway): State<Gateway>, caller: Caller, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let shown = async {
        let body = read_body(body, &parts.headers, gateway.settings()).await?;
        fleet::show(&gateway, &caller, parse(&body)?).await
    };
    match shown.await {
        Ok(shown) => ([(CONTENT_TYPE, "application/json; charset=utf-8")], shown).into_response(),
        Err(failure) => failure.render(Api::Ollama),
    }
}

async fn ps(State(gateway): State<Gateway>, caller: Caller) -> Response {
    Json(fleet::ps(&gateway, &caller).await).into_response()
}

async fn models(State(gateway): State<Gateway>, caller: Caller, uri: Uri, headers: HeaderMap) -> Response {
    let table = gateway.table();
    let namespace = table.namespace(&gateway.settings().namespace);
    match Api::of_request(uri.path(), &headers) {
        Api::Anthropic => Json(listing::anthropic_models(namespace, &caller)).into_response(),
        _ => Json(listing::models(namespace, &caller)).into_response(),
    }
}

async fn model(
    State(gateway): State<Gateway>,
    caller: Caller,
    uri: Uri,
    headers: HeaderMap,
    Path(name): Path<String>,
) -> Response {
    let (table, api) = (gateway.table(), Api::of_request(uri.path(), &headers));
    match (resolve(table.namespace(&gateway.settings().namespace), &name, &caller), api) {
        (Ok(found), Api::Anthropic) => Json(listing::anthropic_model(&name, found)).into_response(),
        (Ok(found), _) => Json(listing::model(&name, found)).into_response(),
        (Err(failure), api) => failure.render(api),
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
