//! Asks registries for manifests and blobs.

mod auth;
mod faults;
mod logins;

use std::{collections::HashMap, io, ops::Range, sync::Mutex, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{
        ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LINK, RANGE, RETRY_AFTER, WWW_AUTHENTICATE,
    },
};
use jiff::Timestamp;
use reqwest::{Client, Method, Response, redirect::Policy};
use tokio::time::{Instant, timeout};

pub use logins::Logins;

use super::{locked, meters::Meters, refusal::Refusal};
use crate::{
    domain::{
        digest::Digest,
        http::{Challenge, challenges, content_range, retry_after},
        manifest::{DOCKER_MANIFEST, LONGEST, OCI_MANIFEST},
        pull::Fault,
        upstream::Source,
    },
    ports::Login,
};

const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// A registry that sends nothing for so long is given up; a fetch goes on with another request. Not the client's own
/// limit, which would count the time that the mirror takes for its disk or its bandwidth.
pub const SILENT_AT_MOST: Duration = Duration::from_secs(30);
const MANIFEST_WITHIN: Duration = Duration::from_secs(30);

/// Where a model's bytes come from, and as whom they are asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The registry and the repository.
    pub source: Source,
    /// Who asks.
    pub access: Access,
}

/// As whom a registry is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Access {
    /// As the mirror's own settings say.
    Configured,
    /// With this login.
    Login(Login),
    /// As nobody.
    Anonymous,
    /// With a login that is not known any more.
    Forgotten,
}

impl Origin {
    /// Whether it takes another grant until the registry can be asked again.
    pub fn is_forgotten(&self) -> bool {
        self.access == Access::Forgotten
    }
}

impl std::hash::Hash for Access {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
    }
}

/// A client to every registry.
pub struct Upstream {
    http: Client,
    /// The same, which goes nowhere else than it is sent.
    direct: Client,
    logins: Logins,
    tokens: auth::Tokens,
    /// Until when registries asked to be left alone, by host.
    limited: Mutex<HashMap<String, Instant>>,
    meters: Meters,
}

/// A manifest as a registry has it.
pub struct Fetched {
    /// Its bytes.
    pub bytes: Bytes,
    /// What it says to be, from `Content-Type`.
    pub media_type: String,
}

/// A part of a blob on its way.
pub struct Opened {
    /// Where it begins.
    pub start: u64,
    /// Whether the registry sends all of it though a part was asked for.
    pub ignores_ranges: bool,
    /// The bytes.
    pub body: BoxStream<'static, io::Result<Bytes>>,
}

impl Upstream {
    /// A client that trusts `roots` besides the system's.
    ///
    /// # Errors
    /// When the TLS library can't be set up.
    pub fn new(logins: Logins, roots: Vec<reqwest::Certificate>, meters: Meters) -> Result<Self, reqwest::Error> {
        let builder = || {
            let builder = Client::builder()
                .user_agent(concat!("drover/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(CONNECT_WITHIN)
                // Many downloads over one connection would share its window.
                .http1_only()
                .tcp_nodelay(true);
            match roots.is_empty() {
                true => builder,
                false => builder.tls_certs_merge(roots.clone()),
            }
        };
        let (http, direct) = (builder().build()?, builder().redirect(Policy::none()).build()?);
        Ok(Self { http, direct, logins, tokens: auth::Tokens::default(), limited: Mutex::default(), meters })
    }

    /// The manifest under a tag or digest.
    ///
    /// # Errors
    /// Why it can't be had.
    pub async fn manifest(&self, origin: &Origin, reference: &str) -> Result<Fetched, Refusal> {
        let accept = format!("{DOCKER_MANIFEST}, {OCI_MANIFEST}");
        let headers = [(ACCEPT, accept)];
        let url = origin.source.manifest_url(reference);
        let ask = async {
            let answer = self.send(origin, Method::GET, &url, &headers).await?;
            let media_type = header(answer.headers(), CONTENT_TYPE).unwrap_or_default().to_owned();
            let bytes = self.limited_body(origin, answer).await?;
            Ok(Fetched { bytes, media_type })
        };
        let within = timeout(MANIFEST_WITHIN, ask).await;
        within.unwrap_or_else(|_| Err(self.count(faults::silent(&origin.source, MANIFEST_WITHIN))))
    }

    /// A page of a registry's list, and whether there is another one.
    ///
    /// # Errors
    /// Why it can't be had.
    pub async fn list(&self, origin: &Origin, url: &str) -> Result<(Bytes, bool), Refusal> {
        let answer = self.send(origin, Method::GET, url, &[]).await?;
        let has_more = answer.headers().contains_key(LINK);
        Ok((self.limited_body(origin, answer).await?, has_more))
    }

    async fn limited_body(&self, origin: &Origin, answer: Response) -> Result<Bytes, Refusal> {
        let mut body = answer.bytes_stream();
        let mut bytes = Vec::new();
        while let Some(chunk) = body.next().await {
            bytes.extend_from_slice(&chunk.map_err(|error| self.count(faults::of(&origin.source, &error)))?);
            if bytes.len() > LONGEST {
                let message = format!("the manifest of {} is longer than {LONGEST} bytes", origin.source);
                return Err(self.count(Refusal::new(Fault::Other, message)));
            }
        }
        Ok(bytes.into())
    }

    /// The bytes of a blob from `range` on, at least up to its end.
    ///
    /// # Errors
    /// Why they can't be had; also when the registry's blob has another size than `size`.
    pub async fn blob(
        &self,
        origin: &Origin,
        digest: &Digest,
        size: u64,
        range: Range<u64>,
    ) -> Result<Opened, Refusal> {
        let asked = (range.start > 0 || range.end < size)
            .then(|| (RANGE, format!("bytes={}-{}", range.start, range.end.saturating_sub(1))));
        let url = origin.source.blob_url(digest.as_str());
        let answer = self.send(origin, Method::GET, &url, asked.as_slice()).await?;
        let (start, total) = match (answer.status(), header(answer.headers(), CONTENT_RANGE).and_then(content_range)) {
            (StatusCode::PARTIAL_CONTENT, Some((got, total))) => (got.start, Some(total)),
            (StatusCode::PARTIAL_CONTENT, None) => (range.start, None),
            _ => (0, header(answer.headers(), CONTENT_LENGTH).and_then(|length| length.parse().ok())),
        };
        if total.is_some_and(|total| total != size) || (start != 0 && start != range.start) {
            let registry = &origin.source.host;
            let message = format!(
                "{registry} has {} bytes of blob {digest}, its manifest says {size}: the model is damaged there",
                total.unwrap_or_default()
            );
            return Err(self.count(Refusal::new(Fault::DigestMismatch, message)));
        }
        let ignores_ranges = asked.is_some() && answer.status() != StatusCode::PARTIAL_CONTENT;
        let body = answer.bytes_stream().map_err(io::Error::other).boxed();
        Ok(Opened { start, ignores_ranges, body })
    }

    /// Whether a blob is to be had, as far as the registry says without sending it.
    ///
    /// # Errors
    /// Why it is not.
    pub async fn look(&self, origin: &Origin, digest: &Digest) -> Result<(), Refusal> {
        let url = origin.source.blob_url(digest.as_str());
        match self.send(origin, Method::HEAD, &url, &[]).await {
            // Some registries answer nothing but GET.
            Err(refusal) if refusal.fault == Fault::Other => Ok(()),
            answer => answer.map(drop),
        }
    }

    async fn send(
        &self,
        origin: &Origin,
        method: Method,
        url: &str,
        headers: &[(http::HeaderName, String)],
    ) -> Result<Response, Refusal> {
        self.try_send(origin, method, url, headers).await.map_err(|refusal| self.count(refusal))
    }

    async fn try_send(
        &self,
        origin: &Origin,
        method: Method,
        url: &str,
        headers: &[(http::HeaderName, String)],
    ) -> Result<Response, Refusal> {
        let source = &origin.source;
        if let Some(left) = self.time_left(&source.host) {
            return Err(faults::rate_limited(source, Some(left)));
        }
        let login = match &origin.access {
            Access::Configured => self.logins.of(&source.host),
            Access::Login(login) => Some(login.clone().into()),
            Access::Anonymous => None,
            Access::Forgotten => return Err(faults::forgotten(source)),
        };
        let key = auth::Key { host: source.url.clone(), repository: source.repository.clone(), login };
        let mut authorization = self.tokens.known(&key);
        for attempt in 0..2 {
            // An address to which a registry leads may be good for GET only.
            let http = if method == Method::HEAD { &self.direct } else { &self.http };
            let mut request = http.request(method.clone(), url);
            request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
            if let Some(value) = authorization.take() {
                request = request.header(AUTHORIZATION, value);
            }
            let answer = timeout(SILENT_AT_MOST, request.send()).await;
            let answer = answer.map_err(|_| faults::silent(source, SILENT_AT_MOST))?;
            let answer = answer.map_err(|error| faults::of(source, &error))?;
            if method == Method::HEAD && answer.status().is_redirection() {
                return Ok(answer);
            }
            if answer.status() != StatusCode::UNAUTHORIZED || attempt > 0 {
                return self.accepted(source, answer, key.login.is_some()).await;
            }
            match self.authorize(&key, source, answer.headers()).await? {
                Some(value) => authorization = Some(value),
                None => return self.accepted(source, answer, key.login.is_some()).await,
            }
        }
        Err(faults::unauthorized(source, key.login.is_some()))
    }

    /// What to send after a registry said that it wants a login.
    async fn authorize(
        &self,
        key: &auth::Key,
        source: &Source,
        headers: &HeaderMap,
    ) -> Result<Option<HeaderValue>, Refusal> {
        let texts = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let offered: Vec<Challenge> = texts.flat_map(challenges).collect();
        for challenge in offered {
            match (challenge, &key.login) {
                (Challenge::Bearer { realm, service, scope }, _) => {
                    return self.tokens.ask(&self.http, key, source, &realm, &service, &scope).await.map(Some);
                }
                (Challenge::Basic, Some(login)) => return Ok(self.tokens.basic(key, login)),
                (Challenge::Basic, None) => {}
            }
        }
        Ok(None)
    }

    async fn accepted(&self, source: &Source, answer: Response, with_login: bool) -> Result<Response, Refusal> {
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        if status == StatusCode::TOO_MANY_REQUESTS {
            let wait = header(answer.headers(), RETRY_AFTER).and_then(|wait| retry_after(wait, Timestamp::now()));
            if let Some(wait) = wait {
                locked(&self.limited).insert(source.host.clone(), Instant::now() + wait);
            }
            return Err(faults::rate_limited(source, wait));
        }
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => faults::unauthorized(source, with_login),
            StatusCode::NOT_FOUND => faults::not_found(source),
            _ => faults::status(source, status, faults::words_of_body(answer).await),
        })
    }

    fn time_left(&self, host: &str) -> Option<Duration> {
        let mut limited = locked(&self.limited);
        let now = Instant::now();
        limited.retain(|_, until| *until > now);
        limited.get(host).map(|until| *until - now)
    }

    fn count(&self, refusal: Refusal) -> Refusal {
        self.meters.upstream_error(refusal.fault);
        refusal
    }
}

fn header(headers: &HeaderMap, name: http::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}
