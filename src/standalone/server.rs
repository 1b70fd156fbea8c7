//! The API on a port: TLS with a certificate of its own, one token, and a kubeconfig that has both.

use std::{
    convert::Infallible,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::{Body, HttpBody},
    extract::{
        Request, State,
        connect_info::{ConnectInfo, Connected},
    },
    http::header,
    middleware::{self, Next},
    response::Response,
    serve::{IncomingStream, Listener},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use tower::Service;
use tracing::debug;

use super::{
    Failure,
    patience::{Activity, Patience, Patient},
    watch::Endless,
};

/// The file with the certificate and the token.
pub const IDENTITY_FILE: &str = "identity.json";
/// The file by which clients find the API.
pub const KUBECONFIG_FILE: &str = "kubeconfig";
/// What is offered, the best first: clients in Go hold all their watches on one connection by HTTP/2.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// For everything but watches, as the API server has it.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Where the API listens.
#[derive(Clone, Debug)]
pub struct Server {
    /// The address.
    pub address: SocketAddr,
    /// A kubeconfig with the rights to everything.
    pub kubeconfig: PathBuf,
}

/// What clients know the server by, and it them.
#[derive(Serialize, Deserialize)]
struct Identity {
    host: IpAddr,
    certificate: String,
    key: String,
    token: String,
}

impl Server {
    /// Listens for `api`, an `Api` or what is put around one, and writes the kubeconfig into the folder. The second
    /// value answers the requests, until it is asked to stop: then it accepts no more of them, ends watches and finishes
    /// the others.
    ///
    /// # Errors
    /// When it can't listen, or can't write into the folder: what and why.
    pub async fn bind<S>(
        api: S,
        address: SocketAddr,
        dir: &Path,
        stop: CancellationToken,
    ) -> Result<(Self, impl Future<Output = io::Result<()>> + Send + 'static), String>
    where
        S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        let identity = identity(&dir.join(IDENTITY_FILE), address.ip())?;
        let listener = TcpListener::bind(address).await.map_err(|error| format!("listening on {address}: {error}"))?;
        let address = listener.local_addr().map_err(|error| format!("listening on {address}: {error}"))?;
        let kubeconfig = dir.join(KUBECONFIG_FILE);
        write_private(&kubeconfig, &kubeconfig_for(&identity, address))?;
        let tls = TlsListener { listener, acceptor: acceptor(&identity)?, handshakes: FuturesUnordered::new() };
        let door = Door { token: Sha256::digest(identity.token).into(), stop: stop.clone() };
        let routes = Router::new().fallback_service(api).layer(middleware::from_fn_with_state(door, admit));
        let routes = routes.into_make_service_with_connect_info::<Activity>();
        let service = async move { axum::serve(tls, routes).with_graceful_shutdown(stop.cancelled_owned()).await };
        Ok((Self { address, kubeconfig }, service))
    }
}

/// Lets in whoever has the token.
#[derive(Clone)]
struct Door {
    /// Its digest.
    token: [u8; 32],
    stop: CancellationToken,
}

async fn admit(
    State(door): State<Door>,
    ConnectInfo(activity): ConnectInfo<Activity>,
    request: Request,
    next: Next,
) -> Response {
    if !door.has_token(&request) {
        return Failure::unauthorized().response();
    }
    let active = activity.begin();
    let answer = tokio::time::timeout(ANSWER_WITHIN, next.run(request)).await;
    let response = answer.unwrap_or_else(|_| Failure::timeout().response());
    if response.size_hint().exact().is_some() {
        return response;
    }
    let is_endless = response.extensions().get::<Endless>().is_some();
    response.map(|body| {
        let pieces = body.into_data_stream().inspect(move |_| _ = &active);
        if is_endless {
            Body::from_stream(pieces.take_until(door.stop.cancelled_owned()))
        } else {
            Body::from_stream(pieces)
        }
    })
}

impl Door {
    /// Digests are compared, which takes as long for a nearly right token as for any other.
    fn has_token(&self, request: &Request) -> bool {
        let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.strip_prefix("Bearer "));
        given.is_some_and(|given| <[u8; 32]>::from(Sha256::digest(given)) == self.token)
    }
}

impl Connected<IncomingStream<'_, TlsListener>> for Activity {
    fn connect_info(stream: IncomingStream<'_, TlsListener>) -> Self {
        stream.io().activity()
    }
}

fn identity(file: &Path, host: IpAddr) -> Result<Identity, String> {
    let known = fs::read(file).ok().and_then(|bytes| serde_json::from_slice::<Identity>(&bytes).ok());
    if let Some(identity) = known.filter(|identity| identity.host == host) {
        return Ok(identity);
    }
    let names = vec![host.to_string(), "localhost".into(), "127.0.0.1".into(), "::1".into()];
    let made = rcgen::generate_simple_self_signed(names).map_err(|error| format!("making a certificate: {error}"))?;
    let token: [u8; 32] = rand::random();
    let identity = Identity {
        host,
        certificate: made.cert.pem(),
        key: made.signing_key.serialize_pem(),
        token: token.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    write_private(file, &json!(identity).to_string())?;
    Ok(identity)
}

fn kubeconfig_for(identity: &Identity, address: SocketAddr) -> String {
    let address = reachable(address);
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "drover", "cluster": {
            "server": format!("https://{address}"),
            "certificate-authority-data": BASE64_STANDARD.encode(&identity.certificate),
        }}],
        "users": [{ "name": "drover", "user": { "token": identity.token } }],
        "contexts": [{ "name": "drover", "context": { "cluster": "drover", "user": "drover", "namespace": "default" } }],
        "current-context": "drover",
    });
    // kubectl reads JSON as YAML; people find YAML easier.
    serde_yaml::to_string(&config).unwrap_or_else(|_| config.to_string())
}

/// Where this machine reaches what listens at an address.
pub fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Writes a file that only its owner may read, in one step.
///
/// # Errors
/// The file system's, with the file.
pub fn write_private(file: &Path, text: &str) -> Result<(), String> {
    let say = |error: io::Error| format!("{}: {error}", file.display());
    let new = file.with_extension("new");
    // One that was left over may have other rights.
    let _ = fs::remove_file(&new);
    let mut options = OpenOptions::new();
    let mut written: File = options.write(true).create_new(true).mode(0o600).open(&new).map_err(say)?;
    written.write_all(text.as_bytes()).map_err(say)?;
    fs::rename(&new, file).map_err(say)
}

fn acceptor(identity: &Identity) -> Result<TlsAcceptor, String> {
    let say = |error: &dyn std::fmt::Display| format!("the certificate of the API: {error}");
    let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).map_err(|error| say(&error))?;
    let key = PrivatePkcs8KeyDer::from_pem_slice(identity.key.as_bytes()).map_err(|error| say(&error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| say(&error))?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], PrivateKeyDer::Pkcs8(key))
        .map_err(|error| say(&error))?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
    Ok(TlsAcceptor::from(Arc::new(config)))
}

type Connection = (Patient<TlsStream<TcpStream>>, SocketAddr);

/// Accepts connections; a client that is slow to shake hands holds up nobody.
struct TlsListener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    handshakes: FuturesUnordered<BoxFuture<'static, Option<Connection>>>,
}

impl TlsListener {
    fn shake_hands(&self, stream: TcpStream, address: SocketAddr) {
        let acceptor = self.acceptor.clone();
        let handshake = async move {
            // A watch's events are small and must not wait for more.
            let _ = stream.set_nodelay(true);
            match tokio::time::timeout(HANDSHAKE_WITHIN, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => Some((Patient::new(stream, Patience::default()), address)),
                Ok(Err(error)) => {
                    debug!(%address, %error, "a client did not get through the TLS handshake");
                    None
                }
                Err(_) => None,
            }
        };
        self.handshakes.push(handshake.boxed());
    }
}

impl Listener for TlsListener {
    type Io = Patient<TlsStream<TcpStream>>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, address)) => self.shake_hands(stream, address),
                    // Too many open files, for example: some will be closed.
                    Err(_) => tokio::time::sleep(ACCEPT_AGAIN_AFTER).await,
                },
                Some(ready) = self.handshakes.next() => {
                    if let Some(ready) = ready {
                        return ready;
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}
