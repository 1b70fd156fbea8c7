//! A Kubernetes API in this process, over SQLite: as much of it as kubectl, helm and kube-runtime need for the kinds
//! that are defined and a few of Kubernetes' own. `Api` is a tower service, so that a client can be made over it without
//! a port; `Server` puts it on one, with TLS and a token.

mod discovery;
mod janitor;
mod jsonpath;
mod kinds;
mod openapi;
pub mod patch;
mod protobuf;
mod request;
mod resources;
pub mod schema;
mod selector;
mod server;
mod status;
mod storage;
mod table;
mod watch;

use std::{
    convert::Infallible,
    path::Path,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes, HttpBody, to_bytes},
    http::{Request, Response},
};
use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use tower::Service;

pub use server::Server;
pub use status::{Cause, Failure};

use resources::Core;

/// The longest body that is read, in bytes: what Kubernetes takes too.
const BODY_LIMIT: usize = 3 * 1024 * 1024;
const FILE: &str = "state.db";

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
    ) -> Result<(Self, impl Future<Output = Result<(), String>> + Send + 'static), String> {
        let kinds = kinds::Kinds::new(crds)?;
        let (store, mut writer) = storage::Store::open(&dir.join(FILE)).await?;
        let core = Arc::new(Core { store, kinds });
        let prepared = tokio::select! {
            () = writer.run() => Err("the writer ended".into()),
            prepared = resources::prepare(&core) => prepared,
        };
        prepared.map_err(|why| format!("{}: {why}", dir.display()))?;
        let janitor = janitor::run(Arc::downgrade(&core));
        let service = async move {
            tokio::join!(writer.run(), janitor);
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
        let body = match to_bytes(Body::new(body), BODY_LIMIT).await {
            Ok(body) => body,
            Err(error) if is_too_long(&error) => return Failure::too_large(BODY_LIMIT).response(),
            Err(error) => return Failure::bad_request(format!("reading the body: {error}")).response(),
        };
        resources::answer(&self.0, &parts, body).await.unwrap_or_else(|failure| failure.response())
    }
}

fn is_too_long(error: &axum::Error) -> bool {
    error.to_string().contains("length limit")
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
