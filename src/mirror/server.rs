//! The paths of a mirror: Drover's own, behind the key, and those by which Ollama pulls.

use std::{future::ready, io, ops::Range, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Path, Request, State},
    http::{
        HeaderMap, HeaderValue, Method, StatusCode, Uri,
        header::{ACCEPT_RANGES, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE},
    },
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, put},
};
use futures::{Stream, StreamExt, stream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{
    Mirror,
    blobs::Reader,
    grants::{Grant, is_token},
    manifests::Found,
    meters::Share,
    models::Provenance,
    push,
    refusal::{Detail, Envelope, Refusal},
    tools,
    upstream::Origin,
};
use crate::{
    domain::{
        digest::Digest,
        http::{NoSuchBytes, requested},
        manifest::DOCKER_MANIFEST,
        model_name::ModelName,
        pull::Fault,
    },
    ports::PullGrant,
};

/// Whoever asks for a blob learns from the answer's head why its registry refuses it, if it does so within this time.
const FIRST_BYTES_WITHIN: Duration = Duration::from_secs(20);
const CONTENT_DIGEST: &str = "docker-content-digest";

pub(super) fn router(mirror: Mirror) -> Router {
    let own = Router::new()
        .route("/drover/v1/pulls/{token}", put(grant).delete(revoke))
        .route("/drover/v1/stats", get(|State(mirror): State<Mirror>| async move { Json(mirror.stats()) }))
        .merge(tools::router())
        .layer(from_fn_with_state(mirror.clone(), with_key));
    Router::new()
        .route("/v2/", get(|| async { Json(serde_json::json!({})) }))
        .route("/v2/{namespace}/{model}/manifests/{reference}", get(manifest))
        .route("/v2/{namespace}/{model}/blobs/{digest}", get(blob))
        .merge(push::router(&mirror))
        .merge(own)
        .fallback(
            |uri: Uri| async move { (StatusCode::NOT_FOUND, format!("a mirror has nothing at {}\n", uri.path())) },
        )
        .with_state(mirror)
}

/// Lets through whoever has the key, if there is one.
async fn with_key(State(mirror): State<Mirror>, request: Request, next: Next) -> Response {
    let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    match mirror.fits_key(given.trim()) {
        true => next.run(request).await,
        false => {
            let message = "this needs the mirror's key: give both sides the same mirror-key-file".to_owned();
            let detail = Detail { reason: "WrongKey".into(), message, retry_after_seconds: None };
            (StatusCode::UNAUTHORIZED, Json(Envelope { error: detail })).into_response()
        }
    }
}

fn bad_request(message: String) -> Response {
    let detail = Detail { reason: "BadRequest".into(), message, retry_after_seconds: None };
    (StatusCode::BAD_REQUEST, Json(Envelope { error: detail })).into_response()
}

async fn grant(State(mirror): State<Mirror>, Path(token): Path<String>, body: Bytes) -> Response {
    if !is_token(&token) {
        return bad_request("a token is 1 to 80 letters, digits, hyphens and underscores".into());
    }
    let grant: PullGrant = match serde_json::from_slice(&body) {
        Ok(grant) => grant,
        Err(error) => return bad_request(format!("the body is no grant: {error}")),
    };
    match mirror.grant(&token, grant).await {
        Ok(granted) => Json(granted).into_response(),
        Err(refusal) => refusal.json(),
    }
}

async fn revoke(State(mirror): State<Mirror>, Path(token): Path<String>) -> Response {
    match mirror.0.grants.revoke(&token).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => Refusal::new(Fault::Other, format!("the grant can't be removed: {error}")).json(),
    }
}

async fn manifest(
    State(mirror): State<Mirror>,
    Path((namespace, model, reference)): Path<(String, String, String)>,
) -> Response {
    match found(&mirror, &namespace, &model, &reference).await {
        Ok(found) => {
            let kind = if found.manifest.media_type.is_empty() { DOCKER_MANIFEST } else { &found.manifest.media_type };
            let headers = [(CONTENT_TYPE.as_str(), kind), (CONTENT_DIGEST, found.digest.as_str())];
            (headers, found.manifest.encode()).into_response()
        }
        Err(refusal) => refusal.plain(),
    }
}

/// The manifest under a tag or digest of a token's or a model's own name.
async fn found(mirror: &Mirror, namespace: &str, model: &str, reference: &str) -> Result<Found, Refusal> {
    if let Some(grant) = granted(mirror, namespace, model).await {
        let is_meant = grant.name.tag.eq_ignore_ascii_case(reference) || grant.found.digest.as_str() == reference;
        if !is_meant {
            return Err(unknown());
        }
        mirror.0.look(&grant).await?;
        return Ok(grant.found.clone());
    }
    let name = name(namespace, model, reference)?;
    if let Some(own) = mirror.models().own(&name) {
        let (digest, upstream_digest) = (own.digest.clone(), own.upstream_digest.clone());
        return Ok(Found { manifest: own.manifest.clone(), digest, upstream_digest });
    }
    match mirror.0.open {
        true => Ok(mirror.open(&name).await?.found.clone()),
        false => Err(unknown()),
    }
}

async fn granted(mirror: &Mirror, token: &str, model: &str) -> Option<Arc<Grant>> {
    let grant = mirror.0.grants.get(token).await?;
    grant.name.model.eq_ignore_ascii_case(model).then_some(grant)
}

fn name(namespace: &str, model: &str, tag: &str) -> Result<ModelName, Refusal> {
    format!("{namespace}/{model}:{tag}").parse().map_err(|why: String| Refusal::new(Fault::NoSuchModel, why))
}

fn unknown() -> Refusal {
    let message = "the mirror has no such model: no pull of this name is granted, and nobody pushed it";
    Refusal::new(Fault::NoSuchModel, message)
}

/// A blob that somebody may have.
struct Allowed {
    digest: Digest,
    size: u64,
    origin: Option<Arc<Origin>>,
    /// Keeps the grant's blobs from being evicted.
    _grant: Option<Arc<Grant>>,
}

/// The blob, if it belongs to what the token or the model's name stands for.
async fn allowed(mirror: &Mirror, namespace: &str, model: &str, digest: &str) -> Result<Allowed, Refusal> {
    let digest: Digest = digest.parse().map_err(|why| Refusal::new(Fault::NoSuchModel, why))?;
    let of_grant = |grant: Arc<Grant>| {
        let size = *grant.blobs.get(&digest)?;
        Some(Allowed { digest: digest.clone(), size, origin: grant.origin.clone(), _grant: Some(grant) })
    };
    if let Some(grant) = granted(mirror, namespace, model).await {
        return of_grant(grant).ok_or_else(unknown);
    }
    let name = name(namespace, model, "latest")?;
    let own = mirror.models().list().into_iter().filter(|own| own.provenance == Provenance::Own);
    let mut own = own.filter(|own| own.name.parse().is_ok_and(|own: ModelName| same_model(&own, &name)));
    if let Some(size) = own.find_map(|own| own.manifest.blobs().ok()?.get(&digest).copied()) {
        return Ok(Allowed { digest, size, origin: None, _grant: None });
    }
    mirror.0.grants.opened(&name).into_iter().find_map(of_grant).ok_or_else(unknown)
}

fn same_model(a: &ModelName, b: &ModelName) -> bool {
    a.host == b.host && a.namespace.eq_ignore_ascii_case(&b.namespace) && a.model.eq_ignore_ascii_case(&b.model)
}

async fn blob(
    State(mirror): State<Mirror>,
    Path((namespace, model, digest)): Path<(String, String, String)>,
    uri: Uri,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let allowed = match allowed(&mirror, &namespace, &model, &digest).await {
        Ok(allowed) => allowed,
        Err(refusal) => {
            let there = mirror.has_for_pusher(&digest, &headers).filter(|_| method == Method::HEAD);
            return there.map_or_else(|| refusal.plain(), |size| [(CONTENT_LENGTH, size)].into_response());
        }
    };
    mirror.0.meters.request(share(&mirror, &allowed));
    let result = match method == Method::HEAD {
        true => size_of(&mirror, &allowed).await,
        false => bytes_of(&mirror, allowed, &uri, &headers).await,
    };
    result.unwrap_or_else(|refusal| match headers.contains_key(RANGE) {
        // Ollama takes the body of any answer to such a request for the bytes that it asked for.
        true => refusal.wordless(),
        false => refusal.plain(),
    })
}

/// The size, once it is clear that the registry gives the bytes: when they are asked for by range, Ollama shows no
/// error's text to people. Bytes that came damaged are asked for again in a moment, and Ollama comes again for them, but not
/// for a size that it did not get.
async fn size_of(mirror: &Mirror, blob: &Allowed) -> Result<Response, Refusal> {
    if blob.size > 0 {
        match reader(mirror, blob, 0..blob.size).await {
            Err(refusal) if mirror.blobs().damage(&blob.digest).is_none() => return Err(refusal),
            _ => {}
        }
    }
    Ok((describe(blob, 0..blob.size), ()).into_response())
}

/// A reader whose first bytes are there, or late: a slow registry is no failure.
async fn reader(mirror: &Mirror, blob: &Allowed, range: Range<u64>) -> Result<Reader, Refusal> {
    let mut reader = mirror.blobs().reader(&blob.digest, blob.size, range, blob.origin.clone()).await?;
    timeout(FIRST_BYTES_WITHIN, reader.ready()).await.unwrap_or(Ok(0))?;
    Ok(reader)
}

async fn bytes_of(mirror: &Mirror, blob: Allowed, uri: &Uri, headers: &HeaderMap) -> Result<Response, Refusal> {
    let asked = headers.get(RANGE).and_then(|range| range.to_str().ok());
    let (status, range) = match requested(asked, blob.size) {
        Ok(Some(range)) => (StatusCode::PARTIAL_CONTENT, range),
        Ok(None) => (StatusCode::OK, 0..blob.size),
        Err(NoSuchBytes) => {
            let size = HeaderValue::try_from(format!("bytes */{}", blob.size));
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, [(CONTENT_RANGE, size.unwrap_or(ZERO))]).into_response());
        }
    };
    let mut headers = describe(&blob, range.clone());
    if status == StatusCode::PARTIAL_CONTENT {
        let content = format!("bytes {}-{}/{}", range.start, range.end - 1, blob.size);
        headers.insert(CONTENT_RANGE, HeaderValue::try_from(content).unwrap_or(ZERO));
    } else if let Ok(location) = HeaderValue::try_from(uri.path()) {
        // Ollama takes the address for its downloads from here.
        headers.insert(LOCATION, location);
    }
    if range.is_empty() {
        return Ok((status, headers).into_response());
    }
    let reader = reader(mirror, &blob, range).await?;
    let body = Body::from_stream(until_stopped(reader, blob, mirror.0.stop.clone()));
    Ok((status, headers, body).into_response())
}

const ZERO: HeaderValue = HeaderValue::from_static("0");

fn describe(blob: &Allowed, range: Range<u64>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
    headers.insert(CONTENT_DIGEST, HeaderValue::from_str(blob.digest.as_str()).unwrap_or(ZERO));
    headers
}

fn share(mirror: &Mirror, blob: &Allowed) -> Share {
    match mirror.blobs().progress(&blob.digest) {
        Some((_, true)) => Share::Hit,
        Some((bytes, false)) if bytes > 0 => Share::Joined,
        _ => Share::Miss,
    }
}

/// The bytes; a mirror that is told to finish breaks them off, and the node goes on with another or with this one
/// when it is back.
fn until_stopped(
    reader: Reader,
    blob: Allowed,
    stop: CancellationToken,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let finishing = stop.clone();
    let broken = stream::once(ready(())).filter_map(move |()| {
        ready(finishing.is_cancelled().then(|| Err(io::Error::other("the mirror is finishing"))))
    });
    let held = blob; // the grant counts as in use until the last byte
    reader.stream().inspect(move |_| _ = &held).take_until(stop.cancelled_owned()).chain(broken)
}
