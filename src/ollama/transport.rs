//! Kept-alive HTTP/1.1 connections to nodes, for the requests of callers.
//!
//! A connection is driven by whoever uses it, in that one's own task: nothing is handed over between tasks, and dropping an
//! answer half way closes its connection, by which the node learns to stop.

use std::{
    collections::{HashMap, VecDeque},
    error::Error,
    fmt::Display,
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError, RwLock},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::{HeaderName, HeaderValue, Method, Request, Response, Uri, header};
use http_body::Body;
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use reqwest::Url;
use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, ServerName},
};
use rustls_platform_verifier::Verifier;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::either::Either;

use super::{CONNECT_WITHIN, USER_AGENT, faults::innermost};
use crate::ports::{NodeError, NodeRequest, NodeResponse, TraceHeaders};

/// A connection that nobody used for so long is closed.
const IDLE_FOR: Duration = Duration::from_secs(90);

type Socket = TokioIo<Either<TcpStream, Box<TlsStream<TcpStream>>>>;

/// Connections to any number of nodes.
pub struct Transport {
    tls: TlsConnector,
    /// By base URL.
    servers: RwLock<HashMap<String, Arc<Server>>>,
}

/// What a base URL says, and the connections there that nobody uses at the moment.
struct Server {
    host: String,
    port: u16,
    /// The name that its certificate must have; `None` speaks plain HTTP.
    name: Option<ServerName<'static>>,
    /// As the `Host` header has it.
    authority: HeaderValue,
    /// What comes before every path.
    base: String,
    idle: Mutex<VecDeque<(Instant, Connection)>>,
}

/// One connection: requests go into `sender`, and `driver` moves the bytes.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: http1::Connection<Socket, Full<Bytes>>,
    /// Whether the driver has nothing more to do: the other end closed the connection, or it broke.
    is_over: bool,
}

impl Transport {
    /// Without any connection yet; these certificates are trusted besides the system's.
    ///
    /// # Errors
    /// When TLS can't be set up.
    pub fn new(roots: Vec<CertificateDer<'static>>) -> Result<Self, rustls::Error> {
        let builder = ClientConfig::builder();
        let verifier = Verifier::new_with_extra_roots(roots, builder.crypto_provider().clone())?;
        let config = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth();
        let tls = TlsConnector::from(Arc::new(config));
        Ok(Self { tls, servers: RwLock::default() })
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    /// When there is no connection, or no head in time.
    pub async fn send(&self, request: NodeRequest) -> Result<NodeResponse, NodeError> {
        let server = self.server(&request.url)?;
        let message = server.message(request.path, request.body, request.trace)?;
        let exchange = timeout(request.head_within, self.exchange(&server, message)).await;
        let (connection, response) = exchange.map_err(|_| NodeError::TimedOut(request.head_within))??;
        let (head, incoming) = response.into_parts();
        let body = Answer { server, connection: Some(connection), incoming };
        let content_type = head.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
        let is_json = content_type.is_some_and(|content_type| content_type.starts_with(b"application/json"));
        Ok(NodeResponse { status: head.status.as_u16(), is_json, body: body.boxed() })
    }

    fn server(&self, url: &str) -> Result<Arc<Server>, NodeError> {
        if let Some(server) = self.servers.read().unwrap_or_else(PoisonError::into_inner).get(url) {
            return Ok(server.clone());
        }
        let server = Arc::new(Server::new(url)?);
        let mut servers = self.servers.write().unwrap_or_else(PoisonError::into_inner);
        // A good time to forget servers that went out of use.
        servers.retain(|_, server| server.is_used());
        Ok(servers.entry(url.into()).or_insert(server).clone())
    }

    /// The head of the answer, and the connection that the rest comes on.
    async fn exchange(
        &self,
        server: &Server,
        mut message: Request<Full<Bytes>>,
    ) -> Result<(Connection, Response<Incoming>), NodeError> {
        while let Some(mut connection) = server.idle().await {
            match connection.exchange(message).await {
                Ok(response) => return Ok((connection, response)),
                // The server closed the connection before it got anything of the request.
                Err((_, Some(unsent))) => message = unsent,
                Err((error, None)) => return Err(error),
            }
        }
        let opened = timeout(CONNECT_WITHIN, server.connect(&self.tls)).await;
        let mut connection = opened.map_err(|_| NodeError::Connect("no answer".into()))??;
        let response = connection.exchange(message).await.map_err(|(error, _)| error)?;
        Ok((connection, response))
    }
}

impl Server {
    fn new(url: &str) -> Result<Self, NodeError> {
        let wrong = |why: &dyn Display| NodeError::Connect(format!("the URL is wrong: {why}"));
        let parsed = Url::parse(url).map_err(|error| wrong(&error))?;
        let host = parsed.host_str().ok_or_else(|| wrong(&"it has no host"))?.to_owned();
        let port = parsed.port_or_known_default().ok_or_else(|| wrong(&"it has no port"))?;
        let authority = parsed.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
        // A certificate has an IPv6 address without the brackets that a URL needs.
        let plain = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = match parsed.scheme() {
            "https" => Some(ServerName::try_from(plain.clone()).map_err(|error| wrong(&error))?),
            _ => None,
        };
        Ok(Self {
            host: plain,
            port,
            name,
            authority: HeaderValue::try_from(authority).map_err(|error| wrong(&error))?,
            base: parsed.path().trim_end_matches('/').to_owned(),
            idle: Mutex::default(),
        })
    }

    /// A body is posted; without one, what is there is asked for.
    fn message(
        &self,
        path: &'static str,
        body: Option<Bytes>,
        trace: TraceHeaders,
    ) -> Result<Request<Full<Bytes>>, NodeError> {
        let uri =
            if self.base.is_empty() { Ok(Uri::from_static(path)) } else { format!("{}{path}", self.base).parse() };
        let uri = uri.map_err(|error| NodeError::Connect(format!("the URL is wrong: {error}")))?;
        let method = if body.is_some() { Method::POST } else { Method::GET };
        let mut message = Request::new(Full::new(body.unwrap_or_default()));
        (*message.method_mut(), *message.uri_mut()) = (method, uri);
        let headers = message.headers_mut();
        headers.insert(header::HOST, self.authority.clone());
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        for (name, value) in trace.entries() {
            headers
                .extend(HeaderValue::from_maybe_shared(value).ok().map(|value| (HeaderName::from_static(name), value)));
        }
        Ok(message)
    }

    async fn connect(&self, tls: &TlsConnector) -> Result<Connection, NodeError> {
        let failed = |error: &(dyn Error + 'static)| NodeError::Connect(innermost(error));
        let stream = TcpStream::connect((&*self.host, self.port)).await.map_err(|error| failed(&error))?;
        stream.set_nodelay(true).map_err(|error| failed(&error))?;
        let socket = match &self.name {
            None => Either::Left(stream),
            Some(name) => {
                let secured = tls.connect(name.clone(), stream).await;
                Either::Right(Box::new(secured.map_err(|error| failed(&error))?))
            }
        };
        let (sender, driver) = http1::handshake(TokioIo::new(socket)).await.map_err(|error| failed(&error))?;
        Ok(Connection { sender, driver, is_over: false })
    }

    /// The connection that was used last, if its other end still has it.
    async fn idle(&self) -> Option<Connection> {
        loop {
            let (_, mut connection) = self.lock().pop_back()?;
            if poll_fn(|context| Poll::Ready(connection.is_ready(context))).await {
                return Some(connection);
            }
        }
    }

    fn keep(&self, connection: Connection) {
        let now = Instant::now();
        let mut idle = self.lock();
        idle.push_back((now, connection));
        while idle.front().is_some_and(|(since, _)| now - *since > IDLE_FOR) {
            idle.pop_front();
        }
    }

    /// Whether a connection is in use, or was lately.
    fn is_used(self: &Arc<Self>) -> bool {
        let newest = self.lock().back().map(|(since, _)| *since);
        Arc::strong_count(self) > 1 || newest.is_some_and(|since| since.elapsed() <= IDLE_FOR)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<(Instant, Connection)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Sends a request. An error comes with the request if nothing of it was sent.
    async fn exchange(
        &mut self,
        message: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, (NodeError, Option<Request<Full<Bytes>>>)> {
        let mut response = pin!(self.sender.try_send_request(message));
        let answer = poll_fn(|context| {
            self.drive(context);
            response.as_mut().poll(context)
        });
        answer.await.map_err(|mut error| {
            let unsent = error.take_message();
            (NodeError::Broken(innermost(error.error())), unsent)
        })
    }

    /// Moves bytes. Its error, if it has one, is the response's or the body's as well.
    fn drive(&mut self, context: &mut Context<'_>) {
        self.is_over = self.is_over || Pin::new(&mut self.driver).poll(context).is_ready();
    }

    /// Whether it can take a request now.
    fn is_ready(&mut self, context: &mut Context<'_>) -> bool {
        self.drive(context);
        !self.is_over && self.sender.is_ready()
    }
}

/// The body of an answer. Read to its end, it leaves the connection to the next request.
struct Answer {
    server: Arc<Server>,
    connection: Option<Connection>,
    incoming: Incoming,
}

impl Stream for Answer {
    type Item = Result<Bytes, NodeError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        // A body that is polled asks its connection for more, so that is driven after and not before.
        let mut frame = Pin::new(&mut this.incoming).poll_frame(context);
        loop {
            match frame {
                Poll::Ready(Some(Ok(piece))) => {
                    if let Ok(bytes) = piece.into_data() {
                        return Poll::Ready(Some(Ok(bytes)));
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    this.connection = None;
                    return Poll::Ready(Some(Err(NodeError::Broken(innermost(&error)))));
                }
                Poll::Ready(None) => {
                    if let Some(mut connection) = this.connection.take()
                        && connection.is_ready(context)
                    {
                        this.server.keep(connection);
                    }
                    return Poll::Ready(None);
                }
                Poll::Pending => {}
            }
            if let Some(connection) = &mut this.connection {
                connection.drive(context);
            }
            frame = Poll::Ready(ready!(Pin::new(&mut this.incoming).poll_frame(context)));
        }
    }
}
