//! A Kubernetes API in this process, over SQLite: as much of it as kubectl, helm and kube-runtime need for the kinds
//! that are defined and a few of Kubernetes' own. `Api` is a tower service, so that a client can be made over it without
//! a port; `Server` puts it on one, with TLS and a token.

pub mod backup;
mod discovery;
mod document;
mod janitor;
mod jsonpath;
mod kinds;
mod openapi;
mod options;
pub mod partial;
pub mod patch;
pub mod patience;
mod protobuf;
mod request;
mod resources;
pub mod schema;
pub mod selector;
mod server;
mod status;
pub mod storage;
mod table;
mod watch;

use std::{
    convert::Infallible,
    path::Path,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    http::{Request, Response},
};
use bytes::BytesMut;
use futures::{FutureExt, StreamExt, future::BoxFuture};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use tower::Service;

pub use server::{IDENTITY_FILE, KUBECONFIG_FILE, Server, reachable, write_private};
pub use status::{Cause, Failure};
pub use storage::Durability;

use resources::Core;

/// The longest body that is read, in bytes: what Kubernetes takes too.
const BODY_LIMIT: usize = 3 * 1024 * 1024;
/// How much of a body that is too long is read and forgotten, in bytes.
const READ_LIMIT: usize = 128 * 1024 * 1024;
/// The file that the objects are in.
pub const STATE_FILE: &str = "state.db";

/// The API; cheap to clone.
#[derive(Clone)]
pub struct Api(Arc<Core>);

impl Api {
    /// Opens the state in a folder, or begins one, with the kinds that `crds` define. The second value keeps it going:
    /// it must run for writes to be carried out, and ends when every `Api` is gone.
    ///
    /// # Errors
    /// When the state can't be read or the definitions can't be used: what and why.
    pub async fn open(
        dir: &Path,
        crds: &[CustomResourceDefinition],
        durability: Durability,
    ) -> Result<(Self, impl Future<Output = Result<(), String>> + Send + use<>), String> {
        let kinds = kinds::Kinds::new(crds)?;
        let (store, mut writer) = storage::Store::open(&dir.join(STATE_FILE), durability).await?;
        let core = Arc::new(Core { store, kinds, documents: openapi::Documents::default() });
        let prepared = tokio::select! {
            () = writer.run() => Err("the writer ended".into()),
            prepared = resources::prepare(&core) => prepared,
        };
        prepared.map_err(|why| format!("{}: {why}", dir.display()))?;
        let janitor = janitor::run(Arc::downgrade(&core));
        // The writer goes when it is done: that ends the janitor, which waits for changes.
        let writing = async move { writer.run().await };
        let service = async move {
            tokio::join!(writing, janitor);
            Ok(())
        };
        Ok((Self(core), service))
    }

    /// Answers one request.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        let body = match read(Body::new(body)).await {
            Ok(body) => body,
            Err(failure) => return failure.response(),
        };
        resources::answer(&self.0, &parts, body).await.unwrap_or_else(|failure| failure.response())
    }
}

/// The whole body. One that is too long is read to its end, within reason: a client that is still sending would not see
/// the answer.
async fn read(body: Body) -> Result<Bytes, Failure> {
    let (mut chunks, mut bytes, mut length) = (body.into_data_stream(), BytesMut::new(), 0);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| Failure::bad_request(format!("reading the body: {error}")))?;
        length += chunk.len();
        if length <= BODY_LIMIT {
            bytes.extend_from_slice(&chunk);
        } else if length > READ_LIMIT {
            break;
        }
    }
    if length > BODY_LIMIT { Err(Failure::too_large(BODY_LIMIT)) } else { Ok(bytes.freeze()) }
}

impl<B> Service<Request<B>> for Api
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let api = self.clone();
        async move { Ok(api.answer(request).await) }.boxed()
    }
}
