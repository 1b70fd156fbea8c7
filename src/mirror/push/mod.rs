//! The push side of the registry protocol: the mirror is a registry for what people make.

pub mod keys;
mod pushers;
mod uploads;

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, Path, Query, State},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{CONTENT_RANGE, LOCATION, RANGE},
    },
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
    routing::{get, patch, post},
};
use jiff::Timestamp;
use serde::Deserialize;

pub use pushers::Pushers;
use pushers::{TOKEN_PATH, base_url, may_push, pushers_only, token};
use uploads::Fail;
pub use uploads::Uploads;

use super::{Mirror, models::Model, parse, refusal::Refusal};
use crate::domain::{
    alias,
    digest::Digest,
    manifest::{LONGEST, Manifest},
    model_name::{DEFAULT_HOST, ModelName},
};

const CONTENT_DIGEST: &str = "docker-content-digest";
const UPLOAD_ID: &str = "docker-upload-uuid";

/// The paths by which people push. Those that pulling has too are in `server.rs`.
pub fn router(mirror: &Mirror) -> Router<Mirror> {
    let guarded = Router::new()
        .route("/v2/{namespace}/{model}/blobs/uploads/", post(begin))
        .route("/v2/{namespace}/{model}/blobs/uploads/{id}", patch(append).put(finish).get(progress).delete(give_up))
        .route("/v2/{namespace}/{model}/manifests/{reference}", axum::routing::put(put_manifest))
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(mirror.clone(), pushers_only));
    Router::new().route(TOKEN_PATH, get(token)).merge(guarded)
}

/// The name under which a model is pushed.
///
/// # Errors
/// When nothing may have this name.
pub fn own_name(namespace: &str, model: &str, tag: &str) -> Result<ModelName, String> {
    let name: ModelName = format!("{namespace}/{model}:{tag}").parse()?;
    match alias::is_reserved(namespace) || name.host != DEFAULT_HOST {
        true => Err(format!("{namespace}/{model}: names that begin with drover- are Drover's own: choose another one")),
        false => Ok(name),
    }
}

fn bad(why: impl Into<String>) -> Response {
    (StatusCode::BAD_REQUEST, why.into() + "\n").into_response()
}

impl IntoResponse for Fail {
    fn into_response(self) -> Response {
        match self {
            Self::Unknown => (StatusCode::NOT_FOUND, "there is no such upload any more: begin again\n").into_response(),
            Self::Gap(length) => {
                let mut answer =
                    (StatusCode::RANGE_NOT_SATISFIABLE, "this part does not follow what is there\n").into_response();
                answer.headers_mut().insert(RANGE, range(length));
                answer
            }
            Self::WrongDigest(found) => {
                bad(format!("digest mismatch: the bytes that came have {found}; nothing was kept"))
            }
            Self::Broken => bad("the connection broke"),
            Self::Refused(refusal) => refusal.plain(),
        }
    }
}

/// Which bytes are there, as registries say it.
fn range(length: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("0-{}", length.saturating_sub(1))).unwrap_or(HeaderValue::from_static("0-0"))
}

type Repository = Path<(String, String)>;
type OfUpload = Path<(String, String, String)>;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Asked {
    digest: Option<String>,
    mount: Option<String>,
}

async fn begin(
    State(mirror): State<Mirror>,
    Path((namespace, model)): Repository,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Response {
    if let Err(why) = own_name(&namespace, &model, "latest") {
        return bad(why);
    }
    let mount = asked.mount.and_then(|digest| digest.parse::<Digest>().ok());
    if let Some(digest) = mount.filter(|digest| mirror.shows(digest).is_some()) {
        mirror.0.uploads.hold([&digest].into_iter());
        return created(&namespace, &model, &digest);
    }
    match mirror.0.uploads.begin().await {
        Ok(id) => accepted(&headers, &namespace, &model, &id, 0),
        Err(fail) => fail.into_response(),
    }
}

/// Where the upload goes on. Ollama takes no address without a host here.
fn accepted(asked: &HeaderMap, namespace: &str, model: &str, id: &str, length: u64) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(RANGE, range(length));
    let url = format!("{}/v2/{namespace}/{model}/blobs/uploads/{id}", base_url(asked));
    for (name, value) in [(LOCATION.as_str(), url.as_str()), (UPLOAD_ID, id)] {
        if let (Ok(name), Ok(value)) = (http::HeaderName::try_from(name), HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    }
    (StatusCode::ACCEPTED, headers).into_response()
}

fn created(namespace: &str, model: &str, digest: &Digest) -> Response {
    let location = format!("/v2/{namespace}/{model}/blobs/{digest}");
    let headers = [(LOCATION.as_str(), location), (CONTENT_DIGEST, digest.to_string())];
    (StatusCode::CREATED, headers).into_response()
}

async fn append(
    State(mirror): State<Mirror>,
    Path((namespace, model, id)): OfUpload,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let start = match headers.get(CONTENT_RANGE).map(first_byte) {
        Some(None) => return bad("write Content-Range as FIRST-LAST"),
        start => start.flatten(),
    };
    match mirror.0.uploads.write(&id, start, body, mirror.blobs().limit()).await {
        Ok(length) => accepted(&headers, &namespace, &model, &id, length),
        Err(fail) => fail.into_response(),
    }
}

fn first_byte(range: &HeaderValue) -> Option<u64> {
    let range = range.to_str().ok()?.trim().trim_start_matches("bytes").trim();
    range.split_once('-')?.0.parse().ok()
}

async fn progress(
    State(mirror): State<Mirror>,
    Path((namespace, model, id)): OfUpload,
    headers: HeaderMap,
) -> Response {
    match mirror.0.uploads.length(&id).await {
        Ok(length) => {
            let mut answer = accepted(&headers, &namespace, &model, &id, length);
            *answer.status_mut() = StatusCode::NO_CONTENT;
            answer
        }
        Err(fail) => fail.into_response(),
    }
}

async fn give_up(State(mirror): State<Mirror>, Path((_, _, id)): OfUpload) -> Response {
    mirror.0.uploads.drop(&id).await;
    StatusCode::NO_CONTENT.into_response()
}

async fn finish(
    State(mirror): State<Mirror>,
    Path((namespace, model, id)): OfUpload,
    Query(asked): Query<Asked>,
    body: Body,
) -> Response {
    let digest = match asked.digest.as_deref().unwrap_or_default().parse::<Digest>() {
        Ok(digest) => digest,
        Err(why) => return bad(why),
    };
    let uploads = &mirror.0.uploads;
    let rest = uploads.write(&id, None, body, mirror.blobs().limit()).await;
    let finished = match rest {
        Ok(_) => uploads.finish(&id, &digest, mirror.blobs()).await,
        Err(fail) => Err(fail),
    };
    match finished {
        Ok(()) => created(&namespace, &model, &digest),
        Err(fail) => fail.into_response(),
    }
}

async fn put_manifest(
    State(mirror): State<Mirror>,
    Path((namespace, model, tag)): Path<(String, String, String)>,
    body: Body,
) -> Response {
    let name = match own_name(&namespace, &model, &tag) {
        Ok(name) => name,
        Err(why) => return bad(why),
    };
    let Ok(bytes) = axum::body::to_bytes(body, LONGEST).await else {
        return (StatusCode::PAYLOAD_TOO_LARGE, format!("a manifest has at most {LONGEST} bytes\n")).into_response();
    };
    match mirror.take(&name, &bytes).await {
        Ok(model) => {
            let location = format!("/v2/{namespace}/{}/manifests/{}", name.model, name.tag);
            let headers = [(LOCATION.as_str(), location), (CONTENT_DIGEST, model.digest.to_string())];
            (StatusCode::CREATED, headers).into_response()
        }
        Err(Taken::Not(why)) => bad(format!("{namespace}/{}:{}: {why}", name.model, name.tag)),
        Err(Taken::Failed(refusal)) => refusal.plain(),
    }
}

/// Why a manifest was not taken.
pub enum Taken {
    /// It is wrong, or blobs are missing.
    Not(String),
    /// It can't be kept.
    Failed(Refusal),
}

impl Mirror {
    /// The size of a blob that may be used by whoever knows its digest: one that is there, and not only in models that a
    /// registry gave to somebody's own login.
    pub fn shows(&self, digest: &Digest) -> Option<u64> {
        let size = self.blobs().complete(digest)?;
        let models = self.models().list();
        let has = |model: &&std::sync::Arc<Model>| model.manifest.blobs().is_ok_and(|blobs| blobs.contains_key(digest));
        let mut owners = models.iter().filter(has).peekable();
        (owners.peek().is_none() || owners.any(|model| !model.is_private)).then_some(size)
    }

    /// The size of a blob, for whoever may push and needn't send it again.
    pub fn has_for_pusher(&self, digest: &str, headers: &HeaderMap) -> Option<u64> {
        let digest = digest.parse().ok().filter(|_| may_push(self, headers))?;
        let size = self.shows(&digest)?;
        self.0.uploads.hold([&digest].into_iter());
        Some(size)
    }

    /// Takes a manifest whose blobs are all there as one of the mirror's own models.
    ///
    /// # Errors
    /// What is wrong with it, or why it can't be kept.
    pub async fn take(&self, name: &ModelName, bytes: &Bytes) -> Result<Model, Taken> {
        let manifest: Manifest = parse(bytes).map_err(Taken::Not)?;
        let blobs = manifest.blobs().map_err(Taken::Not)?;
        self.0.uploads.hold(blobs.keys());
        for (digest, size) in &blobs {
            match self.shows(digest) {
                Some(there) if there == *size => {}
                Some(there) => {
                    return Err(Taken::Not(format!(
                        "the manifest says that blob {digest} has {size} bytes, but it has {there}"
                    )));
                }
                None => return Err(Taken::Not(format!("blob {digest} is not there: push it first"))),
            }
        }
        let model = Model::own(name, manifest, Timestamp::now());
        let failed = |error| {
            let message = format!("the mirror can't keep the manifest in its data-dir: {error}");
            Taken::Failed(Refusal::new(crate::domain::pull::Fault::MirrorFull, message))
        };
        self.models().put(model.clone()).await.map_err(failed)?;
        tracing::info!(model = %model.name, digest = %model.digest, "pushed");
        Ok(model)
    }
}
