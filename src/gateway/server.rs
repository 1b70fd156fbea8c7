//! The gateway's port: HTTP/1.1 connections, and what a caller may do to one.

use std::{io, net::SocketAddr, time::Duration};

use axum::{Router, extract::ConnectInfo};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    pin,
};
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::{Gateway, callers::MustHaveKey, routes};
use crate::supervisor::Tasks;

/// Beginnings of the paths for which it matters who is there: the gateway's own, and those that change the fleet.
const PERSONAL: [&str; 3] = ["/drover/", "/api/pull", "/api/delete"];
/// When no more connections can be had (of open files, mostly), how long until the next look.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Serves until `shutdown`; then takes no new connections, and returns when the requests under way are answered. A connection
/// on which the head of a request isn't there within the settings' `idle_limit` is closed. Requests over connections whose
/// caller is asked for a key by their `require_key` are marked.
///
/// # Errors
/// None at present.
pub async fn serve(listener: TcpListener, gateway: Gateway, shutdown: CancellationToken) -> io::Result<()> {
    let (idle_limit, require_key) = (gateway.settings().idle_limit, gateway.settings().require_key);
    let router = routes::router(gateway.clone());
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(idle_limit);
    let connections = Tasks::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let asked = require_key.asks(peer.ip().to_canonical().is_loopback());
                let answers = (gateway.clone(), router.clone());
                connections.start(connection((stream, peer), asked, http.clone(), answers, shutdown.clone()));
            }
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "no connection can be taken for a moment");
                tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
            }
        }
    }
    drop(listener);
    connections.ended().await;
    Ok(())
}

async fn connection(
    (stream, peer): (TcpStream, SocketAddr),
    is_asked_for_key: bool,
    http: http1::Builder,
    (gateway, router): (Gateway, Router),
    shutdown: CancellationToken,
) {
    // Without this, small pieces of a stream wait for the caller's acknowledgement of the one before.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
    let answer = service_fn(move |mut request: http::Request<Incoming>| {
        // It isn't free to tell.
        if PERSONAL.iter().any(|start| request.uri().path().starts_with(start)) {
            request.extensions_mut().insert(ConnectInfo(peer));
        }
        if is_asked_for_key {
            request.extensions_mut().insert(MustHaveKey);
        }
        let (gateway, mut router) = (gateway.clone(), router.clone());
        async move {
            match routes::answer_at_once(&gateway, request).await {
                Ok(response) => Ok(response),
                Err(request) => router.call(request).await,
            }
        }
    });
    let connection = http.serve_connection(TokioIo::new(stream), answer);
    pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a caller's connection broke");
    }
}

/// Whether only the connection that was to be taken is affected.
fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
