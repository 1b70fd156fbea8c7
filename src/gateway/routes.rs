//! The paths of a gateway.

use axum::{
    Json, Router,
    body::to_bytes,
    extract::{Path, Request, State},
    http::{
        HeaderMap, HeaderValue, Method, StatusCode, Uri,
        header::{CONTENT_LENGTH, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::json;

use super::{
    Gateway, anthropic,
    api::Api,
    ask::Ask,
    dispatch::Dispatch,
    failure::Failure,
    fields::Fields,
    fleet, listing, meters,
    openai::{chat, completions, embeddings, responses},
    plan,
    resolve::resolve,
    run::Run,
    task::{Task, Translated},
};

/// The version of Ollama whose API this is: clients refuse to talk to what they take for an older one.
const OLLAMA_VERSION: &str = "0.17.4";

/// Turns a request in another format into Ollama's terms.
type Translate = fn(Fields) -> Result<Translated, String>;

pub(super) fn router(gateway: Gateway) -> Router {
    let ollama = |path, task| {
        post(move |State(gateway): State<Gateway>, request: Request| async move {
            answer(&gateway, path, Api::Ollama, request, |fields| Ask::ollama(task, fields)).await
        })
    };
    let translated = |path, api, translate: Translate| {
        post(move |State(gateway): State<Gateway>, request: Request| async move {
            answer(&gateway, path, api, request, |fields| Ask::new(translate(fields)?)).await
        })
    };
    let openai = |path, translate| translated(path, Api::OpenAi, translate);
    Router::new()
        .route("/", get(|| async { "Ollama is running" }))
        .route("/api/version", get(|| async { Json(json!({ "version": OLLAMA_VERSION })) }))
        .route("/api/tags", get(tags))
        .route("/api/chat", ollama(meters::Path::Chat, Task::Chat))
        .route("/api/generate", ollama(meters::Path::Generate, Task::Generate))
        .route("/api/embed", ollama(meters::Path::Embed, Task::Embed))
        .route("/api/embeddings", ollama(meters::Path::Embeddings, Task::Embeddings))
        .route("/api/show", post(show))
        .route("/api/ps", get(ps))
        .route("/v1/models", get(models))
        .route("/v1/models/{*name}", get(model))
        .route("/v1/chat/completions", openai(meters::Path::ChatCompletions, chat::request::translate))
        .route("/v1/completions", openai(meters::Path::Completions, completions::translate))
        .route("/v1/embeddings", openai(meters::Path::OpenAiEmbeddings, embeddings::translate))
        .route("/v1/responses", openai(meters::Path::Responses, responses::request::translate))
        .route("/v1/messages", translated(meters::Path::Messages, Api::Anthropic, anthropic::request::translate))
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
    let mut run = Run::start();
    let outcome = try_answer(gateway, request, read, &mut run).await;
    let mut response = outcome.unwrap_or_else(|failure| failure.render(api));
    run.stamp(response.headers_mut());
    let (status, attempts) = (response.status().as_u16(), run.attempts);
    tracing::debug!(run = run.id, model = run.model, node = run.node, attempts, status, "request");
    under_way.answered(response)
}

async fn try_answer(
    gateway: &Gateway,
    request: Request,
    read: impl Fn(Fields) -> Result<Ask, String> + Send,
    run: &mut Run,
) -> Result<Response, Failure> {
    let (parts, body) = request.into_parts();
    let fields = read_body(body, &parts.headers, gateway.settings().body_limit).await?;
    let mut ask = read(fields).map_err(Failure::bad_request)?;
    let table = gateway.table();
    let name = &gateway.settings().namespace;
    let found = resolve(table.namespace(name), &ask.model)?;
    if wants_check(&parts.headers)?.unwrap_or(found.checks_schema()) {
        ask.check_schema().map_err(Failure::bad_request)?;
    }
    let legs = plan::plan(name, found, &parts.headers, gateway.tally());
    Dispatch::new(gateway, &ask, run).run(&legs).await
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

async fn read_body(body: axum::body::Body, headers: &HeaderMap, limit: usize) -> Result<Fields, Failure> {
    let too_long = || {
        let message = format!("the request is longer than {limit} bytes");
        Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message)
    };
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > limit) {
        return Err(too_long());
    }
    let body = to_bytes(body, limit).await.map_err(|error| match length {
        // A caller that gave no length can fail by it alone; with one, the body just didn't come whole.
        None => too_long(),
        Some(_) => Failure::bad_request(format!("the request could not be read: {error}")),
    })?;
    Fields::parse(&body).map_err(|error| Failure::bad_request(format!("the request must be a JSON object: {error}")))
}

async fn tags(State(gateway): State<Gateway>) -> Response {
    let table = gateway.table();
    Json(listing::tags(table.namespace(&gateway.settings().namespace))).into_response()
}

async fn show(State(gateway): State<Gateway>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let shown = async {
        let fields = read_body(body, &parts.headers, gateway.settings().body_limit).await?;
        fleet::show(&gateway, fields).await
    };
    match shown.await {
        Ok(shown) => ([(CONTENT_TYPE, "application/json; charset=utf-8")], shown).into_response(),
        Err(failure) => failure.render(Api::Ollama),
    }
}

async fn ps(State(gateway): State<Gateway>) -> Response {
    Json(fleet::ps(&gateway).await).into_response()
}

/// The API of a caller who asks for models: both have the same path.
fn api_of(headers: &HeaderMap) -> Api {
    if headers.contains_key("anthropic-version") { Api::Anthropic } else { Api::OpenAi }
}

async fn models(State(gateway): State<Gateway>, headers: HeaderMap) -> Response {
    let table = gateway.table();
    let namespace = table.namespace(&gateway.settings().namespace);
    match api_of(&headers) {
        Api::Anthropic => Json(listing::anthropic_models(namespace)).into_response(),
        _ => Json(listing::models(namespace)).into_response(),
    }
}

async fn model(State(gateway): State<Gateway>, headers: HeaderMap, Path(name): Path<String>) -> Response {
    let (table, api) = (gateway.table(), api_of(&headers));
    match (resolve(table.namespace(&gateway.settings().namespace), &name), api) {
        (Ok(found), Api::Anthropic) => Json(listing::anthropic_model(&name, listing::created(found))).into_response(),
        (Ok(found), _) => Json(listing::model(&name, listing::created(found))).into_response(),
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
